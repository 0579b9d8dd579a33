//! Sets of versions, as constraints describe them: exact, so that two of them can be compared.

use super::{Version, parse_version};

/// A set of versions as ranges without their upper ends; no upper end means all from there on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions(Vec<(Version, Option<Version>)>);

const ZERO: Version = Version { major: 0, minor: 0, patch: 0 };

impl Versions {
    /// Reads `*`, a version, or an operator and a version with a blank between them. A version with fewer than three numbers
    /// stands for all that begin with it: `= 12` takes 12.4.1, `> 12` does not.
    ///
    /// # Errors
    /// A sentence that says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!(
                "\"{text}\" is no version constraint: use *, a version, or one of = != > < >= <= ~ ^, a blank and a version, for instance >= 12.0"
            )
        };
        let (operator, version) = match text.trim().split_once(' ') {
            None if text.trim() == "*" => return Ok(Self(vec![(ZERO, None)])),
            None => ("=", text.trim()),
            Some((operator, version)) => (operator, version.trim()),
        };
        let (from, parts) = parse_version(version).ok_or_else(refuse)?;
        let behind = after(from, parts);
        Ok(Self(match operator {
            "=" => vec![(from, behind)],
            "!=" => {
                let mut ranges = vec![(ZERO, Some(from))];
                ranges.extend(behind.map(|behind| (behind, None)));
                ranges
            }
            ">" => behind.map(|behind| (behind, None)).into_iter().collect(),
            ">=" | "=>" => vec![(from, None)],
            "<" => vec![(ZERO, Some(from))],
            "<=" | "=<" => vec![(ZERO, behind)],
            // changes of the last number given, but at least of the third
            "~" | "~>" => vec![(from, after(from, parts.min(2)))],
            // changes right of the first number that is not 0
            "^" => {
                let fixed = match (from.major, from.minor) {
                    (0, 0) => parts,
                    (0, _) => 2,
                    _ => 1,
                };
                vec![(from, after(from, fixed))]
            }
            _ => return Err(refuse()),
        }))
    }

    /// Whether a version is in the set.
    #[must_use]
    pub fn contain(&self, version: Version) -> bool {
        self.0.iter().any(|(from, to)| version >= *from && to.is_none_or(|to| version < to))
    }

    /// Whether some version is in both sets.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> bool {
        self.0.iter().any(|(a, a_end)| {
            other.0.iter().any(|(b, b_end)| {
                let from = *a.max(b);
                a_end.is_none_or(|end| from < end) && b_end.is_none_or(|end| from < end)
            })
        })
    }
}

/// The first version behind all that begin with the first `parts` numbers; nothing when there is none.
fn after(version: Version, parts: usize) -> Option<Version> {
    let Version { major, minor, patch } = version;
    let major_up = || Some(Version { major: major.checked_add(1)?, ..ZERO });
    let minor_up =
        || Some(Version { major, minor: minor.checked_add(1)?, patch: 0 }).or_else(major_up);
    match parts {
        1 => major_up(),
        2 => minor_up(),
        _ => match patch.checked_add(1) {
            Some(patch) => Some(Version { major, minor, patch }),
            None => minor_up(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(constraint: &str, inside: &[&str], outside: &[&str]) {
        let versions = Versions::parse(constraint).expect(constraint);
        for text in inside {
            assert!(
                versions.contain(parse_version(text).expect("version").0),
                "{constraint}: {text}"
            );
        }
        for text in outside {
            assert!(
                !versions.contain(parse_version(text).expect("version").0),
                "{constraint}: {text}"
            );
        }
    }

    #[test]
    fn operators() {
        check("*", &["0.0.0", "99.1.2"], &[]);
        check("12", &["12.0.0", "12.9.20250101"], &["11.9.9", "13.0.0"]);
        check("24.04", &["24.4.1"], &["24.10.1"]);
        check("= 12.0.5", &["12.0.5"], &["12.0.4", "12.0.6"]);
        check("!= 12.0", &["11.9.9", "12.1.0"], &["12.0.0", "12.0.7"]);
        check("> 12", &["13.0.0"], &["12.0.0", "12.5.0"]);
        check("> 12.0.3", &["12.0.4"], &["12.0.3"]);
        check(">= 22.04", &["22.4.0", "24.4.0"], &["22.3.9", "20.10.0"]);
        check("< 12", &["11.99.0"], &["12.0.0"]);
        check("<= 12.1", &["12.1.9", "1.0.0"], &["12.2.0"]);
        check("~ 12.1", &["12.1.0", "12.1.99"], &["12.2.0", "12.0.9"]);
        check("~ 12", &["12.9.9"], &["13.0.0"]);
        check("~ 12.1.5", &["12.1.5", "12.1.9"], &["12.1.4", "12.2.0"]);
        check("^ 12.1.5", &["12.1.5", "12.9.0"], &["12.1.4", "13.0.0"]);
        check("^ 0.2.3", &["0.2.9"], &["0.3.0", "0.2.2"]);
        check("^ 0.0.3", &["0.0.3"], &["0.0.4"]);
        check("^ 0", &["0.9.9"], &["1.0.0"]);
        check("< 0", &[], &["0.0.0"]);
    }

    #[test]
    fn what_is_no_constraint_is_refused_with_a_hint() {
        for text in ["", ">12", "> ", "> a", "12.x", "*.1", "! 12", ">= 1 2", "1.2.3.4"] {
            let error = Versions::parse(text).expect_err(text);
            assert!(error.contains(">= 12.0"), "{error}");
        }
    }

    #[test]
    fn overlap_is_exact() {
        let both =
            |a: &str, b: &str| Versions::parse(a).expect(a).overlap(&Versions::parse(b).expect(b));
        assert!(both("*", "= 1.0.0"));
        assert!(both(">= 12", "~ 13"));
        assert!(!both("< 12", ">= 12"));
        assert!(!both("12", "13"));
        assert!(both("!= 12", ">= 12"));
        assert!(!both("!= 12", "= 12.4.4"));
        assert!(!both("> 12.0", "<= 12.0"));
        assert!(!both("< 0", "*"), "nothing is below 0");
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "[=!<>~^*0-9. ]{0,24}") {
            let _ = Versions::parse(&text);
        }

        #[test]
        fn what_both_contain_makes_them_overlap(
            a in "(=|!=|>|<|>=|<=|~|\\^) [0-3](\\.[0-3]){0,2}", b in "(=|!=|>|<|>=|<=|~|\\^) [0-3](\\.[0-3]){0,2}",
        ) {
            let (a, b) = (Versions::parse(&a).expect("a"), Versions::parse(&b).expect("b"));
            let mut common = false;
            for n in 0..125 {
                let version = Version { major: n / 25, minor: n / 5 % 5, patch: n % 5 };
                common |= a.contain(version) && b.contain(version);
            }
            prop_assert_eq!(a.overlap(&b), common);
        }
    }
}
