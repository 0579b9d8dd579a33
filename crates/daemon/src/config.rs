//! Configuration files in TOML.

use std::fs;
use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;

/// Why a configuration file cannot be used: a sentence that names file, line and key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read: {reason}")]
    Unreadable { path: String, reason: std::io::Error },
    /// Its content is wrong.
    #[error("{path}:{line}: {}{message}", key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default())]
    Wrong { path: String, line: usize, key: Option<String>, message: String },
}

/// Reads a configuration. Keys that `T` does not know are errors when `T` says `#[serde(deny_unknown_fields)]`, which
/// every configuration should.
///
/// # Errors
/// When the file cannot be read or does not fit `T`.
pub fn load<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T, Error> {
    let path = path.as_ref();
    let text = fs::read_to_string(path)
        .map_err(|reason| Error::Unreadable { path: path.display().to_string(), reason })?;
    parse(&path.display().to_string(), &text)
}

/// Reads a configuration from text; `path` is only for messages.
///
/// # Errors
/// When the text does not fit `T`.
pub fn parse<T: DeserializeOwned>(path: &str, text: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|error| {
        let (line, key) = place(text, error.span());
        // One line for logs; the parser explains over several.
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        Error::Wrong { path: path.to_owned(), line, key, message }
    })
}

/// Line (from 1) and, if the line assigns something, the key with its table.
fn place(text: &str, span: Option<Range<usize>>) -> (usize, Option<String>) {
    let Some(before) = span.and_then(|span| text.get(..span.start)) else { return (1, None) };
    let line = before.matches('\n').count();
    let key =
        text.lines().nth(line).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
    let table = text.lines().take(line).filter_map(table).last();
    let key = match (table, key) {
        (Some(table), Some(key)) => Some(format!("{table}.{key}")),
        (None, Some(key)) => Some(key.to_owned()),
        (_, None) => None,
    };
    (line + 1, key)
}

/// `network` of a line `[network]`.
fn table(line: &str) -> Option<&str> {
    let name = line.trim().trim_start_matches('[').split(']').next()?;
    line.trim().starts_with('[').then_some(name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read by the parser")]
    struct Example {
        name: String,
        network: Network,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read by the parser")]
    struct Network {
        port: u16,
    }

    fn sentence(text: &str) -> String {
        parse::<Example>("a.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_line_and_key() {
        parse::<Example>("a.toml", "name = \"x\"\n[network]\nport = 1\n").unwrap();
        let wrong_type = sentence("name = \"x\"\n[network]\n# a comment\nport = \"one\"\n");
        assert!(wrong_type.starts_with("a.toml:4: network.port: "), "{wrong_type}");
        let unknown = sentence("name = \"x\"\ncolour = 1\n[network]\nport = 1\n");
        assert!(unknown.starts_with("a.toml:2: colour: unknown field `colour`"), "{unknown}");
        let missing = sentence("name = \"x\"\n[network]\n");
        assert!(missing.starts_with("a.toml:2: ") && missing.contains("port"), "{missing}");
        let broken = sentence("name = \"x\n");
        assert!(broken.starts_with("a.toml:1: "), "{broken}");
        let absent = load::<Example>("no/such/file").unwrap_err().to_string();
        assert!(absent.contains("no/such/file cannot be read"), "{absent}");
    }
}
