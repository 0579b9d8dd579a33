//! A server whose people log in at the provider.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use server::auth::login::{Config, Secret};
use tokio::runtime::Runtime;

use crate::browser::Browser;
use crate::certificate;
use crate::postgres;
use crate::provider::{self, Client, Provider};

/// Where tokens go in these tests; nobody listens there.
pub(crate) const TARGET: &str = "http://127.0.0.1:9/callback";

/// A running server.
pub(crate) struct Site {
    pub(crate) provider: Arc<Provider>,
    pub(crate) url: String,
    pub(crate) client: Client,
    pub(crate) database: String,
    pub(crate) runtime: Runtime,
    running: Vec<server::Running>,
}

/// Runs a test on each engine, and with TLS on two replicas that take turns.
pub(crate) fn on_all(test: impl Fn(&Site)) {
    on_sqlite(|_, _| {}, &test);
    let postgres = postgres::Server::start();
    test(&Site::start(&postgres.url(), |_, _| {}));
    let postgres = postgres::Server::start();
    test(&Site::replicas(&postgres.url()));
}

/// Runs a test on SQLite with a different configuration, given the provider.
pub(crate) fn on_sqlite(change: impl Fn(&mut Config, &Provider), test: impl Fn(&Site)) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let url = format!("sqlite:{}", folder.path().join("test.db").display());
    test(&Site::start(&url, change));
}

impl Site {
    fn start(database: &str, change: impl Fn(&mut Config, &Provider)) -> Self {
        // the provider must know the address before the server has it
        let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        let address = free.expect("a free port").to_string();
        let (mut site, mut config) = Self::begin(&format!("http://{address}"), database);
        change(config.login.as_mut().expect("a login"), &site.provider);
        config.listen = address;
        site.running.push(site.runtime.block_on(server::start(config)).expect("server"));
        site
    }

    /// Two replicas with TLS; each connection goes to the other one.
    fn replicas(database: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (mut site, mut config) = Self::begin(&format!("https://{address}"), database);
        config.tls = Some(certificate::shared().server());
        config.listen = "127.0.0.1:0".to_owned();
        for _ in 0..2 {
            let running = site.runtime.block_on(server::start(config.clone())).expect("server");
            site.running.push(running);
        }
        let behind = site.running.iter().map(|running| running.address).collect();
        std::thread::spawn(move || take_turns(&listener, behind));
        site
    }

    /// What a server at `url` needs before it starts.
    fn begin(url: &str, database: &str) -> (Self, server::Config) {
        let provider = provider::shared();
        let client = provider.register(&format!("{url}/auth/openid-connect/callback"));
        let login = Config {
            discovery_url: provider.discovery_url(),
            client_id: client.id.clone(),
            client_secret: Some(Secret::Text(client.secret.clone())),
            end_session_url: None,
            unique_user_key: "email".to_owned(),
            redirect_urls: vec!["https://console.example/login/auth".to_owned()],
            front_end_url: None,
            ca_cert: None,
        };
        let config = server::Config {
            database: database.to_owned(),
            issuer: url.to_owned(),
            login: Some(login),
            rate: server::rate::Config { token_per_minute: 0, address_per_minute: 0 },
            ..server::Config::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("runtime");
        let (url, database) = (url.to_owned(), database.to_owned());
        (Self { provider, url, client, database, runtime, running: Vec::new() }, config)
    }

    /// Where a login begins that sends its token to `target`.
    pub(crate) fn start_url(&self, target: &str) -> String {
        format!("{}/auth/openid-connect?redirect-url={target}", self.url)
    }

    /// Logs somebody in; the token.
    #[track_caller]
    pub(crate) fn log_in(&self, browser: &mut Browser, name: &str) -> String {
        let between = [self.url.as_str(), &self.provider.issuer];
        let landed = browser.log_in(&self.start_url(TARGET), name, &between);
        let landed = landed.expect("a token");
        let token = landed.strip_prefix(&format!("{TARGET}?token="));
        token.unwrap_or_else(|| panic!("no token: {landed}")).to_owned()
    }

    /// Calls a method, for instance `UserService/Get`: the status and the answer.
    pub(crate) fn call(&self, token: &str, method: &str, request: Value) -> (u16, Value) {
        let mut response = certificate::agent()
            .post(format!("{}/metalstack.{method}", self.url))
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"))
            .send(request.to_string())
            .expect("an answer");
        let text = response.body_mut().read_to_string().expect("text");
        (response.status().as_u16(), serde_json::from_str(&text).expect("JSON"))
    }

    /// Who a token speaks for.
    #[track_caller]
    pub(crate) fn user(&self, token: &str) -> Value {
        let (status, answer) = self.call(token, "api.v2.UserService/Get", json!({}));
        assert_eq!(status, 200, "{answer}");
        answer["user"].clone()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for running in self.running.drain(..) {
            let stop =
                async { tokio::time::timeout(Duration::from_secs(120), running.stop()).await };
            let stopped = self.runtime.block_on(stop);
            if !std::thread::panicking() {
                stopped.expect("stops in time").expect("stops well");
            }
        }
    }
}

/// Hands connections to the ones behind in turn, for as long as the test program lives.
fn take_turns(listener: &TcpListener, behind: Vec<SocketAddr>) {
    for (client, to) in listener.incoming().zip(behind.iter().cycle()) {
        let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else { continue };
        let copy = |mut from: TcpStream, mut to: TcpStream| {
            std::thread::spawn(move || {
                // whoever ends ends both
                drop(io::copy(&mut from, &mut to));
                drop(from.shutdown(std::net::Shutdown::Both));
                drop(to.shutdown(std::net::Shutdown::Both));
            });
        };
        copy(client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
        copy(server, client);
    }
}
