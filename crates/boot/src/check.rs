//! `metal-boot check`: everything that can be found out before a machine stands there and waits.

use std::path::Path;

use crate::config::Config;
use crate::control::Error;
use crate::loader::LOADERS;
use crate::mac::Mac;
use crate::serve;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub good: bool,
    pub text: String,
}

/// Looks at everything that a configuration names.
pub async fn look(config: &Config) -> Vec<Finding> {
    let mut findings = vec![interface(config), readable("token_file", &config.token_file)];
    findings.extend(LOADERS.map(|name| readable("boot loader", &config.loader_dir.join(name))));
    findings.push(control_plane(config).await);
    findings
}

fn finding(result: Result<String, String>) -> Finding {
    Finding { good: result.is_ok(), text: result.unwrap_or_else(|text| text) }
}

fn interface(config: &Config) -> Finding {
    let (name, own) = (&config.network.interface, config.network.address);
    finding(serve::ready(config).map(|_| format!("interface {name} has the address {own}")))
}

fn readable(what: &str, path: &Path) -> Finding {
    let read = std::fs::read(path);
    let path = path.display();
    finding(match read {
        Ok(content) if content.is_empty() => Err(format!("{what}: {path} is empty")),
        Ok(_) => Ok(format!("{what}: {path}")),
        Err(error) => Err(format!("{what}: {path} cannot be read: {error}")),
    })
}

async fn control_plane(config: &Config) -> Finding {
    let control = match serve::control(config) {
        Ok(control) => control,
        Err(error) => return finding(Err(format!("{error:#}"))),
    };
    finding(match control.recipe(Mac([0; 6])).await {
        Ok(recipe) => Ok(format!(
            "machines of partition {} boot {} with {} and the command line {:?}",
            config.partition,
            recipe.kernel,
            if recipe.initrds.is_empty() {
                "no initrd".to_owned()
            } else {
                recipe.initrds.join(", ")
            },
            recipe.cmdline,
        )),
        Err(error @ Error::Away(_)) => Err(format!("{}: {error}", config.api_url)),
        Err(Error::Refused(why)) => Err(format!("{} refuses: {why}", config.api_url)),
    })
}
