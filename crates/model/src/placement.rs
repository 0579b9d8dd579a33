//! Which of the machines that could be taken is taken: the one whose rack carries the fewest of the project's machines, so that
//! a rack that fails takes as few as possible with it.

use std::collections::BTreeMap;

/// What the project already has in a rack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Machines of the same partition, size and type.
    pub machines: usize,
    /// How often one of them carries one of the placement labels asked for; a machine counts once for each label.
    pub labelled: usize,
}

/// The candidates in the order in which they should be tried: first those in racks that are best for both, then those best for the
/// labels, then the rest. Candidates of equal worth stay in the order in which they came.
#[must_use]
pub fn rank<'a, T>(
    candidates: &'a [T],
    rack: impl Fn(&T) -> &str,
    load: &BTreeMap<String, Load>,
) -> Vec<&'a T> {
    let of = |candidate: &T| load.get(rack(candidate)).copied().unwrap_or_default();
    let fewest = candidates.iter().map(|c| of(c).machines).min().unwrap_or_default();
    let least = candidates.iter().map(|c| of(c).labelled).min().unwrap_or_default();
    let worth = |candidate: &T| {
        let Load { machines, labelled } = of(candidate);
        match (labelled == least, machines == fewest) {
            (true, true) => (0, 0, 0),
            (true, false) => (1, 0, 0),
            (false, _) => (2, labelled, machines),
        }
    };
    let mut ranked: Vec<&T> = candidates.iter().collect();
    ranked.sort_by_key(|candidate| worth(candidate));
    ranked
}

/// Whether no other rack can be better than this one, so that nobody needs to look at the others.
#[must_use]
pub fn is_unbeatable(rack: &str, load: &BTreeMap<String, Load>) -> bool {
    load.get(rack).copied().unwrap_or_default() == Load::default()
}
