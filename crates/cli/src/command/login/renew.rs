//! Tokens of logins live for hours, people for longer: near its end a token is exchanged for its successor.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::claims;
use crate::context::Config;
use crate::error::{Error, Result};
use crate::session::Session;

/// A token is exchanged when less than this part of its life is left.
const LAST: i64 = 4;

impl Session {
    /// Exchanges the context's token if it comes from a login and is near its end. A token from a flag, a file or the environment
    /// is somebody else's to renew. When it cannot be done, the command goes on with what there is.
    pub(crate) async fn renew(&mut self, words: &[&str]) {
        let own_affair =
            matches!(words.first(), Some(&"login" | &"logout" | &"context" | &"completion") | None)
                || words.first().is_some_and(|word| word.starts_with("__"));
        let old = self.context.as_ref().and_then(|context| context.token.clone());
        let (false, Some(old)) = (own_affair || !self.token_of_context(), old) else { return };
        if !is_due(&old, self.now()) {
            return;
        }
        match exchange(self, &old).await {
            Ok((config, token)) => self.take(config, token),
            Err(error) => tracing::debug!(%error, "the token is not renewed"),
        }
    }
}

/// The successor of a token, stored where the old one was.
async fn exchange(session: &Session, old: &str) -> Result<(Config, String)> {
    let answer = session.call_path("/metalstack.api.v2.TokenService/Refresh", &json!({})).await?;
    let new = answer.get("secret").and_then(Value::as_str).unwrap_or_default().to_owned();
    if claims(&new).is_none() {
        return Err(Error::failed("the server answered without a token"));
    }
    // another command may have changed the file meanwhile
    let name = session.context.as_ref().map(|context| context.name.clone()).unwrap_or_default();
    let mut config = Config::load(&session.config_path)?;
    let mut context = config.context(&name)?;
    if context.token.as_deref() == Some(old) {
        context.token = Some(new.clone());
        config.put(&context);
        config.save(&session.config_path)?;
    }
    Ok((config, new))
}

/// Whether a token of a login is valid, but not for long.
fn is_due(token: &str, now: Timestamp) -> bool {
    let Some(claims) = claims(token) else { return false };
    let time = |name: &str| claims.get(name).and_then(Value::as_i64);
    let (Some(issued), Some(expires)) = (time("iat"), time("exp")) else { return false };
    let left = expires - now.as_second();
    claims["type"] == "TOKEN_TYPE_USER" && left > 0 && left <= (expires - issued) / LAST
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    #[test]
    fn the_last_quarter_of_a_login() {
        let due = |kind: &str, now: i64| {
            let claims = json!({"iat": 1000, "exp": 1400, "type": kind}).to_string();
            let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
            is_due(&format!("h.{claims}.s"), Timestamp::from_second(now).unwrap())
        };
        assert!(!due("TOKEN_TYPE_USER", 1299));
        assert!(due("TOKEN_TYPE_USER", 1300));
        assert!(due("TOKEN_TYPE_USER", 1399));
        assert!(!due("TOKEN_TYPE_USER", 1400));
        assert!(!due("TOKEN_TYPE_API", 1350));
        assert!(!is_due("nonsense", Timestamp::UNIX_EPOCH));
    }
}
