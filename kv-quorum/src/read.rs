//! The read side of a quorum operation, as one object.
//!
//! R complete replicas answer. If they hold the same live dots and registers, the first answer is
//! the reply, and nothing is built or copied. If not, their join is written to those of the R that
//! lack it *before* the answer: with R > N/2 the next read meets one of them, so reads never go
//! back (the write-back of Attiya, Bar-Noy and Dolev, 1995; riak_kv's `riak_kv_get_core` for the
//! shape). What comes in later is mended in the tail.
//!
//! Records travel encoded, and the tracker reads them in place.
//!
//! Invariant: `Done` with a value is given only when R nodes of every live layout hold all of it.

use crate::answer::Answer;
use crate::codec::same_versions;
use crate::error::Error;
use crate::mark::Mark;
use crate::plan::{Plan, Standing};
use crate::teeth::{Bug, planted};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What one node answered to a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadReply<B> {
    /// Whether it holds all that it ever acknowledged. Of one that does not, the record is joined
    /// in, and it does not count for R.
    pub complete: bool,
    /// Its mark for the partition; [`Mark::NONE`] for an incomplete one.
    pub mark: Mark,
    /// What it has.
    pub body: ReadBody<B>,
}

/// What a node has for the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadBody<B> {
    /// The same live dots and registers as what was [offered](ReadTracker::offer): its
    /// fingerprint was sent along with the call.
    Same,
    /// This encoded record.
    Record(B),
    /// Nothing.
    Absent,
}

impl<B> ReadReply<B> {
    /// The answer of a complete replica without a mark.
    pub const fn complete(body: ReadBody<B>) -> Self {
        Self { complete: true, mark: Mark::NONE, body }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum ReadStep<N, B> {
    /// Nothing; wait for an answer, a failure or the deadline.
    Wait,
    /// Ask these.
    Contact(Vec<N>),
    /// Write this record to these, and tell [`ReadTracker::on_repaired`] when each has joined it
    /// durably.
    Repair {
        /// To be given back with each acknowledgement: a later answer may make the join larger,
        /// and then what was acknowledged for a smaller one counts for nothing.
        round: u32,
        /// Those that lack some of it.
        nodes: Vec<N>,
        /// The join, encoded.
        record: B,
    },
    /// Answer the client. Given once.
    Done(ReadOutcome<N, B>),
}

/// How a read ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome<N, B> {
    /// R replicas hold this in every live layout; `None` when they hold nothing.
    Value {
        /// The record, encoded.
        record: Option<B>,
        /// Whether fallbacks were counted: then R + W > N promises nothing.
        sloppy: bool,
    },
    /// R was not reached.
    Unavailable {
        /// How many hold what would have been the answer, in the first set that is short of them.
        replies: usize,
        /// How many that set requires.
        required: usize,
        /// Those asked or known to be down that did not answer.
        missing: Vec<N>,
    },
}

/// One read in flight. `B` holds encoded bytes (`Vec<u8>`, `Bytes`).
#[derive(Clone, Debug)]
pub struct ReadTracker<N, B> {
    plan: Arc<Plan<N>>,
    standing: Standing,
    /// Those that are asked last.
    avoided: u64,
    /// Those among them that are not asked to be quicker.
    leaving: u64,
    /// Complete replicas, and fallbacks, that answered.
    replied: u64,
    /// All that answered.
    heard: u64,
    /// What goes with [`ReadBody::Same`].
    offered: Option<Answer<B>>,
    /// What the first that answered has.
    reference: Option<Answer<B>>,
    /// Those that have the same as the first.
    same: u64,
    /// Those that have something else.
    others: Vec<(usize, Answer<B>)>,
    /// The join of all answers, once they differ.
    joined: Option<Answer<B>>,
    /// Those known to hold the join.
    holding: u64,
    /// Those that were asked to take the join.
    repairing: u64,
    /// How often the join became another.
    repair_round: u32,
    done: bool,
}

impl<N, B> ReadTracker<N, B>
where
    N: Copy + Ord,
    B: Clone + AsRef<[u8]> + From<Vec<u8>>,
{
    /// A read of R replicas in every set of the plan.
    pub fn new(plan: impl Into<Arc<Plan<N>>>) -> Self {
        Self {
            plan: plan.into(),
            standing: Standing::default(),
            avoided: 0,
            leaving: 0,
            replied: 0,
            heard: 0,
            offered: None,
            reference: None,
            same: 0,
            others: Vec::new(),
            joined: None,
            holding: 0,
            repairing: 0,
            repair_round: 0,
            done: false,
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan<N> {
        &self.plan
    }

    /// `node` is slow lately: it is asked only where the others are not enough.
    pub fn avoid(&mut self, node: N) {
        if let Some(index) = self.plan.index_of(node) {
            self.avoided |= 1 << index;
        }
    }

    /// `node` is about to go: it is asked only where the others are not enough, and never
    /// because they are slow.
    pub fn spare(&mut self, node: N) {
        self.avoid(node);
        if let Some(index) = self.plan.index_of(node) {
            self.leaving |= 1 << index;
        }
    }

    /// The primary for which `node` answers, if it stands in for one: a repair of `node` is a hint
    /// for it.
    pub fn hint_for(&self, node: N) -> Option<N> {
        let index = self.plan.index_of(node)?;
        self.standing.stands_for(index).and_then(|primary| self.plan.node(primary))
    }

    /// To be called when the failures known so far have been told: names as many as are needed,
    /// in the plan's order (put the local node first), or says that R is out of reach.
    pub fn begin(&mut self) -> ReadStep<N, B> {
        if self.done { ReadStep::Wait } else { self.contact_wanted() }
    }

    /// Names the record (`None`: that there is none) whose fingerprint goes along with the calls,
    /// so that who has the same need not send it. Usually the coordinator's own, which is *also*
    /// to be given as its answer.
    pub fn offer(&mut self, record: Option<B>) {
        self.offered = Some(Answer { record, mark: Mark::NONE });
    }

    /// Whether [`hedge`](Self::hedge) would name somebody.
    pub fn may_hedge(&self) -> bool {
        !self.done && self.hedges() != 0
    }

    fn hedges(&self) -> u64 {
        self.standing.alive(&self.plan) & !self.standing.contacted & !self.leaving
    }

    /// One more to ask, because those asked are slow; `None` when all have been asked. What it
    /// answers counts like any other.
    pub fn hedge(&mut self) -> Option<N> {
        let free = self.hedges();
        if free == 0 || self.done {
            return None;
        }
        let preferred = free & !self.avoided;
        let index = if preferred == 0 { free } else { preferred }.trailing_zeros() as usize;
        self.standing.contacted |= 1 << index;
        self.plan.node(index)
    }

    /// `node` answered. A record that is not well-formed, or `Same` when
    /// nothing was offered, counts as a failure.
    pub fn on_reply(&mut self, node: N, reply: ReadReply<B>) -> ReadStep<N, B> {
        let Some(index) = self.plan.index_of(node) else { return ReadStep::Wait };
        if self.heard >> index & 1 == 1 {
            return ReadStep::Wait;
        }
        let complete = reply.complete;
        let mark = if complete { reply.mark } else { Mark::NONE };
        let record = match reply.body {
            ReadBody::Record(record) => Some(record),
            ReadBody::Absent => None,
            ReadBody::Same => match &self.offered {
                Some(offered) => offered.record.clone(),
                None => return self.on_refusal(node),
            },
        };
        let Ok(()) = self.take(index, Answer { record, mark }) else {
            return self.on_refusal(node);
        };
        let bit = 1 << index;
        self.heard |= bit;
        self.standing.contacted |= bit;
        self.standing.failed &= !bit;
        let counts = complete || bit & self.plan.primary_mask() == 0;
        if counts || planted(Bug::AmnesiacCounts) {
            self.replied |= bit;
        }
        if self.done { ReadStep::Wait } else { self.decide() }
    }

    /// `node` has joined the record of the [`ReadStep::Repair`] of this `round`, durably.
    pub fn on_repaired(&mut self, node: N, round: u32) -> ReadStep<N, B> {
        let Some(index) = self.plan.index_of(node) else { return ReadStep::Wait };
        let bit = 1 << index;
        if self.repairing & bit == 0 || round != self.repair_round {
            return ReadStep::Wait;
        }
        self.repairing &= !bit;
        self.holding |= bit;
        if self.done { ReadStep::Wait } else { self.decide() }
    }

    /// `node` is down or cannot be reached, when asked or when repaired: somebody else is asked in
    /// its place. Before [`begin`](Self::begin) it tells what membership knows.
    pub fn on_failure(&mut self, node: N) -> ReadStep<N, B> {
        self.failed(node, Standing::fail)
    }

    /// `node` could not do it and is up: another primary is asked, but nobody stands in for it.
    pub fn on_refusal(&mut self, node: N) -> ReadStep<N, B> {
        self.failed(node, Standing::refuse)
    }

    fn failed(
        &mut self,
        node: N,
        fail: fn(&mut Standing, &Plan<N>, usize) -> Option<usize>,
    ) -> ReadStep<N, B> {
        let Some(index) = self.plan.index_of(node) else { return ReadStep::Wait };
        let bit = 1 << index;
        let waiting_for_repair = self.repairing & bit != 0;
        let answered = self.heard & bit != 0 && !waiting_for_repair;
        if answered || self.standing.failed & bit != 0 || self.done {
            return ReadStep::Wait;
        }
        self.repairing &= !bit;
        self.replied &= !bit;
        let begun = self.standing.contacted != 0;
        fail(&mut self.standing, &self.plan, index);
        if begun { self.decide() } else { ReadStep::Wait }
    }

    /// Time is up.
    pub fn on_deadline(&mut self) -> ReadStep<N, B> {
        if self.done { ReadStep::Wait } else { self.unavailable() }
    }

    /// The tail: (node, record) for all that answered and lack some of the join.
    pub fn final_action(&self) -> Vec<(N, B)> {
        let Some(joined) = self.joined_record() else { return Vec::new() };
        let lacking = self.heard & !self.holding & self.plan.primary_mask();
        self.plan.named(lacking).into_iter().map(|node| (node, joined.clone())).collect()
    }

    /// Files an answer, and joins it in when it differs.
    fn take(&mut self, index: usize, answer: Answer<B>) -> Result<(), Error> {
        let bit = 1 << index;
        let Some(first) = &mut self.reference else {
            same_versions(answer.bytes(), None)?;
            self.reference = Some(answer);
            self.same = bit;
            return Ok(());
        };
        if first.is(&answer) || same_versions(first.bytes(), answer.bytes())? {
            self.same |= bit;
            if self.joined.is_none() {
                // Both hold the same, so what either's mark says of it is true of both.
                first.mark = first.mark.max(answer.mark);
                return Ok(());
            }
        } else {
            self.others.push((index, answer.clone()));
        }
        self.merge(&answer)
    }

    /// Joins `answer` into what is known, and finds out anew who holds all of it. What is known
    /// has the highest mark of the answers in it, and not that of the one that comes in: a mark
    /// speaks for its own replica's live versions, which must be in the join before it does.
    fn merge(&mut self, answer: &Answer<B>) -> Result<(), Error> {
        let Some(known) = self.joined.as_ref().or(self.reference.as_ref()) else { return Ok(()) };
        let mark = known.mark.max(answer.mark);
        let Some(joined) = known.join(answer)? else { return Ok(()) };
        let had = self.joined.as_ref().and_then(Answer::bytes);
        if had.is_none() || !same_versions(had, Some(joined.as_ref()))? {
            self.holding = 0;
            self.repairing = 0;
            self.repair_round += 1;
        }
        let joined = Answer { record: Some(joined), mark };
        if let Some(first) = &self.reference
            && same_versions(first.bytes(), joined.bytes())?
        {
            self.holding |= self.same;
        }
        for (index, other) in &self.others {
            if same_versions(other.bytes(), joined.bytes())? {
                self.holding |= 1 << index;
            }
        }
        self.joined = Some(joined);
        Ok(())
    }

    fn decide(&mut self) -> ReadStep<N, B> {
        if let Some((have, required)) = self.standing.shortfall(&self.plan, self.replied)
            && !(planted(Bug::AnswerBelowR) && have + 1 >= required)
        {
            return self.contact_wanted();
        }
        let Some(joined) = self.joined_record().cloned() else {
            let record = self.reference.as_ref().and_then(|first| first.record.clone());
            return self.value(record, self.replied);
        };
        let holding = self.replied & self.holding;
        let held = self.standing.shortfall(&self.plan, holding).is_none();
        if held || planted(Bug::TailRepairOnly) {
            return self.value(Some(joined), holding);
        }
        let lacking = self.replied & !self.holding & !self.repairing;
        if lacking == 0 {
            return ReadStep::Wait;
        }
        self.repairing |= lacking;
        let (round, nodes) = (self.repair_round, self.plan.named(lacking));
        ReadStep::Repair { round, nodes, record: joined }
    }

    fn joined_record(&self) -> Option<&B> {
        self.joined.as_ref()?.record.as_ref()
    }

    fn value(&mut self, record: Option<B>, counted: u64) -> ReadStep<N, B> {
        self.done = true;
        let primaries = counted & self.plan.primary_mask();
        let strict = Standing::default().shortfall(&self.plan, primaries).is_none();
        ReadStep::Done(ReadOutcome::Value { record, sloppy: !strict })
    }

    /// Asks as many more as each set wants, besides those that may still answer.
    fn contact_wanted(&mut self) -> ReadStep<N, B> {
        let alive = self.standing.alive(&self.plan);
        let incomplete = self.heard & !self.replied;
        if self.standing.shortfall(&self.plan, alive & !incomplete).is_some() {
            return self.unavailable();
        }
        let mut counted = alive & self.standing.contacted & !incomplete;
        let mut chosen = 0;
        while let Some(members) = self.standing.wanting(&self.plan, counted) {
            let free = alive & !self.standing.contacted & !chosen;
            let serves = |at: &usize| self.standing.places(&self.plan, 1 << at) & members != 0;
            let preferred = crate::plan::Bits(free & !self.avoided);
            let avoided = crate::plan::Bits(free & self.avoided);
            let Some(next) = preferred.chain(avoided).find(serves) else { break };
            chosen |= 1 << next;
            counted |= 1 << next;
        }
        if chosen == 0 {
            return ReadStep::Wait;
        }
        self.standing.contacted |= chosen;
        ReadStep::Contact(self.plan.named(chosen))
    }

    fn unavailable(&mut self) -> ReadStep<N, B> {
        self.done = true;
        let counted =
            if self.joined.is_some() { self.replied & self.holding } else { self.replied };
        let short = self.standing.shortfall(&self.plan, counted).unwrap_or_default();
        let asked = (self.standing.contacted | self.standing.failed) & self.plan.primary_mask();
        let missing = self.plan.named(asked & !counted);
        let (replies, required) = short;
        ReadStep::Done(ReadOutcome::Unavailable { replies, required, missing })
    }
}
