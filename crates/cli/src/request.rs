//! Requests from what was typed, and things from answers.

use clap::ArgMatches;
use serde_json::{Value, json};

use crate::column;
use crate::contract::Message;
use crate::error::{Error, Result};
use crate::flag;
use crate::output::{Answer, Content};
use crate::session::Session;
use crate::suggest;
use crate::verb::{Group, Verb};

/// The request of a verb: the file's content, then the argument and the flags, then what follows from them.
pub(crate) async fn build(
    session: &Session,
    verb: &Verb,
    matches: &ArgMatches,
    argument: Option<&str>,
    start: Value,
) -> Result<Value> {
    let mut request = start;
    for flag in flag::of_verb(verb) {
        flag.apply(matches, &mut request, session.now())?;
    }
    if let (Some(field), Some(argument)) = (verb.argument, argument) {
        request[field.json] = json!(argument);
    }
    let mut request = complete(session, verb, request).await?;
    for flag in flag::of_verb(verb) {
        names(session, &flag, &mut request).await?;
    }
    let mut places = Vec::new();
    networks(verb, &mut request, &mut places);
    suggest::networks(session, places).await?;
    Ok(request)
}

/// Names of projects become ids, also those that roles are given in.
async fn names(session: &Session, flag: &flag::Flag, request: &mut Value) -> Result<()> {
    let field = flag.field();
    if !matches!(field.name, "project" | "project_roles") {
        return Ok(());
    }
    let pointer: String = flag.path.iter().map(|field| format!("/{}", field.json)).collect();
    match request.pointer_mut(&pointer) {
        Some(Value::String(project)) if !project.is_empty() => {
            *project = session.project_id(project).await?;
        }
        Some(Value::Object(roles)) => {
            for (project, role) in std::mem::take(roles) {
                // All projects is no name of one.
                let project =
                    if project == "*" { project } else { session.project_id(&project).await? };
                roles.insert(project, role);
            }
        }
        _ => {}
    }
    Ok(())
}

/// Where a request names networks.
fn networks<'a>(verb: &Verb, request: &'a mut Value, places: &mut Vec<&'a mut Value>) {
    let argument = match verb.noun.name {
        "network" => verb.argument.map(|field| field.json),
        _ => None,
    };
    let Some(fields) = request.as_object_mut() else { return };
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("network" | "parentNetwork", value) => places.push(value),
            (key, value) if argument == Some(key) => places.push(value),
            ("networks", Value::Array(items)) => {
                places.extend(items.iter_mut().filter_map(|item| item.get_mut("network")));
            }
            ("query", query) if verb.noun.name == "ip" => {
                places.extend(query.get_mut("network"));
            }
            _ => {}
        }
    }
}

/// Adds what a request needs and nobody has to type.
pub(crate) async fn complete(session: &Session, verb: &Verb, mut request: Value) -> Result<Value> {
    let message = verb.method.request();
    if let Some(field) = message.field("project").filter(|field| !field.optional) {
        let given = request.get(field.json).and_then(Value::as_str).map(str::to_owned);
        match given.as_deref().or(session.default_project()) {
            Some(project) => request["project"] = json!(session.project_id(project).await?),
            None if verb.group == Group::Admin
                || verb.noun.name == "network" && verb.only_reads() => {}
            None => {
                return Err(Error::usage(format!("`{}` needs a project", verb.spelled())).hint(
                    "give it with -p, METAL_PROJECT, or for the context with `metalctl context set-project`",
                ));
            }
        }
    }
    if message.field("login").is_some_and(|field| !field.optional) && request.get("login").is_none()
    {
        request["login"] = json!(own_tenant(session, verb).await?);
    }
    if message.field("update_meta").is_some() && request.get("updateMeta").is_none() {
        request["updateMeta"] = json!({ "lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_SERVER" });
    }
    if verb.spelled() == "machine create" {
        allocation(&mut request);
    }
    Ok(request)
}

/// The tenant of whoever calls, where none is named.
async fn own_tenant(session: &Session, verb: &Verb) -> Result<String> {
    let answer = session.call_path("/metalstack.api.v2.UserService/Get", &json!({})).await?;
    let tenant =
        answer.pointer("/user/defaultTenant/login").or(answer.pointer("/user/tenants/0/login"));
    tenant.and_then(Value::as_str).map(str::to_owned).ok_or_else(|| {
        Error::usage(format!("`{}` needs a tenant", verb.spelled()))
            .hint("give it with --login; `metalctl tenant list` shows yours")
    })
}

/// What most allocations have in common.
fn allocation(request: &mut Value) {
    if request.get("allocationType").is_none() {
        request["allocationType"] = json!("MACHINE_ALLOCATION_TYPE_MACHINE");
    }
    if request.get("name").is_none()
        && let Some(hostname) = request.get("hostname").cloned()
    {
        request["name"] = hostname;
    }
    if request.get("sshPublicKeys").is_none() {
        match own_key() {
            Some(key) => request["sshPublicKeys"] = json!([key]),
            None => crate::session::note(
                "note: no SSH key is given and none is found, so nobody can log in; -i @FILE gives one",
            ),
        }
    }
}

/// The public key of whoever calls.
fn own_key() -> Option<String> {
    let folder = std::path::Path::new(&std::env::var_os("HOME")?).join(".ssh");
    ["ed25519", "ecdsa", "rsa"]
        .iter()
        .find_map(|kind| std::fs::read_to_string(folder.join(format!("id_{kind}.pub"))).ok())
        .map(|key| key.trim().to_owned())
}

/// What an answer holds, with the columns that suit it.
pub(crate) fn answer(verb: &Verb, mut value: Value) -> Answer {
    let response = verb.method.response();
    let noun = verb.noun;
    let plain = |content, message: Option<&'static Message>, columns| Answer {
        content,
        message,
        columns,
        id: noun.id,
        noun: noun.name,
    };
    let first = response.fields.first();
    let only = response.fields.len() == 1 || verb.lists() || verb.method.name == "Get";
    match first {
        Some(field) if field.repeated && only => {
            let items = match value.get_mut(field.json).map(Value::take) {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            let message = field.message();
            let (items, columns) = special(verb, items).unwrap_or_else(|items| {
                (items, message.map_or(column::NONE, |m| column::of_message(m.name)))
            });
            plain(Content::Many(items), message, columns)
        }
        Some(field) if only && field.message().is_some() => {
            let message = field.message();
            let item = value.get_mut(field.json).map_or(json!({}), Value::take);
            plain(
                Content::One(item),
                message,
                message.map_or(column::NONE, |m| column::of_message(m.name)),
            )
        }
        _ => plain(Content::One(value), Some(response), column::NONE),
    }
}

/// Answers whose tables have a line for each part of a thing.
fn special(
    verb: &Verb,
    items: Vec<Value>,
) -> std::result::Result<(Vec<Value>, &'static [column::Column]), Vec<Value>> {
    let spread = |items: Vec<Value>, parts: &str, copied: &[(&str, &str)]| -> Vec<Value> {
        items
            .into_iter()
            .flat_map(|mut item| {
                let inner = item.get_mut(parts).map(Value::take);
                let Some(Value::Array(inner)) = inner else { return Vec::new() };
                inner
                    .into_iter()
                    .map(|mut part| {
                        for (from, to) in copied {
                            part[*to] = item[*from].clone();
                        }
                        part
                    })
                    .collect()
            })
            .collect()
    };
    match verb.method.name {
        "Capacity" => Ok((
            spread(items, "machineSizeCapacities", &[("partition", "partition")]),
            column::CAPACITY,
        )),
        "Issues" => Ok((spread(items, "issues", &[("uuid", "machine")]), column::ISSUE)),
        "ConnectedMachines" => {
            Ok((spread(items, "connections", &[("id", "switch")]), column::CONNECTED))
        }
        _ => Err(items),
    }
}
