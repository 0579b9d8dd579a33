//! `explain`: what a thing is made of; `call`: any method by its path.

use clap::{ArgMatches, Command};
use serde_json::{Value, json};

use crate::app::{flag, position, verb};
use crate::contract::{Field, Kind, METHODS, Message, Method};
use crate::document;
use crate::error::{Error, Result, nearest};
use crate::noun::{NOUNS, Noun};
use crate::output::json_text;
use crate::session::{Session, out};

pub(crate) fn command(_: &str) -> Command {
    verb("explain", "Show the fields of a thing and what they mean")
        .arg(
            position("NOUN[.FIELD…]", "For instance image, or machine.allocation")
                .id("path")
                .required(true),
        )
        .after_help(
            "Examples:\n  metalctl explain image\n  metalctl explain machine.allocation.networks",
        )
}

pub(crate) async fn run(_: &Session, matches: &ArgMatches) -> Result<()> {
    let path = matches.get_one::<String>("path").cloned().unwrap_or_default();
    let mut steps = path.split('.');
    let word = steps.next().unwrap_or_default();
    let noun = Noun::find(word).filter(|noun| !noun.message.is_empty());
    let mut message = noun.and_then(|noun| Message::find(noun.message)).ok_or_else(|| {
        let known = NOUNS.iter().filter(|noun| !noun.message.is_empty()).map(|noun| noun.name);
        let error = Error::usage(format!("there is nothing to explain about '{word}'"));
        match nearest(word, known) {
            Some(near) => error.hint(format!("did you mean '{near}'?")),
            None => error.hint("`metalctl --help` shows the nouns"),
        }
    })?;
    let mut last: Option<&'static Field> = None;
    for step in steps {
        let field = message.field(step).ok_or_else(|| {
            let known: Vec<_> = message.fields.iter().map(|field| field.json).collect();
            Error::usage(format!("{} has no field {step}", message.short()))
                .hint(format!("there are {}", known.join(", ")))
        })?;
        last = Some(field);
        if let Some(inner) = field.message() {
            message = inner;
        }
    }
    out(&text(message, last))
}

fn text(message: &'static Message, field: Option<&'static Field>) -> String {
    let mut text = String::new();
    if let Some(field) = field {
        text.push_str(&format!("{}: {}\n", field.json, kind(field)));
        text.push_str(&wrapped(field.doc, "  "));
        if let Some(choice) = field.choice() {
            for value in choice.values.iter().filter(|value| value.number != 0) {
                text.push_str(&format!("\n  {}\n{}", value.short, wrapped(value.doc, "    ")));
            }
        }
        if field.message().is_none() {
            return text;
        }
        text.push('\n');
    }
    text.push_str(&format!("{}\n{}", message.short(), wrapped(message.doc, "  ")));
    for field in message.fields {
        text.push_str(&format!(
            "\n  {}: {}\n{}",
            field.json,
            kind(field),
            wrapped(field.doc, "    ")
        ));
    }
    text
}

/// What a field holds, in words.
fn kind(field: &'static Field) -> String {
    let one = match field.kind {
        Kind::Text => "text".to_owned(),
        Kind::Bool => "true or false".to_owned(),
        Kind::Int | Kind::Long => "whole number".to_owned(),
        Kind::Float => "number".to_owned(),
        Kind::Bytes => "base64".to_owned(),
        Kind::Timestamp => "time".to_owned(),
        Kind::Duration => "duration".to_owned(),
        Kind::Enum(_) => {
            let values = field.choice().into_iter().flat_map(|choice| choice.values);
            values
                .filter(|value| value.number != 0)
                .map(|value| value.short)
                .collect::<Vec<_>>()
                .join(" | ")
        }
        Kind::Message(_) => {
            field.message().map_or(String::new(), |message| message.short().to_owned())
        }
    };
    if field.map {
        format!("map from text to {one}")
    } else if field.repeated {
        format!("list of {one}")
    } else {
        one
    }
}

/// Lines of at most 100 letters.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent.len() + line.len() + word.len() >= 100 {
            lines.push_str(&format!("{indent}{line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        lines.push_str(&format!("{indent}{line}\n"));
    }
    lines
}

pub(crate) fn call_command(_: &str) -> Command {
    verb("call", "Call any method of the API with JSON")
        .arg(position("METHOD", "For instance metalstack.api.v2.IPService/List").required(true))
        .arg(flag("data", "JSON|@FILE", "The request; YAML works, too").short('d').default_value("{}"))
        .after_help("Examples:\n  metalctl call metalstack.api.v2.VersionService/Get\n  metalctl call metalstack.api.v2.ImageService/Latest -d '{\"os\": \"debian\"}'")
}

pub(crate) async fn call(session: &Session, matches: &ArgMatches) -> Result<()> {
    let typed = matches.get_one::<String>("METHOD").cloned().unwrap_or_default();
    let path = format!("/{}", typed.trim_start_matches('/'));
    let method = Method::find(&path).filter(|method| !method.streaming).ok_or_else(|| {
        let known = METHODS.iter().map(|method| method.path.trim_start_matches('/'));
        let error = Error::usage(format!("there is no method '{typed}' that answers once"));
        match nearest(typed.trim_start_matches('/'), known) {
            Some(near) => error.hint(format!("did you mean {near}?")),
            None => error.hint("`metalctl method list` shows all of them"),
        }
    })?;
    let data = matches.get_one::<String>("data").map_or("{}", String::as_str);
    let text = match data.strip_prefix('@') {
        Some("-") => std::io::read_to_string(std::io::stdin())?,
        Some(file) => std::fs::read_to_string(file)
            .map_err(|e| Error::usage(format!("{file} cannot be read: {e}")))?,
        None => data.to_owned(),
    };
    let request = document::parse(&text).map_err(|e| Error::usage(format!("--data: {e}")))?;
    let request = request.first().map_or(json!({}), document::Node::value);
    let answer: Value = session.call(method, &request).await?;
    out(&format!("{}\n", json_text(&answer, Some(method.response()))))
}
