//! Which database is where: SONiC's `database_config.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// The databases that are read or written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Base {
    /// What the managers ask of the ASIC, and how it goes.
    Application,
    /// What the ASIC has.
    Asic,
    /// Names of what the ASIC has.
    Counters,
    /// What somebody wants.
    Config,
    /// What the managers have done.
    State,
}

impl Base {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Application, Self::Asic, Self::Counters, Self::Config, Self::State];

    /// SONiC's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Application => "APPL_DB",
            Self::Asic => "ASIC_DB",
            Self::Counters => "COUNTERS_DB",
            Self::Config => "CONFIG_DB",
            Self::State => "STATE_DB",
        }
    }

    /// Number and separator where nothing else is said.
    fn usual(self) -> (i64, char) {
        match self {
            Self::Application => (0, ':'),
            Self::Asic => (1, ':'),
            Self::Counters => (2, ':'),
            Self::Config => (4, '|'),
            Self::State => (6, '|'),
        }
    }
}

/// Where a database is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A socket on this switch.
    Socket(PathBuf),
    /// Over the network, which should be the loopback.
    Network(String, u16),
}

impl Address {
    /// A path, or host and port.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<Self> {
        if text.starts_with('/') {
            return Ok(Self::Socket(text.into()));
        }
        let network = text.rsplit_once(':').and_then(|(host, port)| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Some((host, port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
        });
        match network {
            Some((host, port)) => Ok(Self::Network(host.to_owned(), port)),
            None => {
                bail!("{text:?} is neither a path like /var/run/redis/redis.sock nor host:port")
            }
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Network(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// Address, number and password file of each database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Databases(BTreeMap<Base, Database>);

/// One database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Where it is.
    pub address: Address,
    /// Its number there.
    pub id: i64,
    /// File with the password, if it has one.
    pub password_file: Option<PathBuf>,
}

impl Databases {
    /// All at one address, with the numbers that SONiC gives them.
    pub fn at(address: &Address) -> Self {
        let database = |base: Base| Database {
            address: address.clone(),
            id: base.usual().0,
            password_file: None,
        };
        Self(Base::ALL.map(|base| (base, database(base))).into())
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It is not there, or does not say where a database is.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} cannot be used", path.display()))
    }

    /// # Errors
    /// The text is not of SONiC's form, or a database is not in it.
    pub fn parse(text: &str) -> Result<Self> {
        let file: File = serde_json::from_str(text)?;
        let read = |base: Base| {
            let name = base.name();
            let entry = file.databases.get(name).with_context(|| format!("{name} is not in it"))?;
            let instance = file
                .instances
                .get(&entry.instance)
                .with_context(|| format!("{name}: the instance {} is not in it", entry.instance))?;
            let usual = base.usual().1;
            ensure!(
                entry.separator.chars().eq([usual]),
                "{name} has keys with {:?}; only {usual:?} is known",
                entry.separator
            );
            let address = match &instance.unix_socket_path {
                Some(path) => Address::Socket(path.clone()),
                None => Address::Network(instance.hostname.clone(), instance.port),
            };
            let password_file = instance.password_path.clone();
            anyhow::Ok((base, Database { address, id: entry.id, password_file }))
        };
        Base::ALL.into_iter().map(read).collect::<Result<_>>().map(Self)
    }

    /// Where this one is.
    pub fn get(&self, base: Base) -> &Database {
        &self.0[&base]
    }

    /// With this password, whatever the file says.
    #[must_use]
    pub fn with_password_file(mut self, path: Option<&Path>) -> Self {
        if let Some(path) = path {
            self.0.values_mut().for_each(|database| database.password_file = Some(path.to_owned()));
        }
        self
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct File {
    instances: BTreeMap<String, Instance>,
    databases: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Instance {
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    port: u16,
    unix_socket_path: Option<PathBuf>,
    password_path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Entry {
    id: i64,
    separator: String,
    instance: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{
        "INSTANCES": {
            "redis": {"hostname": "127.0.0.1", "port": 6379, "unix_socket_path": "/var/run/redis/redis.sock", "persistence_for_warm_boot": "yes"},
            "far": {"hostname": "10.0.0.1", "port": 6380, "password_path": "/etc/secret"}
        },
        "DATABASES": {
            "APPL_DB": {"id": 0, "separator": ":", "instance": "redis"},
            "ASIC_DB": {"id": 1, "separator": ":", "instance": "far"},
            "COUNTERS_DB": {"id": 2, "separator": ":", "instance": "redis"},
            "CONFIG_DB": {"id": 4, "separator": "|", "instance": "redis"},
            "STATE_DB": {"id": 6, "separator": "|", "instance": "redis"}
        },
        "VERSION": "1.0"
    }"#;

    #[test]
    fn databases_of_the_file() {
        let databases = Databases::parse(TEXT).unwrap();
        let config = databases.get(Base::Config);
        assert_eq!(config.address.to_string(), "/var/run/redis/redis.sock");
        assert_eq!((config.id, &config.password_file), (4, &None));
        let asic = databases.get(Base::Asic);
        assert_eq!(asic.address, Address::Network("10.0.0.1".into(), 6380));
        assert_eq!(asic.password_file.as_deref(), Some(Path::new("/etc/secret")));
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let error = |from: &str, to: &str| {
            format!("{:#}", Databases::parse(&TEXT.replace(from, to)).unwrap_err())
        };
        assert_eq!(error("\"STATE_DB\"", "\"OTHER_DB\""), "STATE_DB is not in it");
        assert_eq!(
            error("\"id\": 4, \"separator\": \"|\"", "\"id\": 4, \"separator\": \"/\""),
            "CONFIG_DB has keys with \"/\"; only '|' is known"
        );
        assert!(error("\"far\": {", "\"near\": {").contains("instance far"));
    }

    #[test]
    fn addresses() {
        let parse = |text| Address::parse(text).map(|address| address.to_string()).ok();
        assert_eq!(parse("/run/r.sock").as_deref(), Some("/run/r.sock"));
        assert_eq!(parse("[::1]:6379").as_deref(), Some("::1:6379"));
        for wrong in ["", "redis", "host:", ":1", "host:99999"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
