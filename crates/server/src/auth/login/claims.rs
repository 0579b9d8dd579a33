//! The identity token: who signed it, for whom, and when (OpenID Connect Core §3.1.3.7).

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

/// Clocks of two machines may differ by so many seconds.
const LEEWAY: i64 = 60;

/// Signatures that only the provider can make. Those with a shared secret are not among them.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// What people are called by their provider.
pub(super) type Claims = Map<String, Value>;

/// What an identity token of this login must say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
}

/// What is wrong with an identity token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("it cannot be read")]
    Malformed,
    #[error("it is signed with {0}, which is not accepted")]
    Algorithm(String),
    #[error("it is signed with a key that the provider does not publish")]
    UnknownKey,
    #[error("its signature is wrong")]
    Signature,
    #[error("it was issued by '{0}'")]
    Issuer(String),
    #[error("its audience is somebody else")]
    Audience,
    #[error("it was made for the client '{0}'")]
    AuthorizedParty(String),
    #[error("it belongs to another login")]
    Nonce,
    #[error("it has expired; the clocks of server and provider may differ")]
    Expired,
    #[error("it is not valid yet; the clocks of server and provider may differ")]
    NotYet,
    #[error("it names nobody")]
    Subject,
}

/// The key that a token names; `None` when it names none.
pub(super) fn key_id(token: &str) -> Result<Option<String>, Problem> {
    Ok(jsonwebtoken::decode_header(token).map_err(|_| Problem::Malformed)?.kid)
}

/// The claims of a token that is for us, for this login, now.
pub(super) fn verify(
    token: &str,
    keys: &JwkSet,
    expected: &Expected<'_>,
    now_s: i64,
) -> Result<Claims, Problem> {
    let claims = signed(token, keys)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    // providers write fractions of seconds now and then
    let time = |name: &str| claims.get(name).and_then(Value::as_f64).map(|s| s as i64);
    let issuer = text("iss").unwrap_or_default();
    if issuer != expected.issuer {
        return Err(Problem::Issuer(issuer.to_owned()));
    }
    let audience: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audience.contains(&expected.client_id) {
        return Err(Problem::Audience);
    }
    match text("azp") {
        Some(party) if party != expected.client_id => {
            return Err(Problem::AuthorizedParty(party.to_owned()));
        }
        None if audience.len() > 1 => return Err(Problem::AuthorizedParty(String::new())),
        _ => {}
    }
    if text("nonce") != Some(expected.nonce) {
        return Err(Problem::Nonce);
    }
    if time("exp").is_none_or(|exp| exp + LEEWAY <= now_s) {
        return Err(Problem::Expired);
    }
    let begins = time("iat").max(time("nbf"));
    if begins.is_none_or(|begins| begins - LEEWAY > now_s) {
        return Err(Problem::NotYet);
    }
    if text("sub").is_none_or(str::is_empty) {
        return Err(Problem::Subject);
    }
    Ok(claims)
}

/// The claims of a token whose signature is right.
fn signed(token: &str, keys: &JwkSet) -> Result<Claims, Problem> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| Problem::Malformed)?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(Problem::Algorithm(format!("{:?}", header.alg)));
    }
    let fits = |key: &&Jwk| {
        let kid = header.kid.is_none() || key.common.key_id == header.kid;
        kid && !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption))
            && key
                .common
                .key_algorithm
                .is_none_or(|alg| alg.to_string() == format!("{:?}", header.alg))
    };
    let mut validation = Validation::new(header.alg);
    // judged above, with the time as an argument
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let mut problem = Problem::UnknownKey;
    for key in keys.keys.iter().filter(fits) {
        let Ok(key) = DecodingKey::from_jwk(key) else { continue };
        match jsonwebtoken::decode::<Claims>(token, &key, &validation) {
            Ok(data) => return Ok(data.claims),
            Err(_) => problem = Problem::Signature,
        }
    }
    Err(problem)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};
    use ring::rand::SystemRandom;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use serde_json::json;

    use super::super::URL_SAFE_NO_PAD;
    use super::*;
    use base64::Engine as _;

    const NOW: i64 = 1_700_000_000;
    const EXPECTED: Expected<'_> =
        Expected { issuer: "https://id.example", client_id: "metal", nonce: "n" };

    struct Signer {
        private: EncodingKey,
        public: Value,
    }

    fn signer(kid: &str) -> Signer {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key");
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        Signer {
            private: EncodingKey::from_ed_der(document.as_ref()),
            public: json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig"}),
        }
    }

    fn set(keys: &[&Signer]) -> JwkSet {
        let keys: Vec<_> = keys.iter().map(|signer| signer.public.clone()).collect();
        serde_json::from_value(json!({ "keys": keys })).expect("keys")
    }

    fn good() -> Value {
        json!({"iss": "https://id.example", "aud": "metal", "nonce": "n", "sub": "1", "exp": NOW + 300, "iat": NOW})
    }

    fn token(signer: &Signer, kid: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, claims, &signer.private).expect("a token")
    }

    #[track_caller]
    fn check(change: Value, expected: Result<(), Problem>) {
        let signer = signer("k");
        let mut claims = good();
        for (name, value) in change.as_object().expect("an object") {
            match value {
                Value::Null => drop(claims.as_object_mut().expect("an object").remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        let token = token(&signer, Some("k"), &claims);
        assert_eq!(verify(&token, &set(&[&signer]), &EXPECTED, NOW).map(drop), expected);
    }

    #[test]
    fn every_claim_counts() {
        check(json!({}), Ok(()));
        check(json!({"aud": ["metal"]}), Ok(()));
        check(json!({"aud": ["other", "metal"], "azp": "metal"}), Ok(()));
        check(json!({"exp": NOW - 59}), Ok(()));
        check(json!({"iat": NOW + 59, "exp": 1_700_000_300.5}), Ok(()));
        check(
            json!({"iss": "https://id.example/"}),
            Err(Problem::Issuer("https://id.example/".into())),
        );
        check(json!({"iss": null}), Err(Problem::Issuer(String::new())));
        check(json!({"aud": "other"}), Err(Problem::Audience));
        check(json!({"aud": null}), Err(Problem::Audience));
        check(json!({"aud": ["other", "metal"]}), Err(Problem::AuthorizedParty(String::new())));
        check(json!({"azp": "other"}), Err(Problem::AuthorizedParty("other".into())));
        check(json!({"nonce": "m"}), Err(Problem::Nonce));
        check(json!({"nonce": null}), Err(Problem::Nonce));
        check(json!({"exp": NOW - 60}), Err(Problem::Expired));
        check(json!({"exp": null}), Err(Problem::Expired));
        check(json!({"iat": NOW + 61}), Err(Problem::NotYet));
        check(json!({"nbf": NOW + 61}), Err(Problem::NotYet));
        check(json!({"iat": null}), Err(Problem::NotYet));
        check(json!({"sub": ""}), Err(Problem::Subject));
    }

    #[test]
    fn only_keys_of_the_provider_sign() {
        let (one, two, stranger) = (signer("1"), signer("2"), signer("2"));
        let keys = set(&[&one, &two]);
        let judge = |token: &str| verify(token, &keys, &EXPECTED, NOW).map(drop);
        assert_eq!(judge(&token(&two, Some("2"), &good())), Ok(()));
        assert_eq!(judge(&token(&two, None, &good())), Ok(()), "each key is tried");
        assert_eq!(judge(&token(&two, Some("1"), &good())), Err(Problem::Signature));
        assert_eq!(judge(&token(&stranger, Some("2"), &good())), Err(Problem::Signature));
        assert_eq!(judge(&token(&stranger, Some("3"), &good())), Err(Problem::UnknownKey));
        assert_eq!(judge("a.b.c"), Err(Problem::Malformed));
    }

    #[test]
    fn a_secret_that_both_know_signs_nothing() {
        // the public key as the secret: the classic confusion
        let signer = signer("k");
        let secret =
            EncodingKey::from_secret(signer.public["x"].as_str().expect("text").as_bytes());
        let header = Header { kid: Some("k".into()), ..Header::new(Algorithm::HS256) };
        let forged = jsonwebtoken::encode(&header, &good(), &secret).expect("a token");
        let judged = verify(&forged, &set(&[&signer]), &EXPECTED, NOW);
        assert_eq!(judged, Err(Problem::Algorithm("HS256".into())));
        let none = format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
            URL_SAFE_NO_PAD.encode(good().to_string())
        );
        assert_eq!(verify(&none, &set(&[&signer]), &EXPECTED, NOW), Err(Problem::Malformed));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_judged(text in ".*") {
            let keys = JwkSet { keys: Vec::new() };
            assert!(verify(&text, &keys, &EXPECTED, NOW).is_err());
        }
    }
}
