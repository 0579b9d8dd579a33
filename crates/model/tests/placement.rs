//! Where machines go, and what ports are called.

use std::collections::BTreeMap;

use model::placement::{Load, is_unbeatable, rank};
use model::port_name::{Naming, line, translate};
use proptest::prelude::*;

#[track_caller]
fn check_rank(load: &[(&str, usize, usize)], expect: &str) {
    let load = load
        .iter()
        .map(|(rack, machines, labelled)| {
            ((*rack).to_owned(), Load { machines: *machines, labelled: *labelled })
        })
        .collect::<BTreeMap<_, _>>();
    let candidates = ["a", "b", "c"];
    let ranked: Vec<&str> = rank(&candidates, |c| c, &load).into_iter().copied().collect();
    assert_eq!(ranked.join(" "), expect);
}

#[test]
fn machines_spread_over_racks() {
    check_rank(&[], "a b c");
    check_rank(&[("a", 1, 0)], "b c a");
    check_rank(&[("a", 1, 0), ("b", 2, 0)], "c a b");
    // labels weigh more than the number of machines
    check_rank(&[("a", 0, 1), ("b", 5, 0), ("c", 1, 1)], "b a c");
}

proptest! {
    /// Placing one after the other never leaves two racks more than one machine apart.
    #[test]
    fn racks_stay_even(count in 1_usize..40) {
        let mut load = BTreeMap::<String, Load>::new();
        for _ in 0..count {
            let racks = ["a", "b", "c", "d"];
            let rack = *rank(&racks, |r| r, &load)[0];
            if is_unbeatable(rack, &load) { prop_assert!(!load.contains_key(rack)); }
            load.entry(rack.to_owned()).or_default().machines += 1;
        }
        let most = load.values().map(|l| l.machines).max().unwrap();
        let least = if load.len() < 4 { 0 } else { load.values().map(|l| l.machines).min().unwrap() };
        prop_assert!(most - least <= 1);
    }

    /// Port names go there and back.
    #[test]
    fn port_names_go_there_and_back(lines in proptest::collection::btree_set(0_u32..200, 1..20)) {
        let sonic: Vec<String> = lines.iter().map(|l| format!("Ethernet{l}")).collect();
        let sonic: Vec<&str> = sonic.iter().map(String::as_str).collect();
        for name in &sonic {
            let cumulus = translate(name, &sonic, Naming::Sonic, Naming::Cumulus).unwrap();
            prop_assert_eq!(line(&cumulus, Naming::Cumulus), line(name, Naming::Sonic));
            prop_assert_eq!(&translate(&cumulus, &[&cumulus], Naming::Cumulus, Naming::Sonic).unwrap(), name);
        }
    }

    #[test]
    fn port_names_never_panic(name in ".{0,20}") {
        let _ = line(&name, Naming::Cumulus);
        let _ = line(&name, Naming::Sonic);
    }
}
