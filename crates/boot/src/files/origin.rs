//! Where a file comes from.

use ring::digest::{SHA256, digest};

/// A URL, and what its content has to be if the URL says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Without the part behind `#`.
    pub url: String,
    /// SHA-256 in lower-case hex from `#sha256=HEX`.
    pub sha256: Option<String>,
}

impl Origin {
    /// Reads a URL of a recipe. An unknown part behind `#` is ignored, as it never reaches a server.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
        let pinned = fragment.strip_prefix("sha256=").filter(|hex| hex.len() == 64);
        let pinned = pinned.filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        Self { url: url.to_owned(), sha256: pinned.map(str::to_ascii_lowercase) }
    }

    /// Name in our cache and in URLs: from the content if that is pinned, else from the URL.
    #[must_use]
    pub fn id(&self) -> String {
        let mut id = self
            .sha256
            .clone()
            .unwrap_or_else(|| hex(digest(&SHA256, self.url.as_bytes()).as_ref()));
        id.truncate(32);
        id
    }

    /// The last part of the path for logs and screens, harmless in a script.
    #[must_use]
    pub fn name(url: &str) -> String {
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        let harmless = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
        let name: String = name.chars().filter(harmless).take(64).collect();
        if name.is_empty() { "file".to_owned() } else { name }
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names() {
        let plain = Origin::new("http://h/k?v=1#x");
        assert_eq!(plain, Origin { url: "http://h/k?v=1".into(), sha256: None });
        assert_eq!(plain.id().len(), 32);
        assert_ne!(plain.id(), Origin::new("http://h/k?v=2").id());
        let hex = "AB".repeat(32);
        let pinned = Origin::new(&format!("http://h/k#sha256={hex}"));
        assert_eq!(pinned.id(), "ab".repeat(16));
        assert_eq!(Origin::new("http://h/k#sha256=12").sha256, None);
        assert_eq!(Origin::name("http://h/a/vmlinuz-6.1?x=/y"), "vmlinuz-6.1");
        assert_eq!(Origin::name("http://h/a/;${x} boot"), "xboot");
        assert_eq!(Origin::name("http://h/"), "file");
    }
}
