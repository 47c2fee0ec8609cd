//! Faults: what is done to the world while clients work, as one struct of options.
//!
//! Five hands work side by side, each with a rest between two faults: one on the nodes' power and
//! disks, one on the network, one that pauses nodes, one that turns their clocks, one that moves
//! partitions. A seed draws
//! which faults there are and how often (swarm testing, Groce et al. 2012): runs that leave most
//! faults out reach states that runs with all of them never do.
//!
//! Invariant: at most one disk is destroyed in a run, and all others are as their nodes left them
//! or lose only what was not synced.

mod clocks;
mod destroy;
mod links;
mod members;
mod power;

use std::time::Duration;

pub use links::calm;
pub use power::power_cut;

use super::random::Random;
use super::world::World;

/// Which faults there are: each a weight among those of its hand, 0 for never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Of power and disks.
    pub power: PowerFaults,
    /// Of the network.
    pub links: LinkMix,
    /// Of clocks.
    pub clocks: ClockFaults,
    /// Nodes stand still.
    pub pauses: PauseFaults,
    /// Partitions move: what nodes bring changes.
    pub reshapes: bool,
    /// The partitions are doubled meanwhile, so often at most.
    pub splits_max: u64,
    /// A hand rests so long between two faults, at most, in milliseconds.
    pub rest_ms_max: u64,
}

/// Faults of power and disks. A node that they end starts again after a while.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PowerFaults {
    /// The power of one node is cut.
    pub cut_one: u64,
    /// The power of all nodes is cut at once.
    pub cut_all: u64,
    /// The process of one node is killed.
    pub kill: u64,
    /// Syncs, writes or reads of one node fail; some time later its power is cut.
    pub error: u64,
    /// The disk of one node is full for a while.
    pub full: u64,
    /// One disk is destroyed, once in a run.
    pub destroy: Option<Destroy>,
    /// A node is down so long, at most, in milliseconds.
    pub down_ms_max: u64,
}

/// How a disk is destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destroy {
    /// The rows of some nodes at once are lost; what the nodes must not forget stays.
    Rows {
        /// How many nodes.
        nodes: usize,
    },
    /// A whole disk is lost: its node starts anew under another identity, and replaces the old one.
    Wipe,
    /// The rows of a node are put back to what they were some time before: the end of its log is
    /// lost, and what the node must not forget stays.
    Suffix,
    /// A whole disk is put back to what it was: its node is refused, and replaced as one whose disk
    /// was lost, unless the copy is so young that it may serve.
    Restore,
    /// A node leaves, hands over all that it holds, and comes back on an empty disk as another.
    Leave,
    /// The rows of a node that keeps hints for others are lost, and the hints with them.
    Keeper,
    /// The rows of a node are put back to a moment at which it kept hints, which were delivered
    /// and collected since: they come back.
    OldHints,
}

/// Faults of the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkMix {
    /// One node is cut off.
    pub isolate: u64,
    /// One link is cut.
    pub link: u64,
    /// A cut is in one direction only: so many times in a hundred.
    pub one_way_percent: u64,
    /// Two halves don't reach each other.
    pub halves: u64,
    /// Two halves reach each other through one node only.
    pub bridge: u64,
    /// Each node reaches its two neighbours only.
    pub ring: u64,
    /// Messages are slow, and overtake each other.
    pub delay: u64,
    /// Messages are lost.
    pub loss: u64,
}

/// Faults of clocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClockFaults {
    /// A node's wall clock jumps so far, at most, either way, in milliseconds; 0 for never.
    pub jump_ms_max: u64,
    /// So many jumps in a hundred go further than sound clocks do.
    pub beyond_percent: u64,
}

/// Pauses of nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PauseFaults {
    /// A node stands still so long, at most, in milliseconds; 0 for never.
    pub pause_ms_max: u64,
}

impl Faults {
    /// No faults.
    #[must_use]
    pub fn none() -> Self {
        Self {
            power: PowerFaults { down_ms_max: 3_000, ..PowerFaults::default() },
            links: LinkMix::default(),
            clocks: ClockFaults::default(),
            pauses: PauseFaults::default(),
            reshapes: false,
            splits_max: 0,
            rest_ms_max: 1_500,
        }
    }

    /// A swarm's draw.
    #[must_use]
    pub fn drawn(random: &Random) -> Self {
        let weight = || if random.percent(50) { random.between(1, 10) } else { 0 };
        Self {
            power: PowerFaults {
                cut_one: weight(),
                cut_all: weight() / 3,
                kill: weight(),
                error: weight(),
                full: weight(),
                destroy: match random.below(10) {
                    0 => Some(Destroy::Wipe),
                    1 => Some(Destroy::Restore),
                    2 => Some(Destroy::Rows { nodes: 1 }),
                    3 => Some(Destroy::Keeper),
                    _ => None,
                },
                down_ms_max: random.between(500, 6_000),
            },
            links: LinkMix {
                isolate: weight(),
                link: weight(),
                one_way_percent: random.below(80),
                halves: weight(),
                bridge: weight(),
                ring: weight(),
                delay: weight(),
                loss: weight(),
            },
            clocks: ClockFaults {
                jump_ms_max: if random.percent(40) { random.between(100, 25_000) } else { 0 },
                beyond_percent: if random.percent(30) { random.below(30) } else { 0 },
            },
            pauses: PauseFaults {
                pause_ms_max: match random.below(4) {
                    0 => random.between(5_000, 30_000),
                    1 => random.between(50, 3_000),
                    _ => 0,
                },
            },
            reshapes: false,
            splits_max: 0,
            rest_ms_max: random.between(500, 4_000),
        }
    }
}

/// Does all these faults until `until_us`; then every node runs or is to be started.
///
/// # Errors
/// A node could not start on what a fault that destroys nothing left of its disk.
pub async fn strike(
    world: &World,
    seed: u64,
    faults: &Faults,
    until_us: u64,
) -> Result<(), String> {
    let aside = destroy::Aside::default();
    let (power, (), (), (), (), ()) = tokio::join!(
        power::hand(world, seed, faults, until_us, &aside),
        destroy::put_aside(world, seed, faults, until_us, &aside),
        links::hand(world, seed, faults, until_us),
        clocks::hand(world, seed, faults, until_us),
        pauses(world, seed, faults, until_us),
        members::hand(world, seed, faults, until_us),
    );
    power
}

/// Stops nodes where they stand, one at a time.
async fn pauses(world: &World, seed: u64, faults: &Faults, until_us: u64) {
    let random = Random::of(seed, "pauses");
    if faults.pauses.pause_ms_max == 0 {
        return;
    }
    while world.now_us() < until_us {
        rest(&random, faults.rest_ms_max).await;
        let place = random.below(world.nodes() as u64) as usize;
        world.note(format!("pause node {place}"));
        world.pause(place, true);
        rest(&random, faults.pauses.pause_ms_max).await;
        world.note(format!("node {place} goes on"));
        world.pause(place, false);
    }
}

/// Draws one of weighted choices; none if all weigh nothing.
fn choose<T: Copy>(random: &Random, weights: &[(T, u64)]) -> Option<T> {
    let mut at = random.below(weights.iter().map(|(_, weight)| weight).sum());
    weights.iter().find_map(|(choice, weight)| {
        let hit = at < *weight;
        at = at.saturating_sub(*weight);
        hit.then_some(*choice)
    })
}

async fn rest(random: &Random, ms_max: u64) {
    tokio::time::sleep(Duration::from_millis(random.between(1, ms_max.max(1)))).await;
}
