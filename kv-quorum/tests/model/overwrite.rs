//! Blind SETs and GETs of one key on three replicas at R = W = 2, and on five at 3: clocks
//! skewed by seconds, crashes, a wiped disk, cut links, calls and answers that are lost or late.
//!
//! The real trackers drive the real encoded records; the network and the scheduler are a seeded
//! list of messages. What must hold:
//!
//! 1. A GET is never answered by a SET that is older than one acknowledged before the GET began.
//!    Older means that it had ended before the other began; a SET whose outcome is not known may
//!    take effect at any time.
//! 2. Reads never go back: what a later GET shows covers everything that an earlier one showed. And
//!    while clocks heed what they are shown, so that a mint is above all that it replaces, the dot
//!    that GET shows never goes down. (A GET may show a SET in flight, and a later one the SET
//!    before it, until the first has ended: that is a higher dot which the first mint had not
//!    seen, and the second mint settles it. So a value that is only *shown* promises nothing.)
//! 3. A SET mints at most twice, and every operation ends.
//!
//! Planted and found: no second mint, answers weighed that come from a replica which lost its disk,
//! and reads that do not write back.

mod faults;

use crate::support::{Rng, seeds};
use kv_quorum::{
    Actor, Context, Dot, Draft, HybridTime, JoinOutcome, Plan, ReadBody, ReadOutcome, ReadReply,
    ReadStep, ReadTracker, Record, WriteOutcome, WriteReply, WriteSet, WriteStep, WriteTracker,
    blind_overwrite, join_encoded, latest_of, peek, same_versions,
};
use std::collections::BTreeMap;

const STEPS: usize = 400;
const RUNNING_MAX: usize = 4;

/// What the clocks do, and mistakes to plant.
#[derive(Clone, Copy, Default)]
struct Options {
    /// Clocks so far apart that none is moved by what it is shown.
    clocks_apart: bool,
    /// Five replicas with R = W = 3, instead of three with two.
    five: bool,
    /// The dot that GET shows may go down: what such clocks do.
    dots_may_go_down: bool,
    /// A SET is acknowledged whatever the answers show.
    no_second_mint: bool,
    /// A replica that lost its disk answers as if it had not.
    newcomers_count_in_full: bool,
    /// A read answers without waiting for its repairs.
    no_write_back: bool,
}

struct Node {
    record: Option<Vec<u8>>,
    actor: Actor,
    last: HybridTime,
    skew_ms: u64,
    up: bool,
    complete: bool,
    lost_at: u64,
}

enum Tracker {
    Set(WriteTracker<usize>, Dot),
    Get(ReadTracker<usize, Vec<u8>>),
}

struct Op {
    tracker: Tracker,
    coordinator: usize,
    began: u64,
    ends_by: u64,
    mints: usize,
    offered: Option<Vec<u8>>,
}

#[derive(Clone)]
enum Body {
    Write {
        round: u8,
        record: Vec<u8>,
    },
    Wrote(WriteReply),
    Read {
        reference: Option<Vec<u8>>,
        sent: bool,
    },
    Has(ReadReply<Vec<u8>>),
    Repair {
        round: u32,
        record: Vec<u8>,
    },
    Repaired {
        round: u32,
    },
    /// The caller learns that the call cannot be answered.
    Failed {
        round: u8,
    },
}

#[derive(Clone)]
struct Message {
    op: u64,
    from: usize,
    to: usize,
    body: Body,
}

/// When a SET began and, if its outcome is known, ended.
#[derive(Clone, Copy)]
struct Span {
    began: u64,
    ended: Option<u64>,
}

struct World {
    rng: Rng,
    options: Options,
    now: u64,
    plan: std::sync::Arc<Plan<usize>>,
    nodes: Vec<Node>,
    cut: Vec<Vec<bool>>,
    ops: BTreeMap<u64, Op>,
    flying: Vec<Message>,
    next_op: u64,
    sets: BTreeMap<u64, Span>,
    /// (time, SET): acknowledged at that time.
    established: Vec<(u64, u64)>,
    /// (time, live dots) of each GET that was answered.
    reads: Vec<(u64, Vec<Dot>)>,
    second_mints: usize,
    answers: usize,
    wrong: Option<String>,
}

impl World {
    fn new(seed: u64, options: Options) -> Self {
        let mut rng = Rng::new(seed);
        let count = if options.five { 5 } else { 3 };
        let nodes = (0..count).map(|at| Node {
            record: None,
            actor: Actor::new(at as u64, rng.draw()),
            last: HybridTime::ZERO,
            skew_ms: 10_000 - rng.draw() % 4 * 3_000,
            up: true,
            complete: true,
            lost_at: 0,
        });
        let nodes = nodes.collect();
        let set = WriteSet { nodes: (0..count).collect(), required: count / 2 + 1 };
        Self {
            nodes,
            rng,
            options,
            now: 0,
            plan: Plan::new(&[set], &[], false).expect("a plan").into(),
            cut: vec![vec![false; count]; count],
            ops: BTreeMap::new(),
            flying: Vec::new(),
            next_op: 1,
            sets: BTreeMap::new(),
            established: Vec::new(),
            reads: Vec::new(),
            second_mints: 0,
            answers: 0,
            wrong: None,
        }
    }

    fn step(&mut self) {
        self.now += 1;
        let node = self.rng.below(self.nodes.len());
        match self.rng.below(100) {
            0..18 => self.start(node),
            18..80 => self.deliver(),
            80..85 => self.lose(),
            85..88 => self.crash(node),
            88..93 => self.restart(node),
            93..95 => self.toggle_cut(node),
            95..96 => self.wipe(node),
            96..98 => self.exchange(node),
            _ => {}
        }
        let late: Vec<u64> =
            self.ops.iter().filter(|(_, op)| op.ends_by <= self.now).map(|(id, _)| *id).collect();
        for id in late {
            self.time_is_up(id);
        }
    }

    fn start(&mut self, at: usize) {
        if !self.nodes[at].up || self.ops.len() >= RUNNING_MAX {
            return;
        }
        let id = self.next_op;
        self.next_op += 1;
        let is_set = self.rng.chance(50);
        let mut op = Op {
            tracker: Tracker::Get(ReadTracker::new(self.plan.clone())),
            coordinator: at,
            began: self.now,
            ends_by: self.now + 20 + self.rng.draw() % 60,
            mints: 0,
            offered: None,
        };
        if !is_set {
            let Tracker::Get(tracker) = &mut op.tracker else { return };
            op.offered.clone_from(&self.nodes[at].record);
            tracker.offer(op.offered.clone());
            let step = tracker.begin();
            self.ops.insert(id, op);
            self.read_step(id, step);
            return;
        }
        let mut tracker = if self.options.no_second_mint {
            WriteTracker::new(self.plan.clone())
        } else {
            WriteTracker::blind(self.plan.clone())
        };
        let step = tracker.begin();
        let dot = self.tick(at, HybridTime::ZERO);
        self.sets.insert(id, Span { began: self.now, ended: None });
        op.tracker = Tracker::Set(tracker, dot);
        op.mints = 1;
        self.ops.insert(id, op);
        let draft = Draft::string(id.to_le_bytes().to_vec());
        let mut out = Vec::new();
        blind_overwrite(self.nodes[at].record.as_deref(), dot, draft, &mut out).expect("a mint");
        self.nodes[at].record = Some(out);
        self.write_step(id, step);
    }

    fn tick(&mut self, at: usize, answers: HybridTime) -> Dot {
        let ahead_ms_max = if self.options.clocks_apart { 0 } else { 60_000 };
        let node = &mut self.nodes[at];
        let wall_ms = self.now + node.skew_ms;
        let seen = node.record.as_deref().map_or(Ok(HybridTime::ZERO), latest_of);
        let seen = seen.expect("our own bytes").max(answers);
        let last = HybridTime::observe(node.last, seen, wall_ms, ahead_ms_max);
        node.last = HybridTime::next(last, wall_ms);
        Dot::new(node.actor, node.last)
    }

    fn write_step(&mut self, id: u64, step: WriteStep<usize>) {
        match step {
            WriteStep::Wait => {}
            WriteStep::Contact(nodes) => {
                let op = &self.ops[&id];
                let Tracker::Set(tracker, _) = &op.tracker else { return };
                let (round, at) = (tracker.round(), op.coordinator);
                let record = self.nodes[at].record.clone().expect("just minted");
                for to in nodes {
                    self.send(id, at, to, Body::Write { round, record: record.clone() });
                }
            }
            WriteStep::Remint(coverage) => self.remint(id, &coverage),
            WriteStep::Done(outcome) => {
                if matches!(outcome, WriteOutcome::Acknowledged { .. }) {
                    let span = self.sets.get_mut(&id).expect("a SET");
                    span.ended = Some(self.now);
                    self.established.push((self.now, id));
                    self.answers += 1;
                }
                self.ops.remove(&id);
            }
        }
    }

    fn remint(&mut self, id: u64, coverage: &Context) {
        let at = self.ops[&id].coordinator;
        let dot = self.tick(at, coverage.vector().latest());
        let stored = self.nodes[at].record.clone().expect("minted before");
        let mut record = Record::decode(&stored).expect("our own bytes");
        let value = id.to_le_bytes();
        record.mint_over(dot, coverage, Draft::string(&value[..])).expect("a mint");
        self.nodes[at].record = Some(record.to_bytes());
        self.second_mints += 1;
        let op = self.ops.get_mut(&id).expect("running");
        op.mints += 1;
        assert!(op.mints <= 2, "a third mint");
        let Tracker::Set(tracker, minted) = &mut op.tracker else { return };
        *minted = dot;
        let step = tracker.reminted();
        self.write_step(id, step);
    }

    fn read_step(&mut self, id: u64, step: ReadStep<usize, Vec<u8>>) {
        let at = self.ops[&id].coordinator;
        match step {
            ReadStep::Wait => {}
            ReadStep::Contact(nodes) => {
                let own = self.ops[&id].offered.clone();
                for to in nodes {
                    let sent = to != at && self.rng.chance(70);
                    self.send(id, at, to, Body::Read { reference: own.clone(), sent });
                }
            }
            ReadStep::Repair { round, nodes, record } => {
                for to in nodes {
                    self.send(id, at, to, Body::Repair { round, record: record.clone() });
                }
                if self.options.no_write_back {
                    self.answer(id, Some(record));
                }
            }
            ReadStep::Done(ReadOutcome::Value { record, .. }) => self.answer(id, record),
            ReadStep::Done(ReadOutcome::Unavailable { .. }) => _ = self.ops.remove(&id),
        }
    }

    /// A GET is answered: the checks.
    fn answer(&mut self, id: u64, record: Option<Vec<u8>>) {
        let Some(op) = self.ops.remove(&id) else { return };
        self.answers += 1;
        let bytes = record.unwrap_or_else(|| Record::<&[u8]>::new().to_bytes());
        let record = Record::decode(&bytes).expect("our own bytes");
        let shown = peek(&bytes).expect("our own bytes").map(|peek| {
            let value = &bytes[peek.value];
            u64::from_le_bytes(value.try_into().expect("eight bytes"))
        });
        let winner = record.winner().map(|version| version.dot);
        for (_, dots) in self.reads.iter().filter(|(when, _)| *when < op.began) {
            if !self.options.dots_may_go_down && winner.as_ref() < dots.first() {
                self.wrong = Some(format!("GET {id} shows {winner:?}, lower than before"));
            }
            for dot in dots.iter().filter(|dot| !record.coverage().covers(**dot)) {
                self.wrong = Some(format!("GET {id} went back behind {dot:?}"));
            }
        }
        for (_, before) in self.established.iter().filter(|(when, _)| *when < op.began) {
            let began = self.sets[before].began;
            let older = match shown {
                None => true,
                Some(shown) => self.sets[&shown].ended.is_some_and(|ended| ended < began),
            };
            if older {
                self.wrong = Some(format!("GET {id} shows {shown:?} after SET {before}"));
            }
        }
        self.reads.push((self.now, record.live().iter().map(|version| version.dot).collect()));
    }

    fn send(&mut self, op: u64, from: usize, to: usize, body: Body) {
        let message = Message { op, from, to, body };
        if from == to {
            self.arrive(message);
        } else {
            self.flying.push(message);
        }
    }

    fn deliver(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        let at = self.rng.below(self.flying.len());
        let message = self.flying.swap_remove(at);
        if self.cut[message.from][message.to] || !self.nodes[message.to].up {
            self.flying.extend(self.failure(&message));
            return;
        }
        self.arrive(message);
    }

    /// A call or an answer is lost; sometimes the caller is told at once.
    fn lose(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        let at = self.rng.below(self.flying.len());
        let message = self.flying.swap_remove(at);
        if self.rng.chance(50) {
            self.flying.extend(self.failure(&message));
        }
    }

    fn failure(&self, message: &Message) -> Option<Message> {
        let round = match &message.body {
            Body::Write { round, .. } => *round,
            Body::Read { .. } | Body::Repair { .. } => 0,
            _ => return None,
        };
        let (from, to) = (message.to, message.from);
        self.nodes[to].up.then_some(Message {
            op: message.op,
            from,
            to,
            body: Body::Failed { round },
        })
    }

    fn arrive(&mut self, message: Message) {
        let Message { op, from, to, body } = message;
        match body {
            Body::Write { round, record } => {
                let uncovered = self.join(to, &record);
                let stored = self.nodes[to].record.as_deref().expect("just stored");
                let coverage = (!uncovered.is_empty())
                    .then(|| Record::decode(stored).expect("our own bytes").coverage().clone());
                let complete = self.nodes[to].complete || self.options.newcomers_count_in_full;
                self.send(
                    op,
                    to,
                    from,
                    Body::Wrote(WriteReply { round, complete, uncovered, coverage }),
                );
            }
            Body::Read { reference, sent } => {
                let record = self.nodes[to].record.clone();
                let same = same_versions(record.as_deref(), reference.as_deref());
                let body = match record {
                    _ if sent && same.expect("our own bytes") => ReadBody::Same,
                    Some(record) => ReadBody::Record(record),
                    None => ReadBody::Absent,
                };
                let mut reply = ReadReply::complete(body);
                reply.complete = self.nodes[to].complete || self.options.newcomers_count_in_full;
                self.send(op, to, from, Body::Has(reply));
            }
            Body::Repair { round, record } => {
                self.join(to, &record);
                self.send(op, to, from, Body::Repaired { round });
            }
            Body::Wrote(_) | Body::Has(_) | Body::Repaired { .. } | Body::Failed { .. } => {
                self.hear(op, from, to, body);
            }
        }
    }

    /// An answer reaches the coordinator.
    fn hear(&mut self, id: u64, from: usize, to: usize, body: Body) {
        let Some(op) = self.ops.get_mut(&id) else { return };
        if op.coordinator != to {
            return;
        }
        match (&mut op.tracker, body) {
            (Tracker::Set(tracker, _), Body::Wrote(reply)) => {
                let step = tracker.on_reply(from, reply);
                self.write_step(id, step);
            }
            (Tracker::Set(tracker, _), Body::Failed { round }) if round == tracker.round() => {
                let step = tracker.on_failure(from);
                self.write_step(id, step);
            }
            (Tracker::Get(tracker), Body::Has(reply)) => {
                let step = tracker.on_reply(from, reply);
                self.read_step(id, step);
            }
            (Tracker::Get(tracker), Body::Repaired { round }) => {
                let step = tracker.on_repaired(from, round);
                self.read_step(id, step);
            }
            (Tracker::Get(tracker), Body::Failed { .. }) => {
                let step = tracker.on_failure(from);
                self.read_step(id, step);
            }
            _ => {}
        }
    }

    fn join(&mut self, at: usize, incoming: &[u8]) -> Vec<Dot> {
        let stored = &mut self.nodes[at].record;
        let mut out = Vec::new();
        let joined = join_encoded(stored.as_deref(), incoming, &mut out).expect("our own bytes");
        match joined.outcome {
            JoinOutcome::Unchanged => {}
            JoinOutcome::Incoming => *stored = Some(incoming.to_vec()),
            JoinOutcome::Merged => *stored = Some(out),
        }
        joined.uncovered
    }

    fn time_is_up(&mut self, id: u64) {
        let Some(op) = self.ops.get_mut(&id) else { return };
        match &mut op.tracker {
            Tracker::Set(tracker, _) => {
                let step = tracker.on_deadline();
                self.write_step(id, step);
            }
            Tracker::Get(tracker) => {
                let step = tracker.on_deadline();
                self.read_step(id, step);
            }
        }
        assert!(!self.ops.contains_key(&id), "operation {id} did not end");
    }
}

/// Runs one seed: (second mints, answers), or what went wrong.
fn run(seed: u64, options: Options) -> Result<(usize, usize), String> {
    let mut world = World::new(seed, options);
    for step in 0..STEPS {
        world.step();
        if let Some(wrong) = &world.wrong {
            return Err(format!("seed {seed}, step {step}: {wrong}"));
        }
    }
    Ok((world.second_mints, world.answers))
}

fn is_found(options: Options) -> bool {
    (0..400).any(|seed| run(seed, options).is_err())
}

fn assert_in_order(options: Options) {
    let (mut second_mints, mut answers) = (0, 0);
    let seeds = seeds(5_000);
    let tried = seeds.end - seeds.start;
    for seed in seeds {
        let counts = run(seed, options).unwrap_or_else(|wrong| panic!("{wrong}"));
        second_mints += counts.0;
        answers += counts.1;
    }
    assert!(
        tried < 5_000 || second_mints > 1_000,
        "second mints were hardly tried: {second_mints}"
    );
    assert!(tried < 5_000 || answers > 20_000, "too little was answered: {answers}");
}

#[test]
fn a_blind_set_is_never_answered_by_an_older_one() {
    assert_in_order(Options::default());
}

#[test]
fn nor_when_no_clock_heeds_another() {
    let (clocks_apart, dots_may_go_down) = (true, true);
    assert_in_order(Options { clocks_apart, dots_may_go_down, ..Options::default() });
}

#[test]
fn dots_that_go_down_when_no_clock_heeds_another_are_found() {
    assert!(is_found(Options { clocks_apart: true, ..Options::default() }));
}

#[test]
fn nor_with_five_replicas() {
    assert_in_order(Options { five: true, ..Options::default() });
}

#[test]
fn a_set_without_its_second_mint_is_found() {
    assert!(is_found(Options { no_second_mint: true, ..Options::default() }));
}

#[test]
fn a_newcomer_that_counts_in_full_is_found() {
    assert!(is_found(Options { newcomers_count_in_full: true, ..Options::default() }));
}

#[test]
fn a_read_that_does_not_write_back_is_found() {
    assert!(is_found(Options { no_write_back: true, ..Options::default() }));
}
