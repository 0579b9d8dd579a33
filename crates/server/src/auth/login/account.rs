//! A person who has logged in: their tenant, their token, and how they leave.

use std::net::IpAddr;
use std::time::Duration;

use connectrpc::ErrorCode;
use http::StatusCode;
use jiff::Timestamp;
use proto::api;
use serde_json::{Value, json};
use store::audit::Entry;
use store::{Member, Tx};
use url::Url;
use uuid::Uuid;

use super::PROVIDER;
use super::claims::Claims;
use super::page::Refused;
use crate::rpc::{App, Error};
use crate::{auth, bootstrap, wire};

/// Paths under which the audit log knows logins and logouts.
const CALLBACK: &str = "/auth/openid-connect/callback";
const LOGOUT: &str = "/auth/logout/openid-connect";
/// So long the token of a login is valid.
const LIFE: Duration = Duration::from_secs(8 * 3600);
/// Label of tokens that a login has led to, also of those that it was refreshed to; the value is the id of the login.
const LABEL: &str = "auth.metal-stack.io/login";
/// Longest login that the contract allows.
const MAX_LOGIN: usize = 128;

/// Who the provider says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    /// Id of their tenant.
    pub(super) login: String,
    email: Option<String>,
    avatar: Option<String>,
}

impl Person {
    /// Reads claims that were checked before.
    pub(super) fn from_claims(claims: &Claims, unique_key: &str) -> Result<Self, Refused> {
        let text = |name: &str| {
            claims.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
        };
        let refused =
            |sentence: String, hint: &str| Refused::new(StatusCode::FORBIDDEN, sentence, hint);
        let key = match claims.get(unique_key) {
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => text(unique_key).map(str::to_owned),
        };
        let key = key.ok_or_else(|| {
            refused(
                format!("The identity provider did not tell your '{unique_key}', by which people are told apart here."),
                "Operators: let the provider send it with the scopes 'openid email profile', or choose another claim with --oidc-unique-user-key.",
            )
        })?;
        // an address that is not theirs must not make them somebody else
        let verified = !matches!(claims.get("email_verified"), Some(Value::Bool(false)))
            && text("email_verified") != Some("false");
        if unique_key == "email" && !verified {
            return Err(refused(
                format!("Your e-mail address {key} is not verified by the identity provider."),
                "Verify it there, then log in again.",
            ));
        }
        let login = format!("{key}@{PROVIDER}");
        if login.chars().count() > MAX_LOGIN
            || key.chars().any(|c| c.is_control() || c.is_whitespace())
        {
            return Err(refused(
                format!(
                    "Your '{unique_key}' is too long or holds blanks, so it cannot be a login."
                ),
                "Operators: choose another claim with --oidc-unique-user-key.",
            ));
        }
        Ok(Self {
            login,
            email: text("email").filter(|email| verified && is_address(email)).map(str::to_owned),
            avatar: text("picture").filter(|picture| is_picture(picture)).map(str::to_owned),
        })
    }
}

/// What the contract takes for an address of mail, roughly: others are left out instead of stored.
fn is_address(text: &str) -> bool {
    text.len() <= 254
        && text.bytes().all(|b| b.is_ascii_graphic())
        && text
            .split_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'))
}

fn is_picture(text: &str) -> bool {
    text.len() <= 2048
        && text.bytes().all(|b| b.is_ascii_graphic())
        && Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

/// Lets a person in: makes or updates their tenant and gives them a token, whose secret is returned.
pub(super) async fn admit(
    app: &App,
    person: &Person,
    login_id: &str,
    source: Option<IpAddr>,
    memory_us: i64,
) -> Result<String, Refused> {
    let now = Timestamp::now();
    let mut token = api::Token {
        user: person.login.clone(),
        description: "login".to_owned(),
        token_type: api::TokenType::User.into(),
        ..Default::default()
    };
    let labels = token.meta.get_or_insert_default().labels.get_or_insert_default();
    labels.labels.insert(LABEL.to_owned(), login_id.to_owned());
    let note = Note { call: Uuid::now_v7(), caller: &person.login, source };
    // a login that cannot be recorded does not happen
    note.record(app, CALLBACK, None, json!({})).await?;
    let mut tx = app.db.begin_write().await?;
    ensure_tenant(&mut tx, person, now).await?;
    let secret = auth::create_token(&mut tx, &app.issuer, &mut token, LIFE, now);
    let secret = secret.await.map_err(|error| Refused::defect(format!("{error:#}")))?;
    let until_us = now.as_microsecond() + memory_us;
    store::login::succeed(&mut tx, login_id, &person.login, until_us).await?;
    tx.commit().await?;
    note.done(app, CALLBACK, 0, json!({ "token": token.uuid })).await;
    Ok(secret)
}

/// The person's own tenant with their membership in it, and what the provider says about them now.
async fn ensure_tenant(tx: &mut Tx, person: &Person, now: Timestamp) -> Result<(), Error> {
    bootstrap::ensure_tenant(tx, &person.login, now).await?;
    let owner = Member {
        of: person.login.clone(),
        member: person.login.clone(),
        role: i64::from(api::TenantRole::Owner as i32),
        created_at_us: now.as_microsecond(),
    };
    store::tenant::MEMBERS.strengthen(tx, &owner).await?;
    let row = store::tenant::TABLE
        .get_for_update(tx, &person.login)
        .await?
        .ok_or_else(|| Error::not_found("tenant", &person.login))?;
    let mut tenant: api::Tenant = wire::decode(&row)?;
    let before = (tenant.email.clone(), tenant.avatar_url.clone());
    if let Some(email) = &person.email {
        tenant.email.clone_from(email);
    }
    if let Some(avatar) = &person.avatar {
        tenant.avatar_url.clone_from(avatar);
    }
    if before != (tenant.email.clone(), tenant.avatar_url.clone()) {
        let row = row.next(wire::encode(&tenant)?, now.as_microsecond());
        if !store::tenant::TABLE.update(tx, &row, &[]).await? {
            return Err(store::Error::Conflict.into());
        }
    }
    Ok(())
}

/// Revokes the tokens that the logins of a browser have led to; how many there were.
pub(super) async fn leave(
    app: &App,
    browser: &str,
    source: Option<IpAddr>,
) -> Result<usize, Refused> {
    let now_us = Timestamp::now().as_microsecond();
    let mut revoked = Vec::new();
    let mut tx = app.db.begin_write().await?;
    for (login, owner) in store::login::end(&mut tx, browser).await? {
        let mut ended = Vec::new();
        for row in store::token::list(&mut tx, Some(&owner), now_us).await? {
            let token: api::Token = wire::decode(&row)?;
            let of_login = token
                .meta
                .as_option()
                .and_then(|meta| meta.labels.as_option())
                .is_some_and(|labels| labels.labels.get(LABEL) == Some(&login));
            if of_login && store::token::delete(&mut tx, &owner, &token.uuid).await? {
                ended.push(token.uuid.clone());
            }
        }
        revoked.push((owner, ended));
    }
    tx.commit().await?;
    for (owner, tokens) in &revoked {
        let note = Note { call: Uuid::now_v7(), caller: owner, source };
        note.done(app, LOGOUT, 0, json!({ "tokens": tokens })).await;
    }
    Ok(revoked.iter().map(|(_, tokens)| tokens.len()).sum())
}

/// Notes that a login was refused.
pub(super) async fn refused(app: &App, why: &Refused, source: Option<IpAddr>) {
    let note = Note { call: Uuid::now_v7(), caller: "", source };
    let code = match why.status() {
        StatusCode::BAD_REQUEST => ErrorCode::InvalidArgument,
        StatusCode::UNAUTHORIZED => ErrorCode::Unauthenticated,
        StatusCode::FORBIDDEN => ErrorCode::PermissionDenied,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY => ErrorCode::Unavailable,
        _ => ErrorCode::Internal,
    };
    let body = json!({ "code": code.as_str(), "message": why.to_string() });
    note.done(app, CALLBACK, i64::from(code.grpc_code()), body).await;
}

/// What the audit log keeps of somebody who comes or goes.
struct Note<'a> {
    call: Uuid,
    caller: &'a str,
    source: Option<IpAddr>,
}

impl Note<'_> {
    async fn record(
        &self,
        app: &App,
        path: &str,
        code: Option<i64>,
        body: Value,
    ) -> Result<(), Error> {
        let phase = match code {
            None => api::AuditPhase::Request,
            Some(_) => api::AuditPhase::Response,
        };
        let entry = Entry {
            call: self.call.to_string(),
            phase: phase as i64,
            at_us: Timestamp::now().as_microsecond(),
            caller: self.caller.to_owned(),
            tenant: self.caller.to_owned(),
            project: None,
            method: path.to_owned(),
            source: self.source.map(|source| source.to_string()).unwrap_or_default(),
            code,
            body: Some(body.to_string()),
        };
        app.audit.record(entry).await
    }

    /// Records how it ended. What was done cannot be undone.
    async fn done(&self, app: &App, path: &str, code: i64, body: Value) {
        if let Err(error) = self.record(app, path, Some(code), body).await {
            tracing::error!(%error, caller = self.caller, path, "the end of a login is not in the audit log");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(claims: Value, key: &str) -> Result<Person, String> {
        let Value::Object(claims) = claims else { panic!("no object") };
        Person::from_claims(&claims, key).map_err(|refused| refused.to_string())
    }

    #[test]
    fn people() {
        let claims =
            json!({"email": "a@b.example", "email_verified": true, "picture": "https://c/d.png"});
        assert_eq!(
            person(claims, "email").expect("a person"),
            Person {
                login: "a@b.example@openid-connect".into(),
                email: Some("a@b.example".into()),
                avatar: Some("https://c/d.png".into())
            }
        );
        let claims = json!({"sub": "17", "email": "not mail", "picture": "javascript:x"});
        let found = person(claims, "sub").expect("a person");
        assert_eq!(
            (found.login.as_str(), found.email, found.avatar),
            ("17@openid-connect", None, None)
        );
        assert_eq!(person(json!({"id": 5}), "id").expect("a person").login, "5@openid-connect");
    }

    #[test]
    fn who_nobody_vouches_for_stays_out() {
        for unverified in [json!(false), json!("false")] {
            let claims = json!({"email": "a@b.example", "email_verified": unverified, "sub": "1"});
            assert!(
                person(claims.clone(), "email").expect_err("unverified").contains("not verified")
            );
            assert_eq!(person(claims, "sub").expect("another key").email, None);
        }
        assert!(
            person(json!({}), "email").expect_err("nothing").contains("did not tell your 'email'")
        );
        assert!(person(json!({"email": " "}), "email").is_err());
        for key in ["a b".to_owned(), "a\nb".to_owned(), "x".repeat(120)] {
            assert!(
                person(json!({"sub": key}), "sub")
                    .expect_err("no login")
                    .contains("cannot be a login")
            );
        }
    }
}
