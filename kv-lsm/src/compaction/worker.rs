//! Does what was chosen: reads, merges, writes, and answers with the edit.
//!
//! Order of effects: new tables are written and synced, then the directory is synced, then the
//! edit is answered; the caller appends it to the manifest, shows the new version, and only then
//! removes the files that the edit removed. A crash anywhere between leaves files that no manifest
//! names, never a manifest that names a file that is not there.
//!
//! Invariant: an output never ends between two versions of one key, so a level's tables stay
//! disjoint by key.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::retain::Retain;
use super::{CompactionFilter, Job, Kind};
use crate::config::Config;
use crate::error::Error;
use crate::fs::Fs;
use crate::iter::merge;
use crate::key::EntryIter;
use crate::sstable::{Builder, Table, TableMeta, table_path};
use crate::version::{Edit, HasMeta, Version, scan_in_sequence};

/// What a flush or a compaction works with.
pub(crate) struct Context<'a> {
    /// Where the files are.
    pub(crate) fs: &'a dyn Fs,
    /// Their directory.
    pub(crate) dir: &'a Path,
    /// Sizes, compression, filter.
    pub(crate) config: &'a Config,
    /// Sequences that snapshots read at, ascending, taken after the inputs were complete.
    pub(crate) snapshots: &'a [u64],
    /// What the owner wants dropped or replaced.
    pub(crate) filter: Option<&'a dyn CompactionFilter>,
    /// Gives a file id that was never used.
    pub(crate) next_file_id: &'a mut dyn FnMut() -> u64,
    /// Asked between entries: true ends the work with [`Error::Closed`].
    pub(crate) stop: &'a dyn Fn() -> bool,
}

/// Writes a memtable as a table of level 0 (as several, without a key in common, if its index
/// would be larger than a block may be). `flushed_seq` is its last sequence. Tombstones stay:
/// what they hide may be anywhere below. The edit adds nothing when the memtable is empty.
pub(crate) fn flush(
    entries: EntryIter,
    flushed_seq: u64,
    context: &mut Context<'_>,
) -> Result<Edit, Error> {
    let tables = write_tables(entries, None, |_| true, u64::MAX, context)?;
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
    if let Some(largest) = job.inputs.iter().map(|table| &table.meta().largest).max() {
        edit.cursors.push((job.level, largest.clone()));
    }
    let metas = match job.kind {
        Kind::Move => job.inputs.iter().map(|table| table.meta().clone()).collect(),
        Kind::Merge => {
            edit.removed.extend(gone(job.output_level, &job.below));
            let output = usize::from(job.output_level);
            let mut sources: Vec<EntryIter> = job.inputs.iter().map(Table::scan).collect();
            sources.push(scan_in_sequence(job.below.clone()));
            // In level 0 an older version may be beside, not only below.
            let deeper = |key: &[u8]| output == 0 || version.is_deeper(output, key);
            let (filter, bytes_max) = (context.filter, context.config.table_bytes_max);
            write_tables(merge(sources), filter, deeper, bytes_max, context)?
        }
    };
    edit.added = metas.into_iter().map(|meta| (job.output_level, meta)).collect();
    Ok(edit)
}

/// Writes what is retained of `entries` to tables of about `bytes_max`, and syncs them and the
/// directory. On an error what was written is removed as far as possible.
fn write_tables(
    entries: EntryIter,
    filter: Option<&dyn CompactionFilter>,
    deeper: impl Fn(&[u8]) -> bool,
    bytes_max: u64,
    context: &mut Context<'_>,
) -> Result<Vec<TableMeta>, Error> {
    let mut begun = Vec::new();
    let written = try_write(entries, filter, deeper, bytes_max, context, &mut begun);
    let written = written.and_then(|tables| {
        if tables.is_empty() {
            return Ok(tables);
        }
        let dir = context.dir;
        context.fs.sync_dir(dir).map_err(|source| Error::io("sync", dir, source))?;
        Ok(tables)
    });
    if written.is_err() {
        for file_id in begun {
            // What stays is named by no manifest, and the next open removes it.
            let _ = context.fs.remove(&table_path(context.dir, file_id));
        }
    }
    written
}

fn try_write(
    entries: EntryIter,
    filter: Option<&dyn CompactionFilter>,
    deeper: impl Fn(&[u8]) -> bool,
    bytes_max: u64,
    context: &mut Context<'_>,
    begun: &mut Vec<u64>,
) -> Result<Vec<TableMeta>, Error> {
    let mut retain = Retain::new(context.snapshots, filter);
    let mut tables = Vec::new();
    let mut builder: Option<Builder> = None;
    for entry in entries {
        if (context.stop)() {
            return Err(Error::Closed);
        }
        let Some(entry) = retain.pass(entry?, &deeper) else { continue };
        let full = |open: &mut Builder| {
            open.is_full(bytes_max) && open.last_key().map(Bytes::as_ref) != Some(&entry.key)
        };
        if let Some(done) = builder.take_if(full) {
            tables.push(done.finish()?);
        }
        if builder.is_none() {
            let file_id = (context.next_file_id)();
            begun.push(file_id);
            let path = table_path(context.dir, file_id);
            builder = Some(Builder::new(context.fs, &path, file_id, context.config)?);
        }
        if let Some(open) = &mut builder {
            open.add(&entry)?;
        }
    }
    if let Some(last) = builder {
        tables.push(last.finish()?);
    }
    Ok(tables)
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
