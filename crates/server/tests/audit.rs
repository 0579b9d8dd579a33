//! The audit log and the rate limits, over the wire.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use proto::api;
use serde_json::{Value, json};
use world::{World, column, on_all, on_sqlite_with, text};

#[path = "../../store/tests/it/postgres.rs"]
mod postgres;
#[path = "tenancy/world.rs"]
mod world;

const LIST: &str = "admin.v2.AuditService/List";

/// Entries of a query as `phase user tenant method code`, one per line, without the admin's own looking.
fn log(world: &World, admin: &str, query: Value) -> String {
    traces(world, admin, query).iter().map(line).collect::<Vec<_>>().join("\n")
}

fn traces(world: &World, admin: &str, query: Value) -> Vec<Value> {
    let answer = world.ok(admin, LIST, json!({"query": query}));
    let traces = answer["traces"].as_array().cloned().unwrap_or_default();
    traces.into_iter().filter(|trace| !text(&trace["method"]).contains("AuditService")).collect()
}

fn line(trace: &Value) -> String {
    let word =
        |name: &str| trace[name].as_str().filter(|w| !w.is_empty()).unwrap_or("-").to_owned();
    let phase = word("phase").replace("AUDIT_PHASE_", "").to_lowercase();
    let method = word("method").rsplit_once(".v2.").map_or_else(String::new, |(_, m)| m.to_owned());
    let code = trace["resultCode"].as_i64().map_or_else(String::new, |code| format!(" {code}"));
    format!("{phase} {} {} {method}{code}", word("user"), word("tenant"))
}

/// Looks until it is there: what another replica recorded is stored a moment later.
#[track_caller]
fn see<T: PartialEq<U> + Debug, U: Debug>(look: impl Fn() -> T, wanted: U) {
    let end = Instant::now() + Duration::from_secs(120);
    let mut seen = look();
    while seen != wanted && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
        seen = look();
    }
    assert_eq!(seen, wanted);
}

#[test]
fn every_call_that_counts_leaves_two_entries_also_when_it_is_refused() {
    on_all(|world| {
        let (admin, alice, bob) = (world.admin(), world.login("alice"), world.login("bob"));
        let project = world.project(&alice, "alice", "ours");
        world.ok("", "api.v2.VersionService/Get", json!({}));
        world.ok(&alice, "api.v2.ProjectService/Get", json!({"project": project}));
        world.expect(
            "permission_denied",
            &bob,
            "api.v2.ProjectService/Delete",
            json!({"project": project}),
        );
        world.expect("unauthenticated", "", "admin.v2.ImageService/Usage", json!({}));
        world.expect("unauthenticated", "nonsense", "admin.v2.ImageService/Usage", json!({}));
        world.expect(
            "invalid_argument",
            &admin,
            "admin.v2.PartitionService/Create",
            json!({"partition": {"id": "x"}}),
        );
        world.expect(
            "permission_denied",
            &bob,
            "infra.v2.BootService/Boot",
            json!({"mac": "aa:aa:aa:aa:aa:aa", "partition": "fra-1"}),
        );
        see(
            || log(world, &admin, json!({})),
            "request alice alice ProjectService/Create\n\
             response alice alice ProjectService/Create 0\n\
             request bob alice ProjectService/Delete\n\
             response bob alice ProjectService/Delete 7\n\
             request - - ImageService/Usage\n\
             response - - ImageService/Usage 16\n\
             request - - ImageService/Usage\n\
             response - - ImageService/Usage 16\n\
             request operator - PartitionService/Create\n\
             response operator - PartitionService/Create 3\n\
             request bob - BootService/Boot\n\
             response bob - BootService/Boot 7",
        );
        let refused =
            traces(world, &admin, json!({"resultCode": 7, "user": "bob", "project": project}));
        assert_eq!(refused.len(), 1);
        assert!(text(&refused[0]["body"]).contains("\"permission_denied\""), "{refused:?}");
        assert_eq!(refused[0]["sourceIp"], "127.0.0.1");
        let uuid = text(&refused[0]["uuid"]);
        let get = |request| world.ok(&admin, "admin.v2.AuditService/Get", request)["trace"].clone();
        assert_eq!(get(json!({"uuid": uuid}))["phase"], "AUDIT_PHASE_REQUEST");
        assert_eq!(get(json!({"uuid": uuid, "phase": "AUDIT_PHASE_RESPONSE"})), refused[0]);
    });
}

#[test]
fn a_stream_is_recorded_when_it_is_opened() {
    on_all(|world| {
        let (admin, alice) = (world.admin(), world.login("alice"));
        let path = "/metalstack.infra.v2.BootService/Wait";
        let request = json!({"uuid": "00000000-0000-4000-8000-000000000001"});
        let answer = world.open_stream(&alice, path, &request);
        assert_eq!(answer.expect_err("refused").0, "permission_denied");
        see(
            || log(world, &admin, json!({"method": "wait"})),
            "request alice - BootService/Wait\nresponse alice - BootService/Wait 7",
        );
    });
}

#[test]
fn secrets_do_not_get_into_the_log() {
    on_all(|world| {
        let (admin, alice, bob) = (world.admin(), world.login("alice"), world.login("bob"));
        let permission = json!({"expires": "3600s", "description": "ci",
            "permissions": [{"subject": "alice", "methods": ["/metalstack.api.v2.ProjectService/List"]}]});
        let token = world.ok(&alice, "api.v2.TokenService/Create", permission);
        let project = world.project(&alice, "alice", "ours");
        let invite = world.ok(
            &alice,
            "api.v2.ProjectService/Invite",
            json!({"project": project, "role": "PROJECT_ROLE_VIEWER"}),
        );
        let secret = text(&invite["invite"]["secret"]);
        world.ok(&bob, "api.v2.ProjectService/InviteAccept", json!({"secret": secret}));

        // what was listed before is in the log, too: calls are counted, not words
        see(|| traces(world, &admin, json!({"method": "InviteAccept"})).len(), 2);
        let everything = world.ok(&admin, LIST, json!({})).to_string();
        for hidden in [text(&token["secret"]), secret] {
            assert!(hidden.len() > 8 && !everything.contains(&hidden), "{hidden}");
        }
        assert!(everything.contains("(redacted)"));
        assert!(everything.contains("TokenService/Create"));
    });
}

#[test]
fn an_owner_sees_their_tenant_only() {
    on_all(|world| {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        world.project(&alice, "alice", "ours");
        world.project(&bob, "bob", "theirs");
        let list = |token: &str, login: &str| {
            world.call(token, "api.v2.AuditService/List", json!({"login": login}))
        };
        let ours = || {
            let ours = list(&alice, "alice").expect("allowed");
            ours["traces"].as_array().cloned().unwrap_or_default()
        };
        see(|| ours().len(), 2);
        let ours = ours();
        assert!(ours.iter().all(|trace| trace["tenant"] == "alice"));
        assert_eq!(list(&bob, "alice").expect_err("refused").0, "permission_denied");

        let get = "api.v2.AuditService/Get";
        let uuid = text(&ours[0]["uuid"]);
        world.ok(&alice, get, json!({"login": "alice", "uuid": uuid}));
        world.expect("not_found", &bob, get, json!({"login": "bob", "uuid": uuid}));
    });
}

#[test]
fn a_query_filters_and_keeps_the_newest() {
    on_all(|world| {
        let (admin, alice) = (world.admin(), world.login("alice"));
        for name in ["first_100%", "second", "third"] {
            world.project(&alice, "alice", name);
        }
        let names = |query: Value| {
            traces(world, &admin, query)
                .iter()
                .map(|trace| {
                    let body: Value = serde_json::from_str(&text(&trace["body"])).expect("JSON");
                    let project = body.get("project").unwrap_or(&body);
                    text(&project["name"])
                })
                .collect::<Vec<_>>()
                .join(" ")
        };
        let requests = "AUDIT_PHASE_REQUEST";
        see(|| names(json!({"phase": requests})), "first_100% second third");
        see(|| names(json!({"resultCode": 0})), "first_100% second third");
        assert_eq!(
            names(json!({"method": "PROJECTservice/cre", "phase": requests})),
            "first_100% second third"
        );
        assert_eq!(names(json!({"body": "SECOND name", "phase": requests})), "second");
        assert_eq!(names(json!({"body": "100%", "phase": requests})), "first_100%", "no wildcard");
        assert_eq!(names(json!({"body": "first-100", "phase": requests})), "", "no wildcard");
        assert_eq!(names(json!({"user": "nobody"})), "");
        assert_eq!(names(json!({"sourceIp": "192.0.2.1"})), "");
        assert_eq!(names(json!({"method": "ProjectService", "limit": 1})), "third");
        assert_eq!(
            names(json!({"resultCode": 0, "method": "ProjectService", "limit": 2})),
            "second third",
            "the newest, oldest first"
        );
        assert_eq!(names(json!({"to": "2020-01-01T00:00:00Z"})), "");
        world.expect(
            "invalid_argument",
            &admin,
            LIST,
            json!({"query": {"from": "2030-01-01T00:00:00Z", "to": "2020-01-01T00:00:00Z"}}),
        );
        world.expect("invalid_argument", &admin, LIST, json!({"query": {"limit": 1001}}));
        world.expect(
            "not_found",
            &admin,
            "admin.v2.AuditService/Get",
            json!({"uuid": "00000000-0000-4000-8000-000000000001"}),
        );
    });
}

/// Starts a server on a database, makes a recorded call that nobody looks up, and stops the server.
async fn one_refused_call(database: &str, retention: Duration) {
    let config = server::Config {
        listen: "127.0.0.1:0".to_owned(),
        database: database.to_owned(),
        audit: server::audit::Config { retention, ..Default::default() },
        ..server::Config::default()
    };
    let running = server::start(config).await.expect("server");
    let url = format!("http://{}/metalstack.admin.v2.ImageService/Usage", running.address);
    let called = tokio::task::spawn_blocking(move || {
        let agent = world::agent();
        let answer = agent.post(url).header("content-type", "application/json").send("{}");
        answer.expect("an answer").status().as_u16()
    });
    assert_eq!(called.await.expect("a thread"), 401);
    running.stop().await.expect("stops");
}

async fn entries(database: &str) -> usize {
    let db = store::Db::open(database).await.expect("database");
    let mut tx = db.begin_read().await.expect("begin");
    let query = store::audit::Query { limit: 100, ..Default::default() };
    store::audit::find(&mut tx, &query).await.expect("entries").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_survives_a_stop_and_ages_away() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let database = format!("sqlite:{}", folder.path().join("test.db").display());
    one_refused_call(&database, Duration::from_secs(3600)).await;
    assert_eq!(entries(&database).await, 2);
    one_refused_call(&database, Duration::from_secs(3600)).await;
    assert_eq!(entries(&database).await, 4);
    // what is older than nothing is removed when the writer starts
    one_refused_call(&database, Duration::ZERO).await;
    assert_eq!(entries(&database).await, 2);
}

#[test]
fn who_calls_too_often_is_told_to_wait() {
    let limits = |config: &mut server::Config| {
        config.rate = server::rate::Config { token_per_minute: 6, address_per_minute: 3 };
    };
    on_sqlite_with(limits, |world| {
        let calls = |token: &str, method: &str| {
            let answers: Vec<_> = (0..16).map(|_| world.call(token, method, json!({}))).collect();
            let refused = answers.iter().filter(|a| world::code(a) == "resource_exhausted").count();
            assert!(
                answers.iter().all(|a| matches!(world::code(a), "ok" | "resource_exhausted")),
                "{answers:?}"
            );
            16 - refused
        };
        // a new minute may begin in between, so that at most twice as many pass
        let about = |passed: usize, limit: usize| {
            assert!((limit..=2 * limit).contains(&passed), "{passed} passed, the limit is {limit}");
        };
        about(calls("", "api.v2.VersionService/Get"), 3);
        about(calls(&world.login("alice"), "api.v2.UserService/Get"), 6);
        about(calls(&world.login("bob"), "api.v2.UserService/Get"), 6);
        assert_eq!(
            calls(&world.admin(), "api.v2.UserService/Get"),
            16,
            "operators are not limited"
        );
        assert_eq!(calls(&world.admin(), "admin.v2.ImageService/Usage"), 16);
        let (_, message) = (0..20)
            .find_map(|_| world.call("", "api.v2.VersionService/Get", json!({})).err())
            .expect("too often");
        assert!(message.contains("limit: 3") && message.contains("try again in"), "{message}");
    });
}

#[test]
fn agents_are_not_limited() {
    let limits = |config: &mut server::Config| {
        config.rate = server::rate::Config { token_per_minute: 2, address_per_minute: 2 };
    };
    on_sqlite_with(limits, |world| {
        let agent = world.token(api::Token {
            user: "agent".to_owned(),
            token_type: api::TokenType::Api.into(),
            infra_role: Some(api::InfraRole::Editor.into()),
            ..Default::default()
        });
        let ping = json!({"type": "COMPONENT_TYPE_METAL_CORE", "identifier": "leaf01",
            "startedAt": "2025-01-01T00:00:00Z", "interval": "60s"});
        for _ in 0..8 {
            world.ok(&agent, "infra.v2.ComponentService/Ping", ping.clone());
        }
        let list = world.ok(&world.admin(), "admin.v2.ComponentService/List", json!({}));
        assert_eq!(column(&list["components"], "identifier"), "leaf01");
    });
}

/// Calls a method for users so often and says how many calls passed.
async fn passed(url: &str, token: &str, calls: u32) -> u32 {
    let (url, token) = (format!("{url}/metalstack.api.v2.UserService/Get"), token.to_owned());
    let called = tokio::task::spawn_blocking(move || {
        let agent = world::agent();
        let call = || {
            let request = agent.post(&url).header("content-type", "application/json");
            let answer = request.header("authorization", format!("Bearer {token}")).send("{}");
            answer.expect("an answer").status().as_u16()
        };
        let answers: Vec<u16> = (0..calls).map(|_| call()).collect();
        assert!(answers.iter().all(|status| matches!(status, 200 | 429)), "{answers:?}");
        answers.iter().filter(|status| **status == 200).count()
    });
    u32::try_from(called.await.expect("a thread")).expect("few")
}

async fn two_replicas(database: &str) {
    let config = server::Config {
        listen: "127.0.0.1:0".to_owned(),
        database: database.to_owned(),
        rate: server::rate::Config { token_per_minute: 8, address_per_minute: 8 },
        ..server::Config::default()
    };
    let one = server::start(config.clone()).await.expect("first");
    let two = server::start(config.clone()).await.expect("second");
    let mut token = api::Token {
        user: "alice".to_owned(),
        token_type: api::TokenType::User.into(),
        ..Default::default()
    };
    let db = store::Db::open(database).await.expect("database");
    let mut tx = db.begin_write().await.expect("begin");
    let (life, now) = (Duration::from_secs(600), jiff::Timestamp::now());
    let secret = server::bootstrap::first_token(&mut tx, &config.issuer, &mut token, life, now);
    let secret = secret.await.expect("token");
    tx.commit().await.expect("commit");

    let urls = [&one, &two].map(|running| format!("http://{}", running.address));
    let count = async || {
        let mut all = 0;
        for call in 0..20 {
            all += passed(&urls[call % 2], &secret, 1).await;
        }
        all
    };
    // counting begins anew with each minute
    let mut all;
    loop {
        let begun = minute();
        all = count().await;
        if minute() == begun {
            break;
        }
        tokio::time::sleep(Duration::from_secs(60 - second())).await;
    }
    assert_eq!(all, 8, "one limit for both");
    one.stop().await.expect("stops");
    two.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_count_together_how_often_somebody_calls() {
    let postgres = postgres::Server::start();
    two_replicas(&postgres.url()).await;
}

#[test]
fn defect_36_an_entry_is_found_by_its_id_however_old_it_is() {
    on_all(|world| {
        let day = Duration::from_secs(24 * 3600);
        let call = "0194d000-0000-7000-8000-000000000001";
        world.runtime.block_on(async {
            let entry = store::audit::Entry {
                call: call.to_owned(),
                phase: 1,
                at_us: (jiff::Timestamp::now() - day).as_microsecond(),
                caller: "alice".to_owned(),
                tenant: "alice".to_owned(),
                project: None,
                method: "/metalstack.api.v2.ProjectService/Create".to_owned(),
                source: "192.0.2.1".to_owned(),
                code: None,
                body: None,
            };
            let mut tx = world.db.begin_write().await.expect("begin");
            store::audit::insert(&mut tx, &[entry]).await.expect("stored");
            tx.commit().await.expect("commit");
        });
        let admin = world.admin();
        let found = world.ok(&admin, "admin.v2.AuditService/Get", json!({"uuid": call}));
        assert_eq!(found["trace"]["user"], "alice");
        assert_eq!(log(world, &admin, json!({"user": "alice"})), "", "a list shows a working day");
        assert_eq!(
            log(world, &admin, json!({"uuid": call})),
            "request alice alice ProjectService/Create"
        );
    });
}

/// Calls a public method as if through a proxy, and says whether it passed.
fn passed_from(world: &World, address: &str) -> bool {
    let agent = world::agent();
    let call = agent
        .post(format!("{}/metalstack.api.v2.VersionService/Get", world.url()))
        .header("content-type", "application/json")
        .header("x-forwarded-for", address);
    call.send("{}").expect("an answer").status().is_success()
}

/// The minute that it is now. Counting begins anew with each.
fn minute() -> i64 {
    jiff::Timestamp::now().as_second().div_euclid(60)
}

fn second() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second().rem_euclid(60)).expect("positive")
}

/// What calls are answered with that all come in one minute, in which nobody has called before.
fn within_a_minute<T>(calls: impl Fn() -> T) -> T {
    loop {
        let begun = minute();
        let answers = calls();
        if minute() == begun {
            return answers;
        }
        std::thread::sleep(Duration::from_secs(60 - second()));
    }
}

#[test]
fn the_limit_is_exact_and_a_header_does_not_help_unless_a_trusted_proxy_wrote_it() {
    let limit = |trusted: &'static str| {
        move |config: &mut server::Config| {
            config.rate = server::rate::Config { token_per_minute: 3, address_per_minute: 3 };
            config.trusted_proxies = vec![trusted.parse().expect("a network")];
        }
    };
    on_sqlite_with(limit("198.51.100.0/24"), |world| {
        let passed: Vec<_> = within_a_minute(|| {
            (1..=5).map(|n| passed_from(world, &format!("192.0.2.{n}"))).collect()
        });
        assert_eq!(passed, [true, true, true, false, false], "defect 7: anybody can send headers");
        let alice = world.login("alice");
        let get = || world.call(&alice, "api.v2.UserService/Get", json!({})).is_ok();
        let passed: Vec<_> = within_a_minute(|| (0..5).map(|_| get()).collect());
        assert_eq!(passed, [true, true, true, false, false], "not one more");
    });
    on_sqlite_with(limit("127.0.0.0/8"), |world| {
        for n in 1..=2 {
            let pass = || passed_from(world, &format!("6.6.6.6, 192.0.2.{n}"));
            let passed: Vec<_> = within_a_minute(|| (0..4).map(|_| pass()).collect());
            assert_eq!(passed, [true, true, true, false], "each address has its own limit");
        }
    });
}

/// A collector that takes everything, except for the first time.
fn collector() -> (String, std::sync::mpsc::Receiver<(String, String)>) {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url =
        format!("http://{}/services/collector/event", listener.local_addr().expect("address"));
    let (sender, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for (n, socket) in listener.incoming().enumerate() {
            let mut socket = socket.expect("a connection");
            let mut reader = BufReader::new(socket.try_clone().expect("a socket"));
            let (mut token, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a line");
                let Some((name, value)) = line.trim_end().split_once(": ") else {
                    if line.trim_end().is_empty() {
                        break;
                    }
                    continue;
                };
                match name.to_ascii_lowercase().as_str() {
                    "authorization" => token = value.to_owned(),
                    "content-length" => length = value.parse().expect("a number"),
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let status = if n == 0 { "503 Service Unavailable" } else { "200 OK" };
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            socket.write_all(answer.as_bytes()).expect("answered");
            if n > 0 && sender.send((token, String::from_utf8(body).expect("text"))).is_err() {
                return;
            }
        }
    });
    (url, received)
}

#[test]
fn copies_go_to_a_collector_without_secrets_and_again_when_it_was_away() {
    let (url, received) = collector();
    let folder = tempfile::tempdir().expect("temporary folder");
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "collect-me\n").expect("written");
    let forward = |config: &mut server::Config| {
        let (url, token_file) = (url.clone(), Some(token_file.clone()));
        config.audit.forward = Some(server::audit::forward::Config { url, token_file });
    };
    on_sqlite_with(forward, |world| {
        let alice = world.login("alice");
        let permission = json!({"expires": "3600s", "description": "ci",
            "permissions": [{"subject": "alice", "methods": ["/metalstack.api.v2.ProjectService/List"]}]});
        let made = world.ok(&alice, "api.v2.TokenService/Create", permission);
        let mut events = Vec::new();
        while !events.iter().any(|e: &Value| e["event"]["phase"] == "response") {
            let (token, text) =
                received.recv_timeout(Duration::from_secs(120)).expect("a copy in time");
            assert_eq!(token, "Splunk collect-me");
            assert!(!text.contains(made["secret"].as_str().expect("a secret")), "no secrets");
            let stream = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
            events.extend(stream.map(|event| event.expect("JSON")));
        }
        let last = &events.last().expect("an event");
        assert_eq!(last["sourcetype"], "metal:audit");
        assert_eq!(last["event"]["method"], "/metalstack.api.v2.TokenService/Create");
        assert_eq!(last["event"]["user"], "alice");
        assert_eq!(last["event"]["result_code"], 0);
        assert!(last["time"].as_f64().is_some_and(|time| time > 1.7e9));
    });
}
