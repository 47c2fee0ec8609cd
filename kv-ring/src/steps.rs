//! Steps towards a layout: of each partition only so many owners change at a time.
//!
//! A newcomer has to be filled before reads can count it, so a store that must go on answering
//! gives no partition more of them at once than its quorums can spare. A change that would is made
//! in steps: each goes as far towards the target as it may, and no copy is made that the target
//! does not ask for. Invariant: the owners of each partition are its older ones with at most so
//! many of the target's in the places of others; a step that may go all the way is the target.

use alloc::vec::Vec;

use crate::error::Error;
use crate::layout::Layout;
use crate::topology::{NodeCode, NodeSpec, Topology};

impl<N: NodeCode> Layout<N> {
    /// The next step from this layout towards `target`, in which no partition gets more than
    /// `newcomers_max` owners that it does not have now. It has the target's epoch, and is the
    /// target if that can be. Members of either are members of the step, with the weight that they
    /// are to have; those that are to hold nothing keep their weight as long as they hold anything.
    /// O(partitions * N²).
    ///
    /// # Errors
    /// [`Error::Coarser`] unless both have the same partitions, [`Error::Replicas`] unless both
    /// have the same copies of each, or `newcomers_max` is 0.
    ///
    /// ```
    /// use kv_ring::{AutoClaim, Layout, NodeSpec, PartitionCount, Plan, Topology, Zone};
    ///
    /// # fn main() -> Result<(), kv_ring::Error> {
    /// let nodes = |ids| -> Topology<u64> {
    ///     let spec = NodeSpec::new(1, Zone::default());
    ///     core::iter::zip(ids, core::iter::repeat(spec)).collect()
    /// };
    /// let now = Layout::first(&nodes(1..=3), PartitionCount::new(16)?, 3, &AutoClaim)?;
    /// let target = Layout::next(&now, &nodes(1..=6), 3, &AutoClaim)?;
    /// let step = now.towards(&target, 1)?;
    /// let of_one = Plan::between(&now, &step)?;
    /// assert!(of_one.moves().is_sorted_by(|one, next| one.partition < next.partition));
    /// # Ok(()) }
    /// ```
    pub fn towards(&self, target: &Self, newcomers_max: usize) -> Result<Self, Error> {
        if self.partitions() != target.partitions() {
            return Err(Error::Coarser);
        }
        if self.replicas() != target.replicas() || newcomers_max == 0 {
            return Err(Error::Replicas(newcomers_max.min(target.replicas())));
        }
        let mut all = self.topology();
        all.extend(target.topology().iter());
        let zone = |node: N| all.spec(node).map(|spec| spec.zone);
        let mut owners = Vec::with_capacity(target.partitions().count() * target.replicas());
        for partition in target.partitions().iter() {
            let (before, after) = (self.owners(partition), target.owners(partition));
            let is_new = |node: &&N| !before.contains(node);
            let late: Vec<N> = after.iter().filter(is_new).skip(newcomers_max).copied().collect();
            let mut step: Vec<N> = after.to_vec();
            for late in late {
                // Whoever makes no zone a second time stays first.
                let goes = |node: &&N| !step.contains(node);
                let apart = |node: &&N| {
                    let others = step.iter().filter(|other| **other != late);
                    others.copied().all(|other| zone(other) != zone(**node))
                };
                let stays = before.iter().filter(goes).find(apart);
                let stays = stays.or_else(|| before.iter().find(goes)).copied();
                let place = step.iter_mut().find(|owner| **owner == late);
                if let (Some(place), Some(stays)) = (place, stays) {
                    *place = stays;
                }
            }
            owners.extend(step);
        }
        if owners.iter().eq(target.partitions().iter().flat_map(|at| target.owners(at))) {
            return Ok(target.clone());
        }
        let holding = |(node, spec): (N, NodeSpec)| {
            let holds = spec.weight > 0 || !owners.contains(&node);
            let before = self.spec(node).map_or(spec.weight, |spec| spec.weight);
            (node, NodeSpec { weight: if holds { spec.weight } else { before }, ..spec })
        };
        let topology: Topology<N> = all.iter().map(holding).collect();
        let (members, specs): (Vec<N>, Vec<NodeSpec>) = topology.iter().unzip();
        let place = |owner: &N| members.binary_search(owner).map_or(u16::MAX, |at| at as u16);
        let places: Vec<u16> = owners.iter().map(place).collect();
        let (partitions, replicas) = (target.partitions(), target.replicas());
        Self::from_places(target.epoch(), partitions, replicas, (members, specs), &places)
            .ok_or(Error::BadClaim)
    }
}
