//! `metalctl context`: which APIs there are and which one is meant.

use clap::{Arg, ArgMatches, Command};
use serde_json::json;

use crate::app::{flag, flag_without_value, position, verb};
use crate::column::{Column, Form};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Answer, Content, Shape};
use crate::session::{Session, note, out};

const COLUMNS: &[Column] = &[
    Column { title: "", wide: false, path: "marker", form: Form::Plain },
    Column { title: "NAME", wide: false, path: "name", form: Form::Plain },
    Column { title: "PROVIDER", wide: false, path: "provider", form: Form::Plain },
    Column { title: "DEFAULT PROJECT", wide: false, path: "project", form: Form::Plain },
    Column { title: "API URL", wide: false, path: "url", form: Form::Plain },
];

pub(crate) fn command(_: &str) -> Command {
    let content = || {
        [
            flag("api-url", "URL", "Where the API is").global(false),
            flag("api-token", "TOKEN", "Token that identifies you; `login` fetches one")
                .global(false),
            flag("default-project", "PROJECT", "Project that applies when a command names none"),
            flag("timeout", "DURATION", "How long a call may take").global(false),
            flag("provider", "NAME", "Login provider"),
            flag_without_value("activate", "Make it the current context"),
        ]
    };
    Command::new("context")
        .visible_alias("ctx")
        .about("Which API is meant")
        .long_about(
            "A context is a named API with a token and a default project. They stand in the file of the official \
             command line, ~/.metal-stack/config.yaml.\n\nWithout a verb: lists them; with a name: switches to it; \
             with -: switches back.",
        )
        .arg(Arg::new("switch").value_name("NAME").help("Context to switch to, - for the previous one"))
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true)
        .subcommand(shown_as("list", "list", "Show all contexts").visible_alias("ls"))
        .subcommand(shown_as("show", "show -o jsonpath={.url}", "Show the current context").alias("show-current"))
        .subcommand(
            shown_as("switch", "switch lab", "Make a context the current one")
                .visible_aliases(["set", "sw"])
                .arg(position("NAME", "Context").required(true)),
        )
        .subcommand(
            shown_as("add", "add lab --api-url http://10.255.0.1:8080 --activate", "Add a context")
                .visible_alias("create")
                .arg(position("NAME", "Name of the new context").required(true))
                .args(content()),
        )
        .subcommand(
            shown_as("update", "update lab --timeout 90s", "Change a context")
                .arg(position("NAME", "Context; the current one if absent"))
                .args(content()),
        )
        .subcommand(
            shown_as("remove", "remove lab", "Remove a context with its token")
                .visible_aliases(["rm", "delete"])
                .arg(position("NAME", "Context").required(true)),
        )
        .subcommand(
            shown_as("set-project", "set-project web", "Set the default project of the current context")
                .arg(position("PROJECT", "Id or name").required(true)),
        )
        .after_help("Examples:\n  metalctl context\n  metalctl context lab\n  metalctl context -")
}

fn shown_as(name: &'static str, example: &str, about: &'static str) -> Command {
    verb(name, about).after_help(format!("Examples:\n  metalctl context {example}"))
}

pub(crate) async fn run(session: &Session, matches: &ArgMatches) -> Result<()> {
    let name = |matches: &ArgMatches| {
        matches
            .get_one::<String>("NAME")
            .cloned()
            .or_else(|| session.context.as_ref().map(|c| c.name.clone()))
    };
    let mut config = session.config.clone();
    match matches.subcommand() {
        None => match matches.get_one::<String>("switch") {
            None => return list(session),
            Some(name) => switch(session, name)?,
        },
        Some(("list", _)) => return list(session),
        Some(("show", _)) => {
            let context = session.context.as_ref().ok_or_else(none)?;
            return session.show(
                Answer {
                    content: Content::One(shown(context, true)),
                    message: None,
                    columns: COLUMNS,
                    id: "name",
                    noun: "context",
                },
                "yaml",
                &Shape::default(),
            );
        }
        Some(("switch", matches)) => switch(session, &name(matches).unwrap_or_default())?,
        Some((verb @ ("add" | "update"), matches)) => {
            let name = name(matches).ok_or_else(none)?;
            let known = config.contexts().into_iter().find(|context| context.name == name);
            let mut context = match (verb, known) {
                ("add", Some(_)) => {
                    return Err(Error::usage(format!("there is a context '{name}' already"))
                        .hint("`metalctl context update` changes it"));
                }
                ("add", None) => Context { name: name.clone(), ..Context::default() },
                (_, Some(known)) => known,
                (_, None) => config.context(&name)?,
            };
            fill(&mut context, matches)?;
            config.put(&context);
            if matches.get_flag("activate") {
                config.switch(&name)?;
            }
            config.save(&session.config_path)?;
            note(&format!("context '{name}' is saved"));
        }
        Some(("remove", matches)) => {
            let name = name(matches).unwrap_or_default();
            config.remove(&name)?;
            config.save(&session.config_path)?;
            note(&format!(
                "context '{name}' is removed; its token stays valid until it expires or is revoked"
            ));
        }
        Some(("set-project", matches)) => {
            let mut context = session.context.clone().ok_or_else(none)?;
            let project = matches.get_one::<String>("PROJECT").cloned().unwrap_or_default();
            let id = session.project_id(&project).await?;
            context.project = Some(id.clone());
            config.put(&context);
            config.save(&session.config_path)?;
            note(&format!("commands of context '{}' are now about project {id}", context.name));
        }
        Some((other, _)) => return Err(Error::usage(format!("context knows no '{other}'"))),
    }
    Ok(())
}

fn none() -> Error {
    Error::usage("there is no current context")
        .hint("make one with `metalctl context add NAME --api-url URL --api-token TOKEN`")
}

fn switch(session: &Session, name: &str) -> Result<()> {
    let mut config = session.config.clone();
    let name = match name {
        "-" => config
            .previous()
            .map(str::to_owned)
            .ok_or_else(|| Error::usage("there is no previous context"))?,
        name => name.to_owned(),
    };
    config.switch(&name)?;
    config.save(&session.config_path)?;
    note(&format!("switched to context '{name}'"));
    Ok(())
}

fn fill(context: &mut Context, matches: &ArgMatches) -> Result<()> {
    // Only what was typed: the environment belongs to this call, not to the context.
    let typed = |name: &str| {
        let typed = matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine);
        matches.try_get_one::<String>(name).ok().flatten().filter(|_| typed).cloned()
    };
    context.url = typed("api-url").or(context.url.take());
    context.token = typed("api-token").or(context.token.take());
    context.project = typed("default-project").or(context.project.take());
    context.provider = typed("provider").or(context.provider.take());
    if let Some(text) = typed("timeout") {
        context.timeout = Some(crate::duration::parse(&text).ok_or_else(|| {
            Error::usage(format!("--timeout: '{text}' is no duration; write it like 90s"))
        })?);
    }
    Ok(())
}

fn shown(context: &Context, current: bool) -> serde_json::Value {
    json!({
        "marker": if current { "*" } else { "" },
        "name": context.name,
        "url": context.url,
        "project": context.project,
        "provider": context.provider,
        "hasToken": context.token.is_some(),
    })
}

fn list(session: &Session) -> Result<()> {
    let contexts = session.config.contexts();
    if contexts.is_empty() {
        note(
            "there are no contexts; make one with `metalctl context add NAME --api-url URL --api-token TOKEN`",
        );
        return out("");
    }
    let items = contexts
        .iter()
        .map(|context| shown(context, Some(context.name.as_str()) == session.config.current()))
        .collect();
    let answer = Answer {
        content: Content::Many(items),
        message: None,
        columns: COLUMNS,
        id: "name",
        noun: "context",
    };
    session.show(answer, "table", &Shape::default())
}
