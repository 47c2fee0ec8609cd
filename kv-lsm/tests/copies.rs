//! Checkpoints, opening without writing, prefixes and sizes, and commits that write for themselves.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which the lint takes for other code")]

use std::path::Path;
use std::sync::Arc;

use kv_lsm::fs::{Fs, MemFs, OpenMode, OsFs};
use kv_lsm::{Batch, Config, Durability, Engine, Error, Threads};

fn key(n: u32) -> Vec<u8> {
    format!("key/{n:06}").into_bytes()
}

fn fill(engine: &Engine, numbers: std::ops::Range<u32>, value: &[u8]) {
    for n in numbers {
        let ticket = engine.append(Batch::new().put(&key(n), value)).unwrap();
        engine.wait_durable(ticket).unwrap();
    }
}

fn all(engine: &Engine) -> Vec<(Vec<u8>, Vec<u8>)> {
    let plain = |item: Result<(bytes::Bytes, bytes::Bytes), Error>| {
        let (key, value) = item.unwrap();
        (key.to_vec(), value.to_vec())
    };
    engine.scan::<&[u8]>(..).map(plain).collect()
}

/// Names and contents of a directory of a file system in memory.
fn contents(fs: &MemFs, dir: &Path) -> Vec<(String, Vec<u8>)> {
    let names = fs.list(dir).unwrap();
    let read = |name: String| {
        let file = fs.open(&dir.join(&name), OpenMode::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

#[test]
fn a_checkpoint_opens_with_what_was_there_and_nothing_later() {
    for threads in [Threads::Inline, Threads::Background] {
        let fs = MemFs::new();
        let config = Config { threads, ..Config::tiny() };
        let config = Config { stall_ms_max: 5_000, ..config };
        let engine = Engine::open(Arc::new(fs.clone()), Path::new("/db"), config.clone()).unwrap();
        fill(&engine, 0..400, b"before");
        let before = all(&engine);
        let ticket = engine.checkpoint(Path::new("/copy")).unwrap();
        assert!(ticket >= engine.durable());
        fill(&engine, 100..500, b"after");
        assert!(engine.checkpoint(Path::new("/copy")).is_err(), "it has files");

        // It survives a power cut that comes right after.
        let copy = Engine::open(Arc::new(fs.crash(7)), Path::new("/copy"), config.clone()).unwrap();
        assert_eq!(all(&copy), before);
        copy.verify().unwrap();
        fill(&copy, 0..10, b"its own");
        copy.close().unwrap();
        engine.close().unwrap();
    }
}

#[test]
fn a_directory_is_read_without_a_byte_of_it_changing() {
    let fs = MemFs::new();
    let dir = Path::new("/db");
    let engine = Engine::open(Arc::new(fs.clone()), dir, Config::tiny()).unwrap();
    fill(&engine, 0..300, b"value");
    let unflushed = engine.stats();
    assert!(unflushed.memtable_bytes > 0 && unflushed.flushes > 0, "{unflushed:?}");
    let want = all(&engine);
    drop(engine);
    let before = (contents(&fs, dir), contents(&fs, &dir.join("log")));
    let look = Engine::open_read_only(Arc::new(fs.clone()), dir, Config::tiny()).unwrap();
    assert_eq!(all(&look), want);
    look.verify().unwrap();
    assert!(matches!(look.append(Batch::new().put(b"k", b"v")), Err(Error::Closed)));
    drop(look);
    assert_eq!((contents(&fs, dir), contents(&fs, &dir.join("log"))), before);
    let nowhere = Engine::open_read_only(Arc::new(fs), Path::new("/none"), Config::tiny());
    assert!(matches!(nowhere, Err(Error::Io { .. })));
}

#[test]
fn prefixes_are_walked_from_both_ends_and_sizes_add_up() {
    let engine = Engine::open(Arc::new(MemFs::new()), Path::new("/db"), Config::tiny()).unwrap();
    fill(&engine, 0..1000, &[7; 50]);
    assert_eq!(engine.scan_prefix(b"key/0001").count(), 100);
    assert_eq!(engine.scan_prefix(b"key/0001").rev().count(), 100);
    assert_eq!(engine.scan_prefix(b"nothing").count(), 0);
    assert_eq!(engine.scan_prefix(b"").count(), 1000);
    engine.flush().unwrap();
    let whole = engine.approximate_bytes::<&[u8]>(..).unwrap();
    let half = engine.approximate_bytes(key(0)..key(500)).unwrap();
    assert!(half * 10 > whole * 3 && half * 10 < whole * 8, "{half} of {whole}");
    assert_eq!(engine.approximate_bytes(b"x".to_vec()..).unwrap(), 0);
}

#[test]
fn a_range_is_deleted_and_nothing_beside_it() {
    let engine = Engine::open(Arc::new(MemFs::new()), Path::new("/db"), Config::tiny()).unwrap();
    fill(&engine, 0..3000, b"value");
    let erased = engine.delete_range(key(500)..key(2700), Durability::Sync).unwrap();
    assert_eq!(erased.keys, 2200);
    engine.wait_durable(erased.ticket).unwrap();
    assert_eq!(all(&engine).len(), 800);
    assert_eq!(engine.delete_prefix(b"key/0029", Durability::Sync).unwrap().keys, 100);
    assert_eq!(engine.delete_prefix(b"key/0029", Durability::Sync).unwrap().keys, 0);
    assert!(engine.get(&key(2899)).unwrap().is_some() && engine.get(&key(2900)).unwrap().is_none());
}

#[test]
fn commits_of_many_threads_are_there_when_opened_again() {
    let dir = std::env::temp_dir().join(format!("kv-lsm-commits-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let config = Config { stall_ms_max: 60_000, ..Config::default() };
    let open = || Engine::open(Arc::new(OsFs::new()), &dir, config.clone()).unwrap();
    for durability in [Durability::Os, Durability::Sync, Durability::Periodic { ms: 2 }] {
        let engine = open();
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let engine = &engine;
                scope.spawn(move || {
                    let mut batch = Batch::new();
                    batch.set_durability(durability);
                    for n in 0..100 {
                        batch.clear();
                        batch.put(&key(thread * 1000 + n), format!("{durability:?}").as_bytes());
                        let ticket = engine.commit(&batch).unwrap();
                        assert!(ticket <= engine.durable());
                    }
                });
            }
        });
        assert_eq!(all(&engine).len(), 400);
        engine.close().unwrap();
        drop(engine);
        assert!(all(&open()).iter().all(|(_, v)| *v == format!("{durability:?}").into_bytes()));
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
