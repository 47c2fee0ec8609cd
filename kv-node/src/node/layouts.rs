//! Layouts as a node lives with them: it learns newer ones, finishes them, retires older ones.
//!
//! A newer layout is heard of from an envelope, a refusal, a proposer or gossip, and is taken only
//! with its proof. Partitions that begin with it get a new tenure, and this node is a newcomer
//! there, of which nothing is stored (`leftovers.rs`), before anybody here can act by it. A node
//! says "finished" when it is a newcomer nowhere and nothing that began under an older layout is
//! under way in it; when every node of any live layout has said so, save those that were removed,
//! the members seal it: it can't be called off any more (`cluster/commit`). Then the older layouts
//! retire, everywhere: where one member has retired them, the others may.
//!
//! ```text
//! epoch 7 ──────────── live ──────────────────────────────────────────┐ retires: all have sealed 8
//! epoch 8       decided ── learned ── filled, settled ── finished ── sealed ────────────────
//! ```
//!
//! (Garage's layout history and Cassandra's CEP-21 are the models.)
//!
//! Invariant: a call about data is served only when caller and callee know the same newest layout.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kv_client::NodeId;
use kv_quorum::HybridTime;
use kv_ring::{Partition, PartitionCount};

use super::change::CHANGE_MS_MAX;
use super::{Inner, Serving};
use crate::cluster::changes::Changed;
use crate::cluster::decree::{Decided, Decree};
use crate::cluster::membership::LayoutsSeen;
use crate::cluster::view::View;
use crate::cluster::wire::{BirthOp, BirthOut};
use crate::teeth::{Bug, planted};
use crate::wire::{Envelope, PeerOp, PeerOut, Refusal};
use crate::worker::Worker;

/// Fetching layouts may wait for the peer's disk.
const FETCH_MS_MAX: u64 = 1_000;
/// Operations under older layouts are waited for so long at most.
const SETTLE_MS_MAX: u64 = 2_000;
/// Rest between two looks at them.
const SETTLE_REST_MS: u64 = 5;
/// Rest between two looks at what can be finished or retired.
const LAYOUTS_REST_MS: u64 = 100;
/// A proposer has so long to have decided what this node accepted; then this node sees to it.
const HELD_MS_MAX: u64 = CHANGE_MS_MAX + 5_000;
/// It tries for so long at a time.
const HELD_BALLOTS_MS_MAX: u64 = 2_000;

/// The newest epoch that an envelope names; 0 for none.
pub(super) fn newest_in(envelope: &Envelope) -> u64 {
    envelope.layouts.iter().map(|name| name.epoch).max().unwrap_or(0)
}

impl Inner {
    /// Takes decided layouts, oldest first, as far as they are new and proven.
    ///
    /// # Errors
    /// Why one can't be taken; those before it are.
    pub(super) async fn take_decided(self: &Arc<Self>, decided: Vec<Decided>) -> io::Result<()> {
        let _one = self.taking.lock().await;
        self.make_way(&decided).await?;
        let node = Arc::clone(self);
        let at_ms = self.clock.wall_ms();
        let taken = self
            .blocking(move || {
                let Some(serving) = node.serving() else {
                    return Err(io::Error::other("this node does not serve yet"));
                };
                decided.iter().try_for_each(|decided| {
                    let before = node.view.now();
                    node.state.take(decided, |count, beginning| {
                        node.refine(&serving, count);
                        let none = if planted(Bug::NeverFilled) { 0 } else { usize::MAX };
                        for partition in beginning.iter().take(none) {
                            let standings = serving.replica.standings();
                            standings.lost(*partition);
                            let loss = standings.losses(*partition);
                            node.begun_here.lock().insert(*partition, loss);
                            serving.replica.exchanged().forget(*partition);
                        }
                        serving.dots.begin_tenures(beginning)
                    })?;
                    node.note_change(&before, decided, at_ms);
                    Ok(())
                })
            })
            .await;
        self.refuse_removed();
        taken
    }

    /// What is kept by partition here is kept by so many from now on, if that is more. Not undone
    /// where the layout can't be stored then: a count finer than the layout's serves it as well.
    fn refine(&self, serving: &Serving, count: PartitionCount) {
        if count <= serving.replica.standings().partitions() {
            return;
        }
        serving.replica.refine(count);
        serving.dots.refine(count);
        let mut begun = self.begun_here.lock();
        let whole = |part: Partition| {
            let mut known = begun.iter().filter(|(known, _)| known.count() <= count);
            known.find(|(known, _)| part.under(known.count()) == Some(**known))
        };
        let inherited = count.iter().filter_map(|part| Some((part, *whole(part)?.1)));
        *begun = inherited.collect();
    }

    /// Remembers what a layout that was just taken changed. Blocks.
    fn note_change(&self, before: &View, decided: &Decided, at_ms: u64) {
        let Some(layouts) = &before.layouts else { return };
        let decree = Decree::decode(&decided.decree);
        let newer = decree.filter(|decree| decree.layout.epoch() > before.epoch());
        let changed = newer.map(|decree| Changed::of(layouts.newest(), &decree, at_ms));
        if let Some(changed) = changed
            && let Err(error) = self.changes.note(changed)
        {
            tracing::warn!(%error, "a change is not remembered over a restart");
        }
    }

    /// Nothing is sent to removed nodes, and nothing is heard of them.
    pub(super) fn refuse_removed(&self) {
        let view = self.view.now();
        for node in view.removed.iter().filter(|node| **node != view.me) {
            self.membership.refuse(self.clock.steady_ms(), *node);
            if let Some(peers) = self.peers.get() {
                peers.remove(*node);
            }
        }
    }

    /// This node was told that it is removed: it serves no more.
    pub(super) fn note_removed(&self) {
        let me = self.view.now().me;
        if self.view.now().is_removed(me) {
            return;
        }
        tracing::error!("this node was removed from its cluster for good: it serves no more");
        self.view.publish(|view| {
            let removed: BTreeSet<NodeId> = view.removed.iter().copied().chain([me]).collect();
            view.removed = removed.into_iter().collect();
        });
    }

    /// Fetches and takes the layouts that `from` knows, up to `epoch` at least, unless they are
    /// known by now. Says whether they are.
    pub(super) async fn catch_up(self: &Arc<Self>, from: NodeId, epoch: u64) -> bool {
        let _one = self.fetching.lock().await;
        if self.view.now().epoch() >= epoch {
            return true;
        }
        let fetch = PeerOp::Birth(BirthOp::Fetch);
        let Ok(PeerOut::Birth(BirthOut::State { decided, flushed, .. })) =
            self.ask_node(from, fetch, FETCH_MS_MAX).await
        else {
            return false;
        };
        let decided = decided.iter().filter_map(|bytes| Decided::decode(bytes)).collect();
        if let Err(error) = self.take_decided(decided).await {
            tracing::warn!(%from, %error, "newer layouts can't be taken");
        }
        self.take_flush(HybridTime::from_bits(flushed)).await;
        self.view.now().epoch() >= epoch
    }

    /// Looks at what a peer knows of layouts, as its answer tells, and follows if it knows more.
    pub(super) fn note_layouts(
        self: &Arc<Self>,
        from: NodeId,
        envelope: &Envelope,
        refusal: Option<&Refusal>,
    ) {
        let node = Arc::clone(self);
        match refusal {
            Some(Refusal::StaleLayout { decided }) => {
                let decided: Vec<Decided> =
                    decided.iter().filter_map(|bytes| Decided::decode(bytes)).collect();
                self.exec.spawn(Box::pin(async move {
                    if let Err(error) = node.take_decided(decided).await {
                        tracing::warn!(%from, %error, "newer layouts can't be taken");
                    }
                }));
            }
            Some(Refusal::Removed) => self.note_removed(),
            _ => {
                let theirs = newest_in(envelope);
                let own = self.view.now().epoch();
                // An empty node has no layouts to be behind with: birth fetches its first.
                if own == 0 || theirs <= own || self.catching_up.swap(true, Ordering::AcqRel) {
                    return;
                }
                self.exec.spawn(Box::pin(async move {
                    node.catch_up(from, theirs).await;
                    node.catching_up.store(false, Ordering::Release);
                }));
            }
        }
    }

    /// The encoded layouts after `epoch`.
    pub(super) fn decided_after(&self, epoch: u64) -> Vec<Bytes> {
        self.state.decided_after(epoch).iter().map(Decided::encode).collect()
    }

    /// Waits until nothing that began under older layouts is under way here; says whether that is
    /// so. A newcomer's source must wait for it: what it is asked for must be there by then.
    pub(super) async fn settled(&self) -> bool {
        let until_ms = self.clock.steady_ms() + SETTLE_MS_MAX;
        while !self.view.is_settled() {
            if self.clock.steady_ms() >= until_ms {
                return false;
            }
            self.clock.sleep(Duration::from_millis(SETTLE_REST_MS)).await;
        }
        true
    }

    /// The partitions that this node holds in the newest layout and is a newcomer of. What only a
    /// layout gave it that was called off or overtaken, nobody waits for.
    pub(super) fn unfilled(&self, view: &View) -> usize {
        let (Some(serving), Some(layouts)) = (self.serving(), &view.layouts) else { return 0 };
        let newcomers = serving.replica.standings().newcomers().into_iter();
        let newest = layouts.newest();
        newcomers.filter(|newcomer| newest.owns(view.me, newcomer.partition)).count()
    }

    /// Whether this node is about to be no member and keeps hints: its floor speaks for them, and
    /// is asked for while it is one. A mark above them would make what they hold dead.
    fn leaves_with_hints(&self, view: &View) -> bool {
        let leaves = view.layouts.as_ref().is_some_and(|layouts| {
            !layouts.newest().contains(view.me)
                && layouts.live().any(|layout| layout.contains(view.me))
        });
        leaves && self.serving().is_some_and(|serving| serving.replica.hints().may_have_some())
    }

    /// Says "finished" for the newest layout, if that is so now.
    async fn finish_if_done(self: &Arc<Self>) {
        let view = self.view.now();
        let epoch = view.epoch();
        let done = self.state.finished() < epoch
            && self.unfilled(&view) == 0
            && !self.leaves_with_hints(&view)
            && self.view.is_settled()
            && self.view.now().epoch() == epoch;
        if !done {
            return;
        }
        drop(view);
        let node = Arc::clone(self);
        if let Err(error) = self.blocking(move || node.state.finish(epoch)).await {
            tracing::error!(%error, epoch, "a finished layout can't be noted");
        }
    }

    /// Seals the newest layout when everybody has finished it (`cluster/commit`).
    async fn seal_if_finished(self: &Arc<Self>, said: &BTreeMap<NodeId, LayoutsSeen>) {
        let view = self.view.now();
        let epoch = view.epoch();
        let moves = view.layouts.as_ref().is_some_and(|layouts| layouts.in_transition());
        let all_finished = all(concerned(&view), said, |said| said.finished >= epoch);
        if !moves || !all_finished || self.state.sealed() >= epoch {
            return;
        }
        drop(view);
        let node = Arc::clone(self);
        if let Err(error) = self.blocking(move || node.acceptor.seal(epoch)).await {
            tracing::error!(%error, epoch, "that a change is over can't be noted");
        }
    }

    /// Has an epoch decided for which this node holds what calls the newest change off, and whose
    /// proposer has had its time: nobody seals meanwhile.
    async fn decide_what_is_held(self: &Arc<Self>) {
        let Some(held) = self.acceptor.held() else {
            self.held_since_ms.store(0, Ordering::Relaxed);
            return;
        };
        let now_ms = self.clock.steady_ms().max(1);
        let since_ms = self.held_since_ms.load(Ordering::Relaxed);
        if since_ms == 0 {
            self.held_since_ms.store(now_ms, Ordering::Relaxed);
            return;
        }
        if now_ms < since_ms.saturating_add(HELD_MS_MAX) {
            return;
        }
        // Who proposes here now completes it.
        let Ok(_one) = self.changing.try_lock() else { return };
        self.held_since_ms.store(now_ms, Ordering::Relaxed);
        let view = self.view.now();
        if held.layout.epoch() != view.epoch() + 1 {
            return;
        }
        let ended = match self.decide(&view, &held, now_ms + HELD_BALLOTS_MS_MAX).await {
            Ok(decided) => {
                drop(view);
                self.enact(decided).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "what a proposer left is not decided yet");
        }
    }

    async fn retire_what_is_over(self: &Arc<Self>, said: &BTreeMap<NodeId, LayoutsSeen>) {
        let view = self.view.now();
        let Some(epoch) = over_before(&view, said).max(retired_before(&view, said)) else { return };
        drop(view);
        self.let_go_of_what_goes_with(epoch);
        let node = Arc::clone(self);
        match self.blocking(move || node.state.retire_before(epoch)).await {
            Ok(()) => tracing::info!(epoch, "the layouts before it are retired"),
            Err(error) => tracing::error!(%error, epoch, "older layouts can't be retired"),
        }
    }

    /// The layouts before `epoch` are about to retire: in what only they give this node it is no
    /// replica from then on, and mints as a fallback, under a new tenure.
    fn let_go_of_what_goes_with(&self, epoch: u64) {
        let view = self.view.now();
        let (Some(serving), Some(layouts)) = (self.serving(), &view.layouts) else { return };
        for partition in layouts.newest().partitions().iter() {
            let (mut stays, mut goes) = (false, false);
            for layout in layouts.live() {
                let held = layout.owns(view.me, partition);
                stays |= held && layout.epoch() >= epoch;
                goes |= held && layout.epoch() < epoch;
            }
            if goes && !stays {
                serving.dots.let_go(partition);
            }
        }
    }

    /// How far this node has got with layouts.
    pub(super) fn layouts_seen(&self) -> LayoutsSeen {
        let view = self.view.now();
        let live = view.layouts.iter().flat_map(|layouts| layouts.live());
        LayoutsSeen {
            seen: view.epoch(),
            finished: self.state.finished(),
            sealed: self.state.sealed(),
            oldest: live.map(|layout| layout.epoch()).min().unwrap_or(0),
        }
    }
}

/// Who has to finish before layouts retire.
pub(super) fn concerned(view: &View) -> BTreeSet<NodeId> {
    let members = view.layouts.iter().flat_map(|layouts| layouts.live());
    members
        .flat_map(|layout| layout.members().iter().copied())
        .filter(|node| !view.is_removed(*node))
        .collect()
}

/// The newest live layout that everybody concerned has finished, if there are older ones. The
/// newest of all only when its members have sealed it: it could still be called off.
fn over_before(view: &View, said: &BTreeMap<NodeId, LayoutsSeen>) -> Option<u64> {
    let layouts = view.layouts.as_ref().filter(|layouts| layouts.in_transition())?;
    let (newest, concerned) = (layouts.newest(), concerned(view));
    let members = || newest.members().iter().copied();
    let is_over = |epoch: &u64| {
        let finished = all(concerned.iter().copied(), said, |said| said.finished >= *epoch);
        let is_newest = *epoch == newest.epoch();
        finished && (!is_newest || all(members(), said, |said| said.sealed >= *epoch))
    };
    let over = layouts.live().map(|layout| layout.epoch()).find(is_over)?;
    layouts.live().any(|layout| layout.epoch() < over).then_some(over)
}

/// The oldest layout that is live for some member, if older ones are live here. Who has retired
/// them knew that everybody had finished, which stays so: a node that was concerned may be gone
/// since, and forgotten. Said by members that know the same newest layout, and no other.
fn retired_before(view: &View, said: &BTreeMap<NodeId, LayoutsSeen>) -> Option<u64> {
    let layouts = view.layouts.as_ref().filter(|layouts| layouts.in_transition())?;
    let newest = layouts.newest();
    let members = newest.members().iter().filter_map(|node| said.get(node));
    let oldest =
        members.filter(|said| said.seen == newest.epoch()).map(|said| said.oldest).max()?;
    let is_live = layouts.layout(oldest).is_some();
    (is_live && layouts.live().any(|layout| layout.epoch() < oldest)).then_some(oldest)
}

fn all(
    nodes: impl IntoIterator<Item = NodeId>,
    said: &BTreeMap<NodeId, LayoutsSeen>,
    is_so: impl Fn(LayoutsSeen) -> bool,
) -> bool {
    nodes.into_iter().all(|node| is_so(said.get(&node).copied().unwrap_or_default()))
}

/// Follows layouts that others know, finishes, retires.
pub(super) struct LayoutLoop(pub(super) Arc<Inner>);

#[async_trait]
impl Worker for LayoutLoop {
    fn name(&self) -> &'static str {
        "layouts"
    }

    fn status(&self) -> String {
        let (seen, view) = (self.0.layouts_seen(), self.0.view.now());
        if view.layouts.as_ref().is_none_or(|layouts| !layouts.in_transition()) {
            return format!("epoch {}, stable", seen.seen);
        }
        let finished = if seen.finished == seen.seen { "finished here" } else { "under way here" };
        format!("epoch {}, {finished}, {} partitions to fill", seen.seen, self.0.unfilled(&view))
    }

    async fn step(&self) -> Option<Duration> {
        let node = &self.0;
        let own = node.view.now();
        if node.serving().is_some() && !own.is_removed(own.me) {
            let epoch = own.epoch();
            drop(own);
            let said = node.membership.layouts_seen();
            if let Some((from, said)) = said.iter().max_by_key(|(_, said)| said.seen)
                && said.seen > epoch
            {
                node.catch_up(*from, said.seen).await;
            }
            node.finish_if_done().await;
            node.decide_what_is_held().await;
            node.seal_if_finished(&node.membership.layouts_seen()).await;
            node.membership.publish_layouts(node.layouts_seen());
            node.tell_transfers(&node.view.now());
            node.retire_what_is_over(&node.membership.layouts_seen()).await;
        }
        Some(Duration::from_millis(LAYOUTS_REST_MS))
    }
}

#[cfg(test)]
mod tests {
    use kv_ring::{AutoClaim, History, Layout};

    use super::*;
    use crate::cluster::decree::tests::first;

    /// Node 4 leaves.
    fn leaving(me: u64) -> View {
        let before = first(4);
        let mut members = before.topology();
        members.remove(NodeId(4));
        let next = Layout::next(&before, &members, 3, &AutoClaim).expect("three nodes");
        let mut layouts = History::new(before);
        layouts.push(next).expect("a later one");
        let mut view = View::empty(NodeId(me));
        view.layouts = Some(Arc::new(layouts));
        view
    }

    fn said(of: &[(u64, [u64; 4])]) -> BTreeMap<NodeId, LayoutsSeen> {
        let said = |[seen, finished, sealed, oldest]: [u64; 4]| LayoutsSeen {
            seen,
            finished,
            sealed,
            oldest,
        };
        of.iter().map(|(node, numbers)| (NodeId(*node), said(*numbers))).collect()
    }

    #[test]
    fn a_layout_retires_when_all_have_finished_and_the_members_have_sealed_the_next() {
        let (view, done) = (leaving(1), [2, 2, 2, 1]);
        let over = |of: &[(u64, [u64; 4])]| over_before(&view, &said(of));
        assert_eq!(over(&[(1, done), (2, done), (3, done), (4, [2, 2, 0, 1])]), Some(2));
        assert_eq!(over(&[(1, done), (2, done), (3, [2, 2, 1, 1]), (4, done)]), None, "unsealed");
        assert_eq!(over(&[(1, done), (2, done), (3, done), (4, [2, 1, 0, 1])]), None);
        assert_eq!(over(&[(1, done), (2, done), (3, done)]), None, "node 4 has said nothing");
    }

    #[test]
    fn who_came_back_after_a_leaver_was_forgotten_believes_a_member_that_has_retired() {
        let view = leaving(3);
        let retired = |of: &[(u64, [u64; 4])]| retired_before(&view, &said(of));
        // Node 4 was ended, and nobody keeps what it said.
        let (me, other) = ((3, [2, 2, 2, 1]), [2, 2, 2, 2]);
        assert_eq!(over_before(&view, &said(&[(1, other), (2, other), me])), None);
        assert_eq!(retired(&[(1, other), (2, [2, 2, 2, 1]), me]), Some(2));
        assert_eq!(retired(&[(1, [3, 2, 2, 2]), me]), None, "it knows another newest layout");
        assert_eq!(retired(&[(4, other), me]), None, "it is no member");
        assert_eq!(retired(&[(1, [2, 2, 2, 0]), me]), None, "it does not serve yet");
    }
}
