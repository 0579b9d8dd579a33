//! Keys that sign tokens change, and every replica knows at once.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::world::{World, on_all};

fn kid(token: &str) -> String {
    jsonwebtoken::decode_header(token).expect("a header").kid.expect("a key")
}

fn rotate(world: &World, revoke: bool) -> (String, u64) {
    world.runtime.block_on(async {
        let mut tx = world.db.begin_write().await.expect("begin");
        let rotated = server::auth::key::rotate(&mut tx, Timestamp::now(), revoke).await;
        tx.commit().await.expect("commit");
        rotated.expect("a new key")
    })
}

/// Each replica, twice: the second time it remembers what it checked.
fn expect(world: &World, wanted: &str, token: &str) {
    for _ in 0..4 {
        world.expect(wanted, token, "api.v2.UserService/Get", json!({}));
    }
}

#[test]
fn defect_23_all_replicas_know_a_new_key_and_a_revoked_one_at_once() {
    on_all(|world| {
        let first = world.login("alice");
        expect(world, "ok", &first);
        let (new, revoked) = rotate(world, false);
        assert_eq!(revoked, 0);
        let second = world.login("alice");
        assert_eq!(kid(&second), new);
        assert_ne!(kid(&first), new);
        expect(world, "ok", &second);
        expect(world, "ok", &first);

        let (newer, revoked) = rotate(world, true);
        assert_eq!(revoked, 2);
        for token in [&first, &second] {
            expect(world, "unauthenticated", token);
        }
        let third = world.login("alice");
        assert_eq!(kid(&third), newer);
        expect(world, "ok", &third);
    });
}

#[test]
fn a_key_signs_until_its_tokens_would_outlive_it() {
    on_all(|world| {
        let current = |days: i64| {
            let at = Timestamp::now() + SignedDuration::from_hours(24 * days);
            world.runtime.block_on(async {
                let mut tx = world.db.begin_write().await.expect("begin");
                let key = server::auth::key::current(&mut tx, at).await.expect("a key");
                tx.commit().await.expect("commit");
                key.kid
            })
        };
        let first = world.login("alice");
        assert_eq!(current(0), kid(&first), "one for all");
        assert_eq!(current(360), kid(&first));
        let next = current(370);
        assert_ne!(next, kid(&first));
        assert_eq!(current(371), next);
        expect(world, "ok", &first);
    });
}
