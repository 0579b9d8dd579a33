//! Errors of handlers: a code for programs, a sentence with a hint for humans.

use connectrpc::{ConnectError, ErrorCode};

/// Why a call was not done.
#[derive(Debug)]
pub struct Error(ConnectError);

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident = $code:ident;)*) => {
        impl Error {
            $($(#[$doc])*
            pub fn $name(sentence: impl Into<String>) -> Self {
                Self(ConnectError::new(ErrorCode::$code, sentence))
            })*
        }
    };
}

constructors! {
    /// The request is wrong whatever the state of the cloud.
    invalid = InvalidArgument;
    /// The state of something forbids it now.
    precondition = FailedPrecondition;
    /// It exists already.
    exists = AlreadyExists;
    /// Somebody else was faster; read again and retry.
    aborted = Aborted;
    /// Nothing left of what was asked for.
    exhausted = ResourceExhausted;
    /// The caller may not.
    denied = PermissionDenied;
    /// The caller is not known.
    unauthenticated = Unauthenticated;
    /// A defect of ours.
    internal = Internal;
    /// Try again later.
    unavailable = Unavailable;
    /// Does not exist, for this caller.
    missing = NotFound;
}

impl Error {
    /// Something with this id does not exist, or is not the caller's: the answer is the same.
    pub fn not_found(kind: &str, id: &str) -> Self {
        Self::missing(format!("no {kind} with id \"{id}\" found"))
    }

    /// The code.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::error::Error for Error {}

impl From<Error> for ConnectError {
    fn from(error: Error) -> Self {
        error.0
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        Self(error)
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Unique(what) => Self::exists(format!("already exists ({what})")),
            store::Error::ForeignKey(what) => Self::precondition(format!(
                "something refers to it, or it refers to something missing ({what})"
            )),
            store::Error::Conflict => Self::aborted(format!("{error}: retry")),
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
