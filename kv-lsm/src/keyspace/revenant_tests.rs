//! What must not come back, and not turn up elsewhere: rows that were deleted before there were
//! keyspaces and lie where those of one would, damage of dropped keyspaces, rows of keyspaces that
//! come while somebody looks, and of those that come and go while others write.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::tests::{DIR, open, pairs, put, settle, value};
use super::*;
use crate::fs::{File, Fs, MemFs, OpenMode};
use crate::sstable::table_path;
use crate::{Batch, Durability, Engine, Error, Threads};

/// A delete that the log has not made durable is no reason to take the deleted key's place.
#[test]
fn what_was_deleted_before_the_first_keyspace_never_comes_back_as_its_row() {
    let raw = b"\xff\0\0\x01k";
    let (fs, config) = (MemFs::new(), Config::tiny());
    let engine = open(&fs, &config);
    engine.append(Batch::new().put(raw, b"old")).unwrap();
    engine.flush().unwrap();
    engine.append(Batch::new().set_durability(Durability::Os).delete(raw)).unwrap();
    engine.create_keyspace("a").unwrap();
    for cut in 0..4 {
        let after = open(&fs.crash(cut), &config);
        let a = after.keyspace("a").unwrap();
        assert_eq!(a.get(b"k").unwrap(), None, "cut {cut}");
        assert_eq!(pairs(after.scan::<&[u8]>(..)), [], "cut {cut}");
    }
}

/// The same for numbers that come later: what hides the old row stays until the number's turn.
#[test]
fn what_was_deleted_before_keyspaces_never_comes_back_in_a_later_one() {
    let raw = b"\xff\0\0\x03k";
    let (fs, config) = (MemFs::new(), Config::tiny());
    let engine = open(&fs, &config);
    engine.append(Batch::new().put(b"a", b"1").put(raw, b"old")).unwrap();
    engine.flush().unwrap();
    settle(&engine);
    engine.append(Batch::new().delete(raw)).unwrap();
    engine.create_keyspace("a").unwrap();
    engine.flush().unwrap();
    engine.create_keyspace("b").unwrap();
    let third = engine.create_keyspace("c").unwrap();
    assert_eq!(third.token().id, 3);
    assert_eq!(third.get(b"k").unwrap(), None);
    assert_eq!(pairs(third.scan::<&[u8]>(..).unwrap()), []);
    assert_eq!(pairs(engine.scan::<&[u8]>(..)), [("a".into(), "1".into())]);
}

/// Between its looks at the manifest and at the log somebody makes a keyspace and writes to it.
#[derive(Debug)]
struct Meddled {
    inner: MemFs,
    engine: Engine,
    left: AtomicUsize,
}

impl Fs for Meddled {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.inner.open(path, mode)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let left = self.left.load(Ordering::Relaxed);
        if dir != Path::new(DIR) && left > 0 {
            self.left.store(left - 1, Ordering::Relaxed);
            let late = self.engine.create_keyspace(&format!("late{left}")).unwrap();
            put(&self.engine, &late, "k", "v");
            settle(&self.engine);
        }
        self.inner.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.inner.lock(path)
    }
}

#[test]
fn a_look_does_not_take_rows_of_a_keyspace_that_just_came_for_others() {
    for left in [0, 1, 3, 100] {
        let (fs, config) = (MemFs::new(), Config::tiny());
        let engine = open(&fs, &config);
        engine.append(Batch::new().put(b"a", b"1")).unwrap();
        settle(&engine);
        let fs: Arc<dyn Fs> = Arc::new(Meddled { inner: fs, engine, left: left.into() });
        let look = Engine::open_read_only(Arc::clone(&fs), Path::new(DIR), config.clone());
        if left == 100 {
            assert!(matches!(look, Err(Error::Busy { .. })), "it never comes to an end");
            continue;
        }
        let look = look.unwrap();
        assert_eq!(pairs(look.scan::<&[u8]>(..)), [("a".into(), "1".into())]);
        assert_eq!(look.keyspaces().len(), left);
        for name in look.keyspaces() {
            let late = look.keyspace(&name).unwrap();
            assert_eq!(value(late.get(b"k").unwrap()).as_deref(), Some("v"), "{name}");
        }
    }
}

/// A damaged part that only dropped keyspaces had is nobody's, but stops compaction: it must be
/// possible to give it up.
#[test]
fn damage_of_a_dropped_keyspace_can_be_given_up() {
    let (fs, config) = (MemFs::new(), Config::tiny());
    let engine = open(&fs, &config);
    let (a, b) = (engine.create_keyspace("a").unwrap(), engine.create_keyspace("b").unwrap());
    for n in 0..40 {
        put(&engine, &a, &format!("{n:02}"), &format!("{n}").repeat(100));
    }
    put(&engine, &b, "k", "v");
    engine.flush().unwrap();
    let table = Arc::clone(&engine.shared().view().version.level(0)[0]);
    let path = table_path(Path::new(DIR), table.meta().file_id);
    drop((engine, a, b));
    fs.flip_bit(&path, 100, 3).unwrap();
    let engine = open(&fs, &config);
    let b = engine.keyspace("b").unwrap();
    engine.drop_keyspace("a").unwrap();
    for round in 0..20 {
        put(&engine, &b, "k", &format!("v{round}"));
        engine.flush().unwrap();
        settle(&engine);
        for damage in engine.damage() {
            assert_eq!(damage.keyspace, None);
            engine.give_up(&damage);
        }
    }
    settle(&engine);
    assert_eq!(engine.stats().compaction_stopped, None);
    assert_eq!(engine.stats().damaged, 0);
    assert_eq!(value(b.get(b"k").unwrap()).as_deref(), Some("v19"));
    engine.verify().unwrap();
}

/// Two write to a keyspace that stays and to those that come and go, as one; a third makes and
/// drops these; others look, and copy. Whoever sees a keyspace sees in it what its batches have in
/// the other, no more and no less.
#[test]
fn batches_stay_whole_while_keyspaces_come_and_go_beside_them() {
    let (fs, config) = (MemFs::new(), Config { stall_ms_max: 60_000, ..Config::tiny() });
    let config = Config { threads: Threads::Background, ..config };
    let engine = open(&fs, &config);
    let stays = engine.create_keyspace("stays").unwrap();
    let (done, refused, looks) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let write = |who: usize| {
        for n in 0_u32.. {
            if done.load(Ordering::Relaxed) {
                break;
            }
            let Some(name) = engine.keyspaces().into_iter().find(|name| name != "stays") else {
                continue;
            };
            let Some(other) = engine.keyspace(&name) else { continue };
            let (key, text) = (format!("{who}{:03}", n % 200), format!("{n}").repeat(20));
            let mut batch = Batch::new();
            batch.set_durability(Durability::Os);
            batch.put_in(&stays, format!("{name} {key}").as_bytes(), text.as_bytes());
            batch.put_in(&other, key.as_bytes(), text.as_bytes());
            batch.put(b"\xff last", name.as_bytes());
            match engine.append(&batch) {
                Ok(_) => {}
                Err(Error::Keyspace { .. }) => drop(refused.fetch_add(1, Ordering::Relaxed)),
                Err(error) => panic!("{error}"),
            }
        }
    };
    let look = || {
        while !done.load(Ordering::Relaxed) {
            let snapshot = engine.snapshot();
            let walk = snapshot.scan_in::<&[u8]>(&stays, ..).unwrap();
            let all: BTreeMap<String, String> = pairs(walk).into_iter().collect();
            for name in engine.keyspaces().into_iter().filter(|name| name != "stays") {
                let Some(other) = engine.keyspace(&name) else { continue };
                // It may have come after the snapshot, or gone before.
                let Ok(walk) = snapshot.scan_in::<&[u8]>(&other, ..) else { continue };
                let own: Vec<_> = pairs(walk);
                let known = all.iter().filter_map(|(key, text)| {
                    Some((key.strip_prefix(&format!("{name} "))?.to_owned(), text.clone()))
                });
                assert_eq!(own, known.collect::<Vec<_>>(), "{name}");
                looks.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    // What a copy lacks was dropped, and then it has what came before.
    let copy = || {
        for n in 0.. {
            if done.load(Ordering::Relaxed) {
                break;
            }
            let dir = format!("/copy{n}");
            engine.checkpoint(Path::new(&dir)).unwrap();
            let copied = Arc::new(fs.clone());
            let copy = Engine::open(copied, Path::new(&dir), Config::tiny()).unwrap();
            let (keys, live) = (pairs(copy.scan::<&[u8]>(..)), copy.keyspaces());
            let has = |key: &str| keys.iter().any(|(known, _)| known == key);
            for (name, _) in keys.iter().filter(|(key, _)| key.starts_with('k')) {
                let is_whole = live.contains(name) || has(&format!("end of {name}"));
                assert!(is_whole, "{dir}: {name} of {live:?}");
            }
        }
    };
    let change = || {
        for n in 0..60 {
            engine.create_keyspace(&format!("k{n}")).unwrap();
            engine.append(Batch::new().put(format!("k{n}").as_bytes(), b"")).unwrap();
            thread::sleep(std::time::Duration::from_millis(5));
            engine.append(Batch::new().put(format!("end of k{n}").as_bytes(), b"")).unwrap();
            engine.drop_keyspace(&format!("k{n}")).unwrap();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| write(0));
        scope.spawn(|| write(1));
        scope.spawn(look);
        scope.spawn(copy);
        let changed = scope.spawn(change).join();
        done.store(true, Ordering::Relaxed);
        assert!(changed.is_ok());
    });
    assert_eq!(engine.keyspaces(), ["stays"]);
    assert!(looks.load(Ordering::Relaxed) > 10, "{looks:?} looks, {refused:?} refused");
    let all = pairs(stays.scan::<&[u8]>(..).unwrap());
    assert!(!all.is_empty());
    engine.close().unwrap();
    drop((engine, stays));
    let engine = open(&fs.crash(5), &config);
    let stays = engine.keyspace("stays").unwrap();
    assert!(pairs(stays.scan::<&[u8]>(..).unwrap()) == all);
    assert_eq!(pairs(engine.scan::<&[u8]>(..)).len(), 121, "of the default one");
    engine.verify().unwrap();
}
