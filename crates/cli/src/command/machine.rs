//! Verbs of machines that are more, or have shorter words, than a method.

use clap::{ArgMatches, Command};
use serde_json::{Value, json};

use crate::app::{flag, flag_without_value, position, verb};
use crate::column;
use crate::contract;
use crate::error::{Error, Kind, Result};
use crate::output::{Answer, Content, Shape};
use crate::session::{Session, note};

/// What `machine power` and `machine identify` take, and the BMC command.
const POWER: [(&str, &str); 7] = [
    ("on", "MACHINE_BMC_COMMAND_ON"),
    ("off", "MACHINE_BMC_COMMAND_OFF"),
    ("reset", "MACHINE_BMC_COMMAND_RESET"),
    ("cycle", "MACHINE_BMC_COMMAND_CYCLE"),
    ("bios", "MACHINE_BMC_COMMAND_BOOT_TO_BIOS"),
    ("disk", "MACHINE_BMC_COMMAND_BOOT_FROM_DISK"),
    ("pxe", "MACHINE_BMC_COMMAND_BOOT_FROM_PXE"),
];

pub(crate) fn target(command: Command) -> Command {
    command
        .arg(position("UUID", "Machine").required(true))
        .arg(flag("project", "PROJECT", "Project, by id or name; operators need none").short('p'))
}

pub(crate) fn power_command(_: &str) -> Command {
    target(
        verb("power", "Switch a machine on or off, or choose what it boots next")
            .arg(position("WHAT", "What to do").required(true).value_parser(POWER.map(|(word, _)| word))),
    )
    .after_help("Examples:\n  metalctl machine power on UUID\n  metalctl machine power pxe UUID && metalctl machine power reset UUID")
}

pub(crate) async fn power(session: &Session, matches: &ArgMatches) -> Result<()> {
    let word = matches.get_one::<String>("WHAT").cloned().unwrap_or_default();
    let command = POWER.iter().find(|(known, _)| *known == word).map_or("", |(_, command)| command);
    bmc(session, matches, command).await
}

pub(crate) fn identify_command(_: &str) -> Command {
    target(
        verb("identify", "Light the LED by which a machine is found in the rack, or turn it off")
            .arg(position("WHAT", "on or off").required(true).value_parser(["on", "off"])),
    )
    .after_help("Examples:\n  metalctl machine identify on UUID")
}

pub(crate) async fn identify(session: &Session, matches: &ArgMatches) -> Result<()> {
    let on = matches.get_one::<String>("WHAT").is_some_and(|word| word == "on");
    let command = if on {
        "MACHINE_BMC_COMMAND_IDENTIFY_LED_ON"
    } else {
        "MACHINE_BMC_COMMAND_IDENTIFY_LED_OFF"
    };
    bmc(session, matches, command).await
}

async fn bmc(session: &Session, matches: &ArgMatches, command: &str) -> Result<()> {
    let (uuid, project) = machine_of(session, matches).await?;
    let answer =
        either(session, "BMCCommand", &uuid, project.as_deref(), json!({ "command": command }))
            .await?;
    note(&format!(
        "queued as task {}",
        answer.get("taskId").and_then(Value::as_str).unwrap_or("?")
    ));
    Ok(())
}

/// The machine that was typed, with the project if one is known.
pub(crate) async fn machine_of(
    session: &Session,
    matches: &ArgMatches,
) -> Result<(String, Option<String>)> {
    let uuid = matches.get_one::<String>("UUID").cloned().unwrap_or_default();
    let project = matches.get_one::<String>("project").map(String::as_str);
    let project = match project.or(session.default_project()) {
        Some(project) => Some(session.project_id(project).await?),
        None => None,
    };
    Ok((uuid, project))
}

/// Calls a method of machines as a user where the machine is of the project, else as an operator.
pub(crate) async fn either(
    session: &Session,
    method: &str,
    uuid: &str,
    project: Option<&str>,
    content: Value,
) -> Result<Value> {
    let mut request = content;
    request["uuid"] = json!(uuid);
    let mut refused = None;
    if let Some(project) = project {
        let mut request = request.clone();
        request["project"] = json!(project);
        match session
            .call_path(&format!("/metalstack.api.v2.MachineService/{method}"), &request)
            .await
        {
            Err(error) if error.kind == Kind::NotFound => refused = Some(error),
            answer => return answer,
        }
    }
    let answer =
        session.call_path(&format!("/metalstack.admin.v2.MachineService/{method}"), &request).await;
    answer.map_err(|error| match (refused, error.kind) {
        // What the user was told as a user says more than that he is no operator.
        (Some(refused), Kind::Denied) => refused,
        (_, Kind::Denied) if project.is_none() => {
            error.hint("with -p or METAL_PROJECT it is your project's machine")
        }
        (_, _) => error,
    })
}

pub(crate) fn lock_command(name: &str) -> Command {
    let (name, about) = match name {
        "lock" => ("lock", "Keep a machine from being allocated and released"),
        _ => ("taint", "Keep a machine from being chosen by itself; operators can still name it"),
    };
    verb(name, about)
        .arg(position("UUID", "Machine").required(true).num_args(1..))
        .arg(flag("description", "TEXT", "Why"))
        .arg(flag_without_value("remove", "Make it available again"))
        .after_help(format!("Examples:\n  metalctl machine {name} UUID --description \"fan is broken\"\n  metalctl machine {name} UUID --remove"))
}

pub(crate) async fn lock(session: &Session, matches: &ArgMatches) -> Result<()> {
    state(session, matches, "MACHINE_STATE_LOCKED").await
}

pub(crate) async fn taint(session: &Session, matches: &ArgMatches) -> Result<()> {
    state(session, matches, "MACHINE_STATE_TAINTED").await
}

async fn state(session: &Session, matches: &ArgMatches, state: &str) -> Result<()> {
    let remove = matches.get_flag("remove");
    let state = if remove { "MACHINE_STATE_AVAILABLE" } else { state };
    let description = matches.get_one::<String>("description").cloned().unwrap_or_default();
    for uuid in matches.get_many::<String>("UUID").into_iter().flatten() {
        let request = json!({ "uuid": uuid, "state": state, "description": description });
        session.call_path("/metalstack.admin.v2.MachineService/SetState", &request).await?;
        note(&format!("machine {uuid} is {}", contract::short(state)));
    }
    Ok(())
}

pub(crate) fn events_command(_: &str) -> Command {
    target(
        verb("events", "What happened to a machine, with the time between events")
            .visible_alias("logs"),
    )
    .after_help("Examples:\n  metalctl machine events UUID")
}

pub(crate) async fn events(session: &Session, matches: &ArgMatches) -> Result<()> {
    let (uuid, project) = machine_of(session, matches).await?;
    let found = either(session, "Get", &uuid, project.as_deref(), json!({})).await?;
    let events = super::wait::events(&found["machine"]);
    let mut before = None;
    let rows = events
        .iter()
        .map(|(time, event, message)| {
            let after = before.replace(*time).map_or(String::new(), |earlier: jiff::Timestamp| {
                column::span(time.as_second() - earlier.as_second())
            });
            json!({ "time": time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), "after": after, "event": event, "message": message })
        })
        .collect();
    let answer = Answer {
        content: Content::Many(rows),
        message: None,
        columns: column::EVENT,
        id: "event",
        noun: "",
    };
    session.show(answer, "table", &Shape::default())?;
    super::wait::outlook(session, &found["machine"]).await;
    Ok(())
}

pub(crate) fn missing_command(name: &str) -> Command {
    let (name, about) = match name {
        "firmware" => ("firmware", "Firmware of BIOS and BMC (this server has none yet)"),
        "console" => ("console", "Serial console (this server has none yet)"),
        "reinstall" => ("reinstall", "Install an allocated machine again (this server cannot yet)"),
        _ => ("update-firmware", "Update BIOS or BMC (this server cannot yet)"),
    };
    let example = if name == "firmware" {
        "metalctl firmware list".to_owned()
    } else {
        format!("metalctl machine {name} UUID")
    };
    let argument = if name == "firmware" { "VERB" } else { "UUID" };
    verb(name, about)
        .arg(
            position(
                argument,
                if name == "firmware" { "list, upload or delete" } else { "Machine" },
            )
            .num_args(0..),
        )
        .after_help(format!("Examples:\n  {example}"))
}

pub(crate) async fn console(_: &Session, _: &ArgMatches) -> Result<()> {
    Err(Error::failed("this server offers no serial console yet")
        .hint("`metalctl machine events` shows how far it came; `metalctl admin machine console-password` logs in at a screen"))
}

pub(crate) async fn reinstall(_: &Session, _: &ArgMatches) -> Result<()> {
    Err(Error::failed("the API has no method to install an allocated machine again")
        .hint("`metalctl machine delete` and `create` do it, with another machine perhaps"))
}

pub(crate) async fn firmware(_: &Session, _: &ArgMatches) -> Result<()> {
    Err(Error::failed("the API has no method for firmware yet")
        .hint("use the vendor's tool; `metalctl machine bmc describe` shows the BMC's address"))
}

pub(crate) fn suggest_command(_: &str) -> Command {
    verb("suggest", "Propose a size that fits a machine's hardware")
        .arg(position("UUID", "Machine").required(true))
        .arg(flag("id", "ID", "Id of the new size").default_value("new-size"))
        .after_help("Examples:\n  metalctl size suggest UUID --id n1-medium -o manifest | metalctl apply -f -")
}

pub(crate) async fn suggest(session: &Session, matches: &ArgMatches) -> Result<()> {
    let (uuid, project) =
        (matches.get_one::<String>("UUID").cloned().unwrap_or_default(), session.default_project());
    let project = match project {
        Some(project) => Some(session.project_id(project).await?),
        None => None,
    };
    let answer = either(session, "Get", &uuid, project.as_deref(), json!({})).await?;
    let id = matches.get_one::<String>("id").cloned().unwrap_or_default();
    let answer = Answer {
        content: Content::One(size(&id, &answer["machine"]["hardware"])),
        message: contract::Message::find("metalstack.api.v2.Size"),
        columns: column::SIZE,
        id: "id",
        noun: "size",
    };
    session.show(answer, "manifest", &Shape::default())
}

/// A size that this hardware fits exactly, with some room for what the firmware keeps of memory and disks.
fn size(id: &str, hardware: &Value) -> Value {
    let sum = |list: &str, field: &str| -> u64 {
        let items = hardware.get(list).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(|item| column::number(item.get(field)?)).sum()
    };
    let memory = hardware.get("memory").and_then(column::number).unwrap_or_default();
    let range = |kind: &str, value: u64, room: u64| {
        json!({
            "type": format!("SIZE_CONSTRAINT_TYPE_{kind}"),
            "min": (value - value / 100 * room).to_string(),
            "max": (value + value / 100 * room).to_string(),
        })
    };
    let mut constraints = vec![
        range("CORES", sum("cpus", "cores"), 0),
        range("MEMORY", memory, 5),
        range("STORAGE", sum("disks", "size"), 5),
    ];
    let gpus = hardware.get("gpus").and_then(Value::as_array).map_or(0, Vec::len) as u64;
    if gpus > 0 {
        constraints.push(range("GPU", gpus, 0));
    }
    json!({ "id": id, "constraints": constraints })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_from_hardware() {
        let hardware = json!({"memory": "1000", "cpus": [{"cores": 4}, {"cores": 4}], "disks": [{"size": "2000"}]});
        let size = size("a", &hardware);
        assert_eq!(
            size["constraints"][0],
            json!({"type": "SIZE_CONSTRAINT_TYPE_CORES", "min": "8", "max": "8"})
        );
        assert_eq!(
            size["constraints"][1],
            json!({"type": "SIZE_CONSTRAINT_TYPE_MEMORY", "min": "950", "max": "1050"})
        );
    }
}
