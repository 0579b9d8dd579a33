//! Who may take addresses from which network, and what may become of them.

use crate::network::Type;

/// Label of an address that names the machine it is attached to.
pub const MACHINE_LABEL: &str = "machine.metal-stack.io/id";

/// Why an address cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request is wrong.
    Invalid(String),
    /// It needs other rights.
    Denied(String),
}

/// Whether a project may take an address from a network.
///
/// # Errors
/// Why not.
pub fn may_take(
    network: &str,
    kind: Type,
    owner: Option<&str>,
    project: &str,
    operator: bool,
) -> Result<(), Refusal> {
    let shared = matches!(kind, Type::ChildShared | Type::External | Type::Underlay);
    let allowed = match owner {
        Some(owner) => owner == project || kind == Type::ChildShared,
        None => shared,
    };
    if !allowed {
        return Err(Refusal::Invalid(format!(
            "not allowed to create ip in network {network} for project {project}"
        )));
    }
    if kind.is_super() {
        return Err(Refusal::Denied(format!(
            "not allowed to create ip in super network {network}, make a child network of it"
        )));
    }
    if kind == Type::Underlay && !operator {
        return Err(Refusal::Denied(format!(
            "only operators take ips of the underlay network {network}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_shared_and_external_networks_give_addresses() {
        let of = |kind, owner, operator| match may_take("n", kind, owner, "p", operator) {
            Ok(()) => "ok",
            Err(Refusal::Invalid(_)) => "invalid",
            Err(Refusal::Denied(_)) => "denied",
        };
        assert_eq!(of(Type::Child, Some("p"), false), "ok");
        assert_eq!(of(Type::Child, Some("q"), false), "invalid");
        assert_eq!(of(Type::ChildShared, Some("q"), false), "ok");
        assert_eq!(of(Type::External, None, false), "ok");
        assert_eq!(of(Type::External, Some("p"), false), "ok");
        assert_eq!(of(Type::External, Some("q"), false), "invalid");
        assert_eq!(of(Type::Underlay, None, false), "denied");
        assert_eq!(of(Type::Underlay, None, true), "ok");
        assert_eq!(of(Type::Super, None, true), "invalid");
        assert_eq!(of(Type::Super, Some("p"), true), "denied");
        assert_eq!(of(Type::SuperNamespaced, Some("p"), false), "denied");
    }
}
