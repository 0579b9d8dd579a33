//! What invitations to tenants and to projects share: their secret and their life.

use buffa_types::google::protobuf::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use store::Entity;

use super::Error;
use crate::wire;

/// How long an invite is valid.
const LIFE_US: i64 = 7 * 24 * 3600 * 1_000_000;
/// What a secret is made of.
const LETTERS: &[u8; 63] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-";
const LENGTH: usize = 32;

/// A secret that nobody can guess.
pub(super) fn new_secret() -> Result<String, Error> {
    let random = SystemRandom::new();
    let mut secret = String::with_capacity(LENGTH);
    while secret.len() < LENGTH {
        let mut bytes = [0; LENGTH];
        random.fill(&mut bytes).map_err(|_| Error::internal("no randomness"))?;
        // what is no letter is thrown away, so that each letter is as likely as the others
        let letters = bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte & 63)));
        secret.extend(letters.take(LENGTH - secret.len()).map(|letter| char::from(*letter)));
    }
    Ok(secret)
}

/// Refuses what no invite can have as its secret.
pub(super) fn check_secret(secret: &str) -> Result<(), Error> {
    if secret.len() == LENGTH && secret.bytes().all(|byte| LETTERS.contains(&byte)) {
        Ok(())
    } else {
        Err(Error::invalid("the secret of an invite has 32 letters, digits and dashes"))
    }
}

/// When an invite that is made now ends, for the database and for people.
pub(super) fn expiry(now_us: i64) -> (i64, Timestamp) {
    (now_us + LIFE_US, wire::timestamp_us(now_us + LIFE_US))
}

/// An invite that cannot be used, for whatever reason.
pub(super) fn gone() -> Error {
    Error::missing("the given invitation does not exist anymore")
}

/// A stored invite.
pub(super) fn decode<M: serde::de::DeserializeOwned>(row: &Entity) -> Result<M, Error> {
    serde_json::from_str(&row.body)
        .map_err(|e| Error::internal(format!("stored invite is damaged: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_valid_and_differ() {
        let secrets: std::collections::BTreeSet<_> =
            (0..100).map(|_| new_secret().expect("secret")).collect();
        assert_eq!(secrets.len(), 100);
        for secret in &secrets {
            check_secret(secret).expect("valid");
        }
    }

    #[test]
    fn what_no_invite_can_have_is_refused() {
        for wrong in ["", "short", &"ä".repeat(16), &"_".repeat(32), &"a".repeat(33)] {
            assert!(check_secret(wrong).is_err(), "{wrong}");
        }
    }
}
