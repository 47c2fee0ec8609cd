//! Healing: every trouble ends, every node runs, and they find each other again.

use std::time::Duration;

use kv_node::node::Node;
use kv_node::plug::clock::Clock;

use super::World;
use crate::sim::random::Random;

/// How long the nodes may take to find each other.
const MEETING_MS_MAX: u64 = 60_000;
/// Between two looks.
const LOOK_MS: u64 = 20;

impl World {
    /// Whether every node runs and has everything that it ever acknowledged, as far as it knows.
    #[must_use]
    pub fn is_repaired(&self) -> bool {
        let complete = |node: &Node| {
            node.coordinator().is_some_and(|own| own.parts().replica.standings().all_complete())
        };
        (0..self.nodes()).all(|place| self.with_node(place, complete) == Some(true))
    }

    /// Whether a node that ends has forgotten what it acknowledged.
    #[must_use]
    pub fn forgets_by_ending(&self) -> bool {
        self.config.memory
    }

    /// Starts every node that does not run, ends every trouble, and heals the network.
    ///
    /// # Errors
    /// A node can't start, or they don't find each other.
    pub async fn heal(&self) -> Result<(), String> {
        self.note("heal".into());
        self.network.set_all(kv_node::plug::inproc::LinkFaults::default());
        self.network.heal();
        self.set_clocks_near(&Random::of(self.seed, "clocks at last"));
        for place in 0..self.nodes() {
            self.pause(place, false);
            self.power.trouble(place, None);
            self.power.fill(place, false);
        }
        for place in self.poisoned() {
            self.kill(place).await;
        }
        for place in 0..self.nodes() {
            if !self.runs(place) {
                self.start(place).await?;
            }
        }
        for place in 0..self.nodes() {
            if self.is_given_up(place) {
                self.note(format!("node {place} was given up: it begins anew"));
                self.kill(place).await;
                self.power.lose(place);
                self.start(place).await?;
                self.join(place).await?;
            }
        }
        self.met().await
    }

    /// Whether others have removed it for good: it was cut off while it joined, and taken for dead
    /// when that was called off.
    fn is_given_up(&self, place: usize) -> bool {
        let Some(id) = self.id(place) else { return false };
        let removes = |node: &Node| node.view().now().is_removed(id);
        let others = (0..self.nodes()).filter(|other| *other != place);
        others.into_iter().any(|other| self.with_node(other, removes).unwrap_or(false))
    }

    /// Waits until every node knows the same one live layout, `ms_max` at most; who does not then.
    pub async fn one_layout(&self, ms_max: u64) -> Option<String> {
        let deadline_us = self.now_us() + ms_max * 1_000;
        loop {
            let known: Vec<(usize, Vec<u64>)> =
                (0..self.nodes()).map(|place| (place, self.live_epochs(place))).collect();
            let newest = known.iter().flat_map(|(_, epochs)| epochs).max().copied();
            let one = |(_, epochs): &(usize, Vec<u64>)| {
                epochs.first().copied() == newest && epochs.len() == 1
            };
            if known.iter().all(one) {
                return None;
            }
            if self.now_us() > deadline_us {
                let progress = (0..self.nodes()).find_map(|place| self.with_node(place, waits_for));
                return Some(format!(
                    "live layouts of nodes: {known:?}, {}",
                    progress.unwrap_or_default()
                ));
            }
            self.clock.sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }

    /// The epochs of the layouts that are live for a node; none if it does not run.
    fn live_epochs(&self, place: usize) -> Vec<u64> {
        let live = |node: &Node| {
            let view = node.view().now();
            let layouts = view.layouts.as_ref();
            layouts.map_or_else(Vec::new, |known| known.live().map(|one| one.epoch()).collect())
        };
        self.with_node(place, live).unwrap_or_default()
    }

    /// Returns when every node that runs sees all others.
    pub(super) async fn met(&self) -> Result<(), String> {
        let deadline_us = self.now_us() + MEETING_MS_MAX * 1_000;
        loop {
            let missing: Vec<String> = (0..self.nodes())
                .filter_map(|place| self.with_node(place, missing_of).flatten())
                .collect();
            if missing.is_empty() {
                return Ok(());
            }
            if self.panics() > 0 {
                return Err("a node's task panicked".into());
            }
            if self.now_us() > deadline_us {
                return Err(format!("not whole after a minute: {}", missing.join("; ")));
            }
            self.clock.sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }
}

/// What the live layouts wait for, as a node knows.
fn waits_for(node: &Node) -> String {
    let progress = node.progress().into_iter().filter(|at| !at.waits_for.is_empty());
    let waits: Vec<String> = progress.map(|at| format!("{}: {}", at.node, at.waits_for)).collect();
    format!("which wait for {waits:?}")
}

/// What a node still lacks: a replica that lost something counts for reads when it is filled, and
/// a peer that refused is asked again after a while.
fn missing_of(node: &Node) -> Option<String> {
    let view = node.view().now();
    let me = view.me;
    let down = view.down();
    if !node.sees_all() || !down.is_empty() {
        let layouts = waits_for(node);
        return Some(format!("{me} does not see all, down {down:?}, layouts {layouts}"));
    }
    let Some(coordinator) = node.coordinator() else { return Some(format!("{me} is not served")) };
    let newcomers = coordinator.parts().replica.standings().newcomers();
    (!newcomers.is_empty())
        .then(|| format!("{me} lacks {} partitions: {:?}", newcomers.len(), newcomers.first()))
}
