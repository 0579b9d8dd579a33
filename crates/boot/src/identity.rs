//! Which hardware address speaks for which machine.
//!
//! A machine names itself (DHCP option 97) on a network where anybody can say anything. So the control plane is asked about each
//! pair of hardware address and name: it knows the network cards of every machine that ever registered. The name of a machine that
//! never did belongs to the hardware address that claimed it first, for as long as that one keeps its lease.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::dhcp::lease::LEASE;
use crate::mac::Mac;

/// Claims that are remembered at most; the oldest go first.
const MEMORY: usize = 4096;
/// Seconds after which the control plane is asked again about a claim that it accepted.
const ASK_AGAIN: u64 = 30;
/// The same for a machine that never registered: it does so any moment.
const ASK_NEW_AGAIN: u64 = 5;

/// What the control plane says about a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Not asked yet, or no answer yet.
    Unchecked,
    /// The machine has this network card.
    Accepted,
    /// The machine never registered, so nobody knows its network cards.
    New,
    /// With the control plane's words.
    Refused(String),
}

/// A hardware address says that it is a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub mac: Mac,
    pub uuid: Uuid,
    /// Bridge port that the address was seen at; empty when unknown.
    pub port: String,
    pub verdict: Verdict,
    /// Since when it says so without a pause, in seconds since 1970.
    pub since: u64,
    /// Until when it counts. Claims of the past are remembered when they were not refused, so that a machine boots while the
    /// control plane is away.
    pub until: u64,
    /// When the control plane answered last.
    pub checked: u64,
}

impl Claim {
    /// Whether somebody may speak for the machine by this claim.
    fn holds(&self) -> bool {
        matches!(self.verdict, Verdict::Accepted | Verdict::New)
    }

    /// Whether the control plane should be asked about it.
    #[must_use]
    pub fn is_stale(&self, now: u64) -> bool {
        let pause = match self.verdict {
            Verdict::Accepted => ASK_AGAIN,
            Verdict::New => ASK_NEW_AGAIN,
            Verdict::Unchecked | Verdict::Refused(_) => 0,
        };
        self.checked + pause <= now
    }
}

/// Two claims that cannot both be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contradiction {
    /// Another hardware address is this machine already.
    Held { uuid: Uuid, by: Mac },
    /// This hardware address is another machine already.
    Changed { uuid: Uuid, from: Uuid },
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { uuid, by } => {
                write!(
                    f,
                    "machine {uuid} is claimed by {by} already, and never registered its network cards"
                )
            }
            Self::Changed { uuid, from } => {
                write!(f, "it says that it is machine {uuid}, but it is {from} already")
            }
        }
    }
}

/// What a sighting means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// The control plane has to be asked about it.
    Ask(Claim),
    Known,
    Contradicts(Contradiction),
}

/// Why a hardware address is nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Nobody {
    #[error("this network card did not tell a machine UUID (DHCP option 97)")]
    Unnamed,
    #[error("{0}")]
    Contradicts(Contradiction),
    #[error("the control plane refuses this machine: {0}")]
    Refused(String),
    #[error("the control plane has not confirmed this machine yet")]
    Unchecked,
}

/// The table of claims.
#[derive(Debug, Clone, Default)]
pub struct Identities {
    claims: HashMap<Mac, Claim>,
    /// Names that hardware addresses gave while they had another one.
    changed: HashMap<Mac, (Contradiction, u64)>,
}

impl Identities {
    /// Takes note of a hardware address that names itself, at a bridge port if that is known.
    pub fn see(&mut self, mac: Mac, uuid: Uuid, port: &str, now: u64) -> Sighting {
        let live = self.claim(mac, now).filter(|claim| claim.holds() && claim.uuid != uuid);
        if let Some(from) = live.map(|claim| claim.uuid) {
            let contradiction = Contradiction::Changed { uuid, from };
            self.changed.insert(mac, (contradiction.clone(), now + LEASE));
            return Sighting::Contradicts(contradiction);
        }
        self.changed.remove(&mac);
        let before = self.claims.get(&mac).filter(|claim| claim.uuid == uuid);
        let port = match before {
            Some(claim) if port.is_empty() => claim.port.clone(),
            _ => port.to_owned(),
        };
        // what was accepted at one port says nothing about another
        let (verdict, checked) = match before {
            Some(claim) if claim.port == port => (claim.verdict.clone(), claim.checked),
            _ => (Verdict::Unchecked, 0),
        };
        let since = before.filter(|claim| claim.until > now).map_or(now, |claim| claim.since);
        let claim = Claim { mac, uuid, port, verdict, since, until: now + LEASE, checked };
        self.claims.insert(mac, claim.clone());
        self.forget(now);
        if claim.is_stale(now) { Sighting::Ask(claim) } else { Sighting::Known }
    }

    /// Notes the control plane's answer about a claim, unless the claim is another one by now.
    pub fn judge(&mut self, asked: &Claim, verdict: Verdict, now: u64) {
        if let Some(claim) = self.claims.get_mut(&asked.mac)
            && claim.uuid == asked.uuid
            && claim.port == asked.port
        {
            claim.verdict = verdict;
            claim.checked = now;
        }
    }

    /// Ends the claim of a client that says goodbye.
    pub fn release(&mut self, mac: Mac, now: u64) {
        if let Some(claim) = self.claims.get_mut(&mac) {
            claim.until = claim.until.min(now);
        }
    }

    /// The machine that a hardware address speaks for.
    ///
    /// # Errors
    /// When it is nobody, or not proven.
    pub fn machine(&self, mac: Mac, now: u64) -> Result<&Claim, Nobody> {
        if let Some((contradiction, _)) = self.changed.get(&mac).filter(|(_, until)| *until > now) {
            return Err(Nobody::Contradicts(contradiction.clone()));
        }
        let claim = self.claim(mac, now).ok_or(Nobody::Unnamed)?;
        match &claim.verdict {
            Verdict::Accepted => Ok(claim),
            Verdict::New => match self.earlier(claim, now) {
                Some(by) => Err(Nobody::Contradicts(Contradiction::Held { uuid: claim.uuid, by })),
                None => Ok(claim),
            },
            Verdict::Refused(reason) => Err(Nobody::Refused(reason.clone())),
            Verdict::Unchecked => Err(Nobody::Unchecked),
        }
    }

    /// The live claim of a hardware address, whatever the control plane says about it.
    #[must_use]
    pub fn claim(&self, mac: Mac, now: u64) -> Option<&Claim> {
        self.claims.get(&mac).filter(|claim| claim.until > now)
    }

    /// The claims that are worth keeping over a restart.
    pub fn kept(&self) -> impl Iterator<Item = &Claim> {
        self.claims.values().filter(|claim| claim.holds())
    }

    /// Who claimed the same before.
    fn earlier(&self, claim: &Claim, now: u64) -> Option<Mac> {
        let holds = |other: &&Claim| {
            let before = (other.since, other.mac) < (claim.since, claim.mac);
            other.uuid == claim.uuid
                && other.mac != claim.mac
                && other.until > now
                && other.holds()
                && before
        };
        self.claims.values().find(holds).map(|other| other.mac)
    }

    fn forget(&mut self, now: u64) {
        self.changed.retain(|_, (_, until)| *until > now);
        self.claims.retain(|_, claim| claim.until > now || claim.holds());
        while self.claims.len() > MEMORY {
            let Some(oldest) =
                self.claims.values().min_by_key(|claim| claim.until).map(|claim| claim.mac)
            else {
                return;
            };
            self.claims.remove(&oldest);
        }
    }
}

impl FromIterator<Claim> for Identities {
    fn from_iter<T: IntoIterator<Item = Claim>>(claims: T) -> Self {
        let claims = claims.into_iter().map(|claim| (claim.mac, claim)).collect();
        Self { claims, changed: HashMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);
    const ONE: Uuid = Uuid::from_u128(1);
    const TWO: Uuid = Uuid::from_u128(2);

    fn ask(sighting: Sighting) -> Claim {
        match sighting {
            Sighting::Ask(claim) => claim,
            other => panic!("{other:?}"),
        }
    }

    /// Sees and judges.
    fn say(table: &mut Identities, mac: Mac, uuid: Uuid, verdict: Verdict, now: u64) {
        let claim = ask(table.see(mac, uuid, "swp1", now));
        table.judge(&claim, verdict, now);
    }

    fn held(by: Mac) -> Nobody {
        Nobody::Contradicts(Contradiction::Held { uuid: ONE, by })
    }

    #[test]
    fn the_first_claim_of_a_new_machine_wins_while_its_lease_lives() {
        let mut table = Identities::default();
        let claim = ask(table.see(A, ONE, "swp1", 0));
        assert_eq!(table.machine(A, 1), Err(Nobody::Unchecked));
        table.judge(&claim, Verdict::New, 1);
        assert_eq!(table.machine(A, 1).unwrap().uuid, ONE);
        assert_eq!(table.see(A, ONE, "swp1", 2), Sighting::Known);

        say(&mut table, B, ONE, Verdict::New, 3);
        assert_eq!(table.machine(B, 3), Err(held(A)));
        assert_eq!(table.machine(A, 3).unwrap().uuid, ONE, "the first one is not disturbed");

        let changed = Contradiction::Changed { uuid: TWO, from: ONE };
        assert_eq!(table.see(A, TWO, "swp1", 4), Sighting::Contradicts(changed));
        assert!(table.machine(A, 4).is_err());
        assert_eq!(table.see(A, ONE, "swp1", 5), Sighting::Known);
        assert!(table.machine(A, 5).is_ok());

        // its lease ends
        say(&mut table, B, ONE, Verdict::New, 5 + LEASE);
        assert_eq!(table.machine(B, 5 + LEASE).unwrap().uuid, ONE);
        say(&mut table, A, ONE, Verdict::New, 6 + LEASE);
        assert_eq!(table.machine(A, 6 + LEASE), Err(held(B)));
    }

    #[test]
    fn all_known_cards_of_a_machine_speak_for_it() {
        let mut table = Identities::default();
        say(&mut table, A, ONE, Verdict::Accepted, 0);
        say(&mut table, B, ONE, Verdict::Accepted, 1);
        assert!(table.machine(A, 1).is_ok() && table.machine(B, 1).is_ok());
        let stranger = Mac([2; 6]);
        say(&mut table, stranger, ONE, Verdict::New, 2);
        assert!(matches!(table.machine(stranger, 2), Err(Nobody::Contradicts(_))));
    }

    #[test]
    fn a_name_that_was_never_believed_can_be_corrected() {
        let mut table = Identities::default();
        say(&mut table, A, ONE, Verdict::Refused("no".into()), 0);
        say(&mut table, A, TWO, Verdict::Accepted, 1);
        assert_eq!(table.machine(A, 1).unwrap().uuid, TWO);
    }

    #[test]
    fn goodbye_frees_the_name() {
        let mut table = Identities::default();
        say(&mut table, A, ONE, Verdict::New, 0);
        table.release(A, 1);
        assert_eq!(table.machine(A, 1), Err(Nobody::Unnamed));
        say(&mut table, B, ONE, Verdict::New, 1);
        assert!(table.machine(B, 1).is_ok());
    }

    #[test]
    fn an_accepted_claim_is_remembered_at_its_port_only() {
        let mut table = Identities::default();
        say(&mut table, A, ONE, Verdict::Accepted, 0);
        let mut table: Identities = table.kept().cloned().collect();
        let later = 100 * LEASE;
        assert_eq!(table.machine(A, later), Err(Nobody::Unnamed));
        ask(table.see(A, ONE, "swp1", later));
        assert!(table.machine(A, later).is_ok(), "before the control plane answered");
        ask(table.see(A, ONE, "swp2", later));
        assert_eq!(table.machine(A, later), Err(Nobody::Unchecked));
    }

    #[test]
    fn an_answer_belongs_to_its_question() {
        let mut table = Identities::default();
        let asked = ask(table.see(A, ONE, "swp1", 0));
        table.release(A, 1);
        ask(table.see(A, TWO, "swp1", 2));
        table.judge(&asked, Verdict::Accepted, 3);
        assert_eq!(table.machine(A, 3), Err(Nobody::Unchecked));
    }

    #[test]
    fn a_refusal_is_final_until_asked_again() {
        let mut table = Identities::default();
        say(&mut table, A, ONE, Verdict::Refused("no".into()), 0);
        assert_eq!(table.machine(A, 1), Err(Nobody::Refused("no".into())));
        say(&mut table, A, ONE, Verdict::Accepted, 2);
        assert!(table.machine(A, 2).is_ok());
    }

    #[test]
    fn memory_is_bounded() {
        let mut table = Identities::default();
        for n in 0..2 * MEMORY {
            let bytes = u32::try_from(n).unwrap().to_be_bytes();
            let mac = Mac([2, 0, bytes[0], bytes[1], bytes[2], bytes[3]]);
            table.see(mac, Uuid::from_u128(n as u128 + 1), "", n as u64);
        }
        assert!(table.claims.len() <= MEMORY);
    }
}
