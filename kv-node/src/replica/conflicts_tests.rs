//! The index against a look at all rows, over restarts, losses and a bound that is reached.

use std::sync::Arc;
use std::sync::atomic::Ordering as Atomic;

use kv_lsm::fs::MemFs;
use kv_quorum::{Actor, Dot, Draft, HybridTime, Mark, Record};

use super::*;
use crate::cluster::dots::DotSource;
use crate::cluster::meta::MetaStore;
use crate::plug::rng::{Rng, SeededRng};
use crate::plug::storage::{PageRequest, StorageEngine};
use crate::replica::update_tests::HalfEngine;
use crate::replica::{HintConfig, Join, TreeSettings};

fn partitions() -> PartitionCount {
    PartitionCount::new(64).expect("a power of two")
}

fn meta() -> Arc<MetaStore> {
    let disk = Arc::new(MemFs::new());
    Arc::new(MetaStore::open(disk, std::path::Path::new("/m")).expect("a disk"))
}

fn replica(engine: &Arc<HalfEngine>) -> Replica {
    let engine = Arc::clone(engine) as Arc<dyn StorageEngine>;
    let trees = TreeSettings { digest_key: 1, tree_bytes_max: 1 << 16 };
    Replica::open(engine, meta(), partitions(), trees, HintConfig::default()).expect("a disk")
}

fn key_of(n: u64) -> Bytes {
    // Some of them on disk, as the engine of these tests has it.
    let name = format!("key{}{}", n, if n.is_multiple_of(3) { 'd' } else { 'm' });
    KeyRef::place(DEFAULT_KEYSPACE, name.as_bytes()).to_storage()
}

fn record(node: u64, ms: u64) -> Bytes {
    let mut record: Record<Bytes> = Record::new();
    let dot = Dot::new(Actor::new(node, 1), HybridTime::new(ms, 0));
    record.mint_blind(dot, Draft::string(Bytes::from_static(b"v"))).expect("a new dot");
    record.to_bytes().into()
}

/// Adds a sibling, or the first value.
async fn add(replica: &Replica, key: &Bytes, node: u64, ms: u64) {
    let join = Join { key: key.clone(), record: record(node, ms), mark: Mark::NONE, minted: false };
    replica.apply(&[join], |_| Actor::default(), |_| ()).await;
}

/// Replaces all that is there, or removes it.
async fn settle(replica: &Replica, key: &Bytes, ms: u64, remove: bool) {
    let dot = Dot::new(Actor::new(9, 1), HybridTime::new(ms, 0));
    let decide = &mut |_: usize, stored: Option<&[u8]>, out: &mut Vec<u8>| {
        if remove {
            return Verdict::Remove;
        }
        let mut record = stored.map_or_else(Record::new, |it| Record::decode(it).expect("sound"));
        record.mint_blind(dot, Draft::string(&b"one"[..])).expect("a new dot");
        record.encode_into(out);
        Verdict::Write
    };
    replica.update(&[&key[..]], decide).await.expect("a disk");
}

/// What a look at all rows finds.
async fn looked(replica: &Replica) -> Vec<Bytes> {
    let all = PageRequest {
        from: Bytes::new(),
        to: Bytes::new(),
        rows_max: usize::MAX,
        bytes_max: usize::MAX,
    };
    let page = replica.engine().scan(all).await.expect("memory");
    let several = page.rows.into_iter().filter(|(_, record)| has_siblings(record));
    several.map(|(key, _)| key).collect()
}

fn listed(replica: &Replica) -> Vec<Bytes> {
    let (rows, end) = replica.conflicts().page(&Bytes::new(), usize::MAX, |_, _| false);
    assert!(end);
    rows.into_iter().map(|(key, _)| key).collect()
}

async fn walk(replica: &Replica) {
    while replica.walk_conflicts(|_| true, |_| false).await.expect("a disk") {}
}

#[tokio::test]
async fn it_names_what_a_look_at_all_rows_would_find() {
    let engine = HalfEngine::new();
    let rng = SeededRng::new(5);
    let mut open = replica(&engine);
    walk(&open).await;
    // Never twice: a dot names one write.
    let mut clock = 10_000;
    for step in 0..2_000 {
        clock += 10;
        let key = key_of(rng.next_u64() % 60);
        match rng.next_u64() % 8 {
            0 | 1 => settle(&open, &key, clock, false).await,
            2 => settle(&open, &key, clock, true).await,
            _ => add(&open, &key, 1 + rng.next_u64() % 4, clock).await,
        }
        if step % 50 == 0 {
            assert_eq!(listed(&open), looked(&open).await, "step {step}");
        }
        if step % 500 == 499 {
            // A restart: some rows change before the walk comes to them.
            open = replica(&engine);
            assert_eq!(open.conflicts().counts(|_| true).unread, 64);
            settle(&open, &key_of(1), clock + 1, false).await;
            add(&open, &key_of(2), 1, clock + 2).await;
            add(&open, &key_of(2), 2, clock + 3).await;
            walk(&open).await;
            assert_eq!(listed(&open), looked(&open).await, "after the restart at {step}");
            assert_eq!(open.conflicts().counts(|_| true).unread, 0);
        }
    }
    let keys = looked(&open).await.len() as u64;
    assert!(keys > 5, "{keys}");
    assert_eq!(open.conflicts().keys_in(|_| true), keys);
    assert_eq!(open.conflicts().counts(|_| true).keys, keys);
}

#[tokio::test]
async fn building_a_tree_reads_the_rows_for_it_too() {
    let engine = HalfEngine::new();
    let first = replica(&engine);
    for n in 0..30 {
        add(&first, &key_of(n), 1, 5).await;
        add(&first, &key_of(n), 2, 6).await;
    }
    let second = replica(&engine);
    second.keep_trees(|_| true);
    let shared = |_| true;
    assert!(!second.walk_conflicts(|_| true, shared).await.expect("a disk"), "the trees do it");
    engine.disk_fails.store(true, Atomic::SeqCst);
    let failed = second.tree_to_build().expect("none is built");
    let mut refused = false;
    while let Some(partition) = second.tree_to_build().filter(|_| !refused) {
        refused = second.build_page(partition).await.is_err();
    }
    assert!(refused, "{failed:?}: a key that can't be looked at again is no reason to go on");
    engine.disk_fails.store(false, Atomic::SeqCst);
    while let Some(partition) = second.tree_to_build() {
        second.build_page(partition).await.expect("a disk");
    }
    assert_eq!(listed(&second), looked(&second).await);
    assert_eq!(second.conflicts().counts(|_| true), first_counts(30, second.conflicts()));
}

fn first_counts(keys: u64, index: &ConflictIndex) -> ConflictCounts {
    let bytes = index.counts(|_| true).bytes;
    assert!(bytes > keys * ENTRY_BYTES);
    ConflictCounts { keys, bytes, unread: 0, short: 0 }
}

#[tokio::test]
async fn what_a_partition_lost_is_listed_no_more() {
    let engine = HalfEngine::new();
    let open = replica(&engine);
    open.keep_trees(|_| true);
    while let Some(partition) = open.tree_to_build() {
        open.build_page(partition).await.expect("a disk");
    }
    let key = key_of(1);
    add(&open, &key, 1, 5).await;
    add(&open, &key, 2, 6).await;
    let partition = partitions().of(KeyRef::parse(&key).expect("a key").slot);
    let rng = Arc::new(SeededRng::new(3));
    let dots = DotSource::open(kv_client::NodeId(1), partitions(), meta(), rng, 1_000, 60_000);
    let dots = dots.expect("a disk");
    open.lose(&[partition], &dots).expect("a disk");
    open.keep_trees(|_| true);
    assert!(listed(&open).is_empty());
    assert_eq!(open.conflicts().counts(|of| of == partition).unread, 1);
    open.keep_trees(|_| false);
    add(&open, &key, 3, 7).await;
    assert_eq!(listed(&open).len(), 1);
    open.walk_conflicts(|_| false, |_| false).await.expect("nothing to read");
    assert!(listed(&open).is_empty(), "it is not held here");
}

#[tokio::test]
async fn a_split_leaves_the_list_as_it_is() {
    let engine = HalfEngine::new();
    let open = replica(&engine);
    open.keep_trees(|_| true);
    while let Some(partition) = open.tree_to_build() {
        open.build_page(partition).await.expect("a disk");
    }
    for n in 0..30 {
        add(&open, &key_of(n), 1, 5).await;
        add(&open, &key_of(n), 2, 6).await;
    }
    let before = listed(&open);
    let whole = partitions().of(KeyRef::parse(&before[0]).expect("a key").slot);
    let fine = partitions().doubled().expect("more slots");
    open.conflicts.forget(whole);
    let left = listed(&open);
    assert!(left.len() < before.len());
    open.refine(fine);
    open.keep_trees(|_| true);
    assert_eq!(listed(&open), left, "what was known of the whole is known of its halves");
    let counts = open.conflicts().counts(|_| true);
    assert_eq!((counts.keys, counts.unread), (left.len() as u64, 2), "and no more");
    assert_eq!(open.conflicts().counts(|at| at.under(partitions()) == Some(whole)).unread, 2);
    assert_eq!(open.conflicts().keys_in(|at| fine.contains(at)), left.len() as u64);
    assert_eq!(open.tree_to_build(), None, "trees were cut in two");
    walk(&open).await;
    settle(&open, &before[0], 9, false).await;
    assert_eq!(listed(&open), looked(&open).await);
    assert_eq!(open.conflicts().counts(|_| true).unread, 0);
}

#[tokio::test]
async fn what_found_no_room_is_looked_for_when_there_is_some() {
    let engine = HalfEngine::new();
    let mut open = replica(&engine);
    open.conflicts = ConflictIndex::new(partitions(), 10 * (ENTRY_BYTES + 30));
    walk(&open).await;
    for n in 0..40 {
        add(&open, &key_of(n), 1, 5).await;
        add(&open, &key_of(n), 2, 6).await;
    }
    let counts = open.conflicts().counts(|_| true);
    assert!((8..=12).contains(&counts.keys) && counts.short > 5, "{counts:?}");
    assert!(counts.bytes <= 10 * (ENTRY_BYTES + 30));
    assert!(!open.walk_conflicts(|_| true, |_| false).await.expect("a disk"), "it is full");
    for n in 0..36 {
        settle(&open, &key_of(n), 7, false).await;
    }
    walk(&open).await;
    assert_eq!(listed(&open), looked(&open).await);
    assert_eq!(open.conflicts().counts(|_| true).short, 0);
}
