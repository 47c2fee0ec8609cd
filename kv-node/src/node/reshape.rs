//! Planned changes of the members: some join, some leave, some bring more or less than before, some
//! stand in another zone.
//!
//! ```text
//! plan    what would move, and nothing else happens
//! reshape a decree after the newest layout, decided by its members -> a transition
//! ```
//! The chooser moves no more than the new shares ask for (kv-ring). During the transition requests
//! reach their quorums in both layouts, and who comes to hold a partition fills it from those that
//! held it (`coordinator/refill.rs`); who holds one no more drops it when the older layout has
//! retired (`leftovers.rs`). A node that left is no member: it may be stopped, and comes back only
//! on an empty directory.
//!
//! A newcomer counts for W at once, and not for R nor for what a SET weighs until it is filled. So
//! no set of owners may get more newcomers at a time than its quorums can spare, one of three: a
//! change that would is made in steps (`cluster/steps.rs`), of which each call makes one.
//!
//! What is under way can be called off: a further epoch gives everything back to those that held
//! it, who hold it still as long as the older layout is live.
//!
//! Invariant: one change runs at a time, save for what calls it off. Two that are proposed at once
//! are proposed for one epoch, of which one is decided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kv_client::NodeId;
use kv_ring::{Exchange, Layout, NodeSpec, Topology, Zone};

use super::change::{CHANGE_MS_MAX, ChangeError};
use super::{Inner, Node};
use crate::cluster::decree::{Change, Decided, Decree, REMOVED_IDS_MAX};
use crate::cluster::steps::Steps;
use crate::cluster::view::View;
use crate::coordinator::least;
use crate::keys::DEFAULT_KEYSPACE;

/// What is to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reshape {
    /// Empty nodes that know the cluster.
    pub joins: Vec<NodeId>,
    /// Members that hand over all that they hold.
    pub leaves: Vec<NodeId>,
    /// Weights that change; 0 for a member that is to hold nothing.
    pub weights: Vec<(NodeId, u32)>,
    /// Members that are to stand in another zone, by its name.
    pub zones: Vec<(NodeId, String)>,
    /// Two copies that are to change places, and nothing else.
    pub exchange: Option<Exchange<NodeId>>,
    /// The newest epoch as whoever planned it saw it; another one now refuses the change.
    pub after: Option<u64>,
}

/// What a change would come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReshapePlan {
    /// The newest epoch now.
    pub epoch: u64,
    /// Copies that would be made.
    pub moves: usize,
    /// How many of them in each step; no step if everything is so already.
    pub steps: Vec<usize>,
    /// First places that would change.
    pub firsts_changed: usize,
    /// Each member before or after, in order.
    pub nodes: Vec<NodeShare>,
    /// Each zone before or after, in order.
    pub zones: Vec<ZoneShare>,
    /// Partitions whose copies all stand in different zones: now, and then.
    pub apart: (usize, usize),
    /// Partitions.
    pub partitions: usize,
}

/// What the nodes of one zone hold together, before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneShare {
    /// The zone.
    pub zone: Zone,
    /// Members that stand in it.
    pub nodes: (usize, usize),
    /// Copies of partitions there.
    pub copies: (usize, usize),
}

/// What one node holds, before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeShare {
    /// The node.
    pub node: NodeId,
    /// Its weight afterwards; `None` if it leaves.
    pub weight: Option<u32>,
    /// Partitions that it holds now.
    pub before: usize,
    /// Partitions that it would hold.
    pub after: usize,
    /// Partitions among those that it would have to fill.
    pub gains: usize,
}

impl Node {
    /// What a change would move. Nothing is changed.
    ///
    /// # Errors
    /// Why it could not be made.
    pub async fn plan(&self, change: &Reshape) -> Result<ReshapePlan, ChangeError> {
        let view = self.inner.view.now();
        let (newest, topology) = self.inner.wanted(&view, change).await?;
        let steps = self.inner.steps(&view, &newest, topology, change).await?;
        Ok(shares(&newest, steps))
    }

    /// Changes the members, by the next of the steps that `plan` names. Answers the epoch of the
    /// layout in which it is so, also when it was so before; the transition to it goes on
    /// meanwhile. When that is over the next step is made by the same call, with the epoch that
    /// this one answered. What is returned does not borrow the node, and may be spawned.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn reshape(
        &self,
        change: Reshape,
    ) -> impl Future<Output = Result<u64, ChangeError>> + Send + use<> {
        let inner = Arc::clone(&self.inner);
        async move { inner.reshape(&change).await }
    }

    /// Calls off the change of the members that is under way: whoever held something before it
    /// holds it again. Nodes that were to join and are down are removed for good, the others are
    /// members no more when it is stable; either comes back on an empty directory only. Answers
    /// the epoch in which it is so.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn abort(&self) -> impl Future<Output = Result<u64, ChangeError>> + Send + use<> {
        let inner = Arc::clone(&self.inner);
        async move { inner.abort().await }
    }
}

impl Inner {
    async fn reshape(self: &Arc<Self>, change: &Reshape) -> Result<u64, ChangeError> {
        let _one = self.changing.lock().await;
        let until_ms = self.clock.steady_ms() + CHANGE_MS_MAX;
        let mut proposed = None;
        loop {
            let view = self.view.now();
            let own = view.layouts.as_ref().map(|layouts| layouts.newest());
            if let Some(own) = own.filter(|own| proposed == Some(own.digest())) {
                return Ok(own.epoch());
            }
            let (newest, topology) = self.wanted(&view, change).await?;
            let epoch = newest.epoch();
            let steps = self.steps(&view, &newest, topology, change).await?;
            if steps.copies.is_empty() {
                return Ok(epoch);
            }
            if change.after.is_some_and(|after| after != epoch) {
                return Err(ChangeError::Overtaken { epoch });
            }
            let Some(layouts) = &view.layouts else { return Err(ChangeError::NotServing) };
            if layouts.in_transition() {
                return Err(ChangeError::UnderWay);
            }
            if let Some(down) = change.leaves.iter().find(|node| !view.is_up(**node)) {
                return Err(ChangeError::Down(*down));
            }
            let decree = Decree::reshape(&newest, &view.removed, steps.next);
            proposed = Some(decree.layout.digest());
            let decided = self.decide(&view, &decree, until_ms).await?;
            drop(view);
            self.enact(decided).await?;
        }
    }

    async fn abort(self: &Arc<Self>) -> Result<u64, ChangeError> {
        let _one = self.changing.lock().await;
        let until_ms = self.clock.steady_ms() + CHANGE_MS_MAX;
        let mut proposed = None;
        loop {
            let view = self.view.now();
            let Some(layouts) = &view.layouts else { return Err(ChangeError::NotServing) };
            let newest = layouts.newest();
            if proposed == Some(newest.digest()) {
                return Ok(newest.epoch());
            }
            let decree = self.undoing(&view)?;
            proposed = Some(decree.layout.digest());
            let decided = self.decide(&view, &decree, until_ms).await?;
            drop(view);
            self.enact(decided).await?;
        }
    }

    /// The decree that calls off what the newest layout changes.
    fn undoing(&self, view: &View) -> Result<Decree, ChangeError> {
        let Some(layouts) = &view.layouts else { return Err(ChangeError::NotServing) };
        if view.is_removed(view.me) {
            return Err(ChangeError::NotServing);
        }
        if !layouts.in_transition() {
            return Err(ChangeError::NothingUnderWay);
        }
        if layouts.live().len() > Change::Abort.live_before_max() {
            return Err(ChangeError::TooMany("live layouts"));
        }
        let undone = layouts.newest();
        let made = self.state.decided_after(undone.epoch().saturating_sub(1));
        let made = made.first().and_then(|decided: &Decided| Decree::decode(&decided.decree));
        let made = made.filter(|decree| decree.layout.digest() == undone.digest());
        let earlier = match made {
            Some(Decree { change: Change::Reshape, follows: Some(before), .. }) => {
                layouts.layout(before.epoch).filter(|layout| layout.digest() == before.digest)
            }
            Some(Decree { change: Change::Abort, .. }) => return Err(ChangeError::CalledOff),
            Some(Decree { change: Change::Split, .. }) => return Err(ChangeError::Doubled),
            _ => None,
        };
        let earlier = earlier.ok_or(ChangeError::NotToBeUndone)?;
        let decree = Decree::abort(undone, &view.removed, earlier, |node| !view.is_up(node))
            .map_err(|error| ChangeError::Placement(error.to_string()))?;
        if decree.removed.len() > REMOVED_IDS_MAX {
            return Err(ChangeError::TooMany("removed ids"));
        }
        Ok(decree)
    }

    /// The newest layout, and the members that there should be after it.
    async fn wanted(
        &self,
        view: &View,
        change: &Reshape,
    ) -> Result<(Arc<Layout<NodeId>>, Topology<NodeId>), ChangeError> {
        let Some(layouts) = &view.layouts else { return Err(ChangeError::NotServing) };
        if view.is_removed(view.me) {
            return Err(ChangeError::NotServing);
        }
        let newest = Arc::clone(layouts.newest());
        let mut topology = newest.topology();
        for node in &change.joins {
            if view.is_removed(*node) {
                return Err(ChangeError::WasRemoved(*node));
            }
            if newest.contains(*node) {
                continue;
            }
            let newborn = self.newborn(view, *node).await?;
            if newborn.has_record {
                return Err(ChangeError::NotEmpty(*node));
            }
            topology.insert(*node, NodeSpec::new(newborn.weight, Zone::named(&newborn.zone)));
        }
        for node in &change.leaves {
            topology.remove(*node).ok_or(ChangeError::NotAMember(*node))?;
        }
        for (node, weight) in &change.weights {
            let spec = topology.spec(*node).ok_or(ChangeError::NotAMember(*node))?;
            topology.insert(*node, NodeSpec::new(*weight, spec.zone));
        }
        for (node, zone) in &change.zones {
            let spec = topology.spec(*node).ok_or(ChangeError::NotAMember(*node))?;
            if !is_zone_name(zone) {
                return Err(ChangeError::ZoneName(zone.chars().take(ZONE_BYTES_MAX).collect()));
            }
            topology.insert(*node, NodeSpec::new(spec.weight, Zone::named(zone)));
        }
        if !change.zones.is_empty() {
            stay_apart(&newest, &topology)?;
        }
        Ok((newest, topology))
    }

    /// The steps to these members; choosing a placement takes a while where there are many nodes.
    async fn steps(
        &self,
        view: &View,
        newest: &Arc<Layout<NodeId>>,
        members: Topology<NodeId>,
        change: &Reshape,
    ) -> Result<Steps, ChangeError> {
        if let Some(exchange) = &change.exchange {
            let alone = members == newest.topology();
            return Self::exchange(newest, exchange, alone);
        }
        let (before, spared) = (Arc::clone(newest), Self::spared(view, newest.replicas()));
        let planned = self.blocking(move || Steps::between(&before, &members, spared)).await;
        planned.map_err(|error| ChangeError::Placement(error.to_string()))
    }

    /// The one step in which two copies change places; none if they have.
    fn exchange(
        newest: &Layout<NodeId>,
        exchange: &Exchange<NodeId>,
        alone: bool,
    ) -> Result<Steps, ChangeError> {
        if !alone {
            let why = "copies change places in a change of their own".to_owned();
            return Err(ChangeError::Placement(why));
        }
        Steps::exchanging(newest, exchange)
            .map_err(|error| ChangeError::Placement(error.to_string()))
    }

    /// Owners that the quorums of the keyspace can do without; one at least, or nothing could ever
    /// move.
    fn spared(view: &View, replicas: usize) -> usize {
        let settings = view.record.as_ref().and_then(|record| record.keyspace(DEFAULT_KEYSPACE));
        let n = u8::try_from(replicas).unwrap_or(u8::MAX);
        let quorum = settings.map_or(n, |settings| {
            let levels = [settings.read, settings.write];
            levels.into_iter().filter_map(|level| least(level, n).ok()).max().unwrap_or(n)
        });
        replicas.saturating_sub(usize::from(quorum)).max(1)
    }
}

/// Bytes of a zone's name at most.
const ZONE_BYTES_MAX: usize = 64;

fn is_zone_name(name: &str) -> bool {
    name.len() <= ZONE_BYTES_MAX && !name.chars().any(char::is_control)
}

/// Refuses zones that are too few for copies which stand apart now.
///
/// # Errors
/// `FewerZones`.
fn stay_apart(before: &Layout<NodeId>, after: &Topology<NodeId>) -> Result<(), ChangeError> {
    let copies = before.replicas();
    let zones = |topology: &Topology<NodeId>| {
        let holding = topology.iter().filter(|(_, spec)| spec.weight > 0);
        holding.map(|(_, spec)| spec.zone).collect::<BTreeSet<Zone>>().len()
    };
    let (now, then) = (zones(&before.topology()), zones(after));
    if then < now.min(copies) {
        return Err(ChangeError::FewerZones { copies, now, then });
    }
    Ok(())
}

/// What each zone holds before and after.
fn zones_of(before: &Layout<NodeId>, after: &Layout<NodeId>) -> Vec<ZoneShare> {
    let mut all: BTreeMap<Zone, ZoneShare> = BTreeMap::new();
    for (layout, is_now) in [(before, true), (after, false)] {
        for (node, spec) in layout.topology().iter() {
            let zone = spec.zone;
            let none = ZoneShare { zone, nodes: (0, 0), copies: (0, 0) };
            let ZoneShare { nodes, copies, .. } = all.entry(zone).or_insert(none);
            let (nodes, copies) =
                if is_now { (&mut nodes.0, &mut copies.0) } else { (&mut nodes.1, &mut copies.1) };
            *nodes += 1;
            *copies += layout.held_by(node).count();
        }
    }
    all.into_values().collect()
}

/// Partitions whose copies all stand in different zones.
fn apart(layout: &Layout<NodeId>) -> usize {
    let zone = |node: &NodeId| layout.spec(*node).map(|spec| spec.zone);
    let differ = |owners: &[NodeId]| {
        owners.iter().map(zone).collect::<BTreeSet<Option<Zone>>>().len() == owners.len()
    };
    layout.partitions().iter().filter(|partition| differ(layout.owners(*partition))).count()
}

fn shares(before: &Layout<NodeId>, steps: Steps) -> ReshapePlan {
    let Steps { target: after, plan, copies, .. } = steps;
    let zones = zones_of(before, &after);
    let members = before.members().iter().chain(after.members());
    let share = |node: NodeId| NodeShare {
        node,
        weight: after.spec(node).map(|spec| spec.weight),
        before: before.held_by(node).count(),
        after: after.held_by(node).count(),
        gains: plan.arrivals(node).count(),
    };
    let nodes: BTreeMap<NodeId, NodeShare> = members.map(|node| (*node, share(*node))).collect();
    ReshapePlan {
        epoch: before.epoch(),
        moves: plan.moves().len(),
        steps: copies,
        firsts_changed: plan.firsts_changed(),
        nodes: nodes.into_values().collect(),
        zones,
        apart: (apart(before), apart(&after)),
        partitions: after.partitions().count(),
    }
}
