//! Machines kept free for projects.

use std::collections::BTreeMap;

/// How many machines of one size a project was promised in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Whose it is.
    pub project: String,
    /// How many; what the project has allocated counts towards it.
    pub amount: u64,
}

/// How many machines have to stay free for projects other than `project`. Several reservations of one project add up.
///
/// `allocated` is the number of machines of this size in this partition that each project has.
#[must_use]
pub fn kept_from(
    project: Option<&str>,
    reserved: &[Reserved],
    allocated: &BTreeMap<String, u64>,
) -> u64 {
    per_project(reserved)
        .into_iter()
        .filter(|(owner, _)| Some(*owner) != project)
        .map(|(owner, amount)| amount.saturating_sub(allocated.get(owner).copied().unwrap_or(0)))
        .sum()
}

/// How many of the promised machines their projects have.
#[must_use]
pub fn used(reserved: &[Reserved], allocated: &BTreeMap<String, u64>) -> u64 {
    per_project(reserved)
        .into_iter()
        .map(|(owner, amount)| amount.min(allocated.get(owner).copied().unwrap_or(0)))
        .sum()
}

/// Whether a project may have one more of the `free` machines: always as long as its own reservation is not used up, else
/// only if enough remain for the others.
#[must_use]
pub fn allows(
    project: &str,
    free: u64,
    reserved: &[Reserved],
    allocated: &BTreeMap<String, u64>,
) -> bool {
    let own = per_project(reserved).get(project).copied().unwrap_or(0);
    let has = allocated.get(project).copied().unwrap_or(0);
    free > 0 && (has < own || kept_from(Some(project), reserved, allocated) < free)
}

fn per_project(reserved: &[Reserved]) -> BTreeMap<&str, u64> {
    let mut sums = BTreeMap::new();
    for Reserved { project, amount } in reserved {
        let sum: &mut u64 = sums.entry(project.as_str()).or_default();
        *sum = sum.saturating_add(*amount);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved(list: &[(&str, u64)]) -> Vec<Reserved> {
        list.iter()
            .map(|(project, amount)| Reserved { project: (*project).to_owned(), amount: *amount })
            .collect()
    }

    fn counts(list: &[(&str, u64)]) -> BTreeMap<String, u64> {
        list.iter().map(|(project, amount)| ((*project).to_owned(), *amount)).collect()
    }

    #[track_caller]
    fn check(
        project: &str,
        free: u64,
        promised: &[(&str, u64)],
        allocated: &[(&str, u64)],
        expected: bool,
    ) {
        assert_eq!(allows(project, free, &reserved(promised), &counts(allocated)), expected);
    }

    #[test]
    fn machines_stay_free_for_others() {
        check("a", 1, &[], &[], true);
        check("a", 0, &[], &[], false);
        check("a", 1, &[("b", 1)], &[], false);
        check("a", 2, &[("b", 1)], &[], true);
        check("a", 1, &[("b", 1)], &[("b", 1)], true);
        check("a", 1, &[("b", 1)], &[("b", 5)], true);
        check("a", 1, &[("b", 2)], &[("b", 1)], false);
    }

    #[test]
    fn the_own_reservation_helps_until_it_is_used_up() {
        check("a", 1, &[("a", 1), ("b", 9)], &[], true);
        check("a", 1, &[("a", 1), ("b", 9)], &[("a", 1)], false);
        check("a", 0, &[("a", 1)], &[], false);
        check("a", 1, &[("a", 1), ("a", 1), ("b", 9)], &[("a", 1)], true);
    }

    #[test]
    fn the_order_does_not_count_and_overuse_by_one_does_not_help_another() {
        let promised = [("b", 1), ("c", 3)];
        let turned = [("c", 3), ("b", 1)];
        for list in [promised, turned] {
            check("a", 3, &list, &[("b", 4)], false);
            check("a", 4, &list, &[("b", 4)], true);
        }
        assert_eq!(used(&reserved(&promised), &counts(&[("b", 4), ("c", 1)])), 2);
        assert_eq!(kept_from(None, &reserved(&promised), &counts(&[])), 4);
    }
}
