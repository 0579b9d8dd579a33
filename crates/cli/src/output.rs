//! Answers as text: tables, YAML, JSON, templates, paths.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::column::{self, Column};
use crate::contract::Message;
use crate::error::{Error, Result, nearest};
use crate::path::Path;
use crate::table;
use crate::template::Template;
use crate::yaml;

/// How answers are written.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    Table,
    Wide,
    Markdown,
    Json,
    Yaml,
    /// YAML that `apply` takes: with the kind, without what the server sets.
    Manifest,
    /// Only what names each thing.
    Name,
    Template(Template),
    JsonPath(Vec<Piece>),
}

/// A part of a path template such as `{.id}: {.name}`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    Text(String),
    Path(Path),
}

/// What to do with a list before it is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) no_headers: bool,
    /// Headings or paths.
    pub(crate) columns: Vec<String>,
    /// Headings or paths, each perhaps with `:desc`.
    pub(crate) sort_by: Vec<String>,
    /// `PATH=VALUE`, `PATH!=VALUE`, `PATH~TEXT`.
    pub(crate) filters: Vec<String>,
    /// `KEY=VALUE`, `KEY!=VALUE`, `KEY`, `!KEY`.
    pub(crate) selectors: Vec<String>,
}

/// An answer and what is known about it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) content: Content,
    pub(crate) message: Option<&'static Message>,
    pub(crate) columns: &'static [Column],
    /// Field that names one.
    pub(crate) id: &'static str,
    /// Noun, for manifests.
    pub(crate) noun: &'static str,
}

/// One thing or several.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    One(Value),
    Many(Vec<Value>),
}

impl Format {
    /// Reads what stands behind `-o`, with what stands behind `--template`.
    pub(crate) fn parse(text: &str, template: Option<&str>) -> Result<Self> {
        let (name, rest) =
            text.split_once('=').map_or((text, None), |(name, rest)| (name, Some(rest)));
        let source = || {
            rest.or(template).ok_or_else(|| {
                Error::usage(format!("-o {name} needs something to fill in")).hint(match name {
                    "template" => "for instance -o template='{{ .id }}' or --template '{{ .id }}'",
                    _ => "for instance -o jsonpath='{.id}'",
                })
            })
        };
        const NAMES: [&str; 9] = [
            "table", "wide", "markdown", "json", "yaml", "manifest", "name", "template", "jsonpath",
        ];
        Ok(match name {
            "table" => Self::Table,
            "wide" => Self::Wide,
            "markdown" | "md" => Self::Markdown,
            "json" => Self::Json,
            "yaml" => Self::Yaml,
            "manifest" => Self::Manifest,
            "name" => Self::Name,
            "template" | "go-template" => Self::Template(Template::parse(source()?)?),
            "jsonpath" => Self::JsonPath(pieces(source()?)?),
            _ => {
                let error = Error::usage(format!("there is no output '{name}'"));
                return Err(match nearest(name, NAMES) {
                    Some(near) => error.hint(format!("did you mean -o {near}?")),
                    None => error.hint(format!("there are {}", NAMES.join(", "))),
                });
            }
        })
    }
}

/// Reads `{.id}: {.name}`; a text without braces is one path.
fn pieces(text: &str) -> Result<Vec<Piece>> {
    if !text.contains('{') {
        return Ok(vec![Piece::Path(Path::parse(text)?)]);
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        pieces.push(Piece::Text(unescaped(&rest[..open])));
        let inside = &rest[open + 1..];
        let close = inside.find('}').ok_or_else(|| {
            Error::usage(format!("'{text}' is no path template: a }} is missing"))
                .hint("for instance -o jsonpath='{.id}'")
        })?;
        let inner = inside[..close].trim();
        let quoted = inner.strip_prefix('"').and_then(|inner| inner.strip_suffix('"'));
        pieces.push(match quoted {
            Some(literal) => Piece::Text(unescaped(literal)),
            None => Piece::Path(Path::parse(inner)?),
        });
        rest = &inside[close + 1..];
    }
    pieces.push(Piece::Text(unescaped(rest)));
    pieces.retain(|piece| *piece != Piece::Text(String::new()));
    Ok(pieces)
}

pub(crate) fn unescaped(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\t", "\t")
}

impl Answer {
    /// The whole text, with a line break at the end unless empty.
    pub(crate) fn write(
        mut self,
        format: &Format,
        shape: &Shape,
        now: Timestamp,
    ) -> Result<String> {
        if let Content::Many(items) = &mut self.content {
            shape.apply(items, self.columns, now)?;
        }
        let message = self.message;
        let items: Vec<&Value> = match &self.content {
            Content::One(item) => vec![item],
            Content::Many(items) => items.iter().collect(),
        };
        Ok(match format {
            Format::Json => {
                let mut text = match &self.content {
                    Content::One(item) => json_text(item, message),
                    Content::Many(items) => json_list(items, message),
                };
                text.push('\n');
                text
            }
            Format::Yaml => documents(items.iter().map(|item| yaml::write(item, message))),
            Format::Manifest => documents(items.iter().map(|item| {
                format!("kind: {}\n{}", self.noun, yaml::write(&manifest(item), message))
            })),
            Format::Name => lines(items.iter().map(|item| {
                let id = if self.id.is_empty() { "id" } else { self.id };
                crate::path::get(item, id).first().map_or(String::new(), |id| column::plain(id))
            })),
            Format::Template(template) => lines(
                items
                    .iter()
                    .map(|item| template.render(item))
                    .filter(|text| !text.trim().is_empty()),
            ),
            Format::JsonPath(pieces) => {
                // As kubectl has it: a list is an object with `items`.
                let whole = match &self.content {
                    Content::One(item) => item.clone(),
                    Content::Many(items) => json!({ "items": items }),
                };
                lines(std::iter::once(filled(pieces, &whole)))
            }
            Format::Table | Format::Wide | Format::Markdown => {
                let columns = shape.columns(self.columns, matches!(format, Format::Wide))?;
                let scalars = items.iter().all(|item| !item.is_object() && !item.is_array());
                if columns.is_empty() && scalars {
                    return Ok(lines(items.iter().map(|item| column::plain(item))));
                }
                if columns.is_empty() {
                    return Ok(documents(items.iter().map(|item| yaml::write(item, message))));
                }
                let mut titles: Vec<&str> = columns.iter().map(|column| column.title()).collect();
                let mut rows: Vec<Vec<String>> = items
                    .iter()
                    .map(|item| columns.iter().map(|column| column.cell(item, now)).collect())
                    .collect();
                let sums = |column: &Chosen<'_>| matches!(column, Chosen::Known(column) if matches!(column.form, column::Form::Sum));
                if rows.len() > 1 && !shape.no_headers && columns.iter().any(sums) {
                    let total = columns.iter().enumerate().map(|(at, column)| match sums(column) {
                        true => rows
                            .iter()
                            .filter_map(|row| row[at].parse::<u64>().ok())
                            .sum::<u64>()
                            .to_string(),
                        false if at == 0 => "total".to_owned(),
                        false => String::new(),
                    });
                    let total = total.collect();
                    rows.push(total);
                }
                // Marks take no room where there are none.
                while let Some(at) = (0..titles.len())
                    .find(|&at| titles[at].is_empty() && rows.iter().all(|row| row[at].is_empty()))
                {
                    titles.remove(at);
                    rows.iter_mut().for_each(|row| drop(row.remove(at)));
                }
                match format {
                    Format::Markdown => table::markdown(&titles, &rows),
                    _ if rows.is_empty() => String::new(),
                    _ => table::plain(&titles, &rows, !shape.no_headers),
                }
            }
        })
    }
}

/// A column of the contract's tables, or one that the user asked for by path.
enum Chosen<'a> {
    Known(&'a Column),
    Path(String, Path),
}

impl Chosen<'_> {
    fn title(&self) -> &str {
        match self {
            Self::Known(column) => column.title,
            Self::Path(title, _) => title,
        }
    }

    fn cell(&self, item: &Value, now: Timestamp) -> String {
        match self {
            Self::Known(column) => column.cell(item, now),
            Self::Path(_, path) => path
                .find(item)
                .iter()
                .map(|value| column::plain(value))
                .collect::<Vec<_>>()
                .join(","),
        }
    }
}

fn chosen<'a>(word: &str, known: &'a [Column]) -> Result<Chosen<'a>> {
    let same = |title: &str| {
        title.eq_ignore_ascii_case(word) || title.replace(' ', "-").eq_ignore_ascii_case(word)
    };
    if let Some(column) = known.iter().find(|column| same(column.title)) {
        return Ok(Chosen::Known(column));
    }
    Ok(Chosen::Path(word.to_uppercase(), Path::parse(word)?))
}

impl Shape {
    fn columns<'a>(&self, known: &'a [Column], wide: bool) -> Result<Vec<Chosen<'a>>> {
        if self.columns.is_empty() {
            return Ok(known
                .iter()
                .filter(|column| wide || !column.wide)
                .map(Chosen::Known)
                .collect());
        }
        self.columns.iter().map(|word| chosen(word, known)).collect()
    }

    /// Whether everything that was typed is a heading.
    pub(crate) fn is_known(&self, columns: &[Column]) -> bool {
        let words = self.columns.iter().map(String::as_str);
        let sorted =
            self.sort_by.iter().map(|key| key.rsplit_once(':').map_or(&**key, |(key, _)| key));
        let filtered = self.filters.iter().filter_map(|text| Some(condition(text).ok()?.0));
        words
            .chain(sorted)
            .chain(filtered)
            .all(|word| matches!(chosen(word, columns), Ok(Chosen::Known(_))))
    }

    /// Filters and sorts a list.
    pub(crate) fn apply(
        &self,
        items: &mut Vec<Value>,
        known: &[Column],
        now: Timestamp,
    ) -> Result<()> {
        for filter in &self.filters {
            let (path, test, wanted) = condition(filter)?;
            let path = chosen(path, known)?;
            items.retain(|item| {
                let cell = path.cell(item, now);
                match test {
                    "~" => cell.to_lowercase().contains(&wanted.to_lowercase()),
                    "!=" => !cell.eq_ignore_ascii_case(wanted),
                    _ => cell.eq_ignore_ascii_case(wanted),
                }
            });
        }
        for selector in &self.selectors {
            items.retain(|item| selects(selector, item));
        }
        for key in self.sort_by.iter().rev() {
            let (word, descending) = match key.rsplit_once(':') {
                Some((word, "desc")) => (word, true),
                Some((word, "asc")) => (word, false),
                _ => (key.as_str(), false),
            };
            let column = chosen(word, known)?;
            // Ages sort by the moment they count from, numbers as numbers.
            let mut keyed: Vec<(Key, Value)> = std::mem::take(items)
                .into_iter()
                .map(|item| (Key::of(&column, &item, now), item))
                .collect();
            keyed.sort_by(|(a, _), (b, _)| if descending { b.cmp(a) } else { a.cmp(b) });
            *items = keyed.into_iter().map(|(_, item)| item).collect();
        }
        Ok(())
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(i64),
    Text(String),
}

impl Key {
    fn of(column: &Chosen<'_>, item: &Value, now: Timestamp) -> Self {
        if let Chosen::Known(column) = column
            && matches!(column.form, column::Form::Age | column::Form::Until)
        {
            let moment = crate::path::get(item, column.path);
            let moment = moment.first().and_then(|m| m.as_str()?.parse::<Timestamp>().ok());
            let seconds = moment.map_or(i64::MAX, |m| m.as_second() - now.as_second());
            let age = matches!(column.form, column::Form::Age);
            return Self::Number(if age { -seconds.min(i64::MAX - 1) } else { seconds });
        }
        let cell = column.cell(item, now);
        cell.parse().map_or(Self::Text(cell), Self::Number)
    }
}

fn condition(text: &str) -> Result<(&str, &'static str, &str)> {
    for test in ["!=", "~", "="] {
        if let Some((path, wanted)) = text.split_once(test) {
            return Ok((path.trim(), test, wanted.trim_start_matches('=').trim()));
        }
    }
    Err(Error::usage(format!("'{text}' is no filter"))
        .hint("write it like size=n1-medium, rack!=rack-01 or hostname~web"))
}

/// Whether the labels of a thing, or those of its allocation, fit.
fn selects(selector: &str, item: &Value) -> bool {
    let label = |key: &str| {
        ["/meta/labels/labels", "/allocation/meta/labels/labels"]
            .iter()
            .find_map(|at| item.pointer(at)?.get(key)?.as_str())
    };
    if let Some(key) = selector.strip_prefix('!') {
        label(key).is_none()
    } else if let Some((key, wanted)) = selector.split_once("!=") {
        label(key) != Some(wanted)
    } else if let Some((key, wanted)) = selector.split_once('=') {
        label(key) == Some(wanted.trim_start_matches('='))
    } else {
        label(selector).is_some()
    }
}

fn documents(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join("---\n")
}

fn lines(texts: impl Iterator<Item = String>) -> String {
    texts
        .map(|text| if text.ends_with('\n') || text.is_empty() { text } else { text + "\n" })
        .collect()
}

fn filled(pieces: &[Piece], item: &Value) -> String {
    pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Path(path) => path
                .find(item)
                .iter()
                .map(|value| match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                })
                .collect::<Vec<_>>()
                .join(" "),
        })
        .collect()
}

/// JSON with the fields in the order of the contract, two spaces deep.
pub(crate) fn json_text(value: &Value, message: Option<&'static Message>) -> String {
    let mut text = String::new();
    write_json(value, message, 0, &mut text);
    text
}

fn json_list(items: &[Value], message: Option<&'static Message>) -> String {
    let mut text = String::new();
    write_list(items, message, 0, &mut text);
    text
}

fn write_json(value: &Value, message: Option<&'static Message>, depth: usize, text: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let indent = "  ".repeat(depth + 1);
            text.push('{');
            for (i, (key, value, inner)) in yaml::ordered(fields, message).into_iter().enumerate() {
                text.push_str(if i == 0 { "\n" } else { ",\n" });
                text.push_str(&format!("{indent}{}: ", Value::from(key)));
                write_json(value, inner, depth + 1, text);
            }
            text.push_str(&format!("\n{}}}", "  ".repeat(depth)));
        }
        Value::Array(items) => write_list(items, message, depth, text),
        scalar => text.push_str(&scalar.to_string()),
    }
}

fn write_list(items: &[Value], message: Option<&'static Message>, depth: usize, text: &mut String) {
    if items.is_empty() {
        return text.push_str("[]");
    }
    text.push('[');
    for (i, item) in items.iter().enumerate() {
        text.push_str(if i == 0 { "\n" } else { ",\n" });
        text.push_str(&"  ".repeat(depth + 1));
        write_json(item, message, depth + 1, text);
    }
    text.push_str(&format!("\n{}]", "  ".repeat(depth)));
}

/// A thing without what the server sets by itself.
pub(crate) fn manifest(item: &Value) -> Value {
    const SERVERS: [&str; 5] =
        ["createdAt", "updatedAt", "generation", "deletionTaskId", "consumption"];
    let mut item = item.clone();
    if let Some(fields) = item.as_object_mut() {
        fields.retain(|key, _| !SERVERS.contains(&key.as_str()));
        if let Some(meta) = fields.get_mut("meta").and_then(Value::as_object_mut) {
            meta.retain(|key, _| !SERVERS.contains(&key.as_str()));
        }
        if fields.get("meta") == Some(&json!({})) {
            fields.remove("meta");
        }
    }
    item
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn images() -> Answer {
        let item = |id: &str, status: &str, os: &str| {
            json!({"id": id, "classification": status, "features": ["IMAGE_FEATURE_MACHINE"],
                "meta": {"labels": {"labels": {"os": os}}, "createdAt": "2026-01-01T00:00:00Z"}})
        };
        Answer {
            content: Content::Many(vec![
                item("debian-12", "IMAGE_CLASSIFICATION_SUPPORTED", "debian"),
                item("ubuntu-24", "IMAGE_CLASSIFICATION_PREVIEW", "ubuntu"),
                item("arch", "IMAGE_CLASSIFICATION_PREVIEW", "arch"),
            ]),
            message: Message::find("metalstack.api.v2.Image"),
            columns: column::IMAGE,
            id: "id",
            noun: "image",
        }
    }

    fn check(format: &str, shape: Shape, expected: expect_test::Expect) {
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        let format = Format::parse(format, None).unwrap();
        expected.assert_eq(&images().write(&format, &shape, now).unwrap());
    }

    #[test]
    fn formats() {
        let sorted = Shape { sort_by: vec!["status".into(), "id:desc".into()], ..Shape::default() };
        check(
            "table",
            sorted,
            expect![[r#"
            ID         NAME  DESCRIPTION  FEATURES  EXPIRES IN  STATUS
            ubuntu-24                     machine               preview
            arch                          machine               preview
            debian-12                     machine               supported
        "#]],
        );
        let one = Shape { filters: vec!["id~DEB".into()], ..Shape::default() };
        check(
            "yaml",
            one.clone(),
            expect![[r#"
            id: debian-12
            meta:
              labels:
                labels:
                  os: debian
              createdAt: "2026-01-01T00:00:00Z"
            features:
            - IMAGE_FEATURE_MACHINE
            classification: IMAGE_CLASSIFICATION_SUPPORTED
        "#]],
        );
        check(
            "manifest",
            one.clone(),
            expect![[r#"
            kind: image
            id: debian-12
            meta:
              labels:
                labels:
                  os: debian
            features:
            - IMAGE_FEATURE_MACHINE
            classification: IMAGE_CLASSIFICATION_SUPPORTED
        "#]],
        );
        check(
            "json",
            one,
            expect![[r#"
            [
              {
                "id": "debian-12",
                "meta": {
                  "labels": {
                    "labels": {
                      "os": "debian"
                    }
                  },
                  "createdAt": "2026-01-01T00:00:00Z"
                },
                "features": [
                  "IMAGE_FEATURE_MACHINE"
                ],
                "classification": "IMAGE_CLASSIFICATION_SUPPORTED"
              }
            ]
        "#]],
        );
        check("name", Shape::default(), expect!["debian-12\nubuntu-24\narch\n"]);
        check("jsonpath={.items[*].id}", Shape::default(), expect!["debian-12 ubuntu-24 arch\n"]);
        check("jsonpath={.items[0].id}{\"\\t\"}x", Shape::default(), expect!["debian-12\tx\n"]);
        let chosen = Shape {
            columns: vec!["id".into(), "meta.labels.labels.os".into()],
            no_headers: true,
            selectors: vec!["os!=arch".into()],
            ..Shape::default()
        };
        check(
            "table",
            chosen,
            expect![[r#"
            debian-12  debian
            ubuntu-24  ubuntu
        "#]],
        );
    }

    #[test]
    fn unknown_formats() {
        let error = Format::parse("jason", None).unwrap_err();
        assert_eq!(error.hints, ["did you mean -o json?"]);
        assert!(Format::parse("jsonpath={.id", None).is_err());
        assert!(Format::parse("template", None).is_err());
    }
}
