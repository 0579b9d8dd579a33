//! Signatures that were found good. To check one costs more than everything else that decides about a call, and it never changes;
//! whether the token still counts is another question, which the database answers at each call.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ring::digest::{SHA256, digest};
use store::token::Bearer;

/// So many are remembered; then it begins anew.
const MAX: usize = 10_000;

/// What was found good by this process, by the hash of the token: the tokens themselves are not kept.
#[derive(Debug, Default)]
pub struct Proofs(Mutex<HashMap<[u8; 32], Bearer>>);

impl Proofs {
    /// Whom a token names that was checked before.
    pub(super) fn find(&self, secret: &str) -> Option<Bearer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&hash(secret)).cloned()
    }

    /// Remembers a token whose signature is good.
    pub(super) fn remember(&self, secret: &str, bearer: Bearer) {
        let mut proofs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if proofs.len() >= MAX {
            proofs.clear();
        }
        proofs.insert(hash(secret), bearer);
    }
}

fn hash(secret: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_same_token_is_found_again() {
        let bearer = Bearer { owner: "a".to_owned(), token: "t".to_owned(), kid: "k".to_owned() };
        let proofs = Proofs::default();
        proofs.remember("secret", bearer.clone());
        assert_eq!(proofs.find("secret"), Some(bearer.clone()));
        assert_eq!(proofs.find("secreT"), None);
        for number in 0..MAX {
            proofs.remember(&number.to_string(), bearer.clone());
        }
        assert!(proofs.0.lock().expect("lock").len() <= MAX, "it does not grow without end");
    }
}
