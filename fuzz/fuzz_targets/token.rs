//! Tokens as callers send them: what nobody signed is never accepted.
#![no_main]

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use libfuzzer_sys::fuzz_target;

/// The public key of RFC 8410, whose private one signs nothing here.
const KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
";

fuzz_target!(|text: &str| {
    let header = decode_header(text);
    let key = DecodingKey::from_ed_pem(KEY.as_bytes()).expect("a key");
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&["http://metal"]);
    validation.set_audience(&["http://metal"]);
    let claims = decode::<serde_json::Value>(text, &key, &validation);
    assert!(claims.is_err(), "nobody signed {header:?}");
});
