//! YCSB's core workloads: which operation comes next, and on which key. Pure.

use std::sync::atomic::{AtomicU64, Ordering};

use super::keys::{Chance, Zipf};
use super::{Distribution, Plan};

/// Keys of one scan at most; YCSB's default.
const SCAN_KEYS_MAX: u64 = 100;

/// The six workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// Half reads, half updates: a session store.
    A,
    /// 95 of 100 are reads, the others updates: tags of photos.
    B,
    /// Reads only: a cache of profiles.
    C,
    /// 95 of 100 are reads of what was inserted lately, the others inserts: a status feed.
    D,
    /// 95 of 100 are scans of up to a hundred keys, the others inserts: threads of a forum.
    E,
    /// Half reads, half reads followed by a write of the same key: a user record.
    F,
}

impl Workload {
    /// Its letter.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
            Self::D => "d",
            Self::E => "e",
            Self::F => "f",
        }
    }

    fn kind(self, percent: u64) -> Kind {
        let (often, others, kind) = match self {
            Self::A => (50, Kind::Update, Kind::Read),
            Self::B => (95, Kind::Update, Kind::Read),
            Self::C => (100, Kind::Read, Kind::Read),
            Self::D => (95, Kind::Insert, Kind::Read),
            Self::E => (95, Kind::Insert, Kind::Scan),
            Self::F => (50, Kind::ReadModifyWrite, Kind::Read),
        };
        if percent < often { kind } else { others }
    }
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Read,
    Update,
    Insert,
    Scan,
    ReadModifyWrite,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Update => "update",
            Self::Insert => "insert",
            Self::Scan => "scan",
            Self::ReadModifyWrite => "read_modify_write",
        }
    }
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) kind: Kind,
    /// The key's number; of a scan, how many keys.
    pub(crate) number: u64,
}

/// Draws operations, each client its own.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    workload: Workload,
    distribution: Distribution,
    keys: u64,
    zipf: Zipf,
    pub(crate) chance: Chance,
}

impl Source {
    /// For one client. `zipf` is over the plan's keys.
    pub(crate) fn new(plan: &Plan, zipf: Zipf, client: u32) -> Self {
        let mut seeds = Chance::new(plan.seed ^ u64::from(client) << 32);
        Self {
            workload: plan.workload,
            distribution: plan.distribution,
            keys: plan.keys.max(1),
            zipf,
            chance: Chance::new(seeds.next()),
        }
    }

    /// The next operation. `inserted` counts the keys that were ever inserted, by all clients.
    pub(crate) fn next(&mut self, inserted: &AtomicU64) -> Op {
        let kind = self.workload.kind(self.chance.below(100));
        let number = match kind {
            Kind::Insert => inserted.fetch_add(1, Ordering::Relaxed),
            Kind::Scan => 1 + self.chance.below(SCAN_KEYS_MAX),
            _ => self.key(inserted),
        };
        Op { kind, number }
    }

    fn key(&mut self, inserted: &AtomicU64) -> u64 {
        match (self.workload, self.distribution) {
            // What came last is the most popular.
            (Workload::D, _) => {
                let newest = inserted.load(Ordering::Relaxed).saturating_sub(1);
                newest.saturating_sub(self.zipf.rank(&mut self.chance))
            }
            (_, Distribution::Uniform) => self.chance.below(self.keys),
            (_, Distribution::Zipf) => self.zipf.scattered(&mut self.chance),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

    pub(crate) fn plan(workload: Workload) -> Plan {
        Plan {
            targets: Vec::new(),
            workload,
            distribution: Distribution::Zipf,
            keys: 1_000,
            prefix: "b:".to_owned(),
            value_bytes: 8,
            clients: 2,
            threads: 1,
            pipeline: 1,
            rate: None,
            warm_up: Duration::ZERO,
            time: Duration::from_millis(300),
            seed: 1,
            wait: Duration::from_secs(5),
        }
    }

    fn mix(workload: Workload) -> BTreeMap<Kind, u32> {
        let mut source = Source::new(&plan(workload), Zipf::new(1_000), 0);
        let inserted = AtomicU64::new(1_000);
        let mut counts = BTreeMap::new();
        for _ in 0..10_000 {
            *counts.entry(source.next(&inserted).kind).or_default() += 1;
        }
        counts
    }

    #[test]
    fn mixes_are_those_of_the_paper() {
        let near = |counts: &BTreeMap<Kind, u32>, kind, wanted: u32| {
            let found = counts.get(&kind).copied().unwrap_or(0);
            assert!(found.abs_diff(wanted) < 300, "{kind:?}: {found} {wanted}");
        };
        for (workload, kinds) in [
            (Workload::A, &[(Kind::Read, 5_000), (Kind::Update, 5_000)][..]),
            (Workload::B, &[(Kind::Read, 9_500), (Kind::Update, 500)]),
            (Workload::C, &[(Kind::Read, 10_000)]),
            (Workload::D, &[(Kind::Read, 9_500), (Kind::Insert, 500)]),
            (Workload::E, &[(Kind::Scan, 9_500), (Kind::Insert, 500)]),
            (Workload::F, &[(Kind::Read, 5_000), (Kind::ReadModifyWrite, 5_000)]),
        ] {
            let counts = mix(workload);
            assert_eq!(counts.len(), kinds.len());
            for (kind, wanted) in kinds {
                near(&counts, *kind, *wanted);
            }
        }
    }

    #[test]
    fn lately_inserted_keys_are_read_most_and_inserts_never_twice() {
        let mut source = Source::new(&plan(Workload::D), Zipf::new(1_000), 0);
        let inserted = AtomicU64::new(1_000);
        let (mut new, mut late, mut reads) = (Vec::new(), 0, 0);
        for _ in 0..10_000 {
            let newest = inserted.load(Ordering::Relaxed) - 1;
            let op = source.next(&inserted);
            if op.kind == Kind::Insert {
                new.push(op.number);
                continue;
            }
            reads += 1;
            assert!(op.number <= newest);
            late += u32::from(newest - op.number < 10);
        }
        assert!(late * 10 > reads * 3, "{late} of {reads} among the newest ten");
        assert!(new.windows(2).all(|pair| pair[1] == pair[0] + 1));
        assert_eq!(new.first(), Some(&1_000));
    }
}
