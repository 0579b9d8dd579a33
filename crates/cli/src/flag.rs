//! The fields of a request as flags.

use std::collections::BTreeSet;

use base64::Engine as _;
use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, ArgMatches};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::contract::{Field, Kind, Message};
use crate::error::{Error, Result};
use crate::verb::Verb;

/// A flag that fills a part of the request.
#[derive(Clone, Debug)]
pub(crate) struct Flag {
    /// Without dashes.
    pub(crate) name: &'static str,
    /// The fields that lead to the value.
    pub(crate) path: Vec<&'static Field>,
    pub(crate) fill: Fill,
    /// Other names: the singular, and what is said without `allocation-` in front.
    aliases: Vec<&'static str>,
}

/// How text becomes the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// One value.
    One,
    /// Several values.
    Many,
    /// Several messages, each `FIELD=VALUE,…` or JSON.
    Messages,
    /// `KEY=VALUE` pairs.
    Map,
    /// `KEY=VALUE` pairs in a message `Labels`.
    Labels,
    /// The whole set of labels in an update.
    ReplaceLabels,
    /// Labels to set in an update.
    AddLabels,
    /// Keys to remove in an update.
    RemoveLabels,
}

/// The parser keeps names for as long as the process lives, which is one command.
pub(crate) fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// How deep messages are spread over flags; what lies deeper comes from a file.
const DEPTH: usize = 4;

/// The flags of a verb.
pub(crate) fn of_verb(verb: &Verb) -> Vec<Flag> {
    let mut walk = Walk { flags: Vec::new(), names: BTreeSet::new(), verb };
    walk.message(verb.method.request(), &[], "");
    walk.aliases();
    walk.flags
}

struct Walk<'a> {
    flags: Vec<Flag>,
    names: BTreeSet<String>,
    verb: &'a Verb,
}

impl Walk<'_> {
    fn message(&mut self, message: &'static Message, path: &[&'static Field], prefix: &str) {
        for field in message.fields {
            let top = path.is_empty();
            let given_else = top && (self.verb.argument.is_some_and(|a| a.name == field.name))
                || field.name == "update_meta"
                || (field.name == "updated_at" && message.field("update_meta").is_some());
            if given_else || path.len() > DEPTH {
                continue;
            }
            let mut path = path.to_vec();
            path.push(field);
            let name = format!("{prefix}{}", field.name.replace('_', "-"));
            let Some(inner) = field.message() else {
                self.add(
                    name,
                    path,
                    if field.map {
                        Fill::Map
                    } else if field.repeated {
                        Fill::Many
                    } else {
                        Fill::One
                    },
                );
                continue;
            };
            match inner.short() {
                _ if field.map => self.add(name, path, Fill::Map),
                _ if field.repeated => self.add(name, path, Fill::Messages),
                "Labels" => self.add(name, path, Fill::Labels),
                "UpdateLabels" => {
                    self.add(name.clone(), path.clone(), Fill::ReplaceLabels);
                    self.add(format!("add-{name}"), path.clone(), Fill::AddLabels);
                    self.add(format!("remove-{name}"), path, Fill::RemoveLabels);
                }
                "Meta" => {
                    let Some(labels) = inner.field("labels") else { continue };
                    path.push(labels);
                    self.add(format!("{prefix}labels"), path, Fill::Labels);
                }
                "Paging" => self.message(inner, &path, prefix),
                // What a create wraps and what a query asks for need no prefix.
                "MachineQuery" => self.message(inner, &path, ""),
                _ if top => self.message(inner, &path, ""),
                _ => self.message(inner, &path, &format!("{name}-")),
            }
        }
    }

    fn add(&mut self, name: String, path: Vec<&'static Field>, fill: Fill) {
        const TAKEN: [&str; 4] = ["file", "output", "columns", "filter"];
        let name = if TAKEN.contains(&name.as_str()) { format!("with-{name}") } else { name };
        let name = if self.names.contains(&name) {
            let parent = path.len().checked_sub(2).map_or("other", |at| path[at].name);
            format!("{}-{name}", parent.replace('_', "-"))
        } else {
            name
        };
        if self.names.insert(name.clone()) {
            self.flags.push(Flag { name: leaked(name), path, fill, aliases: Vec::new() });
        }
    }
}

impl Walk<'_> {
    /// Short names that mean nothing else here.
    fn aliases(&mut self) {
        for at in 0..self.flags.len() {
            let flag = &self.flags[at];
            let mut names: Vec<String> = Vec::new();
            let short = flag.name.strip_prefix("allocation-").or(match flag.name {
                "nic-name" => Some("port"),
                _ => None,
            });
            names.extend(short.map(str::to_owned));
            if flag.fill != Fill::One {
                names.extend(flag.name.strip_suffix('s').map(str::to_owned));
            }
            for name in names {
                // Words that every command has mean that.
                let taken = crate::app::is_global(&name) || !self.names.insert(name.clone());
                if !taken {
                    self.flags[at].aliases.push(leaked(name));
                }
            }
        }
    }
}

impl Flag {
    /// The field at the end of the path.
    pub(crate) fn field(&self) -> &'static Field {
        self.path.last().expect("a flag has a path")
    }

    /// Whether it is the project that the request is about.
    pub(crate) fn is_project(&self) -> bool {
        let place: Vec<&str> = self.path[..self.path.len() - 1].iter().map(|f| f.name).collect();
        self.field().name == "project"
            && !self.field().repeated
            && matches!(place[..], [] | ["size_reservation"])
    }

    /// The flag for the parser and the help.
    pub(crate) fn arg(&self, verb: &Verb) -> Arg {
        let field = self.field();
        let mut arg = Arg::new(self.name).long(self.name);
        if !field.doc.is_empty() {
            arg = arg.help(sentence(field.doc)).long_help(field.doc);
        }
        arg = match self.fill {
            Fill::Labels => arg.help(match verb.only_reads() {
                true => "Only with all of these labels",
                false => "Labels",
            }),
            Fill::ReplaceLabels => arg.help("These labels and no others"),
            Fill::AddLabels => arg.help("Labels to set; others stay"),
            Fill::RemoveLabels => arg.help("Keys of labels to remove"),
            _ => arg,
        };
        arg = match self.fill {
            Fill::One if field.kind == Kind::Bool => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_parser(["true", "false"])
                .value_name("BOOL"),
            Fill::One => arg.value_name(value_name(field)),
            Fill::Messages => {
                arg.action(ArgAction::Append).value_name(leaked(message_syntax(field)))
            }
            Fill::Many => arg.action(ArgAction::Append).value_name(value_name(field)),
            Fill::RemoveLabels => arg.action(ArgAction::Append).value_name("KEY"),
            _ => arg.action(ArgAction::Append).value_name("KEY=VALUE"),
        };
        // Values hold commas only where a list of options is one value.
        let splits = match self.fill {
            Fill::One | Fill::Messages => false,
            Fill::Many => {
                !matches!(field.name, "ssh_public_keys" | "mount_options" | "create_options")
            }
            _ => true,
        };
        if splits {
            arg = arg.value_delimiter(',');
        }
        if let (Some(choice), false) = (field.choice(), field.map) {
            let values = choice
                .values
                .iter()
                .filter(|value| value.number != 0)
                .map(|value| PossibleValue::new(value.short).alias(value.name).help(value.doc));
            arg = arg.value_parser(values.collect::<Vec<_>>()).ignore_case(true);
        }
        arg = arg.aliases(self.aliases.iter().copied());
        if self.path.len() > 1 && self.path[0].name == "query" {
            arg = arg.help_heading("Filters");
        }
        arg
    }

    /// Puts what was typed into the request.
    pub(crate) fn apply(
        &self,
        matches: &ArgMatches,
        request: &mut Value,
        now: Timestamp,
    ) -> Result<()> {
        let Ok(Some(typed)) = matches.try_get_many::<String>(self.name) else { return Ok(()) };
        let typed: Vec<&str> = typed.map(String::as_str).collect();
        let wrong = |why: String| {
            Error::usage(format!("--{}: {why}", self.name)).hint(format!(
                "`metalctl {} --help` shows what each flag takes",
                verb_words(matches)
            ))
        };
        let field = self.field();
        let value = match self.fill {
            Fill::One => one(field, typed[0], now).map_err(wrong)?,
            Fill::Many => {
                let values: std::result::Result<Vec<_>, _> =
                    typed.iter().map(|text| one(field, text, now)).collect();
                Value::Array(values.map_err(wrong)?)
            }
            Fill::Messages => {
                let values: std::result::Result<Vec<_>, _> = typed
                    .iter()
                    .flat_map(|text| several(text))
                    .map(|text| message(field, text, now))
                    .collect();
                Value::Array(values.map_err(wrong)?)
            }
            Fill::Map => Value::Object(pairs(&typed, |text| one(field, text, now)).map_err(wrong)?),
            Fill::Labels => {
                json!({ "labels": pairs(&typed, |text| Ok(json!(text))).map_err(wrong)? })
            }
            Fill::ReplaceLabels => {
                json!({ "replace": { "labels": pairs(&typed, |text| Ok(json!(text))).map_err(wrong)? } })
            }
            Fill::AddLabels => {
                let labels = pairs(&typed, |text| Ok(json!(text))).map_err(wrong)?;
                merge(
                    at(request, &self.path),
                    json!({ "patch": { "update": { "labels": labels } } }),
                );
                return Ok(());
            }
            Fill::RemoveLabels => {
                merge(at(request, &self.path), json!({ "patch": { "remove": typed } }));
                return Ok(());
            }
        };
        *at(request, &self.path) = value;
        Ok(())
    }
}

fn verb_words(matches: &ArgMatches) -> String {
    matches.subcommand_name().unwrap_or("COMMAND").to_owned()
}

/// The place in the request, made when it is missing.
pub(crate) fn at<'a>(request: &'a mut Value, path: &[&'static Field]) -> &'a mut Value {
    path.iter().fold(request, |value, field| {
        if !value.is_object() {
            *value = json!({});
        }
        &mut value[field.json]
    })
}

/// Puts the fields of `from` into `into`, message by message.
pub(crate) fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

type Parsed = std::result::Result<Value, String>;

/// One value of a field.
pub(crate) fn one(field: &'static Field, text: &str, now: Timestamp) -> Parsed {
    match field.kind {
        Kind::Text if field.name == "userdata" => {
            Ok(json!(base64::engine::general_purpose::STANDARD.encode(content(text)?)))
        }
        Kind::Text => Ok(json!(content(text)?.trim_end_matches('\n'))),
        Kind::Bytes => Ok(json!(base64::engine::general_purpose::STANDARD.encode(content(text)?))),
        Kind::Bool => text
            .parse::<bool>()
            .map(Value::from)
            .map_err(|_| format!("'{text}' is neither true nor false")),
        Kind::Int => {
            text.parse::<i64>().map(Value::from).map_err(|_| format!("'{text}' is no whole number"))
        }
        Kind::Long => {
            long(text).ok_or_else(|| format!("'{text}' is no whole number; 16GiB works too"))
        }
        Kind::Float => {
            text.parse::<f64>().map(Value::from).map_err(|_| format!("'{text}' is no number"))
        }
        Kind::Timestamp => timestamp(field, text, now),
        Kind::Duration => match crate::duration::parse(text) {
            Some(length) => Ok(json!(format!("{}s", length.as_secs_f64()))),
            None => Err(format!("'{text}' is no duration; write it like 90s, 8h or 7d")),
        },
        Kind::Enum(_) => {
            let choice = field.choice().expect("an enum");
            choice.value(text).map(|value| json!(value.name)).ok_or_else(|| {
                let known = choice.values.iter().filter(|value| value.number != 0);
                let known = known.map(|value| value.short).collect::<Vec<_>>().join(", ");
                format!("'{text}' is none of {known}")
            })
        }
        Kind::Message(_) => message(field, text, now),
    }
}

/// A number that may be followed by a unit of bytes.
fn long(text: &str) -> Option<Value> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor: u64 = match &text[digits.len()..] {
        "" => 1,
        "KiB" | "Ki" | "k" => 1 << 10,
        "MiB" | "Mi" | "M" => 1 << 20,
        "GiB" | "Gi" | "G" => 1 << 30,
        "TiB" | "Ti" | "T" => 1 << 40,
        _ => return None,
    };
    let number: i128 = digits.trim().parse().ok()?;
    number.checked_mul(i128::from(factor)).map(|number| json!(number.to_string()))
}

/// A moment, or a duration from now: back, or ahead for what expires.
fn timestamp(field: &Field, text: &str, now: Timestamp) -> Parsed {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(json!(moment.to_string()));
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>() {
        let moment = date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|e| e.to_string())?;
        return Ok(json!(moment.timestamp().to_string()));
    }
    let hint =
        || format!("'{text}' is no time; write it like 2026-01-31, 2026-01-31T12:00:00Z or 8h");
    let length = crate::duration::parse(text).ok_or_else(hint)?;
    let span = jiff::SignedDuration::try_from(length).map_err(|_| hint())?;
    let moment = if field.name.starts_with("expire") {
        now.checked_add(span)
    } else {
        now.checked_sub(span)
    };
    moment.map(|moment| json!(moment.to_string())).map_err(|_| hint())
}

/// The text itself, or that of the file that `@` names; `-` is what is piped in.
fn content(text: &str) -> std::result::Result<String, String> {
    match text.strip_prefix('@') {
        None => Ok(text.to_owned()),
        Some(literal) if literal.starts_with('@') => Ok(literal.to_owned()),
        Some("-") => {
            std::io::read_to_string(std::io::stdin()).map_err(|e| format!("standard input: {e}"))
        }
        Some(file) => std::fs::read_to_string(file)
            .map_err(|e| format!("the file {file} cannot be read: {e}")),
    }
}

/// `KEY=VALUE` pairs.
fn pairs(
    typed: &[&str],
    value: impl Fn(&str) -> Parsed,
) -> std::result::Result<Map<String, Value>, String> {
    typed
        .iter()
        .filter(|text| !text.is_empty())
        .map(|text| {
            let (key, text) =
                text.split_once('=').ok_or_else(|| format!("'{text}' is not KEY=VALUE"))?;
            Ok((key.to_owned(), value(text)?))
        })
        .collect()
}

/// Messages of which only the first field is given may stand in one list: `my-net,internet`.
fn several(text: &str) -> Vec<&str> {
    if text.starts_with('{') || text.contains('=') {
        return vec![text];
    }
    text.split(',').filter(|part| !part.is_empty()).collect()
}

/// A message as JSON, as `FIELD=VALUE,…` with `;` between several values of a field, or as the value of its
/// first field, which a colon separates from the second one.
fn message(field: &'static Field, text: &str, now: Timestamp) -> Parsed {
    let inner = field.message().ok_or("it takes no message")?;
    if text.starts_with('{') {
        return serde_json::from_str(text).map_err(|e| format!("'{text}' is no JSON: {e}"));
    }
    let mut value = json!({});
    let mut fill = |field: &'static Field, text: &str| -> std::result::Result<(), String> {
        value[field.json] = if field.repeated {
            let values: std::result::Result<Vec<_>, _> =
                text.split(';').map(|text| one(field, text, now)).collect();
            Value::Array(values?)
        } else {
            one(field, text, now)?
        };
        Ok(())
    };
    let named = text.split(',').all(|part| {
        part.split_once('=').is_some_and(|(name, _)| inner.field(&name.replace('-', "_")).is_some())
    });
    if named {
        for part in text.split(',') {
            let (name, text) = part.split_once('=').ok_or("a = is missing")?;
            fill(inner.field(&name.replace('-', "_")).ok_or("no such field")?, text)?;
        }
        return Ok(value);
    }
    let mut fields = inner.fields.iter();
    let first = fields.next().ok_or("it has no fields")?;
    match (text.split_once(':'), fields.next()) {
        (Some((one, two)), Some(second)) if second.repeated && second.kind == Kind::Text => {
            fill(first, one)?;
            fill(second, two)?;
        }
        _ => fill(first, text)?,
    }
    Ok(value)
}

fn value_name(field: &Field) -> &'static str {
    match field.kind {
        Kind::Text => "TEXT",
        Kind::Bool => "BOOL",
        Kind::Int | Kind::Float => "NUMBER",
        Kind::Long => "NUMBER",
        Kind::Bytes => "@FILE",
        Kind::Timestamp => "TIME",
        Kind::Duration => "DURATION",
        Kind::Enum(_) => "CHOICE",
        Kind::Message(_) => "FIELD=VALUE",
    }
}

fn message_syntax(field: &Field) -> String {
    let Some(message) = field.message() else { return "JSON".to_owned() };
    let fields: Vec<_> =
        message.fields.iter().take(4).map(|field| format!("{}=…", field.json)).collect();
    fields.join(",")
}

/// The first sentence of a comment, for one line of help.
pub(crate) fn sentence(text: &str) -> String {
    let end = text
        .match_indices(". ")
        .map(|(at, _)| at)
        .find(|at| !text[..*at].ends_with("e.g") && !text[..*at].ends_with("i.e"));
    text[..end.unwrap_or(text.len())].trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verb::VERBS;

    fn flags(words: &str) -> Vec<Flag> {
        let verb = VERBS.iter().find(|verb| verb.spelled() == words).expect(words);
        of_verb(verb)
    }

    fn names(words: &str) -> Vec<&'static str> {
        flags(words).into_iter().map(|flag| flag.name).collect()
    }

    #[test]
    fn entities_and_queries_need_no_prefix() {
        let names_of = names("admin partition create");
        for name in ["id", "description", "labels", "boot-configuration-kernel-url", "dns-servers"]
        {
            assert!(names_of.contains(&name), "{name}: {names_of:?}");
        }
        assert!(!names_of.iter().any(|name| name.contains("meta")));
        assert!(names("machine list").contains(&"allocation-hostname"));
        assert_eq!(
            names("ip update"),
            ["project", "name", "description", "type", "labels", "add-labels", "remove-labels"]
        );
    }

    #[test]
    fn values() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let check = |words: &str, name: &str, text: &str| {
            let flags = flags(words);
            let flag = flags.iter().find(|flag| flag.name == name).expect(name);
            match flag.fill {
                Fill::Messages => message(flag.field(), text, now),
                _ => one(flag.field(), text, now),
            }
        };
        assert_eq!(
            check("machine create", "networks", "internet"),
            Ok(json!({"network": "internet"}))
        );
        assert_eq!(
            check("machine create", "networks", "internet:1.2.3.4;::1"),
            Ok(json!({"network": "internet", "ips": ["1.2.3.4", "::1"]}))
        );
        assert_eq!(
            check("admin size create", "constraints", "type=memory,min=1GiB,max=64GiB"),
            Ok(
                json!({"type": "SIZE_CONSTRAINT_TYPE_MEMORY", "min": "1073741824", "max": "68719476736"})
            )
        );
        assert_eq!(check("ip create", "type", "Static"), Ok(json!("IP_TYPE_STATIC")));
        assert!(check("ip create", "type", "fixed").unwrap_err().contains("ephemeral, static"));
        assert_eq!(check("token create", "expires", "8h"), Ok(json!("28800s")));
        assert_eq!(
            check("admin image create", "expires-at", "1d"),
            Ok(json!("2026-01-02T00:00:00Z"))
        );
        assert_eq!(check("audit list", "from", "1d"), Ok(json!("2025-12-31T00:00:00Z")));
        assert_eq!(
            check("machine create", "userdata", "#cloud-config"),
            Ok(json!("I2Nsb3VkLWNvbmZpZw=="))
        );
        assert!(
            check("machine create", "userdata", "@/does/not/exist")
                .unwrap_err()
                .contains("cannot be read")
        );
    }

    #[test]
    fn sentences() {
        assert_eq!(sentence("Where. Required unless `uuid` is given."), "Where");
        assert_eq!(sentence("One."), "One");
    }
}
