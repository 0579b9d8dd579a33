//! The boot script of one machine: what it boots, or why it does not.

use crate::dhcp::SCRIPT_PATH;
use crate::files::{Files, Origin};
use crate::ipxe::{Script, ScriptError, again};
use crate::recipes::Recipe;

/// A script that loads what the recipe says through our cache. `url` makes a URL on our server from a path.
///
/// # Errors
/// When the recipe's command line cannot stand in a script.
pub fn boot(
    recipe: &Recipe,
    files: &Files,
    url: impl Fn(&str) -> String,
) -> Result<String, ScriptError> {
    let here = |origin: &String| {
        url(&format!("/file/{}/{}", files.register(origin), Origin::name(origin)))
    };
    let script = Script {
        kernel: here(&recipe.kernel),
        initrds: recipe.initrds.iter().map(here).collect(),
        cmdline: recipe.cmdline.clone(),
        again: url(SCRIPT_PATH),
    };
    script.render()
}

/// A script that shows a reason on the machine's screen and asks again.
#[must_use]
pub fn wait(reason: &str, script_url: &str) -> String {
    let harmless =
        |c: char| if c.is_ascii_alphanumeric() || " .,:()/_-".contains(c) { c } else { '_' };
    let reason: String = reason.chars().map(harmless).take(300).collect();
    format!("#!ipxe\necho metal-boot: {reason}\n{}", again(script_url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_loads_from_us() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path()).unwrap();
        let recipe = Recipe {
            kernel: "https://origin/a/vmlinuz".into(),
            initrds: vec!["https://origin/b.img?token=x".into()],
            cmdline: "console=ttyS0".into(),
        };
        let text = boot(&recipe, &files, |path| format!("http://10.0.1.1{path}")).unwrap();
        let (kernel, initrd) = (files.register(&recipe.kernel), files.register(&recipe.initrds[0]));
        let want = format!(
            "#!ipxe\nkernel --name kernel http://10.0.1.1/file/{kernel}/vmlinuz || goto again\n\
             initrd --name initrd0 http://10.0.1.1/file/{initrd}/b.img || goto again\n\
             boot kernel initrd=initrd0 console=ttyS0 || goto again\n:again\n\
             echo metal-boot: not all that this machine boots arrived\n\
             imgfree kernel ||\nimgfree initrd0 ||\n{}",
            again("http://10.0.1.1/boot.ipxe")
        );
        assert_eq!(text, want);
    }

    #[test]
    fn a_reason_is_only_text() {
        let text = wait("no \"way\"; ${net0/mac}\nshell || reboot", "http://10.0.1.1/boot.ipxe");
        let want = "#!ipxe\necho metal-boot: no _way__ __net0/mac__shell __ reboot\necho Asking again in 5 s\nsleep 5 ||\ndhcp ||\n\
            chain --autofree --replace http://10.0.1.1/boot.ipxe || reboot\n";
        assert_eq!(text, want);
    }
}
