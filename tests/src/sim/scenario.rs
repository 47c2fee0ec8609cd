//! Named scenarios: each a way to draw a run's options from a seed.
//!
//! `swarm` draws everything. The others aim at one way in which stores of this kind have lost data
//! or brought it back (riak_kv #679 above all), and `two-disks` is the control: it destroys more than
//! is promised to survive, and must be seen to lose.

use kv_node::cluster::record::LevelSetting;

use super::nemesis::{Destroy, Faults, LinkMix, PowerFaults};
use super::random::Random;
use super::run::Options;
use super::workload::Mix;
use super::world::WorldConfig;

/// A named scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Everything, each seed its own mix.
    Swarm,
    /// A node loses its disk and is replaced by itself with another identity.
    ForgetWiped,
    /// A replica loses the end of its log and does not know it.
    ForgetSuffix,
    /// Engines in memory: a replica that restarts has forgotten everything, and knows it.
    ForgetMemory,
    /// FLUSHALL under faults.
    Flush,
    /// The rows of two replicas are lost at W = 2: the control.
    TwoDisks,
}

/// All scenarios.
pub const SCENARIOS: [Scenario; 6] = [
    Scenario::Swarm,
    Scenario::ForgetWiped,
    Scenario::ForgetSuffix,
    Scenario::ForgetMemory,
    Scenario::Flush,
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
            Self::ForgetMemory => "forget-memory",
            Self::Flush => "flush",
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
            Self::Swarm => swarm,
            Self::ForgetWiped => Options {
                faults: Faults {
                    power: PowerFaults {
                        cut_one: 1,
                        kill: 1,
                        destroy: Some(Destroy::Wipe),
                        down_ms_max: 1_500,
                        ..PowerFaults::default()
                    },
                    links: LinkMix { isolate: 1, link: 2, delay: 1, ..LinkMix::default() },
                    ..Faults::none()
                },
                work_ms: 20_000,
                ..swarm
            },
            Self::ForgetSuffix => Options {
                faults: Faults {
                    power: PowerFaults {
                        destroy: Some(Destroy::Suffix),
                        down_ms_max: 1_000,
                        ..PowerFaults::default()
                    },
                    links: LinkMix { isolate: 1, link: 2, ..LinkMix::default() },
                    ..Faults::none()
                },
                mix: Mix::of_siblings(),
                work_ms: 12_000,
                forgets: true,
                ..swarm
            },
            Self::ForgetMemory => Options {
                world: WorldConfig { memory: true, ..swarm.world },
                faults: Faults {
                    power: PowerFaults {
                        cut_one: 1,
                        kill: 1,
                        down_ms_max: 1_500,
                        ..PowerFaults::default()
                    },
                    ..swarm.faults
                },
                ..swarm
            },
            // A flush needs every member: cuts of links would leave few that succeed.
            Self::Flush => Options {
                mix: Mix::drawn(&random).with_flush(2),
                faults: Faults {
                    power: PowerFaults {
                        cut_one: 2,
                        cut_all: 2,
                        kill: 2,
                        down_ms_max: 1_000,
                        ..PowerFaults::default()
                    },
                    ..Faults::none()
                },
                work_ms: 12_000,
                ..swarm
            },
            Self::TwoDisks => Options {
                faults: Faults {
                    power: PowerFaults {
                        destroy: Some(Destroy::Rows { nodes: 2 }),
                        down_ms_max: 1_000,
                        ..PowerFaults::default()
                    },
                    ..Faults::none()
                },
                work_ms: 8_000,
                ..swarm
            },
        }
    }
}

/// Five nodes, all kinds of faults with chances of their own.
fn swarm(random: &Random) -> Options {
    let faults = Faults::drawn(random);
    let mut mix = Mix::drawn(random);
    // A pause of half a minute needs a run in which something happens before and after it.
    let pauses_long = faults.pauses.pause_ms_max > 3_000;
    let work_ms = if pauses_long { 40_000 } else { random.between(6_000, 15_000) };
    if pauses_long {
        mix.think_us_max *= 3;
    }
    let mut lsm = WorldConfig::engine();
    if random.percent(40) {
        // So little that most rows are read from the disk.
        lsm.cache_bytes_max = 4 << 10;
        lsm.memtable_bytes_max = 16 << 10;
    }
    Options {
        world: WorldConfig {
            nodes: 5,
            skew_ms_max: if random.percent(50) { 5_000 } else { 50 },
            copies: LevelSetting::Quorum,
            sloppy: false,
            lsm,
            sync_ms: if random.percent(40) { random.between(1, 8) } else { 0 },
            memory: false,
        },
        clients: random.between(3, 7) as usize,
        work_ms,
        faults,
        mix,
        forgets: false,
        converges: false,
    }
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
    }
}
