//! One layout for each epoch: single-decree Paxos among the previous layout's members.
//!
//! The acceptor stores its promise and what it accepted before it answers, so a restart forgets
//! neither. The proposer is a plain loop over two rounds; a value that a majority may have accepted
//! is proposed again instead of its own. Two layouts with one epoch can't both be decided.
//!
//! (Lamport, "Paxos Made Simple", 2001. Planned changes and transitions between layouts build on
//! this; here one value is decided for each epoch.)

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use kv_client::NodeId;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::meta::MetaStore;
use super::state::{ClusterState, decode_layout, encode_layout};
use super::view::SharedView;
use super::wire::{Ballot, BallotOp, BallotOut};

/// What the acceptor remembers of one epoch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Promise {
    epoch: u64,
    promised: Ballot,
    accepted: Option<(Ballot, Vec<u8>)>,
}

/// The acceptor of this directory.
pub struct Acceptor {
    meta: Arc<MetaStore>,
    state: Arc<ClusterState>,
    view: Arc<SharedView>,
    voting: Mutex<()>,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl Acceptor {
    /// The acceptor over the directory's facts.
    pub fn new(state: Arc<ClusterState>, view: Arc<SharedView>) -> Self {
        Self { meta: Arc::clone(state.meta()), state, view, voting: Mutex::new(()) }
    }

    /// Answers one ballot step. Blocks on the disk.
    pub fn answer(&self, op: BallotOp) -> BallotOut {
        let _one = self.voting.lock();
        match self.vote(op) {
            Ok(out) => out,
            Err(error) => BallotOut::MayNotVote(format!("the promise can't be stored: {error}")),
        }
    }

    fn vote(&self, op: BallotOp) -> io::Result<BallotOut> {
        let epoch = match &op {
            BallotOp::Prepare { epoch, .. }
            | BallotOp::Accept { epoch, .. }
            | BallotOp::Learn { epoch, .. } => *epoch,
        };
        let view = self.view.now();
        let Some(layouts) = view.layouts.as_ref() else {
            return Ok(BallotOut::MayNotVote("no layout yet".into()));
        };
        if let Some(decided) = layouts.layout(epoch) {
            return Ok(BallotOut::Decided { layout: encode_layout(decided).into() });
        }
        let newest = layouts.newest();
        if epoch != newest.epoch() + 1 || !newest.contains(view.me) {
            return Ok(BallotOut::MayNotVote(format!(
                "epoch {epoch} is not decided by the members of epoch {}",
                newest.epoch()
            )));
        }
        let mut promise = self.promise(epoch)?;
        match op {
            BallotOp::Prepare { ballot, .. } => {
                if ballot <= promise.promised {
                    return Ok(BallotOut::Rejected { promised: promise.promised });
                }
                promise.promised = ballot;
                self.store(&promise)?;
                let accepted = promise.accepted.map(|(ballot, layout)| (ballot, layout.into()));
                Ok(BallotOut::Promised { accepted })
            }
            BallotOp::Accept { ballot, layout, .. } => {
                if ballot < promise.promised {
                    return Ok(BallotOut::Rejected { promised: promise.promised });
                }
                if decode_layout(&layout).is_none_or(|layout| layout.epoch() != epoch) {
                    return Ok(BallotOut::MayNotVote("not a layout of this epoch".into()));
                }
                promise.promised = ballot;
                promise.accepted = Some((ballot, layout.to_vec()));
                self.store(&promise)?;
                Ok(BallotOut::Accepted)
            }
            BallotOp::Learn { layout, .. } => {
                let Some(decided) = decode_layout(&layout) else {
                    return Ok(BallotOut::MayNotVote("not a layout".into()));
                };
                self.state.push_layout(decided)?;
                Ok(BallotOut::Accepted)
            }
        }
    }

    fn promise(&self, epoch: u64) -> io::Result<Promise> {
        let Some(fact) = self.meta.load(&name(epoch))? else {
            return Ok(Promise { epoch, ..Promise::default() });
        };
        postcard::from_bytes(&fact)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a stored promise is not one"))
    }

    fn store(&self, promise: &Promise) -> io::Result<()> {
        let bytes = postcard::to_allocvec(promise).map_err(io::Error::other)?;
        self.meta.store(&name(promise.epoch), &bytes)
    }
}

fn name(epoch: u64) -> String {
    format!("ballot-{epoch}")
}

/// Where a proposer stands; the caller carries the messages.
#[derive(Debug)]
pub struct Proposer {
    epoch: u64,
    ballot: Ballot,
    majority: usize,
    value: Bytes,
    highest: Option<Ballot>,
    promises: Vec<NodeId>,
    acceptances: Vec<NodeId>,
}

/// What a proposer wants done.
#[derive(Debug)]
pub enum ProposerStep {
    /// Wait for more answers.
    Wait,
    /// Send this to all members of the previous layout.
    Send(BallotOp),
    /// A higher ballot is about: start again above it, after a pause.
    Retry(Ballot),
    /// Decided: tell everybody.
    Decided(Bytes),
}

impl Proposer {
    /// A proposer of `layout` for `epoch` among `members` voters.
    pub fn new(epoch: u64, ballot: Ballot, members: usize, layout: Bytes) -> Self {
        Self {
            epoch,
            ballot,
            majority: members / 2 + 1,
            value: layout,
            highest: None,
            promises: Vec::new(),
            acceptances: Vec::new(),
        }
    }

    /// The first message.
    pub fn begin(&self) -> BallotOp {
        BallotOp::Prepare { epoch: self.epoch, ballot: self.ballot }
    }

    /// Takes one voter's answer.
    pub fn on_answer(&mut self, from: NodeId, out: BallotOut) -> ProposerStep {
        match out {
            BallotOut::Promised { accepted } => {
                if self.promises.contains(&from) || self.promises.len() >= self.majority {
                    return ProposerStep::Wait;
                }
                self.promises.push(from);
                if let Some((ballot, layout)) = accepted
                    && self.highest.is_none_or(|highest| ballot > highest)
                {
                    self.highest = Some(ballot);
                    self.value = layout;
                }
                if self.promises.len() < self.majority {
                    return ProposerStep::Wait;
                }
                ProposerStep::Send(BallotOp::Accept {
                    epoch: self.epoch,
                    ballot: self.ballot,
                    layout: self.value.clone(),
                })
            }
            BallotOut::Accepted => {
                if self.promises.len() < self.majority || self.acceptances.contains(&from) {
                    return ProposerStep::Wait;
                }
                self.acceptances.push(from);
                if self.acceptances.len() == self.majority {
                    ProposerStep::Decided(self.value.clone())
                } else {
                    ProposerStep::Wait
                }
            }
            BallotOut::Rejected { promised } => ProposerStep::Retry(promised),
            BallotOut::Decided { layout } => ProposerStep::Decided(layout),
            BallotOut::MayNotVote(_) => ProposerStep::Wait,
        }
    }
}
