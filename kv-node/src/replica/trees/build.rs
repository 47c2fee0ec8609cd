//! Building trees from what is stored, a page at a time, while writes go on.
//!
//! Invariant: a page counts each of its rows as the last writer before its end left it, whether the
//! read saw that or not, and each later writer's change comes on top.

use bytes::Bytes;
use kv_merkle::Digest;
use kv_quorum::EncodedRecord;
use kv_ring::Partition;

use super::super::Replica;
use super::super::conflicts::has_siblings;
use super::{Kept, Trees, places};
use crate::keys::after;
use crate::plug::storage::{Page, PageRequest, StorageError};

/// Rows of one page.
const PAGE_ROWS_MAX: usize = 512;
/// Bytes of one page.
const PAGE_BYTES_MAX: usize = 256 * 1_024;

/// The trees that were begun.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// Whether any was.
    pub(super) any: bool,
    /// Of which partitions that is because they lost something or came to be held.
    pub(super) anew: Vec<Partition>,
}

impl Replica {
    /// Tells which partitions this node holds: trees of others go, missing ones are begun.
    pub fn keep_trees(&self, mut held: impl FnMut(Partition) -> bool) {
        let loss = |partition| held(partition).then(|| self.standings.losses(partition));
        let begun = self.trees.keep(loss);
        // What was lost is in no list, and what comes to be held is looked at with its tree.
        for partition in &begun.anew {
            self.conflicts.forget(*partition);
        }
        if begun.any {
            // Writers that saw no tree say nothing to it: none of them may still append when the
            // first page is read.
            self.wait_out_updates();
        }
    }

    /// Counts one page into the tree of one partition. `true` when that is whole, or not kept.
    ///
    /// # Errors
    /// The page could not be read; nothing was counted.
    pub async fn build_page(&self, partition: Partition) -> Result<bool, StorageError> {
        let Some((number, request)) = self.trees.begin_page(partition) else { return Ok(true) };
        let page = self.engine.scan(request).await?;
        self.wait_out_updates();
        let several = page.rows.iter().filter(|(_, record)| has_siblings(record));
        let several: Vec<Bytes> = several.map(|(key, _)| key.clone()).collect();
        self.confirm_conflicts(&several).await?;
        let whole = self.trees.take_page(partition, number, &page);
        if whole && self.trees.is_whole_since(partition, 0) {
            self.conflicts.was_read(partition);
        }
        Ok(whole)
    }

    /// A partition whose tree is in the making.
    pub fn tree_to_build(&self) -> Option<Partition> {
        self.trees.unfinished()
    }
}

impl Trees {
    fn unfinished(&self) -> Option<Partition> {
        let unfinished = |tree: &Kept| tree.building.is_some();
        let mut cells = self.forests.now().cells.iter();
        cells
            .find(|(_, cell)| cell.tree.lock().as_deref().is_some_and(unfinished))
            .map(|(partition, _)| partition)
    }

    fn begin_page(&self, partition: Partition) -> Option<(u64, PageRequest)> {
        let mut guard = self.cell(partition)?.tree.lock();
        let building = guard.as_mut()?.building.as_mut()?;
        building.page += 1;
        building.noted.clear();
        building.too_many = false;
        let request = PageRequest {
            from: building.counted_below.clone(),
            to: places::whole(partition).1,
            rows_max: PAGE_ROWS_MAX,
            bytes_max: PAGE_BYTES_MAX,
        };
        Some((building.page, request))
    }

    /// Counts a page, unless it is another than the one begun last. Says whether the tree is whole.
    fn take_page(&self, partition: Partition, number: u64, page: &Page) -> bool {
        let forest = self.forests.now();
        let Some(cell) = forest.cells.exact(partition) else { return true };
        let mut guard = cell.tree.lock();
        let Some(tree) = guard.as_deref_mut() else { return true };
        let Some(building) = &mut tree.building else { return true };
        if building.page != number || building.too_many {
            return false;
        }
        let last = page.rows.last().map(|(key, _)| key.clone());
        let mut above = match (&last, page.end) {
            (Some(last), false) => building.noted.split_off(last),
            _ => std::collections::BTreeMap::new(),
        };
        // What stands at the last key itself belongs to this page.
        if let Some((last, digest)) = last.as_ref().and_then(|last| above.remove_entry(last)) {
            building.noted.insert(last, digest);
        }
        let noted = std::mem::take(&mut building.noted);
        let read = page.rows.iter().filter(|(key, _)| !noted.contains_key(key));
        let read = read.map(|(key, record)| {
            let digest = EncodedRecord::parse(record).map_or(Digest::ZERO, |record| {
                // A record that can't be read counts as none here, and to writers.
                self.digest(key, record)
            });
            (key, digest)
        });
        for (key, digest) in read.chain(noted.iter().map(|(key, digest)| (key, *digest))) {
            let Some((_, position)) = forest.places.of(key) else { continue };
            let added = tree.leaves.add(forest.shape.leaf_of(position), digest);
            added.expect("a position's leaf is in the shape");
        }
        tree.ticket = tree.ticket.max(page.ticket);
        match last {
            Some(last) if !page.end => {
                building.counted_below = after(&last);
                false
            }
            _ => {
                tree.building = None;
                true
            }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
