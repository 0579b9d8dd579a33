//! Views that put together what several answers, or parts of one, say.

use clap::{ArgMatches, Command};
use serde_json::{Value, json};

use crate::app::{flag, position, verb};
use crate::column::{self, Column};
use crate::command::generic::{shape, shape_args};
use crate::error::Result;
use crate::output::{Answer, Content, Shape};
use crate::session::{Session, note, out};

fn many(items: Vec<Value>, columns: &'static [Column], id: &'static str) -> Answer {
    Answer { content: Content::Many(items), message: None, columns, id, noun: "" }
}

pub(crate) fn ports_command(_: &str) -> Command {
    verb("ports", "Ports of switches: state, VRF, machine, BGP")
        .visible_alias("detail")
        .arg(position("ID", "Switch; all of them if absent"))
        .arg(flag("partition", "ID", "Only of this partition"))
        .args(shape_args())
        .after_help("Examples:\n  metalctl switch ports leaf01\n  metalctl switch ports --filter actual=down")
}

pub(crate) async fn ports(session: &Session, matches: &ArgMatches) -> Result<()> {
    let mut query = json!({});
    for (flag, field) in [("ID", "id"), ("partition", "partition")] {
        if let Some(text) = matches.get_one::<String>(flag) {
            query[field] = json!(text);
        }
    }
    let answer = session
        .call_path("/metalstack.admin.v2.SwitchService/List", &json!({ "query": query }))
        .await?;
    let switches = answer.get("switches").and_then(Value::as_array).cloned().unwrap_or_default();
    let items = switches.iter().flat_map(ports_of).collect();
    session.show(many(items, column::PORT, "name"), "table", &shape(matches))
}

/// A line for each port, with the machine behind it.
fn ports_of(switch: &Value) -> Vec<Value> {
    let list = |name: &str| switch.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let connections = list("machineConnections");
    list("nics")
        .into_iter()
        .map(|mut nic| {
            let machine = connections
                .iter()
                .find(|connection| connection.pointer("/nic/name") == nic.get("name"))
                .and_then(|connection| connection.get("machineId"));
            nic["machine"] = machine.cloned().unwrap_or_default();
            nic["switch"] = switch["id"].clone();
            nic
        })
        .collect()
}

pub(crate) fn members_command(name: &str) -> Command {
    verb("list", "Who belongs to it")
        .visible_alias("ls")
        .arg(position("ID", "Project or tenant; yours if absent"))
        .arg(flag("project", "PROJECT", "Project, by id or name").short('p').hide(name != "list"))
        .args(shape_args())
        .after_help("Examples:\n  metalctl project member list -p my-project\n  metalctl tenant member list my-tenant")
}

pub(crate) async fn project_members(session: &Session, matches: &ArgMatches) -> Result<()> {
    let given = matches.get_one::<String>("ID").or(matches.get_one::<String>("project"));
    let project = given.map(String::as_str).or(session.default_project()).ok_or_else(|| {
        crate::error::Error::usage("it is not known which project is meant").hint("give it with -p")
    })?;
    let request = json!({ "project": session.project_id(project).await? });
    let answer = session.call_path("/metalstack.api.v2.ProjectService/Get", &request).await?;
    let members =
        answer.get("projectMembers").and_then(Value::as_array).cloned().unwrap_or_default();
    session.show(many(members, column::MEMBER, "id"), "table", &shape(matches))
}

pub(crate) async fn tenant_members(session: &Session, matches: &ArgMatches) -> Result<()> {
    let login = match matches.get_one::<String>("ID") {
        Some(login) => login.clone(),
        None => {
            let user = session.call_path("/metalstack.api.v2.UserService/Get", &json!({})).await?;
            user.pointer("/user/defaultTenant/login")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        }
    };
    let answer = session
        .call_path("/metalstack.api.v2.TenantService/Get", &json!({ "login": login }))
        .await?;
    let members =
        answer.get("tenantMembers").and_then(Value::as_array).cloned().unwrap_or_default();
    session.show(many(members, column::MEMBER, "id"), "table", &shape(matches))
}

pub(crate) fn status_command(_: &str) -> Command {
    verb("status", "Whether the parts of the cloud work").after_help("Examples:\n  metalctl status")
}

pub(crate) async fn status(session: &Session, _: &ArgMatches) -> Result<()> {
    let answer = session.call_path("/metalstack.api.v2.HealthService/Get", &json!({})).await?;
    let services =
        answer.pointer("/health/services").and_then(Value::as_array).cloned().unwrap_or_default();
    let ill =
        services.iter().filter(|service| column::plain(&service["status"]) != "healthy").count();
    let mut rows = Vec::new();
    for service in services {
        let parts =
            service.get("partitions").and_then(Value::as_object).cloned().unwrap_or_default();
        rows.push(service);
        // Partitions stand indented below their service.
        for (name, mut part) in parts {
            part["name"] = json!(format!("  {name}"));
            rows.push(part);
        }
    }
    session.show(many(rows, column::HEALTH, "name"), "table", &Shape::default())?;
    match ill {
        0 => Ok(()),
        ill => Err(crate::error::Error::failed(format!("{ill} parts are not healthy"))),
    }
}

pub(crate) fn version_command(_: &str) -> Command {
    verb("version", "Show the version")
        .arg(crate::app::flag_without_value("server", "Also ask the server"))
        .after_help("Examples:\n  metalctl version --server")
}

pub(crate) async fn version(session: &Session, matches: &ArgMatches) -> Result<()> {
    let ours = env!("CARGO_PKG_VERSION");
    out(&format!("metalctl {ours}\n"))?;
    if matches.get_flag("server") {
        let answer = session.call_path("/metalstack.api.v2.VersionService/Get", &json!({})).await?;
        let text = |name: &str| answer["version"][name].as_str().unwrap_or_default().to_owned();
        let theirs = text("version");
        out(&format!("server {theirs} {}\n", text("gitSha1")).replace(" \n", "\n"))?;
        if let Some(skew) = skew(ours, &theirs) {
            note(&skew);
        }
    }
    Ok(())
}

/// What to say when the two are too far apart to trust each other.
fn skew(ours: &str, theirs: &str) -> Option<String> {
    let minor = |version: &str| -> Option<(u64, u64)> {
        let mut parts = version.trim_start_matches('v').split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let (ours, theirs) = (minor(ours)?, minor(theirs)?);
    (ours != theirs).then(|| {
        let older = if ours < theirs { "this metalctl" } else { "the server" };
        format!("note: {older} is older; what only the newer one knows does not work until both are updated")
    })
}

pub(crate) fn prune_command(_: &str) -> Command {
    verb("prune", "Forget components that have not reported for a long time")
        .arg(
            flag("max-age", "DURATION", "How long ago the last report may be").default_value("12h"),
        )
        .arg(flag("type", "TYPE", "Only of this type"))
        .arg(crate::app::flag_without_value("yes", "Do not ask").short('y'))
        .after_help("Examples:\n  metalctl component prune --max-age 7d --yes")
}

pub(crate) async fn prune(session: &Session, matches: &ArgMatches) -> Result<()> {
    let age = matches.get_one::<String>("max-age").map_or("12h", String::as_str);
    let length = crate::duration::parse(age).ok_or_else(|| {
        crate::error::Error::usage(format!(
            "--max-age: '{age}' is no duration; write it like 12h or 7d"
        ))
    })?;
    let length = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    let path = "/metalstack.admin.v2.ComponentService/List";
    let answer = session.call_path(path, &json!({})).await?;
    let components =
        answer.get("components").and_then(Value::as_array).cloned().unwrap_or_default();
    let kind = matches.get_one::<String>("type").map(String::as_str);
    let now = session.now().as_second();
    let old: Vec<&Value> =
        components.iter().filter(|component| outlived(component, kind, now, length)).collect();
    if old.is_empty() {
        note("all of them have reported since");
        return Ok(());
    }
    let name = |component: &Value| {
        format!("{} {}", column::plain(&component["type"]), column::plain(&component["identifier"]))
    };
    let names: Vec<String> = old.iter().map(|component| name(component)).collect();
    crate::session::confirm(&format!("forget {}?", names.join(", ")), matches.get_flag("yes"))?;
    for (component, name) in old.iter().zip(&names) {
        let request = json!({ "uuid": component["uuid"] });
        session.call_path("/metalstack.admin.v2.ComponentService/Delete", &request).await?;
        note(&format!("{name} is forgotten"));
    }
    Ok(())
}

/// Whether the last report of a component of this type is older than so many seconds.
fn outlived(component: &Value, kind: Option<&str>, now: i64, seconds: i64) -> bool {
    let reported = component.get("reportedAt").and_then(Value::as_str);
    let reported = reported.and_then(|time| time.parse::<jiff::Timestamp>().ok());
    let of_kind =
        kind.is_none_or(|kind| column::plain(&component["type"]).eq_ignore_ascii_case(kind));
    of_kind && reported.is_none_or(|reported| now.saturating_sub(reported.as_second()) > seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_know_their_machines() {
        let switch = json!({
            "id": "leaf01",
            "nics": [{"name": "swp1"}, {"name": "swp2"}],
            "machineConnections": [{"machineId": "m", "nic": {"name": "swp2"}}],
        });
        let ports = ports_of(&switch);
        assert_eq!(ports[0]["machine"], Value::Null);
        assert_eq!((&ports[1]["machine"], &ports[1]["switch"]), (&json!("m"), &json!("leaf01")));
    }

    #[test]
    fn components_that_are_gone() {
        let component =
            json!({"type": "COMPONENT_TYPE_PIXIECORE", "reportedAt": "2026-01-01T00:00:00Z"});
        let now = "2026-01-01T12:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second();
        assert!(outlived(&component, None, now, 3_600));
        assert!(!outlived(&component, None, now, 86_400));
        assert!(!outlived(&component, Some("metal-core"), now, 3_600));
    }

    #[test]
    fn version_skew() {
        assert_eq!(skew("0.1.0", "v0.1.7"), None);
        assert!(skew("0.1.0", "0.2.0").unwrap().contains("this metalctl is older"));
        assert!(skew("1.0.0", "0.2.0").unwrap().contains("the server is older"));
        assert_eq!(skew("0.1.0", "devel"), None);
    }
}
