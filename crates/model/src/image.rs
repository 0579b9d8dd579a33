//! Images: operating system and version in an id, sets of versions, and which image a short id means.

mod versions;

pub use versions::Versions;

/// Version of an image. Parts that are missing count as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// First number.
    pub major: u64,
    /// Second number; `04` is 4.
    pub minor: u64,
    /// Third number, by convention a date such as 20251101.
    pub patch: u64,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What an id such as `debian-12.0.20251101` or `debian-12` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Everything before the last dash.
    pub os: String,
    /// The version, with 0 for what is not given.
    pub version: Version,
    /// How many numbers were given, 1 to 3.
    pub parts: usize,
}

impl Name {
    /// Reads an id.
    ///
    /// # Errors
    /// A sentence that says what an id looks like.
    pub fn parse(id: &str) -> Result<Self, String> {
        let refuse = || {
            format!(
                "\"{id}\" is no image: expected OS-VERSION, for instance debian-12.0.20251101 or debian-12"
            )
        };
        let (os, version) = id.rsplit_once('-').ok_or_else(refuse)?;
        let (version, parts) = parse_version(version).ok_or_else(refuse)?;
        if os.is_empty() {
            return Err(refuse());
        }
        Ok(Self { os: os.to_owned(), version, parts })
    }

    /// Whether the version is given completely, so that only one image can be meant.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.parts == 3
    }

    /// Whether an image of that operating system and version is meant.
    #[must_use]
    pub fn means(&self, other: &Self) -> bool {
        self.os == other.os
            && self.version.major == other.version.major
            && (self.parts < 2 || self.version.minor == other.version.minor)
            && (self.parts < 3 || self.version.patch == other.version.patch)
    }
}

/// One to three numbers with dots between them, and how many they are.
fn parse_version(text: &str) -> Option<(Version, usize)> {
    let mut numbers = [0_u64; 3];
    let mut parts = 0;
    for part in text.split('.') {
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *numbers.get_mut(parts)? = part.parse().ok()?;
        parts += 1;
    }
    let [major, minor, patch] = numbers;
    Some((Version { major, minor, patch }, parts))
}

/// The newest of the images that a name means: the index into `names`.
#[must_use]
pub fn newest(wanted: &Name, names: &[Name]) -> Option<usize> {
    (0..names.len()).filter(|i| wanted.means(&names[*i])).max_by_key(|i| names[*i].version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(id: &str) -> Name {
        Name::parse(id).expect(id)
    }

    #[test]
    fn an_id_is_an_operating_system_and_a_version() {
        let full = name("firewall-ubuntu-3.0.20240101");
        assert_eq!(full.os, "firewall-ubuntu");
        assert_eq!(full.version.to_string(), "3.0.20240101");
        assert!(full.is_full());
        assert_eq!(name("ubuntu-24.04").version, Version { major: 24, minor: 4, patch: 0 });
        assert!(!name("debian-12").is_full());
        for id in [
            "debian",
            "-12",
            "debian-",
            "debian-12.0.1.2",
            "debian-/12",
            "debian-12.x",
            "debian-12.",
            "d-+1",
        ] {
            assert!(Name::parse(id).is_err(), "{id}");
        }
    }

    #[test]
    fn a_short_id_means_the_newest() {
        let names =
            ["debian-12.0.1", "debian-12.1.3", "debian-12.0.20", "debian-13.0.1", "ubuntu-12.0.99"]
                .map(name);
        let pick = |id: &str| newest(&name(id), &names).map(|i| names[i].version.to_string());
        assert_eq!(pick("debian-12").as_deref(), Some("12.1.3"));
        assert_eq!(pick("debian-12.0").as_deref(), Some("12.0.20"));
        assert_eq!(pick("debian-12.0.1").as_deref(), Some("12.0.1"));
        assert_eq!(pick("debian-11"), None);
        assert_eq!(pick("debian-12.0.2"), None);
    }

    proptest! {
        #[test]
        fn reading_never_panics(id in ".{0,40}") {
            let _ = Name::parse(&id);
        }

        #[test]
        fn a_full_id_is_read_back(os in "[a-z]{1,5}(-[a-z]{1,5})?", a in 0_u64..100, b in 0_u64..100, c: u64) {
            let read = Name::parse(&format!("{os}-{a}.{b}.{c}")).expect("valid");
            prop_assert_eq!(read, Name { os, version: Version { major: a, minor: b, patch: c }, parts: 3 });
        }
    }
}
