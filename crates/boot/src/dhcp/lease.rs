//! Which machine has which address. Times are seconds since 1970, so that leases survive a restart.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::mac::Mac;

/// Seconds for which an address is handed out.
pub const LEASE: u64 = 600;
/// Seconds for which an offered address waits for the client to take it.
pub const OFFER: u64 = 30;

/// The addresses to hand out, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
    /// Our own address, which is never handed out.
    pub own: Ipv4Addr,
}

impl Pool {
    /// Whether the address may be handed out.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address) && address != self.own
    }

    fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        (self.first.to_bits()..=self.last.to_bits())
            .map(Ipv4Addr::from_bits)
            .filter(|a| self.contains(*a))
    }
}

/// An address and who has or had it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub address: Ipv4Addr,
    /// None when a client found the address in use by somebody else (DHCPDECLINE).
    pub mac: Option<Mac>,
    /// Until when nobody else gets it. A lease of the past is remembered, so that a machine finds its address again.
    pub until: u64,
}

/// The table of leases: at most one for each address and one for each hardware address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leases {
    by_address: BTreeMap<Ipv4Addr, Lease>,
    by_mac: HashMap<Mac, Ipv4Addr>,
}

/// Every address is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted;

impl Leases {
    /// Reserves an address for a client that looks for one: the one it has or had, else the one it wishes when that was never
    /// handed out, else one that was never handed out, else the one that is unused for the longest time.
    ///
    /// # Errors
    /// When every address of the pool is taken.
    pub fn offer(
        &mut self,
        pool: &Pool,
        mac: Mac,
        wish: Option<Ipv4Addr>,
        now: u64,
    ) -> Result<Ipv4Addr, Exhausted> {
        if let Some(lease) = self.of(mac).filter(|lease| pool.contains(lease.address)) {
            let (address, until) = (lease.address, lease.until.max(now + OFFER));
            self.put(address, Some(mac), until);
            return Ok(address);
        }
        let fresh = |address: &Ipv4Addr| !self.by_address.contains_key(address);
        let address = wish
            .filter(|wish| pool.contains(*wish) && fresh(wish))
            .or_else(|| pool.addresses().find(fresh))
            .or_else(|| self.longest_unused(pool, now))
            .ok_or(Exhausted)?;
        self.put(address, Some(mac), now + OFFER);
        Ok(address)
    }

    /// Gives the address to the client for [`LEASE`] seconds when nobody else has it. It need not have been offered:
    /// after a lost file a machine keeps what it uses.
    pub fn confirm(&mut self, pool: &Pool, mac: Mac, address: Ipv4Addr, now: u64) -> bool {
        let other =
            self.by_address.get(&address).is_some_and(|l| l.mac != Some(mac) && l.until > now);
        if other || !pool.contains(address) {
            return false;
        }
        self.put(address, Some(mac), now + LEASE);
        true
    }

    /// Ends the lease of a client that says goodbye; the address stays its favourite.
    pub fn release(&mut self, mac: Mac, address: Ipv4Addr, now: u64) -> bool {
        match self.by_address.get_mut(&address) {
            Some(lease) if lease.mac == Some(mac) && lease.until > now => {
                lease.until = now;
                true
            }
            _ => false,
        }
    }

    /// Drops an offer that the client did not take.
    pub fn withdraw(&mut self, mac: Mac, now: u64) {
        if let Some(&address) = self.by_mac.get(&mac) {
            self.release(mac, address, now);
        }
    }

    /// Locks an address that its client found in use by somebody else for [`LEASE`] seconds.
    pub fn decline(&mut self, mac: Mac, address: Ipv4Addr, now: u64) -> bool {
        let own = self.by_address.get(&address).is_some_and(|lease| lease.mac == Some(mac));
        if own {
            self.put(address, None, now + LEASE);
        }
        own
    }

    /// Who has the address now.
    #[must_use]
    pub fn holder(&self, address: Ipv4Addr, now: u64) -> Option<Mac> {
        self.by_address.get(&address).filter(|lease| lease.until > now)?.mac
    }

    /// The lease that a client has or had.
    #[must_use]
    pub fn of(&self, mac: Mac) -> Option<&Lease> {
        self.by_address.get(self.by_mac.get(&mac)?)
    }

    /// How many addresses are taken now.
    #[must_use]
    pub fn taken(&self, now: u64) -> usize {
        self.by_address.values().filter(|lease| lease.until > now).count()
    }

    /// All leases, live and remembered, by address.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.by_address.values()
    }

    fn longest_unused(&self, pool: &Pool, now: u64) -> Option<Ipv4Addr> {
        let unused =
            self.by_address.values().filter(|l| l.until <= now && pool.contains(l.address));
        unused.min_by_key(|lease| lease.until).map(|lease| lease.address)
    }

    fn put(&mut self, address: Ipv4Addr, mac: Option<Mac>, until: u64) {
        if let Some(before) = self.by_address.get(&address).and_then(|lease| lease.mac) {
            self.by_mac.remove(&before);
        }
        if let Some(before) =
            mac.and_then(|mac| self.by_mac.insert(mac, address)).filter(|a| *a != address)
        {
            self.by_address.remove(&before);
        }
        self.by_address.insert(address, Lease { address, mac, until });
    }
}

impl FromIterator<Lease> for Leases {
    fn from_iter<T: IntoIterator<Item = Lease>>(leases: T) -> Self {
        let mut table = Self::default();
        for lease in leases {
            table.put(lease.address, lease.mac, lease.until);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POOL: Pool = Pool { first: ip(100), last: ip(103), own: ip(102) };

    const fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 1, last)
    }

    fn mac(n: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, n])
    }

    #[test]
    fn a_machine_keeps_its_address() {
        let mut leases = Leases::default();
        assert_eq!(leases.offer(&POOL, mac(1), None, 0), Ok(ip(100)));
        assert_eq!(leases.offer(&POOL, mac(2), Some(ip(103)), 0), Ok(ip(103)), "a free wish");
        assert_eq!(
            leases.offer(&POOL, mac(3), Some(ip(103)), 0),
            Ok(ip(101)),
            "a taken wish; 102 is our own"
        );
        assert_eq!(leases.offer(&POOL, mac(4), None, 0), Err(Exhausted));
        assert!(leases.confirm(&POOL, mac(1), ip(100), 1));
        // long after all leases have ended: the same again, and a stranger gets what is unused longest
        assert_eq!(leases.offer(&POOL, mac(3), None, 9000), Ok(ip(101)));
        assert_eq!(leases.offer(&POOL, mac(4), None, 9000), Ok(ip(103)));
        assert_eq!(leases.offer(&POOL, mac(1), None, 9000), Ok(ip(100)));
        assert_eq!(leases.offer(&POOL, mac(2), None, 9000), Err(Exhausted));
    }

    #[test]
    fn offers_expire_and_leases_last() {
        let mut leases = Leases::default();
        leases.offer(&POOL, mac(1), None, 0).unwrap();
        assert_eq!(leases.holder(ip(100), OFFER - 1), Some(mac(1)));
        assert_eq!(leases.holder(ip(100), OFFER), None);
        assert!(leases.confirm(&POOL, mac(1), ip(100), 10));
        assert_eq!(leases.holder(ip(100), 10 + LEASE - 1), Some(mac(1)));
        // an offer to somebody who has a lease does not shorten it
        leases.offer(&POOL, mac(1), None, 20).unwrap();
        assert_eq!(leases.holder(ip(100), 10 + LEASE - 1), Some(mac(1)));
        assert!(!leases.confirm(&POOL, mac(2), ip(100), 20), "taken");
        assert!(!leases.confirm(&POOL, mac(2), ip(99), 20), "outside");
        assert!(leases.confirm(&POOL, mac(2), ip(101), 20), "never offered, but free");
    }

    #[test]
    fn goodbye_and_decline() {
        let mut leases = Leases::default();
        leases.confirm(&POOL, mac(1), ip(100), 0);
        assert!(!leases.release(mac(2), ip(100), 1), "not its own");
        assert!(!leases.decline(mac(2), ip(100), 1), "not its own");
        assert!(leases.release(mac(1), ip(100), 1));
        assert_eq!(leases.holder(ip(100), 2), None);
        assert_eq!(leases.offer(&POOL, mac(1), None, 3), Ok(ip(100)));
        assert!(leases.decline(mac(1), ip(100), 4));
        assert_eq!(leases.offer(&POOL, mac(1), None, 5), Ok(ip(101)));
        assert_eq!(leases.taken(5), 2);
    }

    proptest! {
        /// Whatever clients do: nobody shares an address, everything is inside the pool, and a saved table is the same table.
        #[test]
        fn no_address_twice(steps in proptest::collection::vec((0u8..5, 0u8..7, 98u8..106, 0u64..400), 0..200)) {
            let (mut leases, mut now) = (Leases::default(), 0);
            for (what, who, last, later) in steps {
                now += later;
                let others: Vec<_> = leases.iter().filter(|l| l.until > now && l.mac != Some(mac(who))).cloned().collect();
                match what {
                    0 => { let _ = leases.offer(&POOL, mac(who), Some(ip(last)), now); }
                    1 => { leases.confirm(&POOL, mac(who), ip(last), now); }
                    2 => { leases.release(mac(who), ip(last), now); }
                    3 => { leases.decline(mac(who), ip(last), now); }
                    _ => leases.withdraw(mac(who), now),
                }
                for lease in others {
                    prop_assert!(leases.iter().any(|l| *l == lease), "{lease:?} was touched by {who}");
                }
                for lease in leases.iter() {
                    prop_assert!(POOL.contains(lease.address));
                    if let Some(mac) = lease.mac {
                        prop_assert_eq!(leases.of(mac), Some(lease));
                    }
                }
                prop_assert_eq!(&leases.iter().cloned().collect::<Leases>(), &leases);
            }
        }
    }
}
