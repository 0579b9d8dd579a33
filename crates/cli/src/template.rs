//! The part of Go's templates that people use to shape output: fields, `range`, `if`, `else`, and a few functions.

use serde_json::Value;

use crate::column;
use crate::error::{Error, Result};
use crate::path;

/// A template that was read.
#[derive(Clone, Debug)]
pub(crate) struct Template(Vec<Node>);

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Show(Pipe),
    If(Pipe, Vec<Self>, Vec<Self>),
    Range(Pipe, Vec<Self>),
}

/// A value and what is done with it.
#[derive(Clone, Debug)]
struct Pipe {
    value: Source,
    functions: Vec<(String, Vec<String>)>,
}

#[derive(Clone, Debug)]
enum Source {
    Path(String),
    Literal(String),
}

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut tokens = tokens(text)?.into_iter().peekable();
        let (nodes, end) = nodes(&mut tokens)?;
        match end {
            None => Ok(Self(nodes)),
            Some(word) => Err(bad(&format!("{{{{ {word} }}}} without a beginning"))),
        }
    }

    /// The text for one thing.
    pub(crate) fn render(&self, item: &Value) -> String {
        let mut text = String::new();
        render(&self.0, item, &mut text);
        text
    }
}

fn bad(why: &str) -> Error {
    Error::usage(format!("the template cannot be read: {why}"))
        .hint("for instance '{{ .id }} {{ range .networks }}{{ .ips | join \" \" }}{{ end }}'")
}

#[derive(Debug)]
enum Token {
    Text(String),
    Action(String),
}

fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        let (before, after) = (&rest[..open], &rest[open + 2..]);
        let close = after.find("}}").ok_or_else(|| bad("a }} is missing"))?;
        let inside = &after[..close];
        let before = if inside.starts_with('-') { before.trim_end() } else { before };
        tokens.push(Token::Text(super::output::unescaped(before)));
        rest = &after[close + 2..];
        if inside.ends_with('-') {
            rest = rest.trim_start();
        }
        tokens.push(Token::Action(inside.trim_matches('-').trim().to_owned()));
    }
    tokens.push(Token::Text(super::output::unescaped(rest)));
    Ok(tokens)
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

/// Nodes up to `else` or `end`, which is returned.
fn nodes(tokens: &mut Tokens) -> Result<(Vec<Node>, Option<String>)> {
    let mut found = Vec::new();
    while let Some(token) = tokens.next() {
        let action = match token {
            Token::Text(text) => {
                if !text.is_empty() {
                    found.push(Node::Text(text));
                }
                continue;
            }
            Token::Action(action) => action,
        };
        match action.split_once(' ').map_or((action.as_str(), ""), |(word, rest)| (word, rest)) {
            ("end" | "else", "") => return Ok((found, Some(action))),
            ("if", rest) => {
                let (then, end) = nodes(tokens)?;
                let otherwise = match end.as_deref() {
                    Some("else") => closed(nodes(tokens)?)?,
                    Some(_) => Vec::new(),
                    None => return Err(bad("{{ end }} is missing")),
                };
                found.push(Node::If(pipe(rest)?, then, otherwise));
            }
            ("range", rest) => found.push(Node::Range(pipe(rest)?, closed(nodes(tokens)?)?)),
            _ => found.push(Node::Show(pipe(&action)?)),
        }
    }
    Ok((found, None))
}

fn closed((nodes, end): (Vec<Node>, Option<String>)) -> Result<Vec<Node>> {
    match end.as_deref() {
        Some("end") => Ok(nodes),
        _ => Err(bad("{{ end }} is missing")),
    }
}

fn pipe(text: &str) -> Result<Pipe> {
    let mut parts = split(text, '|').into_iter();
    let first = parts.next().unwrap_or_default();
    let mut functions = Vec::new();
    let words = split(first.trim(), ' ');
    // `join "," .list` and `.list | join ","` are the same.
    let (value, before) = match words.as_slice() {
        [] => return Err(bad("an empty action")),
        [value] => (value.clone(), None),
        [name, arguments @ .., value] => {
            (value.clone(), Some((name.clone(), arguments.iter().map(|a| literal(a)).collect())))
        }
    };
    functions.extend(before);
    for part in parts {
        let mut words = split(part.trim(), ' ').into_iter();
        let name = words.next().unwrap_or_default();
        functions.push((name, words.map(|word| literal(&word)).collect()));
    }
    for (name, _) in &functions {
        const KNOWN: [&str; 9] =
            ["join", "upper", "lower", "len", "json", "default", "trim", "first", "quote"];
        if !KNOWN.contains(&name.as_str()) {
            return Err(bad(&format!(
                "no function is called '{name}', there are {}",
                KNOWN.join(", ")
            )));
        }
    }
    let value = if value.starts_with('"') {
        Source::Literal(literal(&value))
    } else if let Some(path) = value.strip_prefix('.') {
        path::Path::parse(path)?;
        Source::Path(path.to_owned())
    } else {
        return Err(bad(&format!("'{value}' is neither .field nor \"text\"")));
    };
    Ok(Pipe { value, functions })
}

/// Splits outside of quotes; empty parts vanish.
fn split(text: &str, at: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for letter in text.chars() {
        if letter == '"' {
            quoted = !quoted;
        }
        if letter == at && !quoted {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn literal(text: &str) -> String {
    text.trim_matches('"').to_owned()
}

impl Pipe {
    fn take(&self, item: &Value) -> Value {
        let mut value = match &self.value {
            Source::Literal(text) => Value::from(text.as_str()),
            Source::Path(path) if path.is_empty() => item.clone(),
            Source::Path(path) => match path::get(item, path).as_slice() {
                [] => Value::Null,
                [one] => (*one).clone(),
                several => Value::Array(several.iter().map(|value| (*value).clone()).collect()),
            },
        };
        for (name, arguments) in &self.functions {
            let first = arguments.first().map_or("", String::as_str);
            value = match (name.as_str(), value) {
                ("join", Value::Array(items)) => {
                    items.iter().map(column::plain).collect::<Vec<_>>().join(first).into()
                }
                ("upper", value) => column::plain(&value).to_uppercase().into(),
                ("lower", value) => column::plain(&value).to_lowercase().into(),
                ("trim", value) => column::plain(&value).trim().into(),
                ("quote", value) => Value::from(column::plain(&value)).to_string().into(),
                ("len", Value::Array(items)) => items.len().into(),
                ("len", Value::Object(fields)) => fields.len().into(),
                ("len", value) => column::plain(&value).chars().count().into(),
                ("first", Value::Array(items)) => items.into_iter().next().unwrap_or_default(),
                ("json", value) => value.to_string().into(),
                ("default", value) if !is_true(&value) => first.into(),
                (_, value) => value,
            };
        }
        value
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn render(nodes: &[Node], item: &Value, text: &mut String) {
    for node in nodes {
        match node {
            Node::Text(part) => text.push_str(part),
            Node::Show(pipe) => match pipe.take(item) {
                Value::String(part) => text.push_str(&part),
                value => text.push_str(&column::plain(&value)),
            },
            Node::If(pipe, then, otherwise) => {
                let branch = if is_true(&pipe.take(item)) { then } else { otherwise };
                render(branch, item, text);
            }
            Node::Range(pipe, body) => match pipe.take(item) {
                Value::Array(items) => items.iter().for_each(|item| render(body, item, text)),
                Value::Object(fields) => fields.values().for_each(|item| render(body, item, text)),
                _ => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(template: &str, expected: &str) {
        let item = json!({"id": "a", "networks": [{"ips": ["1", "2"]}, {"ips": []}], "type": "IP_TYPE_STATIC"});
        assert_eq!(Template::parse(template).unwrap().render(&item), expected, "{template}");
    }

    #[test]
    fn templates() {
        check("{{ .id }}-{{.type}}", "a-IP_TYPE_STATIC");
        check("{{ range .networks }}[{{ .ips | join \" \" }}]{{ end }}", "[1 2][]");
        check("{{ if .name }}x{{ else }}none{{ end }}", "none");
        check("{{ .name | default \"?\" | upper }}{{ len .networks }}", "?2");
        check("a {{- .id -}} b", "aab");
        check("{{ join \",\" .networks[0].ips }}", "1,2");
    }

    #[test]
    fn malformed_templates() {
        for template in
            ["{{ .id", "{{ if .id }}", "{{ end }}", "{{ .id | shout }}", "{{ id }}", "{{ }}"]
        {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }
}
