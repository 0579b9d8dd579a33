//! Calls that may be sent twice and are done once (docs/errors.md): who sends the header `idempotency-key` gets, for a day, the
//! answer of the first call instead of a second effect.
//!
//! The entry is written by the transaction of the effect. A handler knows nothing of it: its commit lets the transaction wait,
//! the answer is added, and both become durable together. Nothing in the database tells a key or an answer: the key is stored as
//! a digest, the answer sealed with a key derived from it, because answers may carry the secrets of tokens and invitations.

use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use connectrpc::RequestContext;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hkdf};
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::idempotency::{self, Done};
use store::{Db, Hold, Tx};

use crate::rpc::{Error, Reason};

/// The header, as in draft-ietf-httpapi-idempotency-key-header.
pub(crate) const HEADER: &str = "idempotency-key";
/// The header of an answer that was given before.
pub(crate) const REPLAYED: &str = "idempotency-replayed";
/// So long an answer is kept.
const LIFE_US: i64 = 24 * 3600 * 1_000_000;
/// Shorter keys can be guessed, and could meet by chance.
const SHORTEST: usize = 16;
const LONGEST: usize = 255;
/// What makes something new, by the names of methods.
const CREATES: [&str; 4] = ["Create", "Invite", "BMCCommand", "Refresh"];

/// A call that is to be done once.
#[derive(Debug)]
pub(crate) struct Once {
    /// Digest of caller, method and key.
    id: String,
    seal: LessSafeKey,
    /// Where the transaction of the effect waits for the answer.
    hold: Hold,
    /// Somebody else did it: an answer is there.
    done: AtomicBool,
}

impl Once {
    /// Of a call with a key to a method that makes something.
    pub(crate) fn of(ctx: &RequestContext, user: Option<&str>) -> Result<Option<Self>, Error> {
        let method = ctx.path().unwrap_or_default();
        let (Some(user), Some(value)) = (user, ctx.header(HEADER)) else { return Ok(None) };
        if !method.rsplit('/').next().is_some_and(|name| CREATES.contains(&name)) {
            return Ok(None);
        }
        let key = parse(value.to_str().unwrap_or_default())?;
        let seal = derive(key, user, method)
            .ok_or_else(|| Error::internal("no key can be derived from the idempotency key"))?;
        let id = hash(&[user, method.trim_start_matches('/'), key].join("\0"));
        Ok(Some(Self { id, seal, hold: Hold::default(), done: AtomicBool::new(false) }))
    }

    /// The answer of an earlier call with this key.
    pub(crate) async fn answer<M: DeserializeOwned>(
        &self,
        db: &Db,
        request: &str,
        now_us: i64,
    ) -> Result<Option<M>, Error> {
        let mut tx = db.begin_read().await?;
        let Some(done) = idempotency::find(&mut tx, &self.id, now_us).await? else {
            return Ok(None);
        };
        self.done.store(true, Ordering::Relaxed);
        self.read(&done, request).map(Some)
    }

    fn read<M: DeserializeOwned>(&self, done: &Done, request: &str) -> Result<M, Error> {
        if done.request != request {
            return Err(Error::reason(
                Reason::IdempotencyKeyReused,
                "this idempotency key came before with another request: make a new one for each new wish",
            ));
        }
        open(&self.seal, &done.response, request)
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or_else(|| Error::internal("the stored answer is damaged"))
    }

    /// Whether another call with this key was faster.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// Makes a transaction that of the call. Waits for another one with the same key, and fails when that has done it.
    pub(crate) async fn begin(&self, tx: &mut Tx, request: &str, now_us: i64) -> Result<(), Error> {
        if !idempotency::claim(tx, &self.id, request, now_us, now_us + LIFE_US).await? {
            self.done.store(true, Ordering::Relaxed);
            // never seen: the answer of the other call is given instead; and of a kind that no handler tries again
            return Err(Error::exists("another call with this idempotency key has done it"));
        }
        tx.wait_in(&self.hold);
        Ok(())
    }

    /// A transaction of the same call that has done its part already and goes on.
    pub(crate) fn waiting(&self) -> Option<Tx> {
        let mut tx = self.hold.take()?;
        tx.wait_in(&self.hold);
        Some(tx)
    }

    /// Commits what the call did, together with its answer.
    pub(crate) async fn end(&self, request: &str, response: &impl Serialize) -> Result<(), Error> {
        let Some(mut tx) = self.hold.take() else { return Ok(()) };
        let json = serde_json::to_vec(response)
            .map_err(|e| Error::internal(format!("cannot encode: {e}")))?;
        let sealed = seal(&self.seal, json, request)
            .ok_or_else(|| Error::internal("the answer cannot be sealed"))?;
        idempotency::answer(&mut tx, &self.id, &sealed).await?;
        Ok(tx.commit().await?)
    }
}

/// The key out of the header. The draft wants a quoted string; most clients send it bare.
fn parse(value: &str) -> Result<&str, Error> {
    let bare = value.trim();
    let key = bare.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(bare);
    if (SHORTEST..=LONGEST).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(key);
    }
    Err(Error::reason(
        Reason::IdempotencyKeyInvalid,
        format!(
            "the header {HEADER} must be {SHORTEST} to {LONGEST} printable characters without blanks: send a random UUID"
        ),
    ))
}

/// Digest of a request, the same for protobuf and JSON: fields of the JSON form are in order.
pub(crate) fn digest_of(request: &impl Serialize) -> Result<String, Error> {
    let json = serde_json::to_value(request)
        .map_err(|e| Error::internal(format!("cannot encode: {e}")))?;
    Ok(hash(&json.to_string()))
}

fn hash(text: &str) -> String {
    STANDARD_NO_PAD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

/// The key that seals the answers of one caller's idempotency key.
fn derive(key: &str, user: &str, method: &str) -> Option<LessSafeKey> {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"metal idempotency");
    let about = [user.as_bytes(), b"\0", method.trim_start_matches('/').as_bytes()];
    let secret = salt.extract(key.as_bytes());
    let secret = secret.expand(&about, &CHACHA20_POLY1305).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(secret)))
}

fn seal(key: &LessSafeKey, mut text: Vec<u8>, about: &str) -> Option<String> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).ok()?;
    let once = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(once, Aad::from(about.as_bytes()), &mut text).ok()?;
    Some(STANDARD_NO_PAD.encode([nonce.as_slice(), &text].concat()))
}

fn open(key: &LessSafeKey, sealed: &str, about: &str) -> Option<Vec<u8>> {
    let sealed = STANDARD_NO_PAD.decode(sealed).ok()?;
    let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = text.to_vec();
    Some(key.open_in_place(nonce, Aad::from(about.as_bytes()), &mut text).ok()?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "8e03978e-40d5-43e8-bc93-6894a57f9324";

    #[test]
    fn keys_are_bare_or_quoted_and_long_enough() {
        assert_eq!(parse(KEY).expect("bare"), KEY);
        assert_eq!(parse(&format!("\"{KEY}\"")).expect("quoted"), KEY);
        for bad in ["", "short", "\"\"", "with a blank in the middle", &"x".repeat(256)] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_opens_for_the_same_key_caller_method_and_request_only() {
        let key = derive(KEY, "alice", "/a.B/Create").expect("key");
        let sealed = seal(&key, b"secret".to_vec(), "request").expect("sealed");
        assert!(!sealed.contains("secret"));
        assert_eq!(open(&key, &sealed, "request").expect("open"), b"secret");
        assert_ne!(seal(&key, b"secret".to_vec(), "request").expect("sealed"), sealed);
        assert_eq!(open(&key, &sealed, "other"), None);
        for (key, user, method) in [
            ("8e03978e-40d5-43e8-bc93-6894a57f9325", "alice", "/a.B/Create"),
            (KEY, "bob", "/a.B/Create"),
            (KEY, "alice", "/a.C/Create"),
        ] {
            let other = derive(key, user, method).expect("key");
            assert_eq!(open(&other, &sealed, "request"), None, "{key} {user} {method}");
        }
        for damaged in ["", "AAAA", "%"] {
            assert_eq!(open(&key, damaged, "request"), None);
        }
    }

    #[test]
    fn the_digest_does_not_depend_on_the_order_of_maps() {
        let one = serde_json::json!({"labels": {"a": "1", "b": "2"}, "name": "x"});
        let two = serde_json::json!({"name": "x", "labels": {"b": "2", "a": "1"}});
        assert_eq!(digest_of(&one).expect("digest"), digest_of(&two).expect("digest"));
        let other = serde_json::json!({"name": "y"});
        assert_ne!(digest_of(&one).expect("digest"), digest_of(&other).expect("digest"));
    }
}
