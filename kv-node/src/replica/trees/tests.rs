//! Trees against sums over the rows, with writers between the pages and while they are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use kv_lsm::fs::MemFs;
use kv_merkle::{Leaves, Shape};
use kv_quorum::{Actor, Dot, Draft, HybridTime};
use kv_ring::PartitionCount;
use parking_lot::Mutex;

use super::super::{TreeCounts, TreeSettings};
use super::*;
use crate::cluster::meta::MetaStore;
use crate::keys::KeyRef;
use crate::plug::memory::{MemoryConfig, MemoryEngine};
use crate::plug::rng::{Rng, SeededRng};
use crate::plug::storage::{
    EngineStatus, FrozenBatch, Quarantine, Resident, Row, StorageEngine, Ticket,
};
use crate::replica::Verdict;

/// An engine that lets somebody write just before and just after each page is read.
struct Nosy {
    inner: MemoryEngine,
    write: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

impl Nosy {
    fn let_write(&self) {
        // Taken out meanwhile: the writer comes back to this engine.
        let write = self.write.lock().take();
        if let Some(mut write) = write {
            write();
            *self.write.lock() = Some(write);
        }
    }
}

impl Quarantine for Nosy {}

#[async_trait]
impl StorageEngine for Nosy {
    fn visit_resident(
        &self,
        keys: &[&[u8]],
        visit: &mut dyn FnMut(usize, Resident<'_>),
    ) -> Result<(), StorageError> {
        self.inner.visit_resident(keys, visit)
    }

    fn append(&self, batch: &FrozenBatch) -> Result<Ticket, StorageError> {
        self.inner.append(batch)
    }

    async fn durable(&self, ticket: Ticket) -> Result<(), StorageError> {
        self.inner.durable(ticket).await
    }

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Row>>, StorageError> {
        self.inner.read(keys).await
    }

    async fn scan(&self, page: PageRequest) -> Result<Page, StorageError> {
        self.let_write();
        let page = self.inner.scan(page).await;
        self.let_write();
        page
    }

    fn status(&self, explain: Option<&[u8]>) -> (EngineStatus, Option<String>) {
        self.inner.status(explain)
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.inner.close().await
    }
}

const PARTITIONS: u32 = 4;

fn replica(engine: Arc<dyn StorageEngine>) -> Replica {
    let meta = MetaStore::open(Arc::new(MemFs::new()), std::path::Path::new("/meta"));
    let settings = TreeSettings { digest_key: 7, tree_bytes_max: 4_096 };
    let partitions = PartitionCount::new(PARTITIONS).expect("a power of two");
    let meta = Arc::new(meta.expect("an empty disk"));
    Replica::open(engine, meta, partitions, settings, crate::replica::HintConfig::default())
        .expect("an empty directory")
}

/// Overwrites, deletes or removes a key drawn from few, so that all happen to the same ones.
fn write(replica: &Replica, rng: &SeededRng, time: &AtomicU64) {
    let key = KeyRef::place(0, format!("key{}", rng.next_u64() % 3_000).as_bytes()).to_storage();
    let kind = rng.next_u64() % 8;
    let at = HybridTime::new(time.fetch_add(1, Ordering::Relaxed) + 1, 0);
    let dot = Dot { actor: Actor { node: 1, tenure: 1 }, time: at };
    let mut decide = |_: usize, stored: Option<&[u8]>, out: &mut Vec<u8>| {
        let draft = match kind {
            0 => return Verdict::Remove,
            1 => Draft::tombstone(),
            _ => Draft::string(&b"value"[..]),
        };
        match kv_quorum::blind_overwrite(stored, dot, draft, out) {
            Ok(()) => Verdict::Write,
            Err(_) => Verdict::Keep,
        }
    };
    futures::executor::block_on(replica.update(&[&key], &mut decide)).expect("memory has room");
}

/// The leaves as a scan of everything gives them.
async fn by_hand(replica: &Replica, partition: Partition) -> Leaves {
    let trees = replica.trees();
    let (from, to) = trees.whole_range(partition);
    let all = PageRequest { from, to, rows_max: usize::MAX, bytes_max: usize::MAX };
    let mut leaves = Leaves::new(trees.shape());
    for (key, record) in replica.engine().scan(all).await.expect("memory can be read").rows {
        let record = EncodedRecord::parse(&record).expect("only sound records");
        let place = trees.forests.now().places.of(&key);
        let (_, position) = place.expect("a storage key");
        let leaf = trees.shape().leaf_of(position);
        leaves.add(leaf, trees.digest(&key, record)).expect("a leaf");
    }
    leaves
}

async fn check(replica: &Replica) {
    for partition in replica.standings().partitions().iter() {
        let expected = by_hand(replica, partition).await;
        let (tree, _) = replica.trees().tree(partition, expected.shape()).expect("it is whole");
        assert_eq!(tree.root(), kv_merkle::Tree::build(&expected).root(), "{partition:?}");
        let (root, _) = replica.trees().root(partition, expected.shape()).expect("it is whole");
        assert_eq!(root, tree.root());
    }
}

async fn build_all(replica: &Replica) -> usize {
    let mut pages = 0;
    while let Some(partition) = replica.tree_to_build() {
        replica.build_page(partition).await.expect("memory can be read");
        pages += 1;
    }
    pages
}

#[tokio::test]
async fn trees_are_the_sums_over_the_rows_whatever_is_written_while_they_are_built() {
    for seed in 0..6 {
        let (rng, time) = (Arc::new(SeededRng::new(seed)), Arc::new(AtomicU64::new(0)));
        let engine = Arc::new(Nosy {
            inner: MemoryEngine::new(MemoryConfig::default()),
            write: Mutex::new(None),
        });
        let replica = Arc::new(replica(Arc::clone(&engine) as Arc<dyn StorageEngine>));
        for _ in 0..6_000 {
            write(&replica, &rng, &time);
        }
        assert_eq!(replica.trees().counts(), TreeCounts::default(), "nobody asked for trees");
        let writer = (Arc::clone(&replica), Arc::clone(&rng), Arc::clone(&time));
        *engine.write.lock() = Some(Box::new(move || {
            for _ in 0..writer.1.next_u64() % 60 {
                write(&writer.0, &writer.1, &writer.2);
            }
        }));
        replica.keep_trees(|_| true);
        assert!(build_all(&replica).await > PARTITIONS as usize, "more than a page each");
        let counts = replica.trees().counts();
        assert_eq!(counts, TreeCounts { built: PARTITIONS as usize, building: 0 });
        *engine.write.lock() = None;
        check(&replica).await;
        for _ in 0..500 {
            write(&replica, &rng, &time);
        }
        check(&replica).await;
    }
}

#[tokio::test]
async fn doubt_and_losses_build_anew_and_what_is_not_held_goes() {
    let replica = replica(Arc::new(MemoryEngine::new(MemoryConfig::default())));
    let (rng, time) = (SeededRng::new(1), AtomicU64::new(0));
    replica.keep_trees(|partition| partition.index() < 2);
    build_all(&replica).await;
    for _ in 0..300 {
        write(&replica, &rng, &time);
    }
    let nth = |index| replica.standings().partitions().nth(index).expect("one of four");
    let (one, two) = (nth(1), nth(2));
    assert!(replica.trees().is_whole_since(one, 0) && !replica.trees().is_whole_since(two, 0));
    replica.trees().doubt(one);
    assert!(!replica.trees().is_whole_since(one, 0));
    build_all(&replica).await;
    assert!(replica.trees().is_whole_since(one, 0) && !replica.trees().is_whole_since(one, 1));
    replica.standings().lost(one);
    replica.keep_trees(|_| true);
    assert_eq!(replica.trees().counts(), TreeCounts { built: 1, building: 3 });
    build_all(&replica).await;
    assert!(replica.trees().is_whole_since(one, 1));
    check(&replica).await;
    replica.keep_trees(|partition| partition == two);
    assert_eq!(replica.trees().counts(), TreeCounts { built: 1, building: 0 });
}

#[tokio::test]
async fn trees_are_cut_in_two_whatever_is_written_meanwhile() {
    for seed in 0..4 {
        let engine: Arc<dyn StorageEngine> = Arc::new(MemoryEngine::new(MemoryConfig::default()));
        let replica = Arc::new(replica(engine));
        let time = Arc::new(AtomicU64::new(0));
        let rng = SeededRng::new(seed);
        for _ in 0..3_000 {
            write(&replica, &rng, &time);
        }
        replica.keep_trees(|_| true);
        build_all(&replica).await;
        let mut count = replica.standings().partitions();
        let (stop, written) = (std::sync::atomic::AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for writer in 0..2 {
                let (replica, time, stop, written) = (&replica, &time, &stop, &written);
                scope.spawn(move || {
                    let rng = SeededRng::new(1_000 + seed * 2 + writer);
                    while !stop.load(Ordering::Relaxed) {
                        write(replica, &rng, time);
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for turn in 1..=3 {
                while written.load(Ordering::Relaxed) < turn * 200 {
                    std::thread::yield_now();
                }
                let (whole, shape) = (count.nth(1).expect("four or more"), replica.trees().shape());
                assert!(replica.trees().root(whole, shape).is_some());
                count = count.doubled().expect("more slots");
                replica.refine(count);
                assert!(replica.trees().root(whole, shape).is_none(), "it tells of the past");
                let built = replica.trees().counts();
                assert_eq!(built, TreeCounts { built: count.count(), building: 0 });
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(replica.standings().partitions().count(), 32);
        check(&replica).await;
        replica.keep_trees(|_| true);
        assert_eq!(build_all(&replica).await, 0, "nothing has to be read for it");
        for _ in 0..500 {
            write(&replica, &rng, &time);
        }
        check(&replica).await;
    }
}

#[tokio::test]
async fn a_tree_in_the_making_and_one_too_small_are_built_anew() {
    let engine = Arc::new(Nosy {
        inner: MemoryEngine::new(MemoryConfig::default()),
        write: Mutex::new(None),
    });
    let replica = Arc::new(replica(Arc::clone(&engine) as Arc<dyn StorageEngine>));
    let (rng, time) = (Arc::new(SeededRng::new(3)), Arc::new(AtomicU64::new(0)));
    for _ in 0..6_000 {
        write(&replica, &rng, &time);
    }
    replica.keep_trees(|_| true);
    let first = replica.tree_to_build().expect("none is whole");
    replica.build_page(first).await.expect("memory can be read");
    let mut count = replica.standings().partitions();
    // 4,096 bytes are two leaves for each of 128: those of 256 can't have less.
    while count.count() < 256 {
        count = count.doubled().expect("more slots");
        replica.refine(count);
        let whole = replica.trees().counts().built;
        assert_eq!(whole, if (16..=128).contains(&count.count()) { count.count() } else { 0 });
        assert!(replica.build_page(first).await.expect("memory can be read"), "it is no more");
        let writer = (Arc::clone(&replica), Arc::clone(&rng), Arc::clone(&time));
        *engine.write.lock() = Some(Box::new(move || {
            for _ in 0..writer.1.next_u64() % 60 {
                write(&writer.0, &writer.1, &writer.2);
            }
        }));
        replica.keep_trees(|_| true);
        build_all(&replica).await;
        *engine.write.lock() = None;
        check(&replica).await;
    }
}

#[tokio::test]
async fn a_flatter_shape_folds() {
    let replica = replica(Arc::new(MemoryEngine::new(MemoryConfig::default())));
    let (rng, time) = (SeededRng::new(1), AtomicU64::new(0));
    replica.keep_trees(|_| true);
    build_all(&replica).await;
    for _ in 0..300 {
        write(&replica, &rng, &time);
    }
    let flat = Shape::new(2).expect("a depth");
    let partition = replica.standings().partitions().nth(0).expect("there is one");
    let expected = by_hand(&replica, partition).await.folded(flat).expect("flatter");
    let (root, _) = replica.trees().root(partition, flat).expect("it is whole");
    assert_eq!(root, kv_merkle::Tree::build(&expected).root());
    assert!(replica.trees().root(partition, Shape::new(16).expect("a depth")).is_none());
}
