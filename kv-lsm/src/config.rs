//! Settings of one engine: each with its unit in its name, a default and a rule.
//!
//! Invariant: a configuration that [`Config::check`] lets pass cannot make a later operation
//! impossible (a frame always fits a segment, a batch always fits the log buffer's bound).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::compaction::CompactionFilter;
use crate::compression::{IS_BUILT_IN, RAW_BLOCK_BYTES_MAX};
use crate::error::Error;
use crate::keyspace::KeyspaceOptions;
use crate::sstable::{BlockedBloom, Bloom, FilterPolicy};

/// Who does the work that an append leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Threads {
    /// Threads of the engine: one writes the log, one flushes, one compacts.
    #[default]
    Background,
    /// None: the owner calls [`crate::Engine::step`]. For simulation and crash tests.
    Inline,
}

/// How table blocks are compressed. A block that does not shrink by an eighth is stored as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Blocks are stored as they are.
    None,
    /// LZ4 block format.
    #[default]
    Lz4,
    /// Zstandard: denser, and several times slower to read from the disk than LZ4. It is C, and
    /// needs the feature `zstd`: without it neither this setting nor a table that was written with
    /// it is taken.
    Zstd {
        /// From 1, the fastest, to 19. With small blocks more than 3 hardly pays.
        level: u8,
        /// Size of the dictionary that each table makes from its first blocks, in bytes, at most:
        /// from 256 to 65,536, or 0 for none. 16,384 is usual. It is what makes small values
        /// dense, the more the smaller the blocks. Its table's first blocks, a hundred times so
        /// many bytes, are held in memory while it is written; the dictionary, and half as much
        /// again or 30 KB, while it is open.
        dictionary_bytes_max: u32,
    },
}

/// Settings of one engine. Take a preset ([`Config::default`], [`Config::tiny`]) and change fields.
/// More settings will come: always end with `..Config::default()`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who does the work that an append leaves behind.
    pub threads: Threads,
    /// Longest key, in bytes. At most 65,535.
    pub key_bytes_max: usize,
    /// Longest value, in bytes.
    pub value_bytes_max: usize,
    /// Largest batch, encoded, in bytes.
    pub batch_bytes_max: usize,
    /// What may gather for the log while a sync runs, in bytes. Above it, appends wait.
    pub log_buffer_bytes_max: usize,
    /// Size of one log segment, in bytes. It must hold a full log buffer and a largest batch.
    pub log_segment_bytes: u64,
    /// All live segments together, in bytes. Above it the memtable is sealed early, so that the
    /// flush frees the oldest segment; it is exceeded by a segment for each memtable in line.
    pub log_bytes_max: u64,
    /// Retired segments kept for reuse. More are deleted.
    pub log_segments_spare_max: usize,
    /// Size at which the memtable is sealed, in bytes, overhead included.
    pub memtable_bytes_max: usize,
    /// Memtables that wait for their flush. Above it, appends wait.
    pub memtables_sealed_max: usize,
    /// How long an append waits when something is full, in milliseconds, before it answers
    /// [`Error::Busy`].
    pub stall_ms_max: u64,
    /// Whether an append sleeps a millisecond now and then when something is near its bound, so
    /// that it hardly ever waits for what is full. For owners whose threads may sleep.
    pub paced: bool,
    /// Size of a table block before compression, in bytes.
    pub block_bytes: usize,
    /// Size at which compaction ends a table and begins the next, in bytes.
    pub table_bytes_max: u64,
    /// How the filters of the last level's tables are made, which hold most of the keys and whose
    /// false positives cost a read of the disk. Tables with a filter of neither policy are read
    /// without it.
    pub filter: Arc<dyn FilterPolicy>,
    /// How those of the other levels are made: every read asks them before the last level.
    pub filter_upper: Arc<dyn FilterPolicy>,
    /// How blocks are compressed.
    pub compression: Compression,
    /// How those of the last level are, which holds most of the data and is written to least often;
    /// `None`: as the others. What is in the last level already stays as it is until compaction
    /// comes to it.
    pub compression_last: Option<Compression>,
    /// Block cache, in bytes.
    pub cache_bytes_max: u64,
    /// Level 0 tables that start a compaction.
    pub level0_tables_compact: usize,
    /// Level 0 tables at which appends wait.
    pub level0_tables_max: usize,
    /// Size that the first level below level 0 may reach, in bytes, before there is one more level.
    pub level1_bytes: u64,
    /// Each further level is this many times larger.
    pub level_fanout: u64,
    /// Size at which the manifest is written anew, in bytes.
    pub manifest_bytes_max: u64,
    /// Opens a directory whose log is damaged in what had been synced, and passes over what can't
    /// be read. What is missing is lost: only for an owner that has it elsewhere and has noted,
    /// durably and before, that this copy is incomplete.
    pub accept_log_damage: bool,
    /// What the owner knows to be dead or replaced, asked while tables are rewritten.
    pub compaction_filter: Option<Arc<dyn CompactionFilter>>,
    /// What keyspaces have of their own, by their names; those that are not named here have what
    /// is said above. To name one is not to make it: see
    /// [`Engine::create_keyspace`](crate::Engine::create_keyspace).
    pub keyspaces: BTreeMap<String, KeyspaceOptions>,
    /// A planted bug, for tests that must catch it.
    #[cfg(any(test, feature = "__planted"))]
    pub planted: Planted,
}

/// Bugs that can be switched on in a build with the feature `__planted`, to prove that a test
/// catches them.
#[cfg(any(test, feature = "__planted"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Planted {
    /// No bug.
    #[default]
    None,
    /// Tickets are reported durable before the sync.
    DurableBeforeSync,
    /// A sync of the log that failed counts as done.
    FailedSyncIsDone,
}

impl Compression {
    fn check(self) -> Result<(), Error> {
        let Self::Zstd { level, dictionary_bytes_max } = self else { return Ok(()) };
        rule(IS_BUILT_IN, "compression with zstd needs the feature `zstd` of kv-lsm")?;
        rule((1..=19).contains(&level), "the level of zstd is from 1 to 19")?;
        rule(
            dictionary_bytes_max == 0 || (256..=64 << 10).contains(&dictionary_bytes_max),
            "dictionary_bytes_max is 0, or from 256 to 65536",
        )
    }
}

fn rule(holds: bool, what: &'static str) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Config { what }) }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            threads: Threads::Background,
            key_bytes_max: 65_535,
            value_bytes_max: 2 << 20,
            batch_bytes_max: 4 << 20,
            log_buffer_bytes_max: 2 << 20,
            log_segment_bytes: 8 << 20,
            log_bytes_max: 256 << 20,
            log_segments_spare_max: 2,
            memtable_bytes_max: 64 << 20,
            memtables_sealed_max: 2,
            stall_ms_max: 5_000,
            paced: true,
            block_bytes: 4 << 10,
            table_bytes_max: 64 << 20,
            filter: Arc::new(Bloom { bits_per_key: 15 }),
            filter_upper: Arc::new(BlockedBloom::default()),
            compression: Compression::Lz4,
            compression_last: None,
            cache_bytes_max: 64 << 20,
            level0_tables_compact: 6,
            level0_tables_max: 20,
            level1_bytes: 256 << 20,
            level_fanout: 10,
            manifest_bytes_max: 4 << 20,
            accept_log_damage: false,
            compaction_filter: None,
            keyspaces: BTreeMap::new(),
            #[cfg(any(test, feature = "__planted"))]
            planted: Planted::None,
        }
    }
}

impl Config {
    /// Sizes so small that a few hundred writes rotate, flush and compact; no threads.
    /// For simulation and crash tests.
    #[must_use]
    pub fn tiny() -> Self {
        Self {
            threads: Threads::Inline,
            key_bytes_max: 1 << 10,
            value_bytes_max: 8 << 10,
            batch_bytes_max: 16 << 10,
            log_buffer_bytes_max: 4 << 10,
            log_segment_bytes: 32 << 10,
            log_bytes_max: 128 << 10,
            log_segments_spare_max: 2,
            memtable_bytes_max: 16 << 10,
            memtables_sealed_max: 2,
            stall_ms_max: 0,
            block_bytes: 256,
            table_bytes_max: 8 << 10,
            cache_bytes_max: 64 << 10,
            level0_tables_compact: 2,
            level0_tables_max: 8,
            level1_bytes: 32 << 10,
            level_fanout: 4,
            manifest_bytes_max: 4 << 10,
            ..Self::default()
        }
    }

    /// Room that a frame needs beside its batches, in bytes: header and padding to a sector.
    const FRAME_OVERHEAD_BYTES_MAX: u64 = 4 << 10;

    /// Checks the relations between the settings.
    ///
    /// # Errors
    /// [`Error::Config`] names the first rule that does not hold.
    pub fn check(&self) -> Result<(), Error> {
        let frame_bytes_max = (self.log_buffer_bytes_max as u64)
            .saturating_add(self.batch_bytes_max as u64)
            .saturating_add(Self::FRAME_OVERHEAD_BYTES_MAX);
        rule(self.key_bytes_max <= 65_535, "key_bytes_max is at most 65535")?;
        rule(self.batch_bytes_max <= 1 << 30, "batch_bytes_max is at most 1 GiB")?;
        rule(self.log_buffer_bytes_max <= 1 << 30, "log_buffer_bytes_max is at most 1 GiB")?;
        rule(
            self.key_bytes_max.saturating_add(self.value_bytes_max) < self.batch_bytes_max,
            "batch_bytes_max must hold a longest key and a largest value",
        )?;
        rule(
            frame_bytes_max <= self.log_segment_bytes,
            "log_segment_bytes must hold log_buffer_bytes_max + batch_bytes_max + 4096",
        )?;
        rule(self.log_segment_bytes.is_multiple_of(512), "log_segment_bytes is in sectors of 512")?;
        rule(
            self.log_bytes_max >= self.log_segment_bytes.saturating_mul(2),
            "log_bytes_max must hold two segments",
        )?;
        rule(self.memtable_bytes_max > 0, "memtable_bytes_max is at least 1")?;
        rule(self.memtables_sealed_max > 0, "memtables_sealed_max is at least 1")?;
        self.check_tables(&KeyspaceOptions::of(self))?;
        self.keyspaces.values().try_for_each(|options| self.check_tables(options))?;
        rule(self.table_bytes_max > 0, "table_bytes_max is at least 1")?;
        rule(self.table_bytes_max <= 1 << 30, "table_bytes_max is at most 1 GiB")?;
        rule(self.level0_tables_compact > 0, "level0_tables_compact is at least 1")?;
        rule(
            self.level0_tables_max > self.level0_tables_compact,
            "level0_tables_max must be above level0_tables_compact",
        )?;
        rule(self.level_fanout >= 2, "level_fanout is at least 2")
    }

    /// The rules of what each keyspace may have of its own.
    fn check_tables(&self, options: &KeyspaceOptions) -> Result<(), Error> {
        rule(options.block_bytes > 0, "block_bytes is at least 1")?;
        rule(
            options
                .block_bytes
                .saturating_add(self.key_bytes_max)
                .saturating_add(self.value_bytes_max)
                <= RAW_BLOCK_BYTES_MAX / 2,
            "block_bytes, a longest key and a largest value fit in 32 MiB together",
        )?;
        options.compression.check()?;
        options.compression_of(true).check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_pass_and_a_broken_relation_is_named() {
        Config::default().check().unwrap();
        Config::tiny().check().unwrap();
        let broken = Config { log_segment_bytes: 8 << 10, ..Config::tiny() };
        let what = broken.check().unwrap_err().to_string();
        assert!(what.contains("log_segment_bytes"), "{what}");
    }

    #[test]
    fn zstd_is_taken_where_it_was_built_in_and_its_bounds_are_kept() {
        let zstd = |level, dictionary_bytes_max| {
            let zstd = Compression::Zstd { level, dictionary_bytes_max };
            let last = Config { compression_last: Some(zstd), ..Config::tiny() };
            let all = Config { compression: zstd, ..Config::tiny() };
            assert_eq!(last.check().is_ok(), all.check().is_ok());
            last.check()
        };
        let refused = zstd(1, 0).err().map(|error| error.to_string());
        assert_eq!(refused.is_none(), cfg!(feature = "zstd"));
        assert!(refused.is_none_or(|what| what.contains("feature `zstd`")));
        assert_eq!(zstd(19, 64 << 10).is_ok(), cfg!(feature = "zstd"));
        for (level, dictionary_bytes_max) in [(0, 0), (20, 0), (3, 255), (3, 65_537)] {
            assert!(zstd(level, dictionary_bytes_max).is_err());
        }
    }
}
