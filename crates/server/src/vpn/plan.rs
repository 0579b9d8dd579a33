//! What is to be done about members of the VPN, from what both sides say. Pure.

use store::vpn::Member;

use super::Node;

/// Clocks of the two servers may differ that much.
const SKEW_US: i64 = 60 * 1_000_000;

/// What to do about a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The allocation is over: nobody may join for it, and who has joined is forgotten.
    Forget { allocation: String, key: i64, nodes: Vec<i64> },
    /// What the allocation should say.
    Show { allocation: String, machine: String, connected: bool, ips: Vec<String> },
}

/// The steps for all members. Nodes that are not ours, such as computers of operators, are left alone.
pub(super) fn plan(members: &[Member], nodes: &[Node]) -> Vec<Step> {
    let step = |member: &Member| {
        let own: Vec<_> =
            nodes.iter().filter(|node| owner(node, members) == Some(member)).collect();
        if member.released {
            return Step::Forget {
                allocation: member.allocation.clone(),
                key: member.key_id,
                nodes: own.iter().map(|node| node.id).collect(),
            };
        }
        // who joined twice, for instance after a new installation, is there as its newest node
        let newest = own.iter().max_by_key(|node| node.id);
        Step::Show {
            allocation: member.allocation.clone(),
            machine: member.machine.clone(),
            connected: newest.is_some_and(|node| node.online),
            ips: newest.map(|node| node.ip_addresses.clone()).unwrap_or_default(),
        }
    };
    members.iter().map(step).collect()
}

/// The member that a node belongs to: of the allocations of its machine in its project the newest one that had begun.
fn owner<'a>(node: &Node, members: &'a [Member]) -> Option<&'a Member> {
    let joined = node.created_at.map_or(i64::MAX, jiff::Timestamp::as_microsecond);
    members
        .iter()
        .filter(|m| m.project == node.user.name && node.name.eq_ignore_ascii_case(&m.machine))
        .filter(|m| m.joined_after_us <= joined.saturating_add(SKEW_US))
        .max_by_key(|m| m.joined_after_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vpn::User;

    fn member(allocation: &str, machine: &str, at: i64, released: bool) -> Member {
        Member {
            allocation: allocation.to_owned(),
            machine: machine.to_owned(),
            project: "p".to_owned(),
            key_id: 7,
            joined_after_us: at * 1_000_000,
            released,
        }
    }

    fn node(id: i64, name: &str, project: &str, at: i64, online: bool) -> Node {
        Node {
            id,
            name: name.to_owned(),
            user: User { id: 1, name: project.to_owned() },
            ip_addresses: vec![format!("100.64.0.{id}")],
            created_at: jiff::Timestamp::from_second(at).ok(),
            online,
            ..Node::default()
        }
    }

    fn show(connected: bool, ips: &[&str]) -> Step {
        Step::Show {
            allocation: "a".to_owned(),
            machine: "m".to_owned(),
            connected,
            ips: ips.iter().copied().map(str::to_owned).collect(),
        }
    }

    #[test]
    fn a_firewall_shows_what_its_newest_node_is() {
        let members = [member("a", "m", 1000, false)];
        assert_eq!(plan(&members, &[]), [show(false, &[])], "gone, or not there yet");
        let one = node(1, "m", "p", 1010, true);
        assert_eq!(plan(&members, std::slice::from_ref(&one)), [show(true, &["100.64.0.1"])]);
        let again = node(2, "M", "p", 2000, false);
        assert_eq!(plan(&members, &[one, again]), [show(false, &["100.64.0.2"])]);
        for foreign in [node(3, "m", "q", 1010, true), node(4, "laptop", "p", 1010, true)] {
            assert_eq!(plan(&members, &[foreign]), [show(false, &[])]);
        }
        let stale = node(5, "m", "p", 100, true);
        assert_eq!(plan(&members, &[stale]), [show(false, &[])], "of an allocation long ago");
    }

    #[test]
    fn what_was_released_is_forgotten_but_not_its_successor() {
        let members = [member("old", "m", 1000, true), member("a", "m", 5000, false)];
        let nodes = [
            node(1, "m", "p", 1010, true),
            node(2, "m", "p", 5010, true),
            node(3, "x", "p", 1, true),
        ];
        let forget = Step::Forget { allocation: "old".to_owned(), key: 7, nodes: vec![1] };
        assert_eq!(plan(&members, &nodes), [forget, show(true, &["100.64.0.2"])]);
    }
}
