//! Collection against the truth: three replicas of one key, floors, climbs, marks taken at any
//! time or never, records collected at any time, calls that arrive late, replicas that lose all.
//!
//! The truth is kept as sets, as in `siblings.rs`: for each dot what its writer had been shown, and
//! how many replicas have acknowledged it. No read of R may show what an acknowledged write had
//! been shown (a deleted key that comes back), nor lack an acknowledged value that no write had been
//! shown (a live value that was dropped), nor show a value below a delete that nobody overwrote.
//!
//! One assumption is made of the network, as the node's settings do: a call that is under way for
//! longer than the floors lie behind the clocks reaches only replicas that have the mark.
//!
//! Mistakes can be planted, and each must be found.

use crate::support::{Rng, seeds};
use kv_quorum::{
    Actor, Climb, Context, Dot, Draft, Expiry, HybridTime, Limits, Mark, MarkedOutcome, Plan,
    ReadBody, ReadOutcome, ReadReply, ReadStep, ReadTracker, Record, WriteSet, join_encoded_under,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const N: usize = 3;
const QUORUM: usize = 2;
const STEPS: usize = 250;
const LAG_MS: u64 = 60;
const SKEW_MS_MAX: u64 = 10;

/// Mistakes to plant.
#[derive(Clone, Copy, Default)]
struct Mistakes {
    /// A mark is the floor, without any exchange.
    no_exchange: bool,
    /// A replica that lost everything since the climb began takes the mark all the same.
    forgetful_taker: bool,
    /// A newcomer answers with the mark that it had before it lost everything.
    newcomer_keeps_mark: bool,
    /// What arrives is joined without the mark.
    join_without_mark: bool,
    /// Answers to reads come without marks.
    read_without_mark: bool,
    /// A mark is in force before what it speaks of is durable.
    no_barrier: bool,
}

#[derive(Clone, Default)]
struct Copy {
    record: Record<Vec<u8>>,
    heard: BTreeSet<Dot>,
}

struct Replica {
    copy: Copy,
    /// What a restart leaves: all that was ever acknowledged or shown, and not always the rest.
    synced: Copy,
    mark: Mark,
    complete: bool,
    actor: Actor,
    last: HybridTime,
}

struct Message {
    to: usize,
    copy: Copy,
    sent_ms: u64,
    /// The write whose acknowledgement its arrival is, if its coordinator still waits for it.
    write: Option<Dot>,
}

struct Write {
    shown: BTreeSet<Dot>,
    value: bool,
    ends_at_ms: Option<u64>,
    acked_by: BTreeSet<usize>,
}

struct World {
    rng: Rng,
    mistakes: Mistakes,
    now_ms: u64,
    replicas: Vec<Replica>,
    flying: Vec<Message>,
    writes: BTreeMap<Dot, Write>,
    client: (Context, BTreeSet<Dot>),
    /// The climber is replica 0.
    climb: Climb<Vec<Actor>>,
    exchanged: [Option<HybridTime>; N],
    stamp: u64,
    /// Marks that are proven and not told to everybody yet.
    told: Vec<(usize, Mark, Actor)>,
    collected: usize,
    refused: usize,
}

impl World {
    fn new(seed: u64, mistakes: Mistakes) -> Self {
        let mut rng = Rng::new(seed);
        let replicas = (0..N).map(|at| Replica {
            copy: Copy::default(),
            synced: Copy::default(),
            mark: Mark::NONE,
            complete: true,
            actor: Actor::new(at as u64, rng.draw()),
            last: HybridTime::ZERO,
        });
        let replicas = replicas.collect();
        Self {
            rng,
            mistakes,
            now_ms: 1_000,
            replicas,
            flying: Vec::new(),
            writes: BTreeMap::new(),
            client: (Context::new(), BTreeSet::new()),
            climb: Climb::new(),
            exchanged: [None; N],
            stamp: 0,
            told: Vec::new(),
            collected: 0,
            refused: 0,
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.now_ms += self.rng.draw() % 6;
        let at = self.rng.below(N);
        match self.rng.below(100) {
            0..6 => self.write(at, false, false),
            6..8 => self.write(at, true, false),
            8..14 => self.write(at, false, true),
            14..28 => self.deliver(),
            28..34 => self.send(at),
            34..42 => self.read(false).map(drop)?,
            42..50 => self.exchange(at),
            50..68 => self.climb(),
            68..80 => self.tell(),
            80..88 => self.collect(at),
            88..91 => self.wipe(at),
            91..94 => self.refill(),
            94..97 => self.restart(at),
            _ => self.now_ms += LAG_MS,
        }
        (0..N).try_for_each(|at| self.check_alone(at))
    }

    /// What lies below a replica's mark is right there without any other: no value is live that an
    /// acknowledged write below the mark replaced.
    fn check_alone(&self, at: usize) -> Result<(), String> {
        let (mark, record) = (self.mark_of(at), &self.replicas[at].copy.record);
        for version in record.live().iter().filter(|version| version.value.is_some()) {
            let killed = mark.covers(version.dot)
                && self.writes.iter().any(|(dot, write)| {
                    let acked = write.acked_by.len() >= QUORUM;
                    acked && mark.covers(*dot) && write.shown.contains(&version.dot)
                });
            if killed {
                return Err(format!("{:?} is back below the mark of {at}", version.dot));
            }
        }
        Ok(())
    }

    fn mark_of(&self, at: usize) -> Mark {
        let replica = &self.replicas[at];
        let has = replica.complete || self.mistakes.newcomer_keeps_mark;
        if has { replica.mark } else { Mark::NONE }
    }

    /// A blind SET, a PUT with what a client saw last, or a DEL of what R replicas hold.
    fn write(&mut self, at: usize, seen: bool, delete: bool) {
        let (context, mut shown) = if delete {
            match self.read(true) {
                Ok(Some(copy)) => (copy.record.context().clone(), copy.heard),
                _ => return,
            }
        } else {
            self.client.clone()
        };
        let replica = &mut self.replicas[at];
        let above = replica.copy.record.coverage().vector().latest();
        let above = replica.last.max(above).max(context.vector().latest());
        let dot = Dot::new(replica.actor, HybridTime::next(above, self.now_ms));
        replica.last = dot.time;
        let ends_at_ms = self.rng.chance(25).then(|| self.now_ms + self.rng.draw() % 40);
        let register = ends_at_ms.map_or(Expiry::NEVER, |end| Expiry::at(dot.time, end));
        let draft = Draft::string(dot.time.to_bits().to_le_bytes().to_vec()).expiring(register);
        let record = &mut replica.copy.record;
        let ends_at_ms = if delete {
            record.delete(dot, &context, None, &Limits::default()).expect("the dot is new");
            None
        } else if seen {
            record.mint(dot, &context, draft, &Limits::default()).expect("the dot is new");
            ends_at_ms
        } else {
            shown = replica.copy.heard.clone();
            record.mint_blind(dot, draft).expect("the dot is new");
            ends_at_ms
        };
        replica.copy.heard.extend(&shown);
        replica.copy.heard.insert(dot);
        replica.synced = replica.copy.clone();
        let acked_by = BTreeSet::from([at]);
        self.writes.insert(dot, Write { shown, value: !delete, ends_at_ms, acked_by });
        for to in (0..N).filter(|to| *to != at) {
            let copy = self.replicas[at].copy.clone();
            self.flying.push(Message { to, copy, sent_ms: self.now_ms, write: Some(dot) });
            if self.rng.chance(60) {
                self.deliver_at(self.flying.len() - 1);
            }
        }
    }

    /// A repair that is under way, or a copy in an old backup.
    fn send(&mut self, from: usize) {
        let (to, copy) = (self.rng.below(N), self.replicas[from].copy.clone());
        self.flying.push(Message { to, copy, sent_ms: self.now_ms, write: None });
    }

    fn deliver(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        let at = self.rng.below(self.flying.len());
        self.deliver_at(at);
    }

    fn deliver_at(&mut self, at: usize) {
        let message = self.flying.swap_remove(at);
        let latest = message.copy.record.coverage().vector().latest();
        let late = message.sent_ms + LAG_MS < self.now_ms;
        if late && self.replicas[message.to].mark.time() < latest {
            self.flying.push(message);
            return;
        }
        self.refused += usize::from(late);
        self.arrive(message.to, &message.copy);
        let waiting = |dot: &Dot| self.replicas.iter().any(|replica| replica.actor == dot.actor);
        if let Some(dot) = message.write.filter(|dot| !late && waiting(dot)) {
            self.writes.get_mut(&dot).expect("written").acked_by.insert(message.to);
        }
    }

    fn arrive(&mut self, to: usize, copy: &Copy) {
        let mark = if self.mistakes.join_without_mark { Mark::NONE } else { self.mark_of(to) };
        self.join(to, mark, copy, Mark::NONE);
        self.sync(to);
    }

    fn sync(&mut self, at: usize) {
        self.replicas[at].synced = self.replicas[at].copy.clone();
    }

    /// What was neither acknowledged nor shown is lost, and a new tenure begins.
    fn restart(&mut self, at: usize) {
        let tenure = self.rng.draw();
        let replica = &mut self.replicas[at];
        replica.copy = replica.synced.clone();
        replica.actor.tenure = tenure;
        self.forget_exchanges(at);
    }

    fn forget_exchanges(&mut self, at: usize) {
        if at == 0 {
            self.climb.reset();
            self.exchanged = [None; N];
        }
    }

    fn join(&mut self, to: usize, mark: Mark, copy: &Copy, their_mark: Mark) {
        let mine = &mut self.replicas[to].copy;
        let (stored, incoming) = (mine.record.to_bytes(), copy.record.to_bytes());
        let mut out = Vec::new();
        let joined = join_encoded_under(Some(&stored), mark, &incoming, their_mark, &mut out)
            .expect("our own bytes");
        let bytes = match joined.outcome {
            MarkedOutcome::Unchanged => stored,
            MarkedOutcome::Incoming => incoming,
            MarkedOutcome::Merged => out,
            MarkedOutcome::Empty => Record::<Vec<u8>>::new().to_bytes(),
        };
        mine.record = Record::decode(&bytes).expect("our own bytes").map(<[u8]>::to_vec);
        mine.heard.extend(&copy.heard);
    }

    /// Both are the join of both, under their marks.
    fn exchange(&mut self, at: usize) {
        let with = (at + 1) % N;
        let marks = (self.mark_of(at), self.mark_of(with));
        self.stamp += 1;
        let begun = HybridTime::from_bits(self.stamp);
        let (one, other) = (self.replicas[at].copy.clone(), self.replicas[with].copy.clone());
        self.join(at, marks.0, &other, marks.1);
        self.join(with, marks.1, &one, marks.0);
        if at == 0 || with == 0 {
            self.exchanged[at.max(with)] = Some(begun);
        }
    }

    fn climb(&mut self) {
        self.stamp += 1;
        let now = HybridTime::from_bits(self.stamp);
        let floor = HybridTime::new(self.now_ms - LAG_MS, 0).before();
        let others = &self.exchanged[1..];
        let least = others.iter().copied().min().flatten();
        let least = if self.mistakes.no_exchange { Some(now) } else { least };
        let witness: Vec<Actor> = self.replicas.iter().map(|replica| replica.actor).collect();
        let mark = self.replicas[0].mark;
        let proven = self.climb.step(now, least, floor, mark, || witness);
        let Some((mark, witness)) = proven else { return };
        self.told.extend(witness.into_iter().enumerate().map(|(at, who)| (at, mark, who)));
    }

    fn tell(&mut self) {
        if self.told.is_empty() {
            return;
        }
        let (at, mark, who) = self.told.swap_remove(self.rng.below(self.told.len()));
        let replica = &mut self.replicas[at];
        let remembers = replica.actor == who || self.mistakes.forgetful_taker;
        if replica.complete && remembers {
            if !self.mistakes.no_barrier {
                replica.synced = replica.copy.clone();
            }
            replica.mark = replica.mark.max(mark);
        }
    }

    fn collect(&mut self, at: usize) {
        let (now_ms, mark) = (self.now_ms, self.mark_of(at));
        let record = &mut self.replicas[at].copy.record;
        record.drop_expired(now_ms, SKEW_MS_MAX);
        if mark != Mark::NONE {
            let before = record.live().len();
            record.collect(mark, SKEW_MS_MAX);
            self.collected += before - record.live().len();
        }
    }

    /// At most W - 1 lose what they have before they are filled again.
    fn wipe(&mut self, at: usize) {
        if !self.replicas.iter().all(|replica| replica.complete) {
            return;
        }
        let tenure = self.rng.draw();
        let replica = &mut self.replicas[at];
        replica.copy = Copy::default();
        replica.synced = Copy::default();
        replica.complete = false;
        replica.actor.tenure = tenure;
        self.forget_exchanges(at);
    }

    /// N - W + 1 others are both others here.
    fn refill(&mut self) {
        let Some(at) = self.replicas.iter().position(|replica| !replica.complete) else { return };
        let mut highest = Mark::NONE;
        for from in (0..N).filter(|from| *from != at) {
            let (copy, mark) = (self.replicas[from].copy.clone(), self.mark_of(from));
            self.join(at, Mark::NONE, &copy, mark);
            highest = highest.max(mark);
        }
        self.sync(at);
        self.replicas[at].mark = highest;
        self.replicas[at].complete = true;
    }

    /// A read of R complete replicas, what an incomplete one has joined in; checked.
    fn read(&mut self, to_delete: bool) -> Result<Option<Copy>, String> {
        let set = WriteSet { nodes: (0..N).collect(), required: QUORUM };
        let plan = Arc::new(Plan::new(&[set], &[], false).expect("a plan"));
        let mut tracker = ReadTracker::<usize, Vec<u8>>::new(plan);
        let mut order: Vec<usize> = (0..N).collect();
        order.rotate_left(self.rng.below(N));
        let _ = tracker.begin();
        let mut heard = BTreeSet::new();
        for at in order {
            self.sync(at);
            let replica = &self.replicas[at];
            heard.extend(&replica.copy.heard);
            let mark = if self.mistakes.read_without_mark { Mark::NONE } else { replica.mark };
            let empty = replica.copy.record.is_empty();
            let body = if empty {
                ReadBody::Absent
            } else {
                ReadBody::Record(replica.copy.record.to_bytes())
            };
            let complete = replica.complete || self.mistakes.newcomer_keeps_mark;
            let mut step = tracker.on_reply(at, ReadReply { complete, mark, body });
            while let ReadStep::Repair { round, nodes, record } = step {
                let record = Record::decode(&record).expect("our own").map(<[u8]>::to_vec);
                step = ReadStep::Wait;
                for node in nodes {
                    let copy = Copy { record: record.clone(), heard: heard.clone() };
                    self.arrive(node, &copy);
                    step = tracker.on_repaired(node, round);
                }
            }
            if let ReadStep::Done(outcome) = step {
                let ReadOutcome::Value { record, .. } = outcome else { return Ok(None) };
                let record = record.map_or_else(Record::new, |bytes| {
                    Record::decode(&bytes).expect("our own").map(<[u8]>::to_vec)
                });
                self.check(&record)?;
                if !to_delete && self.rng.chance(50) {
                    self.client = (record.context().clone(), heard.clone());
                }
                return Ok(Some(Copy { record, heard }));
            }
        }
        Ok(None)
    }

    fn check(&self, record: &Record<Vec<u8>>) -> Result<(), String> {
        let acked = |write: &&Write| write.acked_by.len() >= QUORUM;
        let is_over = |write: &Write| write.ends_at_ms.is_some_and(|end| end <= self.now_ms);
        let shown_to_any = |dot: &Dot| self.writes.values().any(|write| write.shown.contains(dot));
        for version in record.live().iter().filter(|version| version.value.is_some()) {
            let killer = self
                .writes
                .iter()
                .find(|(_, write)| acked(write) && write.shown.contains(&version.dot));
            if let Some((killer, _)) = killer {
                return Err(format!("{:?} is back, which {killer:?} replaced", version.dot));
            }
        }
        for (dot, write) in self.writes.iter().filter(|(_, write)| acked(write)) {
            let wanted = write.value && !is_over(write) && !shown_to_any(dot);
            if wanted && record.find(*dot).is_none_or(|version| version.value.is_none()) {
                return Err(format!("{dot:?} was acknowledged and is gone"));
            }
            let nothing = !write.value || is_over(write);
            let below = record.winner().is_some_and(|winner| winner.dot < *dot);
            if nothing && below && !shown_to_any(dot) && record.shown(self.now_ms).is_some() {
                return Err(format!("a value is shown below the delete {dot:?}"));
            }
        }
        Ok(())
    }

    fn heal(&mut self) -> Result<(), String> {
        self.flying.retain(|message| message.sent_ms + LAG_MS >= self.now_ms);
        while !self.flying.is_empty() {
            self.deliver();
        }
        self.refill();
        for _ in 0..3 {
            (0..N).for_each(|at| self.exchange(at));
        }
        self.now_ms += 2 * LAG_MS + 100;
        self.told.clear();
        for _ in 0..6 {
            (0..N).for_each(|at| self.exchange(at));
            self.climb();
        }
        while !self.told.is_empty() {
            self.tell();
        }
        (0..N).for_each(|at| self.collect(at));
        self.read(false)?;
        let left = |at: usize| {
            let live = self.replicas[at].copy.record.live().iter();
            live.map(|version| version.dot).collect::<Vec<_>>()
        };
        if (1..N).any(|at| left(at) != left(0)) {
            return Err(format!("{:?}, {:?} and {:?} after healing", left(0), left(1), left(2)));
        }
        let record = &self.replicas[0].copy.record;
        if !record.exists(self.now_ms) && !record.is_empty() {
            return Err(format!("nothing lives and {record:?} is kept"));
        }
        Ok(())
    }
}

/// Runs one seed: how much was collected and how much was refused, or what went wrong.
fn run(seed: u64, mistakes: Mistakes) -> Result<(usize, usize), String> {
    let mut world = World::new(seed, mistakes);
    for step in 0..STEPS {
        world.step().map_err(|wrong| format!("seed {seed}, step {step}: {wrong}"))?;
    }
    world.heal().map_err(|wrong| format!("seed {seed}, after healing: {wrong}"))?;
    Ok((world.collected, world.refused))
}

fn is_found(mistakes: Mistakes) -> bool {
    (0..3_000).any(|seed| run(seed, mistakes).is_err())
}

#[test]
fn nothing_deleted_comes_back_and_nothing_live_is_dropped() {
    let (mut collected, mut refused) = (0, 0);
    let seeds = seeds(1_500);
    let tried = seeds.end - seeds.start;
    for seed in seeds {
        let (gone, late) = run(seed, Mistakes::default()).unwrap_or_else(|wrong| panic!("{wrong}"));
        collected += gone;
        refused += late;
    }
    assert!(tried < 1_000 || collected > 2_000, "hardly anything was collected: {collected}");
    assert!(tried < 1_000 || refused > 500, "hardly anything came late: {refused}");
}

#[test]
fn a_mark_without_an_exchange_is_found() {
    assert!(is_found(Mistakes { no_exchange: true, ..Mistakes::default() }));
}

#[test]
fn a_newcomer_that_keeps_its_mark_is_found() {
    assert!(is_found(Mistakes { newcomer_keeps_mark: true, ..Mistakes::default() }));
}

#[test]
fn a_join_without_the_mark_is_found() {
    assert!(is_found(Mistakes { join_without_mark: true, ..Mistakes::default() }));
}

#[test]
fn a_read_without_marks_is_found() {
    assert!(is_found(Mistakes { read_without_mark: true, ..Mistakes::default() }));
}

/// A write on two of three comes to the third by exchanges only, and that one restarts before it is
/// told the mark, or just after: reads with it then.
fn third_restarts(mistakes: Mistakes, before: bool) -> Result<(), String> {
    let world = |seed| {
        let mut world = World::new(seed, mistakes);
        world.write(0, false, false);
        world
    };
    let mut world = (0..1_000).map(world).find(|world| world.flying.len() == 2).expect("a seed");
    world.flying.retain(|message| message.to == 2);
    world.deliver();
    world.writes.values_mut().for_each(|write| write.ends_at_ms = None);
    world.now_ms += 2 * LAG_MS;
    for _ in 0..2 {
        world.climb();
        world.exchange(0);
        world.exchange(2);
    }
    world.climb();
    assert_eq!(world.told.len(), N, "proven");
    if before {
        world.restart(1);
    }
    while !world.told.is_empty() {
        world.tell();
    }
    world.restart(1);
    (0..10).try_for_each(|_| world.read(false).map(drop))
}

#[test]
fn a_mark_that_a_forgetful_replica_takes_is_found() {
    let mistakes = Mistakes { forgetful_taker: true, ..Mistakes::default() };
    assert!(third_restarts(mistakes, true).is_err());
    assert_eq!(third_restarts(Mistakes::default(), true), Ok(()));
}

#[test]
fn a_mark_in_force_before_what_it_speaks_of_is_durable_is_found() {
    let mistakes = Mistakes { no_barrier: true, ..Mistakes::default() };
    assert!(third_restarts(mistakes, false).is_err());
    assert_eq!(third_restarts(Mistakes::default(), false), Ok(()));
}
