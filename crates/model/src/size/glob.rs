//! Patterns for names of hardware, as shells know them for one level of a path.

/// A pattern: `*` stands for any text without a slash, `?` for one such character, `[a-c]` for one of a class, `[^a-c]` for one
/// outside of it, and `\` takes the special meaning of the next character away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Char(char),
    Class { ranges: Vec<(char, char)>, negated: bool },
}

impl Glob {
    /// Reads a pattern; nothing when a class is not closed or empty, or nothing follows the last backslash.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Any,
                '?' => Part::One,
                '\\' => Part::Char(chars.next()?),
                '[' => {
                    let negated = chars.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    while chars.next_if_eq(&']').is_none() {
                        let low = class_char(&mut chars)?;
                        let high = match chars.next_if_eq(&'-') {
                            Some(_) => class_char(&mut chars)?,
                            None => low,
                        };
                        ranges.push((low, high));
                    }
                    if ranges.is_empty() {
                        return None;
                    }
                    Part::Class { ranges, negated }
                }
                other => Part::Char(other),
            });
        }
        Some(Self { text: text.to_owned(), parts })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole name fits.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        // a star that took `taken` characters so far: where to go on when the rest does not fit
        let mut star: Option<(usize, usize)> = None;
        let (mut part, mut at) = (0, 0);
        loop {
            match (self.parts.get(part), name.get(at)) {
                (None, None) => return true,
                (Some(Part::Any), _) => {
                    star = Some((part + 1, at));
                    part += 1;
                    continue;
                }
                (Some(one), Some(c)) if one.takes(*c) => {
                    part += 1;
                    at += 1;
                    continue;
                }
                _ => {}
            }
            match star {
                Some((after, taken)) if name.get(taken).is_some_and(|c| *c != '/') => {
                    star = Some((after, taken + 1));
                    (part, at) = (after, taken + 1);
                }
                _ => return false,
            }
        }
    }
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Any => false,
            Self::One => c != '/',
            Self::Char(wanted) => *wanted == c,
            Self::Class { ranges, negated } => {
                c != '/' && ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

fn class_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '\\' => chars.next(),
        ']' | '-' => None,
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;
    use proptest::prelude::*;

    #[track_caller]
    fn check(pattern: &str, fits: &[&str], others: &[&str]) {
        let glob = Glob::parse(pattern).expect(pattern);
        for name in fits {
            assert!(glob.matches(name), "{pattern} should take {name}");
        }
        for name in others {
            assert!(!glob.matches(name), "{pattern} should not take {name}");
        }
    }

    #[test]
    fn stars_questions_and_classes() {
        check("*", &["", "anything at all"], &["a/b"]);
        check("/dev/nvme*", &["/dev/nvme", "/dev/nvme0n1"], &["/dev/sda", "/dev/nvme/0"]);
        check("/dev/sd[a-c]", &["/dev/sda", "/dev/sdc"], &["/dev/sdd", "/dev/sdab"]);
        check("sd[^a]", &["sdb"], &["sda", "sd/", "sd"]);
        check("*Xeon*D-????", &["Intel Xeon X D-2141"], &["Intel Xeon D-21412", "Xeon"]);
        check(r"AD102GL \[RTX *\]", &["AD102GL [RTX 6000]"], &["AD102GL R"]);
        check("", &[""], &["x"]);
    }

    #[test]
    fn broken_patterns_are_told() {
        for pattern in ["[", "[]", "[a", "[a-]", "[-a]", "a\\"] {
            assert_eq!(Glob::parse(pattern), None, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn a_name_without_special_characters_takes_itself_only(name in "[a-z/ ]{0,12}", other in "[a-z/ ]{0,12}") {
            let glob = Glob::parse(&name).expect("no special characters");
            prop_assert!(glob.matches(&name));
            prop_assert_eq!(glob.matches(&other), name == other);
        }

        #[test]
        fn nothing_makes_it_panic(pattern in ".{0,20}", name in ".{0,20}") {
            if let Some(glob) = Glob::parse(&pattern) {
                let _ = glob.matches(&name);
            }
        }
    }
}
