//! One decree for each epoch: single-decree Paxos among the previous layout's members.
//!
//! The acceptor stores its promise and what it accepted before it answers, so a restart forgets
//! neither. The proposer is one ballot of two rounds, without a clock or a network; a value that a
//! majority may have accepted is proposed again instead of its own. `campaign` says when to try
//! again. Two decrees of one epoch can't both be decided.
//!
//! What calls a change off must not be decided after that change is over, when somebody finds in an
//! acceptor what a proposer left there that died. So members *seal* a change before it is over:
//! when all have finished it, each notes durably that it votes for no abort of it any more, and
//! layouts retire when all members have said so. Who has accepted an abort does not seal until the
//! epoch is decided, and sees to it that it is (`held`). One that was found in an acceptor is voted
//! for always: it may be decided.
//!
//! Invariant: where an older layout has retired, no acceptor holds, or will hold, a decree that
//! gives back what the newest changed.
//!
//! A directory that may be old (a restored backup) may have forgotten a promise, so it has no vote
//! until somebody has found out that it is not (`doubt`).
//!
//! (Lamport, "Paxos Made Simple", 2001.)

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use kv_client::NodeId;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::decree::{Change, Decided, Decree};
use super::meta::MetaStore;
use super::state::ClusterState;
use super::view::{SharedView, View};
use super::wire::{Ballot, BallotOp, BallotOut};

#[cfg(test)]
mod tests;

/// The epoch that is being decided: there is never more than one.
const PROMISE_FACT: &str = "ballot";

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
    /// Why this directory has no vote for now.
    doubt: Mutex<Option<String>>,
    /// What it accepted last, and for which epoch.
    accepted: Mutex<Option<(u64, Bytes)>>,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl Acceptor {
    /// The acceptor over the directory's facts.
    pub fn new(state: Arc<ClusterState>, view: Arc<SharedView>) -> Self {
        let meta = Arc::clone(state.meta());
        // One that can't be read is refused when it is asked for.
        let fact = meta.load(PROMISE_FACT).ok().flatten();
        let stored = fact.and_then(|fact| postcard::from_bytes::<Promise>(&fact).ok());
        let accepted = stored.and_then(|stored| {
            stored.accepted.map(|(_, decree)| (stored.epoch, Bytes::from(decree)))
        });
        let accepted = Mutex::new(accepted);
        Self { meta, state, view, voting: Mutex::new(()), doubt: Mutex::default(), accepted }
    }

    /// The decree that this directory has accepted and that calls off the newest layout's change,
    /// if there is one: it may be decided, or not.
    pub fn held(&self) -> Option<Decree> {
        let epoch = self.view.now().epoch().checked_add(1)?;
        let accepted = self.accepted.lock().clone().filter(|(of, _)| *of == epoch)?;
        let decree = Decree::decode(&accepted.1)?;
        (decree.change == Change::Abort).then_some(decree)
    }

    /// Votes for nothing new that calls off what layout `epoch` changed, for good; not while it
    /// holds such a decree. Says whether it is so. Blocks on the disk.
    ///
    /// # Errors
    /// It can't be stored.
    pub fn seal(&self, epoch: u64) -> io::Result<bool> {
        let _one = self.voting.lock();
        if self.view.now().epoch() != epoch || self.held().is_some() {
            return Ok(false);
        }
        self.state.seal(epoch)?;
        Ok(true)
    }

    /// Takes this directory's vote away while it may be old, and says why; `None` gives it back.
    pub fn doubt(&self, why: Option<String>) {
        *self.doubt.lock() = why;
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
        let (BallotOp::Prepare { epoch, .. }
        | BallotOp::Accept { epoch, .. }
        | BallotOp::Learn { epoch, .. }) = op;
        let view = self.view.now();
        if let Some(decided) = self.decided(&view, epoch) {
            return Ok(BallotOut::Decided { decided: decided.encode() });
        }
        if let Some(why) = self.no_vote(&view, epoch) {
            return Ok(BallotOut::MayNotVote(why));
        }
        let mut promise = self.promise(epoch)?;
        match op {
            BallotOp::Prepare { ballot, .. } => {
                if ballot <= promise.promised {
                    return Ok(BallotOut::Rejected { promised: promise.promised });
                }
                promise.promised = ballot;
                self.store(&promise)?;
                let accepted = promise.accepted.map(|(ballot, decree)| (ballot, decree.into()));
                Ok(BallotOut::Promised { accepted })
            }
            BallotOp::Accept { ballot, decree, found, .. } => {
                if ballot < promise.promised {
                    return Ok(BallotOut::Rejected { promised: promise.promised });
                }
                let sealed = self.state.sealed() >= view.epoch();
                if let Err(why) = check(&view, &decree, sealed && !found) {
                    return Ok(BallotOut::MayNotVote(why));
                }
                promise.promised = ballot;
                promise.accepted = Some((ballot, decree.to_vec()));
                self.store(&promise)?;
                *self.accepted.lock() = Some((epoch, decree));
                Ok(BallotOut::Accepted)
            }
            BallotOp::Learn { .. } => Ok(BallotOut::MayNotVote("an outcome is no ballot".into())),
        }
    }

    fn decided(&self, view: &View, epoch: u64) -> Option<Decided> {
        view.layouts.as_ref()?.layout(epoch)?;
        self.state.decided_after(epoch.checked_sub(1)?).into_iter().next()
    }

    /// Why this node has no vote on an epoch, if it has none.
    fn no_vote(&self, view: &View, epoch: u64) -> Option<String> {
        let Some(layouts) = view.layouts.as_ref() else { return Some("no layout yet".into()) };
        let newest = layouts.newest();
        if epoch != newest.epoch() + 1 || !newest.contains(view.me) {
            let newest = newest.epoch();
            return Some(format!("the members of epoch {newest} do not decide epoch {epoch}"));
        }
        self.doubt.lock().clone()
    }

    fn promise(&self, epoch: u64) -> io::Result<Promise> {
        let fresh = Promise { epoch, ..Promise::default() };
        let Some(fact) = self.meta.load(PROMISE_FACT)? else { return Ok(fresh) };
        let stored: Promise = postcard::from_bytes(&fact).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, "a stored promise is not one")
        })?;
        // One of an epoch that is decided by now binds nobody any more.
        Ok(if stored.epoch == epoch { stored } else { fresh })
    }

    fn store(&self, promise: &Promise) -> io::Result<()> {
        let bytes = postcard::to_allocvec(promise).map_err(io::Error::other)?;
        self.meta.store(PROMISE_FACT, &bytes)
    }
}

/// Why a decree may not follow what this node knows. But for what is sealed, who had no objection
/// has none later: else a decided one could be stuck.
fn check(view: &View, decree: &[u8], sealed: bool) -> Result<(), String> {
    let Some(layouts) = view.layouts.as_ref() else { return Err("no layout yet".into()) };
    let Some(decree) = Decree::decode(decree) else { return Err("not a decree".into()) };
    decree.check(layouts.newest(), &view.removed).map_err(|error| error.to_string())?;
    if layouts.in_transition() && !decree.change.may_overtake() {
        return Err("another change is under way".into());
    }
    if sealed && decree.change == Change::Abort {
        return Err("the change is over: all have finished it".into());
    }
    let live = layouts.live().len();
    if live > decree.change.live_before_max() {
        return Err(format!("{live} layouts are live: let one retire first"));
    }
    Ok(())
}

/// Where one ballot stands; the caller carries the messages.
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
    Decided(Decided),
}

impl Proposer {
    /// A ballot for `decree` in `epoch` among `members` voters.
    pub fn new(epoch: u64, ballot: Ballot, members: usize, decree: Bytes) -> Self {
        Self {
            epoch,
            ballot,
            majority: members / 2 + 1,
            value: decree,
            highest: None,
            promises: Vec::new(),
            acceptances: Vec::new(),
        }
    }

    /// The first message.
    pub fn begin(&self) -> BallotOp {
        BallotOp::Prepare { epoch: self.epoch, ballot: self.ballot }
    }

    /// Takes one voter's answer to this ballot.
    pub fn on_answer(&mut self, from: NodeId, out: BallotOut) -> ProposerStep {
        match out {
            BallotOut::Promised { accepted } => {
                if self.promises.contains(&from) || self.promises.len() >= self.majority {
                    return ProposerStep::Wait;
                }
                self.promises.push(from);
                if let Some((ballot, decree)) = accepted
                    && self.highest.is_none_or(|highest| ballot > highest)
                {
                    self.highest = Some(ballot);
                    self.value = decree;
                }
                if self.promises.len() < self.majority {
                    return ProposerStep::Wait;
                }
                ProposerStep::Send(BallotOp::Accept {
                    epoch: self.epoch,
                    ballot: self.ballot,
                    decree: self.value.clone(),
                    found: self.highest.is_some(),
                })
            }
            BallotOut::Accepted => {
                if self.promises.len() < self.majority || self.acceptances.contains(&from) {
                    return ProposerStep::Wait;
                }
                self.acceptances.push(from);
                if self.acceptances.len() != self.majority {
                    return ProposerStep::Wait;
                }
                ProposerStep::Decided(Decided {
                    decree: self.value.clone(),
                    ballot: self.ballot,
                    voters: self.acceptances.clone(),
                })
            }
            // A message that came twice is answered so too.
            BallotOut::Rejected { promised } if promised <= self.ballot => ProposerStep::Wait,
            BallotOut::Rejected { promised } => ProposerStep::Retry(promised),
            BallotOut::Decided { decided } => {
                Decided::decode(&decided).map_or(ProposerStep::Wait, ProposerStep::Decided)
            }
            BallotOut::MayNotVote(_) => ProposerStep::Wait,
        }
    }
}
