//! Why calls fail, for programs: the closed list of reasons. `docs/errors.md` shows the same list.

use connectrpc::ErrorCode;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:ident $text:literal;)*) => {
        /// Why a call was not done. Programs branch on it; a reason that has shipped keeps its text and its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Reason {
            /// All of them; the first one of a code is what is said when nothing more exact is known.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As it stands in `google.rpc.ErrorInfo`.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The code that goes with it.
            #[must_use]
            pub fn code(self) -> ErrorCode {
                match self { $(Self::$name => ErrorCode::$code,)* }
            }

            /// One or two sentences for the documentation.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)* }
            }
        }
    };
}

reasons! {
    /// The request is wrong whatever the state of the cloud; the sentence says why.
    Invalid = InvalidArgument "INVALID";
    /// Fields break the rules of the contract: `BadRequest` names each with the rule.
    InvalidFields = InvalidArgument "INVALID_FIELDS";
    /// The header `idempotency-key` is not 16 to 255 printable characters.
    IdempotencyKeyInvalid = InvalidArgument "IDEMPOTENCY_KEY_INVALID";
    /// The idempotency key came before with another request: make a new key for each new wish.
    IdempotencyKeyReused = InvalidArgument "IDEMPOTENCY_KEY_REUSED";
    /// Does not exist, for this caller. `kind` and `id` say what.
    NotFound = NotFound "NOT_FOUND";
    /// Exists already.
    AlreadyExists = AlreadyExists "ALREADY_EXISTS";
    /// The state of something forbids it now; the sentence says of what.
    Precondition = FailedPrecondition "PRECONDITION";
    /// Something else still needs it: remove that first.
    InUse = FailedPrecondition "IN_USE";
    /// An operator has locked the machine.
    Locked = FailedPrecondition "LOCKED";
    /// The machine has no allocation.
    NotAllocated = FailedPrecondition "NOT_ALLOCATED";
    /// This part of the control plane is not configured.
    Disabled = FailedPrecondition "DISABLED";
    /// It changed since it was read: read it again, decide anew, repeat.
    Conflict = Aborted "CONFLICT";
    /// Others wanted the same at the same moment: repeat the call as it is.
    Contention = Aborted "CONTENTION";
    /// Nothing is left of what was asked for.
    Exhausted = ResourceExhausted "EXHAUSTED";
    /// No free machine of this `size` waits in this `partition`.
    NoMachineAvailable = ResourceExhausted "NO_MACHINE_AVAILABLE";
    /// The free machines of this `size` in this `partition` are reserved for other projects.
    Reserved = ResourceExhausted "RESERVED";
    /// No address is free in this `network`.
    NoAddressAvailable = ResourceExhausted "NO_ADDRESS_AVAILABLE";
    /// No prefix of this length is free in this `network`.
    NoPrefixAvailable = ResourceExhausted "NO_PREFIX_AVAILABLE";
    /// The pool of these numbers is used up: `pool` is that of autonomous systems or of routing instances.
    NoNumberAvailable = ResourceExhausted "NO_NUMBER_AVAILABLE";
    /// Too many calls within a minute; `limit` is how many are allowed, `RetryInfo` says when it goes on.
    RateLimited = ResourceExhausted "RATE_LIMITED";
    /// The token does not allow this method for this subject.
    PermissionDenied = PermissionDenied "PERMISSION_DENIED";
    /// The caller is not known: a token is needed.
    Unauthenticated = Unauthenticated "UNAUTHENTICATED";
    /// The token is malformed, expired, revoked or from elsewhere.
    TokenInvalid = Unauthenticated "TOKEN_INVALID";
    /// Something that is needed does not answer: try again later.
    Unavailable = Unavailable "UNAVAILABLE";
    /// The coordination server of the VPN does not answer or refuses.
    VpnUnavailable = Unavailable "VPN_UNAVAILABLE";
    /// It took longer than the caller allowed; it may have been done.
    DeadlineExceeded = DeadlineExceeded "DEADLINE_EXCEEDED";
    /// The caller gave up.
    Canceled = Canceled "CANCELED";
    /// The server does not know the method.
    Unimplemented = Unimplemented "UNIMPLEMENTED";
    /// A defect of the server; its log says more.
    Internal = Internal "INTERNAL";
}

impl Reason {
    /// What is said of an error of which only the code is known.
    #[must_use]
    pub fn of(code: ErrorCode) -> Self {
        let known = Self::ALL.iter().copied().find(|reason| reason.code() == code);
        known.unwrap_or(match code {
            ErrorCode::OutOfRange => Self::Invalid,
            _ => Self::Internal,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_documentation_shows_the_list() {
        let mut table = String::from("| reason | code | meaning |\n|---|---|---|\n");
        for reason in Reason::ALL {
            let code = reason.code();
            writeln!(table, "| `{}` | {} | {} |", reason.text(), code.as_str(), reason.meaning())
                .expect("text");
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors.md");
        let page = std::fs::read_to_string(path).expect("docs/errors.md");
        assert!(page.contains(&table), "docs/errors.md lacks this table:\n{table}");
    }

    #[test]
    fn every_reason_is_its_own_and_every_code_has_one() {
        let texts: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.text()).collect();
        assert_eq!(texts.len(), Reason::ALL.len());
        assert!(texts.iter().all(|t| t.chars().all(|c| c.is_ascii_uppercase() || c == '_')));
        assert_eq!(Reason::of(ErrorCode::Aborted), Reason::Conflict);
        assert_eq!(Reason::of(ErrorCode::ResourceExhausted), Reason::Exhausted);
        assert_eq!(Reason::of(ErrorCode::OutOfRange), Reason::Invalid);
        assert_eq!(Reason::of(ErrorCode::DataLoss), Reason::Internal);
        assert_eq!(Reason::of(ErrorCode::Unknown), Reason::Internal);
    }
}
