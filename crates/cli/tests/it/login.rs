//! `metalctl login`, renewal and `logout` against a server in this process and a real OpenID provider.

#[path = "../../../server/tests/login/browser.rs"]
#[allow(dead_code, reason = "shared with the server's tests, which need more")]
mod browser;
#[path = "../../../server/tests/login/certificate.rs"]
#[allow(dead_code, reason = "shared with the server's tests, which need more")]
mod certificate;
#[path = "../../../server/tests/login/provider.rs"]
#[allow(dead_code, reason = "shared with the server's tests, which need more")]
mod provider;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proto::api;
use server::auth::login::{Config, Secret};
use tokio::runtime::Runtime;

use browser::Browser;
use provider::Provider;

struct Site {
    home: tempfile::TempDir,
    url: String,
    provider: Arc<Provider>,
    runtime: Runtime,
    running: Option<server::Running>,
}

impl Site {
    fn start() -> Self {
        let provider = provider::shared();
        let home = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap();
        let url = format!("http://{address}");
        let client = provider.register(&format!("{url}/auth/openid-connect/callback"));
        let config = server::Config {
            listen: address.to_string(),
            database: format!("sqlite:{}", home.path().join("metal.db").display()),
            issuer: url.clone(),
            login: Some(Config {
                discovery_url: provider.discovery_url(),
                client_id: client.id,
                client_secret: Some(Secret::Text(client.secret)),
                end_session_url: None,
                unique_user_key: "email".to_owned(),
                redirect_urls: Vec::new(),
                front_end_url: None,
                ca_cert: None,
            }),
            rate: server::rate::Config { token_per_minute: 0, address_per_minute: 0 },
            ..server::Config::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let running = Some(runtime.block_on(server::start(config)).unwrap());
        Self { home, url, provider, runtime, running }
    }

    fn metalctl(&self, line: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_metalctl"))
            .args(line.split(' '))
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs a command that must work.
    #[track_caller]
    fn ok(&self, line: &str) -> String {
        let output = self.metalctl(line).wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        text(&output.stdout) + &text(&output.stderr)
    }

    /// Begins a login: the process, what it says, and where a browser must go.
    fn begin(&self, line: &str) -> (Child, BufReader<std::process::ChildStderr>, String) {
        let mut child = self.metalctl(line);
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut url = String::new();
        while !url.trim().starts_with("http") {
            url.clear();
            assert!(said.read_line(&mut url).unwrap() > 0, "no URL");
        }
        (child, said, url.trim().to_owned())
    }

    /// The address on this machine at which the browser of somebody who logs in ends.
    fn landed(&self, url: &str, name: &str) -> String {
        let between = [self.url.as_str(), &self.provider.issuer];
        Browser::new().log_in(url, name, &between).expect("a token")
    }

    fn config(&self) -> String {
        std::fs::read_to_string(self.home.path().join(".metal-stack/config.yaml")).unwrap()
    }

    fn token(&self) -> String {
        let config = self.config();
        let token = config.lines().find_map(|line| line.split_once("api-token: "));
        token.expect("a token").1.trim_matches('"').to_owned()
    }

    /// How many tokens of logins the server knows.
    fn tokens(&self, owner: &str) -> usize {
        self.runtime.block_on(async {
            let db = self.db().await;
            let mut tx = db.begin_read().await.unwrap();
            let now = Timestamp::now().as_microsecond();
            store::token::list(&mut tx, Some(owner), now).await.unwrap().len()
        })
    }

    async fn db(&self) -> store::Db {
        let url = format!("sqlite:{}", self.home.path().join("metal.db").display());
        store::Db::open(&url).await.unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let stop =
                async { tokio::time::timeout(Duration::from_secs(120), running.stop()).await };
            drop(self.runtime.block_on(stop));
        }
    }
}

#[test]
fn a_person_comes_and_leaves() {
    let site = Site::start();
    let (child, _said, url) = site.begin(&format!("login --api-url {}", site.url));
    assert!(
        url.starts_with(&format!(
            "{}/auth/openid-connect?redirect-url=http://127.0.0.1:",
            site.url
        )),
        "{url}"
    );
    let landed = site.landed(&url, "ann@a.example");
    let mut browser = Browser::new();
    // somebody who does not know the address brings nothing
    let (base, token) = landed.split_once('?').unwrap();
    let other = base.rsplit_once('/').unwrap().0;
    assert_eq!(browser.get(&format!("{other}/guessed?{token}")).status, 404);
    let page = browser.get(&landed);
    assert!(page.text.contains("You are logged in."), "{page:?}");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let file = site.home.path().join(".metal-stack/config.yaml");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let owner = "ann@a.example@openid-connect";
    assert_eq!(site.ok("whoami -o jsonpath={.login}").trim(), owner);
    let first = site.token();
    site.ok("login --refresh");
    assert_ne!(site.token(), first);
    assert_eq!(site.tokens(owner), 2);
    let said = site.ok("logout");
    assert!(said.contains("/auth/logout/openid-connect"), "{said}");
    assert_eq!(site.tokens(owner), 0);
    assert!(!site.config().contains("api-token"));
}

#[test]
fn the_address_of_a_browser_elsewhere_is_pasted_and_operators_are_asked_for() {
    let site = Site::start();
    let owner = "ops@a.example@openid-connect";
    site.runtime.block_on(async {
        let mut tx = site.db().await.begin_write().await.unwrap();
        let level = server::auth::Level::Editor;
        server::bootstrap::ensure_operator(&mut tx, owner, level, Timestamp::now()).await.unwrap();
        tx.commit().await.unwrap();
    });
    let line = format!("login --no-browser --admin-role editor --api-url {}", site.url);
    let (mut child, _said, url) = site.begin(&line);
    let landed = site.landed(&url, "ops@a.example");
    writeln!(child.stdin.as_mut().unwrap(), "what?\n{landed}").unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    assert!(site.ok("admin tenant list").contains(owner));
    assert_eq!(site.tokens(owner), 2, "that of the login and that of the operator");
    site.ok("logout");
    assert_eq!(site.tokens(owner), 0);
}

#[test]
fn a_token_near_its_end_is_renewed_by_the_next_command() {
    let site = Site::start();
    let made = |minutes_ago: i64, kind: api::TokenType| {
        site.runtime.block_on(async {
            let then = Timestamp::now() - SignedDuration::from_mins(minutes_ago);
            let mut tx = site.db().await.begin_write().await.unwrap();
            let mut token = api::Token {
                user: "bob".to_owned(),
                token_type: kind.into(),
                ..Default::default()
            };
            let life = Duration::from_secs(3600);
            let made = server::bootstrap::first_token(&mut tx, &site.url, &mut token, life, then);
            let made = made.await.unwrap();
            tx.commit().await.unwrap();
            made
        })
    };
    for (minutes_ago, kind, renewed) in [
        (50, api::TokenType::User, true),
        (30, api::TokenType::User, false),
        (50, api::TokenType::Api, false),
    ] {
        let old = made(minutes_ago, kind);
        site.ok(&format!(
            "context add c{minutes_ago} --activate --api-url {} --api-token {old}",
            site.url
        ));
        site.ok("context list");
        assert!(site.config().contains(&old), "renewed without need");
        let output = site.metalctl("whoami").wait_with_output().unwrap();
        assert_eq!(!site.config().contains(&old), renewed, "{minutes_ago} {kind:?} {output:?}");
        assert!(output.status.success(), "{output:?}");
        site.ok(&format!("context remove c{minutes_ago}"));
    }
}
