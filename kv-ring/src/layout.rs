//! A layout: for each partition the ordered list of the nodes that hold it.
//!
//! Layouts are values. A change makes a new one with the next epoch; the cluster agrees on it, and
//! while data moves the older and the newer are both live ([`History`](crate::History)). The digest
//! covers all that the layout says, so two nodes that name the same epoch and digest mean the same.
//! Invariant: each partition has exactly N owners, all different, all members with a weight above
//! zero; the owners of all partitions are one flat array, so a lookup is a shift and a slice.

use alloc::vec::Vec;

use crate::claim::{Claim, ClaimRequest, NOBODY};
use crate::codec;
use crate::error::Error;
use crate::partition::{Partition, PartitionCount};
use crate::preference::PreferenceList;
use crate::slot::Slot;
use crate::topology::{NodeCode, NodeSpec, Topology};

/// The most copies of a partition (N).
pub const REPLICAS_MAX: usize = 16;

/// The most members of a layout.
pub const MEMBERS_MAX: usize = 4096;

/// Which nodes hold which partition, under one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout<N> {
    pub(crate) epoch: u64,
    pub(crate) digest: u64,
    pub(crate) partitions: PartitionCount,
    pub(crate) replicas: usize,
    /// In order of identity, those that own nothing included.
    pub(crate) members: Vec<N>,
    /// What each of `members` brings, in the same order.
    pub(crate) specs: Vec<NodeSpec>,
    /// `replicas` owners for each partition.
    owners: Vec<N>,
}

impl<N: Ord + Copy> Layout<N> {
    /// Which of the cluster's layouts this is; 1 is the first. Each change adds one.
    #[inline]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// XXH3-64 of all that the layout says (of its encoding). Not a proof against forgery.
    #[inline]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// Copies of each partition (N).
    #[inline]
    pub const fn replicas(&self) -> usize {
        self.replicas
    }

    /// How many partitions there are.
    #[inline]
    pub const fn partitions(&self) -> PartitionCount {
        self.partitions
    }

    /// The owners of a partition, first primary first. Of one of a finer count they are those of
    /// the partition that it is a part of; of one of a coarser count, whose parts may have
    /// different owners, there are none. O(1), no allocation.
    #[inline]
    pub fn owners(&self, partition: Partition) -> &[N] {
        let Some(own) = partition.under(self.partitions) else { return &[] };
        let start = usize::from(own.index()) * self.replicas;
        self.owners.get(start..start + self.replicas).unwrap_or_default()
    }

    /// The owners of a slot's partition, first primary first. O(1), no allocation.
    #[inline]
    pub fn owners_of(&self, slot: Slot) -> &[N] {
        self.owners(self.partitions.of(slot))
    }

    /// The partition's owners in order, then who stands in for them.
    #[inline]
    pub const fn preference(&self, partition: Partition) -> PreferenceList<'_, N> {
        PreferenceList::new(self, partition)
    }

    /// All members in order of identity, those that own nothing included.
    #[inline]
    pub fn members(&self) -> &[N] {
        &self.members
    }

    /// What a member brings; `None` if it is none. O(log members).
    pub fn spec(&self, node: N) -> Option<NodeSpec> {
        self.specs.get(self.index_of(node)?).copied()
    }

    /// Whether the node is a member. O(log members).
    pub fn contains(&self, node: N) -> bool {
        self.index_of(node).is_some()
    }

    /// Whether the node owns a copy of the partition. O(N).
    #[inline]
    pub fn owns(&self, node: N, partition: Partition) -> bool {
        self.owners(partition).contains(&node)
    }

    /// The members and what each brings: the base of the next change.
    pub fn topology(&self) -> Topology<N> {
        self.members.iter().copied().zip(self.specs.iter().copied()).collect()
    }

    /// The partitions that a node holds, in order, each with whether the node is its first primary.
    /// O(partitions * N).
    pub fn held_by(&self, node: N) -> impl Iterator<Item = (Partition, bool)> {
        self.partitions.iter().filter_map(move |partition| {
            let owners = self.owners(partition);
            owners.contains(&node).then(|| (partition, owners.first() == Some(&node)))
        })
    }

    /// Where a member stands in `members`.
    pub(crate) fn index_of(&self, node: N) -> Option<usize> {
        self.members.binary_search(&node).ok()
    }

    /// The owners as indexes into `members`.
    pub(crate) fn places(&self) -> impl Iterator<Item = u16> {
        self.owners.iter().map(|&owner| place(&self.members, owner))
    }
}

impl<N: NodeCode> Layout<N> {
    /// The first layout of a cluster, of epoch 1: `replicas` copies (N) of each partition.
    ///
    /// # Errors
    /// [`Error::Replicas`], [`Error::TooFewNodes`] and [`Error::TooManyNodes`] for a topology that
    /// can't hold it; what the chooser answers; [`Error::BadClaim`] if it answers no placement.
    pub fn first(
        topology: &Topology<N>,
        partitions: PartitionCount,
        replicas: usize,
        claim: &dyn Claim,
    ) -> Result<Self, Error> {
        Self::chosen(1, topology, partitions, replicas, (&[], 0), claim)
    }

    /// The layout after `previous`, for members and a number of copies that may both have changed.
    /// The number of partitions stays (see [`doubled`](Self::doubled)).
    ///
    /// # Errors
    /// As [`first`](Self::first), and [`Error::EpochExhausted`].
    pub fn next(
        previous: &Self,
        topology: &Topology<N>,
        replicas: usize,
        claim: &dyn Claim,
    ) -> Result<Self, Error> {
        let epoch = previous.epoch.checked_add(1).ok_or(Error::EpochExhausted)?;
        let members: Vec<N> = topology.iter().map(|(node, _)| node).collect();
        let before: Vec<u16> = previous.owners.iter().map(|&node| place(&members, node)).collect();
        let before = (before.as_slice(), previous.replicas);
        Self::chosen(epoch, topology, previous.partitions, replicas, before, claim)
    }

    /// The same placement under a later epoch: how a change that is on its way is called off.
    ///
    /// # Errors
    /// [`Error::EpochNotNewer`] unless `epoch` is above this layout's.
    pub fn reissued(&self, epoch: u64) -> Result<Self, Error> {
        if epoch <= self.epoch {
            return Err(Error::EpochNotNewer { pushed: epoch, newest: self.epoch });
        }
        let mut layout = Self { epoch, ..self.clone() };
        layout.digest = codec::digest(&layout);
        Ok(layout)
    }

    /// The next layout, in which `new` has taken over all that `old` holds and is; nothing else
    /// moves.
    ///
    /// # Errors
    /// [`Error::NotAMember`], [`Error::AlreadyAMember`], [`Error::EpochExhausted`].
    pub fn replaced(&self, old: N, new: N) -> Result<Self, Error> {
        let epoch = self.epoch.checked_add(1).ok_or(Error::EpochExhausted)?;
        let spec = self.spec(old).ok_or(Error::NotAMember)?;
        if self.contains(new) {
            return Err(Error::AlreadyAMember);
        }
        let mut topology = self.topology();
        topology.remove(old);
        topology.insert(new, spec);
        let (members, specs) = topology.iter().unzip();
        let swap = |owner: &N| if *owner == old { new } else { *owner };
        let owners = self.owners.iter().map(swap).collect();
        Ok(Self { epoch, members, specs, owners, ..self.clone() }.sealed())
    }

    /// The next layout, with twice the partitions: each is cut in two and nothing moves. `Ok(None)`
    /// when there is a partition for each slot already.
    ///
    /// # Errors
    /// [`Error::EpochExhausted`].
    pub fn doubled(&self) -> Result<Option<Self>, Error> {
        let epoch = self.epoch.checked_add(1).ok_or(Error::EpochExhausted)?;
        let Some(partitions) = self.partitions.doubled() else {
            return Ok(None);
        };
        let halves = |owners| core::iter::repeat_n(owners, 2).flatten().copied();
        let owners = self.owners.chunks(self.replicas).flat_map(halves).collect();
        Ok(Some(Self { epoch, partitions, owners, ..self.clone() }.sealed()))
    }

    fn chosen(
        epoch: u64,
        topology: &Topology<N>,
        partitions: PartitionCount,
        replicas: usize,
        (before, replicas_before): (&[u16], usize),
        claim: &dyn Claim,
    ) -> Result<Self, Error> {
        let (members, specs): (Vec<N>, Vec<NodeSpec>) = topology.iter().unzip();
        check_size(&specs, replicas)?;
        let request = ClaimRequest::new(partitions, replicas, &specs, before, replicas_before);
        let places = claim.claim(&request)?;
        Self::from_places(epoch, partitions, replicas, (members, specs), &places)
            .ok_or(Error::BadClaim)
    }

    /// A layout of owners given as indexes into the members; `None` if they break the invariant.
    pub(crate) fn from_places(
        epoch: u64,
        partitions: PartitionCount,
        replicas: usize,
        (members, specs): (Vec<N>, Vec<NodeSpec>),
        places: &[u16],
    ) -> Option<Self> {
        if replicas == 0 || places.len() != partitions.count() * replicas {
            return None;
        }
        for copies in places.chunks(replicas) {
            for (rank, &copy) in copies.iter().enumerate() {
                let weight = specs.get(usize::from(copy))?.weight;
                if weight == 0 || copies.iter().take(rank).any(|&other| other == copy) {
                    return None;
                }
            }
        }
        let owner = |&place: &u16| members.get(usize::from(place)).copied();
        let owners = places.iter().map(owner).collect::<Option<Vec<N>>>()?;
        Some(Self { epoch, digest: 0, partitions, replicas, members, specs, owners }.sealed())
    }

    fn sealed(mut self) -> Self {
        self.digest = codec::digest(&self);
        self
    }
}

/// Whether so many copies can be held at all.
pub(crate) fn check_size(specs: &[NodeSpec], replicas: usize) -> Result<(), Error> {
    if replicas == 0 || replicas > REPLICAS_MAX {
        return Err(Error::Replicas(replicas));
    }
    if specs.len() > MEMBERS_MAX {
        return Err(Error::TooManyNodes { nodes: specs.len(), nodes_max: MEMBERS_MAX });
    }
    let nodes = specs.iter().filter(|spec| spec.weight > 0).count();
    if nodes < replicas {
        return Err(Error::TooFewNodes { replicas, nodes });
    }
    Ok(())
}

fn place<N: Ord + Copy>(members: &[N], node: N) -> u16 {
    members.binary_search(&node).map_or(NOBODY, |index| index as u16)
}
