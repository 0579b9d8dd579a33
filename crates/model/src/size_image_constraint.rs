//! Which images may be installed on a size.

use crate::image::{Version, Versions};

/// Versions of one operating system that fit. Operating systems that no constraint names are not restricted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// Operating system without version.
    pub os: String,
    /// What fits, as it was written.
    pub text: String,
    /// What fits.
    pub versions: Versions,
}

impl Constraint {
    /// Reads a constraint.
    ///
    /// # Errors
    /// A sentence that names the operating system.
    pub fn parse(os: &str, text: &str) -> Result<Self, String> {
        let versions = Versions::parse(text).map_err(|e| format!("image {os}: {e}"))?;
        Ok(Self { os: os.to_owned(), text: text.to_owned(), versions })
    }
}

/// The first constraint that forbids an image, if one does.
#[must_use]
pub fn violated<'a>(
    constraints: &'a [Constraint],
    os: &str,
    version: Version,
) -> Option<&'a Constraint> {
    constraints
        .iter()
        .find(|constraint| constraint.os == os && !constraint.versions.contain(version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Name;

    #[test]
    fn only_constraints_of_the_same_operating_system_count() {
        let constraints: Vec<_> = [("ubuntu", ">= 22.04"), ("ubuntu", "!= 23.10"), ("debian", "*")]
            .map(|(os, text)| Constraint::parse(os, text).expect(text))
            .into();
        let forbids = |id: &str| {
            let name = Name::parse(id).expect(id);
            violated(&constraints, &name.os, name.version).map(|c| c.text.as_str())
        };
        assert_eq!(forbids("ubuntu-22.04.20250101"), None);
        assert_eq!(forbids("ubuntu-20.04.20250101"), Some(">= 22.04"));
        assert_eq!(forbids("ubuntu-23.10.20250101"), Some("!= 23.10"));
        assert_eq!(forbids("debian-1.0.1"), None);
        assert_eq!(forbids("alma-1.0.1"), None);
        assert!(
            Constraint::parse("ubuntu", "22+").expect_err("refused").starts_with("image ubuntu: ")
        );
    }
}
