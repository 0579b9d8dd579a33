//! Sums of an image while it passes by.

use md5::Digest as _;

use super::digest::Digest;

/// The sums that may be needed.
pub(super) struct Sums {
    sha256: Option<ring::digest::Context>,
    md5: Option<md5::Md5>,
}

impl Sums {
    /// The kind is known.
    pub(super) fn only(digest: &Digest) -> Self {
        match digest {
            Digest::Sha256(_) => Self { sha256: Some(sha256()), md5: None },
            Digest::Md5(_) => Self { sha256: None, md5: Some(md5::Md5::new()) },
        }
    }

    /// The kind is not known yet.
    pub(super) fn both() -> Self {
        Self { sha256: Some(sha256()), md5: Some(md5::Md5::new()) }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        if let Some(sum) = &mut self.sha256 {
            sum.update(bytes);
        }
        if let Some(sum) = &mut self.md5 {
            sum.update(bytes);
        }
    }

    /// The sum of the same kind.
    pub(super) fn finish(self, like: &Digest) -> Digest {
        match (like, self.sha256, self.md5) {
            (Digest::Sha256(_), Some(sum), _) => {
                let mut bytes = [0; 32];
                bytes.copy_from_slice(sum.finish().as_ref());
                Digest::Sha256(bytes)
            }
            (_, _, Some(sum)) => Digest::Md5(sum.finalize().into()),
            (_, _, None) => Digest::Md5([0; 16]),
        }
    }
}

fn sha256() -> ring::digest::Context {
    ring::digest::Context::new(&ring::digest::SHA256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_nothing() {
        for hex in [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "d41d8cd98f00b204e9800998ecf8427e",
        ] {
            let wanted = Digest::from_hex(hex).unwrap();
            assert_eq!(Sums::both().finish(&wanted), wanted);
            assert_eq!(Sums::only(&wanted).finish(&wanted), wanted);
            let mut sums = Sums::both();
            sums.add(b"x");
            assert_ne!(sums.finish(&wanted), wanted);
        }
    }
}
