//! The coordination server of the VPN through which operators reach firewalls: headscale from 0.28, by its REST API
//! (docs/vpn.md). A user there is a project here, a node is a firewall. Nothing here is called within a transaction.

mod plan;
pub(crate) mod sync;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::rpc::{Error, Reason};

/// Whoever takes longer to answer does not work.
const PATIENCE: Duration = Duration::from_secs(10);
/// Members of a project reach each other and nobody else.
const POLICY: &str =
    r#"{"acls": [{"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:*"]}]}"#;

/// Where the coordination server is.
#[derive(Clone, Debug)]
pub struct Config {
    /// URL of its REST API.
    pub api_url: String,
    /// URL that firewalls and operators join.
    pub control_plane_url: String,
    /// What lets us in.
    pub api_key: ApiKey,
    /// How often it is asked who is connected.
    pub poll: Duration,
}

/// A key of the REST API.
#[derive(Clone)]
pub enum ApiKey {
    /// In a file that is read at each call, so that it can be changed.
    File(PathBuf),
    /// The key itself.
    Value(String),
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Value(_) => f.write_str("Value(…)"),
        }
    }
}

/// The coordination server.
#[derive(Clone, Debug)]
pub struct Vpn {
    config: Config,
    agent: ureq::Agent,
}

/// A key with which somebody joins.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Key {
    /// Its number.
    #[serde(deserialize_with = "number")]
    pub(crate) id: i64,
    /// The secret.
    pub(crate) key: String,
    pub(crate) expiration: Timestamp,
    pub(crate) created_at: Timestamp,
}

/// Who has joined.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Node {
    #[serde(deserialize_with = "number")]
    pub(crate) id: i64,
    /// What it calls itself: a firewall the id of its machine.
    pub(crate) name: String,
    pub(crate) user: User,
    pub(crate) ip_addresses: Vec<String>,
    pub(crate) last_seen: Option<Timestamp>,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) online: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct User {
    #[serde(deserialize_with = "number")]
    pub(crate) id: i64,
    /// Id of the project.
    pub(crate) name: String,
}

/// Numbers of 64 bits are texts in the JSON of protobuf.
fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| serde::de::Error::custom(format!("'{text}' is no number")))
}

/// What a key may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// How long it can be used to join.
    pub(crate) life: Duration,
    /// Who joins is forgotten when it disconnects.
    pub(crate) ephemeral: bool,
    /// Several may join with it.
    pub(crate) reusable: bool,
}

/// What the coordination server did not do, and why.
struct Refused {
    what: String,
    why: String,
}

impl From<Refused> for Error {
    fn from(Refused { what, why }: Refused) -> Self {
        tracing::warn!(what, why, "the coordination server of the VPN refuses");
        let sentence = "the coordination server of the VPN does not do what is needed: the log of the control plane says more";
        Self::reason(Reason::VpnUnavailable, sentence).retry_in(PATIENCE)
    }
}

/// What is not there need not be removed.
fn gone(answer: Result<Value, Refused>) -> Result<(), Error> {
    match answer {
        Err(refused) if !refused.why.contains("not found") => Err(refused.into()),
        _ => Ok(()),
    }
}

#[derive(Clone, Copy, Debug)]
enum Verb {
    Get,
    Post,
    Put,
    Delete,
}

impl Vpn {
    /// Talks to nobody yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        Self { config, agent }
    }

    /// URL that firewalls and operators join.
    pub(crate) fn control_plane_url(&self) -> &str {
        &self.config.control_plane_url
    }

    /// Whether it answers and lets us in.
    pub(crate) async fn check(&self) -> Result<(), Error> {
        self.call::<Value>(Verb::Get, "health", None).await.map(drop)
    }

    /// A key for a project.
    pub(crate) async fn key(&self, project: &str, terms: Terms) -> Result<Key, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Made {
            pre_auth_key: Key,
        }
        let user = self.user(project).await?;
        let expiration = Timestamp::now() + terms.life;
        let wish = json!({"user": user.to_string(), "expiration": expiration.to_string(),
            "ephemeral": terms.ephemeral, "reusable": terms.reusable});
        let made: Made = self.call(Verb::Post, "preauthkey", Some(wish)).await?;
        Ok(made.pre_auth_key)
    }

    /// Nobody can join with the key any more.
    pub(crate) async fn revoke(&self, key: i64) -> Result<(), Error> {
        let which = json!({"id": key.to_string()});
        gone(self.ask::<Value>(Verb::Post, "preauthkey/expire", Some(which)).await)
    }

    /// Everybody who has joined.
    pub(crate) async fn nodes(&self) -> Result<Vec<Node>, Error> {
        #[derive(Deserialize)]
        struct Found {
            #[serde(default)]
            nodes: Vec<Node>,
        }
        Ok(self.call::<Found>(Verb::Get, "node", None).await?.nodes)
    }

    /// A node must join anew.
    pub(crate) async fn forget(&self, node: i64) -> Result<(), Error> {
        gone(self.ask::<Value>(Verb::Delete, &format!("node/{node}"), None).await)
    }

    /// Keeps projects apart, unless an operator has decided about that.
    pub(crate) async fn keep_apart(&self) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Found {
            #[serde(default)]
            policy: String,
        }
        // without one the answer is an error
        let found = self.ask::<Found>(Verb::Get, "policy", None).await;
        if found.is_ok_and(|found| !found.policy.trim().is_empty()) {
            return Ok(());
        }
        self.call::<Value>(Verb::Put, "policy", Some(json!({"policy": POLICY}))).await.map(drop)
    }

    /// Number of the user of a project, who is made if needed.
    async fn user(&self, project: &str) -> Result<i64, Error> {
        #[derive(Deserialize)]
        struct Found {
            #[serde(default)]
            users: Vec<User>,
        }
        #[derive(Deserialize)]
        struct Made {
            user: User,
        }
        let path = format!("user?name={project}");
        let find = async || {
            let found: Found = self.call(Verb::Get, &path, None).await?;
            Ok::<_, Error>(found.users.into_iter().find(|user| user.name == project))
        };
        if let Some(user) = find().await? {
            return Ok(user.id);
        }
        let made = self.call::<Made>(Verb::Post, "user", Some(json!({"name": project}))).await;
        match made {
            Ok(made) => Ok(made.user.id),
            // somebody else made it at the same time
            Err(error) => Ok(find().await?.ok_or(error)?.id),
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        verb: Verb,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, Error> {
        Ok(self.ask(verb, path, body).await?)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        verb: Verb,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, Refused> {
        let url = format!("{}/api/v1/{path}", self.config.api_url.trim_end_matches('/'));
        let vpn = self.clone();
        let answer = tokio::task::spawn_blocking(move || vpn.send(verb, &url, body)).await;
        let answer = answer.unwrap_or_else(|e| Err(e.to_string())).and_then(|text| {
            serde_json::from_str(&text).map_err(|e| format!("its answer is not understood: {e}"))
        });
        // without the query, and never the body: keys are in it
        let what = path.split('?').next().unwrap_or_default();
        answer.map_err(|why| Refused { what: format!("{verb:?} {what}"), why })
    }

    fn send(&self, verb: Verb, url: &str, body: Option<Value>) -> Result<String, String> {
        let key = match &self.config.api_key {
            ApiKey::Value(key) => key.clone(),
            ApiKey::File(path) => std::fs::read_to_string(path)
                .map_err(|e| format!("the API key in {} cannot be read: {e}", path.display()))?,
        };
        let bearer = format!("Bearer {}", key.trim());
        let body = body.unwrap_or_default().to_string();
        let answer = match verb {
            Verb::Get => self.agent.get(url).header("authorization", bearer).call(),
            Verb::Delete => self.agent.delete(url).header("authorization", bearer).call(),
            Verb::Post => self.agent.post(url).header("authorization", bearer).send(body),
            Verb::Put => self.agent.put(url).header("authorization", bearer).send(body),
        };
        let mut answer = answer.map_err(|e| e.to_string())?;
        let text = answer.body_mut().read_to_string().map_err(|e| e.to_string())?;
        if answer.status().is_success() {
            return Ok(text);
        }
        let told: Value = serde_json::from_str(&text).unwrap_or_default();
        let message = told["message"].as_str().unwrap_or(&text);
        Err(format!("{}: {}", answer.status(), message.trim()))
    }
}
