//! `login`, `logout`, `whoami`: who calls.

use std::io::{IsTerminal as _, Read as _};
use std::time::Duration;

use base64::Engine as _;
use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::app::{flag, flag_without_value, verb};
use crate::column;
use crate::context::Context;
use crate::contract;
use crate::error::{Error, Kind, Result};
use crate::output::{Answer, Content, Shape};
use crate::session::{Session, note};

/// How long a browser may take.
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) fn command(_: &str) -> Command {
    verb("login", "Get a token and keep it in the context")
        .long_about(
            "Get a token and keep it in the context. Opens a browser at the server's login page and waits for it to come \
             back; where there is no browser the URL can be opened on any machine that reaches this one, or a token is \
             piped in with --token-stdin. The first project becomes the default one if there is none.",
        )
        .arg(flag("provider", "NAME", "Login provider").default_value("openid-connect"))
        .arg(flag_without_value("print-url", "Only print the URL, open no browser"))
        .arg(flag_without_value("token-stdin", "Take the token from standard input"))
        .arg(flag_without_value("refresh", "Exchange the token for a new one with the same rights"))
        .after_help("Examples:\n  metalctl login --api-url https://api.example --context prod\n  metal-server token create --admin-role editor | metalctl login --token-stdin --api-url http://localhost:8080 --context lab")
}

pub(crate) async fn run(session: &Session, matches: &ArgMatches) -> Result<()> {
    let token = if matches.get_flag("refresh") {
        let answer =
            session.call_path("/metalstack.api.v2.TokenService/Refresh", &json!({})).await?;
        let secret = answer.get("secret").and_then(Value::as_str).map(str::to_owned);
        secret.ok_or_else(|| Error::failed("the server answered without a token"))?
    } else if matches.get_flag("token-stdin") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        text.trim().to_owned()
    } else {
        browser(session, matches).await?
    };
    if token.is_empty() || claims(&token).is_none() {
        return Err(Error::usage("this is no token of the API")
            .hint("a token has three parts with dots between them"));
    }
    keep(session, token).await
}

/// Stores the token, and what it opens, in the context.
async fn keep(session: &Session, token: String) -> Result<()> {
    let mut config = session.config.clone();
    let mut context = session
        .context
        .clone()
        .unwrap_or_else(|| Context { name: "default".into(), ..Context::default() });
    context.token = Some(token.clone());
    context.url = Some(session.url()?.to_owned());
    let client = client::Client::new(client::Config {
        url: session.url()?.to_owned(),
        token: client::TokenSource::Static(token),
        ca_cert_pem: None,
    })
    .map_err(|e| Error::usage(e.to_string()))?;
    let path = "/metalstack.api.v2.UserService/Get";
    let answer = client.call_json(path, &json!({})).await;
    let answer =
        answer.map_err(|error| Error::call(&error, path, session.url().unwrap_or_default()))?;
    if context.project.is_none() {
        let first = answer.pointer("/user/projects/0/uuid").and_then(Value::as_str);
        context.project = first.map(str::to_owned);
    }
    config.put(&context);
    config.switch(&context.name)?;
    config.save(&session.config_path)?;
    let login = answer.pointer("/user/login").and_then(Value::as_str).unwrap_or("?");
    note(&format!("logged in as {login}, context '{}'", context.name));
    Ok(())
}

/// The token that the server's login page sends back to this machine.
async fn browser(session: &Session, matches: &ArgMatches) -> Result<String> {
    let provider = matches.get_one::<String>("provider").map_or("openid-connect", String::as_str);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let back = format!("http://{}/callback", listener.local_addr()?);
    let url =
        format!("{}/auth/{provider}?redirect-url={back}", session.url()?.trim_end_matches('/'));
    note(&format!("log in at\n  {url}"));
    if !matches.get_flag("print-url") && std::io::stderr().is_terminal() {
        open(&url);
    }
    let waiting = async {
        loop {
            let (mut stream, _) = listener.accept().await?;
            let mut request = vec![0; 16 << 10];
            let length = stream.read(&mut request).await?;
            let line = String::from_utf8_lossy(&request[..length])
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned();
            let token = token_of(&line);
            let text = match token {
                Some(_) => "You are logged in. This window can be closed.",
                None => "This page only takes the answer of a login.",
            };
            let status = if token.is_some() { "200 OK" } else { "404 Not Found" };
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                text.len()
            );
            stream.write_all(answer.as_bytes()).await?;
            if let Some(token) = token {
                return Ok::<_, Error>(token);
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.map_err(|_| {
        Error::new(Kind::Timeout, "nobody logged in within 5 minutes")
            .hint("without a browser: metalctl login --token-stdin")
    })?
}

/// The token in the first line of a request for the call-back.
fn token_of(line: &str) -> Option<String> {
    let target = line.strip_prefix("GET ")?.split(' ').next()?;
    let query = target.strip_prefix("/callback?")?;
    let token = query.split('&').find_map(|pair| pair.strip_prefix("token="))?;
    // A token needs no escapes.
    let fits = token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    (fits && !token.is_empty()).then(|| token.to_owned())
}

fn open(url: &str) {
    let program = std::env::var("BROWSER").unwrap_or_else(|_| {
        if cfg!(target_os = "macos") { "open".into() } else { "xdg-open".into() }
    });
    let quiet = || std::process::Stdio::null();
    drop(
        std::process::Command::new(program)
            .arg(url)
            .stdin(quiet())
            .stdout(quiet())
            .stderr(quiet())
            .spawn(),
    );
}

/// What a token says about itself. It is not checked: the server does.
pub(crate) fn claims(token: &str) -> Option<Value> {
    let mut parts = token.trim().split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice(&claims).ok()
}

pub(crate) fn logout_command(_: &str) -> Command {
    verb("logout", "Revoke the token of the context and forget it")
        .arg(flag_without_value("keep-token", "Only forget it"))
        .after_help("Examples:\n  metalctl logout")
}

pub(crate) async fn logout(session: &Session, matches: &ArgMatches) -> Result<()> {
    let mut context =
        session.context.clone().ok_or_else(|| Error::usage("there is no context to log out of"))?;
    let token = context
        .token
        .take()
        .ok_or_else(|| Error::usage(format!("context '{}' holds no token", context.name)))?;
    let id = claims(&token).and_then(|claims| claims.get("jti")?.as_str().map(str::to_owned));
    let revoked = match id {
        Some(id) if !matches.get_flag("keep-token") => session
            .call_path("/metalstack.api.v2.TokenService/Revoke", &json!({ "uuid": id }))
            .await
            .map(drop),
        _ => Ok(()),
    };
    let mut config = session.config.clone();
    config.put(&context);
    config.save(&session.config_path)?;
    match revoked {
        // An expired token needs no revocation.
        Err(error) if error.kind != Kind::Denied => {
            Err(error.hint("the token is forgotten here, but stays valid until it expires"))
        }
        _ => {
            note(&format!("logged out of context '{}'", context.name));
            Ok(())
        }
    }
}

pub(crate) fn whoami_command(_: &str) -> Command {
    verb("whoami", "Who you are for the server")
        .after_help("Examples:\n  metalctl whoami -o jsonpath={.login}")
}

pub(crate) async fn whoami(session: &Session, _: &ArgMatches) -> Result<()> {
    let mut answer = session.call_path("/metalstack.api.v2.UserService/Get", &json!({})).await?;
    let user = answer.get_mut("user").map(Value::take).unwrap_or_default();
    let answer = Answer {
        content: Content::One(user),
        message: contract::Message::find("metalstack.api.v2.User"),
        columns: column::USER,
        id: "login",
        noun: "user",
    };
    session.show(answer, "table", &Shape::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_backs() {
        assert_eq!(
            token_of("GET /callback?token=a.b-c.d_e HTTP/1.1").as_deref(),
            Some("a.b-c.d_e")
        );
        assert_eq!(token_of("GET /callback?x=y&token=abc HTTP/1.1").as_deref(), Some("abc"));
        for line in [
            "GET /favicon.ico HTTP/1.1",
            "GET /callback?token= HTTP/1.1",
            "POST /callback?token=a HTTP/1.1",
            "GET /callback?token=a%0a HTTP/1.1",
            "",
        ] {
            assert_eq!(token_of(line), None, "{line}");
        }
    }

    #[test]
    fn tokens_tell_their_id() {
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(br#"{"jti":"x"}"#);
        assert_eq!(super::claims(&format!("h.{claims}.s")).unwrap()["jti"], "x");
        assert_eq!(super::claims("abc"), None);
    }
}
