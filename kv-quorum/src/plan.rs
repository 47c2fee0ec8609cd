//! Plans: which nodes an operation needs, and how many of them.
//!
//! A plan is a list of write sets, one for each live layout, and an operation reaches its quorum in
//! every one of them (Garage's layout history, Cassandra's CEP-21). With a sloppy quorum (Dynamo,
//! 4.6) a fallback stands in for a primary that is down: its answer counts in that primary's place,
//! in every set that names it.
//!
//! A set need not be all primaries of a layout: where only the copies of one zone are waited for
//! (Cassandra's `LOCAL_QUORUM`), it is those, and the other primaries are told all the same.
//!
//! A plan depends on partition and quorum only, so it is built once and shared; trackers keep a few
//! bit masks beside it.
//!
//! Invariant: at most [`PLAN_NODES_MAX`] nodes, each once; no set is empty or asks for more than it
//! has; fallbacks are in no set.

use crate::error::Error;
use crate::teeth::{Bug, planted};
use alloc::vec::Vec;

/// How many different nodes a plan may name, fallbacks included.
pub const PLAN_NODES_MAX: usize = 64;

/// Nodes of one live layout, and how many of them must answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteSet<N> {
    /// Primaries, in order of preference.
    pub nodes: Vec<N>,
    /// W for a write, R for a read.
    pub required: usize,
}

/// Which nodes an operation needs: a write set for each live layout, and who may stand in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<N> {
    /// Primaries first, then fallbacks; a mask has bit i for the i-th.
    nodes: Vec<N>,
    primaries: usize,
    sets: Vec<Quota>,
    sloppy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quota {
    members: u64,
    size: u32,
    required: u32,
}

impl<N: Copy + Ord> Plan<N> {
    /// A plan over `sets`, with `fallbacks` in order of preference; they count only if `sloppy`.
    ///
    /// # Errors
    /// [`Error::PlanMalformed`], [`Error::PlanQuorumOutOfRange`], [`Error::PlanTooLarge`].
    pub fn new(sets: &[WriteSet<N>], fallbacks: &[N], sloppy: bool) -> Result<Self, Error> {
        let mut nodes: Vec<N> = Vec::with_capacity(sets.first().map_or(0, |set| set.nodes.len()));
        let mut quotas = Vec::with_capacity(sets.len());
        for set in sets {
            let mut members = 0;
            for &node in &set.nodes {
                let known = nodes.iter().position(|other| *other == node);
                let at = known.unwrap_or(nodes.len());
                if at >= PLAN_NODES_MAX {
                    return Err(Error::PlanTooLarge);
                }
                if known.is_none() {
                    nodes.push(node);
                }
                if members & 1 << at != 0 {
                    return Err(Error::PlanMalformed);
                }
                members |= 1 << at;
            }
            if set.required == 0 || set.required > set.nodes.len() {
                return Err(Error::PlanQuorumOutOfRange);
            }
            let (size, required) = (set.nodes.len() as u32, set.required as u32);
            quotas.push(Quota { members, size, required });
        }
        if quotas.is_empty() {
            return Err(Error::PlanMalformed);
        }
        let primaries = nodes.len();
        for &node in fallbacks {
            if nodes.contains(&node) {
                return Err(Error::PlanMalformed);
            }
            nodes.push(node);
        }
        if nodes.len() > PLAN_NODES_MAX {
            return Err(Error::PlanTooLarge);
        }
        Ok(Self { nodes, primaries, sets: quotas, sloppy })
    }

    /// The same plan, with primaries that are told and not waited for: they get what is written, or
    /// a fallback keeps it for them, and count in no set.
    ///
    /// # Errors
    /// [`Error::PlanMalformed`] if one is a fallback or named twice, [`Error::PlanTooLarge`].
    pub fn telling(mut self, nodes: &[N]) -> Result<Self, Error> {
        for &node in nodes {
            if self.nodes.contains(&node) {
                return Err(Error::PlanMalformed);
            }
            self.nodes.insert(self.primaries, node);
            self.primaries += 1;
        }
        if self.nodes.len() > PLAN_NODES_MAX { Err(Error::PlanTooLarge) } else { Ok(self) }
    }

    /// The primaries of all sets, each once, in order of preference; then those only told.
    pub fn primaries(&self) -> &[N] {
        self.nodes.get(..self.primaries).unwrap_or_default()
    }

    /// Who may stand in, in order of preference.
    pub fn fallbacks(&self) -> &[N] {
        self.nodes.get(self.primaries..).unwrap_or_default()
    }

    /// Whether fallbacks count.
    pub fn is_sloppy(&self) -> bool {
        self.sloppy
    }

    /// The write sets, in order.
    pub fn sets(&self) -> impl ExactSizeIterator<Item = WriteSet<N>> + '_ {
        self.sets.iter().map(|quota| WriteSet {
            nodes: self.named(quota.members),
            required: quota.required as usize,
        })
    }

    pub(crate) fn index_of(&self, node: N) -> Option<usize> {
        self.nodes.iter().position(|other| *other == node)
    }

    pub(crate) fn node(&self, index: usize) -> Option<N> {
        self.nodes.get(index).copied()
    }

    pub(crate) fn named(&self, mask: u64) -> Vec<N> {
        Bits(mask).filter_map(|at| self.node(at)).collect()
    }

    pub(crate) const fn primary_mask(&self) -> u64 {
        if self.primaries >= 64 { u64::MAX } else { (1 << self.primaries) - 1 }
    }
}

/// The indexes of the set bits of a mask, ascending.
pub(crate) struct Bits(pub(crate) u64);

impl Iterator for Bits {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let at = self.0.trailing_zeros() as usize;
        (self.0 != 0).then(|| {
            self.0 &= self.0 - 1;
            at
        })
    }
}

/// Who failed and who stands in for whom: what both trackers keep beside a plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// Called, or told that they will be.
    pub(crate) contacted: u64,
    pub(crate) failed: u64,
    /// Of those that failed, the primaries that are up all the same: nobody stands in for them.
    refused: u64,
    /// (fallback, primary), in the order of choosing.
    stand_ins: Vec<(u8, u8)>,
}

impl Standing {
    /// A mask of primaries in whose place somebody of `mask` answers.
    pub(crate) fn places<N: Copy + Ord>(&self, plan: &Plan<N>, mask: u64) -> u64 {
        let mut places = mask & plan.primary_mask();
        for &(fallback, primary) in &self.stand_ins {
            places |= (mask >> fallback & 1) << primary;
        }
        places
    }

    /// The primary for which the node at `index` stands in, if it is a fallback that does.
    pub(crate) fn stands_for(&self, index: usize) -> Option<usize> {
        let found = self.stand_ins.iter().find(|pair| usize::from(pair.0) == index);
        found.map(|pair| usize::from(pair.1))
    }

    /// Marks the node at `index` as failed though it is up: it refused, or is only slow. Nobody
    /// stands in for a primary that is up; for a fallback that is of no use, the next one does.
    pub(crate) fn refuse<N: Copy + Ord>(&mut self, plan: &Plan<N>, index: usize) -> Option<usize> {
        if index >= plan.primaries {
            return self.fail(plan, index);
        }
        self.failed |= 1 << index;
        self.refused |= 1 << index;
        None
    }

    /// Primaries that are down and for whom nobody answers or was asked to.
    pub(crate) fn unserved<N: Copy + Ord>(&self, plan: &Plan<N>, answered: u64) -> u64 {
        let served = self.places(plan, answered | self.stand_ins());
        plan.primary_mask() & self.failed & !self.refused & !served
    }

    /// Marks the node at `index` as failed and chooses who stands in, if the plan is sloppy and
    /// anybody is left.
    pub(crate) fn fail<N: Copy + Ord>(&mut self, plan: &Plan<N>, index: usize) -> Option<usize> {
        self.failed |= 1 << index;
        if !plan.sloppy {
            return None;
        }
        let place = if index < plan.primaries { Some(index) } else { self.stands_for(index) }?;
        if planted(Bug::HintsCountTwice)
            && let Some((first, _)) = self.stand_ins.first().copied()
            && usize::from(first) != index
        {
            self.stand_ins.push((first, place as u8));
            return None;
        }
        let used = |at: usize| (self.contacted | self.failed) >> at & 1 == 1;
        let free = (plan.primaries..plan.nodes.len())
            .find(|at| !used(*at) && self.stands_for(*at).is_none())?;
        self.stand_ins.push((free as u8, place as u8));
        Some(free)
    }

    /// Everybody who stands in and has not failed.
    pub(crate) fn stand_ins(&self) -> u64 {
        self.stand_ins.iter().fold(0, |mask, pair| mask | 1 << pair.0) & !self.failed
    }

    /// Primaries and stand-ins that have not failed.
    pub(crate) fn alive<N: Copy + Ord>(&self, plan: &Plan<N>) -> u64 {
        plan.primary_mask() & !self.failed | self.stand_ins()
    }

    /// The first set that `mask` does not satisfy: (how many answer in it, how many must).
    pub(crate) fn shortfall<N: Copy + Ord>(
        &self,
        plan: &Plan<N>,
        mask: u64,
    ) -> Option<(usize, usize)> {
        let places = self.places(plan, mask);
        plan.sets.iter().find_map(|set| {
            let have = (places & set.members).count_ones();
            (have < set.required).then_some((have as usize, set.required as usize))
        })
    }

    /// How many answer in the first set, and how many must.
    pub(crate) fn tally<N: Copy + Ord>(&self, plan: &Plan<N>, mask: u64) -> (usize, usize) {
        let places = self.places(plan, mask);
        plan.sets.first().map_or((0, 0), |set| {
            ((places & set.members).count_ones() as usize, set.required as usize)
        })
    }

    /// Whether the answers of `mask` meet every quorum acknowledged before with any W > N/2: in
    /// each set that asks for so many itself, one more than a majority may lack.
    pub(crate) fn meets_quorums<N: Copy + Ord>(&self, plan: &Plan<N>, mask: u64) -> bool {
        let places = self.places(plan, mask);
        plan.sets
            .iter()
            .filter(|set| 2 * set.required > set.size)
            .all(|set| (places & set.members).count_ones() >= set.size - set.size / 2)
    }

    /// Members of sets that `mask` does not satisfy.
    pub(crate) fn wanting<N: Copy + Ord>(&self, plan: &Plan<N>, mask: u64) -> Option<u64> {
        let places = self.places(plan, mask);
        let short = |set: &&Quota| (places & set.members).count_ones() < set.required;
        plan.sets.iter().find(short).map(|set| set.members)
    }
}
