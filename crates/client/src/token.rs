//! Where the bearer token comes from.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use http::HeaderValue;

/// Where the bearer token comes from.
#[derive(Clone, Default)]
pub enum TokenSource {
    /// Calls are anonymous.
    #[default]
    None,
    /// This one.
    Static(String),
    /// The content of this file. It is read again when it changes and after the server refused it.
    File(PathBuf),
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Static(_) => f.write_str("Static(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// The `authorization` header, remembered until its source changes.
pub(crate) struct Token {
    source: TokenSource,
    read: Mutex<Option<Read>>,
}

#[derive(Clone)]
struct Read {
    header: HeaderValue,
    stamp: Option<Stamp>,
}

/// What tells one version of a file from the next: two writes within one tick of the clock differ in length or are rare.
type Stamp = (SystemTime, u64);

impl Token {
    pub(crate) fn new(source: TokenSource) -> Self {
        Self { source, read: Mutex::new(None) }
    }

    /// The header to send; `None` when calls are anonymous. The error is a sentence with a hint.
    pub(crate) fn header(&self) -> Result<Option<HeaderValue>, String> {
        let mut read = self.read.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let stamp = match &self.source {
            TokenSource::None => return Ok(None),
            TokenSource::Static(_) => None,
            TokenSource::File(path) => Some(stamp(path)?),
        };
        if let Some(known) = read.as_ref().filter(|known| known.stamp == stamp) {
            return Ok(Some(known.header.clone()));
        }
        let header = match &self.source {
            TokenSource::None => return Ok(None),
            TokenSource::Static(token) => bearer(token)?,
            TokenSource::File(path) => {
                let text = fs::read_to_string(path).map_err(|e| unreadable(path, &e))?;
                bearer(&text).map_err(|e| format!("the token file {}: {e}", path.display()))?
            }
        };
        *read = Some(Read { header: header.clone(), stamp });
        Ok(Some(header))
    }

    /// The server refused `used`. True when the source meanwhile holds another token, so that a second
    /// attempt makes sense.
    pub(crate) fn refused(&self, used: Option<&HeaderValue>) -> bool {
        if !matches!(self.source, TokenSource::File(_)) {
            return false;
        }
        *self.read.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        matches!(self.header(), Ok(Some(now)) if Some(&now) != used)
    }
}

fn stamp(path: &Path) -> Result<Stamp, String> {
    let metadata = fs::metadata(path).map_err(|e| unreadable(path, &e))?;
    Ok((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len()))
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("the token file {} cannot be read: {error}", path.display())
}

fn bearer(token: &str) -> Result<HeaderValue, String> {
    let token = token.trim();
    if token.is_empty() {
        return Err("the token is empty".into());
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "the token holds characters that no token has".to_owned())?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(token: &Token) -> String {
        token.header().unwrap().unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn fixed_and_none() {
        assert_eq!(Token::new(TokenSource::None).header(), Ok(None));
        let token = Token::new(TokenSource::Static(" abc\n".into()));
        assert_eq!(text(&token), "Bearer abc");
        assert!(!token.refused(None));
        assert!(Token::new(TokenSource::Static("a\nb".into())).header().is_err());
        assert!(
            !format!("{:?} {:?}", TokenSource::Static("secret".into()), token.header())
                .contains("secret")
        );
    }

    #[test]
    fn a_file_is_read_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = Token::new(TokenSource::File(path.clone()));
        assert!(token.header().unwrap_err().contains("cannot be read"));
        fs::write(&path, "one\n").unwrap();
        assert_eq!(text(&token), "Bearer one");
        fs::write(&path, "number two\n").unwrap();
        assert_eq!(text(&token), "Bearer number two");
        fs::write(&path, "").unwrap();
        assert!(token.header().unwrap_err().contains("empty"));
    }

    #[test]
    fn refused_looks_past_an_unchanged_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = Token::new(TokenSource::File(path.clone()));
        fs::write(&path, "one").unwrap();
        let used = token.header().unwrap();
        assert!(!token.refused(used.as_ref()));
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "two").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert_eq!(text(&token), "Bearer one", "same time, same length");
        assert!(token.refused(used.as_ref()));
        assert_eq!(text(&token), "Bearer two");
    }
}
