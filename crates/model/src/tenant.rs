//! Who may stop to own a tenant or a project.

/// Why somebody stays an owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Owned {
    /// A tenant is for ever its own owner: a user without rights in their own tenant could not log in.
    #[error("the membership of \"{0}\" in itself stays: it can be neither ended nor weakened")]
    ByItself(String),
    /// Without an owner nobody could give rights any more.
    #[error("\"{0}\" is the last owner: make somebody else an owner first")]
    ByOneOnly(String),
}

/// May `member` leave `of`, or get a weaker role there? `owners` are the logins of all that own it now.
///
/// # Errors
/// Why not.
///
/// ```
/// use model::tenant::{Owned, may_weaken};
/// assert_eq!(may_weaken("acme", "alice", &["alice", "bob"]), Ok(()));
/// assert_eq!(may_weaken("acme", "carol", &["alice"]), Ok(()));
/// assert_eq!(may_weaken("acme", "alice", &["alice"]), Err(Owned::ByOneOnly("alice".into())));
/// assert_eq!(may_weaken("bob", "bob", &["alice", "bob"]), Err(Owned::ByItself("bob".into())));
/// ```
pub fn may_weaken(of: &str, member: &str, owners: &[&str]) -> Result<(), Owned> {
    if of == member {
        Err(Owned::ByItself(member.to_owned()))
    } else if owners == [member] {
        Err(Owned::ByOneOnly(member.to_owned()))
    } else {
        Ok(())
    }
}
