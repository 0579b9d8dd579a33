//! Free numbers as ranges: addresses of a prefix, VRFs, autonomous systems.

/// VRFs that can be given out, each at the same time a VXLAN network id.
pub const VRF: Range = Range { first: 1, last: 131_072 };

/// Numbers that can be given out for autonomous systems, see [`asn`].
pub const ASN: Range = Range { first: 1, last: 131_072 };

/// What an autonomous system number begins at: in the private range of four-byte numbers (RFC 6996).
const ASN_BASE: u32 = 4_210_000_000;

/// The autonomous system number of a number of the pool.
#[must_use]
pub fn asn(number: u32) -> u32 {
    ASN_BASE + number
}

/// The number of the pool of an autonomous system number; nothing for one that is not of the pool.
#[must_use]
pub fn asn_number(asn: u32) -> Option<u32> {
    asn.checked_sub(ASN_BASE).filter(|number| ASN.contains(u128::from(*number)))
}

/// Numbers from `first` to `last`, both included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The lowest.
    pub first: u128,
    /// The highest.
    pub last: u128,
}

impl Range {
    /// Whether a number is in it.
    #[must_use]
    pub fn contains(&self, number: u128) -> bool {
        (self.first..=self.last).contains(&number)
    }

    /// Whether it has more than so many numbers.
    #[must_use]
    pub fn longer_than(&self, count: u128) -> bool {
        self.last - self.first >= count
    }

    /// What is below and above a number of it.
    #[must_use]
    pub fn without(&self, number: u128) -> (Option<Self>, Option<Self>) {
        let below = (number > self.first).then(|| Self { first: self.first, last: number - 1 });
        let above = (number < self.last).then(|| Self { first: number + 1, last: self.last });
        (below, above)
    }

    /// Cuts up to `count` pieces of `size` off its front, and leaves a rest.
    #[must_use]
    pub fn cut(&self, size: u128, count: usize) -> (Vec<Self>, Self) {
        let (mut pieces, mut rest) = (Vec::new(), *self);
        while pieces.len() < count && rest.longer_than(size) {
            pieces.push(Self { first: rest.first, last: rest.first + size - 1 });
            rest.first += size;
        }
        (pieces, rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_of_autonomous_systems_are_reversible_within_the_pool() {
        assert_eq!(asn(1), 4_210_000_001);
        assert_eq!(asn_number(4_210_000_001), Some(1));
        assert_eq!(asn_number(asn(131_072)), Some(131_072));
        assert_eq!(asn_number(asn(131_073)), None);
        assert_eq!(asn_number(4_210_000_000), None);
        assert_eq!(asn_number(65_000), None);
    }

    proptest! {
        #[test]
        fn taking_a_number_out_leaves_the_others(first in 0_u128..50, length in 0_u128..50, at in 0_u128..50) {
            let range = Range { first, last: first + length };
            let number = first + at % (length + 1);
            let (below, above) = range.without(number);
            let left: Vec<_> = [below, above].into_iter().flatten().flat_map(|r| r.first..=r.last).collect();
            let expected: Vec<_> = (range.first..=range.last).filter(|n| *n != number).collect();
            prop_assert_eq!(left, expected);
        }

        #[test]
        fn cutting_loses_nothing_and_leaves_a_rest(length in 0_u128..200, size in 1_u128..20, count in 0_usize..20) {
            let range = Range { first: 7, last: 7 + length };
            let (pieces, rest) = range.cut(size, count);
            prop_assert!(pieces.len() <= count);
            let all: Vec<_> = pieces.iter().chain([&rest]).flat_map(|r| r.first..=r.last).collect();
            prop_assert_eq!(all, (range.first..=range.last).collect::<Vec<_>>());
            prop_assert!(pieces.iter().all(|p| p.last - p.first + 1 == size));
        }
    }
}
