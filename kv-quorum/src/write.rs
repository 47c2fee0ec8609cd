//! The write side of a quorum operation, as one object.
//!
//! ```text
//! new -> (on_failure for those known to be down) -> begin -> mint -> call those named
//!     -> on_reply, on_failure, on_deadline ... -> Done
//!             |
//!             Remint(coverage) -> mint over it -> reminted -> call those named -> ... -> Done
//! ```
//!
//! A Redis SET replaces what its coordinator knows, and replicas answer with the live dots that
//! this did not cover. If the answers that it weighs show any, the coordinator mints once more over
//! all the coverage in them. Those answers meet every quorum acknowledged before (one more complete
//! replica than such a quorum may miss), so a SET that begins after another was acknowledged covers
//! it, whatever the clocks say. There is no third mint: what the second round shows was written
//! meanwhile. (The shape is that of riak_kv's `riak_kv_put_core`; the two rounds are those of
//! multi-writer ABD, Lynch and Shvartsman 1997, with the first one optimistic.)
//!
//! Invariant: a node counts once, in every set that names it; an outcome is given once and never
//! changes.

use crate::context::Context;
use crate::dot::Dot;
use crate::plan::{Bits, Plan, Standing};
use crate::teeth::{Bug, planted};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What one node answered to a write: it joined the record, durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteReply {
    /// The round in which it was called: [`WriteTracker::round`] at that time. Answers to an
    /// earlier round count for nothing.
    pub round: u8,
    /// Whether it holds all that it ever acknowledged. A newcomer, or a replica that lost
    /// something, counts for W and not for what a blind SET weighs.
    pub complete: bool,
    /// [`Joined::uncovered`](crate::Joined::uncovered): dots that are live there and that the
    /// write did not cover.
    pub uncovered: Vec<Dot>,
    /// The coverage of its record; `None` will do when `uncovered` is empty.
    pub coverage: Option<Context>,
}

impl WriteReply {
    /// A complete replica that held nothing which the write did not cover.
    pub const fn plain(round: u8) -> Self {
        Self { round, complete: true, uncovered: Vec::new(), coverage: None }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum WriteStep<N> {
    /// Nothing; wait for an answer, a failure or the deadline.
    Wait,
    /// Send the write to these; fallbacks among them keep a hint for
    /// [`WriteTracker::hint_for`].
    Contact(Vec<N>),
    /// Mint once more over this coverage (`mint_over`), then call [`WriteTracker::reminted`].
    Remint(Context),
    /// Answer the client. Given once.
    Done(WriteOutcome<N>),
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOutcome<N> {
    /// It is on W in every live layout.
    Acknowledged {
        /// Whether W was reached only by counting fallbacks.
        sloppy: bool,
    },
    /// Known before minting: W cannot be reached. Nothing was written.
    NoReplicas {
        /// Those that are down.
        missing: Vec<N>,
    },
    /// Minted, and not known to be on W: it may take effect, now or later, or never.
    Indeterminate {
        /// How many answered that count, in the first set that is short of them.
        acks: usize,
        /// How many that set requires.
        required: usize,
        /// Primaries that did not answer.
        missing: Vec<N>,
    },
}

/// What is left to do when a write has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteFinal<N> {
    /// (fallback, primary): the fallback acknowledged, and holds a hint for the primary.
    pub hinted: Vec<(N, N)>,
    /// Primaries that did not acknowledge and for whom nobody holds a hint: a hint beyond W, or
    /// repair.
    pub lacking: Vec<N>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not minted yet.
    Planning,
    /// Waiting for answers.
    Round,
    /// Remint was asked for.
    Reminting,
    /// Acknowledged.
    Acknowledged,
    /// Ended otherwise.
    Failed,
}

/// One write in flight.
#[derive(Clone, Debug)]
pub struct WriteTracker<N> {
    plan: Arc<Plan<N>>,
    blind: bool,
    phase: Phase,
    round: u8,
    acked: u64,
    /// Those of `acked` that are complete, or fallbacks.
    weighed: u64,
    uncovered: bool,
    coverage: Context,
    standing: Standing,
}

impl<N: Copy + Ord> WriteTracker<N> {
    /// A write with a context (KV.PUT, KV.DEL, DEL): minted once.
    pub fn new(plan: impl Into<Arc<Plan<N>>>) -> Self {
        Self::of(plan.into(), false)
    }

    /// A blind overwrite (SET): minted again when the answers show a live dot that it did not
    /// cover.
    pub fn blind(plan: impl Into<Arc<Plan<N>>>) -> Self {
        Self::of(plan.into(), true)
    }

    fn of(plan: Arc<Plan<N>>, blind: bool) -> Self {
        Self {
            plan,
            blind,
            phase: Phase::Planning,
            round: 1,
            acked: 0,
            weighed: 0,
            uncovered: false,
            coverage: Context::new(),
            standing: Standing::default(),
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan<N> {
        &self.plan
    }

    /// Whether it is a blind overwrite.
    pub const fn is_blind(&self) -> bool {
        self.blind
    }

    /// The round of the calls that are in flight: 1, or 2 after a second mint.
    pub fn round(&self) -> u8 {
        self.round
    }

    /// The primary for which `node` keeps a hint, if it stands in for one.
    pub fn hint_for(&self, node: N) -> Option<N> {
        let index = self.plan.index_of(node)?;
        self.standing.stands_for(index).and_then(|primary| self.plan.node(primary))
    }

    /// Primaries that are down and for whom nobody holds or was asked to hold a hint: whoever
    /// likes may keep one beyond W.
    pub fn unserved(&self) -> Vec<N> {
        self.plan.named(self.standing.unserved(&self.plan, self.acked))
    }

    /// To be called just before minting, when the failures known so far have been told: names
    /// all who are to get the write, or says that W is out of reach and nothing must be minted.
    pub fn begin(&mut self) -> WriteStep<N> {
        match self.phase {
            Phase::Planning if self.is_possible() => {
                self.phase = Phase::Round;
                self.contact_alive()
            }
            Phase::Planning => self.no_replicas(),
            _ => WriteStep::Wait,
        }
    }

    /// To be called when the second mint is done: names all who are to get it.
    pub fn reminted(&mut self) -> WriteStep<N> {
        if self.phase != Phase::Reminting {
            return WriteStep::Wait;
        }
        self.phase = Phase::Round;
        self.round += 1;
        self.acked = 0;
        self.weighed = 0;
        self.contact_alive()
    }

    /// `node` holds the write.
    pub fn on_reply(&mut self, node: N, reply: WriteReply) -> WriteStep<N> {
        let Some(index) = self.plan.index_of(node) else { return WriteStep::Wait };
        let bit = 1 << index;
        if reply.round != self.round || self.acked & bit != 0 {
            return WriteStep::Wait;
        }
        if matches!(self.phase, Phase::Planning | Phase::Reminting) {
            return WriteStep::Wait;
        }
        self.acked |= bit;
        self.standing.failed &= !bit;
        if reply.complete || bit & self.plan.primary_mask() == 0 {
            self.weighed |= bit;
        }
        if self.phase != Phase::Round {
            return WriteStep::Wait;
        }
        if self.weighs() {
            self.uncovered |= !reply.uncovered.is_empty();
            match reply.coverage {
                Some(coverage) if self.coverage.is_empty() => self.coverage = coverage,
                Some(coverage) => _ = self.coverage.join(&coverage),
                None => {}
            }
        }
        self.decide()
    }

    /// `node` is down or cannot be reached: it will not answer in this round, and somebody stands
    /// in for it where the plan is sloppy. Before [`begin`](Self::begin) it tells what membership
    /// knows. A failure of a call of an earlier round is not to be reported.
    pub fn on_failure(&mut self, node: N) -> WriteStep<N> {
        self.failed(node, Standing::fail)
    }

    /// `node` could not do it, or did not in time, and is up: nobody stands in for a primary, the
    /// next one does for a fallback.
    pub fn on_refusal(&mut self, node: N) -> WriteStep<N> {
        self.failed(node, Standing::refuse)
    }

    fn failed(
        &mut self,
        node: N,
        fail: fn(&mut Standing, &Plan<N>, usize) -> Option<usize>,
    ) -> WriteStep<N> {
        let Some(index) = self.plan.index_of(node) else { return WriteStep::Wait };
        if (self.acked | self.standing.failed) >> index & 1 == 1 {
            return WriteStep::Wait;
        }
        let stand_in = fail(&mut self.standing, &self.plan, index);
        match self.phase {
            Phase::Planning if !self.is_possible() => return self.no_replicas(),
            Phase::Reminting | Phase::Round if !self.is_possible() => return self.indeterminate(),
            Phase::Round | Phase::Acknowledged => {}
            Phase::Planning | Phase::Reminting | Phase::Failed => return WriteStep::Wait,
        }
        let Some(stand_in) = stand_in else { return WriteStep::Wait };
        self.standing.contacted |= 1 << stand_in;
        WriteStep::Contact(self.plan.named(1 << stand_in))
    }

    /// Time is up.
    pub fn on_deadline(&mut self) -> WriteStep<N> {
        match self.phase {
            Phase::Planning => self.no_replicas(),
            Phase::Round | Phase::Reminting => self.indeterminate(),
            Phase::Acknowledged | Phase::Failed => WriteStep::Wait,
        }
    }

    /// What is left to do, as far as is known now.
    pub fn final_action(&self) -> WriteFinal<N> {
        let mut hinted = Vec::new();
        for at in Bits(self.acked & !self.plan.primary_mask()) {
            let primary = self.standing.stands_for(at).and_then(|at| self.plan.node(at));
            if let (Some(fallback), Some(primary)) = (self.plan.node(at), primary) {
                hinted.push((fallback, primary));
            }
        }
        let served = self.standing.places(&self.plan, self.acked);
        WriteFinal { hinted, lacking: self.plan.named(self.plan.primary_mask() & !served) }
    }

    /// Whether this round's answers can still ask for a second mint.
    fn weighs(&self) -> bool {
        self.blind && self.round == 1
    }

    fn decide(&mut self) -> WriteStep<N> {
        let mut enough = self.standing.shortfall(&self.plan, self.acked).is_none();
        if planted(Bug::AckBelowW) {
            let short = self.standing.shortfall(&self.plan, self.acked);
            enough = short.is_none_or(|(have, required)| have + 1 >= required);
        }
        let weighty = planted(Bug::AckBelowW)
            || !self.weighs()
            || self.standing.meets_quorums(&self.plan, self.weighed);
        if !(enough && weighty) {
            return if self.is_possible() { WriteStep::Wait } else { self.indeterminate() };
        }
        if self.weighs() && self.uncovered && !planted(Bug::NoSecondMint) {
            self.phase = Phase::Reminting;
            return WriteStep::Remint(core::mem::take(&mut self.coverage));
        }
        self.phase = Phase::Acknowledged;
        let primaries = self.acked & self.plan.primary_mask();
        let strict = Standing::default().shortfall(&self.plan, primaries).is_none();
        WriteStep::Done(WriteOutcome::Acknowledged { sloppy: !strict })
    }

    fn is_possible(&self) -> bool {
        let alive = self.standing.alive(&self.plan) | self.acked;
        if self.standing.shortfall(&self.plan, alive).is_some() {
            return false;
        }
        let incomplete = self.acked & !self.weighed;
        !self.weighs() || self.standing.meets_quorums(&self.plan, alive & !incomplete)
    }

    fn contact_alive(&mut self) -> WriteStep<N> {
        let alive = self.standing.alive(&self.plan);
        self.standing.contacted |= alive;
        WriteStep::Contact(self.plan.named(alive))
    }

    fn no_replicas(&mut self) -> WriteStep<N> {
        self.phase = Phase::Failed;
        let down = self.standing.failed & self.plan.primary_mask();
        WriteStep::Done(WriteOutcome::NoReplicas { missing: self.plan.named(down) })
    }

    fn indeterminate(&mut self) -> WriteStep<N> {
        self.phase = Phase::Failed;
        let short = self.standing.shortfall(&self.plan, self.acked);
        let short = short.or_else(|| self.standing.shortfall(&self.plan, self.weighed));
        let tally = || self.standing.tally(&self.plan, self.acked);
        let (acks, required) = short.unwrap_or_else(tally);
        let missing = self.plan.primary_mask() & !self.acked;
        let missing = self.plan.named(missing);
        WriteStep::Done(WriteOutcome::Indeterminate { acks, required, missing })
    }
}
