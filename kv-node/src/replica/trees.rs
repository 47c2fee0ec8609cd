//! A hash tree over each partition's rows, kept right by every write.
//!
//! A leaf is the wrapping sum of keyed digests of (storage key, live dots, expiry registers) over a
//! contiguous range of storage keys. A write that turns one record into another costs two digests
//! and one addition, under the key's lock, after the append; no row is read for it. Inner nodes
//! are built when they are asked for. (Dynamo 4.7; riak_core's `hashtree.erl`.)
//!
//! After a start, after doubt and for a partition that is newly held, a tree is built page by page
//! while writes go on:
//!
//! ```text
//! storage keys   [ counted ............ )[ being read ........ )[ not yet ............. )
//! a write        goes into its leaf      is noted, and counts   is noted, and dropped: the
//!                                        in place of the row    page that comes will show it
//! ```
//!
//! A page is taken only after every writer that may have appended before it was read has told the
//! tree: each holds its key's lock until then, and `wait_out_updates` waits for them once.
//!
//! When the partitions are doubled, trees are cut in two with them (`halves`).
//!
//! Invariant: once a tree is whole, its leaves are the sums over the rows in the engine, as soon as
//! the writers that changed them have returned. What it tells is told only when the appends that it
//! sums up are durable.

mod build;
mod halves;
mod places;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use kv_merkle::{Digest, DigestKey, Leaves, Shape, Tree};
use kv_quorum::EncodedRecord;
use kv_ring::{Partition, PartitionCount};
use parking_lot::Mutex;

use crate::by_partition::{ByCount, Cells};
use crate::plug::storage::Ticket;
use build::Begun;
use places::Places;

/// What trees are made with.
#[derive(Clone, Copy, Debug)]
pub struct TreeSettings {
    /// The cluster's key for digests: the same on all replicas, unknown to clients.
    pub digest_key: u64,
    /// Bytes of the leaves of all partitions, were they all held. It chooses how many leaves a
    /// partition has: 256 with 1,024 partitions and the default of 4 MiB.
    pub tree_bytes_max: u64,
}

/// The default of `tree_bytes_max`.
pub const TREE_BYTES_MAX_DEFAULT: u64 = 4 << 20;

/// The trees of the partitions that a node holds.
pub struct Trees {
    key: DigestKey,
    tree_bytes_max: u64,
    forests: ByCount<Forest>,
    /// Kept while trees are begun or given up.
    keeping: Mutex<()>,
}

/// The trees of one count of partitions.
struct Forest {
    shape: Shape,
    places: Places,
    cells: Cells<Cell>,
}

#[derive(Default)]
struct Cell {
    /// Whether writers have something to tell.
    kept: AtomicBool,
    tree: Mutex<Option<Box<Kept>>>,
    /// One more than the loss with which the partition that this is a part of had a tree; 0 if it
    /// had none. What was known of its rows is known of this one's.
    inherits: AtomicU64,
}

/// One partition's tree.
struct Kept {
    leaves: Leaves,
    /// The root over the leaves, until one changes.
    root: Option<Digest>,
    /// Covers every append that the leaves sum up.
    ticket: Ticket,
    /// The loss after which it was begun: after a later one it is in doubt.
    loss: u64,
    building: Option<Building>,
}

/// A tree in the making.
#[derive(Default)]
struct Building {
    /// Rows below this storage key are counted.
    counted_below: Bytes,
    /// Which page is being read.
    page: u64,
    /// What was written above that since the page was begun: each key's digest now.
    noted: BTreeMap<Bytes, Digest>,
    /// More than `NOTED_MAX` were: the page is read again.
    too_many: bool,
}

/// Keys noted while one page is read, at most.
const NOTED_MAX: usize = 65_536;

/// What one write changes in a tree.
pub(super) struct TreeChange<'k> {
    key: &'k [u8],
    partition: Partition,
    leaf: u32,
    before: Digest,
    after: Digest,
}

/// How many trees there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeCounts {
    /// Trees that are whole.
    pub built: usize,
    /// Trees in the making.
    pub building: usize,
}

impl std::fmt::Debug for Trees {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trees")
            .field("shape", &self.shape())
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl Trees {
    /// No tree yet.
    pub(super) fn new(partitions: PartitionCount, settings: TreeSettings) -> Self {
        Self {
            key: DigestKey::new(u128::from(settings.digest_key).to_le_bytes()),
            tree_bytes_max: settings.tree_bytes_max,
            forests: ByCount::new(
                partitions,
                Forest::of(partitions, settings.tree_bytes_max, |_| Cell::default()),
            ),
            keeping: Mutex::new(()),
        }
    }

    /// The shape of this node's trees.
    pub fn shape(&self) -> Shape {
        self.forests.now().shape
    }

    /// What a write of `key` changes; `None` where it changes nothing or there is no tree.
    #[inline]
    pub(super) fn change<'k>(
        &self,
        key: &'k [u8],
        before: Option<EncodedRecord<'_>>,
        after: Option<EncodedRecord<'_>>,
    ) -> Option<TreeChange<'k>> {
        let forest = self.forests.now();
        let (partition, position) = forest.places.of(key)?;
        if !forest.cells.exact(partition)?.kept.load(Ordering::Acquire) {
            return None;
        }
        let before = before.map_or(Digest::ZERO, |record| self.digest(key, record));
        let after = after.map_or(Digest::ZERO, |record| self.digest(key, record));
        let leaf = forest.shape.leaf_of(position);
        (before != after).then_some(TreeChange { key, partition, leaf, before, after })
    }

    /// Takes what was appended with `ticket`. To be called under the keys' locks.
    #[inline]
    pub(super) fn changed(&self, changes: &[TreeChange<'_>], ticket: Ticket) {
        for change in changes {
            let (mut partition, mut leaf) = (change.partition, change.leaf);
            while let Some(forest) = self.forests.of(partition.count()) {
                if forest.tell(partition, leaf, change, ticket) {
                    break;
                }
                // Looked at after that: its tree may have been cut in two, and is told then.
                let now = self.forests.now();
                if now.cells.count() == partition.count() {
                    break;
                }
                let Some((part, position)) = now.places.of(change.key) else { break };
                (partition, leaf) = (part, now.shape.leaf_of(position));
            }
        }
    }

    /// Tells which partitions this node holds, each with its last loss: trees of others go, those
    /// that are missing or were begun before the loss are begun.
    fn keep(&self, mut held: impl FnMut(Partition) -> Option<u64>) -> Begun {
        let _one = self.keeping.lock();
        let forest = self.forests.now();
        let mut begun = Begun::default();
        for (partition, cell) in forest.cells.iter() {
            let mut tree = cell.tree.lock();
            match held(partition) {
                None => {
                    cell.kept.store(false, Ordering::Release);
                    cell.inherits.store(0, Ordering::Relaxed);
                    *tree = None;
                }
                Some(loss) if tree.as_ref().is_none_or(|tree| tree.loss < loss) => {
                    *tree = Some(Box::new(forest.fresh(partition, loss)));
                    cell.kept.store(true, Ordering::Release);
                    begun.any = true;
                    if cell.inherits.swap(0, Ordering::Relaxed) != loss + 1 {
                        begun.anew.push(partition);
                    }
                }
                Some(_) => {}
            }
        }
        begun
    }

    /// A tree is in doubt: it is built anew.
    pub fn doubt(&self, partition: Partition) {
        let forest = self.forests.now();
        if let Some(cell) = forest.cells.exact(partition)
            && let Some(tree) = &mut *cell.tree.lock()
        {
            **tree = forest.fresh(partition, tree.loss);
        }
    }

    /// Whether the partition's tree is whole and was begun after the loss.
    pub fn is_whole_since(&self, partition: Partition, loss: u64) -> bool {
        let whole = |tree: &Kept| tree.building.is_none() && tree.loss >= loss;
        self.cell(partition).is_some_and(|cell| cell.tree.lock().as_deref().is_some_and(whole))
    }

    /// The root of a partition's tree, by this shape or a flatter one, and what to wait for before
    /// it is told; `None` while there is none.
    pub fn root(&self, partition: Partition, shape: Shape) -> Option<(Digest, Ticket)> {
        let mut guard = self.cell(partition)?.tree.lock();
        let tree = guard.as_deref_mut().filter(|tree| tree.building.is_none())?;
        if shape != self.shape_of(partition) {
            let folded = tree.leaves.folded(shape).ok()?;
            return Some((Tree::build(&folded).root(), tree.ticket));
        }
        let leaves = &tree.leaves;
        let root = *tree.root.get_or_insert_with(|| Tree::build(leaves).root());
        Some((root, tree.ticket))
    }

    /// A partition's tree as it is now, by this shape or a flatter one, and what to wait for
    /// before it is told; `None` while there is none.
    pub fn tree(&self, partition: Partition, shape: Shape) -> Option<(Tree, Ticket)> {
        let guard = self.cell(partition)?.tree.lock();
        let tree = guard.as_deref().filter(|tree| tree.building.is_none())?;
        let (leaves, ticket) = (tree.leaves.clone(), tree.ticket);
        drop(guard);
        if shape == self.shape_of(partition) {
            return Some((Tree::build(&leaves), ticket));
        }
        Some((Tree::build(&leaves.folded(shape).ok()?), ticket))
    }

    /// The storage keys of the leaves `first` to `last` of a partition: from, and up to.
    pub fn range(
        &self,
        partition: Partition,
        shape: Shape,
        first: u32,
        last: u32,
    ) -> Option<(Bytes, Bytes)> {
        Places::new(partition.count()).range(partition, shape, first, last)
    }

    /// The storage keys of a whole partition: from, and up to.
    pub fn whole_range(&self, partition: Partition) -> (Bytes, Bytes) {
        places::whole(partition)
    }

    /// How many trees there are.
    pub fn counts(&self) -> TreeCounts {
        let mut counts = TreeCounts::default();
        let cells = self.forests.now().cells.all().iter();
        for cell in cells.filter(|cell| cell.kept.load(Ordering::Acquire)) {
            match cell.tree.lock().as_deref() {
                Some(Kept { building: Some(_), .. }) => counts.building += 1,
                Some(_) => counts.built += 1,
                None => {}
            }
        }
        counts
    }

    /// The digest of a row; zero for a record without live versions, which is as good as none.
    #[inline]
    fn digest(&self, key: &[u8], record: EncodedRecord<'_>) -> Digest {
        if record.live_len() == 0 {
            return Digest::ZERO;
        }
        let bytes = KEY_LENGTH_BYTES + key.len() + CHUNK_BYTES * record.live_len();
        if bytes <= STACK_BYTES {
            let mut stack = [0; STACK_BYTES];
            let mut end = 0;
            let mut put = |part: &[u8]| {
                if let Some(room) = stack.get_mut(end..end + part.len()) {
                    room.copy_from_slice(part);
                }
                end += part.len();
            };
            put(&(key.len() as u32).to_le_bytes());
            put(key);
            record.fingerprint(&mut put);
            return self.key.digest(stack.get(..end).unwrap_or(&stack));
        }
        let mut heap = Vec::with_capacity(bytes);
        heap.extend_from_slice(&(key.len() as u32).to_le_bytes());
        heap.extend_from_slice(key);
        record.fingerprint(|part| heap.extend_from_slice(part));
        self.key.digest(&heap)
    }

    /// The cell of a partition of the present count.
    #[inline]
    fn cell(&self, partition: Partition) -> Option<&Cell> {
        self.forests.now().cells.exact(partition)
    }

    /// The shape of the trees of a partition's count.
    fn shape_of(&self, partition: Partition) -> Shape {
        places::shape(partition.count(), self.tree_bytes_max)
    }
}

impl Forest {
    /// Tells a partition's tree of a change, if there is one.
    #[inline]
    fn tell(
        &self,
        partition: Partition,
        leaf: u32,
        change: &TreeChange<'_>,
        ticket: Ticket,
    ) -> bool {
        let Some(cell) = self.cells.exact(partition) else { return false };
        let mut tree = cell.tree.lock();
        let Some(tree) = tree.as_deref_mut() else { return false };
        tree.take(leaf, change, ticket);
        true
    }

    fn of(count: PartitionCount, tree_bytes_max: u64, cell: impl FnMut(Partition) -> Cell) -> Self {
        Self {
            shape: places::shape(count, tree_bytes_max),
            places: Places::new(count),
            cells: Cells::new(count, cell),
        }
    }

    fn fresh(&self, partition: Partition, loss: u64) -> Kept {
        let (counted_below, _) = places::whole(partition);
        Kept {
            leaves: Leaves::new(self.shape),
            root: None,
            ticket: Ticket::DURABLE,
            loss,
            building: Some(Building { counted_below, ..Building::default() }),
        }
    }
}

/// Bytes that the length of a key takes in what is digested.
const KEY_LENGTH_BYTES: usize = 4;
/// Bytes that a live version takes in what is digested: what `fingerprint` feeds.
const CHUNK_BYTES: usize = 40;
/// Rows up to so many bytes are digested without an allocation: nearly all.
const STACK_BYTES: usize = 256;

impl Kept {
    #[inline]
    fn take(&mut self, leaf: u32, change: &TreeChange<'_>, ticket: Ticket) {
        self.ticket = self.ticket.max(ticket);
        match &mut self.building {
            Some(building) if change.key >= &building.counted_below[..] => {
                if building.noted.len() < NOTED_MAX {
                    building.noted.insert(Bytes::copy_from_slice(change.key), change.after);
                } else {
                    building.too_many = true;
                }
            }
            _ => {
                let replaced = self.leaves.replace(leaf, change.before, change.after);
                replaced.expect("a position's leaf is in the shape");
                self.root = None;
            }
        }
    }
}
