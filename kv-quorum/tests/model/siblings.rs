//! Records against the truth derived from all dots and contexts.
//!
//! Beside each record the model keeps the *set* of dots that its holder has heard of, and for each
//! dot the set that its writer had been shown. What is live is then plain: a dot that was heard of
//! and that no write heard of had been shown. After every step every record must hold exactly
//! these. The set does not know of vectors, tenures or exceptions, so whatever these get wrong
//! shows.
//!
//! Mistakes can be planted, and each must be found: names that outlive a loss, a lost tail or a
//! handover, vectors that travel without the live values under them, and a PUT that answers with
//! the whole vector of the record.

use crate::support::{Rng, seeds};
use kv_quorum::{
    Actor, Context, Dot, Draft, Expiry, HybridTime, JoinOutcome, Limits, Record, join_encoded,
};
use std::collections::{BTreeMap, BTreeSet};

const NODES: usize = 4;
const CLIENTS: usize = 3;
const STEPS: usize = 90;
const SKEW_MS_MAX: u64 = 60;

/// Mistakes to plant.
#[derive(Clone, Copy, Default)]
struct Mistakes {
    /// A node keeps its name when all is lost.
    same_name_after_loss: bool,
    /// A node keeps its name when an unsynced tail is lost and the directory kept.
    same_name_after_lost_tail: bool,
    /// A node keeps its name when it falls back twice, or gives away and gets back.
    same_name_after_handover: bool,
    /// Now and then a vector travels without its live values.
    vector_without_values: bool,
    /// The context of a PUT's answer is all that the record covers.
    put_answers_whole_vector: bool,
}

/// What is known somewhere: dots, and the highest register of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Heard {
    dots: BTreeSet<Dot>,
    registers: BTreeMap<Dot, Expiry>,
}

impl Heard {
    fn join(&mut self, other: &Self) {
        self.dots.extend(&other.dots);
        for (&dot, &register) in &other.registers {
            let mine = self.registers.entry(dot).or_default();
            *mine = mine.join(register);
        }
    }
}

/// A record, and the truth about it.
#[derive(Clone, Default)]
struct Copy {
    record: Record<Vec<u8>>,
    heard: Heard,
}

struct Node {
    copy: Copy,
    /// Earlier states, oldest first: what a lost tail leaves.
    history: Vec<Copy>,
    actor: Actor,
    last: HybridTime,
    skew_ms: u64,
}

/// A client's context, and the truth about it.
#[derive(Clone, Default)]
struct Client {
    context: Context,
    shown: BTreeSet<Dot>,
}

struct World {
    rng: Rng,
    mistakes: Mistakes,
    now_ms: u64,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    flying: Vec<(usize, Copy)>,
    /// What the writer of each dot had been shown, and what it wrote.
    writes: BTreeMap<Dot, (BTreeSet<Dot>, Option<Vec<u8>>)>,
    exceptions_seen: usize,
}

impl World {
    fn new(seed: u64, mistakes: Mistakes) -> Self {
        let mut rng = Rng::new(seed);
        let nodes = (0..NODES).map(|at| Node {
            copy: Copy::default(),
            history: Vec::new(),
            actor: Actor::new(at as u64, rng.draw()),
            last: HybridTime::ZERO,
            skew_ms: rng.draw() % SKEW_MS_MAX,
        });
        let nodes = nodes.collect();
        Self {
            rng,
            mistakes,
            now_ms: 1_000,
            nodes,
            clients: vec![Client::default(); CLIENTS],
            flying: Vec::new(),
            writes: BTreeMap::new(),
            exceptions_seen: 0,
        }
    }

    fn step(&mut self) {
        self.now_ms += 1 + self.rng.draw() % 20;
        let node = self.rng.below(NODES);
        let client = self.rng.below(CLIENTS);
        match self.rng.below(100) {
            0..24 => self.put(node, client, false),
            24..30 => self.put(node, client, true),
            30..40 => self.get(node, client),
            40..48 => self.blind(node),
            48..52 => self.blind_twice(node),
            52..60 => self.replicate(node),
            60..70 => self.send(node),
            70..80 => self.deliver(),
            80..83 => self.forget_everything(node),
            83..88 => self.forget_a_suffix(node),
            88..91 => self.give_away(node),
            91..96 => self.expire(node),
            96..98 => _ = self.nodes[node].copy.record.drop_expired(self.now_ms, SKEW_MS_MAX),
            _ => self.clients[client] = Client::default(),
        }
    }

    fn dot(&mut self, node: usize) -> Dot {
        let wall_ms = self.now_ms + self.nodes[node].skew_ms;
        let node = &mut self.nodes[node];
        node.history.push(node.copy.clone());
        node.last = HybridTime::next(node.last, wall_ms);
        Dot::new(node.actor, node.last)
    }

    fn wrote(&mut self, node: usize, dot: Dot, shown: BTreeSet<Dot>, value: Option<Vec<u8>>) {
        let heard = &mut self.nodes[node].copy.heard;
        heard.dots.extend(&shown);
        heard.dots.insert(dot);
        self.writes.insert(dot, (shown, value));
    }

    fn put(&mut self, at: usize, client: usize, delete: bool) {
        let dot = self.dot(at);
        let value = (!delete).then(|| dot.time.to_bits().to_le_bytes().to_vec());
        let draft = value.clone().map_or_else(Draft::tombstone, Draft::string);
        let sent = self.clients[client].clone();
        let limits = Limits::default();
        let node = &mut self.nodes[at];
        node.copy.record.mint(dot, &sent.context, draft, &limits).expect("the dot is new");
        self.wrote(at, dot, sent.shown.clone(), value);
        if self.rng.chance(30) {
            return;
        }
        let copy = &self.nodes[at].copy;
        let answer = if self.mistakes.put_answers_whole_vector {
            copy.record.coverage().clone()
        } else {
            copy.record.context_after_put(&sent.context, dot)
        };
        let mut shown = copy.heard.dots.clone();
        for unseen in self.live(&copy.heard) {
            if unseen != dot && !sent.shown.contains(&unseen) {
                shown.remove(&unseen);
            }
        }
        self.exceptions_seen += answer.exceptions().len();
        let context = Context::from_bytes(&answer.to_bytes()).expect("our own bytes");
        self.clients[client] = Client { context, shown };
    }

    fn get(&mut self, node: usize, client: usize) {
        let copy = &self.nodes[node].copy;
        let context = copy.record.context().clone();
        self.clients[client] = Client { context, shown: copy.heard.dots.clone() };
    }

    fn blind(&mut self, at: usize) {
        let dot = self.dot(at);
        let node = &mut self.nodes[at];
        let value = vec![at as u8; 3];
        node.copy.record.mint_blind(dot, Draft::string(value.clone())).expect("the dot is new");
        let shown = node.copy.heard.dots.clone();
        self.wrote(at, dot, shown, Some(value));
    }

    /// A blind SET with its second mint, over what one other node covers.
    fn blind_twice(&mut self, at: usize) {
        self.blind(at);
        let other = (at + 1 + self.rng.below(NODES - 1)) % NODES;
        self.flying.push((other, self.nodes[at].copy.clone()));
        let answer = self.nodes[other].copy.clone();
        let dot = self.dot(at);
        let node = &mut self.nodes[at];
        let draft = Draft::string(vec![at as u8; 3]);
        let minted = node.copy.record.mint_over(dot, answer.record.coverage(), draft);
        minted.expect("the dot is new");
        let mut shown = node.copy.heard.dots.clone();
        shown.extend(&answer.heard.dots);
        self.wrote(at, dot, shown, Some(vec![at as u8; 3]));
    }

    fn replicate(&mut self, from: usize) {
        let to = self.rng.below(NODES);
        let copy = self.nodes[from].copy.clone();
        self.arrive(to, copy);
    }

    fn send(&mut self, from: usize) {
        let to = self.rng.below(NODES);
        self.flying.push((to, self.nodes[from].copy.clone()));
    }

    fn deliver(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        let at = self.rng.below(self.flying.len());
        let twice = self.rng.chance(20);
        let (to, copy) = if twice { self.flying[at].clone() } else { self.flying.swap_remove(at) };
        self.arrive(to, copy);
    }

    /// A whole record arrives and is joined, in both ways, which must agree.
    fn arrive(&mut self, to: usize, mut copy: Copy) {
        if self.mistakes.vector_without_values && self.rng.chance(10) {
            let coverage = copy.record.coverage().clone();
            copy.record = Record::from_parts(coverage, Vec::new()).expect("nothing live");
        }
        let node = &mut self.nodes[to];
        node.history.push(node.copy.clone());
        let (stored, incoming) = (node.copy.record.to_bytes(), copy.record.to_bytes());
        let joined = node.copy.record.join(&copy.record);
        node.copy.heard.join(&copy.heard);
        let mut out = Vec::new();
        let encoded = join_encoded(Some(&stored), &incoming, &mut out).expect("our own bytes");
        assert_eq!(encoded.uncovered, joined.uncovered);
        let bytes = match encoded.outcome {
            JoinOutcome::Unchanged => stored,
            JoinOutcome::Incoming => incoming,
            JoinOutcome::Merged => out,
        };
        assert_eq!(bytes, node.copy.record.to_bytes());
    }

    /// A wiped disk, the restart of an in-memory engine.
    fn forget_everything(&mut self, at: usize) {
        self.drop_all(at);
        if !self.mistakes.same_name_after_loss {
            self.begin_tenure(at);
        }
    }

    /// An unsynced tail is lost; the directory, and with it the clock's lease, is kept.
    fn forget_a_suffix(&mut self, at: usize) {
        let history = &mut self.nodes[at].history;
        if history.is_empty() {
            return;
        }
        let kept = history.len() - 1 - self.rng.below(history.len().min(4));
        history.truncate(kept + 1);
        if let Some(copy) = history.pop() {
            self.nodes[at].copy = copy;
        }
        if !self.mistakes.same_name_after_lost_tail {
            self.begin_tenure(at);
        }
    }

    /// A displaced primary, or a fallback whose hint was delivered: it hands over and drops what
    /// it has. It may be asked to hold the partition again at any time: fall back twice, give
    /// away and get back.
    fn give_away(&mut self, at: usize) {
        let to = (at + 1 + self.rng.below(NODES - 1)) % NODES;
        let copy = self.nodes[at].copy.clone();
        self.arrive(to, copy);
        self.drop_all(at);
        if !self.mistakes.same_name_after_handover {
            self.begin_tenure(at);
        }
        if self.rng.chance(50) {
            self.blind(at);
        }
        if self.rng.chance(50) {
            let back = self.nodes[to].copy.clone();
            self.arrive(at, back);
        }
    }

    fn begin_tenure(&mut self, at: usize) {
        self.nodes[at].actor.tenure = self.rng.draw();
    }

    fn drop_all(&mut self, at: usize) {
        self.nodes[at].copy = Copy::default();
        self.nodes[at].history.clear();
    }

    /// EXPIRE of what one replica showed, on another that may never have had it, or have it still.
    fn expire(&mut self, at: usize) {
        let read = self.rng.below(NODES);
        let record = &self.nodes[read].copy.record;
        let seen: Vec<Dot> = record.live().iter().map(|version| version.dot).collect();
        let now = HybridTime::new(self.now_ms, 0);
        let stamp = record.stamp_above(now);
        let expiry = if self.rng.chance(25) {
            Expiry::persistent(stamp)
        } else {
            Expiry::at(stamp, self.now_ms + self.rng.draw() % 200)
        };
        let live = self.live(&self.nodes[at].copy.heard);
        let (now_ms, copy) = (self.now_ms, &mut self.nodes[at].copy);
        for dot in seen.iter().filter(|dot| live.contains(dot)) {
            let has_value = self.writes[dot].1.is_some();
            let register = copy.heard.registers.entry(*dot).or_default();
            if has_value && !register.is_over(now_ms) {
                *register = register.join(expiry);
            }
        }
        copy.record.expire(&seen, expiry, now_ms);
    }

    /// What was heard of, and was not shown to the writer of anything heard of.
    fn live(&self, heard: &Heard) -> BTreeSet<Dot> {
        let mut live = heard.dots.clone();
        for dot in &heard.dots {
            for shown in &self.writes[dot].0 {
                live.remove(shown);
            }
        }
        live
    }

    fn check(&self) -> Result<(), String> {
        for (at, node) in self.nodes.iter().enumerate() {
            let wanted = self.live(&node.copy.heard);
            let record = &node.copy.record;
            let found: BTreeSet<Dot> = record.live().iter().map(|version| version.dot).collect();
            if found != wanted {
                return Err(format!("node {at} holds {found:?} instead of {wanted:?}"));
            }
            for version in record.live() {
                let register =
                    node.copy.heard.registers.get(&version.dot).copied().unwrap_or_default();
                if version.expiry != register {
                    return Err(format!("node {at}: {:?}, not {register:?}", version.expiry));
                }
                let written = &self.writes[&version.dot].1;
                let dropped = version.value.is_none() && register.is_over(self.now_ms);
                if version.value != *written && !dropped {
                    return Err(format!("node {at}: wrong bytes under {:?}", version.dot));
                }
            }
        }
        Ok(())
    }
}

/// Runs one seed; the number of exceptions seen, or what went wrong at which step.
fn run(seed: u64, mistakes: Mistakes) -> Result<usize, String> {
    let mut world = World::new(seed, mistakes);
    for step in 0..STEPS {
        world.step();
        world.check().map_err(|wrong| format!("seed {seed}, step {step}: {wrong}"))?;
    }
    for from in 0..NODES {
        for to in 0..NODES {
            let copy = world.nodes[from].copy.clone();
            world.arrive(to, copy);
        }
    }
    for at in 0..NODES {
        let copy = world.nodes[NODES - 1].copy.clone();
        world.arrive(at, copy);
    }
    world.check().map_err(|wrong| format!("seed {seed}, after healing: {wrong}"))?;
    let first = &world.nodes[0].copy.record;
    let same = world.nodes.iter().all(|node| node.copy.record.live().len() == first.live().len());
    assert!(same, "seed {seed}: replicas differ after healing");
    Ok(world.exceptions_seen)
}

fn is_found(mistakes: Mistakes) -> bool {
    (0..200).any(|seed| run(seed, mistakes).is_err())
}

#[test]
fn records_hold_what_all_dots_and_contexts_say() {
    let mut exceptions = 0;
    let seeds = seeds(2_000);
    let tried = seeds.end - seeds.start;
    for seed in seeds {
        exceptions += run(seed, Mistakes::default()).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
    assert!(
        tried < 1_000 || exceptions > 1_000,
        "contexts with exceptions were hardly tried: {exceptions}"
    );
}

#[test]
fn a_name_that_outlives_a_loss_is_found() {
    assert!(is_found(Mistakes { same_name_after_loss: true, ..Mistakes::default() }));
}

#[test]
fn a_name_that_outlives_a_lost_tail_is_found() {
    assert!(is_found(Mistakes { same_name_after_lost_tail: true, ..Mistakes::default() }));
}

#[test]
fn a_name_that_outlives_a_handover_is_found() {
    assert!(is_found(Mistakes { same_name_after_handover: true, ..Mistakes::default() }));
}

#[test]
fn a_vector_without_its_live_values_is_found() {
    assert!(is_found(Mistakes { vector_without_values: true, ..Mistakes::default() }));
}

#[test]
fn a_put_that_answers_the_whole_vector_is_found() {
    assert!(is_found(Mistakes { put_answers_whole_vector: true, ..Mistakes::default() }));
}
