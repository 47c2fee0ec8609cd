//! Does what was chosen: reads, merges, writes, and answers with the edit.
//!
//! Order of effects: new tables are written and synced, then the directory is synced, then the
//! edit is answered; the caller appends it to the manifest, shows the new version, and only then
//! removes the files that the edit removed. A crash anywhere between leaves files that no manifest
//! names, never a manifest that names a file that is not there.
//!
//! Invariants: an output never ends between two versions of one key, so a level's tables stay
//! disjoint by key; below level 0 an output has keys of one keyspace.

use std::path::Path;
use std::sync::Arc;

use super::retain::Retain;
use super::{CompactionFilter, Job, Kind};
use crate::config::Config;
use crate::error::Error;
use crate::fs::Fs;
use crate::iter::merge;
use crate::key::EntryIter;
use crate::keyspace::{KeyspaceOptions, Registry};
use crate::memtable::Memtable;
use crate::sstable::{Builder, Table, TableMeta, table_path};
use crate::version::{Edit, HasMeta, LEVELS, Version, scan_in_sequence};

/// What a flush or a compaction works with.
pub(crate) struct Context<'a> {
    /// Where the files are.
    pub(crate) fs: &'a dyn Fs,
    /// Their directory.
    pub(crate) dir: &'a Path,
    /// Sizes, and how the default keyspace's tables are made.
    pub(crate) config: &'a Config,
    /// The keyspaces. Those that were dropped since are cleaned by the job that comes next.
    pub(crate) spaces: &'a Registry,
    /// Sequences that snapshots read at, ascending, taken after the inputs were complete.
    pub(crate) snapshots: &'a [u64],
    /// What the owner wants dropped or replaced.
    pub(crate) filter: Option<&'a dyn CompactionFilter>,
    /// Gives a file id that was never used.
    pub(crate) next_file_id: &'a mut dyn FnMut() -> u64,
    /// Asked between entries: true ends the work with [`Error::Closed`].
    pub(crate) stop: &'a dyn Fn() -> bool,
    /// Hashes of the keys whose newest value the filter has dropped or replaced.
    pub(crate) changed: Vec<u64>,
}

/// Writes a memtable as a table of level 0 (as several, without a key in common, if its index
/// would be larger than a block may be). Tombstones stay: what they hide may be anywhere below. Of
/// a key only its newest version goes on: who reads at a snapshot holds the memtable itself. The
/// edit adds nothing when the memtable is empty.
pub(crate) fn flush(memtable: &Memtable, context: &mut Context<'_>) -> Result<Edit, Error> {
    flush_each(memtable.last_seq(), context, |add| memtable.each_newest(add))
}

/// Takes one entry: key, sequence, value.
pub(crate) type Add<'a> = dyn FnMut(&[u8], u64, Option<&[u8]>) -> Result<(), Error> + 'a;

/// As [`flush`], of the newest versions that `each` gives in the order of their keys.
pub(crate) fn flush_each(
    flushed_seq: u64,
    context: &mut Context<'_>,
    each: impl FnOnce(&mut Add<'_>) -> Result<(), Error>,
) -> Result<Edit, Error> {
    let mut out = Outputs::new(0, u64::MAX);
    let written = each(&mut |key, seq, value| out.add(key, seq, value, context));
    let tables = out.finish(written, context)?;
    Ok(Edit {
        added: tables.into_iter().map(|meta| (0, meta)).collect(),
        flushed_seq: Some(flushed_seq),
        ..Edit::default()
    })
}

/// As [`flush`], of any entries: with several versions of a key, which only snapshots see.
#[cfg(test)]
fn flush_entries(
    entries: EntryIter,
    flushed_seq: u64,
    context: &mut Context<'_>,
) -> Result<Edit, Error> {
    let tables = write_tables(entries, 0, None, |_| true, context)?;
    Ok(Edit {
        added: tables.into_iter().map(|meta| (0, meta)).collect(),
        flushed_seq: Some(flushed_seq),
        ..Edit::default()
    })
}

/// Does one job on the version that it was chosen from. The edit holds for every later version
/// too, as long as only flushes came between.
pub(crate) fn run(job: &Job, version: &Version, context: &mut Context<'_>) -> Result<Edit, Error> {
    let gone = |level: u8, tables: &[Arc<Table>]| -> Vec<(u8, u64)> {
        tables.iter().map(|table| (level, table.meta().file_id)).collect()
    };
    let mut edit = Edit { removed: gone(job.level, &job.inputs), ..Edit::default() };
    if let Some(largest) = job.inputs.iter().map(|table| &table.meta().largest).max()
        && job.kind != Kind::Drop
    {
        edit.cursors.push((job.level, largest.clone()));
    }
    let metas = match job.kind {
        Kind::Drop => Vec::new(),
        Kind::Move => job.inputs.iter().map(|table| table.meta().clone()).collect(),
        Kind::Merge => {
            edit.removed.extend(gone(job.output_level, &job.below));
            let output = usize::from(job.output_level);
            let mut sources: Vec<EntryIter> = job.inputs.iter().map(Table::scan).collect();
            sources.push(scan_in_sequence(job.below.clone()));
            // In level 0 an older version may be beside, not only below.
            let deeper = |key: &[u8]| output == 0 || version.is_deeper(output, key);
            write_tables(merge(sources), output, context.filter, deeper, context)?
        }
    };
    edit.added = metas.into_iter().map(|meta| (job.output_level, meta)).collect();
    Ok(edit)
}

/// Writes what is retained of `entries` to tables of a level.
fn write_tables(
    entries: EntryIter,
    level: usize,
    filter: Option<&dyn CompactionFilter>,
    deeper: impl Fn(&[u8]) -> bool,
    context: &mut Context<'_>,
) -> Result<Vec<TableMeta>, Error> {
    // Compaction begins new tables; a flush must not make one level 0 table into several.
    let bytes_max = if level == 0 { u64::MAX } else { context.config.table_bytes_max };
    let mut out = Outputs::new(level, bytes_max);
    let mut retain = Retain::new(context.snapshots, filter);
    let write = || {
        for entry in entries {
            if (context.stop)() {
                return Err(Error::Closed);
            }
            if let Some(entry) = retain.pass(entry?, &deeper) {
                out.add(&entry.key, entry.seq, entry.value.as_deref(), context)?;
            }
        }
        Ok(())
    };
    let written = write();
    context.changed.append(&mut retain.changed);
    out.finish(written, context)
}

/// The tables that a flush or a compaction writes, one after the other.
struct Outputs {
    level: usize,
    bytes_max: u64,
    /// Ids of all files that were begun.
    begun: Vec<u64>,
    done: Vec<TableMeta>,
    open: Option<Builder>,
}

impl Outputs {
    fn new(level: usize, bytes_max: u64) -> Self {
        Self { level, bytes_max, begun: Vec::new(), done: Vec::new(), open: None }
    }

    fn add(
        &mut self,
        key: &[u8],
        seq: u64,
        value: Option<&[u8]>,
        context: &mut Context<'_>,
    ) -> Result<(), Error> {
        if (context.stop)() {
            return Err(Error::Closed);
        }
        if context.spaces.is_dead_key(key) {
            return Ok(());
        }
        let ends = |open: &mut Builder| {
            let Some(last) = open.last_key() else { return false };
            let is_another = || context.spaces.split(last).0 != context.spaces.split(key).0;
            open.is_full(self.bytes_max) && last != key || self.level > 0 && is_another()
        };
        if let Some(full) = self.open.take_if(ends) {
            self.done.push(full.finish()?);
        }
        if self.open.is_none() {
            let file_id = (context.next_file_id)();
            self.begun.push(file_id);
            let path = table_path(context.dir, file_id);
            let options = self.options(key, context);
            let is_last = self.level == LEVELS - 1;
            let policy = if is_last { &options.filter } else { &options.filter_upper };
            let open = Builder::new(context.fs, &path, file_id, context.config, policy)?;
            let open = open.with_blocks(options.block_bytes, options.compression_of(is_last));
            self.open = Some(open);
        }
        match &mut self.open {
            Some(open) => open.add(key, seq, value),
            None => Ok(()),
        }
    }

    /// How the table that begins with `key` is made. What is in level 0 is of all keyspaces.
    fn options(&self, key: &[u8], context: &Context<'_>) -> KeyspaceOptions {
        let own = context.spaces.options(context.spaces.split(key).0).filter(|_| self.level > 0);
        own.cloned().unwrap_or_else(|| KeyspaceOptions::of(context.config))
    }

    /// Ends the last table and syncs the directory; or, if something went wrong, removes what was
    /// written as far as possible.
    fn finish(
        mut self,
        written: Result<(), Error>,
        context: &Context<'_>,
    ) -> Result<Vec<TableMeta>, Error> {
        let done = written.and_then(|()| {
            if let Some(last) = self.open.take() {
                self.done.push(last.finish()?);
            }
            if !self.done.is_empty() {
                let dir = context.dir;
                context.fs.sync_dir(dir).map_err(|source| Error::io("sync", dir, source))?;
            }
            Ok(std::mem::take(&mut self.done))
        });
        if done.is_err() {
            for file_id in self.begun {
                // What stays is named by no manifest, and the next open removes it.
                let _ = context.fs.remove(&table_path(context.dir, file_id));
            }
        }
        done
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
