//! Errors of handlers: a reason for programs, a sentence with a hint for humans.

pub(crate) mod detail;
mod reason;

use std::collections::BTreeMap;
use std::time::Duration;

use connectrpc::{ConnectError, ErrorCode};

pub use reason::Reason;

/// Transactions that stood in each other's way have ended by then.
const SOON: Duration = Duration::from_millis(200);
/// A database or another service may be back by then.
const LATER: Duration = Duration::from_secs(2);

/// Why a call was not done.
#[derive(Debug)]
pub struct Error {
    answer: ConnectError,
    reason: Reason,
    metadata: BTreeMap<&'static str, String>,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident = $reason:ident;)*) => {
        impl Error {
            $($(#[$doc])*
            pub fn $name(sentence: impl Into<String>) -> Self {
                Self::reason(Reason::$reason, sentence)
            })*
        }
    };
}

constructors! {
    /// The request is wrong whatever the state of the cloud.
    invalid = Invalid;
    /// The state of something forbids it now.
    precondition = Precondition;
    /// It exists already.
    exists = AlreadyExists;
    /// It changed meanwhile; read again and retry.
    aborted = Conflict;
    /// Nothing left of what was asked for.
    exhausted = Exhausted;
    /// The caller may not.
    denied = PermissionDenied;
    /// The caller is not known.
    unauthenticated = Unauthenticated;
    /// A defect of ours.
    internal = Internal;
    /// Does not exist, for this caller.
    missing = NotFound;
    /// Something else still needs it.
    in_use = InUse;
}

impl Error {
    /// An error with a reason more exact than its code.
    pub fn reason(reason: Reason, sentence: impl Into<String>) -> Self {
        let answer = ConnectError::new(reason.code(), sentence);
        Self { answer, reason, metadata: BTreeMap::new() }
    }

    /// Something with this id does not exist, or is not the caller's: the answer is the same.
    pub fn not_found(kind: &str, id: &str) -> Self {
        Self::missing(format!("no {kind} with id \"{id}\" found")).with("kind", kind).with("id", id)
    }

    /// Something does not answer now.
    pub fn unavailable(sentence: impl Into<String>) -> Self {
        Self::reason(Reason::Unavailable, sentence).retry_in(LATER)
    }

    /// Others wanted the same at the same moment.
    pub fn contention(sentence: impl Into<String>) -> Self {
        Self::reason(Reason::Contention, sentence).retry_in(SOON)
    }

    /// Tells programs more about it.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.metadata.insert(key, value.into());
        self
    }

    /// Says which field of the request is wrong.
    #[must_use]
    pub fn field(mut self, path: impl Into<String>) -> Self {
        let description = self.answer.message.clone().unwrap_or_default();
        let field = detail::Field { path: path.into(), description, rule: String::new() };
        self.answer.details.push(detail::bad_request(&[field]));
        self
    }

    /// Says when the same call may succeed.
    #[must_use]
    pub fn retry_in(mut self, delay: Duration) -> Self {
        self.answer.details.push(detail::retry_info(delay));
        self
    }

    /// The code.
    pub fn code(&self) -> ErrorCode {
        self.answer.code
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.answer)
    }
}

impl std::error::Error for Error {}

impl From<Error> for ConnectError {
    fn from(error: Error) -> Self {
        let Error { mut answer, reason, metadata } = error;
        // what came from elsewhere is completed at the gate
        if reason != Reason::of(answer.code) || !metadata.is_empty() {
            answer.details.insert(0, detail::error_info(reason, &metadata));
        }
        answer
    }
}

impl From<ConnectError> for Error {
    fn from(answer: ConnectError) -> Self {
        Self { reason: Reason::of(answer.code), answer, metadata: BTreeMap::new() }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Unique(what) => Self::exists(format!("already exists ({what})")),
            store::Error::ForeignKey(what) => Self::precondition(format!(
                "something refers to it, or it refers to something missing ({what})"
            )),
            store::Error::Conflict => Self::contention(format!("{error}: retry")),
            store::Error::Database(_) => {
                tracing::error!(%error, "database failed");
                Self::unavailable("the database does not answer, try again")
            }
        }
    }
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        tracing::error!(error = format!("{error:#}"), "call failed");
        Self::internal("the server failed, its log says why")
    }
}
