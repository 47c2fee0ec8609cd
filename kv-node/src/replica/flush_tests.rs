//! What a flush mark makes dead, and what it leaves of what it made dead.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kv_client::NodeId;
use kv_lsm::fs::MemFs;
use kv_quorum::{Actor, Dot, Draft, HybridTime, Mark, Record};
use kv_ring::PartitionCount;

use super::serve::Join;
use super::{HintConfig, Replica, TreeSettings};
use crate::cluster::dots::DotSource;
use crate::cluster::meta::MetaStore;
use crate::keys::KeyRef;
use crate::plug::memory::{MemoryConfig, MemoryEngine};
use crate::plug::rng::SeededRng;
use crate::wire::PeerOut;

fn meta() -> Arc<MetaStore> {
    Arc::new(MetaStore::open(Arc::new(MemFs::new()), Path::new("/meta")).expect("a disk"))
}

fn replica() -> Replica {
    let engine = Arc::new(MemoryEngine::new(MemoryConfig::default()));
    let partitions = PartitionCount::new(16).expect("a power of two");
    let trees = TreeSettings { digest_key: 1, tree_bytes_max: 1 << 16 };
    let replica = Replica::open(engine, meta(), partitions, trees, HintConfig::default());
    replica.expect("an empty directory")
}

fn flush(replica: &Replica, ms: u64) {
    let rng = Arc::new(SeededRng::new(1));
    let partitions = replica.standings().partitions();
    let dots = DotSource::open(NodeId(9), partitions, meta(), rng, 1, 60_000).expect("a disk");
    replica.flush_durably(HybridTime::new(ms, 0), &dots, 1).expect("a disk");
}

fn dot(node: u64, ms: u64) -> Dot {
    Dot::new(Actor::new(node, 1), HybridTime::new(ms, 0))
}

fn value(over: &Record<Bytes>, dot: Dot) -> Record<Bytes> {
    let mut record = over.clone();
    record.mint_blind(dot, Draft::string(Bytes::from_static(b"v"))).expect("a new dot");
    record
}

async fn apply(replica: &Replica, key: &Bytes, record: &Record<Bytes>) -> PeerOut {
    let record = Bytes::from(record.to_bytes());
    let join = Join { key: key.clone(), record, mark: Mark::NONE, minted: false };
    let outs = replica.apply(&[join], |_| Actor::default(), |_| {}).await;
    outs.into_iter().next().expect("one answer")
}

async fn live(replica: &Replica, key: &Bytes) -> Option<Vec<Dot>> {
    let mut live = None;
    let mut show = |_: usize, found: Option<&[u8]>| {
        let record = found.map(|found| Record::decode(found).expect("our own bytes"));
        live = record.map(|record| record.live().iter().map(|version| version.dot).collect());
    };
    replica.read(&[key], &mut show).await.expect("in memory");
    live
}

#[tokio::test]
async fn who_writes_below_a_flush_that_it_does_not_know_is_told_what_lives_above_it() {
    let (replica, key) = (replica(), KeyRef::place(0, b"k").to_storage());
    flush(&replica, 10);
    apply(&replica, &key, &value(&Record::new(), dot(1, 12))).await;
    let PeerOut::Applied { uncovered, coverage, .. } =
        apply(&replica, &key, &value(&Record::new(), dot(2, 9))).await
    else {
        panic!("it was taken")
    };
    assert_eq!(uncovered.len(), 1, "a SET is to mint once more over what lives here");
    assert!(!coverage.is_empty());
    assert_eq!(live(&replica, &key).await, Some(vec![dot(1, 12)]));
    flush(&replica, 12);
    let out = apply(&replica, &key, &value(&Record::new(), dot(2, 11))).await;
    let PeerOut::Applied { uncovered, .. } = out else { panic!("it was taken") };
    assert_eq!(uncovered, [], "nothing lives here");
}

#[tokio::test]
async fn what_a_dead_value_had_replaced_above_the_mark_stays_dead() {
    let (replica, key) = (replica(), KeyRef::place(0, b"k").to_storage());
    // Minted by a node whose clock was far ahead, and replaced by one that did not follow it.
    let ahead = value(&Record::new(), dot(1, 90));
    let newer = value(&ahead, dot(2, 9));
    apply(&replica, &key, &newer).await;
    let keys = || (0..kv_ring::SLOTS).map(|slot| replica.counts().of(slot)).sum::<u64>();
    assert_eq!(keys(), 1);
    flush(&replica, 10);
    assert_eq!(live(&replica, &key).await, Some(Vec::new()));
    apply(&replica, &key, &ahead).await;
    assert_eq!(live(&replica, &key).await, Some(Vec::new()), "a late copy");
    replica.remove_flushed().await.expect("in memory");
    apply(&replica, &key, &ahead).await;
    assert_eq!(live(&replica, &key).await, Some(Vec::new()), "and after it was tidied up");
    assert_eq!(keys(), 0);
    flush(&replica, 90);
    assert_eq!(live(&replica, &key).await, None, "the mark says all of it now");
}
