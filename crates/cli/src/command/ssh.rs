//! Shells on machines, firewalls and switches, by the system's `ssh`.

use std::os::unix::process::CommandExt as _;
use std::process::Command as Process;

use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use super::machine::{either, machine_of, target};
use crate::app::{flag, position, verb};
use crate::contract;
use crate::error::{Error, Kind, Result};
use crate::session::{Session, note};

/// Ways to a machine, the first that it has is taken.
const WAYS: [&str; 3] = ["external", "vpn", "private"];

fn remote_command() -> Arg {
    position("COMMAND", "Command to run instead of a shell").num_args(0..).last(true)
}

pub(crate) fn command(_: &str) -> Command {
    target(verb("ssh", "Open a shell on a machine or firewall"))
        .long_about(
            "Open a shell on a machine or firewall, with the system's ssh. The address is one of an external network; \
             without one that of the VPN, if the machine is connected there; else that of a private network. Addresses \
             of the VPN are reached by whoever has joined it (`metalctl vpn auth-key`), private ones from inside the \
             network or through --jump.",
        )
        .arg(flag("user", "NAME", "Login").default_value("metal"))
        .arg(flag("identity", "FILE", "Private key").short('i'))
        .arg(flag("via", "WAY", "Take an address of this kind only").value_parser(WAYS))
        .arg(flag("jump", "HOST", "Go through this host, as ssh -J does").short('J'))
        .arg(remote_command())
        .after_help(
            "Examples:\n  metalctl machine ssh UUID\n  metalctl machine ssh UUID -- uptime\n  \
             metalctl firewall ssh UUID --via vpn\n  metalctl machine ssh UUID --via private --jump metal@FIREWALL",
        )
}

pub(crate) async fn run(session: &Session, matches: &ArgMatches) -> Result<()> {
    let (uuid, project) = machine_of(session, matches).await?;
    let answer = either(session, "Get", &uuid, project.as_deref(), json!({})).await?;
    let wanted = matches.get_one::<String>("via").map(String::as_str);
    let machine = &answer["machine"];
    let Some((way, address)) = address(machine, wanted) else {
        return Err(missing(&uuid, machine, wanted));
    };
    note(&format!("{uuid} is reached at {address} ({way})"));
    let mut process = Process::new("ssh");
    for (name, option) in [("identity", "-i"), ("jump", "-J")] {
        if let Some(value) = matches.get_one::<String>(name) {
            process.arg(option).arg(value);
        }
    }
    let user = matches.get_one::<String>("user").map_or("metal", String::as_str);
    process.arg("-l").arg(user);
    start(process, &address, matches)
}

/// Only comes back when ssh could not be started.
fn start(mut process: Process, address: &str, matches: &ArgMatches) -> Result<()> {
    process.arg("--").arg(address);
    process.args(matches.get_many::<String>("COMMAND").into_iter().flatten());
    Err(Error::failed(format!("ssh cannot be started: {}", process.exec()))
        .hint("install the OpenSSH client"))
}

fn missing(uuid: &str, machine: &Value, wanted: Option<&str>) -> Error {
    if machine.get("allocation").is_none() {
        return Error::new(
            Kind::Conflict,
            format!("machine {uuid} is not allocated, nothing runs on it"),
        )
        .hint(format!("`metalctl machine events {uuid}` shows where it is in its life"));
    }
    let there: Vec<&str> =
        WAYS.into_iter().filter(|way| address(machine, Some(way)).is_some()).collect();
    match wanted {
        Some(way) => {
            Error::new(Kind::Conflict, format!("machine {uuid} has no address of kind {way}")).hint(
                match there.is_empty() {
                    true => "`metalctl machine describe` shows its networks".to_owned(),
                    false => format!("it has {}", there.join(", ")),
                },
            )
        }
        None => Error::new(Kind::Conflict, format!("machine {uuid} has no address"))
            .hint("it has no network; `metalctl machine describe` shows it"),
    }
}

/// Where a machine is reached, and how.
fn address(machine: &Value, wanted: Option<&str>) -> Option<(&'static str, String)> {
    let allocation = machine.get("allocation")?;
    let first = |ips: &Value| ips.as_array()?.first()?.as_str().map(str::to_owned);
    let of_network = |external: bool| {
        let networks = allocation.get("networks").and_then(Value::as_array);
        networks
            .into_iter()
            .flatten()
            .filter(|network| {
                let kind = network.get("networkType").and_then(Value::as_str).unwrap_or_default();
                let kind = contract::short(kind);
                kind != "underlay" && (kind == "external") == external
            })
            .find_map(|network| first(network.get("ips")?))
    };
    WAYS.into_iter().filter(|way| wanted.is_none_or(|wanted| wanted == *way)).find_map(|way| {
        let address = match way {
            "external" => of_network(true),
            "private" => of_network(false),
            // Asked for, it may be tried before the control plane noticed that it is there.
            _ if wanted.is_some() || allocation.pointer("/vpn/connected") == Some(&json!(true)) => {
                allocation.pointer("/vpn/ips").and_then(first)
            }
            _ => None,
        };
        Some((way, address?))
    })
}

pub(crate) fn switch_command(name: &str) -> Command {
    let (name, about) = match name {
        "console" => {
            ("console", "Run the command that its description names for its serial console")
        }
        _ => ("ssh", "Open a shell on a switch, at its management address"),
    };
    let command = verb(name, about).arg(position("ID", "Switch").required(true));
    let command = match name {
        "ssh" => {
            command.arg(flag("user", "NAME", "Login").default_value("admin")).arg(remote_command())
        }
        _ => command,
    };
    command.after_help(format!("Examples:\n  metalctl switch {name} leaf01"))
}

async fn switch(session: &Session, matches: &ArgMatches) -> Result<(String, Value)> {
    let id = matches.get_one::<String>("ID").cloned().unwrap_or_default();
    let path = "/metalstack.admin.v2.SwitchService/Get";
    let answer = session.call_path(path, &json!({ "id": id })).await?;
    Ok((id, answer["switch"].clone()))
}

pub(crate) async fn switch_ssh(session: &Session, matches: &ArgMatches) -> Result<()> {
    let (id, switch) = switch(session, matches).await?;
    let address = switch.get("managementIp").and_then(Value::as_str).ok_or_else(|| {
        Error::new(Kind::Conflict, format!("switch {id} has no management address"))
            .hint("its agent reports it; `metalctl switch list` shows when it was seen last")
    })?;
    let mut process = Process::new("ssh");
    process.arg("-l").arg(matches.get_one::<String>("user").map_or("admin", String::as_str));
    start(process, address, matches)
}

pub(crate) async fn switch_console(session: &Session, matches: &ArgMatches) -> Result<()> {
    let (id, switch) = switch(session, matches).await?;
    let command = switch.get("consoleCommand").and_then(Value::as_str).unwrap_or_default();
    let mut words = command.split_whitespace();
    let Some(program) = words.next() else {
        return Err(Error::new(
            Kind::Conflict,
            format!("it is not known how the console of switch {id} is reached"),
        )
        .hint(format!(
            "tell it: metalctl switch update {id} --console-command 'ssh ADMIN@CONSOLE-SERVER'"
        )));
    };
    note(command);
    let error = Process::new(program).args(words).exec();
    Err(Error::failed(format!("{program} cannot be started: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_external_address_comes_first() {
        let mut machine = json!({"allocation": {
            "networks": [
                {"networkType": "NETWORK_TYPE_UNDERLAY", "ips": ["10.1.0.1"]},
                {"networkType": "NETWORK_TYPE_CHILD", "ips": ["10.0.0.1"]},
                {"networkType": "NETWORK_TYPE_EXTERNAL", "ips": ["1.2.3.4"]},
            ],
            "vpn": {"ips": ["100.64.0.1"], "connected": true},
        }});
        let at = |machine: &Value, way: Option<&str>| {
            address(machine, way).map(|(way, address)| format!("{way} {address}"))
        };
        assert_eq!(at(&machine, None).as_deref(), Some("external 1.2.3.4"));
        assert_eq!(at(&machine, Some("vpn")).as_deref(), Some("vpn 100.64.0.1"));
        assert_eq!(at(&machine, Some("private")).as_deref(), Some("private 10.0.0.1"));
        machine["allocation"]["networks"][2]["ips"] = json!([]);
        assert_eq!(at(&machine, None).as_deref(), Some("vpn 100.64.0.1"));
        machine["allocation"]["vpn"]["connected"] = json!(false);
        assert_eq!(at(&machine, None).as_deref(), Some("private 10.0.0.1"));
        assert_eq!(at(&json!({"allocation": {"networks": []}}), None), None);
    }

    #[test]
    fn what_is_missing_is_said() {
        let free = missing("m", &json!({}), None);
        assert!(free.sentence.contains("not allocated"), "{free}");
        let machine = json!({"allocation": {"networks": [{"networkType": "NETWORK_TYPE_CHILD", "ips": ["10.0.0.1"]}]}});
        let wanted = missing("m", &machine, Some("external"));
        assert_eq!(wanted.hints, ["it has private"]);
    }
}
