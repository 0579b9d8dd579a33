use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    generation: u64,
    vrf: String,
}

fn kept(generation: u64) -> Kept {
    Kept { generation, vrf: "vrf7".into() }
}

fn store(folder: &Path) -> Store<Kept> {
    Store::new(folder, "switch leaf01")
}

/// Why the state of this folder is refused.
#[track_caller]
fn refused(store: &Store<Kept>, why: &str) {
    let error = format!("{:#}", store.load().expect_err(why));
    assert!(error.contains(why), "{error}");
}

#[test]
fn comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder.path().join("leaf01"));
    assert_eq!(store.load().unwrap(), None);
    for generation in [1, 2, 3] {
        store.save(&kept(generation)).unwrap();
        assert_eq!(store.load().unwrap(), Some(kept(generation)));
    }
    let mode = fs::metadata(store.key()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_was_changed_or_cut_off_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.save(&kept(1)).unwrap();
    let good = fs::read_to_string(store.current()).unwrap();
    for (bad, why) in [
        (good.replace("vrf7", "vrf8"), "its seal does not fit"),
        (good.replace("\"number\":1", "\"number\":9"), "its seal does not fit"),
        (good.replace("\"version\":2", "\"version\":3"), "it has version 3"),
        (good[..good.len() - 2].to_owned(), "its seal does not fit"),
        (good[..good.len() - 66].to_owned(), "it is not whole"),
        (good[..20].to_owned(), "damaged"),
        (format!("{good}more\n"), "it is not whole"),
        (String::new(), "it is empty"),
    ] {
        fs::write(store.current(), &bad).unwrap();
        refused(&store, why);
    }
    // The one before is better than none.
    fs::write(store.current(), good).unwrap();
    store.save(&kept(2)).unwrap();
    fs::write(store.current(), "x").unwrap();
    assert_eq!(store.load().unwrap(), Some(kept(1)));
    fs::remove_file(store.current()).unwrap();
    assert_eq!(store.load().unwrap(), Some(kept(1)));
}

#[test]
fn each_cut_and_each_changed_byte_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.save(&kept(1)).unwrap();
    let good = fs::read(store.current()).unwrap();
    // Without the line end nothing is missing.
    for length in 0..good.len() - 1 {
        fs::write(store.current(), &good[..length]).unwrap();
        assert!(store.load().is_err(), "cut off after {length}");
    }
    for index in 0..good.len() - 1 {
        let mut bad = good.clone();
        bad[index] ^= 1;
        fs::write(store.current(), &bad).unwrap();
        assert!(store.load().is_err(), "changed at {index}");
    }
    fs::write(store.current(), &good).unwrap();
    assert_eq!(store.load().unwrap(), Some(kept(1)));
}

#[test]
fn what_others_wrote_is_not_used() {
    let [mine, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let own = store(mine.path());
    own.save(&kept(1)).unwrap();
    // Another leaf's, with its key or without.
    let foreign = Store::new(other.path(), "switch leaf02");
    foreign.save(&kept(1)).unwrap();
    fs::copy(foreign.current(), own.current()).unwrap();
    refused(&own, "it is the state of switch leaf02, and this is switch leaf01");
    fs::copy(foreign.key(), own.key()).unwrap();
    refused(&own, "switch leaf02");
    // One that pretends to be ours.
    let forger = store(other.path());
    forger.save(&kept(9)).unwrap();
    own.save(&kept(2)).unwrap();
    fs::remove_file(own.previous()).unwrap();
    fs::remove_file(forger.key()).unwrap();
    forger.save(&kept(9)).unwrap();
    fs::copy(forger.current(), own.current()).unwrap();
    refused(&own, "its seal does not fit");
    // One of the time when there were no seals.
    fs::write(own.current(), "{\"version\":1,\"sha256\":\"00\"}\n{}\n").unwrap();
    refused(&own, "it has version 1, this agent reads 2");
}

#[test]
fn the_past_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.save(&kept(1)).unwrap();
    let old = fs::read(store.current()).unwrap();
    store.save(&kept(2)).unwrap();
    store.save(&kept(3)).unwrap();
    fs::write(store.current(), &old).unwrap();
    // The second choice is the state before the last one.
    assert_eq!(store.load().unwrap(), Some(kept(2)));
    fs::write(store.previous(), &old).unwrap();
    refused(&store, "it is of the past: it was saved as number 1, the last one is 3");
}

#[test]
fn power_may_fail_between_key_and_state() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    for generation in [1, 2] {
        store.save(&kept(generation)).unwrap();
    }
    let [current, previous] =
        [store.current(), store.previous()].map(|path| fs::read(path).unwrap());
    store.save(&kept(3)).unwrap();
    // The key had counted on, nothing else was done.
    fs::write(store.current(), current).unwrap();
    fs::write(store.previous(), previous).unwrap();
    assert_eq!(store.load().unwrap(), Some(kept(2)));
    store.save(&kept(4)).unwrap();
    assert_eq!(store.load().unwrap(), Some(kept(4)));
}

#[test]
fn a_disk_that_takes_no_state_makes_no_past() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.save(&kept(1)).unwrap();
    let in_the_way = folder.path().join("desired.next");
    fs::create_dir(&in_the_way).unwrap();
    for generation in 2..5 {
        store.save(&kept(generation)).unwrap_err();
        assert_eq!(store.load().unwrap(), Some(kept(1)));
    }
    fs::remove_dir(in_the_way).unwrap();
    store.save(&kept(5)).unwrap();
    assert_eq!(store.load().unwrap(), Some(kept(5)));
}

#[test]
fn without_its_key_nothing_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.save(&kept(1)).unwrap();
    let key = fs::read_to_string(store.key()).unwrap();
    fs::remove_file(store.key()).unwrap();
    refused(&store, "the key that sealed it is missing");
    fs::write(store.key(), &key).unwrap();
    fs::set_permissions(store.key(), fs::Permissions::from_mode(0o644)).unwrap();
    refused(&store, "mode 644");
    // The next save makes a new one, and nothing is the same with it.
    store.save(&kept(2)).unwrap();
    assert_ne!(fs::read_to_string(store.key()).unwrap(), key);
    assert_eq!(store.load().unwrap(), Some(kept(2)));
    fs::write(store.key(), "{}").unwrap();
    fs::set_permissions(store.key(), fs::Permissions::from_mode(0o600)).unwrap();
    refused(&store, "damaged");
}
