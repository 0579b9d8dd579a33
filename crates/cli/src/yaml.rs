//! JSON values as YAML that every reader takes for the same values.

use serde_json::{Map, Value};

use crate::contract::Message;

/// One document without a separator, with a line break at the end. Fields stand in the order of the message if
/// it is known.
pub(crate) fn write(value: &Value, message: Option<&'static Message>) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => object(fields, message, 0, &mut text),
        Value::Array(items) if !items.is_empty() => array(items, message, 0, &mut text),
        scalar => {
            text.push_str(&inline(scalar));
            text.push('\n');
        }
    }
    text
}

/// The fields of an object in the order of its message, unknown ones behind, with the messages they hold.
pub(crate) fn ordered<'a>(
    fields: &'a Map<String, Value>,
    message: Option<&'static Message>,
) -> Vec<(&'a str, &'a Value, Option<&'static Message>)> {
    let mut entries: Vec<_> = fields
        .iter()
        .map(|(key, value)| {
            let known = message.and_then(|message| {
                message.fields.iter().position(|field| field.json == key || field.name == key)
            });
            let inner = known.and_then(|at| {
                message?.fields[at].message().filter(|_| !message.is_none_or(|m| m.fields[at].map))
            });
            (known.unwrap_or(usize::MAX), key.as_str(), value, inner)
        })
        .collect();
    entries.sort_by_key(|(at, ..)| *at);
    entries.into_iter().map(|(_, key, value, inner)| (key, value, inner)).collect()
}

fn object(
    fields: &Map<String, Value>,
    message: Option<&'static Message>,
    depth: usize,
    text: &mut String,
) {
    for (i, (key, value, inner)) in ordered(fields, message).into_iter().enumerate() {
        // The first key of a list's entry stands behind its dash.
        if i > 0 || !text.ends_with("- ") {
            text.push_str(&"  ".repeat(depth));
        }
        text.push_str(&quoted(key));
        text.push(':');
        below(value, inner, depth, text);
    }
}

fn array(items: &[Value], message: Option<&'static Message>, depth: usize, text: &mut String) {
    for item in items {
        text.push_str(&"  ".repeat(depth));
        text.push_str("- ");
        match item {
            Value::Object(fields) if !fields.is_empty() => object(fields, message, depth + 1, text),
            scalar => {
                text.push_str(&inline(scalar));
                text.push('\n');
            }
        }
    }
}

fn below(value: &Value, message: Option<&'static Message>, depth: usize, text: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            object(fields, message, depth + 1, text);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            array(items, message, depth, text);
        }
        Value::String(line) if is_block(line) => {
            text.push_str(if line.ends_with('\n') { " |\n" } else { " |-\n" });
            for line in line.lines() {
                if !line.is_empty() {
                    text.push_str(&"  ".repeat(depth + 1));
                    text.push_str(line);
                }
                text.push('\n');
            }
        }
        scalar => {
            text.push(' ');
            text.push_str(&inline(scalar));
            text.push('\n');
        }
    }
}

/// Several lines that a literal block holds unchanged.
fn is_block(text: &str) -> bool {
    text.trim_end_matches('\n').contains('\n')
        && !text.ends_with("\n\n")
        && !text.starts_with([' ', '\n', '\t'])
        && text.chars().all(|letter| letter == '\n' || letter == '\t' || !letter.is_control())
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        // Inside a list or empty: JSON is YAML.
        other => other.to_string(),
    }
}

/// Plain where no reader can take it for something else.
fn quoted(text: &str) -> String {
    const WORDS: [&str; 12] =
        ["true", "false", "yes", "no", "on", "off", "null", "y", "n", "~", ".nan", ".inf"];
    let plain = !text.is_empty()
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_')
        && !text.ends_with([' ', ':'])
        && text.chars().all(|c| c.is_alphanumeric() || " _-./+@=(),;:'".contains(c))
        && !text.contains(": ")
        && !text.contains(" #")
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    // Ids that begin with a digit are plain, numbers, dates and times are not.
    let id = text.len() > 8
        && text.contains('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && text.chars().filter(char::is_ascii_alphabetic).count() > 2;
    if plain || id { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn documents() {
        let value = json!({
            "uuid": "0b2e4a4f-6a9e-4d8b-9f65-3c0f6f1d2c11",
            "name": "no",
            "ip": "1.2.3.4",
            "empty": [],
            "labels": {"a/b": "", "x": "true"},
            "key": "one\ntwo\n",
            "events": [{"n": [1, 2], "time": "2026-01-01T00:00:00Z"}, {"event": "Phoned Home"}],
            "vrf": 4001,
        });
        let text = write(&value, None);
        expect![[r#"
            empty: []
            events:
            - "n":
              - 1
              - 2
              time: "2026-01-01T00:00:00Z"
            - event: Phoned Home
            ip: "1.2.3.4"
            key: |
              one
              two
            labels:
              a/b: ""
              x: "true"
            name: "no"
            uuid: 0b2e4a4f-6a9e-4d8b-9f65-3c0f6f1d2c11
            vrf: 4001
        "#]]
        .assert_eq(&text);
        let read = crate::document::parse(&text).unwrap();
        assert_eq!(read[0].value(), value);
    }

    #[test]
    fn the_order_of_the_contract() {
        let message = Message::find("metalstack.api.v2.IP");
        let value = json!({"ip": "::1", "uuid": "x", "zzz": 1, "meta": {"generation": "1", "createdAt": "t"}});
        expect![[r#"
            uuid: x
            meta:
              createdAt: t
              generation: "1"
            ip: "::1"
            zzz: 1
        "#]]
        .assert_eq(&write(&value, message));
    }

    proptest::proptest! {
        #[test]
        fn every_text_survives(text in "\\PC{0,12}(\n\\PC{0,8}){0,3}") {
            let value = json!({"a": text, "b": [text]});
            let read = crate::document::parse(&write(&value, None)).unwrap();
            proptest::prop_assert_eq!(read[0].value(), value);
        }
    }
}
