//! Calls that are sent twice and done once, also when an answer is lost or the server dies.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use store::idempotency::{self, Done};
use world::{World, on_all, on_sqlite, text};

#[path = "../../store/tests/it/postgres.rs"]
mod postgres;
#[path = "tenancy/world.rs"]
mod world;

const KEY: &str = "8e03978e-40d5-43e8-bc93-6894a57f9324";
const PROJECT: &str = "api.v2.ProjectService/Create";

/// What a call was answered with.
#[derive(Debug, PartialEq)]
struct Answer {
    ok: bool,
    /// The answer of an earlier call.
    again: bool,
    body: Value,
}

impl Answer {
    fn project(&self) -> String {
        text(&self.body["project"]["uuid"])
    }

    #[track_caller]
    fn reason(&self) -> String {
        text(&self.body["details"][0]["debug"]["reason"])
    }
}

fn send(url: &str, token: &str, key: &str, method: &str, request: &Value) -> Answer {
    let mut response = world::agent()
        .post(format!("{url}/metalstack.{method}"))
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .header("idempotency-key", key)
        .send(request.to_string())
        .expect("an answer");
    let body = response.body_mut().read_to_string().expect("text");
    Answer {
        ok: response.status().is_success(),
        again: response.headers().contains_key("idempotency-replayed"),
        body: serde_json::from_str(&body).expect("JSON"),
    }
}

/// Sends a call and goes before it is answered.
fn send_and_go(url: &str, token: &str, key: &str, method: &str, request: &Value) -> TcpStream {
    let address = url.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).expect("connects");
    let body = request.to_string();
    let text = format!(
        "POST /metalstack.{method} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nidempotency-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(text.as_bytes()).expect("written");
    socket
}

fn projects(world: &World, token: &str) -> usize {
    let listed = world.ok(token, "api.v2.ProjectService/List", json!({}));
    listed["projects"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_call_with_the_same_key_is_done_once() {
    on_all(|world| {
        let alice = world.login("alice");
        let wish = json!({"login": "alice", "name": "rockets"});
        let first = send(world.url(), &alice, KEY, PROJECT, &wish);
        assert!(first.ok && !first.again, "{first:?}");
        for quoted in [KEY.to_owned(), format!("\"{KEY}\"")] {
            let second = send(world.url(), &alice, &quoted, PROJECT, &wish);
            assert!(second.ok && second.again, "{second:?}");
            assert_eq!(second.body, first.body);
        }
        assert_eq!(projects(world, &alice), 1);
        // other keys, other callers and calls without a key do what they say
        let other = send(
            world.url(),
            &alice,
            "another key would have blanks".replace(' ', "-").as_str(),
            PROJECT,
            &wish,
        );
        assert!(other.ok && !other.again);
        let bob = world.login("bob");
        let his =
            send(world.url(), &bob, KEY, PROJECT, &json!({"login": "bob", "name": "rockets"}));
        assert!(his.ok && !his.again, "{his:?}");
        world.ok(&alice, PROJECT, wish);
        assert_eq!(projects(world, &alice), 3);
        let token = json!({"expires": "3600s", "description": "ci",
            "permissions": [{"subject": "alice", "methods": ["/metalstack.api.v2.ProjectService/List"]}]});
        let create = "api.v2.TokenService/Create";
        let secret = send(world.url(), &alice, KEY, create, &token);
        assert!(secret.ok && !secret.again, "the key of another method: {secret:?}");
        let again = send(world.url(), &alice, KEY, create, &token);
        assert!(again.again && text(&again.body["secret"]).len() > 100);
        assert_eq!(again.body["secret"], secret.body["secret"]);
    });
}

#[test]
fn a_key_is_for_one_request() {
    on_sqlite(|world| {
        let alice = world.login("alice");
        let url = world.url().to_owned();
        let wish = json!({"login": "alice", "name": "rockets"});
        assert!(send(&url, &alice, KEY, PROJECT, &wish).ok);
        let other = json!({"login": "alice", "name": "boats"});
        let answer = send(&url, &alice, KEY, PROJECT, &other);
        assert_eq!(answer.body["code"], "invalid_argument");
        assert_eq!(answer.reason(), "IDEMPOTENCY_KEY_REUSED");
        let answer = send(&url, &alice, "short", PROJECT, &other);
        assert_eq!(answer.reason(), "IDEMPOTENCY_KEY_INVALID");
        // looking things up is not remembered
        let list = "api.v2.ProjectService/List";
        for _ in 0..2 {
            let answer = send(&url, &alice, KEY, list, &json!({}));
            assert!(answer.ok && !answer.again);
        }
    });
}

#[test]
fn a_refusal_is_not_remembered() {
    on_all(|world| {
        let (admin, alice) = (world.admin(), world.login("alice"));
        let project = world.project(&alice, "alice", "ours");
        let wish = json!({"project": project, "role": "PROJECT_ROLE_VIEWER"});
        let invite = "api.v2.ProjectService/Invite";
        let bob = world.login("bob");
        assert_eq!(send(world.url(), &bob, KEY, invite, &wish).body["code"], "permission_denied");
        world.project_member(&alice, &project, "bob", "OWNER");
        assert!(send(world.url(), &bob, KEY, invite, &wish).ok);
        // a right that is gone counts for answers, too
        world.ok(
            &alice,
            "api.v2.ProjectService/RemoveMember",
            json!({"project": project, "member": "bob"}),
        );
        assert_eq!(send(world.url(), &bob, KEY, invite, &wish).body["code"], "permission_denied");

        let size = |cores: &str| {
            json!({"size": {"id": "c1", "constraints": [
            {"type": "SIZE_CONSTRAINT_TYPE_CORES", "min": cores, "max": cores}]}})
        };
        let create = "admin.v2.SizeService/Create";
        world.ok(&admin, create, size("4"));
        let refused = send(world.url(), &admin, KEY, create, &size("8"));
        assert_eq!(refused.body["code"], "already_exists");
        world.ok(&admin, "admin.v2.SizeService/Delete", json!({"id": "c1"}));
        assert!(send(world.url(), &admin, KEY, create, &size("8")).ok);
    });
}

#[test]
fn callers_with_the_same_key_at_the_same_time_get_the_same_answer() {
    on_all(|world| {
        let alice = world.login("alice");
        let wish = json!({"login": "alice", "name": "rockets"});
        for round in 1..=5 {
            let key = format!("{KEY}-{round}");
            let urls: Vec<_> = (0..8).map(|_| world.url().to_owned()).collect();
            let made: BTreeSet<_> = std::thread::scope(|scope| {
                let calls: Vec<_> = urls
                    .iter()
                    .map(|url| scope.spawn(|| send(url, &alice, &key, PROJECT, &wish)))
                    .collect();
                calls.into_iter().map(|call| call.join().expect("an answer").project()).collect()
            });
            assert_eq!(made.len(), 1, "{made:?}");
            assert_eq!(projects(world, &alice), round);
        }
    });
}

#[test]
fn an_answer_that_was_lost_is_given_again() {
    on_all(|world| {
        let alice = world.login("alice");
        let wish = json!({"login": "alice", "name": "rockets"});
        for round in 1..=8_u64 {
            let key = format!("{KEY}-{round}");
            let socket = send_and_go(world.url(), &alice, &key, PROJECT, &wish);
            // it goes at once, while the call is at work, or when the answer is there
            std::thread::sleep(Duration::from_millis(round * 2));
            drop(socket);
            let answer = send(world.url(), &alice, &key, PROJECT, &wish);
            assert!(answer.ok, "{answer:?}");
            assert_eq!(projects(world, &alice) as u64, round);
        }
    });
}

#[test]
fn what_is_remembered_ends() {
    on_all(|world| {
        world.runtime.block_on(async {
            let mut tx = world.db.begin_write().await.expect("begin");
            assert!(idempotency::claim(&mut tx, "a", "asked", 10, 100).await.expect("claim"));
            assert!(!idempotency::claim(&mut tx, "a", "else", 20, 100).await.expect("claim"));
            idempotency::answer(&mut tx, "a", "told").await.expect("answer");
            let done = Done { request: "asked".to_owned(), response: "told".to_owned() };
            assert_eq!(idempotency::find(&mut tx, "a", 99).await.expect("find"), Some(done));
            assert_eq!(idempotency::find(&mut tx, "a", 100).await.expect("find"), None);
            assert!(idempotency::claim(&mut tx, "a", "else", 100, 200).await.expect("claim"));
            assert!(idempotency::claim(&mut tx, "b", "x", 100, 300).await.expect("claim"));
            assert_eq!(idempotency::sweep(&mut tx, 200).await.expect("sweep"), 1);
            assert!(idempotency::find(&mut tx, "b", 200).await.expect("find").is_some());
        });
    });
}

/// A server in a process of its own.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(database: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_metal-server"))
            .args(["serve", "--listen", "127.0.0.1:0", "--database", database])
            .args(["--max-requests-per-minute", "0"])
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stderr.take().expect("log")).lines();
        let url = loop {
            let line = lines.next().expect("the server answers").expect("text");
            if let Some((_, address)) = line.split_once("address=") {
                let address = address.split_whitespace().next().expect("an address");
                break format!("http://{address}");
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL: nothing is put in order
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }
}

#[test]
fn a_server_that_dies_has_done_it_with_its_answer_or_not_at_all() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let database = format!("sqlite:{}", folder.path().join("test.db").display());
    let token = Command::new(env!("CARGO_BIN_EXE_metal-server"))
        .args(["token", "create", "--database", &database, "--admin-role", "editor"])
        .output()
        .expect("a token");
    let token = String::from_utf8(token.stdout).expect("text").trim().to_owned();
    let wish = json!({"login": "metal-stack", "name": "rockets"});
    let mut server = Server::start(&database);
    let (mut before, mut lost) = (0, 0);
    let begun = Instant::now();
    for round in 1..=10_u64 {
        let key = format!("{KEY}-{round}");
        let socket = send_and_go(&server.url, &token, &key, PROJECT, &wish);
        std::thread::sleep(Duration::from_millis(round * 3));
        drop(server);
        drop(socket);
        server = Server::start(&database);
        let answer = send(&server.url, &token, &key, PROJECT, &wish);
        assert!(answer.ok, "{answer:?}");
        if answer.again {
            lost += 1;
        } else {
            before += 1;
        }
        let made = answer.project();
        let listed = send(&server.url, &token, KEY, "admin.v2.ProjectService/List", &json!({}));
        let all = listed.body["projects"].as_array().expect("projects");
        assert_eq!(all.len() as u64, round, "each was made once");
        assert!(all.iter().any(|project| project["uuid"] == made.as_str()));
    }
    eprintln!(
        "died before the effect {before} times, before the answer {lost} times, in {:?}",
        begun.elapsed()
    );
}
