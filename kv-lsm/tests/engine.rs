//! The engine as its users see it: with its threads and without, in memory and on the machine's
//! file system.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which the lint takes for other code")]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kv_lsm::fs::{File, Fs, MemFs, OpenMode, OsFs};
use kv_lsm::{
    Batch, CompactionFilter, Config, Decision, Durability, Engine, Error, Probe, Resident,
    StepOutcome, Threads,
};
use parking_lot::RwLock;

fn inline() -> (MemFs, Engine) {
    let fs = MemFs::new();
    let engine = open(&fs, Config::tiny());
    (fs, engine)
}

fn open(fs: &MemFs, config: Config) -> Engine {
    Engine::open(Arc::new(fs.clone()), Path::new("/db"), config).unwrap()
}

fn put(engine: &Engine, key: &str, value: &str) -> kv_lsm::Ticket {
    let mut batch = Batch::new();
    batch.put(key.as_bytes(), value.as_bytes());
    engine.append(&batch).unwrap()
}

fn get(engine: &Engine, key: &str) -> Option<String> {
    let found = engine.get(key.as_bytes()).unwrap()?;
    Some(String::from_utf8(found.value.to_vec()).unwrap())
}

fn settle(engine: &Engine) {
    while engine.step().unwrap() != StepOutcome::Idle {}
}

/// Fills until at least one flush has happened.
fn fill(engine: &Engine) {
    let mut n = 0;
    while engine.stats().flushes == 0 {
        put(engine, &format!("fill{n:05}"), &"x".repeat(500));
        n += 1;
        if engine.stats().memtables_sealed > 0 {
            settle(engine);
        }
    }
}

#[test]
fn eight_threads_append_and_wait() {
    let fs = MemFs::new();
    let config = Config { threads: Threads::Background, stall_ms_max: 60_000, ..Config::tiny() };
    let engine = open(&fs, config.clone());
    let called = Arc::new(AtomicU64::new(0));
    let last = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (engine, called, last) = (engine.clone(), Arc::clone(&called), Arc::clone(&last));
            scope.spawn(move || {
                let mut batch = Batch::new();
                for n in 0..500 {
                    batch.clear();
                    batch.put(format!("{thread}/{n}").as_bytes(), format!("{n}").as_bytes());
                    let ticket = engine.append(&batch).unwrap();
                    assert_eq!(get(&engine, &format!("{thread}/{n}")), Some(format!("{n}")));
                    let (called, last) = (Arc::clone(&called), Arc::clone(&last));
                    let count = Box::new(move |result: Result<(), Error>| {
                        result.unwrap();
                        called.fetch_add(1, Ordering::Relaxed);
                        last.fetch_max(ticket.seq(), Ordering::Relaxed);
                    });
                    engine.on_durable(ticket, count);
                    if n % 50 == 0 {
                        engine.wait_durable(ticket).unwrap();
                        assert!(engine.durable() >= ticket);
                    }
                }
            });
        }
    });
    engine.close().unwrap();
    assert_eq!(called.load(Ordering::Relaxed), 8 * 500);
    let stats = engine.stats();
    assert_eq!(stats.appended, stats.durable);
    assert_eq!(last.load(Ordering::Relaxed), stats.durable.seq());
    assert!(stats.flushes > 0, "nothing was flushed: {stats:?}");
    drop(engine);

    let engine = open(&fs.crash(1), config);
    for thread in 0..8 {
        for n in 0..500 {
            assert_eq!(get(&engine, &format!("{thread}/{n}")), Some(format!("{n}")));
        }
    }
    assert_eq!(engine.scan::<&[u8]>(..).count(), 4000);
    assert_eq!(engine.scan("3/".."4/").rev().count(), 500);
    engine.verify().unwrap();
}

#[test]
fn writers_share_syncs() {
    // A sync that takes a while, as on a disk: the appends meanwhile share the next one.
    let dir = TempDir::new("share");
    let config = Config { threads: Threads::Background, ..Config::tiny() };
    let engine = Engine::open(Arc::new(OsFs::new()), &dir.0, config).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let engine = engine.clone();
            scope.spawn(move || {
                for n in 0..20 {
                    let ticket = put(&engine, &format!("{thread}/{n}"), "x");
                    engine.wait_durable(ticket).unwrap();
                }
            });
        }
    });
    let stats = engine.stats();
    assert!(stats.log_syncs < 160, "no group commit: {} syncs", stats.log_syncs);
    let copy = engine.clone();
    drop(engine);
    assert_eq!(copy.scan::<&[u8]>(..).count(), 160);
    let locked = Engine::open(Arc::new(OsFs::new()), &dir.0, Config::tiny());
    assert!(matches!(locked, Err(Error::Locked { .. })), "{locked:?}");
    drop(copy);
    let engine = Engine::open(Arc::new(OsFs::new()), &dir.0, Config::tiny()).unwrap();
    assert_eq!(engine.scan::<&[u8]>(..).count(), 160);
}

#[test]
fn a_snapshot_sees_its_moment_through_flushes_and_compactions() {
    let (_fs, engine) = inline();
    put(&engine, "a", "old");
    put(&engine, "b", "kept");
    let snapshot = engine.snapshot();
    put(&engine, "a", "new");
    let mut batch = Batch::new();
    batch.delete(b"b");
    engine.append(&batch).unwrap();
    for round in 0..6 {
        for n in 0..40 {
            put(&engine, &format!("fill{n:05}"), &format!("{round}").repeat(900));
        }
        settle(&engine);
    }
    let stats = engine.stats();
    assert!(stats.flushes > 2 && stats.compactions > 0, "{stats:?}");
    let seen: Vec<_> = snapshot.scan::<&[u8]>(..).map(Result::unwrap).collect();
    assert_eq!(seen, [("a".into(), "old".into()), ("b".into(), "kept".into())]);
    assert_eq!(snapshot.get(b"a").unwrap().unwrap().value, "old");
    assert_eq!(snapshot.get(b"fill00001").unwrap(), None);
    assert!(snapshot.ticket() <= engine.durable());
    assert_eq!((get(&engine, "a"), get(&engine, "b")), (Some("new".to_owned()), None));
    assert_eq!(engine.stats().snapshots, 1);
    drop(snapshot);
    assert_eq!(engine.stats().snapshots, 0);
}

#[test]
fn resident_reads_say_when_only_the_disk_knows() {
    let (fs, engine) = inline();
    fill(&engine);
    put(&engine, "memory", "here");
    assert!(matches!(engine.get_resident(b"memory").unwrap(), Resident::Found(_)));
    let told = engine.explain(b"memory").unwrap().memtable.unwrap();
    assert_eq!((told.index, told.is_tombstone), (0, false));
    engine.close().unwrap();
    drop(engine);

    let engine = open(&fs, Config::tiny());
    assert_eq!(engine.get_resident(b"fill00000").unwrap(), Resident::NeedsIo);
    assert!(engine.get(b"fill00000").unwrap().is_some());
    let Resident::Found(found) = engine.get_resident(b"fill00000").unwrap() else {
        panic!("the block that was just read is not in the cache");
    };
    assert!(found.ticket <= engine.durable());
    assert_eq!(engine.get_resident(b"zzz").unwrap(), Resident::Absent);
    let probes = engine.explain(b"fill00000").unwrap().tables;
    assert!(
        probes.iter().any(|probe| matches!(probe.probe, Probe::Block { cached: true, .. })),
        "{probes:?}"
    );
}

#[test]
fn the_log_stays_within_its_bound() {
    let fs = MemFs::new();
    // A hot key: the memtable stays small, the log grows.
    let config = Config { memtable_bytes_max: 64 << 20, ..Config::tiny() };
    let engine = open(&fs, config.clone());
    for n in 0..4000 {
        put(&engine, "hot", &format!("{n}").repeat(50));
        engine.step().unwrap();
        let bytes = engine.stats().log_bytes;
        // Over by a segment for each memtable that may still be in line.
        let over = (config.memtables_sealed_max as u64 + 1) * config.log_segment_bytes;
        assert!(bytes <= config.log_bytes_max + over, "{bytes} at {n}");
    }
    assert!(engine.stats().flushes > 0);
    let files = fs.list(Path::new("/db/log")).unwrap();
    assert!(files.len() <= 4 + 3 + 2, "{files:?}");
}

#[test]
fn what_is_too_large_is_refused_and_leaves_nothing() {
    let (_fs, engine) = inline();
    let before = engine.stats().appended;
    for (key, value) in [(2 << 10, 1), (1, 9 << 10)] {
        let mut batch = Batch::new();
        batch.put(&vec![1; key], &vec![1; value]);
        assert!(matches!(engine.append(&batch), Err(Error::TooLarge { .. })));
    }
    let mut batch = Batch::new();
    for n in 0..4_u8 {
        batch.put(&[n], &[1; 8 << 10]);
    }
    assert!(matches!(engine.append(&batch), Err(Error::TooLarge { what: "batch", .. })));
    assert_eq!(engine.stats().appended, before);
    assert_eq!(engine.scan::<&[u8]>(..).count(), 0);
    // The largest batch that is allowed fits, one after another.
    batch.clear();
    batch.put(b"a", &[1; 8 << 10]).put(b"b", &[1; 7 << 10]);
    for _ in 0..10 {
        engine.append(&batch).unwrap();
    }
    settle(&engine);
    assert_eq!(engine.stats().appended, engine.durable());
}

#[test]
fn weaker_durability_costs_fewer_syncs_and_periodic_ones_come() {
    let (_fs, engine) = inline();
    let mut batch = Batch::new();
    batch.set_durability(Durability::Os).put(b"os", b"1");
    let ticket = engine.append(&batch).unwrap();
    assert_eq!(engine.step().unwrap(), StepOutcome::Logged);
    assert!(engine.durable() >= ticket);
    assert_eq!(engine.stats().log_syncs, 0);
    assert_eq!(engine.step().unwrap(), StepOutcome::Synced);
    assert_eq!(engine.step().unwrap(), StepOutcome::Idle);

    let config = Config { threads: Threads::Background, stall_ms_max: 60_000, ..Config::tiny() };
    let engine = open(&MemFs::new(), config);
    batch.clear();
    batch.set_durability(Durability::Periodic { ms: 20 }).put(b"p", b"1");
    // Appends without a pause must not put the sync off.
    let begin = Instant::now();
    while engine.stats().log_syncs < 3 && begin.elapsed() < Duration::from_secs(20) {
        engine.append(&batch).unwrap();
    }
    let stats = engine.stats();
    assert!(stats.log_syncs >= 3, "{stats:?}");
    assert!(stats.log_syncs < stats.log_frames, "{stats:?}");
}

#[test]
fn after_close_writes_fail_and_reads_go_on() {
    for threads in [Threads::Inline, Threads::Background] {
        let engine = open(&MemFs::new(), Config { threads, ..Config::tiny() });
        let ticket = put(&engine, "k", "v");
        engine.close().unwrap();
        engine.wait_durable(ticket).unwrap();
        let mut batch = Batch::new();
        batch.put(b"k", b"w");
        assert!(matches!(engine.append(&batch), Err(Error::Closed)));
        assert_eq!(get(&engine, "k").as_deref(), Some("v"));
        engine.close().unwrap();
    }
}

/// A file system whose file syncs wait while the gate is shut.
#[derive(Clone, Debug)]
struct Gated(MemFs, Arc<RwLock<()>>);

#[derive(Debug)]
struct GatedFile(Arc<dyn File>, Arc<RwLock<()>>);

impl Fs for Gated {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(GatedFile(self.0.open(path, mode)?, Arc::clone(&self.1))))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.0.lock(path)
    }
}

impl File for GatedFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        let _open = self.1.read();
        self.0.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
}

#[test]
fn while_a_sync_hangs_writes_gather_reads_go_on_and_then_it_is_busy() {
    let gate = Arc::new(RwLock::new(()));
    let fs = Gated(MemFs::new(), Arc::clone(&gate));
    let config = Config { threads: Threads::Background, stall_ms_max: 20, ..Config::tiny() };
    let engine = Engine::open(Arc::new(fs), Path::new("/db"), config).unwrap();
    let before = put(&engine, "first", "1");
    engine.wait_durable(before).unwrap();

    let shut = gate.write();
    let mut last = before;
    let mut gathered = 0;
    let refused = loop {
        let mut batch = Batch::new();
        batch.put(format!("k{gathered}").as_bytes(), &[1; 500]);
        match engine.append(&batch) {
            Ok(ticket) => last = ticket,
            Err(e) => break e,
        }
        gathered += 1;
        assert!(gathered < 100, "the log buffer has no bound");
    };
    assert!(matches!(refused, Error::Busy { what: "log buffer" }), "{refused:?}");
    assert!(gathered >= 7, "only {gathered} batches gathered in a buffer of 4 KiB");
    assert_eq!(engine.durable(), before);
    let Resident::Found(found) = engine.get_resident(b"k0").unwrap() else { panic!("k0") };
    assert!(found.ticket > engine.durable());
    let waiting = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&waiting);
    engine.on_durable(
        last,
        Box::new(move |r| seen.store(1 + u64::from(r.is_err()), Ordering::SeqCst)),
    );
    assert_eq!(waiting.load(Ordering::SeqCst), 0);

    drop(shut);
    engine.wait_durable(last).unwrap();
    engine.close().unwrap();
    assert_eq!(waiting.load(Ordering::SeqCst), 1);
    assert_eq!(engine.scan::<&[u8]>(..).count(), gathered + 1);
}

#[test]
fn random_work_agrees_with_a_map() {
    for seed in 0..4 {
        let (_fs, engine) = inline();
        let mut random = seed;
        let mut next = |bound: u64| {
            random = u64::wrapping_mul(random, 6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let mut map = BTreeMap::new();
        for _ in 0..2_000 {
            let key = format!("{:03}", next(300));
            if next(4) == 0 {
                let mut batch = Batch::new();
                batch.delete(key.as_bytes());
                engine.append(&batch).unwrap();
                map.remove(&key);
            } else {
                let value = format!("{}", next(1 << 30)).repeat(next(20) as usize);
                put(&engine, &key, &value);
                map.insert(key, value);
            }
            if next(3) == 0 {
                engine.step().unwrap();
            }
            let key = format!("{:03}", next(300));
            assert_eq!(get(&engine, &key), map.get(&key).cloned());
        }
        let (from, to) = (format!("{:03}", next(150)), format!("{:03}", 150 + next(150)));
        let known: Vec<_> =
            map.range(from.clone()..to.clone()).map(|(k, v)| (k.clone(), v.clone())).collect();
        let (from, to) = (from.as_str(), to.as_str());
        let text = |pair: Result<(bytes::Bytes, bytes::Bytes), Error>| {
            let (key, value) = pair.unwrap();
            (String::from_utf8(key.to_vec()).unwrap(), String::from_utf8(value.to_vec()).unwrap())
        };
        let forward: Vec<_> = engine.scan(from..to).map(text).collect();
        assert_eq!(forward, known);
        let mut backward: Vec<_> = engine.scan(from..to).rev().map(text).collect();
        backward.reverse();
        assert_eq!(backward, known);
        assert_eq!(engine.scan(to..from).count(), 0);
    }
}

/// The disk as a power cut would leave it, taken again and again while eight threads write, and
/// the engine's own threads sync, flush and compact.
#[test]
fn power_cuts_while_all_threads_work() {
    const WRITERS: usize = 8;
    let fs = MemFs::new();
    let config = Config { threads: Threads::Background, stall_ms_max: 60_000, ..Config::tiny() };
    let engine = open(&fs, config);
    let durable: Vec<_> = (0..WRITERS).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (writer, durable) in durable.iter().enumerate() {
            let (engine, stop) = (&engine, &stop);
            scope.spawn(move || {
                for n in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let ticket = put(engine, &format!("{writer}"), &format!("{n:0200}"));
                    let durable = Arc::clone(durable);
                    let note = move |result: Result<(), Error>| {
                        result.unwrap();
                        durable.store(n, Ordering::SeqCst);
                    };
                    engine.on_durable(ticket, Box::new(note));
                    put(engine, &format!("{writer}/{:03}", n % 500), &format!("{n:0100}"));
                }
            });
        }
        for seed in 0..40 {
            std::thread::sleep(Duration::from_millis(5));
            let known: Vec<u64> = durable.iter().map(|d| d.load(Ordering::SeqCst)).collect();
            let found = open(&fs.crash(seed), Config::tiny());
            for (writer, known) in known.into_iter().enumerate() {
                let count = get(&found, &format!("{writer}")).map_or(0, |n| n.parse().unwrap());
                assert!(count >= known, "cut {seed}: writer {writer} lost {known}, has {count}");
                // No hole: what was appended before is there, too.
                if count > 1 {
                    let before = get(&found, &format!("{writer}/{:03}", (count - 1) % 500));
                    let before: u64 = before.unwrap().parse().unwrap();
                    assert!(before == count - 1, "cut {seed}: {before} before {count}");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let stats = engine.stats();
    assert!(stats.flushes > 0 && stats.compactions > 0, "{stats:?}");
    engine.close().unwrap();
}

#[test]
fn the_last_clone_may_go_away_in_a_callback() {
    let gate = Arc::new(RwLock::new(()));
    let fs = Gated(MemFs::new(), Arc::clone(&gate));
    let config = Config { threads: Threads::Background, ..Config::tiny() };
    let engine = Engine::open(Arc::new(fs.clone()), Path::new("/db"), config).unwrap();
    let shut = gate.write();
    let ticket = put(&engine, "k", "v");
    let (gone, wait) = std::sync::mpsc::channel();
    let copy = engine.clone();
    let callback = move |result: Result<(), Error>| {
        drop(copy);
        gone.send(result.is_ok()).unwrap();
    };
    engine.on_durable(ticket, Box::new(callback));
    drop(engine);
    drop(shut);
    assert!(wait.recv_timeout(Duration::from_secs(30)).unwrap());
    // The lock goes when the threads have ended.
    let begin = Instant::now();
    let engine = loop {
        match Engine::open(Arc::new(fs.clone()), Path::new("/db"), Config::tiny()) {
            Ok(engine) => break engine,
            Err(e) => assert!(begin.elapsed() < Duration::from_secs(30), "{e}"),
        }
    };
    assert_eq!(get(&engine, "k").as_deref(), Some("v"));
}

#[test]
fn damage_stops_compaction_and_nothing_else() {
    let fs = MemFs::new();
    let engine = open(&fs, Config::tiny());
    fill(&engine);
    settle(&engine);
    let names = fs.list(Path::new("/db")).unwrap();
    let table = names.iter().find(|name| name.ends_with("table")).unwrap();
    fs.flip_bit(&Path::new("/db").join(table), 20, 1).unwrap();
    assert!(matches!(engine.verify(), Err(Error::Corrupt { .. })));
    for n in 0..60 {
        put(&engine, &format!("fill{n:05}"), &"y".repeat(500));
        settle(&engine);
    }
    let stopped = engine.stats().compaction_stopped.unwrap();
    assert!(stopped.contains("damage"), "{stopped}");
    assert_eq!(engine.stats().poisoned, None);
    assert!(get(&engine, "fill00059").is_some());
    let answers = engine.scan::<&[u8]>(..).filter_map(Result::err).count();
    assert_eq!(answers, 1, "a scan over damage must end with its error");
}

#[derive(Debug)]
struct Panics;

impl CompactionFilter for Panics {
    fn decide(&self, _key: &[u8], _value: &[u8]) -> Decision {
        panic!("a filter of the owner that panics");
    }
}

#[test]
fn a_panic_in_the_background_poisons() {
    let config = Config {
        threads: Threads::Background,
        stall_ms_max: 60_000,
        compaction_filter: Some(Arc::new(Panics)),
        ..Config::tiny()
    };
    let engine = open(&MemFs::new(), config);
    let mut batch = Batch::new();
    batch.put(b"k", &[1; 4000]);
    let begin = Instant::now();
    let error = loop {
        match engine.append(&batch) {
            Ok(_) => assert!(begin.elapsed() < Duration::from_secs(30), "never poisoned"),
            Err(e) => break e,
        }
    };
    assert!(matches!(&error, Error::Poisoned { cause } if cause.contains("panicked")), "{error}");
    assert!(engine.get(b"k").unwrap().is_some());
    engine.close().unwrap_err();
}

/// A directory of the machine, removed when dropped.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kv-lsm-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
