//! Rules of a firewall, as far as the contract's own checks do not see.

use ipnet::IpNet;

/// One rule, in either direction.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// Which one, for the error.
    pub name: &'a str,
    /// Whether it says which protocol.
    pub has_protocol: bool,
    /// Ports.
    pub ports: &'a [u32],
    /// All prefixes of the rule, sources and destinations.
    pub cidrs: &'a [String],
    /// What it is for.
    pub comment: &'a str,
}

/// Comments go into the configuration of the firewall, so they are kept short and harmless.
const COMMENT_LENGTH: usize = 100;

/// More rules of one direction than this belong into prefixes and ports of fewer.
pub const MAX_RULES: usize = 500;

/// Checks the number of rules of a direction.
///
/// # Errors
/// A sentence that names the direction.
pub fn check_count(direction: &str, count: usize) -> Result<(), String> {
    if count <= MAX_RULES {
        return Ok(());
    }
    Err(format!(
        "{direction}: {count} rules are more than {MAX_RULES}; put ports and prefixes together"
    ))
}

/// Checks a rule.
///
/// # Errors
/// A sentence that names the rule.
pub fn check(rule: &Rule<'_>) -> Result<(), String> {
    if !rule.has_protocol {
        return Err(format!("{}: its protocol must be tcp or udp", rule.name));
    }
    if let Some(port) = rule.ports.iter().find(|port| **port > u32::from(u16::MAX)) {
        return Err(format!("{}: port {port} is greater than 65535", rule.name));
    }
    let mut families = Vec::new();
    for cidr in rule.cidrs {
        let net: IpNet = cidr
            .parse()
            .map_err(|_| format!("{}: \"{cidr}\" is not a prefix such as 10.0.0.0/8", rule.name))?;
        families.push(matches!(net, IpNet::V4(_)));
    }
    if families.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(format!(
            "{}: IPv4 and IPv6 prefixes cannot stand in one rule, make two",
            rule.name
        ));
    }
    let harmless = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '-' | ' ');
    if rule.comment.len() > COMMENT_LENGTH || !rule.comment.chars().all(harmless) {
        return Err(format!(
            "{}: a comment has at most {COMMENT_LENGTH} letters, blanks, '_' and '-'",
            rule.name
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_rule(ports: &[u32], cidrs: &[&str], comment: &str, expect: &str) {
        let cidrs: Vec<String> = cidrs.iter().map(|c| (*c).to_owned()).collect();
        let rule =
            Rule { name: "egress rule 1", has_protocol: true, ports, cidrs: &cidrs, comment };
        assert_eq!(check(&rule).err().unwrap_or_default(), expect);
    }

    #[test]
    fn rules_are_checked() {
        check_rule(&[443], &["10.0.0.0/8"], "allow https", "");
        check_rule(&[70_000], &[], "", "egress rule 1: port 70000 is greater than 65535");
        check_rule(
            &[],
            &["10.0.0.0/8", "::/0"],
            "",
            "egress rule 1: IPv4 and IPv6 prefixes cannot stand in one rule, make two",
        );
        check_rule(&[], &["ten"], "", "egress rule 1: \"ten\" is not a prefix such as 10.0.0.0/8");
        check_rule(
            &[],
            &[],
            "drop;all",
            "egress rule 1: a comment has at most 100 letters, blanks, '_' and '-'",
        );
        let rule = Rule { name: "r", has_protocol: false, ports: &[], cidrs: &[], comment: "" };
        assert_eq!(check(&rule), Err("r: its protocol must be tcp or udp".to_owned()));
    }

    #[test]
    fn there_are_not_too_many() {
        assert_eq!(check_count("egress", 500), Ok(()));
        assert!(check_count("egress", 501).unwrap_err().starts_with("egress: 501 rules"));
    }
}
