//! What a token must be to be believed, whoever made it.

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::world::{World, code, on_all};

/// The key that signs now.
fn key(world: &World) -> store::signing_key::SigningKey {
    world.runtime.block_on(async {
        let mut tx = world.db.begin_write().await.expect("begin");
        let key = server::auth::key::current(&mut tx, Timestamp::now()).await.expect("a key");
        tx.commit().await.expect("commit");
        key
    })
}

/// The middle of a token.
fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let middle = token.split('.').nth(1).expect("three parts");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(middle).expect("base64");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn sign(header: &Header, claims: &Value, pem: &str) -> String {
    let key = EncodingKey::from_ed_pem(pem.as_bytes()).expect("a key");
    jsonwebtoken::encode(header, claims, &key).expect("a token")
}

#[test]
fn only_what_the_server_signed_for_itself_and_for_now_is_believed() {
    on_all(|world| {
        let token = world.login("alice");
        let (key, good) = (key(world), claims(&token));
        let header = || Header { kid: Some(key.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        let ask = |token: &str| {
            // twice, so that each replica is asked
            let answers = [0, 1].map(|_| world.call(token, "api.v2.UserService/Get", json!({})));
            assert_eq!(code(&answers[0]), code(&answers[1]));
            code(&answers[0]).to_owned()
        };
        assert_eq!(ask(&token), "ok");
        assert_eq!(ask(&sign(&header(), &good, &key.private_pem)), "ok", "made of the same parts");

        let now = Timestamp::now().as_second();
        let with = |field: &str, value: Value| {
            let mut claims = good.clone();
            claims[field] = value;
            sign(&header(), &claims, &key.private_pem)
        };
        let without = |field: &str| {
            let mut claims = good.clone();
            claims.as_object_mut().expect("claims").remove(field);
            sign(&header(), &claims, &key.private_pem)
        };
        for (what, wrong) in [
            ("expired", with("exp", json!(now - 3600))),
            ("not yet valid", with("nbf", json!(now + 3600))),
            ("of another issuer", with("iss", json!("http://elsewhere.test"))),
            ("for another audience", with("aud", json!(["http://elsewhere.test"]))),
            ("of another user", with("sub", json!("bob"))),
            ("without a record", with("jti", json!("00000000-0000-4000-8000-000000000001"))),
            ("without an end", without("exp")),
            ("without an id", without("jti")),
        ] {
            assert_eq!(ask(&wrong), "unauthenticated", "{what}");
        }

        let unknown = Header { kid: Some("nobody".to_owned()), ..header() };
        assert_eq!(ask(&sign(&unknown, &good, &key.private_pem)), "unauthenticated");
        let nameless = Header { kid: None, ..header() };
        assert_eq!(ask(&sign(&nameless, &good, &key.private_pem)), "unauthenticated");
        // the public half as a shared secret, and no signature at all
        let shared = EncodingKey::from_secret(key.public_pem.as_bytes());
        let hmac = Header { kid: Some(key.kid.clone()), ..Header::new(Algorithm::HS256) };
        let hmac = jsonwebtoken::encode(&hmac, &good, &shared).expect("a token");
        assert_eq!(ask(&hmac), "unauthenticated");
        let (body, signature) = token.rsplit_once('.').expect("three parts");
        assert_eq!(ask(&format!("{body}.")), "unauthenticated");
        let mut flipped: Vec<char> = signature.chars().collect();
        flipped[10] = if flipped[10] == 'A' { 'B' } else { 'A' };
        let flipped: String = flipped.into_iter().collect();
        assert_eq!(ask(&format!("{body}.{flipped}")), "unauthenticated");
        for malformed in ["x", "a.b", "a.b.c", "....", &token[1..], &format!("{token}.x")] {
            assert_eq!(ask(malformed), "unauthenticated", "{malformed}");
        }
        assert_eq!(ask(&token), "ok");
    });
}
