//! What went wrong: an exit code for scripts, a sentence and a hint for people.

use std::fmt;

use client::{ConnectError, ErrorCode};

use crate::contract::Method;
use crate::noun::Noun;
use crate::verb::Group;

/// Exit codes; documented in `docs/cli.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something else.
    Failed = 1,
    /// The command line or a file is wrong.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// The state of things forbids it: exists already, changed meanwhile, locked.
    Conflict = 4,
    /// Not logged in, or not allowed.
    Denied = 5,
    /// The server cannot be reached.
    Away = 6,
    /// Waited long enough.
    Timeout = 7,
    /// `diff` found differences.
    Differs = 8,
    /// Nothing is left of what was asked for, or too many calls were made.
    Exhausted = 9,
    /// Ctrl-C, as shells have it.
    Interrupted = 130,
}

/// An error as the user sees it.
#[derive(Debug)]
pub(crate) struct Error {
    pub(crate) kind: Kind,
    pub(crate) sentence: String,
    pub(crate) hints: Vec<String>,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(kind: Kind, sentence: impl Into<String>) -> Self {
        Self { kind, sentence: sentence.into(), hints: Vec::new() }
    }

    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Usage, sentence)
    }

    pub(crate) fn failed(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Failed, sentence)
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// What the server, or the way to it, said about a call of `path`.
    pub(crate) fn call(error: &ConnectError, path: &str, url: &str) -> Self {
        let mut said =
            error.message.clone().unwrap_or_else(|| error.code.as_str().replace('_', " "));
        let method = path.trim_start_matches('/');
        // The innermost cause tells most: refused, unknown host, bad certificate.
        let cause =
            std::iter::successors(std::error::Error::source(error), |cause| cause.source()).last();
        if let Some(cause) = cause.map(ToString::to_string).filter(|cause| !said.contains(cause)) {
            said = format!("{said}: {cause}");
        }
        let told = match error.code {
            ErrorCode::NotFound => Self::new(Kind::NotFound, said)
                .hint(format!("`metalctl {}` shows what there is", list(path))),
            ErrorCode::AlreadyExists => Self::new(Kind::Conflict, said)
                .hint("`update` changes it, `apply` creates or changes"),
            ErrorCode::Aborted => Self::new(Kind::Conflict, said)
                .hint("somebody else changed it meanwhile: read it again and repeat"),
            ErrorCode::FailedPrecondition => Self::new(Kind::Conflict, said),
            ErrorCode::ResourceExhausted => Self::new(Kind::Exhausted, said),
            ErrorCode::InvalidArgument | ErrorCode::OutOfRange => {
                Self::new(Kind::Usage, said).hint("`--help` shows what each flag takes")
            }
            ErrorCode::Unauthenticated => Self::new(Kind::Denied, said).hint(
                "log in with `metalctl login`, or give a token in METAL_TOKEN or METAL_TOKEN_FILE",
            ),
            ErrorCode::PermissionDenied => Self::new(Kind::Denied, said).hint(format!(
                "`metalctl method scoped` shows what this token may call, {method} is not among it"
            )),
            ErrorCode::Unavailable => Self::new(
                Kind::Away,
                format!("{url} cannot be reached: {said}"),
            )
            .hint("check the URL with `metalctl context show`, or give another one with --api-url"),
            ErrorCode::DeadlineExceeded => {
                Self::new(Kind::Timeout, said).hint("--timeout gives the server more time")
            }
            ErrorCode::Unimplemented => Self::failed(format!("{url} does not know {method}")).hint(
                "the server is older than this metalctl, or the URL is not that of the API; \
                 `metalctl version --server` shows both versions",
            ),
            _ => Self::failed(said),
        };
        match client::reason(error).and_then(advice) {
            Some(hint) => told.hint(hint),
            None => told,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever ends the looking on did nothing wrong.
        let what = if self.kind == Kind::Interrupted { "note" } else { "error" };
        write!(f, "{what}: {}", self.sentence)?;
        for hint in &self.hints {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

/// What helps, for reasons that the server gives (docs/errors.md).
fn advice(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "NO_MACHINE_AVAILABLE" => {
            "another --size or --partition may have one; `metalctl admin partition capacity` shows operators where"
        }
        "RESERVED" => "another --size or --partition may have machines that nobody reserved",
        "NO_ADDRESS_AVAILABLE" => {
            "`metalctl ip list` shows addresses that may not be needed any more"
        }
        "CONTENTION" => "nothing is wrong: repeat the command",
        "DISABLED" => "`metal-server serve --help` tells operators how to configure it",
        _ => return None,
    })
}

/// The command that lists what a method is about.
fn list(path: &str) -> String {
    let method = Method::find(path);
    let noun = method.and_then(|method| Noun::of_service(method.short_service()));
    match (noun, method) {
        (Some(noun), Some(method)) if method.package() == "admin" => {
            format!("admin {} list", noun.name)
        }
        (Some(noun), _) if crate::verb::find(noun, "List", Group::User).is_some() => {
            format!("{} list", noun.name)
        }
        (Some(noun), _) if noun.name == "timeline" => "machine list".to_owned(),
        _ => "NOUN list".to_owned(),
    }
}

/// The nearest of `known`, if `word` is probably a misspelling of it.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, delete, replace or swap with the next one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelled_words() {
        let known = ["machine", "network", "image", "ip"];
        assert_eq!(nearest("machnie", known), Some("machine"));
        assert_eq!(nearest("netwrok", known), Some("network"));
        assert_eq!(nearest("imag", known), Some("image"));
        assert_eq!(nearest("cluster", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn codes_tell_kinds_apart() {
        let url = "http://api";
        for (code, kind) in [
            (ErrorCode::NotFound, Kind::NotFound),
            (ErrorCode::Aborted, Kind::Conflict),
            (ErrorCode::Unauthenticated, Kind::Denied),
            (ErrorCode::Unavailable, Kind::Away),
            (ErrorCode::Internal, Kind::Failed),
        ] {
            let error = Error::call(&ConnectError::new(code, "no"), "/a.B/C", url);
            assert_eq!(error.kind, kind, "{code:?}");
        }
    }
}
