//! Ballots over a network that loses, repeats and reorders, among acceptors that lose power.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kv_client::ClusterId;
use kv_lsm::fs::MemFs;

use super::*;
use crate::cluster::campaign::Campaign;
use crate::cluster::decree::tests::first;
use crate::cluster::record::{ClusterRecord, KeyspaceSettings};
use crate::plug::rng::{Rng, SeededRng};

const VOTERS: u64 = 5;

struct Voter {
    me: NodeId,
    disk: MemFs,
    acceptor: Acceptor,
}

impl Voter {
    /// The voter that this disk makes.
    fn open(me: NodeId, disk: MemFs) -> Self {
        let meta = MetaStore::open(Arc::new(disk.clone()), Path::new("/meta")).expect("a disk");
        let view = Arc::new(SharedView::new(View::empty(me)));
        let state = ClusterState::load(Arc::new(meta), Arc::clone(&view)).expect("sound facts");
        let state = Arc::new(state);
        if !state.has_record() {
            let decided = vec![Decided::birth(first(VOTERS))];
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
    fn new(me: u64, old: u64, new: u64) -> Self {
        let decree = Decree::replace(&first(VOTERS), &[], NodeId(old), NodeId(new));
        let bytes = decree.expect("a replacement").encode();
        let mut campaign = Campaign::new(2, NodeId(me), VOTERS as usize, bytes);
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
    voters: Vec<Voter>,
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
        let voters = (1..=VOTERS).map(|id| Voter::open(NodeId(id), MemFs::new())).collect();
        // Three want three different things; the third is even outside.
        let candidates =
            vec![Candidate::new(1, 2, 6), Candidate::new(3, 2, 7), Candidate::new(9, 4, 6)];
        let rng = SeededRng::new(seed);
        let tells = rng.next_u64().is_multiple_of(2);
        let mut world =
            Self { rng, voters, candidates, flying: vec![], accepted: BTreeMap::new(), tells };
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
        for voter in &self.voters {
            if self.tells && self.below(2) == 0 {
                voter.acceptor.state.take(decided, |_, _| Ok(())).expect("it was decided");
            }
        }
    }

    fn lose_power(&mut self) {
        let (at, seed) = (self.below(self.voters.len()), self.rng.next_u64());
        let (me, disk) = (self.voters[at].me, self.voters[at].disk.crash(seed));
        self.voters[at] = Voter::open(me, disk);
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
                _ => self.deliver(at),
            }
        }
        // Then nothing is lost, and one after the other has the network to itself.
        for candidate in 0..self.candidates.len() {
            for _ in 0..100 {
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
            .filter(|(_, voters)| voters.len() > VOTERS as usize / 2)
            .map(|(decree, _)| decree)
            .chain(outcomes.iter().map(|outcome| &outcome.decree))
            .collect();
        assert_eq!(chosen.len(), 1, "seed {seed}: two decrees of one epoch");
        for outcome in outcomes {
            let proven = outcome.proven(&first(VOTERS), &[]).expect("it carries its proof");
            winners.insert(format!("{:?}", proven.change));
        }
        assert!(world.voters.iter().all(|voter| voter.epoch() <= 2), "seed {seed}");
    }
    assert_eq!(winners.len(), 3, "each candidate wins with some seed: {winners:?}");
}

#[test]
fn a_doubted_directory_has_no_vote_until_it_is_trusted() {
    let voter = Voter::open(NodeId(1), MemFs::new());
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
    let voter = Voter::open(NodeId(1), MemFs::new());
    let ballot = Ballot { round: 1, node: NodeId(2) };
    let next = Decree::replace(&first(VOTERS), &[], NodeId(2), NodeId(6)).expect("a replacement");
    let later = Decree::replace(&next.layout, &next.removed, NodeId(3), NodeId(7));
    let later = later.expect("a replacement").encode();
    let out = voter.acceptor.answer(BallotOp::Accept { epoch: 2, ballot, decree: later.clone() });
    assert!(matches!(out, BallotOut::MayNotVote(_)), "{out:?}");
    let out = voter.acceptor.answer(BallotOp::Accept { epoch: 3, ballot, decree: later });
    assert!(matches!(out, BallotOut::MayNotVote(_)), "{out:?}");
    let decree = next.encode();
    let out = voter.acceptor.answer(BallotOp::Accept { epoch: 2, ballot, decree });
    assert!(matches!(out, BallotOut::Accepted), "{out:?}");
}
