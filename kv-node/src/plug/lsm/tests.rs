//! The contract on a memory disk and on a real one, crashes, failed syncs, groups.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use kv_lsm::fs::{MemFs, OsFs};

use super::*;
use crate::keys::KeyRef;
use crate::plug::contract;
use crate::plug::exec::{InlineExec, TokioExec};
use crate::plug::storage::WriteBatch;

fn inline(fs: Arc<dyn Fs>, durability: LsmDurability) -> LsmEngine {
    let config = kv_lsm::Config::tiny();
    LsmEngine::open(fs, Path::new("/db"), config, durability, Arc::new(InlineExec)).unwrap()
}

fn one(key: &[u8], value: &[u8]) -> FrozenBatch {
    let mut batch = WriteBatch::default();
    batch.put(key, value);
    batch.freeze()
}

#[tokio::test]
async fn inline_in_memory_it_keeps_the_contract() {
    contract::suite(async || inline(Arc::new(MemFs::new()), LsmDurability::Sync)).await;
    contract::suite(async || inline(Arc::new(MemFs::new()), LsmDurability::Os)).await;
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[tokio::test]
async fn with_threads_on_a_disk_it_keeps_the_contract() {
    let name = format!("kv-node-lsm-contract-{}", std::process::id());
    let scratch = Scratch(std::env::temp_dir().join(name));
    let count = AtomicU64::new(0);
    contract::suite(async || {
        let dir = scratch.0.join(count.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir_all(&dir).unwrap();
        let config = kv_lsm::Config { threads: Threads::Background, ..kv_lsm::Config::tiny() };
        let (fs, exec) = (Arc::new(OsFs::new()), Arc::new(TokioExec));
        LsmEngine::open(fs, &dir, config, LsmDurability::Sync, exec).unwrap()
    })
    .await;
}

#[tokio::test]
async fn what_was_durable_survives_a_crash_and_tickets_say_what_was() {
    let fs = MemFs::new();
    let engine = inline(Arc::new(fs.clone()), LsmDurability::Sync);
    let (kept, lost) = (KeyRef::place(0, b"kept").to_storage(), KeyRef::place(0, b"x"));
    let ticket = engine.append(&one(&kept, b"1")).unwrap();
    assert!(!ticket.is_durable());
    let mut waits = false;
    engine
        .visit_resident(&[&kept], &mut |_, resident| {
            waits = matches!(resident, Resident::Found { ticket, .. } if !ticket.is_durable());
        })
        .unwrap();
    assert!(waits, "a row that is not synced must not be shown yet");
    engine.durable(ticket).await.unwrap();
    let read = engine.read(std::slice::from_ref(&kept)).await.unwrap();
    assert!(read[0].as_ref().unwrap().ticket.is_durable());
    engine.append(&one(&lost.to_storage(), b"2")).unwrap();
    drop(engine);
    let engine = inline(Arc::new(fs.crash(7)), LsmDurability::Sync);
    let read = engine.read(&[kept, lost.to_storage()]).await.unwrap();
    assert_eq!(read[0].as_ref().unwrap().bytes, &b"1"[..]);
    assert_eq!(read[1], None, "what was never synced was never promised");
}

#[tokio::test]
async fn batches_of_one_turn_share_one_sync() {
    let engine = inline(Arc::new(MemFs::new()), LsmDurability::Sync);
    let before = engine.inner().stats().log_syncs;
    let writes = (0..16_u8).map(|n| {
        let engine = engine.clone();
        async move {
            let key = KeyRef::place(0, &[n]).to_storage();
            let ticket = engine.append(&one(&key, b"v")).unwrap();
            engine.durable(ticket).await.unwrap();
        }
    });
    futures::future::join_all(writes).await;
    assert_eq!(engine.inner().stats().log_syncs - before, 1);
}

#[tokio::test]
async fn a_failed_sync_is_told_and_poisons() {
    let fs = MemFs::new();
    let engine = inline(Arc::new(fs.clone()), LsmDurability::Sync);
    let key = KeyRef::place(0, b"a").to_storage();
    let ticket = engine.append(&one(&key, b"v")).unwrap();
    fs.fail_sync_after(0);
    assert!(engine.durable(ticket).await.is_err());
    let refused = engine.append(&one(&key, b"w"));
    assert!(matches!(refused, Err(StorageError::Poisoned(_))), "{refused:?}");
    assert!(engine.status(None).0.poisoned.is_some());
}
