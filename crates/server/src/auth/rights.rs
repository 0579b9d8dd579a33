//! The decision whether a caller may call a method: pure, from the contract's table of rights alone.

use std::collections::BTreeMap;

use proto::method::{AdminRole, InfraRole, MachineRole, Method, Visibility};
use serde::{Deserialize, Serialize};

/// What a token may do, as it is stored beside the token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rights {
    /// Operator role: `editor` or `viewer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<Level>,
    /// Agent role: `editor` or `viewer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infra: Option<Level>,
    /// Machine role per machine id; `*` stands for every machine.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub machines: BTreeMap<String, Level>,
}

/// Strength of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// May change things.
    Editor,
    /// May look at things.
    Viewer,
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no valid token and the method is not public.
    Unauthenticated,
    /// The token does not carry the right.
    Denied,
}

/// May a caller with these rights (`None`: without a token) call `method`, if it speaks of `machine`?
///
/// # Errors
/// The reason of the refusal.
pub fn decide(
    method: &Method,
    caller: Option<&Rights>,
    machine: Option<&str>,
) -> Result<(), Refusal> {
    if method.visibility == Visibility::Public {
        return Ok(());
    }
    let rights = caller.ok_or(Refusal::Unauthenticated)?;
    let allowed = method.visibility == Visibility::Self_
        || admin(method, rights.admin)
        || infra(method, rights.infra)
        || self::machine(method, rights, machine);
    if allowed { Ok(()) } else { Err(Refusal::Denied) }
}

/// An admin editor may do everything; a viewer whatever lists any viewer role.
fn admin(method: &Method, level: Option<Level>) -> bool {
    match level {
        Some(Level::Editor) => true,
        Some(Level::Viewer) => {
            method.admin_roles.contains(&AdminRole::Viewer)
                || method.infra_roles.contains(&InfraRole::Viewer)
                || method.machine_roles.contains(&MachineRole::Viewer)
                || method.project_roles.contains(&proto::method::ProjectRole::Viewer)
                || method.tenant_roles.contains(&proto::method::TenantRole::Viewer)
        }
        None => false,
    }
}

fn infra(method: &Method, level: Option<Level>) -> bool {
    let role = match level {
        Some(Level::Editor) => InfraRole::Editor,
        Some(Level::Viewer) => InfraRole::Viewer,
        None => return false,
    };
    method.infra_roles.contains(&role)
}

fn machine(method: &Method, rights: &Rights, machine: Option<&str>) -> bool {
    let Some(machine) = machine else { return false };
    let Some(level) = rights.machines.get(machine).or_else(|| rights.machines.get("*")) else {
        return false;
    };
    method.machine_roles.contains(&match level {
        Level::Editor => MachineRole::Editor,
        Level::Viewer => MachineRole::Viewer,
    })
}
