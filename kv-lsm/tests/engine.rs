//! The engine with its threads, on the machine's file system and in memory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_lsm::fs::MemFs;
use kv_lsm::{Batch, Config, Engine, Threads};

#[test]
fn eight_threads_append_and_wait() {
    let fs = MemFs::new();
    let config = Config { threads: Threads::Background, stall_ms_max: 10_000, ..Config::tiny() };
    let engine = Engine::open(Arc::new(fs.clone()), Path::new("/db"), config.clone()).unwrap();
    let called = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (engine, called) = (engine.clone(), Arc::clone(&called));
            scope.spawn(move || {
                let mut batch = Batch::new();
                for n in 0..500 {
                    batch.clear();
                    batch.put(format!("{thread}/{n}").as_bytes(), format!("{n}").as_bytes());
                    let ticket = engine.append(&batch).unwrap();
                    let called = Arc::clone(&called);
                    let count = Box::new(move |result: Result<(), kv_lsm::Error>| {
                        result.unwrap();
                        called.fetch_add(1, Ordering::Relaxed);
                    });
                    engine.on_durable(ticket, count);
                    if n % 50 == 0 {
                        engine.wait_durable(ticket).unwrap();
                    }
                }
            });
        }
    });
    engine.close().unwrap();
    assert_eq!(called.load(Ordering::Relaxed), 8 * 500);
    let stats = engine.stats();
    assert_eq!(stats.appended, stats.durable);
    assert!(stats.log_syncs < 8 * 500, "no group commit: {} syncs", stats.log_syncs);
    drop(engine);

    let engine = Engine::open(Arc::new(fs.crash(1)), Path::new("/db"), config).unwrap();
    for thread in 0..8 {
        for n in 0..500 {
            let found = engine.get(format!("{thread}/{n}").as_bytes()).unwrap().unwrap();
            assert_eq!(found.value, format!("{n}"));
        }
    }
    assert_eq!(engine.scan::<&[u8]>(..).count(), 4000);
    assert_eq!(engine.scan("3/".."4/").rev().count(), 500);
}
