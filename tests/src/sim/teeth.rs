//! Teeth: bugs that are planted in the production code, one at a time, and must be caught.
//!
//! Only in a build with the feature `planted`. Each bug is met by the scenario that fits it, from
//! seed 0 on; the first seed in which any checker finds anything has caught it, if the same seed
//! is clean without the bug: so what was found is its doing, whatever it was. Bugs of one crate
//! stand in that crate and know nothing of the others'.

use std::thread::ScopedJoinHandle;

use super::run::{Options, run};
use super::scenario::Scenario;

/// Seeds in which a bug may hide, at most.
pub const SEEDS_MAX: u64 = 200;

/// A planted bug, the scenario that must catch it, and where it is planted.
#[derive(Clone, Copy, Debug)]
pub struct Tooth {
    /// What is wrong, in a few words.
    pub name: &'static str,
    scenario: Scenario,
    plant: Plant,
}

#[derive(Clone, Copy, Debug)]
enum Plant {
    Quorum(kv_quorum::teeth::Bug),
    Node(kv_node::teeth::Bug),
    Lsm(kv_lsm::Planted),
}

/// What caught a bug.
#[derive(Clone, Debug)]
pub struct Catch {
    /// The seed.
    pub seed: u64,
    /// The first thing that was found.
    pub found: String,
    /// What the same seed finds without the bug: then nothing is proved.
    pub found_without: Option<String>,
}

/// Every bug there is.
#[must_use]
pub fn teeth() -> Vec<Tooth> {
    use kv_lsm::Planted;
    use kv_node::teeth::Bug as NodeBug;
    use kv_quorum::teeth::Bug as QuorumBug;
    let tooth = |name, scenario, plant| Tooth { name, scenario, plant };
    let quorum = |bug| Plant::Quorum(bug);
    let node = |bug| Plant::Node(bug);
    let swarm = Scenario::Swarm;
    let (reshape, taken) = (Scenario::Reshape, Scenario::Taken);
    vec![
        tooth("acknowledge at W-1", swarm, quorum(QuorumBug::AckBelowW)),
        tooth("answer at R-1", swarm, quorum(QuorumBug::AnswerBelowR)),
        tooth("the record's vector as context", swarm, quorum(QuorumBug::ContextOfRecord)),
        tooth("ignore siblings on merge", swarm, quorum(QuorumBug::IgnoreSiblings)),
        tooth("prune lww inside the join", swarm, quorum(QuorumBug::PruneInJoin)),
        tooth("refuse a join at the sibling limit", swarm, quorum(QuorumBug::RefuseJoinAtLimit)),
        tooth("skip the second mint", swarm, quorum(QuorumBug::NoSecondMint)),
        tooth("tail repair only", swarm, quorum(QuorumBug::TailRepairOnly)),
        tooth(
            "count a replica with amnesia for R",
            Scenario::ForgetMemory,
            quorum(QuorumBug::AmnesiacCounts),
        ),
        tooth("keep the tenure after a loss", Scenario::ForgetSuffix, node(NodeBug::KeepTenure)),
        tooth(
            "let two own hints count twice",
            Scenario::StandIns,
            quorum(QuorumBug::HintsCountTwice),
        ),
        tooth("drop a counted hint", Scenario::StandIns, node(NodeBug::DropCountedHint)),
        tooth("collect a tombstone early", Scenario::Doomstone, node(NodeBug::CollectEarly)),
        tooth(
            "drop an expired value without a tombstone",
            Scenario::Expiry,
            node(NodeBug::ExpiredIsGone),
        ),
        tooth("forget the flush mark", Scenario::Flush, node(NodeBug::ForgetFlush)),
        tooth("a fact is not synced", swarm, node(NodeBug::MetaNotSynced)),
        tooth("re-mint on EXPIRE", swarm, node(NodeBug::RemintOnExpire)),
        tooth("DEL asks nobody", swarm, node(NodeBug::DeleteOwnOnly)),
        tooth("not found on a read error", Scenario::BadDisks, node(NodeBug::ReadErrorIsAbsent)),
        tooth("show before the sync", Scenario::PowerCuts, node(NodeBug::ShowBeforeSync)),
        tooth("fill from one source", Scenario::ForgetMemory, node(NodeBug::FillFromOne)),
        tooth("a newcomer is never filled", reshape, node(NodeBug::NeverFilled)),
        tooth("do not ask who is displaced", taken, node(NodeBug::PassDisplacedOver)),
        tooth("skip fsync", Scenario::PowerCuts, Plant::Lsm(Planted::DurableBeforeSync)),
        tooth("trust a failed fsync", swarm, Plant::Lsm(Planted::FailedSyncIsDone)),
    ]
}

impl Tooth {
    /// The scenario that must catch it.
    #[must_use]
    pub fn scenario(&self) -> Scenario {
        self.scenario
    }

    /// Plants the bug and runs seeds, so many side by side, until one catches it; none if it
    /// escapes. The seed that does is run once more without it.
    #[must_use]
    pub fn hunt(&self, jobs: usize) -> Option<Catch> {
        match self.plant {
            Plant::Quorum(bug) => kv_quorum::teeth::plant(Some(bug)),
            Plant::Node(bug) => kv_node::teeth::plant(Some(bug)),
            Plant::Lsm(_) => {}
        }
        let jobs = jobs.max(1) as u64;
        let firsts = (0..SEEDS_MAX).step_by(jobs as usize);
        let caught = firsts.map(|first| first..SEEDS_MAX.min(first + jobs)).find_map(|seeds| {
            std::thread::scope(|scope| {
                let tries = seeds.map(|seed| (seed, scope.spawn(move || self.planted(seed))));
                let tries: Vec<_> = tries.collect();
                let ended = |(seed, one): (u64, ScopedJoinHandle<'_, Option<String>>)| {
                    one.join().unwrap_or_else(panicked).map(|found| (seed, found))
                };
                tries.into_iter().map(ended).collect::<Vec<_>>().into_iter().flatten().next()
            })
        });
        kv_quorum::teeth::plant(None);
        kv_node::teeth::plant(None);
        let (seed, found) = caught?;
        let without = std::thread::scope(|scope| {
            scope.spawn(|| found_by(seed, &self.scenario.options(seed))).join()
        });
        Some(Catch { seed, found, found_without: without.unwrap_or_else(panicked) })
    }

    fn planted(&self, seed: u64) -> Option<String> {
        let mut options = self.scenario.options(seed);
        if let Plant::Lsm(planted) = self.plant {
            options.world.lsm.planted = planted;
        }
        found_by(seed, &options)
    }
}

/// The first thing that a run finds.
fn found_by(seed: u64, options: &Options) -> Option<String> {
    match run(seed, options) {
        Ok(report) => report.violations.first().map(ToString::to_string),
        Err(why) => Some(why),
    }
}

/// What is said of a run that panicked.
fn panicked(_: Box<dyn std::any::Any + Send>) -> Option<String> {
    Some("the run panicked".into())
}
