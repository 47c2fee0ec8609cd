//! Placement: choosers that say which nodes hold which partition.
//!
//! A chooser sees numbers only: nodes as indexes, their weights and zones, and who held what
//! before. [`FlowClaim`] is exact (min-cost flow) and moves no copy that could stay; [`FastClaim`]
//! is a heuristic for clusters that are too large for it; [`AutoClaim`] takes the one that fits.
//! Invariant: the same request has the same answer, on any machine.

mod flow;
mod heuristic;
mod network;
mod order;
mod share;

pub use flow::FlowClaim;
pub use heuristic::FastClaim;
pub use share::Share;

use alloc::vec::Vec;

use crate::error::Error;
use crate::partition::PartitionCount;
use crate::topology::NodeSpec;

/// In [`ClaimRequest::before`]: an owner that is no member any more.
pub const NOBODY: u16 = u16::MAX;

/// What a chooser is asked: `replicas` copies of each partition on `nodes`.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest<'a> {
    partitions: PartitionCount,
    replicas: usize,
    nodes: &'a [NodeSpec],
    before: &'a [u16],
    replicas_before: usize,
}

impl<'a> ClaimRequest<'a> {
    pub(crate) const fn new(
        partitions: PartitionCount,
        replicas: usize,
        nodes: &'a [NodeSpec],
        before: &'a [u16],
        replicas_before: usize,
    ) -> Self {
        Self { partitions, replicas, nodes, before, replicas_before }
    }

    /// How many partitions there are.
    pub const fn partitions(&self) -> PartitionCount {
        self.partitions
    }

    /// Copies of each partition: at least 1, at most the number of nodes with a weight above 0.
    pub const fn replicas(&self) -> usize {
        self.replicas
    }

    /// The nodes. Those of weight 0 may hold nothing.
    pub const fn nodes(&self) -> &'a [NodeSpec] {
        self.nodes
    }

    /// Who held the partition before, first primary first, as indexes into the nodes or [`NOBODY`].
    /// Empty for a first layout.
    pub fn before(&self, partition: usize) -> &'a [u16] {
        let start = partition * self.replicas_before;
        self.before.get(start..start + self.replicas_before).unwrap_or_default()
    }
}

/// A chooser of placements.
pub trait Claim {
    /// The owners of all partitions, `replicas` for each, as indexes into the request's nodes: all
    /// of partition 0, first primary first, then all of partition 1, and so on. Owners of one
    /// partition differ and have weight.
    ///
    /// # Errors
    /// [`Error::TooManyNodes`] when there are more than it is made for.
    fn claim(&self, request: &ClaimRequest<'_>) -> Result<Vec<u16>, Error>;
}

/// [`FlowClaim`] up to [`FlowClaim::nodes_max`], [`FastClaim`] above.
#[derive(Clone, Copy, Debug, Default)]
pub struct AutoClaim;

impl Claim for AutoClaim {
    fn claim(&self, request: &ClaimRequest<'_>) -> Result<Vec<u16>, Error> {
        if request.nodes().len() <= FlowClaim::nodes_max(request.partitions()) {
            FlowClaim.claim(request)
        } else {
            FastClaim.claim(request)
        }
    }
}

/// A well-mixed function of two numbers (the finalizer of SplitMix64), to break ties without
/// favouring low numbers.
pub(crate) const fn mix(seed: u64, value: u64) -> u64 {
    let mut z = (seed << 32 ^ value).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
