//! `login`, `logout`, `whoami`: who calls.

mod callback;
mod renew;

use std::io::{IsTerminal as _, Read as _};

use base64::Engine as _;
use clap::{ArgMatches, Command};
use serde_json::{Value, json};

use callback::Callback;

use crate::app::{flag, flag_without_value, verb};
use crate::column;
use crate::context::Context;
use crate::contract;
use crate::error::{Error, Kind, Result};
use crate::output::{Answer, Content, Shape};
use crate::session::{Session, note};

/// Label of tokens that the same login has led to; the server gives it.
const LOGIN_LABEL: &str = "auth.metal-stack.io/login";
/// So long the token of an operator is valid that `--admin-role` asks for.
const ADMIN_LIFE: &str = "10800s";

pub(crate) fn command(_: &str) -> Command {
    verb("login", "Get a token and keep it in the context")
        .long_about(
            "Get a token and keep it in the context. Opens a browser at the server's login page and waits for it to come \
             back; where there is none, open the printed URL anywhere and paste the address at which that browser ends, or pipe a \
             token in with --token-stdin. The first project becomes the default one if there is none. The token of a login is \
             renewed by later commands when it comes near its end.",
        )
        .arg(flag("provider", "NAME", "Login provider").default_value("openid-connect"))
        .arg(
            flag_without_value("no-browser", "Only print the URL; the address at which a browser ends can be pasted")
                .alias("print-url"),
        )
        .arg(
            flag("admin-role", "ROLE", "Ask for an operator's token, for 3 hours")
                .value_parser(["editor", "viewer"]),
        )
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
    let token = match matches.get_one::<String>("admin-role") {
        Some(role) => operator(session, token.trim(), role).await?,
        None => token,
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
    let client = client_of(session, token)?;
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
    let mut secret = [0; 16];
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut secret))?;
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret);
    let callback = Callback::open(&secret).await?;
    let url = format!(
        "{}/auth/{provider}?redirect-url={}",
        session.url()?.trim_end_matches('/'),
        callback.url()?
    );
    let alone = matches.get_flag("no-browser");
    note(&format!("log in at\n  {url}"));
    if alone {
        note("then paste the address at which the browser ends, if it runs on another machine");
    } else if std::io::stderr().is_terminal() {
        open(&url);
    }
    callback.wait(alone).await
}

/// A client with another token than that of the context.
fn client_of(session: &Session, token: String) -> Result<client::Client> {
    session.client_with(client::TokenSource::Static(token))
}

/// The token of an operator, made with that of a login and ended with it.
async fn operator(session: &Session, token: &str, role: &str) -> Result<String> {
    let client = client_of(session, token.to_owned())?;
    let path = "/metalstack.api.v2.TokenService/Create";
    let url = session.url()?;
    let mut request = json!({
        "description": "metalctl login",
        "expires": ADMIN_LIFE,
        "adminRole": format!("ADMIN_ROLE_{}", role.to_uppercase()),
    });
    if let Some(login) = login_of(&client, token).await {
        request["labels"] = json!({"labels": {LOGIN_LABEL: login}});
    }
    let answer = client.call_json(path, &request).await;
    let answer = answer.map_err(|error| Error::call(&error, path, url))?;
    let secret = answer.get("secret").and_then(Value::as_str).map(str::to_owned);
    secret.ok_or_else(|| Error::failed("the server answered without a token"))
}

/// Id of the login that has led to a token.
async fn login_of(client: &client::Client, token: &str) -> Option<String> {
    let id = claims(token)?.get("jti")?.as_str()?.to_owned();
    let path = "/metalstack.api.v2.TokenService/Get";
    let answer = client.call_json(path, &json!({ "uuid": id })).await.ok()?;
    Some(answer["token"]["meta"]["labels"]["labels"][LOGIN_LABEL].as_str()?.to_owned())
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
    let revoked =
        if matches.get_flag("keep-token") { Ok(()) } else { revoke(session, &token).await };
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
            if claims(&token).is_some_and(|claims| claims["type"] == "TOKEN_TYPE_USER")
                && let Ok(url) = session.url()
            {
                let url = url.trim_end_matches('/');
                note(&format!(
                    "the browser stays logged in until you open\n  {url}/auth/logout/openid-connect"
                ));
            }
            Ok(())
        }
    }
}

/// Revokes a token and all others that the same login has led to: those that it was renewed from and into.
async fn revoke(session: &Session, token: &str) -> Result<()> {
    let Some(own) = claims(token).and_then(|claims| claims.get("jti")?.as_str().map(str::to_owned))
    else {
        return Ok(());
    };
    let client = client_of(session, token.to_owned())?;
    let url = session.url()?;
    let call = async |path: &str, request: Value| {
        client.call_json(path, &request).await.map_err(|error| Error::call(&error, path, url))
    };
    let mut ids = Vec::new();
    if let Some(login) = login_of(&client, token).await {
        let query = json!({"query": {"labels": {"labels": {LOGIN_LABEL: login}}}});
        let answer = call("/metalstack.api.v2.TokenService/List", query).await?;
        let tokens = answer.get("tokens").and_then(Value::as_array).cloned().unwrap_or_default();
        ids = tokens.iter().filter_map(|token| token["uuid"].as_str().map(str::to_owned)).collect();
        ids.retain(|id| *id != own);
    }
    // the one that speaks is the last
    ids.push(own);
    for id in ids {
        call("/metalstack.api.v2.TokenService/Revoke", json!({ "uuid": id })).await?;
    }
    Ok(())
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
    fn tokens_tell_their_id() {
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(br#"{"jti":"x"}"#);
        assert_eq!(super::claims(&format!("h.{claims}.s")).unwrap()["jti"], "x");
        assert_eq!(super::claims("abc"), None);
    }
}
