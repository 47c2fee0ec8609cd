//! Ballots over a network that loses, repeats and reorders, among acceptors that lose power.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kv_client::ClusterId;
use kv_lsm::fs::MemFs;
use kv_ring::{AutoClaim, Layout, NodeSpec, Zone};

use super::*;
use crate::cluster::campaign::Campaign;
use crate::cluster::decree::tests::first;
use crate::cluster::record::{ClusterRecord, KeyspaceSettings};
use crate::plug::rng::{Rng, SeededRng};

const VOTERS: u64 = 5;

/// The layouts that everybody knows when the ballots begin, the oldest first.
type Base = [Decree];

struct Voter {
    me: NodeId,
    disk: MemFs,
    acceptor: Acceptor,
}

/// One layout of so many nodes.
fn stable() -> Vec<Decree> {
    vec![Decree::birth(first(VOTERS))]
}

/// A sixth node is about to join.
fn moving() -> Vec<Decree> {
    let mut base = stable();
    base.push(join(&base, VOTERS + 1));
    base
}

fn newest(base: &Base) -> &Decree {
    base.last().expect("a layout")
}

fn join(base: &Base, node: u64) -> Decree {
    let before = newest(base);
    let mut members = before.layout.topology();
    members.insert(NodeId(node), NodeSpec::new(1, Zone::named("")));
    let next = Layout::next(&before.layout, &members, 3, &AutoClaim).expect("enough nodes");
    Decree::reshape(&before.layout, &before.removed, next)
}

fn replace(base: &Base, old: u64, new: u64) -> Decree {
    let before = newest(base);
    Decree::replace(&before.layout, &before.removed, NodeId(old), NodeId(new)).expect("a member")
}

fn abort(base: &Base) -> Decree {
    let [.., earlier, undone] = base else { panic!("nothing to call off") };
    Decree::abort(&undone.layout, &undone.removed, &earlier.layout, |_| false).expect("an epoch")
}

fn give_up(base: &Base, node: u64) -> Decree {
    let before = newest(base);
    Decree::give_up(&before.layout, &before.removed, NodeId(node)).expect("no member")
}

fn split(base: &Base) -> Decree {
    let before = newest(base);
    Decree::split(&before.layout, &before.removed).expect("an epoch").expect("more slots")
}

impl Voter {
    /// The voter that this disk makes.
    fn open(me: NodeId, disk: MemFs, base: &Base) -> Self {
        let meta = MetaStore::open(Arc::new(disk.clone()), Path::new("/meta")).expect("a disk");
        let view = Arc::new(SharedView::new(View::empty(me)));
        let state = ClusterState::load(Arc::new(meta), Arc::clone(&view)).expect("sound facts");
        let state = Arc::new(state);
        if !state.has_record() {
            // All members of the layout before voted for each.
            let before = std::iter::once(None).chain(base.iter().map(Some));
            let decided = |(decree, before): (&Decree, Option<&Decree>)| Decided {
                decree: decree.encode(),
                ballot: Ballot::default(),
                voters: before.map_or_else(Vec::new, |before| before.layout.members().to_vec()),
            };
            let decided = base.iter().zip(before).map(decided).collect();
            state.adopt(&record().encode(), decided).expect("an empty directory");
        }
        Self { me, disk, acceptor: Acceptor::new(state, view) }
    }

    fn epoch(&self) -> u64 {
        self.acceptor.view.now().epoch()
    }
}

fn record() -> ClusterRecord {
    ClusterRecord {
        id: ClusterId(1),
        name: "test".into(),
        partitions: 16,
        keyspaces: vec![KeyspaceSettings::default()],
        pair_bytes_max: 1_024,
        digest_key: 1,
        context_key: [0; 32],
    }
}

struct Candidate {
    campaign: Campaign,
    proposer: Proposer,
    /// Which ballot the proposer is: answers to earlier ones are not for it.
    ballot: u32,
    outcome: Option<Decided>,
}

impl Candidate {
    fn new(me: u64, decree: &Decree, voters: usize) -> Self {
        let epoch = decree.layout.epoch();
        let mut campaign = Campaign::new(epoch, NodeId(me), voters, decree.encode());
        let proposer = campaign.next_ballot();
        Self { campaign, proposer, ballot: 0, outcome: None }
    }
}

enum Message {
    Ask { to: usize, op: BallotOp },
    Answer { from: NodeId, out: BallotOut },
}

struct World {
    rng: SeededRng,
    base: Vec<Decree>,
    voters: Vec<Voter>,
    /// Voters that are gone for good: fewer than half.
    dead: BTreeSet<usize>,
    /// Whether all voters have sealed the newest layout.
    sealed: bool,
    candidates: Vec<Candidate>,
    /// (candidate, ballot, message), in no order.
    flying: Vec<(usize, u32, Message)>,
    /// What each ballot's value was accepted by.
    accepted: BTreeMap<Ballot, (Bytes, BTreeSet<NodeId>)>,
    /// Whether voters hear of the outcome.
    tells: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let rng = SeededRng::new(seed);
        let draw = || rng.next_u64();
        let base = if draw().is_multiple_of(2) { stable() } else { moving() };
        let mut wanted = match base.as_slice() {
            [_] => vec![replace(&base, 2, 8), replace(&base, 4, 8), join(&base, 8), split(&base)],
            _ => vec![replace(&base, 2, 8), replace(&base, 2, 9), abort(&base), give_up(&base, 9)],
        };
        wanted.remove(draw() as usize % wanted.len());
        wanted.rotate_left(draw() as usize % 3);
        let open = |id: &NodeId| Voter::open(*id, MemFs::new(), &base);
        let voters: Vec<Voter> = newest(&base).layout.members().iter().map(open).collect();
        // Three want three different things; the third is even outside.
        let asking = [1, 3, 19].into_iter().zip(&wanted);
        let candidates =
            asking.map(|(me, decree)| Candidate::new(me, decree, voters.len())).collect();
        let tells = draw().is_multiple_of(2);
        let (flying, accepted, dead) = (vec![], BTreeMap::new(), BTreeSet::new());
        let mut world =
            Self { rng, base, voters, dead, sealed: false, candidates, flying, accepted, tells };
        (0..world.candidates.len()).for_each(|candidate| world.begin(candidate));
        world
    }

    fn below(&self, limit: usize) -> usize {
        (self.rng.next_u64() % limit.max(1) as u64) as usize
    }

    fn begin(&mut self, candidate: usize) {
        let op = self.candidates[candidate].proposer.begin();
        self.ask_all(candidate, &op);
    }

    fn ask_all(&mut self, candidate: usize, op: &BallotOp) {
        let ballot = self.candidates[candidate].ballot;
        for to in 0..self.voters.len() {
            self.flying.push((candidate, ballot, Message::Ask { to, op: op.clone() }));
        }
    }

    fn again(&mut self, candidate: usize, higher: Option<Ballot>) {
        let random = self.rng.next_u64();
        let at = &mut self.candidates[candidate];
        if at.outcome.is_some() {
            return;
        }
        assert!(at.campaign.lost(higher, random) <= 1_000);
        at.proposer = at.campaign.next_ballot();
        at.ballot += 1;
        self.begin(candidate);
    }

    fn deliver(&mut self, at: usize) {
        let (candidate, ballot, message) = self.flying.swap_remove(at);
        match message {
            Message::Ask { to, .. } if self.dead.contains(&to) => {}
            Message::Ask { to, op } => {
                let voter = &self.voters[to];
                let out = voter.acceptor.answer(op.clone());
                if let (BallotOut::Accepted, BallotOp::Accept { ballot, decree, .. }) = (&out, &op)
                {
                    let (value, voters) = self
                        .accepted
                        .entry(*ballot)
                        .or_insert_with(|| (decree.clone(), BTreeSet::new()));
                    assert_eq!(value, decree, "one ballot, one value");
                    voters.insert(voter.me);
                }
                let from = voter.me;
                self.flying.push((candidate, ballot, Message::Answer { from, out }));
            }
            Message::Answer { from, out } => {
                let at = &mut self.candidates[candidate];
                if at.ballot != ballot || at.outcome.is_some() {
                    return;
                }
                match at.proposer.on_answer(from, out) {
                    ProposerStep::Wait => {}
                    ProposerStep::Send(op) => self.ask_all(candidate, &op),
                    ProposerStep::Retry(higher) => self.again(candidate, Some(higher)),
                    ProposerStep::Decided(decided) => {
                        at.outcome = Some(decided.clone());
                        self.tell(&decided);
                    }
                }
            }
        }
    }

    fn tell(&self, decided: &Decided) {
        for (at, voter) in self.voters.iter().enumerate() {
            if self.dead.contains(&at) {
                continue;
            }
            if self.tells && self.below(2) == 0 {
                voter.acceptor.state.take(decided, |_, _| Ok(())).expect("it was decided");
            }
        }
    }

    fn lose_power(&mut self) {
        let (at, seed) = (self.below(self.voters.len()), self.rng.next_u64());
        let (me, disk) = (self.voters[at].me, self.voters[at].disk.crash(seed));
        self.voters[at] = Voter::open(me, disk, &self.base);
    }

    /// One more is gone for good, as long as a majority is left.
    fn lose_for_good(&mut self) {
        let at = self.below(self.voters.len());
        if 2 * (self.dead.len() + 1) < self.voters.len() {
            self.dead.insert(at);
        }
    }

    /// Everybody has finished the newest layout, and seals it if he can.
    fn seal(&mut self) {
        let epoch = newest(&self.base).layout.epoch();
        let sealed = |voter: &Voter| voter.acceptor.seal(epoch).expect("a disk");
        let some = self.below(2) == 0;
        let sealing = self.voters.iter().enumerate().filter(|(at, _)| !some || at % 2 == 0);
        let sealing: Vec<bool> = sealing.map(|(_, voter)| sealed(voter)).collect();
        self.sealed |= !some && sealing.into_iter().all(|sealed| sealed);
    }

    fn run(&mut self) {
        for _ in 0..600 {
            let at = self.below(self.flying.len());
            match self.below(100) {
                _ if self.flying.is_empty() => self.again(at % 3, None),
                0..=4 => drop(self.flying.swap_remove(at)),
                5..=9 => {
                    if let (candidate, ballot, Message::Ask { to, op }) = &self.flying[at] {
                        let twice = Message::Ask { to: *to, op: op.clone() };
                        self.flying.push((*candidate, *ballot, twice));
                    }
                }
                10..=12 => self.lose_power(),
                13..=15 => self.again(self.below(3), None),
                16 if self.below(4) == 0 => self.lose_for_good(),
                17 if self.below(4) == 0 => self.seal(),
                _ => self.deliver(at),
            }
        }
        // Then nothing is lost, and one after the other has the network to itself; twice, since
        // what calls off what is over is nothing that can be decided.
        for candidate in [0, 1, 2, 0, 1, 2] {
            for _ in 0..50 {
                self.flying.retain(|(of, ..)| *of == candidate);
                while !self.flying.is_empty() {
                    self.deliver(0);
                }
                self.again(candidate, None);
            }
        }
    }
}

#[test]
fn whatever_the_network_does_one_decree_of_an_epoch_is_decided() {
    let mut winners = BTreeSet::new();
    let (mut sealed_and_undone, mut sealed_and_decided, mut with_dead) = (false, false, 0);
    let seeds = if std::env::var_os("KV_TEST_LONG").is_some() { 1_000 } else { 300 };
    for seed in 0..seeds {
        let mut world = World::new(seed);
        world.run();
        let outcomes: Vec<&Decided> = world
            .candidates
            .iter()
            .map(|candidate| candidate.outcome.as_ref().expect("the network healed"))
            .collect();
        let chosen: BTreeSet<&Bytes> = world
            .accepted
            .values()
            .filter(|(_, accepted)| accepted.len() > world.voters.len() / 2)
            .map(|(decree, _)| decree)
            .chain(outcomes.iter().map(|outcome| &outcome.decree))
            .collect();
        assert_eq!(chosen.len(), 1, "seed {seed}: two decrees of one epoch");
        let before = newest(&world.base);
        for outcome in outcomes {
            let proven = outcome.proven(&before.layout, &before.removed);
            let change = proven.expect("it carries its proof").change;
            winners.insert(format!("{change:?}"));
            sealed_and_undone |= world.sealed && change == Change::Abort;
            sealed_and_decided |= world.sealed && change != Change::Abort;
        }
        let next = before.layout.epoch() + 1;
        assert!(world.voters.iter().all(|voter| voter.epoch() <= next), "seed {seed}");
        assert!(!sealed_and_undone, "seed {seed}: what all had sealed was called off");
        with_dead += usize::from(!world.dead.is_empty());
    }
    assert_eq!(winners.len(), 7, "each kind wins with some seed: {winners:?}");
    assert!(sealed_and_decided && with_dead > seeds as usize / 4, "{with_dead} of {seeds}");
}

#[test]
fn a_change_that_is_sealed_is_called_off_only_if_it_may_be_decided() {
    let base = moving();
    let ballot = |round| Ballot { round, node: NodeId(2) };
    let back = abort(&base).encode();
    let accept = |round, found| BallotOp::Accept {
        epoch: 3,
        ballot: ballot(round),
        decree: back.clone(),
        found,
    };
    let voter = Voter::open(NodeId(1), MemFs::new(), &base);
    assert!(voter.acceptor.seal(2).expect("a disk"));
    let voter = Voter::open(NodeId(1), voter.disk.crash(1), &base);
    let out = voter.acceptor.answer(accept(1, false));
    assert!(matches!(out, BallotOut::MayNotVote(_)), "over a loss of power too: {out:?}");
    assert!(voter.acceptor.held().is_none());
    let out = voter.acceptor.answer(accept(1, true));
    assert!(matches!(out, BallotOut::Accepted), "it may be decided: {out:?}");
    let voter = Voter::open(NodeId(3), MemFs::new(), &base);
    let out = voter.acceptor.answer(accept(1, false));
    assert!(matches!(out, BallotOut::Accepted), "it is under way: {out:?}");
    let voter = Voter::open(NodeId(3), voter.disk.crash(2), &base);
    assert_eq!(voter.acceptor.held(), Some(abort(&base)));
    assert!(!voter.acceptor.seal(2).expect("a disk"), "who has accepted it does not seal");
    assert!(!voter.acceptor.seal(1).expect("a disk"), "and nobody what is not the newest");
}

#[test]
fn the_last_live_layout_is_for_who_is_given_up() {
    let mut base = stable();
    while base.len() < kv_ring::LIVE_LAYOUTS_MAX - 1 {
        let (old, new) = (1 + base.len() as u64 * 2 % 3, 10 + base.len() as u64);
        let known = newest(&base).layout.members().to_vec();
        let old = if known.contains(&NodeId(old)) { NodeId(old) } else { known[known.len() - 1] };
        base.push(replace(&base, old.0, new));
    }
    let me = newest(&base).layout.members()[0];
    let voter = Voter::open(me, MemFs::new(), &base);
    let epoch = newest(&base).layout.epoch() + 1;
    let accept = |round, decree: &Decree| {
        let (ballot, decree) = (Ballot { round, node: me }, decree.encode());
        voter.acceptor.answer(BallotOp::Accept { epoch, ballot, decree, found: false })
    };
    let last = newest(&base).layout.members()[1];
    let out = accept(1, &replace(&base, last.0, 77));
    assert!(matches!(out, BallotOut::MayNotVote(_)), "{out:?}");
    let out = accept(2, &give_up(&base, 78));
    assert!(matches!(out, BallotOut::Accepted), "{out:?}");
}

#[test]
fn a_doubted_directory_has_no_vote_until_it_is_trusted() {
    let voter = Voter::open(NodeId(1), MemFs::new(), &stable());
    let prepare = |round| BallotOp::Prepare { epoch: 2, ballot: Ballot { round, node: NodeId(2) } };
    voter.acceptor.doubt(Some("it may be a backup".into()));
    assert!(matches!(voter.acceptor.answer(prepare(1)), BallotOut::MayNotVote(_)));
    voter.acceptor.doubt(None);
    let promised = voter.acceptor.answer(prepare(1));
    assert!(matches!(promised, BallotOut::Promised { accepted: None }));
    assert!(matches!(voter.acceptor.answer(prepare(1)), BallotOut::Rejected { .. }), "forgotten");
}

#[test]
fn what_does_not_follow_is_not_voted_for() {
    let voter = Voter::open(NodeId(1), MemFs::new(), &stable());
    let ballot = Ballot { round: 1, node: NodeId(2) };
    let next = Decree::replace(&first(VOTERS), &[], NodeId(2), NodeId(6)).expect("a replacement");
    let later = Decree::replace(&next.layout, &next.removed, NodeId(3), NodeId(7));
    let later = later.expect("a replacement").encode();
    let accept = |epoch, decree| {
        voter.acceptor.answer(BallotOp::Accept { epoch, ballot, decree, found: false })
    };
    let out = accept(2, later.clone());
    assert!(matches!(out, BallotOut::MayNotVote(_)), "{out:?}");
    let out = accept(3, later);
    assert!(matches!(out, BallotOut::MayNotVote(_)), "{out:?}");
    let out = accept(2, next.encode());
    assert!(matches!(out, BallotOut::Accepted), "{out:?}");
}
