//! Which API is meant: flags, then environment, then the current context of the configuration file, which is
//! that of the official command line.

use std::env;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::document;
use crate::error::{Error, Result};
use crate::yaml;

/// The configuration file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Config {
    /// Everything in it, also what we do not know, so that it survives a change.
    content: Value,
}

/// One named API.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Context {
    pub(crate) name: String,
    pub(crate) url: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) project: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) provider: Option<String>,
}

/// Where the file stands: `--config`, `METAL_CONFIG`, or below the home directory.
pub(crate) fn location(given: Option<&str>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.into());
    }
    if let Some(path) = env::var_os("METAL_CONFIG") {
        return Ok(path.into());
    }
    let home = env::var_os("HOME").ok_or_else(|| {
        Error::failed("there is no home directory").hint("give the file with --config")
    })?;
    Ok(Path::new(&home).join(".metal-stack/config.yaml"))
}

impl Config {
    /// Reads the file; a missing one is empty.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => {
                return Err(Error::failed(format!("{} cannot be read: {e}", path.display()))
                    .hint("give another file with --config"));
            }
        };
        let documents = document::parse(&text).map_err(|e| {
            Error::usage(format!("{}: {e}", path.display())).hint(
                "repair the file, or move it away and make a new one with `metalctl context add`",
            )
        })?;
        let content = documents.first().map_or(Value::Null, document::Node::value);
        if !content.is_object() && !content.is_null() {
            return Err(Error::usage(format!("{} holds no contexts", path.display())));
        }
        Ok(Self { content })
    }

    /// Writes the file so that only its owner can read it, in one step.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let failed =
            |e: std::io::Error| Error::failed(format!("{} cannot be written: {e}", path.display()));
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        let new = path.with_extension("new");
        drop(fs::remove_file(&new));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .map_err(failed)?;
        file.write_all(yaml::write(&self.content, None).as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&new, path).map_err(failed)
    }

    /// Name of the current context.
    pub(crate) fn current(&self) -> Option<&str> {
        self.text("current-context")
    }

    /// Name of the one before.
    pub(crate) fn previous(&self) -> Option<&str> {
        self.text("previous-context")
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.content.get(key)?.as_str().filter(|text| !text.is_empty())
    }

    /// All contexts in the order of the file.
    pub(crate) fn contexts(&self) -> Vec<Context> {
        let entries = self.content.get("contexts").and_then(Value::as_array);
        entries.into_iter().flatten().map(Context::read).collect()
    }

    /// The context with this name.
    pub(crate) fn context(&self, name: &str) -> Result<Context> {
        let all = self.contexts();
        let found = all.iter().find(|context| context.name == name).cloned();
        found.ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|context| context.name.as_str()).collect();
            let error = Error::usage(format!("there is no context '{name}'"));
            match crate::error::nearest(name, names.iter().copied()) {
                Some(near) => error.hint(format!("did you mean '{near}'?")),
                None if names.is_empty() => {
                    error.hint("make one with `metalctl context add NAME --api-url URL`")
                }
                None => error.hint(format!("there are {}", names.join(", "))),
            }
        })
    }

    /// Makes this the current context.
    pub(crate) fn switch(&mut self, name: &str) -> Result<()> {
        self.context(name)?;
        let before = self.current().map(str::to_owned);
        if before.as_deref() != Some(name) {
            self.set("previous-context", before.map_or(Value::Null, Value::from));
            self.set("current-context", json!(name));
        }
        Ok(())
    }

    /// Adds a context or replaces the one with its name. The first one becomes current.
    pub(crate) fn put(&mut self, context: &Context) {
        if !self.content.is_object() {
            self.content = json!({});
        }
        let entries = &mut self.content["contexts"];
        if !entries.is_array() {
            *entries = json!([]);
        }
        let Some(entries) = entries.as_array_mut() else { return };
        match entries.iter_mut().find(|entry| entry["name"] == json!(context.name)) {
            Some(entry) => context.write(entry),
            None => {
                let mut entry = json!({});
                context.write(&mut entry);
                entries.push(entry);
            }
        }
        if self.current().is_none() {
            self.set("current-context", json!(context.name));
        }
    }

    /// Removes a context.
    pub(crate) fn remove(&mut self, name: &str) -> Result<()> {
        self.context(name)?;
        if let Some(entries) = self.content.get_mut("contexts").and_then(Value::as_array_mut) {
            entries.retain(|entry| entry["name"] != json!(name));
        }
        for key in ["current-context", "previous-context"] {
            if self.text(key) == Some(name) {
                self.set(key, Value::Null);
            }
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: Value) {
        if !self.content.is_object() {
            self.content = json!({});
        }
        if let Some(content) = self.content.as_object_mut() {
            match value {
                Value::Null => drop(content.remove(key)),
                value => drop(content.insert(key.to_owned(), value)),
            }
        }
    }
}

impl Context {
    fn read(entry: &Value) -> Self {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
        Self {
            name: text("name").unwrap_or_default(),
            url: text("api-url"),
            token: text("api-token"),
            project: text("default-project"),
            timeout: entry.get("timeout").and_then(Value::as_u64).map(Duration::from_nanos),
            provider: text("provider"),
        }
    }

    fn write(&self, entry: &mut Value) {
        let timeout = self.timeout.and_then(|timeout| u64::try_from(timeout.as_nanos()).ok());
        for (key, value) in [
            ("name", Some(json!(self.name))),
            ("api-url", self.url.as_ref().map(|text| json!(text))),
            ("api-token", self.token.as_ref().map(|text| json!(text))),
            ("default-project", self.project.as_ref().map(|text| json!(text))),
            ("timeout", timeout.map(Value::from)),
            ("provider", self.provider.as_ref().map(|text| json!(text))),
        ] {
            match (value, entry.as_object_mut()) {
                (Some(value), Some(entry)) => drop(entry.insert(key.to_owned(), value)),
                (None, Some(entry)) => drop(entry.remove(key)),
                (_, None) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const OFFICIAL: &str = "current-context: prod\nprevious-context: lab\ncontexts:\n  - name: prod\n    \
        api-url: https://api.example\n    api-token: secret\n    default-project: 00000000-0000-0000-0000-000000000001\n    \
        timeout: 30000000000\n    provider: openid-connect\n  - name: lab\n    api-token: other\nfuture-key: 1\n";

    #[test]
    fn the_official_file_is_read_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/config.yaml");
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(&path, OFFICIAL).unwrap();
        let mut config = Config::load(&path).unwrap();
        let prod = config.context("prod").unwrap();
        assert_eq!(prod.timeout, Some(Duration::from_secs(30)));
        assert_eq!(prod.url.as_deref(), Some("https://api.example"));
        config.switch("lab").unwrap();
        config.save(&path).unwrap();
        let again = Config::load(&path).unwrap();
        assert_eq!((again.current(), again.previous()), (Some("lab"), Some("prod")));
        assert_eq!(again.content["future-key"], json!(1));
        assert_eq!(again.contexts().len(), 2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_first_context_is_current_and_a_misspelled_one_is_guessed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        let mut config = Config::load(&path).unwrap();
        config.put(&Context { name: "prod".into(), ..Context::default() });
        assert_eq!(config.current(), Some("prod"));
        assert!(config.context("prdo").unwrap_err().hints[0].contains("'prod'"));
        config.remove("prod").unwrap();
        assert_eq!(config.current(), None);
    }
}
