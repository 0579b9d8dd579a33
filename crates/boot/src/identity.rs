//! Which hardware address speaks for which machine.
//!
//! A machine names itself (DHCP option 97) on a network where anybody can say anything. So a name belongs to the hardware address
//! that claimed it first, for as long as that one keeps its lease, and the control plane is asked about each new pair.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::dhcp::lease::LEASE;
use crate::mac::Mac;

/// Claims that are remembered at most; the oldest go first.
const MEMORY: usize = 4096;
/// Seconds after which an accepted claim is asked about again when its machine boots again.
const ASK_AGAIN: u64 = 30;

/// What the control plane says about a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Not asked yet, or no answer yet.
    Unchecked,
    Accepted,
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
    /// Until when nobody else can claim the same, in seconds since 1970. Claims of the past are remembered when
    /// they were accepted, so that a machine boots while the control plane is away.
    pub until: u64,
    /// When the control plane answered last.
    pub checked: u64,
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
            Self::Held { uuid, by } => write!(f, "machine {uuid} is claimed by {by} already"),
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
    contradictions: HashMap<Mac, (Contradiction, u64)>,
}

impl Identities {
    /// Takes note of a hardware address that names itself, at a bridge port if that is known.
    pub fn see(&mut self, mac: Mac, uuid: Uuid, port: &str, now: u64) -> Sighting {
        if let Some(contradiction) = self.contradiction(mac, uuid, now) {
            self.contradictions.insert(mac, (contradiction.clone(), now + LEASE));
            return Sighting::Contradicts(contradiction);
        }
        self.contradictions.remove(&mac);
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
        let ask = verdict != Verdict::Accepted || checked + ASK_AGAIN <= now;
        let claim = Claim { mac, uuid, port, verdict, until: now + LEASE, checked };
        self.claims.insert(mac, claim.clone());
        self.forget(now);
        if ask { Sighting::Ask(claim) } else { Sighting::Known }
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
        if let Some((contradiction, _)) =
            self.contradictions.get(&mac).filter(|(_, until)| *until > now)
        {
            return Err(Nobody::Contradicts(contradiction.clone()));
        }
        let claim = self.claim(mac, now).ok_or(Nobody::Unnamed)?;
        match &claim.verdict {
            Verdict::Accepted => Ok(claim),
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
    pub fn accepted(&self) -> impl Iterator<Item = &Claim> {
        self.claims.values().filter(|claim| claim.verdict == Verdict::Accepted)
    }

    fn contradiction(&self, mac: Mac, uuid: Uuid, now: u64) -> Option<Contradiction> {
        if let Some(from) =
            self.claim(mac, now).map(|claim| claim.uuid).filter(|from| *from != uuid)
        {
            return Some(Contradiction::Changed { uuid, from });
        }
        let holds = |claim: &&Claim| claim.uuid == uuid && claim.mac != mac && claim.until > now;
        self.claims.values().find(holds).map(|claim| Contradiction::Held { uuid, by: claim.mac })
    }

    fn forget(&mut self, now: u64) {
        self.contradictions.retain(|_, (_, until)| *until > now);
        self.claims.retain(|_, claim| claim.until > now || claim.verdict == Verdict::Accepted);
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
        Self { claims, contradictions: HashMap::new() }
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

    #[test]
    fn the_first_claim_wins_while_its_lease_lives() {
        let mut table = Identities::default();
        let claim = ask(table.see(A, ONE, "swp1", 0));
        assert_eq!(table.machine(A, 1), Err(Nobody::Unchecked));
        table.judge(&claim, Verdict::Accepted, 1);
        assert_eq!(table.machine(A, 1).unwrap().uuid, ONE);
        assert_eq!(table.see(A, ONE, "swp1", 2), Sighting::Known);

        let held = Contradiction::Held { uuid: ONE, by: A };
        assert_eq!(table.see(B, ONE, "swp2", 3), Sighting::Contradicts(held.clone()));
        assert_eq!(table.machine(B, 3), Err(Nobody::Contradicts(held)));
        assert_eq!(table.machine(A, 3).unwrap().uuid, ONE, "the first one is not disturbed");

        let changed = Contradiction::Changed { uuid: TWO, from: ONE };
        assert_eq!(table.see(A, TWO, "swp1", 4), Sighting::Contradicts(changed));
        assert!(table.machine(A, 4).is_err());
        assert_eq!(table.see(A, ONE, "swp1", 5), Sighting::Known);
        assert!(table.machine(A, 5).is_ok());

        // its lease ends
        ask(table.see(B, ONE, "swp2", 5 + LEASE));
        assert_eq!(
            table.see(A, ONE, "swp1", 6 + LEASE),
            Sighting::Contradicts(Contradiction::Held { uuid: ONE, by: B })
        );
    }

    #[test]
    fn goodbye_frees_the_name() {
        let mut table = Identities::default();
        ask(table.see(A, ONE, "", 0));
        table.release(A, 1);
        assert_eq!(table.machine(A, 1), Err(Nobody::Unnamed));
        ask(table.see(B, ONE, "", 1));
    }

    #[test]
    fn an_accepted_claim_is_remembered_at_its_port_only() {
        let mut table = Identities::default();
        let claim = ask(table.see(A, ONE, "swp1", 0));
        table.judge(&claim, Verdict::Accepted, 0);
        let mut table: Identities = table.accepted().cloned().collect();
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
        let claim = ask(table.see(A, ONE, "", 0));
        table.judge(&claim, Verdict::Refused("no".into()), 0);
        assert_eq!(table.machine(A, 1), Err(Nobody::Refused("no".into())));
        let claim = ask(table.see(A, ONE, "", 2));
        table.judge(&claim, Verdict::Accepted, 2);
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
