//! Batches over an engine of which a part is on disk, which can fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use kv_lsm::fs::MemFs;
use kv_quorum::{Actor, Dot, Draft, HybridTime, Record};
use kv_ring::PartitionCount;

use super::*;
use crate::cluster::meta::MetaStore;
use crate::keys::KeyRef;
use crate::plug::memory::{MemoryConfig, MemoryEngine};
use crate::plug::storage::{
    EngineStatus, FrozenBatch, Page, PageRequest, Quarantine, Resident, Row, Ticket,
};
use crate::replica::HintConfig;
use crate::replica::update::OVERTAKEN_MAX;

/// No row of these tests is larger.
const LARGEST_ROW_BYTES: usize = 200;

/// Keys whose last byte is `d` are on disk.
pub(crate) struct HalfEngine {
    memory: MemoryEngine,
    pub(crate) reads: AtomicU64,
    pub(crate) rows_read: AtomicU64,
    pub(crate) appends: AtomicU64,
    pub(crate) disk_fails: AtomicBool,
    pub(crate) never_synced: AtomicBool,
    pub(crate) scans_to_fail: AtomicU64,
    /// Bytes of a batch that may grow by another row; 0 for any. One row more is the most.
    batch_room: AtomicUsize,
}

impl HalfEngine {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            memory: MemoryEngine::new(MemoryConfig::default()),
            reads: AtomicU64::default(),
            rows_read: AtomicU64::default(),
            appends: AtomicU64::default(),
            disk_fails: AtomicBool::default(),
            never_synced: AtomicBool::default(),
            scans_to_fail: AtomicU64::default(),
            batch_room: AtomicUsize::default(),
        })
    }
}

impl Quarantine for HalfEngine {}

#[async_trait]
impl StorageEngine for HalfEngine {
    fn visit_resident(
        &self,
        keys: &[&[u8]],
        visit: &mut dyn FnMut(usize, Resident<'_>),
    ) -> Result<(), StorageError> {
        self.memory.visit_resident(keys, &mut |at, resident| {
            visit(at, if keys[at].ends_with(b"d") { Resident::NeedsIo } else { resident });
        })
    }

    fn append(&self, batch: &FrozenBatch) -> Result<Ticket, StorageError> {
        let room = self.batch_room.load(Ordering::SeqCst);
        if room > 0 && batch.byte_len() > room + LARGEST_ROW_BYTES {
            return Err(StorageError::Full("a batch above the limit".into()));
        }
        self.memory.append(batch)?;
        Ok(Ticket(self.appends.fetch_add(1, Ordering::SeqCst) + 1))
    }

    async fn durable(&self, _: Ticket) -> Result<(), StorageError> {
        if self.never_synced.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Row>>, StorageError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.rows_read.fetch_add(keys.len() as u64, Ordering::SeqCst);
        if self.disk_fails.load(Ordering::SeqCst) {
            return Err(StorageError::Io("a bad sector".into()));
        }
        self.memory.read(keys).await
    }

    async fn scan(&self, page: PageRequest) -> Result<Page, StorageError> {
        let fails = |left: u64| left.checked_sub(1);
        if self.scans_to_fail.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_ok() {
            return Err(StorageError::Damaged("a block".into()));
        }
        self.memory.scan(page).await
    }

    fn status(&self, explain: Option<&[u8]>) -> (EngineStatus, Option<String>) {
        let (status, found) = self.memory.status(explain);
        let batch_room_bytes = self.batch_room.load(Ordering::SeqCst);
        (EngineStatus { volatile: false, batch_room_bytes, ..status }, found)
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.memory.close().await
    }
}

fn replica(engine: &Arc<HalfEngine>) -> Replica {
    let meta = MetaStore::open(Arc::new(MemFs::new()), std::path::Path::new("/m")).expect("a disk");
    let partitions = PartitionCount::new(64).expect("a power of two");
    let engine = Arc::clone(engine) as Arc<dyn StorageEngine>;
    let trees = TreeSettings { digest_key: 1, tree_bytes_max: 1 << 16 };
    Replica::open(engine, Arc::new(meta), partitions, trees, HintConfig::default())
        .expect("nothing was flushed")
}

fn record(time: u64) -> Vec<u8> {
    let mut record: Record<Bytes> = Record::new();
    let dot = Dot::new(Actor::new(1, 1), HybridTime::from_bits(time));
    record.mint_blind(dot, Draft::string(Bytes::from_static(b"v"))).expect("a new dot");
    record.to_bytes()
}

fn storage_keys(names: &[&str]) -> Vec<Bytes> {
    names.iter().map(|name| KeyRef::place(0, name.as_bytes()).to_storage()).collect()
}

async fn write(replica: &Replica, names: &[&str]) -> Result<Update, StorageError> {
    let keys = storage_keys(names);
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    let mut decide = |_: usize, _: Option<&[u8]>, out: &mut Vec<u8>| {
        out.extend_from_slice(&record(9));
        Verdict::Write
    };
    replica.update_each(&keys, &mut decide).await
}

#[tokio::test]
async fn a_batch_does_not_overtake_its_own_reads() {
    let engine = HalfEngine::new();
    let replica = replica(&engine);
    // So many that some of memory's share a stripe with some of the disk's.
    let names: Vec<String> =
        (0..2_000).map(|n| format!("k{n}{}", if n % 2 == 0 { 'd' } else { 'm' })).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let update = write(&replica, &names).await.expect("a disk");
    assert!(update.records.iter().all(Option::is_some) && update.failed.is_none());
    assert_eq!(engine.reads.load(Ordering::SeqCst), 1);
    assert_eq!(engine.rows_read.load(Ordering::SeqCst), 1_000, "each once");
    assert_eq!(engine.appends.load(Ordering::SeqCst), 2, "what was in memory, then the rest");
}

#[tokio::test]
async fn a_key_that_stands_again_is_decided_over_what_was_changed_last() {
    let replica = replica(&HalfEngine::new());
    for name in ["am", "bd"] {
        let keys = storage_keys(&[name; 4]);
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let mut seen: Vec<Option<Vec<u8>>> = Vec::new();
        let mut decide = |place: usize, stored: Option<&[u8]>, out: &mut Vec<u8>| {
            seen.push(stored.map(<[u8]>::to_vec));
            out.extend_from_slice(&record(9));
            [Verdict::Write, Verdict::Keep, Verdict::Remove, Verdict::Keep][place]
        };
        replica.update(&keys, &mut decide).await.expect("a disk");
        assert_eq!(seen[1..], [Some(record(9)), Some(record(9)), None], "{name}");
    }
}

#[tokio::test]
async fn what_an_engine_does_not_take_at_once_is_appended_in_turn() {
    let engine = HalfEngine::new();
    engine.batch_room.store(200, Ordering::SeqCst);
    let replica = replica(&engine);
    let names: Vec<String> = (0..200).map(|n| format!("k{}m", n % 190)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let keys = storage_keys(&names);
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    let mut seen = vec![0; 200];
    let mut decide = |place: usize, stored: Option<&[u8]>, out: &mut Vec<u8>| {
        seen[place] += 1;
        assert_eq!(stored.is_some(), place >= 190, "a key's second write is over its first");
        out.extend_from_slice(&record(9 + place as u64));
        Verdict::Write
    };
    let update = replica.update_each(&keys, &mut decide).await.expect("it takes all of it");
    assert!(update.failed.is_none() && update.records.iter().all(Option::is_some));
    assert_eq!(seen, vec![1; 200], "each is decided once");
    let appends = engine.appends.load(Ordering::SeqCst) as usize;
    assert!(appends > OVERTAKEN_MAX, "that many passes overtake nobody: {appends}");
}

#[tokio::test]
async fn what_was_appended_before_the_disk_failed_stands() {
    let engine = HalfEngine::new();
    let replica = replica(&engine);
    engine.disk_fails.store(true, Ordering::SeqCst);
    let update = write(&replica, &["am", "bd", "cm"]).await.expect("a part was appended");
    let written: Vec<bool> = update.records.iter().map(Option::is_some).collect();
    assert_eq!(written, [true, false, true]);
    let (places, error) = update.failed.expect("the disk failed");
    assert!(places == [1] && matches!(error, StorageError::Io(_)), "{places:?} {error}");
    let keys = storage_keys(&["am", "bd"]);
    let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
    let all = replica.update(&keys, &mut |_, _, _| Verdict::Keep).await;
    assert!(all.is_err(), "who needs all of a batch is told");
}

#[tokio::test]
async fn a_count_that_failed_is_right_at_the_next_try() {
    let engine = HalfEngine::new();
    let names: Vec<String> = (0..500).map(|n| format!("key{n}m")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    write(&replica(&engine), &names).await.expect("memory");
    let replica = replica(&engine);
    let total = || (0..kv_ring::SLOTS).map(|slot| replica.counts().of(slot)).sum::<u64>();
    engine.scans_to_fail.store(1, Ordering::SeqCst);
    assert!(replica.recount().await.is_err());
    assert!((400..500).contains(&total()), "only the slots beside the damage: {}", total());
    write(&replica, &["another m"]).await.expect("memory");
    replica.recount().await.expect("the damage is mended");
    assert_eq!(total(), 501);
    write(&replica, &["one more m", "key1m"]).await.expect("memory");
    assert_eq!(total(), 502);
}
