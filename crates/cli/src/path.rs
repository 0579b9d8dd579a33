//! Paths into JSON: `allocation.networks[*].ips[0]`, as columns, filters and `-o jsonpath` use them.

use std::collections::HashSet;

use serde_json::Value;

use crate::error::{Error, Result};

/// A step of a path.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Name(String),
    Index(i64),
    All,
    /// Everything below, at any depth.
    Below,
    /// Entries of which a condition holds.
    Where(String, Test, String),
}

/// How a condition compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Same,
    Other,
    Holds,
}

/// A path that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Path(Vec<Step>);

/// What a simple path leads to; nothing when it is malformed.
pub(crate) fn get<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    // The common case without reading the path first: tables of thousands of lines.
    if path.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.') && !path.contains("..") {
        let mut at = value;
        for name in path.split('.').filter(|name| !name.is_empty()) {
            match at.get(name) {
                Some(next) => at = next,
                None => return Vec::new(),
            }
        }
        return vec![at];
    }
    Path::parse(path).map(|path| path.find(value)).unwrap_or_default()
}

impl Path {
    /// Reads a path; a leading `$` or dot is allowed.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::usage(format!("'{text}' is no path: {why}"))
                .hint("write it like allocation.networks[0].ips[*] or .items[?(@.id==\"a\")].name")
        };
        let mut rest = text.trim().trim_start_matches('$');
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("..") {
                steps.push(Step::Below);
                rest = after;
            } else if let Some(after) = rest.strip_prefix('.') {
                rest = after;
            } else if let Some(after) = rest.strip_prefix('[') {
                let (inside, after) = bracket(after).ok_or_else(|| bad("a ] is missing"))?;
                steps.push(step(inside).ok_or_else(|| bad("the brackets hold nothing useful"))?);
                rest = after;
            } else if let Some(after) = rest.strip_prefix('*') {
                steps.push(Step::All);
                rest = after;
            } else {
                let mut name = String::new();
                let mut letters = rest.char_indices();
                let mut end = rest.len();
                while let Some((at, letter)) = letters.next() {
                    match letter {
                        // Keys of labels hold dots, `\.` keeps them together.
                        '\\' => name.extend(letters.next().map(|(_, letter)| letter)),
                        '.' | '[' => {
                            end = at;
                            break;
                        }
                        _ => name.push(letter),
                    }
                }
                steps.push(Step::Name(name));
                rest = &rest[end..];
            }
        }
        if steps.last() == Some(&Step::Below) {
            return Err(bad("what is looked for at any depth is missing after .."));
        }
        Ok(Self(steps))
    }

    /// What the path leads to.
    pub(crate) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.take(value)).collect();
            if *step == Step::Below {
                // `....` would else find everything as often as there are ways to it
                let mut seen = HashSet::new();
                found.retain(|value| seen.insert(std::ptr::from_ref::<Value>(value)));
            }
        }
        found
    }
}

impl Step {
    fn take<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Self::Name(name), Value::Object(fields)) => {
                fields.get(name).or_else(|| fields.get(&camel(name))).into_iter().collect()
            }
            (Self::Index(index), Value::Array(items)) => {
                let at = if *index < 0 { items.len() as i64 + index } else { *index };
                usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
            }
            (Self::All, Value::Array(items)) => items.iter().collect(),
            (Self::All, Value::Object(fields)) => fields.values().collect(),
            (Self::Below, value) => below(value),
            (Self::Where(path, test, wanted), Value::Array(items)) => items
                .iter()
                .filter(|item| {
                    let found = get(item, path);
                    let same = found.iter().any(|value| {
                        crate::column::plain(value) == *wanted || value.as_str() == Some(wanted)
                    });
                    match test {
                        Test::Same => same,
                        Test::Other => !same,
                        Test::Holds => !found.is_empty(),
                    }
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

fn below(value: &Value) -> Vec<&Value> {
    let mut all = vec![value];
    match value {
        Value::Array(items) => all.extend(items.iter().flat_map(below)),
        Value::Object(fields) => all.extend(fields.values().flat_map(below)),
        _ => {}
    }
    all
}

/// What stands before the closing bracket, which may stand in quotes or be nested.
fn bracket(text: &str) -> Option<(&str, &str)> {
    let (mut depth, mut quote) = (1, None);
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '[') => depth += 1,
            (None, ']') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&text[..at], &text[at + 1..]));
        }
    }
    None
}

fn step(inside: &str) -> Option<Step> {
    let inside = inside.trim();
    if inside == "*" {
        return Some(Step::All);
    }
    if let Ok(index) = inside.parse() {
        return Some(Step::Index(index));
    }
    if let Some(condition) = inside.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        let (path, test, wanted) = if let Some((path, wanted)) = condition.split_once("==") {
            (path, Test::Same, wanted)
        } else if let Some((path, wanted)) = condition.split_once("!=") {
            (path, Test::Other, wanted)
        } else {
            (condition, Test::Holds, "")
        };
        let path = path.trim().strip_prefix('@')?.trim_start_matches('.');
        return Some(Step::Where(path.to_owned(), test, unquoted(wanted.trim()).to_owned()));
    }
    let name = unquoted(inside);
    (name.len() < inside.len()).then(|| Step::Name(name.to_owned()))
}

fn unquoted(text: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner;
        }
    }
    text
}

/// The JSON name of a field in the contract's spelling.
fn camel(name: &str) -> String {
    let mut text = String::new();
    let mut upper = false;
    for letter in name.chars() {
        match letter {
            '_' => upper = true,
            letter if std::mem::take(&mut upper) => text.extend(letter.to_uppercase()),
            letter => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(path: &str, expected: Value) {
        let value = json!({
            "items": [{"id": "a", "ips": ["1", "2"]}, {"id": "b", "ips": ["3"], "type": "IP_TYPE_STATIC"}],
            "meta": {"labels": {"metal-stack.io/x": "y"}, "createdAt": "now"},
        });
        let found: Vec<Value> =
            Path::parse(path).unwrap().find(&value).into_iter().cloned().collect();
        assert_eq!(Value::Array(found), expected, "{path}");
        let simple: Vec<Value> = get(&value, path).into_iter().cloned().collect();
        assert_eq!(Value::Array(simple), expected, "{path}");
    }

    #[test]
    fn paths() {
        check("items[0].id", json!(["a"]));
        check("$.items[*].ips[-1]", json!(["2", "3"]));
        check(".items[*].ips[*]", json!(["1", "2", "3"]));
        check("items[?(@.id==\"b\")].ips", json!([["3"]]));
        check("items[?(@.type=='static')].id", json!(["b"]));
        check("items[?(@.type)].id", json!(["b"]));
        check("items[?(@.id!='b')].id", json!(["a"]));
        check("..id", json!(["a", "b"]));
        check("meta.labels.metal-stack\\.io/x", json!(["y"]));
        check("meta.labels['metal-stack.io/x']", json!(["y"]));
        check("meta.created_at", json!(["now"]));
        check("nowhere.at.all", json!([]));
    }

    #[test]
    fn malformed_paths() {
        for path in ["items[", "items[x]", "items[?(id)]"] {
            assert!(Path::parse(path).is_err(), "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_it(text in "[a-z\\[\\].*?@('\"=!)$\\\\0-9-]{0,30}") {
            drop(get(&json!({"a": [1]}), &text));
        }
    }
}
