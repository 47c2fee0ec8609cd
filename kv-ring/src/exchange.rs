//! Two copies that change places: how a busy partition comes to another node without a new
//! placement.
//!
//! A placement is even in copies and knows nothing of how much each is asked for. Where one node
//! has too many of the busy ones, one of them changes places with an idle one of another node. A
//! chooser, which moves no copy that could stay, leaves it so at the next change of the members.
//! Invariant: each node holds as many copies and as many first places afterwards as before, and no
//! partition's copies stand in zones less evenly; so whatever a placement keeps to, it goes on to.

use alloc::vec::Vec;

use crate::error::Error;
use crate::layout::Layout;
use crate::partition::Partition;
use crate::topology::NodeCode;

/// Two copies that change places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exchange<N> {
    /// The partition of the copy that `from` gives.
    pub partition: Partition,
    /// Who holds that now.
    pub from: N,
    /// Who is to hold it.
    pub to: N,
    /// The partition of the copy that `to` gives for it.
    pub against: Partition,
}

impl<N: Copy> Exchange<N> {
    /// What undoes it.
    #[must_use]
    pub const fn back(self) -> Self {
        let Self { partition, from, to, against } = self;
        Self { partition, from: to, to: from, against }
    }
}

impl<N: Ord + Copy> Layout<N> {
    /// Whether an exchange can be made. O(N + log members).
    ///
    /// # Errors
    /// [`Error::Exchange`] says which rule is against it.
    pub fn may_exchange(&self, exchange: &Exchange<N>) -> Result<(), Error> {
        let Exchange { partition, from, to, against } = *exchange;
        let (given, taken) = (self.owners(partition), self.owners(against));
        let holds = |owners: &[N], node: N| owners.contains(&node);
        if !holds(given, from) || !holds(taken, to) {
            return Err(Error::Exchange("who gives a copy does not hold it"));
        }
        if holds(given, to) || holds(taken, from) {
            return Err(Error::Exchange("who gets a copy holds one already"));
        }
        if (given.first() == Some(&from)) != (taken.first() == Some(&to)) {
            return Err(Error::Exchange("first places would not be as many for each"));
        }
        if !self.stays_spread(given, from, to) || !self.stays_spread(taken, to, from) {
            return Err(Error::Exchange("copies would stand in zones less evenly"));
        }
        Ok(())
    }

    /// Whether copies stand in zones as evenly when `new` has the place of `old`.
    fn stays_spread(&self, owners: &[N], old: N, new: N) -> bool {
        let zone = |node: N| self.spec(node).map(|spec| spec.zone);
        let (left, entered) = (zone(old), zone(new));
        let held = |wanted| owners.iter().filter(|owner| zone(**owner) == wanted).count();
        left == entered || held(entered) < held(left)
    }
}

impl<N: NodeCode> Layout<N> {
    /// The next layout, in which two copies have changed places; nothing else moves. Each takes the
    /// other's rank: who was a first primary is followed by a first primary. O(partitions * N).
    ///
    /// # Errors
    /// As [`may_exchange`](Self::may_exchange), and [`Error::EpochExhausted`].
    ///
    /// ```
    /// use kv_ring::{AutoClaim, Exchange, Layout, NodeSpec, PartitionCount, Plan, Topology, Zone};
    ///
    /// # fn main() -> Result<(), kv_ring::Error> {
    /// let spec = NodeSpec::new(1, Zone::default());
    /// let nodes: Topology<u64> = (1..=4).map(|node| (node, spec)).collect();
    /// let now = Layout::first(&nodes, PartitionCount::new(16)?, 1, &AutoClaim)?;
    /// let first_of = |node| now.held_by(node).next().map(|(partition, _)| partition);
    /// let (Some(busy), Some(idle)) = (first_of(1), first_of(2)) else { unreachable!() };
    /// let next = now.exchanged(&Exchange { partition: busy, from: 1, to: 2, against: idle })?;
    /// assert!(next.owns(2, busy) && next.owns(1, idle));
    /// assert_eq!(Plan::between(&now, &next)?.moves().len(), 2);
    /// # Ok(()) }
    /// ```
    pub fn exchanged(&self, exchange: &Exchange<N>) -> Result<Self, Error> {
        let epoch = self.epoch.checked_add(1).ok_or(Error::EpochExhausted)?;
        self.may_exchange(exchange)?;
        let Exchange { partition, from, to, against } = *exchange;
        let mut places: Vec<u16> = Vec::with_capacity(self.partitions().count() * self.replicas());
        for at in self.partitions().iter() {
            let owner_then = |owner: &N| match *owner {
                owner if at == partition && owner == from => to,
                owner if at == against && owner == to => from,
                owner => owner,
            };
            let place = |owner: N| self.index_of(owner).map_or(u16::MAX, |at| at as u16);
            places.extend(self.owners(at).iter().map(|owner| place(owner_then(owner))));
        }
        let nodes = (self.members.clone(), self.specs.clone());
        Self::from_places(epoch, self.partitions(), self.replicas(), nodes, &places)
            .ok_or(Error::Exchange("it is no placement"))
    }
}
