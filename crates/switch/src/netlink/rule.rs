//! Rules by which the kernel chooses a routing table, to bytes and back.

use super::message::{self, ACK, CREATE, DUMP, REQUEST};

/// A rule that is about every packet, or about all that belong to a VRF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The smallest is asked first.
    pub priority: u32,
    /// Only for packets that come from or go to a VRF; a lookup is in the table of that VRF then.
    pub vrf: bool,
    /// What happens.
    pub action: Action,
    /// Something else limits it, too; the kernel does not make such ones by itself, and neither does this agent.
    pub limited: bool,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Looks into a table; without a route there, the next rule is asked. 0 for the table of the VRF.
    Lookup(u32),
    /// There is no way.
    Unreachable,
    /// Something else.
    Other(u8),
}

/// Which addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }
}

pub(super) const NEW: u16 = 32;
const DELETE: u16 = 33;
const GET: u16 = 34;
/// Length of `fib_rule_hdr`.
const HEAD: usize = 12;
const TO_TABLE: u8 = 1;
const UNREACHABLE: u8 = 7;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
const FRA_L3MDEV: u16 = 19;
/// Attributes that limit nothing: see above, who made it, and numbers that mean "any".
const HARMLESS: [u16; 6] = [FRA_PRIORITY, FRA_TABLE, FRA_L3MDEV, 13, 14, 21];

/// Asks for all rules of a family.
pub(super) fn dump(family: Family) -> Vec<u8> {
    let mut body = [0; HEAD];
    body[0] = family.number();
    message::packet(GET, REQUEST | DUMP, &body)
}

/// Asks for one more or one less.
pub(super) fn change(family: Family, rule: &Rule, add: bool) -> Vec<u8> {
    let mut body = vec![0; HEAD];
    body[0] = family.number();
    let table = match rule.action {
        Action::Lookup(table) => {
            body[7] = TO_TABLE;
            table
        }
        Action::Unreachable => {
            body[7] = UNREACHABLE;
            0
        }
        Action::Other(action) => {
            body[7] = action;
            0
        }
    };
    message::attribute(&mut body, FRA_PRIORITY, &rule.priority.to_ne_bytes());
    if table != 0 {
        message::attribute(&mut body, FRA_TABLE, &table.to_ne_bytes());
    }
    if rule.vrf {
        message::attribute(&mut body, FRA_L3MDEV, &[1]);
    }
    let (kind, how) = if add { (NEW, CREATE) } else { (DELETE, 0) };
    message::packet(kind, REQUEST | ACK | how, &body)
}

/// Reads one.
pub(super) fn read(body: &[u8]) -> Option<Rule> {
    let head = body.get(..HEAD)?;
    let attributes = message::attributes(&body[HEAD..]);
    let number = |what: u16| Some(message::u32_at(attributes.get(&what)?.get(..4)?, 0));
    let action = match head[7] {
        TO_TABLE => Action::Lookup(number(FRA_TABLE).unwrap_or(u32::from(head[4]))),
        UNREACHABLE => Action::Unreachable,
        other => Action::Other(other),
    };
    let selects = head[1] != 0 || head[2] != 0 || head[3] != 0;
    Some(Rule {
        // The first of all has none.
        priority: number(FRA_PRIORITY).unwrap_or_default(),
        vrf: attributes.get(&FRA_L3MDEV).is_some_and(|value| value.first() == Some(&1)),
        action,
        limited: selects || attributes.keys().any(|kind| !HARMLESS.contains(kind)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_asked_for_is_read_back() {
        let rule = |priority, vrf, action| Rule { priority, vrf, action, limited: false };
        for rule in [
            rule(1000, true, Action::Lookup(0)),
            rule(2000, true, Action::Unreachable),
            rule(32765, false, Action::Lookup(255)),
            rule(7, false, Action::Other(6)),
        ] {
            let bytes = change(Family::V6, &rule, true);
            assert_eq!(bytes.len() % 4, 0);
            assert_eq!(read(&bytes[16..]), Some(rule));
        }
    }

    proptest! {
        #[test]
        fn anything_is_survived(body in proptest::collection::vec(any::<u8>(), 0..100)) {
            read(&body);
        }
    }
}
