//! Raising marks: for each partition one replica sees to it that all are equal below the floors.
//!
//! That one is the partition's first live primary; nothing breaks if two believe they are. It
//! watches the log of its own exchanges (kv-quorum's `climb` says when a mark is proven), then
//! tells the mark to the others, each with the witness that it had told before the exchanges. A
//! replica takes it durably, or refuses when it may have forgotten something since.

use std::collections::BTreeMap;
use std::sync::Arc;

use kv_client::NodeId;
use kv_quorum::{Climb, Mark};
use kv_ring::Partition;
use parking_lot::Mutex;

use super::{Coordinator, Scope};
use crate::cluster::floors::Floors;
use crate::error::RequestError;
use crate::wire::{PeerOp, PeerOut};

/// The climbs of every partition.
#[derive(Debug, Default)]
pub(crate) struct Climbs(Mutex<Vec<Climb<Arc<Floors>>>>);

/// A mark that is proven, and whom to tell.
struct Proven {
    partition: Partition,
    mark: Mark,
    others: Vec<NodeId>,
    floors: Arc<Floors>,
}

/// What a step came to.
#[derive(Debug, Default)]
pub(crate) struct Raised {
    /// Marks that this replica has in force now, to be stored by the caller first.
    pub(crate) own: Vec<(Partition, Mark)>,
    /// What the others are to be told.
    pub(crate) tell: Vec<(NodeId, PeerOp)>,
}

impl Coordinator {
    /// One step of every climb whose climber this node is. `floors` are those of all members, this
    /// node's among them with its present witness.
    ///
    /// # Errors
    /// `Loading`.
    pub(crate) fn climb(
        &self,
        climbs: &Climbs,
        floors: &Arc<Floors>,
    ) -> Result<Raised, RequestError> {
        let scope = self.scope()?;
        let members: Vec<NodeId> =
            scope.layouts.live().flat_map(|layout| layout.members().iter().copied()).collect();
        let members: Vec<NodeId> =
            members.into_iter().filter(|node| !scope.view.is_removed(*node)).collect();
        let partitions = scope.layouts.newest().partitions();
        let mut climbs = climbs.0.lock();
        if climbs.len() != partitions.count() {
            // What was begun by a coarser count is begun anew.
            climbs.clear();
            climbs.resize_with(partitions.count(), Climb::new);
        }
        let floor = floors.least(&members);
        let mut proven = Vec::new();
        for (partition, climb) in partitions.iter().zip(climbs.iter_mut()) {
            let Some(others) = self.climbs_here(&scope, partition) else {
                climb.reset();
                continue;
            };
            let log = self.parts.replica.exchanged();
            let now = log.stamp(self.parts.dots.time(self.now_ms()));
            let exchanged = if others.is_empty() {
                Some(now)
            } else {
                log.least(partition, others.iter().copied())
            };
            let mark = self.parts.replica.mark(partition);
            let step = climb.step(now, exchanged, floor, mark, || Arc::clone(floors));
            let Some((mark, seen)) = step else { continue };
            // A member that came meanwhile, or forgot, is below it perhaps: begin anew.
            if floor >= mark.time() && seen.witness(scope.view.me) == floors.witness(scope.view.me)
            {
                proven.push(Proven { partition, mark, others, floors: seen });
            }
        }
        Ok(raised(proven))
    }

    /// The other replicas of a partition whose climber this node is.
    fn climbs_here(&self, scope: &Scope, partition: Partition) -> Option<Vec<NodeId>> {
        let me = scope.view.me;
        let climber = scope.decider(partition) == Some(me) && scope.holds(partition);
        if !climber || !self.parts.replica.standings().is_complete(partition) {
            return None;
        }
        let gone = |node| scope.view.is_removed(node);
        let sets = scope.layouts.write_sets(partition);
        let mut others: Vec<NodeId> =
            sets.flatten().copied().filter(|node| *node != me && !gone(*node)).collect();
        others.sort_unstable();
        others.dedup();
        Some(others)
    }

    /// Tells marks to the other replicas; says how many did not take theirs.
    pub(crate) async fn tell_marks(&self, tell: Vec<(NodeId, PeerOp)>) -> usize {
        let deadline_ms = self.parts.clock.steady_ms() + self.parts.timing.request_ms_max;
        let answers = self.gather(deadline_ms, tell).await;
        answers.iter().filter(|answer| !matches!(answer, Some(Ok(PeerOut::Done)))).count()
    }
}

/// What is proven, by whom it is to be told to and with which witness.
fn raised(proven: Vec<Proven>) -> Raised {
    let mut told: BTreeMap<(NodeId, u64), Vec<(u16, u64)>> = BTreeMap::new();
    let mut own = Vec::with_capacity(proven.len());
    for Proven { partition, mark, others, floors } in proven {
        own.push((partition, mark));
        for node in others {
            let Some(witness) = floors.witness(node) else { continue };
            let mark = (partition.code(), mark.time().to_bits());
            told.entry((node, witness)).or_default().push(mark);
        }
    }
    let tell = told.into_iter();
    let tell = tell.map(|((node, witness), marks)| (node, PeerOp::Marks { witness, marks }));
    Raised { own, tell: tell.collect() }
}
