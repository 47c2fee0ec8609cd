//! Tests of whole tables: against a model, against damage, against a pinned file.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::cache::BlockCache;
use crate::config::{Compression, Config};
use crate::error::Error;
use crate::fs::{FailFs, FailKind, Fs, MemFs, OpenMode};
use crate::key::Entry;

/// Key and reversed sequence to value: entry order.
type Model = BTreeMap<(Vec<u8>, std::cmp::Reverse<u64>), Option<Vec<u8>>>;

const DIR: &str = "db";

fn config() -> Config {
    Config { block_bytes: 128, filter: Arc::new(Bloom::default()), ..Config::tiny() }
}

fn entry(key: &[u8], seq: u64, value: Option<&[u8]>) -> Entry {
    Entry { key: Bytes::copy_from_slice(key), seq, value: value.map(Bytes::copy_from_slice) }
}

fn build(fs: &MemFs, model: &Model, config: &Config) -> TableMeta {
    fs.create_dir(Path::new(DIR)).unwrap();
    let path = table_path(Path::new(DIR), 7);
    let _ = fs.remove(&path);
    let mut builder = Builder::new(fs, &path, 7, config, &config.filter).unwrap();
    for ((key, seq), value) in model {
        builder.add(key, seq.0, value.as_deref()).unwrap();
    }
    builder.finish().unwrap()
}

fn open_with(
    fs: &MemFs,
    meta: TableMeta,
    policy: &dyn FilterPolicy,
    cache_bytes: u64,
) -> Result<Arc<Table>, Error> {
    let cache = Arc::new(BlockCache::new(cache_bytes, 128));
    let path = table_path(Path::new(DIR), meta.file_id);
    Table::open(fs, &path, meta, cache, &[policy]).map(Arc::new)
}

fn open(fs: &MemFs, meta: TableMeta) -> Result<Arc<Table>, Error> {
    open_with(fs, meta, &Bloom::default(), 1 << 20)
}

/// A few hundred entries: versions, tombstones, an empty key, a key with more versions than a
/// block holds, an incompressible value.
fn sample() -> Model {
    let mut model = Model::new();
    for i in 0..150_u64 {
        let key = format!("user:{:04}", i * 3).into_bytes();
        for version in 0..=(i % 3) {
            let value = (i % 7 != version).then(|| vec![b'a' + (i % 26) as u8; (i % 40) as usize]);
            model.insert((key.clone(), std::cmp::Reverse(i * 4 + version)), value);
        }
    }
    for seq in 1000..1100 {
        model.insert((b"user:0300x".to_vec(), std::cmp::Reverse(seq)), Some(vec![7; 9]));
    }
    model.insert((Vec::new(), std::cmp::Reverse(5)), Some(b"of the empty key".to_vec()));
    let noise: Vec<u8> = (0..700_u32).map(|i| key_hash(&i.to_le_bytes()) as u8).collect();
    model.insert((b"zz".to_vec(), std::cmp::Reverse(3)), Some(noise));
    model
}

fn seen(model: &Model, key: &[u8], snapshot: u64) -> Option<Seen> {
    model
        .range((key.to_vec(), std::cmp::Reverse(snapshot))..)
        .next()
        .filter(|((found, _), _)| found == key)
        .map(|((_, seq), value)| entry(key, seq.0, value.as_deref()))
        .map(|Entry { seq, value, .. }| Seen { seq, value })
}

fn all(model: &Model) -> Vec<Entry> {
    model.iter().map(|((key, seq), value)| entry(key, seq.0, value.as_deref())).collect()
}

#[test]
fn the_sample_is_read_back_in_every_way() {
    let (fs, model) = (MemFs::new(), sample());
    let meta = build(&fs, &model, &config());
    assert_eq!(meta.entries, model.len() as u64);
    assert_eq!((meta.smallest.as_ref(), meta.largest.as_ref()), (&b""[..], &b"zz"[..]));
    assert_eq!(meta.max_seq, 1099);
    for policy in [&Bloom::default() as &dyn FilterPolicy, &BlockedBloom::default()] {
        for cache_bytes in [0, 2000, 1 << 20] {
            let table = open_with(&fs, meta.clone(), policy, cache_bytes).unwrap();
            for (key, seq) in model.keys() {
                for snapshot in [seq.0, seq.0.saturating_sub(1), u64::MAX] {
                    let want = seen(&model, key, snapshot);
                    assert_eq!(table.get(key, snapshot).unwrap(), want, "{key:?} {snapshot}");
                }
            }
            assert_eq!(table.get(b"user:0001", u64::MAX).unwrap(), None);
            assert_eq!(table.get(b"zzz", u64::MAX).unwrap(), None);
            let forward: Vec<Entry> = table.scan().map(Result::unwrap).collect();
            assert_eq!(forward, all(&model));
            assert_eq!(table.verify().unwrap(), meta.bytes);
        }
    }
}

#[test]
fn a_resident_read_never_touches_the_disk() {
    let (fs, model) = (MemFs::new(), sample());
    let table = open(&fs, build(&fs, &model, &config())).unwrap();
    assert_eq!(table.get_resident(b"a", u64::MAX).unwrap(), ResidentEntry::Absent);
    assert_eq!(table.get_resident(b"zzz", u64::MAX).unwrap(), ResidentEntry::Absent);
    let key = b"user:0030";
    assert_eq!(table.get_resident(key, u64::MAX).unwrap(), ResidentEntry::NeedsIo);
    assert!(matches!(table.explain(key).unwrap().verdict, Verdict::Block { cached: false, .. }));
    let found = table.get(key, u64::MAX).unwrap().unwrap();
    assert_eq!(table.get_resident(key, u64::MAX).unwrap(), ResidentEntry::Found(found));
    assert!(matches!(table.explain(key).unwrap().verdict, Verdict::Block { cached: true, .. }));
    assert_eq!(table.explain(b"zzz").unwrap().verdict, Verdict::OutOfRange);
    let absent = (0..100).filter(|i| {
        let verdict = table.explain(format!("user:{:04}x", i * 3).as_bytes()).unwrap().verdict;
        verdict == Verdict::FilteredOut
    });
    assert!(absent.count() > 90);
}

#[test]
fn a_read_error_is_never_an_answer() {
    let (fs, model) = (MemFs::new(), sample());
    let meta = build(&fs, &model, &config());
    let path = table_path(Path::new(DIR), 7);
    let kind = FailKind::Once(std::io::ErrorKind::Other);
    let read = |fails_at: u64| -> Result<u64, Error> {
        let failing = FailFs::new(Arc::new(fs.clone()), fails_at, kind);
        let cache = Arc::new(BlockCache::new(0, 128));
        let table =
            Arc::new(Table::open(&failing, &path, meta.clone(), cache, &[&Bloom::default()])?);
        let before = failing.calls();
        for (key, seq) in model.keys() {
            let resident = table.get_resident(key, seq.0)?;
            assert_eq!(resident, ResidentEntry::NeedsIo, "nothing is cached");
            table.explain(key)?;
        }
        assert_eq!(failing.calls(), before, "a resident read touched the disk");
        for (key, seq) in model.keys().step_by(17) {
            assert_eq!(table.get(key, seq.0)?, seen(&model, key, seq.0));
        }
        let scanned = table.scan().collect::<Result<Vec<_>, _>>()?;
        assert_eq!(scanned, all(&model));
        Ok(failing.calls())
    };
    let calls = read(u64::MAX).unwrap();
    assert!(calls > 50, "{calls} calls");
    for fails_at in 0..calls {
        assert!(matches!(read(fails_at), Err(Error::Io { .. })), "call {fails_at}");
    }
}

#[test]
fn every_flipped_byte_is_an_error_or_without_effect() {
    let (fs, mut model) = (MemFs::new(), sample());
    model.retain(|(key, _), _| key.len() < 9 || key[..] < b"user:0090"[..]);
    let meta = build(&fs, &model, &config());
    let path = table_path(Path::new(DIR), 7);
    let want = all(&model);
    let mut harmless = 0;
    for byte in 0..meta.bytes {
        for bit in [0, 6] {
            fs.flip_bit(&path, byte, bit).unwrap();
            let read = open(&fs, meta.clone()).and_then(|table| {
                let forward = table.scan().collect::<Result<Vec<_>, _>>()?;
                let mut backward = table.scan().rev().collect::<Result<Vec<_>, _>>()?;
                backward.reverse();
                assert_eq!(forward, backward);
                for (key, seq) in model.keys() {
                    let newest = seen(&model, key, seq.0);
                    assert_eq!(table.get(key, seq.0)?, newest, "byte {byte}");
                }
                Ok(forward)
            });
            match read {
                Ok(entries) => {
                    assert_eq!(entries, want, "byte {byte}");
                    harmless += 1;
                }
                Err(Error::Corrupt { path: named, offset, .. }) => {
                    assert_eq!(named, path);
                    assert!(offset <= byte, "byte {byte} blamed on {offset}");
                }
                Err(other) => panic!("byte {byte}: {other}"),
            }
            fs.flip_bit(&path, byte, bit).unwrap();
        }
    }
    assert_eq!(harmless, 0, "some bytes are under no checksum");
    open(&fs, meta).unwrap().verify().unwrap();
}

#[test]
fn cut_swapped_or_misnamed_files_are_refused() {
    let (fs, model) = (MemFs::new(), sample());
    let meta = build(&fs, &model, &config());
    let path = table_path(Path::new(DIR), 7);
    for wrong in [
        TableMeta { entries: 1, ..meta.clone() },
        TableMeta { smallest: Bytes::from_static(b"b"), ..meta.clone() },
        TableMeta { bytes: meta.bytes + 1, ..meta.clone() },
    ] {
        assert!(matches!(open(&fs, wrong), Err(Error::Corrupt { .. })));
    }
    let misnamed = TableMeta { file_id: 8, ..meta.clone() };
    fs.rename(&path, &table_path(Path::new(DIR), 8)).unwrap();
    assert!(matches!(open(&fs, misnamed), Err(Error::Corrupt { .. })));
    fs.rename(&table_path(Path::new(DIR), 8), &path).unwrap();
    let wrong_sum = TableMeta { checksum: meta.checksum ^ 1, ..meta.clone() };
    assert!(open(&fs, wrong_sum).unwrap().verify().is_err());
    fs.open(&path, OpenMode::Write).unwrap().truncate(meta.bytes - 1).unwrap();
    assert!(matches!(open(&fs, meta), Err(Error::Corrupt { .. })));
}

#[test]
fn a_filter_of_another_policy_is_not_used() {
    let (fs, model) = (MemFs::new(), sample());
    let config = Config { filter: Arc::new(BlockedBloom::default()), ..config() };
    let meta = build(&fs, &model, &config);
    let other = open(&fs, meta.clone()).unwrap();
    let own = open_with(&fs, meta, &BlockedBloom::default(), 0).unwrap();
    assert!(other.pinned_bytes() < own.pinned_bytes());
    for (key, seq) in model.keys() {
        assert_eq!(other.get(key, seq.0).unwrap(), own.get(key, seq.0).unwrap());
    }
}

#[test]
fn the_format_is_that_of_the_committed_file() {
    let fixture = include_bytes!("../../testdata/table_v1.table");
    let (fs, model) = (MemFs::new(), sample());
    let meta = build(&fs, &model, &config());
    let path = table_path(Path::new(DIR), 7);
    let mut written = vec![0; usize::try_from(meta.bytes).unwrap()];
    fs.open(&path, OpenMode::Read).unwrap().read_at(0, &mut written).unwrap();
    if std::env::var_os("KV_LSM_WRITE_FIXTURES").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/table_v1.table");
        std::fs::write(path, &written).unwrap();
    }
    assert!(written == fixture, "the table format changed: raise its version, keep reading v1");
}

#[test]
fn names_of_files() {
    let path = table_path(Path::new(DIR), 42);
    let name = path.file_name().unwrap().to_str().unwrap();
    assert_eq!(name, "0000000000000042.table");
    assert_eq!(table_id(name), Some(42));
    for other in ["42.table", "000000000000004x.table", "0000000000000042.tmp", "MANIFEST"] {
        assert_eq!(table_id(other), None, "{other}");
    }
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0_u8..4, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tables_agree_with_a_map(
        puts in proptest::collection::vec((keys(), 0_u64..500, 0_usize..60), 1..300),
        probes in proptest::collection::vec((keys(), 0_u64..500), 20),
        (low, high) in (keys(), keys()),
        (low_kind, high_kind) in (0_u8..3, 0_u8..3),
        turns in proptest::collection::vec(any::<bool>(), 320),
        lz4: bool,
    ) {
        let mut model = Model::new();
        for (key, seq, len) in puts {
            let value = (len > 0).then(|| vec![seq as u8; len]);
            model.insert((key, std::cmp::Reverse(seq)), value);
        }
        let compression = if lz4 { Compression::Lz4 } else { Compression::None };
        let fs = MemFs::new();
        let meta = build(&fs, &model, &Config { compression, ..config() });
        let table = open(&fs, meta).unwrap();
        for (key, snapshot) in &probes {
            prop_assert_eq!(table.get(key, *snapshot).unwrap(), seen(&model, key, *snapshot));
        }
        let (lower, upper) = (bound(low_kind, &low), bound(high_kind, &high));
        let inside = |entry: &Entry| {
            let below = match lower {
                Bound::Unbounded => false,
                Bound::Included(key) => entry.key < key,
                Bound::Excluded(key) => entry.key <= key,
            };
            let above = match upper {
                Bound::Unbounded => false,
                Bound::Included(key) => entry.key > key,
                Bound::Excluded(key) => entry.key >= key,
            };
            !below && !above
        };
        let want: Vec<Entry> = all(&model).into_iter().filter(inside).collect();
        let (mut front, mut back) = (Vec::new(), Vec::new());
        let mut iter = table.range(lower, upper);
        for turn in turns {
            if turn {
                front.extend(iter.next().map(Result::unwrap));
            } else {
                back.extend(iter.next_back().map(Result::unwrap));
            }
        }
        back.reverse();
        front.extend(back);
        prop_assert_eq!(front, want);
    }
}

fn bound(kind: u8, key: &[u8]) -> Bound<&[u8]> {
    match kind {
        0 => Bound::Unbounded,
        1 => Bound::Included(key),
        _ => Bound::Excluded(key),
    }
}
