//! Hints over both engines: joined, bounded, counted again after a restart, handed on, flushed.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kv_client::NodeId;
use kv_lsm::fs::MemFs;
use kv_quorum::{Actor, Dot, Draft, HybridTime};
use kv_ring::PartitionCount;

use super::{Hint, HintConfig};
use crate::cluster::dots::DotSource;
use crate::cluster::meta::MetaStore;
use crate::keys::{KeyRef, hint_row, slot_end};
use crate::plug::exec::InlineExec;
use crate::plug::lsm::{LsmDurability, LsmEngine};
use crate::plug::memory::{MemoryConfig, MemoryEngine};
use crate::plug::rng::SeededRng;
use crate::plug::storage::{PageRequest, StorageEngine};
use crate::replica::Replica;
use crate::wire::{OpFailure, PeerOut};

const DOWN: NodeId = NodeId(3);
const OTHER: NodeId = NodeId(4);

fn meta(fs: &MemFs) -> Arc<MetaStore> {
    Arc::new(MetaStore::open(Arc::new(fs.clone()), Path::new("/meta")).expect("a disk"))
}

fn sixteen() -> PartitionCount {
    PartitionCount::new(16).expect("a power of two")
}

fn replica(engine: Arc<dyn StorageEngine>, hint_bytes_max: u64) -> Replica {
    let partitions = sixteen();
    let config = HintConfig { hint_bytes_max, ..HintConfig::default() };
    let trees = crate::replica::TreeSettings { digest_key: 1, tree_bytes_max: 1 << 16 };
    Replica::open(engine, meta(&MemFs::new()), partitions, trees, config)
        .expect("an empty directory")
}

fn in_memory(hint_bytes_max: u64) -> Replica {
    replica(Arc::new(MemoryEngine::new(MemoryConfig::default())), hint_bytes_max)
}

fn on_disk(fs: &MemFs) -> Arc<LsmEngine> {
    let (fs, config) = (Arc::new(fs.clone()), kv_lsm::Config::tiny());
    let exec = Arc::new(InlineExec);
    Arc::new(LsmEngine::open(fs, Path::new("/db"), config, LsmDurability::Sync, exec).unwrap())
}

fn key(name: &str) -> Bytes {
    KeyRef::place(0, name.as_bytes()).to_storage()
}

fn dot(node: u64, ms: u64) -> Dot {
    Dot::new(Actor::new(node, 1), HybridTime::new(ms, 0))
}

/// A record of one write, over another's bytes or over nothing.
fn record(over: Option<&[u8]>, dot: Dot, value: &str) -> Bytes {
    let mut out = Vec::new();
    kv_quorum::blind_overwrite(over, dot, Draft::string(value.as_bytes()), &mut out).unwrap();
    Bytes::from(out)
}

fn hint(target: NodeId, name: &str, record: &Bytes) -> Hint {
    Hint { target, key: key(name), record: record.clone(), counted: true, minted: true }
}

async fn keep(replica: &Replica, hints: &[Hint]) -> Vec<PeerOut> {
    replica.keep_hints(hints, |_| Actor::default(), |_| {}).await
}

fn applied(outs: &[PeerOut]) -> usize {
    outs.iter().filter(|out| matches!(out, PeerOut::Applied { .. })).count()
}

async fn live_of(replica: &Replica, name: &str) -> Vec<Dot> {
    let mut dots = Vec::new();
    let show = &mut |_, found: Option<&[u8]>| {
        let found = found.map(kv_quorum::Record::decode);
        let found = found.map(|record| record.expect("our own bytes"));
        dots.extend(found.iter().flat_map(kv_quorum::Record::live).map(|version| version.dot));
    };
    replica.read_hinted(&[&key(name)], show).await.expect("counted");
    dots.sort_unstable();
    dots
}

#[tokio::test]
async fn hints_of_one_key_are_joined_and_answer_as_a_replica_does() {
    let replica = in_memory(1 << 20);
    let (one, two) = (record(None, dot(1, 10), "one"), record(None, dot(2, 20), "two"));
    assert_eq!(applied(&keep(&replica, &[hint(DOWN, "k", &one)]).await), 1);
    // The second write did not know the first, whichever node it is kept for.
    let told = keep(&replica, &[hint(OTHER, "k", &two)]).await;
    let [PeerOut::Applied { uncovered, coverage, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!(uncovered, &[(1, 1, HybridTime::new(10, 0).to_bits())]);
    let coverage = kv_quorum::Context::from_bytes(coverage).expect("a context");
    assert!(coverage.covers(dot(1, 10)) && !coverage.covers(dot(2, 20)));
    assert_eq!(live_of(&replica, "k").await, [dot(1, 10), dot(2, 20)], "a read joins both");
    // The same key again is the same row.
    let three = record(Some(&one), dot(1, 30), "three");
    assert_eq!(applied(&keep(&replica, &[hint(DOWN, "k", &three)]).await), 1);
    let queued = replica.hints().queued();
    assert_eq!((queued[&DOWN].keys, queued[&OTHER].keys), (1, 1));
    assert_eq!(queued[&DOWN].bytes, (hint_row(DOWN, &key("k")).len() + three.len()) as u64);
    assert_eq!(live_of(&replica, "k").await, [dot(2, 20), dot(1, 30)]);
    let bad = Hint { record: Bytes::from_static(b"?"), ..hint(DOWN, "k", &one) };
    assert!(matches!(&keep(&replica, &[bad]).await[..], [PeerOut::Failed(OpFailure::Malformed)]));
}

#[tokio::test]
async fn a_hint_goes_only_if_it_has_not_changed_since_it_was_sent() {
    let replica = in_memory(1 << 20);
    let one = record(None, dot(1, 10), "one");
    keep(&replica, &[hint(DOWN, "k", &one), hint(DOWN, "l", &one)]).await;
    let (page, end) = replica.hint_page(DOWN, None).await.expect("in memory");
    assert_eq!((page.len(), end), (2, true));
    keep(&replica, &[hint(DOWN, "k", &record(Some(&one), dot(1, 20), "two"))]).await;
    assert_eq!(replica.drop_hints(&page).await.expect("in memory"), 1);
    assert_eq!(live_of(&replica, "k").await, [dot(1, 20)]);
    assert_eq!(live_of(&replica, "l").await, []);
    let (page, _) = replica.hint_page(DOWN, None).await.expect("in memory");
    assert_eq!(replica.drop_hints(&page).await.expect("in memory"), 1);
    assert!(!replica.hints().may_have_some() && replica.hints().bytes() == 0);
}

#[tokio::test]
async fn a_full_log_refuses_and_what_may_be_dropped_is_refused_at_half() {
    let replica = in_memory(4_000);
    let value = record(None, dot(1, 10), &"x".repeat(300));
    let mut kept = 0;
    for n in 0..20 {
        let beyond = Hint { counted: false, ..hint(DOWN, &format!("beyond{n}"), &value) };
        kept += applied(&keep(&replica, &[beyond]).await);
    }
    let half = replica.hints().bytes();
    assert!((1..10).contains(&kept) && half <= 2_000, "{kept} {half}");
    let many: Vec<Hint> = (0..20).map(|n| hint(DOWN, &format!("counted{n}"), &value)).collect();
    let outs = keep(&replica, &many).await;
    let bytes = replica.hints().bytes();
    assert!(bytes <= 4_000 && bytes > 3_000, "{bytes}");
    assert!((1..20).contains(&applied(&outs)));
    let refused = |out: &PeerOut| matches!(out, PeerOut::Failed(OpFailure::Refused(_)));
    assert!(outs.iter().all(|out| refused(out) || matches!(out, PeerOut::Applied { .. })));
    // What is there may still be made smaller, or be said again.
    let again = hint(DOWN, "counted0", &record(Some(&value), dot(1, 11), "y"));
    assert_eq!(applied(&keep(&replica, &[again]).await), 1);
}

#[tokio::test]
async fn hints_survive_a_restart_and_are_counted_before_any_is_taken() {
    let fs = MemFs::new();
    let first = replica(on_disk(&fs), 1 << 20);
    assert_eq!(applied(&keep(&first, &[hint(DOWN, "k", &record(None, dot(1, 5), "v"))]).await), 0);
    first.count_hints(usize::MAX).await.expect("an empty log");
    let hints: Vec<Hint> = (0..30)
        .map(|n| hint(DOWN, &format!("k{n}"), &record(None, dot(1, 10 + n), "value")))
        .collect();
    for some in hints.chunks(5) {
        assert_eq!(applied(&keep(&first, some).await), 5);
    }
    let before = first.hints().queued();
    drop(first);
    let fs = fs.crash(7);
    let second = replica(on_disk(&fs), 1 << 20);
    assert!(second.hints().may_have_some() && second.hints().floor() == Some(HybridTime::ZERO));
    assert!(second.read_hinted(&[&key("k1")], &mut |_, _| {}).await.is_err(), "not counted yet");
    second.count_hints(0).await.expect("nothing was read");
    assert!(!second.hints().is_counted(), "too many for no page");
    second.count_hints(usize::MAX).await.expect("a sound disk");
    assert_eq!(second.hints().queued(), before);
    assert_eq!(second.hints().floor(), Some(HybridTime::new(10, 0)));
    assert_eq!(live_of(&second, "k7").await, [dot(1, 17)]);
}

#[tokio::test]
async fn a_hint_for_who_is_no_replica_any_more_goes_to_those_who_are() {
    let replica = in_memory(1 << 20);
    let (one, two) = (record(None, dot(1, 10), "one"), record(None, dot(2, 20), "two"));
    keep(&replica, &[hint(DOWN, "k", &one), hint(OTHER, "k", &two)]).await;
    let row = hint_row(DOWN, &key("k"));
    replica.hand_hint_on(&row, &[OTHER, NodeId(5)], true).await.expect("in memory");
    let queued = replica.hints().queued();
    let keys: Vec<(NodeId, u64)> = queued.iter().map(|(node, of)| (*node, of.keys)).collect();
    assert_eq!(keys, [(OTHER, 1), (NodeId(5), 1)]);
    let (page, _) = replica.hint_page(OTHER, None).await.expect("in memory");
    let joined = kv_quorum::Record::decode(&page[0].1).expect("our own bytes");
    assert_eq!(joined.live().len(), 2, "joined into what was kept for it");
    let mut own = None;
    let show = &mut |_, found: Option<&[u8]>| own = found.map(<[u8]>::to_vec);
    replica.read(&[&key("k")], show).await.expect("in memory");
    assert_eq!(own.as_deref(), Some(&one[..]), "this node is one of them");
    replica.hand_hint_on(&row, &[OTHER], false).await.expect("nothing there, nothing done");
}

#[tokio::test]
async fn hints_are_no_keys_and_a_flush_kills_them() {
    let replica = in_memory(1 << 20);
    let many: Vec<Hint> = (0..10)
        .map(|n| hint(DOWN, &format!("k{n}"), &record(None, dot(1, 10 + n), "value")))
        .collect();
    keep(&replica, &many).await;
    let keys: u64 = (0..kv_ring::SLOTS).map(|slot| replica.counts().of(slot)).sum();
    assert_eq!(keys, 0, "DBSIZE does not see them");
    let (from, to) = (Bytes::new(), slot_end(u32::MAX - 1, 16_383));
    let page = PageRequest { from, to, rows_max: 100, bytes_max: 1 << 20 };
    assert!(replica.page(page).await.expect("in memory").0.is_empty(), "nor does a scan");
    let rng = Arc::new(SeededRng::new(1));
    let dots = DotSource::open(NodeId(9), sixteen(), meta(&MemFs::new()), rng, 1_000, 60_000);
    let dots = dots.expect("an empty directory");
    replica.flush_durably(HybridTime::new(14, 0), &dots, 1_000).expect("a disk");
    replica.remove_flushed().await.expect("in memory");
    assert_eq!(replica.hints().queued()[&DOWN].keys, 5);
    let late = hint(DOWN, "late", &record(None, dot(1, 14), "late"));
    let refused = keep(&replica, &[late]).await;
    assert_eq!(applied(&refused), 0, "it would be dead at once: {refused:?}");
    assert_eq!(replica.hints().queued()[&DOWN].keys, 5);
}

#[tokio::test]
async fn a_write_below_the_told_floor_is_no_hint_and_a_repair_is() {
    let replica = in_memory(1 << 20);
    assert!(replica.hints().take_none_below(HybridTime::new(20, 0)), "nobody is taking one");
    let old = hint(DOWN, "k", &record(None, dot(1, 20), "old"));
    let refused = keep(&replica, std::slice::from_ref(&old)).await;
    assert!(matches!(&refused[..], [PeerOut::Failed(OpFailure::Refused(_))]), "{refused:?}");
    assert!(!replica.hints().may_have_some());
    let new = hint(DOWN, "k", &record(None, dot(1, 21), "new"));
    assert_eq!(applied(&keep(&replica, &[new]).await), 1);
    assert_eq!(
        applied(&keep(&replica, &[Hint { minted: false, ..old }]).await),
        1,
        "a copy of one"
    );
    let entered = replica.hints().enter().expect("it is counted");
    assert!(!replica.hints().take_none_below(HybridTime::new(20, 0)), "somebody is taking one");
    drop(entered);
}

#[tokio::test]
async fn a_hint_of_which_a_flush_killed_a_part_goes_when_it_is_delivered() {
    let replica = in_memory(1 << 20);
    let one = record(None, dot(1, 10), "flushed");
    let two = record(None, dot(2, 20), "not");
    keep(&replica, &[hint(DOWN, "k", &one), hint(DOWN, "k", &two)]).await;
    let rng = Arc::new(SeededRng::new(1));
    let dots = DotSource::open(NodeId(9), sixteen(), meta(&MemFs::new()), rng, 1_000, 60_000);
    let dots = dots.expect("an empty directory");
    replica.flush_durably(HybridTime::new(14, 0), &dots, 1_000).expect("a disk");
    let (page, _) = replica.hint_page(DOWN, None).await.expect("in memory");
    assert_eq!(replica.drop_hints(&page).await.expect("in memory"), 1);
    assert!(!replica.hints().queued().contains_key(&DOWN));
}
