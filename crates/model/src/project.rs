//! Who takes part in a project: its own members, and those of its tenant.

use std::collections::BTreeMap;

/// Somebody who takes part in a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// Login.
    pub member: String,
    /// Number of the role in the contract: a smaller one is stronger.
    pub role: i64,
    /// Only a member of the tenant, not of the project itself.
    pub inherited: bool,
    /// Microseconds since 1970.
    pub since_us: i64,
}

/// Joins direct and inherited members, ordered by login. Who is both keeps the direct membership with the stronger of the roles.
#[must_use]
pub fn participants(
    direct: impl IntoIterator<Item = Participant>,
    inherited: impl IntoIterator<Item = Participant>,
) -> Vec<Participant> {
    let mut all: BTreeMap<String, Participant> =
        direct.into_iter().map(|p| (p.member.clone(), p)).collect();
    for participant in inherited {
        all.entry(participant.member.clone())
            .and_modify(|direct| direct.role = direct.role.min(participant.role))
            .or_insert(participant);
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn participant(member: &str, role: i64, inherited: bool) -> Participant {
        Participant { member: member.to_owned(), role, inherited, since_us: 0 }
    }

    #[test]
    fn who_is_both_keeps_the_direct_membership_with_the_stronger_role() {
        let direct = [participant("zoe", 3, false), participant("bob", 1, false)];
        let inherited =
            [participant("zoe", 2, true), participant("bob", 3, true), participant("amy", 3, true)];
        assert_eq!(
            participants(direct, inherited),
            [
                participant("amy", 3, true),
                participant("bob", 1, false),
                participant("zoe", 2, false)
            ]
        );
    }
}
