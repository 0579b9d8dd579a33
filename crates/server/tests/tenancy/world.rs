//! Servers in this process and people who call them.
#![allow(dead_code, reason = "shared by test programs of which none needs all of it")]

use std::io::Read as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jiff::Timestamp;
use proto::api;
use serde_json::{Value, json};
use store::Db;
use tokio::runtime::Runtime;

use crate::postgres;

/// Issuer of the tokens of every world.
const ISSUER: &str = "http://metal.test";

/// A database with the servers that share it. Calls and streams go to each of them in turn: nobody who calls sees which one answers.
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) db: Db,
    bases: Vec<String>,
    turn: AtomicUsize,
    agent: ureq::Agent,
    running: Vec<server::Running>,
    config: server::Config,
    // what the database stands on, removed last
    _ground: Ground,
}

enum Ground {
    Folder { _folder: tempfile::TempDir },
    Server { _server: Arc<Shared> },
}

/// One PostgreSQL for the tests that run at the same time, each in a database of its own.
struct Shared {
    server: postgres::Server,
    databases: AtomicU32,
}

static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());

/// Replicas of the third run of [`on_all`].
const REPLICAS: usize = 2;

/// Runs a test on SQLite, on PostgreSQL, and on PostgreSQL with replicas that answer in turn; each time on a fresh database.
pub(crate) fn on_all(test: impl Fn(&World)) {
    on_sqlite(&test);
    on_postgres(1, &test);
    on_postgres(REPLICAS, &test);
}

/// Runs a test on a fresh server on SQLite, for what does not depend on the engine.
pub(crate) fn on_sqlite(test: impl Fn(&World)) {
    on_sqlite_with(|_| {}, test);
}

/// As [`on_sqlite`], with a server that is configured differently.
pub(crate) fn on_sqlite_with(change: impl Fn(&mut server::Config), test: impl Fn(&World)) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let url = format!("sqlite:{}", folder.path().join("test.db").display());
    test(&World::start(&url, Ground::Folder { _folder: folder }, 1, change));
}

/// Runs a test on so many replicas on PostgreSQL, for what only that engine can get wrong.
pub(crate) fn on_postgres(replicas: usize, test: impl Fn(&World)) {
    let (url, ground) = postgres_database();
    test(&World::start(&url, ground, replicas, |_| {}));
}

fn postgres_database() -> (String, Ground) {
    let mut slot = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let shared = slot.upgrade().unwrap_or_else(|| {
        let server = postgres::Server::start();
        Arc::new(Shared { server, databases: AtomicU32::new(0) })
    });
    *slot = Arc::downgrade(&shared);
    drop(slot);
    let name = format!("world{}", shared.databases.fetch_add(1, Ordering::SeqCst));
    let url = shared.server.url();
    let made =
        Command::new("psql").args([&url, "-qc", &format!("CREATE DATABASE {name}")]).status();
    assert!(made.expect("psql starts").success(), "CREATE DATABASE {name}");
    let (server, _) = url.rsplit_once('/').expect("a URL with a database");
    let url = format!("{server}/{name}");
    (url, Ground::Server { _server: shared })
}

/// What has not happened by then never will, also on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a stream is looked at that is to say nothing.
const GLANCE: Duration = Duration::from_millis(500);

/// Who calls: a refusal is an answer like any other, and no answer is the end of the test.
pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .into()
}

/// What a call was answered with: the response, or a code and a sentence.
pub(crate) type Answer = Result<Value, (String, String)>;

/// The code of an answer; `ok` when there was no error.
pub(crate) fn code(answer: &Answer) -> &str {
    answer.as_ref().map_or_else(|(code, _)| code.as_str(), |_| "ok")
}

impl World {
    fn start(
        url: &str,
        ground: Ground,
        replicas: usize,
        change: impl Fn(&mut server::Config),
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("runtime");
        let mut config = server::Config {
            listen: "127.0.0.1:0".to_owned(),
            database: url.to_owned(),
            issuer: ISSUER.to_owned(),
            // tests call more often than people
            rate: server::rate::Config { token_per_minute: 0, address_per_minute: 0 },
            ..server::Config::default()
        };
        change(&mut config);
        let running: Vec<_> = (0..replicas)
            .map(|_| runtime.block_on(server::start(config.clone())).expect("server"))
            .collect();
        let db = runtime.block_on(Db::open(url)).expect("database");
        let agent = agent();
        let bases = running.iter().map(|running| format!("http://{}", running.address)).collect();
        Self {
            runtime,
            db,
            bases,
            turn: AtomicUsize::new(0),
            agent,
            running,
            config,
            _ground: ground,
        }
    }

    /// Where the server whose turn it is answers.
    pub(crate) fn url(&self) -> &str {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.bases[turn % self.bases.len()]
    }

    /// Where the database is.
    pub(crate) fn database(&self) -> &str {
        &self.config.database
    }

    /// Runs something while one more server runs on the same database.
    pub(crate) fn beside_a_new_one(&self, test: impl FnOnce()) {
        let running = self.runtime.block_on(server::start(self.config.clone())).expect("server");
        test();
        self.runtime.block_on(running.stop()).expect("stops well");
    }

    /// Calls a method, for instance `api.v2.TenantService/Get`; an empty token is none.
    pub(crate) fn call(&self, token: &str, method: &str, request: Value) -> Answer {
        self.call_path(token, &format!("/metalstack.{method}"), &request)
    }

    pub(crate) fn call_path(&self, token: &str, path: &str, request: &Value) -> Answer {
        let mut post = self
            .agent
            .post(format!("{}{path}", self.url()))
            .header("content-type", "application/json");
        if !token.is_empty() {
            post = post.header("authorization", format!("Bearer {token}"));
        }
        let mut response = post.send(request.to_string()).expect("an answer");
        let ok = response.status().is_success();
        let text = response.body_mut().read_to_string().expect("text");
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if ok {
            return Ok(value);
        }
        let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Err((field("code"), field("message")))
    }

    /// Opens a stream and says how it ended, or what came first: one of both must come.
    #[track_caller]
    pub(crate) fn open_stream(&self, token: &str, path: &str, request: &Value) -> Answer {
        let answer = self.stream(token, path, request, PATIENCE);
        assert_ne!(answer, Ok(Value::Null), "{path} says nothing");
        answer
    }

    /// As [`Self::open_stream`] for one that may stay open without a word: then it is null.
    pub(crate) fn glance_at_stream(&self, token: &str, path: &str, request: &Value) -> Answer {
        self.stream(token, path, request, GLANCE)
    }

    fn stream(&self, token: &str, path: &str, request: &Value, patience: Duration) -> Answer {
        let body = request.to_string();
        let mut envelope = vec![0];
        envelope.extend(u32::try_from(body.len()).expect("short").to_be_bytes());
        envelope.extend(body.bytes());
        let mut post = self
            .agent
            .post(format!("{}{path}", self.url()))
            .header("content-type", "application/connect+json")
            .config()
            .timeout_global(Some(patience))
            .build();
        if !token.is_empty() {
            post = post.header("authorization", format!("Bearer {token}"));
        }
        let mut head = [0; 5];
        let mut text = Vec::new();
        let read =
            post.send(envelope.as_slice()).map_err(std::io::Error::other).and_then(|mut r| {
                let mut reader = r.body_mut().as_reader();
                reader.read_exact(&mut head)?;
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
                reader.take(u64::from(length)).read_to_end(&mut text)
            });
        if read.is_err() {
            return Ok(Value::Null);
        }
        let value: Value = serde_json::from_slice(&text).expect("JSON");
        let field = |name: &str| value["error"][name].as_str().unwrap_or_default().to_owned();
        if head[0] & 2 != 0 && value.get("error").is_some() {
            Err((field("code"), field("message")))
        } else {
            Ok(value)
        }
    }

    /// As [`Self::call`] for a call that must work.
    #[track_caller]
    pub(crate) fn ok(&self, token: &str, method: &str, request: Value) -> Value {
        self.call(token, method, request).unwrap_or_else(|e| panic!("{method}: {e:?}"))
    }

    /// Asserts the code of an answer.
    #[track_caller]
    pub(crate) fn expect(&self, wanted: &str, token: &str, method: &str, request: Value) {
        let answer = self.call(token, method, request);
        assert_eq!(code(&answer), wanted, "{method}: {answer:?}");
    }

    /// The token of a login of this user, who is made if needed.
    pub(crate) fn login(&self, user: &str) -> String {
        self.token(api::Token {
            user: user.to_owned(),
            token_type: api::TokenType::User.into(),
            ..Default::default()
        })
    }

    /// The token of an operator who may change everything.
    pub(crate) fn admin(&self) -> String {
        self.operator("operator", api::AdminRole::Editor)
    }

    /// The token of an operator.
    pub(crate) fn operator(&self, user: &str, role: api::AdminRole) -> String {
        self.token(api::Token {
            user: user.to_owned(),
            token_type: api::TokenType::Api.into(),
            admin_role: Some(role.into()),
            ..Default::default()
        })
    }

    /// Any token, straight into the database.
    pub(crate) fn token(&self, mut token: api::Token) -> String {
        self.runtime.block_on(async {
            let mut tx = self.db.begin_write().await.expect("begin");
            let life = Duration::from_secs(3600);
            let secret =
                server::bootstrap::first_token(&mut tx, ISSUER, &mut token, life, Timestamp::now());
            let secret = secret.await.expect("token");
            tx.commit().await.expect("commit");
            secret
        })
    }

    /// Login of a new organisation that `token`'s user owns.
    pub(crate) fn organisation(&self, token: &str, name: &str) -> String {
        let made = self.ok(token, "api.v2.TenantService/Create", json!({"name": name}));
        text(&made["tenant"]["login"])
    }

    /// Id of a new project of a tenant.
    pub(crate) fn project(&self, token: &str, tenant: &str, name: &str) -> String {
        let request = json!({"login": tenant, "name": name});
        text(&self.ok(token, "api.v2.ProjectService/Create", request)["project"]["uuid"])
    }

    /// Makes a user a member of a tenant.
    pub(crate) fn member(&self, token: &str, tenant: &str, user: &str, role: &str) {
        let request =
            json!({"login": tenant, "member": user, "role": format!("TENANT_ROLE_{role}")});
        self.ok(token, "api.v2.TenantService/AddMember", request);
    }

    /// Makes a user a direct member of a project.
    pub(crate) fn project_member(&self, token: &str, project: &str, user: &str, role: &str) {
        let request =
            json!({"project": project, "member": user, "role": format!("PROJECT_ROLE_{role}")});
        self.ok(token, "api.v2.ProjectService/AddMember", request);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for running in self.running.drain(..) {
            let stopped = self
                .runtime
                .block_on(async { tokio::time::timeout(PATIENCE, running.stop()).await });
            if !std::thread::panicking() {
                stopped.expect("stops in time").expect("stops well");
            }
        }
    }
}

/// A text in an answer.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// One field of each entry of a list, joined by blanks.
pub(crate) fn column(list: &Value, field: &str) -> String {
    let entries = list.as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().map(|entry| text(&entry[field])).collect::<Vec<_>>().join(" ")
}
