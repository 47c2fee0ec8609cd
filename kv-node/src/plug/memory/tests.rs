//! The in-memory engine beside a sorted map, and what it costs.

use std::collections::BTreeMap;

use kv_quorum::{Actor, Brief, Dot, Draft, HybridTime, blind_overwrite};

use super::*;
use crate::keys::KeyRef;
use crate::plug::storage::WriteBatch;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

fn key(n: u64) -> Bytes {
    KeyRef::place(0, format!("key:{n:012}").as_bytes()).to_storage()
}

/// What a SET leaves, over what was there.
fn record(n: u64, over: Option<&[u8]>, actor: u64, operation: Option<u64>, bytes: u64) -> Vec<u8> {
    let dot = Dot::new(Actor::new(actor, 9), HybridTime::new(1_000 + n, 0));
    let value: Vec<u8> = (0..bytes).map(|at| (at * n) as u8).collect();
    let mut out = Vec::new();
    let draft = Draft::string(value).by_operation(operation);
    blind_overwrite(over, dot, draft, &mut out).unwrap();
    out
}

fn append(engine: &MemoryEngine, rows: &[(Bytes, Option<Vec<u8>>)]) -> Result<(), StorageError> {
    let mut batch = WriteBatch::default();
    for (key, value) in rows {
        match value {
            Some(value) => batch.put(key, value),
            None => batch.delete(key),
        }
    }
    engine.append(&batch.freeze()).map(drop)
}

fn read(engine: &MemoryEngine, keys: &[Bytes]) -> Vec<Option<Vec<u8>>> {
    let keys: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
    let mut seen = Vec::new();
    let mut visit = |at, resident: Resident<'_>| {
        assert_eq!(at, seen.len());
        seen.push(match resident {
            Resident::Found { bytes, .. } => Some(bytes.to_vec()),
            Resident::Absent => None,
            Resident::NeedsIo => panic!("memory needs no disk"),
        });
    };
    engine.visit_resident(&keys, &mut visit).unwrap();
    seen
}

/// Values of every form and size: brief records, with and without an operation, those of two
/// actors, bytes that are no record, some too large to share a chunk.
fn value(random: &mut Random, n: u64, before: Option<&Vec<u8>>) -> Vec<u8> {
    let bytes = match random.below(40) {
        0 => 17_000 + random.below(60_000),
        1..8 => random.below(2_000),
        _ => 100,
    };
    match random.below(8) {
        0 => vec![n as u8; bytes as usize],
        1 => record(n, None, 3, Some(n), bytes),
        2 => {
            let is_of_3 = |record: &[u8]| Brief::of(record).is_some_and(|brief| brief.dot[0] == 3);
            let over = before.map(|before| &**before).filter(|before| is_of_3(before));
            record(n, over, 4, None, bytes)
        }
        _ => record(n, None, 3, None, bytes),
    }
}

#[tokio::test]
async fn it_is_a_map_whatever_is_overwritten_and_removed() {
    for (seed, locks, compress_bytes_min) in [(1, 1, None), (2, 16, None), (3, 4, Some(64))] {
        let config = MemoryConfig { compress_bytes_min, locks, ..MemoryConfig::default() };
        let engine = MemoryEngine::new(config);
        let mut model: BTreeMap<Bytes, Vec<u8>> = BTreeMap::new();
        let mut random = Random(seed);
        for n in 0..12_000 {
            let rows: Vec<_> = (0..=random.below(4))
                .map(|_| {
                    let key = key(random.below(700));
                    let is_put = random.below(4) > 0;
                    let value = is_put.then(|| value(&mut random, n, model.get(&key)));
                    match &value {
                        Some(value) => model.insert(key.clone(), value.clone()),
                        None => model.remove(&key),
                    };
                    (key, value)
                })
                .collect();
            append(&engine, &rows).unwrap();
            let keys: Vec<Bytes> = (0..5).map(|_| key(random.below(700))).collect();
            let known: Vec<_> = keys.iter().map(|key| model.get(key).cloned()).collect();
            assert_eq!(read(&engine, &keys), known, "seed {seed}, batch {n}");
        }
        let keys: Vec<Bytes> = (0..700).map(key).collect();
        let known: Vec<_> = keys.iter().map(|key| model.get(key).cloned()).collect();
        assert_eq!(read(&engine, &keys), known);
        let (status, _) = engine.status(None);
        assert_eq!(status.rows, Some(model.len() as u64));
        let scanned = engine.scan(PageRequest {
            from: Bytes::new(),
            to: Bytes::new(),
            rows_max: usize::MAX,
            bytes_max: usize::MAX,
        });
        let scanned = scanned.await.unwrap().rows;
        assert!(
            scanned
                .iter()
                .map(|(key, value)| (key, value.to_vec()))
                .eq(model.iter().map(|(key, value)| (key, value.clone())))
        );
        let live: usize = model.iter().map(|(key, value)| key.len() + value.len() + 40).sum();
        assert!(status.memory_bytes < 2 * live as u64, "{} for {live}", status.memory_bytes);
    }
}

/// Each overwrite takes another size, so that none fits its place.
#[test]
fn dead_rows_give_their_room_back() {
    let engine = MemoryEngine::new(MemoryConfig::default());
    let most = 2_000 * (30 + 24 + 130 + 40);
    for n in 0..200_000_u64 {
        let row = (key(n * 7 % 2_000), Some(record(n, None, 3, None, 20 + n % 110)));
        append(&engine, &[row]).unwrap();
        let used = engine.status(None).0.memory_bytes;
        assert!(used < most * 3 / 2 + (128 << 10), "{used} bytes after {n} writes");
    }
    let all: Vec<_> = (0..2_000).map(|n| (key(n), None)).collect();
    append(&engine, &all).unwrap();
    assert_eq!(engine.status(None).0.memory_bytes, 0, "all are removed");
}

fn full_engine(config: MemoryConfig, bytes: u64) -> (MemoryEngine, u64) {
    let engine = MemoryEngine::new(config);
    let mut taken = 0;
    while append(&engine, &[(key(taken), Some(record(taken, None, 3, None, bytes)))]).is_ok() {
        taken += 1;
        assert!(engine.status(None).0.memory_bytes <= config.memory_bytes_max);
    }
    (engine, taken)
}

#[test]
fn at_its_limit_it_refuses_and_what_is_removed_makes_room() {
    for locks in [1, 64] {
        let config = MemoryConfig { memory_bytes_max: 4 << 20, locks, ..MemoryConfig::default() };
        let (engine, taken) = full_engine(config, 100);
        assert!(taken > 20_000, "{taken} rows of 100 bytes in 4 MiB");
        let row = |n: u64| (key(n), Some(record(n, None, 3, None, 100)));
        assert!(matches!(append(&engine, &[row(taken)]), Err(StorageError::Full(_))));
        // Every second: each chunk keeps some.
        let half: Vec<_> = (0..taken / 2).map(|n| (key(2 * n), None)).collect();
        append(&engine, &half[..half.len() / 2]).unwrap();
        append(&engine, &half[half.len() / 2..]).unwrap();
        // What the rows did not take, beside the 64th that may be dead.
        for n in 0..taken * 9 / 20 {
            append(&engine, &[row(1_000_000 + n)]).unwrap_or_else(|_| panic!("{n} of {taken}"));
        }
        assert_eq!(read(&engine, &[key(1), key(2)]), [row(1).1, None]);
    }
}

#[test]
fn at_its_limit_it_takes_what_makes_no_row_larger() {
    for compress_bytes_min in [None, Some(32)] {
        let config = MemoryConfig {
            memory_bytes_max: 1 << 20,
            locks: 4,
            compress_bytes_min,
            ..MemoryConfig::default()
        };
        let (engine, taken) = full_engine(config, 200);
        if compress_bytes_min.is_none() {
            let larger = record(9, None, 3, None, 6_000);
            assert!(append(&engine, &[(key(0), Some(larger))]).is_err());
        }
        for n in 0..taken {
            let same = record(n, None, 3, None, 200);
            append(&engine, &[(key(n), Some(same.clone()))]).unwrap();
            assert_eq!(read(&engine, &[key(n)]), [Some(same)]);
        }
        for n in 0..taken {
            let shorter = record(n, None, 3, None, n % 4);
            append(&engine, &[(key(n), Some(shorter.clone()))]).unwrap();
            assert_eq!(read(&engine, &[key(n)]), [Some(shorter)]);
            assert!(engine.status(None).0.memory_bytes <= 1 << 20);
        }
        // And what they do not hold any more, others may.
        for n in taken..taken + taken / 3 {
            append(&engine, &[(key(n), Some(record(n, None, 3, None, 20)))]).unwrap();
        }
    }
}

/// Each thread has its keys, as key locks see to it; all fight for the last bytes.
#[test]
fn its_limit_holds_whoever_writes_at_once() {
    let memory_bytes_max = 1 << 20;
    let config = MemoryConfig { memory_bytes_max, locks: 8, ..MemoryConfig::default() };
    let engine = MemoryEngine::new(config);
    let work = &|thread: u64| {
        let mut random = Random(thread);
        let mut model: BTreeMap<Bytes, Vec<u8>> = BTreeMap::new();
        let mut refused = 0;
        for n in 0..20_000 {
            let rows: Vec<_> = (0..=random.below(3))
                .map(|_| {
                    let key = key(random.below(2_000) * 4 + thread);
                    let bytes = random.below(300);
                    (key, (random.below(8) > 0).then(|| record(n, None, thread, None, bytes)))
                })
                .collect();
            if append(&engine, &rows).is_ok() {
                for (key, value) in rows {
                    match value {
                        Some(value) => model.insert(key, value),
                        None => model.remove(&key),
                    };
                }
            } else {
                refused += 1;
                assert!(rows.iter().any(|(_, value)| value.is_some()), "removals are taken");
            }
            assert!(engine.status(None).0.memory_bytes <= memory_bytes_max);
            let key = key(random.below(2_000) * 4 + thread);
            assert_eq!(read(&engine, std::slice::from_ref(&key)), [model.get(&key).cloned()]);
        }
        (model, refused)
    };
    let models: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let rows: usize = models.iter().map(|(model, _)| model.len()).sum();
    assert_eq!(engine.status(None).0.rows, Some(rows as u64));
    assert!(models.iter().all(|(_, refused)| *refused > 0), "it came to the limit");
    for key in models.iter().flat_map(|(model, _)| model.keys()) {
        append(&engine, &[(key.clone(), None)]).unwrap();
    }
    assert_eq!(engine.status(None).0.memory_bytes, 0);
}

#[test]
fn alike_values_are_held_in_half_their_bytes() {
    let text = |n: u64| {
        format!(
            "{{\"id\":{n},\"name\":\"user {}\",\"email\":\"u{}@example.com\",\"active\":{},\
             \"created\":\"2026-11-{:02}T10:20:30Z\",\"tags\":[\"mail\",\"gold\"],\"visits\":{}}}",
            n % 77,
            n * 7,
            n.is_multiple_of(3),
            n % 28,
            n * n % 9_999,
        )
    };
    let used = |compress_bytes_min| {
        let engine =
            MemoryEngine::new(MemoryConfig { compress_bytes_min, ..MemoryConfig::default() });
        for n in 0..2_000 {
            let dot = Dot::new(Actor::new(3, 9), HybridTime::new(1_000 + n, 0));
            let (mut out, draft) = (Vec::new(), Draft::string(text(n).into_bytes()));
            blind_overwrite(None, dot, draft.by_operation((n % 2 == 0).then_some(n)), &mut out)
                .unwrap();
            append(&engine, &[(key(n), Some(out.clone()))]).unwrap();
            assert_eq!(read(&engine, &[key(n)]), [Some(out)]);
        }
        engine.status(None).0.memory_bytes
    };
    let bytes: u64 = (0..2_000).map(|n| text(n).len() as u64).sum();
    let (plain, packed) = (used(None), used(Some(64)));
    assert!(plain - packed > bytes / 2, "{plain} and {packed} for {bytes}");
}
