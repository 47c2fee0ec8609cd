//! Named scenarios: each a way to draw a run's options from a seed.
//!
//! `swarm` draws everything. The others aim at one way in which stores of this kind have lost data
//! or brought it back (riak_kv #679 above all), and `two-disks` is the control: it destroys more
//! than is promised to survive, and must be seen to lose.

use super::nemesis::{ClockFaults, Destroy, Faults, LinkMix, PauseFaults, PowerFaults};
use super::random::Random;
use super::run::Options;
use super::workload::Mix;
use super::world::WorldConfig;

/// How far apart sound clocks are in runs in which they are near each other.
const SHORT_SKEW_MS_MAX: u64 = 1_000;

/// How long a sync takes where syncs are slow: as long as the housekeepers rest, who sync too.
const SLOW_SYNC_MS: u64 = 10;

/// In so many runs of the swarm in a hundred partitions move too: such a run takes several times
/// as long, and there are scenarios of it.
const RESHAPES_PERCENT: u64 = 5;

/// In so many runs of the swarm in a hundred clients send batches too,
const BATCHES_PERCENT: u64 = 40;
/// in so many they flush now and then,
const FLUSHES_PERCENT: u64 = 10;
/// and in so many one node decides every write of a key, and clients rely on it.
const DECIDES_PERCENT: u64 = 10;

/// A named scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Everything, each seed its own mix.
    Swarm,
    /// A node loses its disk and is replaced by itself with another identity.
    ForgetWiped,
    /// A replica loses the end of its log and does not know it.
    ForgetSuffix,
    /// The directory of a node is put back to an old copy: it is refused, and replaced.
    ForgetRestored,
    /// Engines in memory: a replica that restarts has forgotten everything, and knows it.
    ForgetMemory,
    /// Fallbacks stand in for primaries most of the time, and one of them loses its hints.
    StandIns,
    /// Hints that were delivered and collected come back.
    Doomstone,
    /// Values end, and are forgotten, while replicas are away.
    Expiry,
    /// Disks fail, and the only replica that could make up for it was away.
    BadDisks,
    /// FLUSHALL under faults.
    Flush,
    /// The power of all nodes is cut again and again, often while syncs take their time.
    PowerCuts,
    /// Partitions move from node to node and back and are doubled, under ends of nodes and cuts.
    Reshape,
    /// Partitions move on one side of a cut, while the other goes on under what it knows.
    ReshapeApart,
    /// Who held a partition before stands in for those who hold it now.
    Taken,
    /// The rows of two replicas are lost at W = 2: the control.
    TwoDisks,
}

/// All scenarios.
pub const SCENARIOS: [Scenario; 15] = [
    Scenario::Swarm,
    Scenario::ForgetWiped,
    Scenario::ForgetSuffix,
    Scenario::ForgetRestored,
    Scenario::ForgetMemory,
    Scenario::StandIns,
    Scenario::Doomstone,
    Scenario::Expiry,
    Scenario::BadDisks,
    Scenario::Flush,
    Scenario::PowerCuts,
    Scenario::Reshape,
    Scenario::ReshapeApart,
    Scenario::Taken,
    Scenario::TwoDisks,
];

impl Scenario {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Swarm => "swarm",
            Self::ForgetWiped => "forget-wiped",
            Self::ForgetSuffix => "forget-suffix",
            Self::ForgetRestored => "forget-restored",
            Self::ForgetMemory => "forget-memory",
            Self::StandIns => "stand-ins",
            Self::Doomstone => "doomstone",
            Self::Expiry => "expiry",
            Self::BadDisks => "bad-disks",
            Self::Flush => "flush",
            Self::PowerCuts => "power-cuts",
            Self::Reshape => "reshape",
            Self::ReshapeApart => "reshape-apart",
            Self::Taken => "taken",
            Self::TwoDisks => "two-disks",
        }
    }

    /// The scenario of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        SCENARIOS.into_iter().find(|scenario| scenario.name() == name)
    }

    /// Whether its runs must be seen to lose something.
    #[must_use]
    pub fn is_control(self) -> bool {
        self == Self::TwoDisks
    }

    /// The options that a seed draws.
    #[must_use]
    pub fn options(self, seed: u64) -> Options {
        let random = Random::of(seed, "options");
        let swarm = swarm(&random);
        match self {
            Self::Swarm => with_more(seed, swarm),
            Self::ForgetWiped => forget(Destroy::Wipe, swarm),
            Self::ForgetRestored => Options { work_ms: 30_000, ..forget(Destroy::Restore, swarm) },
            Self::ForgetSuffix => {
                let forget = forget(Destroy::Suffix, swarm);
                Options { mix: Mix::of_siblings(), work_ms: 12_000, forgets: true, ..forget }
            }
            Self::ForgetMemory => forget_memory(swarm),
            Self::StandIns => stand_ins(swarm),
            Self::Doomstone => doomstone(swarm),
            Self::Expiry => expiry(swarm),
            Self::BadDisks => bad_disks(swarm),
            Self::Flush => flush(Mix::drawn(&random).with_flush(2), swarm),
            Self::PowerCuts => power_cuts(swarm),
            Self::Reshape => reshape(splits_of(seed), leaves_of(seed), swarm),
            Self::ReshapeApart => reshape_apart(swarm),
            Self::Taken => taken(swarm),
            Self::TwoDisks => two_disks(swarm),
        }
    }
}

/// A node forgets, between other ends of nodes and cuts.
fn forget(how: Destroy, swarm: Options) -> Options {
    let power = PowerFaults {
        cut_one: 1,
        kill: 1,
        destroy: Some(how),
        down_ms_max: 1_500,
        ..PowerFaults::default()
    };
    let links = LinkMix { isolate: 1, link: 2, delay: 1, ..LinkMix::default() };
    Options { faults: Faults { power, links, ..Faults::none() }, work_ms: 20_000, ..swarm }
}

/// Every end of a node is a loss, of which the others mend it before the next. What a fallback
/// kept is not among that, so there are none.
fn forget_memory(swarm: Options) -> Options {
    let power = PowerFaults { cut_one: 1, kill: 1, down_ms_max: 1_500, ..PowerFaults::default() };
    Options {
        world: WorldConfig { memory: true, sloppy: false, ..swarm.world },
        faults: Faults { power, reshapes: false, ..swarm.faults },
        ..swarm
    }
}

/// Links are cut most of the time, and a node that keeps hints loses them.
fn stand_ins(swarm: Options) -> Options {
    let power = PowerFaults {
        kill: 1,
        destroy: Some(Destroy::Keeper),
        down_ms_max: 1_500,
        ..PowerFaults::default()
    };
    let links = LinkMix { halves: 3, isolate: 2, bridge: 1, ..LinkMix::default() };
    Options {
        world: WorldConfig { sloppy: true, ..swarm.world },
        faults: Faults { power, links, rest_ms_max: 1_000, ..Faults::none() },
        work_ms: 12_000,
        ..swarm
    }
}

/// Deletes are kept for nodes that are away, delivered and collected, and then come back. (Riak's
/// doomstone: an old tombstone of a fallback that kills what was written since.)
fn doomstone(swarm: Options) -> Options {
    let power = PowerFaults {
        kill: 1,
        destroy: Some(Destroy::OldHints),
        down_ms_max: 1_500,
        ..PowerFaults::default()
    };
    let links = LinkMix { isolate: 2, link: 1, halves: 1, ..LinkMix::default() };
    Options {
        world: WorldConfig { sloppy: true, floor_lag_ms: 300, ..swarm.world },
        faults: Faults { power, links, ..Faults::none() },
        mix: Mix::of_deletes(),
        work_ms: 24_000,
        ..swarm
    }
}

/// Clocks are so near each other that values end, and their bytes go, within a run.
fn expiry(swarm: Options) -> Options {
    let links = LinkMix { isolate: 2, link: 3, one_way_percent: 30, ..LinkMix::default() };
    let power = PowerFaults { kill: 1, down_ms_max: 1_500, ..PowerFaults::default() };
    Options {
        world: WorldConfig {
            sloppy: false,
            skew_ms_max: 50,
            clock_skew_ms_max: SHORT_SKEW_MS_MAX,
            ..swarm.world
        },
        faults: Faults { power, links, ..Faults::none() },
        mix: Mix::of_ends(),
        work_ms: 12_000,
        ..swarm
    }
}

/// Reads go to the disk and fail there; what a replica missed while it was cut off nobody brings
/// it.
fn bad_disks(swarm: Options) -> Options {
    let power = PowerFaults { error: 1, down_ms_max: 2_500, ..PowerFaults::default() };
    let links = LinkMix { isolate: 1, ..LinkMix::default() };
    let mut world = WorldConfig { sloppy: false, antientropy: false, ..swarm.world };
    world.lsm.cache_bytes_max = 4 << 10;
    world.lsm.memtable_bytes_max = 8 << 10;
    Options {
        world,
        faults: Faults { power, links, rest_ms_max: 1_000, ..Faults::none() },
        mix: Mix::of_reads(),
        work_ms: 12_000,
        converges: false,
        ..swarm
    }
}

/// A flush needs every member: cuts of links would leave few that succeed.
fn flush(mix: Mix, swarm: Options) -> Options {
    let power = PowerFaults {
        cut_one: 2,
        cut_all: 2,
        kill: 2,
        down_ms_max: 1_000,
        ..PowerFaults::default()
    };
    Options { mix, faults: Faults { power, ..Faults::none() }, work_ms: 12_000, ..swarm }
}

/// What is on no disk yet is read by others, and then the power of all nodes goes at once: what was
/// acknowledged or shown is there afterwards. Slow syncs give readers time; with fast ones
/// whatever was told too early is still at risk when it is told.
fn power_cuts(swarm: Options) -> Options {
    let power = PowerFaults { cut_all: 1, down_ms_max: 300, ..PowerFaults::default() };
    let sync_ms = if swarm.world.sync_ms > 0 { SLOW_SYNC_MS } else { 0 };
    Options {
        world: WorldConfig { sloppy: false, sync_ms, skew_ms_max: 50, ..swarm.world },
        clients: 7,
        faults: Faults { power, rest_ms_max: 400, ..Faults::none() },
        mix: Mix::of_registers(),
        work_ms: 8_000,
        ..swarm
    }
}

/// Partitions move all the time, and are doubled in half of the runs, members leave, join and are
/// replaced, and who decides stands still for a while now and then. Deletes are collected soon, so
/// that what a node has left of a partition that it gets back could come to life.
fn reshape(splits_max: u64, destroy: Option<Destroy>, swarm: Options) -> Options {
    let power =
        PowerFaults { cut_one: 1, kill: 2, destroy, down_ms_max: 1_500, ..PowerFaults::default() };
    let links = LinkMix { isolate: 1, link: 2, delay: 1, loss: 1, ..LinkMix::default() };
    let pauses =
        PauseFaults { pause_ms_max: if swarm.clients.is_multiple_of(2) { 4_000 } else { 0 } };
    Options {
        world: WorldConfig { floor_lag_ms: 300, ..swarm.world },
        faults: Faults {
            power,
            links,
            pauses,
            reshapes: true,
            splits_max,
            rest_ms_max: 2_000,
            ..Faults::none()
        },
        work_ms: 20_000,
        ..swarm
    }
}

/// In a quarter of the runs a node leaves and comes back as another, and in a quarter one loses
/// its disk and is replaced; the other seeds' runs are what they were before.
fn leaves_of(seed: u64) -> Option<Destroy> {
    match Random::of(seed, "leaves drawn").below(4) {
        0 => Some(Destroy::Leave),
        1 => Some(Destroy::Wipe),
        _ => None,
    }
}

/// Every other seed's partitions are doubled, up to three times; the other seeds' runs are what
/// they were before there were splits.
fn splits_of(seed: u64) -> u64 {
    let some = seed.is_multiple_of(2);
    if some { 1 + Random::of(seed, "splits drawn").below(3) } else { 0 }
}

/// Partitions move while two sides don't hear of each other, and who stood still goes on with what
/// it knew. Nothing mends meanwhile what a quorum of the wrong nodes left out.
fn reshape_apart(swarm: Options) -> Options {
    let links =
        LinkMix { halves: 3, bridge: 1, isolate: 1, link: 2, loss: 1, ..LinkMix::default() };
    let pauses =
        PauseFaults { pause_ms_max: if swarm.clients.is_multiple_of(2) { 3_000 } else { 0 } };
    let power = PowerFaults { down_ms_max: 1_000, ..PowerFaults::default() };
    Options {
        world: WorldConfig { sloppy: false, antientropy: false, ..swarm.world },
        clients: 7,
        faults: Faults {
            power,
            links,
            pauses,
            reshapes: true,
            rest_ms_max: 1_500,
            ..Faults::none()
        },
        mix: Mix::of_registers(),
        work_ms: 15_000,
        converges: false,
        ..swarm
    }
}

/// Partitions move, marks rise soon after what was written, and then most of those who hold a key
/// can't be reached: the next in order, which often held it before, takes their place. KV.PUTs
/// without contexts are siblings of what it wrote then.
fn taken(swarm: Options) -> Options {
    let links = LinkMix { halves: 3, isolate: 1, bridge: 1, ..LinkMix::default() };
    let power = PowerFaults { down_ms_max: 1_000, ..PowerFaults::default() };
    Options {
        world: WorldConfig { sloppy: true, floor_lag_ms: 300, skew_ms_max: 50, ..swarm.world },
        faults: Faults { power, links, reshapes: true, rest_ms_max: 2_500, ..Faults::none() },
        mix: Mix::of_siblings(),
        work_ms: 20_000,
        ..swarm
    }
}

/// Two of three copies are destroyed, and nobody mended the third meanwhile: more than is promised
/// to survive.
fn two_disks(swarm: Options) -> Options {
    let power = PowerFaults {
        destroy: Some(Destroy::Rows { nodes: 2 }),
        down_ms_max: 1_000,
        ..PowerFaults::default()
    };
    let links = LinkMix { isolate: 3, link: 1, ..LinkMix::default() };
    Options {
        world: WorldConfig { sloppy: false, antientropy: false, ..swarm.world },
        faults: Faults { power, links, ..Faults::none() },
        mix: Mix::usual(),
        work_ms: 8_000,
        converges: false,
        ..swarm
    }
}

/// What the swarm's clients do beside the usual: batches, flushes (seldom, as they take away what
/// checkers look at), promises. By chances of their own, so that all else of a seed is as it was.
fn with_more(seed: u64, mut swarm: Options) -> Options {
    let drawn = |what, percent| Random::of(seed, what).percent(percent);
    if drawn("batches", BATCHES_PERCENT) {
        swarm.mix = swarm.mix.with_batches();
    }
    if drawn("flushes", FLUSHES_PERCENT) {
        swarm.mix = swarm.mix.with_flush(1);
    }
    if drawn("decides", DECIDES_PERCENT) {
        swarm.world.decides = true;
        swarm.mix = swarm.mix.with_promises();
    }
    swarm
}

/// Five nodes, all kinds of faults with chances of their own.
fn swarm(random: &Random) -> Options {
    let mut faults = Faults::drawn(random);
    let mut mix = Mix::drawn(random);
    // A pause of half a minute needs a run in which something happens before and after it.
    let pauses_long = faults.pauses.pause_ms_max > 3_000;
    let work_ms = if pauses_long { 40_000 } else { random.between(6_000, 15_000) };
    if pauses_long {
        mix.think_us_max *= 3;
    }
    let mut world = WorldConfig {
        skew_ms_max: if random.percent(50) { 5_000 } else { 50 },
        // As the product's default keyspace.
        sloppy: random.percent(60),
        sync_ms: if random.percent(40) { random.between(1, 8) } else { 0 },
        ..WorldConfig::strict(5)
    };
    if random.percent(40) {
        // So little that most rows are read from the disk.
        world.lsm.cache_bytes_max = 4 << 10;
        world.lsm.memtable_bytes_max = 16 << 10;
    }
    if random.percent(20) {
        // So little that logs of hints are full.
        world.hint_bytes_max = random.between(1 << 10, 16 << 10);
    }
    if random.percent(25) {
        // Sound clocks: what ends, and what is collected, goes within the run.
        world.skew_ms_max = 50;
        world.clock_skew_ms_max = SHORT_SKEW_MS_MAX;
        faults.clocks = ClockFaults::default();
    }
    let clients = random.between(3, 7) as usize;
    // Drawn last: all else of a seed is as it was before there were such changes.
    faults.reshapes = random.percent(RESHAPES_PERCENT);
    Options { world, clients, work_ms, faults, mix, forgets: false, converges: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        for scenario in SCENARIOS {
            assert_eq!(Scenario::named(scenario.name()), Some(scenario));
        }
        assert_eq!(Scenario::named("swarms"), None);
    }

    #[test]
    fn seeds_draw_different_mixes_and_the_same_seed_the_same() {
        let drawn: Vec<Options> = (0..20).map(|seed| Scenario::Swarm.options(seed)).collect();
        for (seed, options) in drawn.iter().enumerate() {
            let again = Scenario::Swarm.options(seed as u64);
            assert_eq!((&options.faults, &options.mix), (&again.faults, &again.mix));
        }
        let with = |has: fn(&Faults) -> bool| drawn.iter().filter(|one| has(&one.faults)).count();
        for count in [
            with(|faults| faults.power.cut_all > 0),
            with(|faults| faults.links.ring > 0),
            with(|faults| faults.pauses.pause_ms_max > 0),
            with(|faults| faults.clocks.jump_ms_max > 0),
        ] {
            assert!((1..20).contains(&count), "in some runs and not in all");
        }
        for kind in ["SetBatch", "GetBatch", "Flush", "Swap", "Count"] {
            let count = drawn.iter().filter(|one| one.mix.has(kind)).count();
            assert!((1..20).contains(&count), "{kind} in {count} runs of twenty");
        }
    }
}
