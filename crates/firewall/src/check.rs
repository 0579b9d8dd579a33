//! `metal-firewall check`: what the agent needs, looked at one by one.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use daemon::check::{Findings, readable, writable};
use netconf::firewall::rules::{self, Protocol, Rule, Rules};
use netconf::firewall::{Kind, Network};

use crate::config::Config;
use crate::filter::{Filter, forwards};

/// Prints one line per requirement. Ends with 1 when one is not met.
///
/// # Errors
/// When the configuration cannot be used at all.
pub fn run(path: &Path) -> Result<ExitCode> {
    let config = Config::load(path)?;
    let mut findings = Findings::default();
    findings.say("configuration", Ok(format!("firewall {}", config.machine)));
    findings.say("token_file", readable(&config.token_file));
    findings.say("state_dir", writable(&config.state_dir));
    let filter = Filter::new(&config.nft);
    findings.say(
        "nft",
        filter.observe().map(|seen| format!("{} objects in the filter", seen.objects.len())),
    );
    let text = everything(&config).and_then(|text| filter.try_out(&text));
    findings.say("kernel", text.map(|()| "takes every kind of rule".to_owned()));
    findings.say(
        "forwarding",
        forwards()
            .then(|| "both families are forwarded".to_owned())
            .context("nothing is forwarded; the agent switches it on when its filter is in place"),
    );
    Ok(findings.end())
}

/// A table that uses all that any table may use.
fn everything(config: &Config) -> Result<String> {
    let rule = Rule {
        protocol: Protocol::Tcp,
        ports: vec![80, 81, 443],
        from: vec!["198.51.100.0/24".parse()?],
        to: vec!["10.0.0.0/22".parse()?],
        comment: "check".to_owned(),
    };
    let network = |vni, kind, addresses: &[&str], prefix: &str| -> Result<Network> {
        Ok(Network {
            vni,
            kind,
            addresses: addresses.iter().map(|ip| ip.parse()).collect::<Result<_, _>>()?,
            prefixes: vec![prefix.parse()?],
            destinations: Vec::new(),
            masquerade: kind == Kind::External,
        })
    };
    let networks = [
        network(1, Kind::Private, &["10.0.0.1"], "10.0.0.0/22")?,
        network(2, Kind::External, &["203.0.113.1", "203.0.113.2"], "203.0.113.0/24")?,
    ];
    let rules = Rules { egress: vec![], ingress: vec![rule] };
    let management = config.management();
    let wish = rules::Wish {
        generation: 1,
        underlay: &[],
        networks: &networks,
        rules: &rules,
        management: &management,
    };
    rules::nft(&wish).map_err(anyhow::Error::msg)
}
