//! Every test runs on SQLite and on a real PostgreSQL that the test starts and stops.

mod postgres;

use store::signing_key::{self, SigningKey};
use store::token::{self, Token};
use store::{Db, Error};

/// Runs a test on a fresh database of each engine.
async fn on_both(test: impl AsyncFn(Db)) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let url = format!("sqlite:{}", folder.path().join("test.db").display());
    test(Db::open(&url).await.expect("SQLite")).await;
    let server = postgres::Server::start();
    test(Db::open(&server.url()).await.expect("PostgreSQL")).await;
}

fn token(uuid: &str) -> Token {
    Token {
        uuid: uuid.to_owned(),
        user: "alice".to_owned(),
        kind: "TOKEN_TYPE_API".to_owned(),
        description: "für Tests".to_owned(),
        body: "{}".to_owned(),
        issued_at_us: 1,
        expires_at_us: 2_000_000_000_000_000,
    }
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
        token::insert(&mut tx, &token("t1")).await.expect("insert");
        tx.commit().await.expect("commit");

        let mut tx = db.begin_read().await.expect("begin");
        assert_eq!(token::get(&mut tx, "alice", "t1").await.expect("get"), Some(token("t1")));
        assert_eq!(token::get(&mut tx, "bob", "t1").await.expect("get"), None);
        drop(tx);

        let mut tx = db.begin_write().await.expect("begin");
        assert!(!token::delete(&mut tx, "bob", "t1").await.expect("delete"));
        assert!(token::delete(&mut tx, "alice", "t1").await.expect("delete"));
        assert!(!token::delete(&mut tx, "alice", "t1").await.expect("delete"));
        assert_eq!(token::get(&mut tx, "alice", "t1").await.expect("get"), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_token_with_the_same_id_is_refused() {
    on_both(async |db| {
        let mut tx = db.begin_write().await.expect("begin");
        token::insert(&mut tx, &token("t1")).await.expect("insert");
        let again = token::insert(&mut tx, &token("t1")).await;
        assert!(matches!(again, Err(Error::Unique(_))), "{again:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_committed_is_gone() {
    on_both(async |db| {
        let mut tx = db.begin_write().await.expect("begin");
        token::insert(&mut tx, &token("t1")).await.expect("insert");
        drop(tx);
        let mut tx = db.begin_write().await.expect("begin");
        assert_eq!(token::get(&mut tx, "alice", "t1").await.expect("get"), None);
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
        token::insert(&mut tx, &token("t1")).await.expect("insert");
        tx.commit().await.expect("commit");
        let (a, b) = tokio::join!(Db::open(&url), Db::open(&url));
        let mut tx = a.expect("second").begin_read().await.expect("begin");
        assert!(token::get(&mut tx, "alice", "t1").await.expect("get").is_some());
        b.expect("third");
    }
}

#[tokio::test]
async fn an_unknown_kind_of_database_is_named_in_the_error() {
    let error = Db::open("mysql://x").await.expect_err("refused").to_string();
    assert!(error.contains("sqlite:PATH"), "{error}");
}
