//! The chooser of leveled compaction with dynamic targets.
//!
//! ```text
//! level 0 ──> base ──> ... ──> level 6
//! ```
//!
//! Targets are set from below: the last level may be as large as it is, each level above a
//! `level_fanout`-th of the next, and the first whose target is within `level1_bytes` is the
//! *base*, to which level 0 is merged; levels above the base are empty. So most of the data is
//! always in the last level, little space is taken by what is overwritten, and a small store has
//! one level and is written twice in all. (Dong et al., "Optimizing Space Amplification in
//! RocksDB", 2017.)
//!
//! The level that is most over its target comes first. Of level 0 all tables go together; of the
//! others the one after the last compacted key, round and round, so that every range gets its turn.
//! What overlaps nothing below is moved, not rewritten, unless it holds tombstones that may go, or
//! comes to the last level and that one is compressed in another way than those above.
//!
//! Before all that the tables of dropped keyspaces go, unread, and a table of which something was
//! given up is written anew in its own level.
//!
//! Invariant: a level never gets anything while a level between it and the source holds data, so
//! the newer version of a key stays above the older.

use super::{Job, Kind};
use crate::config::Config;
use crate::keyspace::Registry;
use crate::sstable::TableMeta;
use crate::version::{HasMeta, LEVELS, Version};

const LAST: usize = LEVELS - 1;

/// What to compact next, if anything. Pure; linear in the number of tables.
pub(crate) fn choose<T: HasMeta>(
    version: &Version<T>,
    config: &Config,
    spaces: &Registry,
) -> Option<Job<T>> {
    if spaces.is_on()
        && let Some(job) = of_dropped(version, spaces)
    {
        return Some(job);
    }
    if let Some((level, table)) = version.tables().find(|(_, table)| table.is_spoilt()) {
        let inputs = vec![table.clone()];
        return Some(Job {
            kind: Kind::Merge,
            level,
            output_level: level,
            inputs,
            below: Vec::new(),
        });
    }
    let targets = Targets::new(version, config);
    let flushed = version.level(0).len() as f64 / config.level0_tables_compact as f64;
    let mut best = (flushed, 0);
    for level in 1..LAST {
        let score = targets.score(version, level);
        if score > best.0 {
            best = (score, level);
        }
    }
    match best {
        (score, _) if score < 1.0 => None,
        (_, 0) => Some(from_level0(version, targets.base, config, spaces)),
        (_, level) => from_level(version, level, config, spaces),
    }
}

/// The tables of a level that hold nothing but keys of dropped keyspaces.
fn of_dropped<T: HasMeta>(version: &Version<T>, spaces: &Registry) -> Option<Job<T>> {
    let is_dead = |table: &T| spaces.of_table(table.meta()).is_some_and(|id| spaces.is_dead(id));
    (0..LEVELS).find_map(|level| {
        let dead = version.level(level).iter().filter(|table| is_dead(table));
        let inputs: Vec<T> = dead.cloned().collect();
        let (kind, level) = (Kind::Drop, level as u8);
        let below = Vec::new();
        (!inputs.is_empty()).then_some(Job { kind, level, output_level: level, inputs, below })
    })
}

/// What each level may hold.
struct Targets {
    base: usize,
    bytes: [u64; LEVELS],
}

impl Targets {
    fn new<T: HasMeta>(version: &Version<T>, config: &Config) -> Self {
        let largest = (1..LEVELS).map(|level| version.level_bytes(level)).max().unwrap_or(0);
        let mut bytes = [0; LEVELS];
        let mut base = LAST;
        let mut target = largest;
        for (level, slot) in bytes.iter_mut().enumerate().skip(1).rev() {
            base = level;
            *slot = target;
            if target <= config.level1_bytes {
                break;
            }
            target /= config.level_fanout;
        }
        let occupied = (1..LEVELS).find(|level| !version.level(*level).is_empty());
        Self { base: base.min(occupied.unwrap_or(LAST)), bytes }
    }

    /// How full a level is; what has no target must go.
    fn score<T: HasMeta>(&self, version: &Version<T>, level: usize) -> f64 {
        let bytes = version.level_bytes(level);
        match self.bytes.get(level) {
            Some(&target) if target > 0 => bytes as f64 / target as f64,
            _ if bytes > 0 => f64::INFINITY,
            _ => 0.0,
        }
    }
}

/// All of level 0 into the base.
fn from_level0<T: HasMeta>(
    version: &Version<T>,
    base: usize,
    config: &Config,
    spaces: &Registry,
) -> Job<T> {
    let inputs = version.level(0).to_vec();
    let mut by_key: Vec<&T> = inputs.iter().collect();
    by_key.sort_by(|a, b| a.meta().smallest.cmp(&b.meta().smallest));
    let disjoint = by_key.windows(2).all(|pair| match pair {
        [a, b] => a.meta().largest < b.meta().smallest,
        _ => true,
    });
    let moves = inputs.iter().all(|table| moves(table.meta(), (0, base), config, spaces));
    job(version, 0, base, inputs, disjoint && moves)
}

/// One table of a level into the next.
fn from_level<T: HasMeta>(
    version: &Version<T>,
    level: usize,
    config: &Config,
    spaces: &Registry,
) -> Option<Job<T>> {
    let tables = version.level(level);
    let cursor = version.cursor(level);
    let at = tables.partition_point(|table| table.meta().smallest.as_ref() <= cursor);
    let table = tables.get(at).or_else(|| tables.first())?;
    let moves = moves(table.meta(), (level, level + 1), config, spaces);
    Some(job(version, level, level + 1, vec![table.clone()], moves))
}

/// Whether a table may go from a level to another as it is: it is of one keyspace, and would be
/// made in the same way there.
fn moves(
    table: &TableMeta,
    (from, to): (usize, usize),
    config: &Config,
    spaces: &Registry,
) -> bool {
    let Some(id) = spaces.of_table(table) else { return false };
    let own = spaces.options(id);
    let (above, last) = match own {
        Some(options) => (options.compression, options.compression_of(true)),
        None => (config.compression, config.compression_last.unwrap_or(config.compression)),
    };
    (from > 0 || own.is_none()) && (to < LAST || above == last)
}

fn job<T: HasMeta>(
    version: &Version<T>,
    level: usize,
    output: usize,
    inputs: Vec<T>,
    may_move: bool,
) -> Job<T> {
    let smallest = inputs.iter().map(|table| &table.meta().smallest).min();
    let largest = inputs.iter().map(|table| &table.meta().largest).max();
    let below: Vec<T> = match (smallest, largest) {
        (Some(low), Some(high)) => {
            version.overlapping(output, low, high).into_iter().cloned().collect()
        }
        _ => Vec::new(),
    };
    let meets = |level: usize, table: &T| {
        !version.overlapping(level, &table.meta().smallest, &table.meta().largest).is_empty()
    };
    // A tombstone that has nothing below it must be rewritten to go.
    let stays = |table: &T| {
        !meets(output, table)
            && (table.meta().tombstones == 0
                || (output + 1..LEVELS).any(|deeper| meets(deeper, table)))
    };
    let (level, output_level) = (level as u8, output as u8);
    if may_move && inputs.iter().all(stays) {
        Job { kind: Kind::Move, level, output_level, inputs, below: Vec::new() }
    } else {
        Job { kind: Kind::Merge, level, output_level, inputs, below }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// `name=low-high bytes [tN tombstones]` as in the text tables.
    fn table(text: &str, number: u64) -> TableMeta {
        let mut words = text.split_whitespace();
        let (low, high) = words.next().unwrap().split_once('-').unwrap();
        let bytes = words.next().unwrap().parse().unwrap();
        let tombstones = words.next().map_or(0, |word| word.trim_matches('t').parse().unwrap());
        TableMeta {
            file_id: number,
            smallest: low.as_bytes().to_vec().into(),
            largest: high.as_bytes().to_vec().into(),
            entries: 100,
            tombstones,
            max_seq: number,
            bytes,
            checksum: 0,
        }
    }

    fn name(table: &TableMeta) -> String {
        let text = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
        format!("{}-{}", text(&table.smallest), text(&table.largest))
    }

    /// Runs one case: lines `L<level>: table, table`, `cursor <level> <key>`; gives the choice.
    fn decide(case: &str) -> String {
        let config = Config {
            level0_tables_compact: 4,
            level1_bytes: 100,
            level_fanout: 10,
            ..Config::tiny()
        };
        let (mut tables, mut cursors, mut number) = (Vec::new(), Vec::new(), 0);
        for line in case.lines() {
            if let Some(rest) = line.strip_prefix("cursor ") {
                let (level, key) = rest.split_once(' ').unwrap();
                cursors.push((level.parse().unwrap(), key.as_bytes().to_vec().into()));
            } else if let Some((level, rest)) =
                line.strip_prefix('L').and_then(|line| line.split_once(':'))
            {
                for text in rest.split(',') {
                    number += 1;
                    tables.push((level.parse().unwrap(), table(text, number)));
                }
            }
        }
        let version = Version::from_tables(tables, &cursors).unwrap();
        let Some(job) = choose(&version, &config, &Registry::default()) else {
            return "nothing".to_owned();
        };
        let mut out = format!("{:?} {}->{}:", job.kind, job.level, job.output_level).to_lowercase();
        for input in &job.inputs {
            let _ = write!(out, " {}", name(input));
        }
        if !job.below.is_empty() {
            out.push_str(" +");
        }
        for below in &job.below {
            let _ = write!(out, " {}", name(below));
        }
        out
    }

    #[test]
    fn choices_are_those_of_the_text_table() {
        let cases = include_str!("../../testdata/leveled.txt");
        let mut seen = 0;
        for case in cases.split("\n\n").filter(|case| case.contains("=> ")) {
            let (_, want) = case.rsplit_once("=> ").unwrap();
            assert_eq!(decide(case), want.trim(), "in case:\n{case}");
            seen += 1;
        }
        assert!(seen >= 14, "{seen} cases");
    }
}
