//! YAML and JSON files as trees that know where each value stands.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Number, Value};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) content: Content,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Scalar(Value),
    List(Vec<Node>),
    /// Keys with their lines, in the order of the file.
    Map(Vec<(String, usize, Node)>),
}

/// Reads all documents of a file; empty ones are left out. The error says where.
pub(crate) fn parse(text: &str) -> Result<Vec<Node>, String> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new() };
    let mut documents = Vec::new();
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(documents),
            Event::DocumentStart(_) => {
                let (event, span) = reader.next()?;
                if matches!(event, Event::DocumentEnd) {
                    continue;
                }
                let node = reader.node(event, span)?;
                if node.content != Content::Scalar(Value::Null) {
                    documents.push(node);
                }
            }
            Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
            _ => return Err(format!("line {}: unexpected content", span.start.line())),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), String> {
        match self.parser.next() {
            Some(Ok(next)) => Ok(next),
            Some(Err(e)) => Err(format!("line {}: {}", e.marker().line(), e.info())),
            None => Ok((Event::StreamEnd, Span::empty(saphyr_parser::Marker::new(0, 1, 0)))),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Node, String> {
        let line = span.start.line();
        let (anchor, content) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text =
                    style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.suffix == "str");
                let value = if is_text { Value::from(text.as_ref()) } else { plain(&text) };
                (anchor, Content::Scalar(value))
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    items.push(self.node(event, span)?);
                }
                (anchor, Content::List(items))
            }
            Event::MappingStart(anchor, _) => (anchor, Content::Map(self.entries()?)),
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                return known.ok_or_else(|| format!("line {line}: an alias of nothing"));
            }
            _ => return Err(format!("line {line}: the document ends too early")),
        };
        let node = Node { line, content };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn entries(&mut self) -> Result<Vec<(String, usize, Node)>, String> {
        let mut entries: Vec<(String, usize, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let line = span.start.line();
            let key = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(format!("line {line}: a key must be text")),
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span)?;
            if key == "<<" {
                if let Content::Map(merged) = value.content {
                    entries.extend(merged);
                }
                continue;
            }
            if let Some((_, before, _)) = entries.iter().find(|(known, ..)| *known == key) {
                return Err(format!("line {line}: {key} stands already on line {before}"));
            }
            entries.push((key, line, value));
        }
    }
}

impl Node {
    /// The value without lines.
    pub(crate) fn value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => Value::Array(items.iter().map(Self::value).collect()),
            Content::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(key, _, node)| (key.clone(), node.value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }
}

/// What an unquoted scalar means, as YAML 1.2 has it.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let hexadecimal =
        text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    if let Some(number) = hexadecimal {
        return number.into();
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        if let Ok(number) = text.parse::<i64>() {
            return number.into();
        }
        if let Ok(number) = text.parse::<u64>() {
            return number.into();
        }
    }
    let decimal = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    text.parse()
        .ok()
        .filter(|_| decimal)
        .and_then(Number::from_f64)
        .map_or_else(|| text.into(), Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_with_lines() {
        let text = "---\n# first\nid: a\nlist:\n- 1\n- \"1\"\n---\n---\n{\"id\": \"b\", \"n\": 1.5, \"t\": null}\n";
        let documents = parse(text).unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0].value(), json!({"id": "a", "list": [1, "1"]}));
        assert_eq!(documents[1].value(), json!({"id": "b", "n": 1.5, "t": null}));
        let Content::Map(entries) = &documents[0].content else { panic!("a map") };
        assert_eq!((entries[1].1, entries[1].2.line), (4, 5));
        assert_eq!(documents[1].line, 9);
    }

    #[test]
    fn scalars() {
        let value = parse("[1.2.3.4, 0x10, -1, 10.0.0.0/8, no, ~, 1e3, ::1, +5, 2026-01-01]")
            .unwrap()[0]
            .value();
        assert_eq!(
            value,
            json!(["1.2.3.4", 16, -1, "10.0.0.0/8", "no", null, 1000.0, "::1", 5, "2026-01-01"])
        );
        let anchored = "a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n";
        assert_eq!(
            parse(anchored).unwrap()[0].value(),
            json!({"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1}})
        );
    }

    #[test]
    fn errors_say_where() {
        assert!(parse("a: 1\nb: [\n").unwrap_err().starts_with("line"));
        assert_eq!(parse("a: 1\na: 2\n").unwrap_err(), "line 2: a stands already on line 1");
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_it(text in "[-a:\\[\\]{}&*\"'|>#%!, \n]{0,40}") {
            drop(parse(&text));
        }
    }
}
