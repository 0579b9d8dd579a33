//! Digests of images.

/// What an image must add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Digest {
    /// The one to use.
    Sha256([u8; 32]),
    /// What older image stores offer. It finds damage, but no malice.
    Md5([u8; 16]),
}

impl Digest {
    /// Reads hex digits; the length tells which one it is.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes: Vec<u8> = text
            .as_bytes()
            .chunks(2)
            .map(|pair| {
                let pair =
                    str::from_utf8(pair).ok().filter(|p| p.len() == 2 && !p.starts_with('+'))?;
                u8::from_str_radix(pair, 16).ok()
            })
            .collect::<Option<_>>()?;
        match bytes.len() {
            32 => Some(Self::Sha256(bytes.try_into().ok()?)),
            16 => Some(Self::Md5(bytes.try_into().ok()?)),
            _ => None,
        }
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Md5(_) => "md5",
        }
    }

    /// The digits.
    #[must_use]
    pub fn hex(&self) -> String {
        let bytes: &[u8] = match self {
            Self::Sha256(bytes) => bytes,
            Self::Md5(bytes) => bytes,
        };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Reads what lies beside an image: digits, then possibly the file's name.
#[must_use]
pub fn parse_beside(kind: &str, text: &str) -> Option<Digest> {
    Digest::from_hex(text.split_whitespace().next()?).filter(|digest| digest.name() == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beside() {
        let sha = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let md5 = "d41d8cd98f00b204e9800998ecf8427e";
        for (kind, text, wanted) in [
            ("sha256", format!("{sha}  img.tar.zst\n"), Some(sha)),
            ("sha256", sha.to_uppercase(), Some(sha)),
            ("md5", format!("{md5} *img.tar.lz4"), Some(md5)),
            ("md5", sha.to_owned(), None),
            ("sha256", "<html>not found</html>".to_owned(), None),
            ("sha256", String::new(), None),
            ("md5", format!("+{}", &md5[1..]), None),
        ] {
            assert_eq!(parse_beside(kind, &text).map(|d| d.hex()).as_deref(), wanted, "{text}");
        }
    }
}
