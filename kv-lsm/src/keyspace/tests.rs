//! Keyspaces beside each other in one engine: nothing of one is seen in another, each has its own
//! options in its tables, and what is dropped is gone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::fs::{Fs, MemFs, OpenMode};
use crate::sstable::BlockedBloom;
use crate::version::LEVELS;
use crate::{Batch, Durability, Engine, Error, Resident, Snapshot, StepOutcome, Threads};

pub(super) const DIR: &str = "/db";

pub(super) fn open(fs: &MemFs, config: &Config) -> Engine {
    Engine::open(Arc::new(fs.clone()), Path::new(DIR), config.clone()).unwrap()
}

pub(super) fn settle(engine: &Engine) {
    while engine.step().unwrap() != StepOutcome::Idle {}
}

pub(super) fn value(found: Option<crate::Found>) -> Option<String> {
    found.map(|found| String::from_utf8(found.value.to_vec()).unwrap())
}

pub(super) fn pairs(walk: crate::Iter) -> Vec<(String, String)> {
    let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
    walk.map(Result::unwrap).map(|(key, value)| (text(key), text(value))).collect()
}

pub(super) fn put(engine: &Engine, keyspace: &Keyspace, key: &str, value: &str) {
    engine.append(Batch::new().put_in(keyspace, key.as_bytes(), value.as_bytes())).unwrap();
}

fn table_names(fs: &MemFs) -> Vec<String> {
    let names = fs.list(Path::new(DIR)).unwrap().into_iter();
    names.filter(|name| Path::new(name).extension().is_some_and(|e| e == "table")).collect()
}

#[test]
fn the_same_key_is_another_in_each_and_walks_stay_inside() {
    for threads in [Threads::Inline, Threads::Background] {
        let fs = MemFs::new();
        let config = Config { threads, stall_ms_max: 60_000, ..Config::tiny() };
        let engine = open(&fs, &config);
        let (a, b) = (engine.create_keyspace("a").unwrap(), engine.create_keyspace("b").unwrap());
        let mut batch = Batch::new();
        batch.put(b"k", b"default").put_in(&a, b"k", b"of a").put_in(&b, b"k", b"of b");
        batch.put_in(&a, b"\xff\xff", b"last of a").put(b"\xff", b"marked").delete_in(&b, b"x");
        let ticket = engine.commit(&batch).unwrap();
        assert_eq!(engine.stats().appended, ticket);
        for round in 0..3 {
            assert_eq!(value(engine.get(b"k").unwrap()).as_deref(), Some("default"));
            assert_eq!(value(engine.get(b"\xff").unwrap()).as_deref(), Some("marked"));
            assert_eq!(value(a.get(b"k").unwrap()).as_deref(), Some("of a"));
            assert_eq!(value(b.get(b"k").unwrap()).as_deref(), Some("of b"));
            assert!(matches!(a.get_resident(b"none").unwrap(), Resident::Absent));
            assert_eq!(value(b.get(b"\xff\xff").unwrap()), None);
            let (keys, marked) = (pairs(engine.scan::<&[u8]>(..)), "\u{fffd}".to_owned());
            assert_eq!(keys, [("k".into(), "default".into()), (marked, "marked".into())]);
            assert_eq!(pairs(a.scan::<&[u8]>(..).unwrap()).len(), 2);
            assert_eq!(pairs(b.scan::<&[u8]>(..).unwrap()), [("k".into(), "of b".into())]);
            let mut back = a.scan(&b"l"[..]..).unwrap().rev();
            assert_eq!(back.next().unwrap().unwrap().0, &b"\xff\xff"[..]);
            assert!(back.next().is_none());
            assert_eq!(pairs(engine.scan_prefix(b"\xff")).len(), 1);
            assert_eq!(pairs(a.scan_prefix(b"\xff").unwrap()).len(), 1);
            engine.flush().unwrap();
            if round > 0 {
                settle(&engine);
            }
        }
        assert_eq!(engine.keyspaces(), ["a", "b"]);
        engine.close().unwrap();
        drop((engine, a, b));
        let engine = open(&fs.crash(1), &config);
        assert_eq!(engine.keyspaces(), ["a", "b"]);
        let a = engine.keyspace("a").unwrap();
        assert_eq!(value(a.get(b"k").unwrap()).as_deref(), Some("of a"));
        assert_eq!(value(engine.get(b"\xff").unwrap()).as_deref(), Some("marked"));
        assert!(engine.keyspace("c").is_none());
    }
}

#[test]
fn names_and_handles_are_checked() {
    let (fs, config) = (MemFs::new(), Config::tiny());
    let engine = open(&fs, &config);
    let refused = |result: Result<Keyspace, Error>, what: &str| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Keyspace { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    };
    refused(engine.create_keyspace(""), "from 1 to 255 bytes");
    refused(engine.create_keyspace(&"x".repeat(256)), "from 1 to 255 bytes");
    let a = engine.create_keyspace("a").unwrap();
    refused(engine.create_keyspace("a"), "of this name");
    assert!(matches!(engine.drop_keyspace("b"), Err(Error::Keyspace { .. })));
    // Of another engine, with the same name and number.
    let other = Engine::open(Arc::new(MemFs::new()), Path::new("/other"), config.clone()).unwrap();
    let foreign = other.create_keyspace("a").unwrap();
    let before = engine.stats().appended;
    let append = engine.append(Batch::new().put(b"k", b"v").put_in(&foreign, b"k", b"v"));
    assert!(matches!(append, Err(Error::Keyspace { .. })), "{append:?}");
    assert_eq!(engine.stats().appended, before, "nothing was written");
    assert!(engine.snapshot().get_in(&foreign, b"k").is_err());

    engine.drop_keyspace("a").unwrap();
    assert!(engine.append(Batch::new().put_in(&a, b"k", b"v")).is_err());
    assert!(a.get(b"k").is_err() && a.scan::<&[u8]>(..).is_err());
    let again = engine.create_keyspace("a").unwrap();
    put(&engine, &again, "k", "of the second life");
    assert!(a.get(b"k").is_err(), "the old handle is of the old one");
    let closed = open_closed(&fs);
    assert!(matches!(closed.create_keyspace("z"), Err(Error::Closed)));
    assert!(matches!(closed.drop_keyspace("a"), Err(Error::Closed)));
}

/// A look at the directory while it is open elsewhere.
fn open_closed(fs: &MemFs) -> Engine {
    let disk = Arc::new(fs.clone());
    let engine = Engine::open_read_only(disk, Path::new(DIR), Config::tiny()).unwrap();
    assert_eq!(engine.keyspaces(), ["a"]);
    engine
}

#[test]
fn the_first_keyspace_is_refused_beside_keys_that_its_mark_would_take() {
    let (fs, config) = (MemFs::new(), Config::tiny());
    let engine = open(&fs, &config);
    engine.append(Batch::new().put(b"\xff\0\0\x01k", b"v").put(b"a", b"1")).unwrap();
    let error = engine.create_keyspace("a").unwrap_err();
    assert!(error.to_string().contains("0xFF"), "{error}");
    assert!(engine.keyspaces().is_empty());
    assert_eq!(value(engine.get(b"\xff\0\0\x01k").unwrap()).as_deref(), Some("v"));
    let version = |fs: &MemFs| {
        let file = fs.open(&Path::new(DIR).join("MANIFEST"), OpenMode::Read).unwrap();
        let mut bytes = [0; 12];
        file.read_at(0, &mut bytes).unwrap();
        bytes[8]
    };
    engine.flush().unwrap();
    assert_eq!(version(&fs), 1);
    engine.append(Batch::new().delete(b"\xff\0\0\x01k")).unwrap();
    let a = engine.create_keyspace("a").unwrap();
    assert_eq!(version(&fs), 2, "who does not know keyspaces must not open it");
    // The tombstone that lies where a key of the keyspace would is of no harm.
    assert_eq!(a.get(b"k").unwrap(), None);
    put(&engine, &a, "k", "mine");
    engine.append(Batch::new().put(b"\xff\0\0\x01k", b"marked")).unwrap();
    for _ in 0..2 {
        assert_eq!(value(a.get(b"k").unwrap()).as_deref(), Some("mine"));
        assert_eq!(value(engine.get(b"\xff\0\0\x01k").unwrap()).as_deref(), Some("marked"));
        engine.flush().unwrap();
        settle(&engine);
    }
    engine.drop_keyspace("a").unwrap();
    assert_eq!(version(&fs), 2, "its number is never used again");
}

/// Fills two keyspaces and the default one until all have tables below level 0.
fn fill(engine: &Engine, keyspaces: &[&Keyspace]) {
    for n in 0..1_500_u32 {
        let mut batch = Batch::new();
        batch.put(format!("{:04}", n * 7 % 1_500).as_bytes(), &[b'd'; 60]);
        for keyspace in keyspaces {
            let text = format!("{}{n}", keyspace.name()).repeat(30);
            batch.put_in(keyspace, format!("{:04}", n * 11 % 1_500).as_bytes(), text.as_bytes());
        }
        engine.append(&batch).unwrap();
        if n % 20 == 0 {
            settle(engine);
        }
    }
    engine.flush().unwrap();
    settle(engine);
}

#[test]
fn what_is_dropped_is_gone_and_a_snapshot_still_reads_it() {
    let (fs, config) = (MemFs::new(), Config::tiny());
    let engine = open(&fs, &config);
    let (a, b) = (engine.create_keyspace("a").unwrap(), engine.create_keyspace("b").unwrap());
    fill(&engine, &[&a, &b]);
    let (of_a, of_b) = (pairs(a.scan::<&[u8]>(..).unwrap()), pairs(b.scan::<&[u8]>(..).unwrap()));
    assert_eq!((of_a.len(), of_b.len()), (1_500, 1_500));
    let snapshot: Snapshot = engine.snapshot();
    let mut walk = a.scan::<&[u8]>(..).unwrap();
    let first = walk.next().unwrap().unwrap();
    let before = table_names(&fs).len();
    let written = engine.stats().compaction_bytes_written;
    engine.drop_keyspace("a").unwrap();
    while table_names(&fs).len() > before * 3 / 4 {
        assert_eq!(engine.step().unwrap(), StepOutcome::Compacted);
        assert_eq!(engine.stats().compaction_bytes_written, written, "files go, unread");
    }
    settle(&engine);
    assert_eq!(engine.keyspaces(), ["b"]);
    assert_eq!(pairs(b.scan::<&[u8]>(..).unwrap()), of_b);
    assert_eq!(pairs(snapshot.scan_in::<&[u8]>(&a, ..).unwrap()), of_a, "at the snapshot");
    assert_eq!(snapshot.get_in(&a, first.0.as_ref()).unwrap().unwrap().value, first.1);
    assert_eq!(walk.count(), 1_499, "a walk goes on");
    assert!(engine.snapshot().scan_in::<&[u8]>(&a, ..).is_err());
    // Level 0 has both; what is left of it goes with the next compactions.
    fill(&engine, &[&b]);
    fill(&engine, &[&b]);
    engine.verify().unwrap();
    let view = engine.shared().view();
    let registry = &view.spaces;
    for (level, table) in view.version.tables() {
        let (low, high) = (&table.meta().smallest, &table.meta().largest);
        assert!(level == 0 || registry.of_table(table.meta()).is_some(), "{low:?} {high:?}");
        assert!(level == 0 || !registry.is_dead(registry.split(low).0), "{low:?} at {level}");
    }
    drop((snapshot, view));
    engine.close().unwrap();
    drop((engine, a, b));
    let engine = open(&fs.crash(7), &config);
    assert_eq!(engine.keyspaces(), ["b"]);
    assert_eq!(engine.create_keyspace("a").unwrap().scan::<&[u8]>(..).unwrap().count(), 0);
}

#[derive(Debug)]
struct Ends(u8, AtomicUsize);

impl CompactionFilter for Ends {
    fn decide(&self, key: &[u8], _: &[u8]) -> Decision {
        assert_eq!(key.len(), 4, "the key as its owner knows it");
        self.1.fetch_add(1, Ordering::Relaxed);
        if key.last() == Some(&self.0) { Decision::Drop } else { Decision::Keep }
    }
}

#[test]
fn each_has_its_own_options_in_its_tables() {
    let filter = Arc::new(Ends(b'3', AtomicUsize::new(0)));
    let own = KeyspaceOptions {
        compression: Compression::None,
        filter: Arc::new(BlockedBloom { bits_per_key: 4 }),
        compaction_filter: Some(Arc::<Ends>::clone(&filter)),
        ..KeyspaceOptions::of(&Config::tiny())
    };
    let mut config = Config::tiny();
    config.keyspaces.insert("b".to_owned(), own);
    let fs = MemFs::new();
    let engine = open(&fs, &config);
    let (a, b) = (engine.create_keyspace("a").unwrap(), engine.create_keyspace("b").unwrap());
    fill(&engine, &[&a, &b]);
    fill(&engine, &[&a, &b]);
    assert!(filter.1.load(Ordering::Relaxed) > 0);
    let threes = |keyspace: &Keyspace| {
        let keys = pairs(keyspace.scan::<&[u8]>(..).unwrap()).into_iter();
        keys.filter(|(key, _)| key.ends_with('3')).count()
    };
    assert_eq!(threes(&a), 150);
    assert!(threes(&b) < 100, "{} are left", threes(&b));
    let bytes = |id: Id| -> u64 {
        let view = engine.shared().view();
        let last = view.version.level(LEVELS - 1).iter();
        let own = last.filter(|table| view.spaces.of_table(table.meta()) == Some(id));
        own.map(|table| table.meta().bytes).sum()
    };
    assert!(bytes(1) > 0 && bytes(1) * 2 < bytes(2), "{} of {}", bytes(1), bytes(2));
}

#[test]
fn copies_looks_damage_sizes_and_deletions_know_keyspaces() {
    let (fs, config) = (MemFs::new(), Config::tiny());
    let engine = open(&fs, &config);
    let (a, b) = (engine.create_keyspace("a").unwrap(), engine.create_keyspace("b").unwrap());
    fill(&engine, &[&a, &b]);
    let want = pairs(a.scan::<&[u8]>(..).unwrap());
    put(&engine, &a, "in the log", "x");
    engine.checkpoint(Path::new("/copy")).unwrap();
    let copy = Engine::open(Arc::new(fs.crash(3)), Path::new("/copy"), config.clone()).unwrap();
    let of_copy = copy.keyspace("a").unwrap();
    assert_eq!(pairs(of_copy.scan("0"..="9").unwrap()), want);
    assert!(of_copy.get(b"in the log").unwrap().is_some());
    copy.verify().unwrap();

    let whole = a.approximate_bytes::<&[u8]>(..).unwrap();
    let half = a.approximate_bytes("0000".."0750").unwrap();
    assert!(half * 10 > whole * 3 && half * 10 < whole * 8, "{half} of {whole}");
    assert!(engine.approximate_bytes::<&[u8]>(..).unwrap() < whole, "of the default one alone");
    assert_eq!(a.explain(b"0000").unwrap().memtable, None);
    assert_eq!(a.delete_prefix(b"00", Durability::Sync).unwrap().keys, 100);
    assert_eq!(a.delete_range("0100".."0200", Durability::Sync).unwrap().keys, 100);
    assert_eq!(a.scan::<&[u8]>(..).unwrap().count(), 1_301);
    assert_eq!(b.scan::<&[u8]>(..).unwrap().count(), 1_500);
    engine.close().unwrap();
    drop((engine, a, b));

    // A turned bit in a table of one keyspace fails its own keys, and says whose they are.
    let look = || Engine::open_read_only(Arc::new(fs.clone()), Path::new(DIR), config.clone());
    let view = look().unwrap().shared().view();
    let last = view.version.level(LEVELS - 1);
    let table = last.iter().find(|table| view.spaces.of_table(table.meta()) == Some(2)).unwrap();
    let path = crate::sstable::table_path(Path::new(DIR), table.meta().file_id);
    fs.flip_bit(&path, 100, 3).unwrap();
    let engine = look().unwrap();
    let (a, b) = (engine.keyspace("a").unwrap(), engine.keyspace("b").unwrap());
    assert!(engine.verify().is_err());
    assert!(a.scan::<&[u8]>(..).unwrap().all(|pair| pair.is_ok()));
    assert!(b.scan::<&[u8]>(..).unwrap().any(|pair| pair.is_err()));
    let damage = engine.damage();
    assert!(damage.len() == 1 && damage[0].keyspace.as_deref() == Some("b"), "{damage:?}");
    let range = damage[0].smallest.clone()..=damage[0].largest.clone();
    for n in 0..1_500 {
        let key = format!("{n:04}");
        assert!(b.get(key.as_bytes()).is_ok() || range.contains(key.as_bytes()), "{key}");
    }
    engine.give_up(&damage[0]);
    assert!(b.scan::<&[u8]>(..).unwrap().all(|pair| pair.is_ok()));
}

/// fjall #261: nothing is pinned by who does not write, as all are flushed together.
#[test]
fn a_quiet_keyspace_holds_no_log() {
    let (fs, config) = (MemFs::new(), Config::tiny());
    let engine = open(&fs, &config);
    let (quiet, busy) =
        (engine.create_keyspace("quiet").unwrap(), engine.create_keyspace("busy").unwrap());
    put(&engine, &quiet, "once", "and never again");
    for n in 0..3_000 {
        put(&engine, &busy, &format!("{n}"), &"x".repeat(300));
        if n % 20 == 0 {
            settle(&engine);
            let bytes = engine.stats().log_bytes;
            assert!(bytes <= config.log_bytes_max + config.log_segment_bytes, "{bytes} at {n}");
        }
    }
    assert_eq!(value(quiet.get(b"once").unwrap()).as_deref(), Some("and never again"));
}

/// What is there is what was written, whatever was created, dropped and compacted in between.
#[test]
fn random_work_agrees_with_maps() {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    for seed in 0..6_u64 {
        let (fs, config) = (MemFs::new(), Config::tiny());
        let mut engine = open(&fs, &config);
        let mut random = seed;
        let mut next = |bound: u64| {
            random = u64::wrapping_mul(random, 6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let mut maps: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
        let mut default = BTreeMap::new();
        for step in 0..3_000 {
            let name = NAMES[next(3) as usize];
            let key = format!("{:02}", next(60));
            match next(100) {
                0..2 => {
                    let made = engine.create_keyspace(name).is_ok();
                    assert_eq!(made, !maps.contains_key(name), "{step}");
                    maps.entry(name).or_default();
                }
                2 => {
                    let dropped = engine.drop_keyspace(name).is_ok();
                    assert_eq!(dropped, maps.remove(name).is_some(), "{step}");
                }
                3 => {
                    engine.close().unwrap();
                    drop(engine);
                    engine = open(&fs, &config);
                }
                4..30 => {
                    for _ in 0..next(4) {
                        engine.step().unwrap();
                    }
                }
                30..40 => {
                    let text = format!("{}", next(1 << 30)).repeat(20);
                    engine.append(Batch::new().put(key.as_bytes(), text.as_bytes())).unwrap();
                    default.insert(key, text);
                }
                _ => {
                    let Some(map) = maps.get_mut(name) else { continue };
                    let keyspace = engine.keyspace(name).unwrap();
                    if next(4) == 0 {
                        engine.append(Batch::new().delete_in(&keyspace, key.as_bytes())).unwrap();
                        map.remove(&key);
                    } else {
                        let text = format!("{step}").repeat(next(40) as usize + 1);
                        put(&engine, &keyspace, &key, &text);
                        map.insert(key.clone(), text);
                    }
                    let found = value(keyspace.get(key.as_bytes()).unwrap());
                    assert_eq!(found, map.get(&key).cloned());
                }
            }
            if step % 300 == 0 {
                for (name, map) in &maps {
                    let walk = engine.keyspace(name).unwrap().scan::<&[u8]>(..).unwrap();
                    let known: Vec<_> = map.clone().into_iter().collect();
                    assert_eq!(pairs(walk), known, "{name} at {step}, seed {seed}");
                }
                let known: Vec<_> = default.clone().into_iter().collect();
                assert_eq!(pairs(engine.scan::<&[u8]>(..)), known);
            }
        }
        assert_eq!(engine.keyspaces().len(), maps.len());
    }
}

fn registry(ids: &[Id]) -> Registry {
    let names = ids.iter().map(|id| (*id, format!("n{id}"))).collect();
    Registry::new(1, &names, &Config::tiny())
}

#[test]
fn damage_over_several_keyspaces_is_told_to_each() {
    let registry = registry(&[1, 3]);
    let damage = |smallest: &[u8], largest: &[u8]| Damage {
        path: "t".into(),
        table: 1,
        offset: 0,
        what: "x",
        smallest: Bytes::copy_from_slice(smallest),
        largest: Bytes::copy_from_slice(largest),
        whole: false,
        keyspace: None,
    };
    let told = |damage| -> Vec<(Option<String>, Vec<u8>, Vec<u8>)> {
        let told = registry.told(damage, 2).into_iter();
        told.map(|d| (d.keyspace, d.smallest.to_vec(), d.largest.to_vec())).collect()
    };
    let max = vec![0xff, 0xff];
    assert_eq!(told(damage(b"a", b"m")), [(None, b"a".to_vec(), b"m".to_vec())]);
    assert_eq!(
        told(damage(b"a", b"\xff\0\0\x03q")),
        [
            (None, b"a".to_vec(), max.clone()),
            (Some("n1".to_owned()), Vec::new(), max),
            (Some("n3".to_owned()), Vec::new(), b"q".to_vec()),
        ]
    );
    let nobodys = told(damage(b"\xff\0\0\x02a", b"\xff\0\0\x02b"));
    assert!(nobodys.len() == 1 && nobodys[0].0.is_none(), "{nobodys:?}");
    let one = told(damage(b"\xff\0\0\x01a", b"\xff\0\0\x01b"));
    assert_eq!(one, [(Some("n1".to_owned()), b"a".to_vec(), b"b".to_vec())]);
}

fn keyspace_and_key() -> impl Strategy<Value = (Id, Vec<u8>)> {
    let byte = prop::sample::select(vec![0_u8, 1, 254, 255]);
    (0_u32..4, prop::collection::vec(byte, 0..6))
}

proptest! {
    /// Stored keys sort by keyspace, then by key, and are split into what they were made of.
    #[test]
    fn stored_keys_are_in_order_and_give_back_what_they_hold(
        a in keyspace_and_key(),
        b in keyspace_and_key(),
    ) {
        let registry = registry(&[1, 2, 3]);
        let stored = |(id, key): &(Id, Vec<u8>)| registry.stored(*id, key).into_owned();
        let (left, right) = (stored(&a), stored(&b));
        prop_assert_eq!(a.cmp(&b), left.cmp(&right));
        prop_assert_eq!(registry.split(&left), (a.0, a.1.as_slice()));
        let (lower, upper) = registry.bounds(a.0, Bound::Unbounded, Bound::Unbounded);
        let inside = |key: &[u8]| {
            let above = !matches!(&lower, Bound::Included(low) if key < low.as_ref());
            above && !matches!(&upper, Bound::Excluded(high) if key >= high.as_ref())
        };
        prop_assert_eq!(inside(&right), a.0 == b.0);
        // Where no keyspaces are known all keys lie as they are.
        let off = Registry::default();
        prop_assert_eq!(&*off.default_key(&a.1), a.1.as_slice());
        prop_assert_eq!(off.split(&left), (DEFAULT, left.as_slice()));
    }
}
