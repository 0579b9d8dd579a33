//! Who may call which method, as the contract's method options say. There is no other list of rights.

use connectrpc::{ConnectError, Payload};

use crate::inspect;

/// Role of a tenant's member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TenantRole {
    Unspecified,
    Owner,
    Editor,
    Viewer,
    Guest,
}

/// Role of a project's member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProjectRole {
    Unspecified,
    Owner,
    Editor,
    Viewer,
}

/// Role of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AdminRole {
    Unspecified,
    Editor,
    Viewer,
}

/// Role of an agent of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InfraRole {
    Unspecified,
    Editor,
    Viewer,
}

/// Role of a machine that speaks for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MachineRole {
    Unspecified,
    Editor,
    Viewer,
}

/// Whether a method needs no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// A role is needed.
    Unspecified,
    /// Anybody, without a token.
    Public,
    /// Anybody with a token, about themselves.
    Self_,
}

/// Whether calls are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Auditing {
    Unspecified,
    Included,
    Excluded,
}

/// One row of the table of rights.
#[derive(Debug)]
pub struct Method {
    /// Procedure with a leading slash, as it stands in the URL.
    pub path: &'static str,
    /// Whether either side streams.
    pub streaming: bool,
    /// Tenant roles that may call it; the subject is the request's `login`.
    pub tenant_roles: &'static [TenantRole],
    /// Project roles that may call it; the subject is the request's `project`.
    pub project_roles: &'static [ProjectRole],
    /// Operator roles that may call it.
    pub admin_roles: &'static [AdminRole],
    /// Agent roles that may call it.
    pub infra_roles: &'static [InfraRole],
    /// Machine roles that may call it; the subject is the request's `uuid`.
    pub machine_roles: &'static [MachineRole],
    /// Public or self, when no role is needed.
    pub visibility: Visibility,
    /// Whether calls are recorded.
    pub auditing: Auditing,
    /// Of whom the request speaks: its `project`, `login` or `uuid`, by the kind of role; else empty.
    pub subject: fn(&Payload) -> Result<String, ConnectError>,
    /// Checks the request against the contract's own rules.
    pub validate: fn(&Payload) -> Result<(), ConnectError>,
    /// The request as JSON, for the audit trail.
    pub request_json: fn(&Payload) -> Option<serde_json::Value>,
    /// The response as JSON, for the audit trail.
    pub response_json: fn(&Payload) -> Option<serde_json::Value>,
}

/// Every method of every package, sorted by path.
pub static METHODS: &[Method] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

impl Method {
    /// The row for a procedure such as `/metalstack.api.v2.IPService/Create`.
    #[must_use]
    pub fn find(path: &str) -> Option<&'static Self> {
        METHODS.binary_search_by(|method| method.path.cmp(path)).ok().map(|i| &METHODS[i])
    }
}
