//! Every test runs on SQLite and on a real PostgreSQL that the test starts and stops.

mod ipam;
mod postgres;

use store::signing_key::{self, SigningKey};
use store::token;
use store::{Db, Entity, Error};

/// Runs a test on a fresh database of each engine.
async fn on_both(test: impl AsyncFn(Db)) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let url = format!("sqlite:{}", folder.path().join("test.db").display());
    test(Db::open(&url).await.expect("SQLite")).await;
    let server = postgres::Server::start();
    test(Db::open(&server.url()).await.expect("PostgreSQL")).await;
}

const FAR: i64 = 2_000_000_000_000_000;

fn token(uuid: &str) -> Entity {
    Entity::new(uuid, "{}".to_owned(), 1)
}

fn key(kid: &str, expires_at_us: i64) -> SigningKey {
    SigningKey {
        kid: kid.to_owned(),
        private_pem: format!("private {kid}"),
        public_pem: format!("public {kid}"),
        created_at_us: 1,
        expires_at_us,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_found_by_its_owner_until_it_is_revoked() {
    on_both(async |db| {
        let mut tx = db.begin_write().await.expect("begin");
        token::insert(&mut tx, "alice", &token("t1"), FAR).await.expect("insert");
        tx.commit().await.expect("commit");

        let mut tx = db.begin_read().await.expect("begin");
        assert_eq!(token::get(&mut tx, "alice", "t1", 2).await.expect("get"), Some(token("t1")));
        assert_eq!(token::get(&mut tx, "bob", "t1", 2).await.expect("get"), None);
        assert_eq!(token::get(&mut tx, "alice", "t1", FAR).await.expect("get"), None, "expired");
        drop(tx);

        let mut tx = db.begin_write().await.expect("begin");
        assert!(!token::delete(&mut tx, "bob", "t1").await.expect("delete"));
        assert!(token::delete(&mut tx, "alice", "t1").await.expect("delete"));
        assert!(!token::delete(&mut tx, "alice", "t1").await.expect("delete"));
        assert_eq!(token::get(&mut tx, "alice", "t1", 2).await.expect("get"), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_token_with_the_same_id_is_refused() {
    on_both(async |db| {
        let mut tx = db.begin_write().await.expect("begin");
        token::insert(&mut tx, "alice", &token("t1"), FAR).await.expect("insert");
        let again = token::insert(&mut tx, "alice", &token("t1"), FAR).await;
        assert!(matches!(again, Err(Error::Unique(_))), "{again:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_committed_is_gone() {
    on_both(async |db| {
        let mut tx = db.begin_write().await.expect("begin");
        token::insert(&mut tx, "alice", &token("t1"), FAR).await.expect("insert");
        drop(tx);
        let mut tx = db.begin_write().await.expect("begin");
        assert_eq!(token::get(&mut tx, "alice", "t1", 2).await.expect("get"), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_replicas_that_start_together_agree_on_one_key() {
    on_both(async |db| {
        let tasks: Vec<_> = (0..8)
            .map(|n| {
                let db = db.clone();
                tokio::spawn(async move {
                    let mut tx = db.begin_write().await?;
                    let chosen =
                        signing_key::insert_if_absent(&mut tx, &key(&format!("k{n}"), 100), 50)
                            .await?;
                    tx.commit().await?;
                    Ok::<_, Error>(chosen.kid)
                })
            })
            .collect();
        let mut chosen = Vec::new();
        for task in tasks {
            chosen.push(task.await.expect("task").expect("key"));
        }
        chosen.dedup();
        assert_eq!(chosen.len(), 1, "{chosen:?}");

        let mut tx = db.begin_read().await.expect("begin");
        let current = signing_key::current(&mut tx, 50).await.expect("current").expect("one key");
        assert_eq!(current.kid, chosen[0]);
        assert_eq!(signing_key::find(&mut tx, &current.kid).await.expect("find"), Some(current));
        assert_eq!(signing_key::find(&mut tx, "unknown").await.expect("find"), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_key_signs_no_more_but_is_still_found() {
    on_both(async |db| {
        let mut tx = db.begin_write().await.expect("begin");
        signing_key::insert_if_absent(&mut tx, &key("old", 100), 50).await.expect("old");
        assert_eq!(signing_key::current(&mut tx, 100).await.expect("current"), None);
        let new = signing_key::insert_if_absent(&mut tx, &key("new", 200), 100).await.expect("new");
        assert_eq!(new.kid, "new");
        assert!(signing_key::find(&mut tx, "old").await.expect("find").is_some());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_twice_migrates_once_and_keeps_what_is_there() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let server = postgres::Server::start();
    for url in [format!("sqlite:{}", folder.path().join("test.db").display()), server.url()] {
        let db = Db::open(&url).await.expect("first");
        let mut tx = db.begin_write().await.expect("begin");
        token::insert(&mut tx, "alice", &token("t1"), FAR).await.expect("insert");
        tx.commit().await.expect("commit");
        let (a, b) = tokio::join!(Db::open(&url), Db::open(&url));
        let mut tx = a.expect("second").begin_read().await.expect("begin");
        assert!(token::get(&mut tx, "alice", "t1", 2).await.expect("get").is_some());
        b.expect("third");
    }
}

#[tokio::test]
async fn an_unknown_kind_of_database_is_named_in_the_error() {
    let error = Db::open("mysql://x").await.expect_err("refused").to_string();
    assert!(error.contains("sqlite:PATH"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nudge_wakes_who_watches_once_it_is_committed_and_nobody_else() {
    on_both(async |db| {
        let mut watcher = db.watch("machine:a");
        let mut other = db.watch("machine:b");
        let wait = std::time::Duration::from_millis(200);
        let mut tx = db.begin_write().await.expect("begin");
        tx.nudge("machine:a");
        assert!(tokio::time::timeout(wait, watcher.changed()).await.is_err(), "not committed");
        tx.commit().await.expect("commit");
        tokio::time::timeout(std::time::Duration::from_secs(120), watcher.changed())
            .await
            .expect("woken");
        assert!(tokio::time::timeout(wait, other.changed()).await.is_err(), "another key");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_an_older_state_changes_nothing() {
    on_both(async |db| {
        let mut tx = db.begin_write().await.expect("begin");
        let columns = ["alice".into(), FAR.into()];
        token::TABLE.insert(&mut tx, &token("t1"), &columns).await.expect("insert");
        let old = token::TABLE.get(&mut tx, "t1").await.expect("get").expect("row");
        let new = old.next("{\"a\":1}".to_owned(), 1);
        assert!(new.updated_at_us > old.updated_at_us, "also within one microsecond");
        assert!(token::TABLE.update(&mut tx, &new, &columns).await.expect("update"));
        assert!(!token::TABLE.update(&mut tx, &new, &columns).await.expect("update"), "stale");
        assert_eq!(token::TABLE.get(&mut tx, "t1").await.expect("get"), Some(new));
    })
    .await;
}
