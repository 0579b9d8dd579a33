//! Address space: the same answers as a naive model, nothing twice when many take at once, nothing lost by a rollback.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use model::pool::{self, Range};
use model::prefix::Block;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use store::prefix::{self, Prefix, Usages, block, range};
use store::{Db, Entity, Error, Tx, Value};

use super::on_both;

fn block_of(net: &str) -> Block {
    let (address, length) = net.split_once('/').expect("prefix");
    Block::new(address.parse().expect("address"), length.parse().expect("length")).expect("block")
}

/// A network with one prefix.
async fn prefix_of(tx: &mut Tx, network: &str, net: &str, addresses: bool) -> Prefix {
    let row = Entity::new(network, "{}".to_owned(), 1);
    let none = Value::OptText(None);
    let columns = [none.clone(), none.clone(), 1_i64.into(), none, Value::OptInt(None)];
    store::network::TABLE.insert(tx, &row, &columns).await.expect("network");
    let prefix = Prefix {
        id: format!("{network}-prefix"),
        network: network.to_owned(),
        namespace: String::new(),
        ordinal: 0,
        block: block_of(net),
        pool: None,
    };
    prefix::insert(tx, &prefix, addresses).await.expect("prefix");
    prefix
}

/// Stores a carved block as the prefix of the network `n`, because what is carved is only known from there.
async fn keep(tx: &mut Tx, id: &str, pool: &str, block: Block) -> Prefix {
    let prefix = Prefix {
        id: id.to_owned(),
        network: "n".to_owned(),
        namespace: String::new(),
        ordinal: 1,
        block,
        pool: Some(pool.to_owned()),
    };
    prefix::insert(tx, &prefix, true).await.expect("child");
    prefix
}

async fn free_numbers(tx: &mut Tx, space: &str) -> BTreeSet<u128> {
    let ranges = range::all(tx, space).await.expect("ranges");
    let mut free = BTreeSet::new();
    for range in ranges {
        for number in range.first..=range.last {
            assert!(free.insert(number), "{number} is free twice");
        }
    }
    free
}

#[derive(Clone, Debug)]
enum Step {
    Take,
    Many(usize),
    Exact(u128),
    Give(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Take),
        2 => (1_usize..8).prop_map(Step::Many),
        1 => (0_u128..24).prop_map(Step::Exact),
        3 => any::<usize>().prop_map(Step::Give),
    ];
    proptest::collection::vec(step, 1..40)
}

async fn ranges_are_like_the_model(db: &Db, space: &str, steps: Vec<Step>) {
    let mut tx = db.begin_write().await.expect("begin");
    range::fill(&mut tx, space, Range { first: 1, last: 20 }).await.expect("fill");
    let mut free: BTreeSet<u128> = (1..=20).collect();
    let mut taken = Vec::new();
    for step in steps {
        match step {
            Step::Take => {
                let got = range::take(&mut tx, space).await.expect("take");
                assert_eq!(got, free.pop_first(), "the lowest");
                taken.extend(got);
            }
            Step::Many(count) => {
                let got = range::take_many(&mut tx, &[(space, count), ("nothing", 2)]).await;
                let [got, nothing]: [Vec<_>; 2] =
                    got.expect("take").try_into().expect("two spaces");
                assert_eq!(nothing, []);
                assert!(got.len() <= count && (free.is_empty() || !got.is_empty()));
                for number in got {
                    assert_eq!(free.pop_first(), Some(number), "the lowest");
                    taken.push(number);
                }
            }
            Step::Exact(number) => {
                let got = range::take_exact(&mut tx, space, number).await.expect("take");
                assert_eq!(got, free.remove(&number), "{number}");
                if got {
                    taken.push(number);
                }
            }
            Step::Give(which) if !taken.is_empty() => {
                let number = taken.swap_remove(which % taken.len());
                range::give(&mut tx, space, number).await.expect("give");
                free.insert(number);
            }
            Step::Give(_) => {}
        }
        assert_eq!(free_numbers(&mut tx, space).await, free);
    }
    for number in taken {
        range::give(&mut tx, space, number).await.expect("give");
    }
    let all = range::all(&mut tx, space).await.expect("ranges");
    assert_eq!(all, [Range { first: 1, last: 20 }], "merged again");
    tx.commit().await.expect("commit");
}

/// Runs a property on a database that all cases share.
fn property<S: Strategy>(
    cases: u32,
    strategy: &S,
    db: &Db,
    test: impl AsyncFn(&Db, &str, S::Value),
) {
    static CASE: AtomicU64 = AtomicU64::new(0);
    let mut runner =
        TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let runtime = tokio::runtime::Handle::current();
    let run = |value| {
        let name = format!("case{}", CASE.fetch_add(1, Ordering::Relaxed));
        tokio::task::block_in_place(|| runtime.block_on(test(db, &name, value)));
        Ok(())
    };
    runner.run(strategy, run).unwrap_or_else(|e| panic!("{e}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_taken_and_given_back_as_by_a_naive_model() {
    on_both(async |db| {
        property(60, &steps(), &db, async |db, space, steps| {
            ranges_are_like_the_model(db, space, steps).await;
        });
    })
    .await;
}

#[derive(Clone, Debug)]
enum Cut {
    Carve(u8),
    Give(usize),
}

async fn blocks_are_like_the_model(db: &Db, steps: Vec<Cut>) {
    let mut tx = db.begin_write().await.expect("begin");
    let whole = prefix_of(&mut tx, "n", "10.0.0.0/24", false).await;
    let mut children: BTreeMap<String, Prefix> = BTreeMap::new();
    for (i, step) in steps.into_iter().enumerate() {
        match step {
            Cut::Carve(length) => {
                let got = block::carve(&mut tx, &whole, "", length).await.expect("carve");
                // what fits is known from the outside: some aligned place that no child touches
                let size = 1_u128 << (32 - length);
                let fits = (whole.block.first..=whole.block.last())
                    .step_by(usize::try_from(size).expect("size"));
                let room = |first: u128| {
                    children
                        .values()
                        .all(|c| c.block.last() < first || c.block.first > first + size - 1)
                };
                assert_eq!(got.is_some(), fits.clone().any(room), "/{length}");
                if let Some((pool, block)) = got {
                    assert_eq!(block.length, length);
                    assert_eq!(block.first % size, 0, "aligned");
                    assert!(room(block.first), "overlaps");
                    let child = keep(&mut tx, &format!("c{i}"), &pool, block).await;
                    children.insert(child.id.clone(), child);
                }
            }
            Cut::Give(which) if !children.is_empty() => {
                let id = children.keys().nth(which % children.len()).expect("child").clone();
                let child = children.remove(&id).expect("child");
                prefix::delete(&mut tx, &child).await.expect("delete");
            }
            Cut::Give(_) => {}
        }
    }
    let usage = prefix::usage(&mut tx, Usages::Network("n")).await.expect("usage");
    let usage = usage.iter().find(|u| u.prefix == whole.id).expect("prefix");
    assert_eq!(usize::try_from(usage.children).expect("count"), children.len());
    for child in children.values() {
        prefix::delete(&mut tx, child).await.expect("delete");
    }
    // all merged: the biggest child fits again, and nothing refers to the prefix
    let (_, block) = block::carve(&mut tx, &whole, "", 25).await.expect("carve").expect("room");
    assert_eq!(block, block_of("10.0.0.0/25"));
    // dropped without commit: the next case begins anew
}

#[tokio::test(flavor = "multi_thread")]
async fn child_prefixes_are_carved_as_by_a_naive_model() {
    let step = prop_oneof![
        3 => (25_u8..=32).prop_map(Cut::Carve),
        2 => any::<usize>().prop_map(Cut::Give),
    ];
    let steps = proptest::collection::vec(step, 1..25);
    on_both(async |db| {
        property(40, &steps, &db, async |db, _, steps| blocks_are_like_the_model(db, steps).await);
    })
    .await;
}

/// Does it again when another transaction was in the way. A macro, because the future of a closure that borrows is not `Send`.
macro_rules! retrying {
    ($attempt:block) => {
        loop {
            let attempt: Result<_, Error> = async $attempt.await;
            match attempt {
                Err(Error::Conflict) => {}
                result => break result.expect("no other error"),
            }
        }
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn many_who_take_at_once_never_get_the_same_number_and_none_is_lost() {
    const TAKERS: u128 = 12;
    const EACH: u128 = 30;
    on_both(async |db| {
        let mut tx = db.begin_write().await.expect("begin");
        range::fill(&mut tx, "s", Range { first: 1, last: 400 }).await.expect("fill");
        tx.commit().await.expect("commit");
        let tasks: Vec<_> = (0..TAKERS)
            .map(|taker| {
                let db = db.clone();
                tokio::spawn(async move {
                    let mut kept = Vec::new();
                    for round in 0..EACH {
                        // some change their mind, some give back what they have
                        let number = retrying!({
                            let mut tx = db.begin_write().await?;
                            let number = if taker % 3 == 0 {
                                let some = range::take_many(&mut tx, &[("s", 1)]).await?;
                                some.into_iter().flatten().next()
                            } else {
                                range::take(&mut tx, "s").await?
                            };
                            if (round + taker) % 5 != 0 {
                                tx.commit().await?;
                                return Ok(number);
                            }
                            Ok(None)
                        });
                        kept.extend(number);
                        if round % 3 == 0
                            && let Some(number) = kept.pop()
                        {
                            retrying!({
                                let mut tx = db.begin_write().await?;
                                range::give(&mut tx, "s", number).await?;
                                tx.commit().await
                            });
                        }
                    }
                    kept
                })
            })
            .collect();
        let mut kept = BTreeSet::new();
        for task in tasks {
            for number in task.await.expect("task") {
                assert!(kept.insert(number), "{number} was given to two");
            }
        }
        let mut tx = db.begin_write().await.expect("begin");
        let mut free = free_numbers(&mut tx, "s").await;
        assert!(free.is_disjoint(&kept));
        free.extend(&kept);
        assert_eq!(free, (1..=400).collect::<BTreeSet<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_space_is_used_to_its_last_number_by_many_at_once() {
    on_both(async |db| {
        let mut tx = db.begin_write().await.expect("begin");
        range::fill(&mut tx, "s", Range { first: 1, last: 100 }).await.expect("fill");
        tx.commit().await.expect("commit");
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let db = db.clone();
                tokio::spawn(async move {
                    let mut got = Vec::new();
                    for _ in 0..11 {
                        let number = retrying!({
                            let mut tx = db.begin_write().await?;
                            let number = range::take(&mut tx, "s").await?;
                            tx.commit().await?;
                            Ok(number)
                        });
                        got.extend(number);
                    }
                    got
                })
            })
            .collect();
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.expect("task"));
        }
        all.sort_unstable();
        assert_eq!(all, (1..=100).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn one_of_many_gets_a_certain_number() {
    on_both(async |db| {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let db = db.clone();
                tokio::spawn(async move {
                    retrying!({
                        let mut tx = db.begin_write().await?;
                        let got = range::take_exact(&mut tx, prefix::VRF, 4711).await?;
                        tx.commit().await?;
                        Ok(got)
                    })
                })
            })
            .collect();
        let mut winners = 0;
        for task in tasks {
            winners += u32::from(task.await.expect("task"));
        }
        assert_eq!(winners, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn children_that_are_carved_at_once_are_apart_and_merge_when_all_are_gone() {
    on_both(async |db| {
        let mut tx = db.begin_write().await.expect("begin");
        let whole = prefix_of(&mut tx, "n", "10.0.0.0/20", false).await;
        tx.commit().await.expect("commit");
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let (db, whole) = (db.clone(), whole.clone());
                tokio::spawn(async move {
                    let mut children = Vec::new();
                    for i in 0..9 {
                        let child = retrying!({
                            let mut tx = db.begin_write().await?;
                            let Some((pool, block)) = block::carve(&mut tx, &whole, "", 26).await?
                            else {
                                return Ok(None);
                            };
                            let child = keep(&mut tx, &format!("c{task}-{i}"), &pool, block).await;
                            tx.commit().await?;
                            Ok(Some(child))
                        });
                        children.extend(child);
                    }
                    children
                })
            })
            .collect();
        let mut children = Vec::new();
        for task in tasks {
            children.extend(task.await.expect("task"));
        }
        let apart: BTreeSet<_> = children.iter().map(|c| c.block).collect();
        assert_eq!((apart.len(), children.len()), (64, 64), "a /20 holds 64 of /26, no more");

        let tasks: Vec<_> = children
            .into_iter()
            .map(|child| {
                let db = db.clone();
                tokio::spawn(async move {
                    retrying!({
                        let mut tx = db.begin_write().await?;
                        prefix::delete(&mut tx, &child).await?;
                        tx.commit().await
                    });
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("task");
        }
        let mut tx = db.begin_write().await.expect("begin");
        let (_, half) = block::carve(&mut tx, &whole, "", 21).await.expect("carve").expect("room");
        assert_eq!(half, block_of("10.0.0.0/21"), "all of it came back in one piece");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_namespace_sees_the_whole_prefix() {
    on_both(async |db| {
        let mut tx = db.begin_write().await.expect("begin");
        let whole = prefix_of(&mut tx, "n", "fd00::/48", false).await;
        let a = block::carve(&mut tx, &whole, "project-a", 64).await.expect("carve").expect("room");
        let b = block::carve(&mut tx, &whole, "project-b", 64).await.expect("carve").expect("room");
        assert_eq!((a.1, b.1), (block_of("fd00::/64"), block_of("fd00::/64")));
        assert_ne!(a.0, b.0, "different pools");
        assert_eq!(block::carve(&mut tx, &whole, "x", 48).await.expect("carve"), None, "not all");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn big_prefixes_cost_no_more_than_small_ones() {
    on_both(async |db| {
        let mut tx = db.begin_write().await.expect("begin");
        let ten = prefix_of(&mut tx, "ten", "10.0.0.0/8", true).await;
        let six = prefix_of(&mut tx, "six", "fd00::/48", true).await;
        for prefix in [&ten, &six] {
            for expected in 1..=20 {
                let number = range::take(&mut tx, &prefix.id).await.expect("take").expect("room");
                assert_eq!(
                    number,
                    prefix.block.first + expected,
                    "the lowest that a host can have"
                );
            }
            assert_eq!(range::all(&mut tx, &prefix.id).await.expect("ranges").len(), 1);
            let last = prefix.block.hosts().1;
            assert!(range::take_exact(&mut tx, &prefix.id, last).await.expect("take"));
            assert!(!range::take_exact(&mut tx, &prefix.id, last).await.expect("take"), "twice");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_make_overlapping_prefixes_one_wins() {
    on_both(async |db| {
        let tasks: Vec<_> = (0..6)
            .map(|i| {
                let db = db.clone();
                tokio::spawn(async move {
                    let mut tx = db.begin_write().await.expect("begin");
                    let net = format!("10.0.0.0/{}", 8 + i);
                    let other =
                        prefix::overlapping(&mut tx, &block_of(&net)).await.expect("overlapping");
                    if other.is_some() {
                        return false;
                    }
                    prefix_of(&mut tx, &format!("n{i}"), &net, true).await;
                    tx.commit().await.expect("commit");
                    true
                })
            })
            .collect();
        let mut winners = 0;
        for task in tasks {
            winners += u32::from(task.await.expect("task"));
        }
        assert_eq!(winners, 1);
        let mut tx = db.begin_write().await.expect("begin");
        let mut overlaps = async |net: &str| {
            prefix::overlapping(&mut tx, &block_of(net)).await.expect("overlapping").is_some()
        };
        assert!(overlaps("0.0.0.0/0").await);
        assert!(overlaps("10.0.0.0/32").await);
        assert!(!overlaps("11.0.0.0/8").await);
        assert!(!overlaps("::/0").await, "another family");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_with_addresses_stays_and_the_pools_of_numbers_are_the_models() {
    on_both(async |db| {
        let mut tx = db.begin_write().await.expect("begin");
        for (space, all) in [(prefix::VRF, pool::VRF), (prefix::ASN, pool::ASN)] {
            assert_eq!(range::all(&mut tx, space).await.expect("ranges"), [all]);
            assert!(range::note(&mut tx, space, 7).await.expect("note"));
            assert!(!range::note(&mut tx, space, 7).await.expect("note"), "twice");
            assert!(range::forget(&mut tx, space, 7).await.expect("forget"));
            assert!(!range::forget(&mut tx, space, 7).await.expect("forget"), "twice");
        }
        let tenant = Entity::new("t", "{}".to_owned(), 1);
        store::tenant::TABLE.insert(&mut tx, &tenant, &[]).await.expect("tenant");
        let project = Entity::new("p", "{}".to_owned(), 1);
        store::project::TABLE.insert(&mut tx, &project, &["t".into()]).await.expect("project");
        let prefix = prefix_of(&mut tx, "n", "10.0.0.0/24", true).await;
        let row = Entity::new("i", "{}".to_owned(), 1);
        let address = model::prefix::key("10.0.0.1".parse().expect("address"));
        let columns: [Value; 6] = [
            "p".into(),
            "n".into(),
            (&prefix.id).into(),
            "".into(),
            address.into(),
            Value::OptText(None),
        ];
        store::ip::TABLE.insert(&mut tx, &row, &columns).await.expect("ip");
        let usage = prefix::usage(&mut tx, Usages::All).await.expect("usage");
        assert_eq!((usage[0].addresses, usage[0].children), (1, 0));
        tx.commit().await.expect("commit");

        let mut tx = db.begin_write().await.expect("begin");
        let refused = prefix::delete(&mut tx, &prefix).await;
        assert!(matches!(refused, Err(Error::ForeignKey(_))), "{refused:?}");
        drop(tx);
        let mut tx = db.begin_write().await.expect("begin");
        let again =
            store::ip::TABLE.insert(&mut tx, &Entity::new("j", "{}".to_owned(), 1), &columns).await;
        assert!(matches!(again, Err(Error::Unique(_))), "{again:?}");
    })
    .await;
}
