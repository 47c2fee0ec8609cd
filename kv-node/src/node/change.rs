//! Changes of the layout: a decree is made, ballots are held among the members, everybody is told.
//!
//! Any node may propose, several at once: each epoch has one outcome, and who finds that it is not
//! his looks again at what is left to change. Nothing here needs to end: a proposer that stops half
//! way leaves ballots that the next one completes or overtakes.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kv_client::NodeId;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Inner, Node};
use crate::cluster::campaign::Campaign;
use crate::cluster::commit::{Proposer, ProposerStep};
use crate::cluster::decree::{Change, Decided, Decree, REMOVED_IDS_MAX};
use crate::cluster::view::View;
use crate::cluster::wire::{Ballot, BallotOp, BallotOut, BirthOp, BirthOut, Newborn};
use crate::rpc::{Completion, PeerFailure, PeerResult, PeerSender, Pending};
use crate::wire::{PeerOp, PeerOut};

/// A change is given up after so long.
pub(super) const CHANGE_MS_MAX: u64 = 10_000;
/// A voter that has not answered by then does not count in the ballot.
const BALLOT_MS_MAX: u64 = 1_000;

/// Why a change was not made; unless it says so, nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeError {
    /// This node has no layout, or does not belong to the cluster any more.
    NotServing,
    /// The node to be replaced is not a member: it may have been replaced already.
    NotAMember(NodeId),
    /// The node to be replaced holds nothing in the newest layout, and older live ones name it:
    /// there is nothing to give to another. Give it up.
    HoldsNothing(NodeId),
    /// The node to be given up is a member: what it holds must go to another. Replace it.
    IsAMember(NodeId),
    /// The new node is a member already.
    AlreadyAMember(NodeId),
    /// The new node was removed once: give it an empty directory, and so a new identity.
    WasRemoved(NodeId),
    /// The new node belongs to a cluster: give it an empty directory.
    NotEmpty(NodeId),
    /// The new node is not known, or does not answer: start it with seeds in this cluster.
    Unreachable(NodeId),
    /// As many layouts are live, or as many ids removed, as may be: finish what is under way.
    TooMany(&'static str),
    /// No majority of the members voted in time: it is not known whether the change will be made.
    NoMajority {
        /// Why voters did not vote, as far as they said.
        refusals: Vec<(NodeId, String)>,
    },
    /// The change is decided, and this node can't store it.
    Storage(String),
    /// Another change is under way: nothing was changed. Wait until it is stable.
    UnderWay,
    /// The layout is not the one that the plan was made for any more: look at a new plan.
    Overtaken {
        /// The newest epoch.
        epoch: u64,
    },
    /// A node that is to leave is down: what only it holds would never be handed over. Start it,
    /// or have it replaced.
    Down(NodeId),
    /// Nothing is under way that could be called off.
    NothingUnderWay,
    /// It is called off already, and over when all have finished.
    CalledOff,
    /// What is under way can't be called off: a node was declared dead on top of it, and is
    /// refused for good.
    NotToBeUndone,
    /// There is no such placement, and why.
    Placement(String),
    /// There is a partition for each slot already.
    AtMost,
    /// Partitions were doubled, and are not put together again: nothing moves, and it is over as
    /// soon as all know of it.
    Doubled,
    /// A zone's name is too long, or not one that can be shown.
    ZoneName(String),
    /// Copies that stand in different zones, as far as there are enough, would stand in fewer.
    FewerZones {
        /// Copies of a partition.
        copies: usize,
        /// Zones with nodes that hold anything now,
        now: usize,
        /// and then.
        then: usize,
    },
}

impl std::fmt::Display for ChangeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotServing => f.write_str("this node does not serve a cluster"),
            Self::NotAMember(node) => write!(f, "{node} is not a member"),
            Self::HoldsNothing(node) => write!(
                f,
                "{node} holds nothing in the newest layout, so no node can take its places: give \
                 it up without one (kv cluster replace {node})"
            ),
            Self::IsAMember(node) => write!(
                f,
                "{node} is a member: name an empty node that takes its places (kv cluster replace \
                 {node} NEW)"
            ),
            Self::AlreadyAMember(node) => write!(f, "{node} is a member already"),
            Self::WasRemoved(node) => {
                write!(f, "{node} was removed for good: start it on an empty directory")
            }
            Self::NotEmpty(node) => {
                write!(f, "{node} belongs to a cluster: start it on an empty directory")
            }
            Self::Unreachable(node) => {
                write!(f, "{node} does not answer: start it with seeds in this cluster")
            }
            Self::TooMany(what) => write!(f, "too many {what}: let what is under way finish"),
            Self::NoMajority { refusals } => {
                f.write_str("no majority voted in time, it may still be decided; ask again")?;
                refusals.iter().try_for_each(|(node, why)| write!(f, "; {node}: {why}"))
            }
            Self::Storage(why) => write!(f, "decided, and not stored here: {why}"),
            Self::UnderWay => f.write_str("another change is under way: wait until it is stable"),
            Self::Overtaken { epoch } => {
                write!(f, "epoch {epoch} came since the plan was made: look at a new plan")
            }
            Self::Down(node) => {
                write!(f, "{node} is down and can't hand over: start it, or have it replaced")
            }
            Self::NothingUnderWay => f.write_str("no change is under way: nothing to call off"),
            Self::CalledOff => f.write_str(
                "it is called off already, and over when all have finished: kv cluster status \
                 tells whom it waits for",
            ),
            Self::NotToBeUndone => f.write_str(
                "it can't be called off: a node was declared dead on top of it, which is refused \
                 for good; kv cluster status tells whom it waits for",
            ),
            Self::Placement(why) => write!(f, "no such placement: {why}"),
            Self::AtMost => f.write_str("there is a partition for each slot already"),
            Self::Doubled => f.write_str(
                "a split can't be called off: nothing moves, and it is over as soon as all know it",
            ),
            Self::ZoneName(name) => {
                write!(f, "{name:?} is no zone's name: at most 64 bytes that can be shown")
            }
            Self::FewerZones { copies, now, then } => write!(
                f,
                "the {copies} copies of a partition could not stand in as many zones as now: \
                 {now} zones hold something now, {then} would then. Let other nodes join the zone \
                 that would be empty first"
            ),
        }
    }
}

impl std::error::Error for ChangeError {}

impl Node {
    /// Gives all that `old` holds and is to `new`, an empty node that knows this cluster. `old` is
    /// refused for good from then on, whether it runs or not. Answers the epoch of the layout in
    /// which it is so; asked twice, the second answer is the first.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn replace(&self, old: NodeId, new: NodeId) -> Result<u64, ChangeError> {
        self.inner.replace(old, new).await
    }
}

/// How a ballot ended.
enum BallotEnd {
    Decided(Decided),
    Lost(Option<Ballot>),
}

impl Inner {
    pub(super) async fn replace(
        self: &Arc<Self>,
        old: NodeId,
        new: NodeId,
    ) -> Result<u64, ChangeError> {
        let _one = self.changing.lock().await;
        let until_ms = self.clock.steady_ms() + CHANGE_MS_MAX;
        loop {
            let view = self.view.now();
            if let Some(epoch) = is_replaced(&view, old, new) {
                return Ok(epoch);
            }
            let decree = replacement(&view, old, new)?;
            if !self.is_empty(&view, new).await? {
                // It may be what an earlier attempt came to.
                self.catch_up(new, view.epoch() + 1).await;
                let now = self.view.now();
                return is_replaced(&now, old, new).ok_or(ChangeError::NotEmpty(new));
            }
            let decided = self.decide(&view, &decree, until_ms).await?;
            drop(view);
            self.enact(decided).await?;
        }
    }

    /// Whether `new` is there and has no cluster yet.
    async fn is_empty(&self, view: &View, new: NodeId) -> Result<bool, ChangeError> {
        Ok(!self.newborn(view, new).await?.has_record)
    }

    /// What a node that is there says of itself.
    pub(super) async fn newborn(&self, view: &View, new: NodeId) -> Result<Newborn, ChangeError> {
        if !view.is_up(new) {
            return Err(ChangeError::Unreachable(new));
        }
        let hello = PeerOp::Birth(BirthOp::Hello { me: self.birth.me() });
        match self.ask_node(new, hello, BALLOT_MS_MAX).await {
            Ok(PeerOut::Birth(BirthOut::Me(newborn))) => Ok(newborn),
            _ => Err(ChangeError::Unreachable(new)),
        }
    }

    /// Holds ballots for what follows the newest layout until one decides: for this decree, or for
    /// another that somebody proposed. None if this node learns of the outcome by another way.
    pub(super) async fn decide(
        self: &Arc<Self>,
        view: &View,
        decree: &Decree,
        until_ms: u64,
    ) -> Result<Option<Decided>, ChangeError> {
        let Some(layouts) = &view.layouts else { return Err(ChangeError::NotServing) };
        let voters = layouts.newest().members();
        let epoch = layouts.newest().epoch() + 1;
        let mut campaign = Campaign::new(epoch, view.me, voters.len(), decree.encode());
        loop {
            let mut refusals = Vec::new();
            let proposer = campaign.next_ballot();
            let outbid = match self.ballot(view, voters, proposer, &mut refusals).await {
                BallotEnd::Decided(decided) => return Ok(Some(decided)),
                BallotEnd::Lost(outbid) => outbid,
            };
            if self.clock.steady_ms() >= until_ms {
                return Err(ChangeError::NoMajority { refusals });
            }
            let rest_ms = campaign.lost(outbid, self.rng.next_u64());
            self.clock.sleep(Duration::from_millis(rest_ms)).await;
            if self.view.now().epoch() >= epoch {
                return Ok(None);
            }
        }
    }

    async fn ballot(
        self: &Arc<Self>,
        view: &View,
        voters: &[NodeId],
        mut proposer: Proposer,
        refusals: &mut Vec<(NodeId, String)>,
    ) -> BallotEnd {
        let ask_all = |op: BallotOp| -> FuturesUnordered<_> {
            voters.iter().map(|voter| self.ask_voter(view.me, *voter, op.clone())).collect()
        };
        let mut answers = ask_all(proposer.begin());
        while let Some((voter, answer)) = answers.next().await {
            let Some(answer) = answer else { continue };
            if let BallotOut::MayNotVote(why) = &answer {
                refusals.push((voter, why.clone()));
            }
            match proposer.on_answer(voter, answer) {
                ProposerStep::Wait => {}
                ProposerStep::Send(op) => answers = ask_all(op),
                ProposerStep::Retry(higher) => return BallotEnd::Lost(Some(higher)),
                ProposerStep::Decided(decided) => return BallotEnd::Decided(decided),
            }
        }
        BallotEnd::Lost(None)
    }

    async fn ask_voter(
        self: &Arc<Self>,
        me: NodeId,
        voter: NodeId,
        op: BallotOp,
    ) -> (NodeId, Option<BallotOut>) {
        if voter == me {
            let node = Arc::clone(self);
            return (voter, Some(self.blocking(move || node.acceptor.answer(op)).await));
        }
        match self.ask_node(voter, PeerOp::Ballot(op), BALLOT_MS_MAX).await {
            Ok(PeerOut::Ballot(out)) => (voter, Some(out)),
            _ => (voter, None),
        }
    }

    /// Takes what was decided and tells everybody. Without anything the epoch was decided
    /// meanwhile, and this node has learned it.
    pub(super) async fn enact(
        self: &Arc<Self>,
        decided: Option<Decided>,
    ) -> Result<(), ChangeError> {
        let Some(decided) = decided else { return Ok(()) };
        self.take_decided(vec![decided.clone()])
            .await
            .map_err(|error| ChangeError::Storage(error.to_string()))?;
        self.spread(&decided);
        Ok(())
    }

    /// Tells every member of any live layout; whoever does not hear it hears of it from others.
    fn spread(self: &Arc<Self>, decided: &Decided) {
        let view = self.view.now();
        let learn = BallotOp::Learn { epoch: view.epoch(), decided: decided.encode() };
        let others = super::layouts::concerned(&view).into_iter().filter(|node| *node != view.me);
        for other in others {
            let (node, op) = (Arc::clone(self), PeerOp::Ballot(learn.clone()));
            self.exec.spawn(Box::pin(async move {
                drop(node.ask_node(other, op, BALLOT_MS_MAX).await);
            }));
        }
    }

    /// One operation to one peer, by its sender.
    pub(super) async fn ask_node(&self, to: NodeId, op: PeerOp, ms_max: u64) -> PeerResult {
        let Some(peers) = self.peers.get() else { return Err(PeerFailure::NotConnected) };
        let (give, take) = oneshot::channel();
        let one = Arc::new(One(Mutex::new(Some(give))));
        let deadline_ms = self.clock.steady_ms() + ms_max;
        peers.submit(to, vec![Pending { op, slot: 0, to: one, deadline_ms }]);
        take.await.unwrap_or(Err(PeerFailure::NotConnected))
    }
}

/// Takes the one answer to one operation.
struct One(Mutex<Option<oneshot::Sender<PeerResult>>>);

impl Completion for One {
    fn complete(&self, _slot: u32, _from: NodeId, result: PeerResult) {
        if let Some(give) = self.0.lock().take() {
            drop(give.send(result));
        }
    }
}

/// The newest epoch, if `new` is a member and `old` was removed.
fn is_replaced(view: &View, old: NodeId, new: NodeId) -> Option<u64> {
    let newest = view.layouts.as_ref()?.newest();
    (view.is_removed(old) && newest.contains(new)).then(|| newest.epoch())
}

/// The decree that replaces `old` by `new` now.
fn replacement(view: &View, old: NodeId, new: NodeId) -> Result<Decree, ChangeError> {
    let Some(layouts) = &view.layouts else { return Err(ChangeError::NotServing) };
    if view.is_removed(view.me) {
        return Err(ChangeError::NotServing);
    }
    if view.is_removed(new) {
        return Err(ChangeError::WasRemoved(new));
    }
    if layouts.live().len() > (Change::Replace { old, new }).live_before_max() {
        return Err(ChangeError::TooMany("live layouts"));
    }
    if view.removed.len() >= REMOVED_IDS_MAX {
        return Err(ChangeError::TooMany("removed ids"));
    }
    let named = layouts.live().any(|layout| layout.contains(old)) && !view.is_removed(old);
    Decree::replace(layouts.newest(), &view.removed, old, new).map_err(|error| match error {
        kv_ring::Error::AlreadyAMember => ChangeError::AlreadyAMember(new),
        _ if named => ChangeError::HoldsNothing(old),
        _ => ChangeError::NotAMember(old),
    })
}
