//! How many copies an operation waits for, and where they have to be.
//!
//! N copies are spread over zones. Cassandra's levels for that: a quorum of all of them, of those
//! in the caller's zone (`LOCAL_QUORUM`: as fast as the zone, and what another zone acknowledged
//! may not be there yet), or of those in each zone (`EACH_QUORUM`: the loss of any other zone
//! blocks it). All copies are told all the same; only who is waited for differs.
//!
//! Invariant: no set is empty, and none asks for more than it has.

use crate::error::Error;
use crate::plan::WriteSet;
use alloc::vec::Vec;

/// How many answers are waited for, and whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies<Z> {
    /// So many, wherever they are.
    Any(u8),
    /// More than half of those in this zone.
    InZone(Z),
    /// More than half of those in each zone that has any.
    InEachZone,
}

impl<Z: Copy + Ord> Copies<Z> {
    /// Of `n` copies at least so many hold what was acknowledged, wherever they are.
    pub const fn least(self, n: u8) -> u8 {
        match self {
            Self::Any(copies) => copies,
            Self::InZone(_) => 1,
            // Majorities of the parts are a majority of the whole.
            Self::InEachZone => n / 2 + 1,
        }
    }

    /// Whether two operations at this level meet in a copy, whoever asks for them.
    pub const fn meet(read: Self, write: Self, n: u8) -> bool {
        match (read, write) {
            // In the one zone, or in each.
            (Self::InEachZone, Self::InEachZone | Self::InZone(_))
            | (Self::InZone(_), Self::InEachZone) => true,
            _ => read.least(n) as u16 + write.least(n) as u16 > n as u16,
        }
    }

    /// The write sets among the owners of one layout, in their order: one, or one for each zone.
    /// O(owners * zones).
    ///
    /// # Errors
    /// [`Error::NoCopyInZone`].
    pub fn sets<N: Copy>(
        self,
        owners: &[N],
        zone: impl Fn(N) -> Z,
    ) -> Result<Vec<WriteSet<N>>, Error> {
        let majority = |nodes: Vec<N>| WriteSet { required: nodes.len() / 2 + 1, nodes };
        let within = |wanted: Z| {
            majority(owners.iter().copied().filter(|node| zone(*node) == wanted).collect())
        };
        Ok(match self {
            Self::Any(copies) => {
                alloc::vec![WriteSet { nodes: owners.to_vec(), required: copies.into() }]
            }
            Self::InZone(wanted) => {
                let set = within(wanted);
                if set.nodes.is_empty() {
                    return Err(Error::NoCopyInZone);
                }
                alloc::vec![set]
            }
            Self::InEachZone => {
                let mut zones: Vec<Z> = owners.iter().map(|node| zone(*node)).collect();
                zones.sort_unstable();
                zones.dedup();
                zones.into_iter().map(within).collect()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNERS: [u32; 5] = [30, 11, 12, 21, 13];

    fn tens(node: u32) -> u32 {
        node / 10
    }

    fn sets(copies: Copies<u32>) -> Vec<(Vec<u32>, usize)> {
        let sets = copies.sets(&OWNERS, tens).unwrap();
        sets.into_iter().map(|set| (set.nodes, set.required)).collect()
    }

    #[test]
    fn each_level_waits_for_its_own() {
        assert_eq!(sets(Copies::Any(3)), [(OWNERS.to_vec(), 3)]);
        assert_eq!(sets(Copies::InZone(1)), [([11, 12, 13].to_vec(), 2)]);
        assert_eq!(sets(Copies::InZone(3)), [([30].to_vec(), 1)]);
        assert_eq!(Copies::InZone(4).sets(&OWNERS, tens), Err(Error::NoCopyInZone));
        let each = [([11, 12, 13].to_vec(), 2), ([21].to_vec(), 1), ([30].to_vec(), 1)];
        assert_eq!(sets(Copies::InEachZone), each);
    }

    #[test]
    fn what_is_on_a_majority_of_each_part_is_on_a_majority() {
        for n in 1..=9_u8 {
            for zones in 1..=n {
                let owners: Vec<u8> = (0..n).collect();
                let each = Copies::InEachZone.sets(&owners, |node| node % zones).unwrap();
                let least: usize = each.iter().map(|set| set.required).sum();
                assert!(least >= usize::from(Copies::<u8>::InEachZone.least(n)), "{n} {zones}");
            }
        }
    }

    #[test]
    fn a_zone_alone_meets_only_who_asked_every_zone() {
        let (any, zone, each) = (Copies::Any(2), Copies::InZone(1_u8), Copies::InEachZone);
        assert!(Copies::meet(any, any, 3) && Copies::meet(each, any, 3));
        assert!(Copies::meet(each, each, 4) && !Copies::meet(each, Copies::Any(1), 4));
        assert!(!Copies::meet(zone, zone, 3) && !Copies::meet(zone, any, 3));
        assert!(Copies::meet(zone, each, 3) && Copies::meet(zone, Copies::Any(3), 3));
    }
}
