//! Logins that must not succeed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::browser::{Browser, Seen, parameter};
use crate::provider::Client;
use crate::site::{Site, TARGET, on_all, on_sqlite};

/// A server with canned answers in front of the provider, which counts who comes.
struct Middle {
    url: String,
    visits: Arc<Mutex<Vec<String>>>,
}

impl Middle {
    fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let visits = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&visits);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.expect("a connection"));
                let (mut path, mut length) = (String::new(), 0);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    if path.is_empty() {
                        path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                    }
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().expect("a number");
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                seen.lock().expect("no panic").push(path.clone());
                let text = answer(&path);
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                    text.len()
                );
                reader.get_mut().write_all(answer.as_bytes()).expect("sent");
            }
        });
        Self { url, visits }
    }
}

#[track_caller]
fn refused(seen: &Seen, status: u16, sentence: &str) {
    assert_eq!((seen.status, &seen.location), (status, &None), "{seen:?}");
    assert!(seen.text.contains(sentence), "{seen:?}");
    assert!(seen.text.trim_end().lines().count() >= 2, "no hint: {seen:?}");
}

#[test]
fn a_foreign_target_is_refused_before_anything_else_is_done() {
    let middle = Middle::start(|_| String::new());
    let url = middle.url.clone();
    let visits = Arc::clone(&middle.visits);
    on_sqlite(
        move |config, _| config.discovery_url = format!("{url}/.well-known/openid-configuration"),
        move |site| {
            let mut browser = Browser::new();
            for target in [
                "https://evil.example/",
                "http://127.0.0.1@evil.example/",
                "https://console.example/",
            ] {
                let seen = browser.get(&site.start_url(target));
                refused(&seen, 400, "an address that is not allowed");
            }
            refused(
                &browser.get(&format!("{}/auth/openid-connect", site.url)),
                400,
                "not known where",
            );
            assert!(visits.lock().expect("no panic").is_empty(), "the provider was asked");
            // an allowed one goes on, to a provider that says nothing sensible
            refused(&browser.get(&site.start_url(TARGET)), 503, "does not answer");
            assert_eq!(visits.lock().expect("no panic").len(), 1);
        },
    );
}

#[test]
fn a_state_is_used_once_and_by_the_browser_that_began() {
    on_all(|site| {
        let issuer = site.provider.issuer.as_str();
        let mut browser = Browser::new();
        let back = browser.until(&site.start_url(TARGET), "gil@a.example", issuer);
        assert!(browser.get(&back).location.is_some_and(|target| target.contains("token=")));
        refused(&browser.get(&back), 400, "was used already");

        let back = browser.until(&site.start_url(TARGET), "gil@a.example", issuer);
        refused(&Browser::new().get(&back), 400, "begun in another browser");
        refused(&browser.get(&back), 400, "was used already");

        let callback = format!("{}/auth/openid-connect/callback", site.url);
        refused(&browser.get(&format!("{callback}?state=x&code=y")), 400, "is not known");
        refused(&browser.get(&callback), 400, "belongs to no login");
        refused(&browser.get(&format!("{}/auth/other", site.url)), 404, "no such page");
    });
}

#[test]
fn a_code_is_used_once_and_only_with_its_verifier() {
    on_all(|site| {
        let issuer = site.provider.issuer.as_str();
        let mut browser = Browser::new();
        let first = browser.until(&site.start_url(TARGET), "hal@a.example", issuer);
        let code = parameter(&first, "code").expect("a code");
        assert!(browser.get(&first).location.is_some());
        // the code of one login with the state of another: replayed and, worse, somebody else's
        for wrong in [code.clone(), "made-up".to_owned()] {
            let start = browser.get(&site.start_url(TARGET)).location.expect("the provider");
            let state = parameter(&start, "state").expect("a state");
            let back =
                format!("{}/auth/openid-connect/callback?state={state}&code={wrong}", site.url);
            refused(&browser.get(&back), 400, "does not accept the code");
        }
        let fresh = browser.until(&site.start_url(TARGET), "hal@a.example", issuer);
        let stolen = parameter(&fresh, "code").expect("a code");
        let start = browser.get(&site.start_url(TARGET)).location.expect("the provider");
        let state = parameter(&start, "state").expect("a state");
        let back = format!("{}/auth/openid-connect/callback?state={state}&code={stolen}", site.url);
        refused(&browser.get(&back), 400, "does not accept the code");
    });
}

#[test]
fn a_login_that_took_too_long_is_refused() {
    on_all(|site| {
        let mut browser = Browser::new();
        let now_us = Timestamp::now().as_microsecond();
        let cookie = "c".repeat(43);
        let digest = |text: &str| {
            use base64::Engine as _;
            let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
        };
        let login = store::login::Login {
            id: digest("old"),
            browser: digest(&cookie),
            nonce: "n".to_owned(),
            verifier: "v".to_owned(),
            redirect: TARGET.to_owned(),
            expires_at_us: now_us - 1,
        };
        site.runtime.block_on(async {
            let db = store::Db::open(&site.database).await.expect("database");
            let mut tx = db.begin_write().await.expect("begin");
            store::login::insert(&mut tx, &login, now_us).await.expect("inserted");
            tx.commit().await.expect("commit");
        });
        let back = format!("{}/auth/openid-connect/callback?state=old&code=y", site.url);
        refused(&browser.get(&back), 400, "took more than 10 minutes");
        refused(&browser.get(&back), 400, "was used already");
    });
}

#[test]
fn who_aborts_is_told_so() {
    on_sqlite(
        |_, _| {},
        |site| {
            let mut browser = Browser::new();
            let start = browser.get(&site.start_url(TARGET)).location.expect("the provider");
            let form = browser.get(&start).location.expect("a form");
            let aborted = browser.get(&format!("{form}/abort")).location.expect("resumes");
            let back = browser.get(&aborted).location.expect("back");
            refused(&browser.get(&back), 403, "did not let you in: End-User aborted interaction");
        },
    );
}

#[test]
fn an_address_of_mail_that_is_not_verified_is_nobody() {
    on_all(|site| {
        site.provider.person("ida@a.example", &json!({"email_verified": false}));
        let mut browser = Browser::new();
        let between = [site.url.as_str(), &site.provider.issuer];
        let seen = browser.log_in(&site.start_url(TARGET), "ida@a.example", &between);
        refused(&seen.expect_err("no token"), 403, "ida@a.example is not verified");
        site.provider.person("ida@a.example", &json!({"email": null}));
        let seen = browser.log_in(&site.start_url(TARGET), "ida@a.example", &between);
        refused(&seen.expect_err("no token"), 403, "did not tell your 'email'");
    });
}

/// An identity token that the provider made for another client, in a login of that client with the nonce of ours.
fn foreign_token(site: &Site, client: &Client, back: &str, nonce: &str) -> String {
    let verifier = "v".repeat(43);
    let challenge = {
        use base64::Engine as _;
        let digest = ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes());
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
    };
    let start = format!(
        "{}/auth?response_type=code&client_id={}&redirect_uri={back}&scope=openid&nonce={nonce}&code_challenge={challenge}&code_challenge_method=S256",
        site.provider.issuer, client.id
    );
    let landed = Browser::new().log_in(&start, "eve@a.example", &[&site.provider.issuer]);
    let code = parameter(&landed.expect("a code"), "code").expect("a code");
    let basic = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", client.id, client.secret))
    };
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", back),
        ("code_verifier", &verifier),
    ];
    let mut response = ureq::post(format!("{}/token", site.provider.issuer))
        .header("authorization", format!("Basic {basic}"))
        .send_form(form)
        .expect("tokens");
    let tokens: Value =
        serde_json::from_str(&response.body_mut().read_to_string().expect("text")).expect("JSON");
    tokens["id_token"].as_str().expect("an identity token").to_owned()
}

#[test]
fn an_identity_token_for_another_client_or_login_is_refused() {
    let given = Arc::new(Mutex::new(String::new()));
    let document = Arc::new(Mutex::new(String::new()));
    let (token, said) = (Arc::clone(&given), Arc::clone(&document));
    // a provider between us and the real one that hands out what it got elsewhere
    let middle = Middle::start(move |path| match path {
        "/token" => json!({"id_token": *token.lock().expect("no panic")}).to_string(),
        _ => said.lock().expect("no panic").clone(),
    });
    let url = middle.url.clone();
    on_sqlite(
        move |config, provider| {
            let mut response = ureq::get(provider.discovery_url()).call().expect("a document");
            let text = response.body_mut().read_to_string().expect("text");
            let mut said: Value = serde_json::from_str(&text).expect("JSON");
            said["token_endpoint"] = json!(format!("{url}/token"));
            *document.lock().expect("no panic") = said.to_string();
            config.discovery_url = format!("{url}/.well-known/openid-configuration");
        },
        move |site| {
            let mut browser = Browser::new();
            let back = "http://127.0.0.1:9/other";
            let other = site.provider.register(back);
            let mut attempt = |client: &Client,
                               back: &str,
                               nonce: Option<&str>,
                               change: &dyn Fn(String) -> String| {
                let start = browser.get(&site.start_url(TARGET)).location.expect("the provider");
                let (state, ours) = (parameter(&start, "state"), parameter(&start, "nonce"));
                let ours = ours.expect("a nonce");
                let foreign = foreign_token(site, client, back, nonce.unwrap_or(&ours));
                *given.lock().expect("no panic") = change(foreign);
                let state = state.expect("a state");
                browser
                    .get(&format!("{}/auth/openid-connect/callback?state={state}&code=x", site.url))
            };
            let own_back = format!("{}/auth/openid-connect/callback", site.url);
            let same = |token: String| token;
            let seen = attempt(&other, back, None, &same);
            refused(&seen, 401, "its audience is somebody else");
            let seen = attempt(&site.client, &own_back, Some("other"), &same);
            refused(&seen, 401, "belongs to another login");
            let broken = |token: String| {
                let (signed, signature) = token.rsplit_once('.').expect("a token");
                let first = if signature.starts_with('A') { "B" } else { "A" };
                format!("{signed}.{first}{}", &signature[1..])
            };
            let seen = attempt(&site.client, &own_back, None, &broken);
            refused(&seen, 401, "its signature is wrong");
            // everything right, but no mail address, because this middle gives no access token
            let seen = attempt(&site.client, &own_back, None, &same);
            refused(&seen, 403, "did not tell your 'email'");
        },
    );
}

#[test]
fn a_provider_that_is_down_costs_a_sentence() {
    // a port at which nobody answers, and one that takes connections and says nothing
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    for address in [closed, silent.local_addr().expect("an address")] {
        on_sqlite(
            move |config, _| {
                config.discovery_url = format!("http://{address}/.well-known/openid-configuration");
            },
            |site| {
                let mut browser = Browser::new();
                let seen = browser.get(&site.start_url(TARGET));
                refused(&seen, 503, "The identity provider does not answer.");
                // the next one does not wait again for the ten seconds that silence lasts, if it comes soon
                let mut took = Vec::new();
                while !took.iter().any(|took| *took < Duration::from_secs(8)) {
                    assert!(took.len() < 3, "{took:?}");
                    let begun = Instant::now();
                    refused(&browser.get(&site.start_url(TARGET)), 503, "does not answer");
                    took.push(begun.elapsed());
                }
                // logging out needs no provider
                let seen = browser.get(&format!("{}/auth/logout/openid-connect", site.url));
                assert_eq!((seen.status, seen.location), (200, None));
            },
        );
    }
}

#[test]
fn without_a_provider_there_is_a_sentence() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let running = runtime.block_on(server::start(server::Config {
        listen: "127.0.0.1:0".to_owned(),
        database: format!("sqlite:{}", folder.path().join("test.db").display()),
        ..server::Config::default()
    }));
    let running = running.expect("server");
    let url = format!("http://{}/auth/openid-connect?redirect-url={TARGET}", running.address);
    refused(&Browser::new().get(&url), 404, "Login is not configured.");
    let answer = ureq::post(format!("http://{}/auth/openid-connect", running.address)).send_empty();
    assert!(matches!(answer, Err(ureq::Error::StatusCode(405))), "{answer:?}");
    runtime.block_on(running.stop()).expect("stops");
}
