//! Tests of tables in Zstandard: with the feature they are read, damage is found; without it they
//! are refused by its name and nothing is touched.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::config::Config;
use crate::error::Error;
use crate::fs::{Fs, MemFs, OpenMode};
use crate::version::{Edit, Manifest};
use crate::{Batch, Engine};

const FIXTURE: &[u8] = include_bytes!("../../testdata/table_v2_zstd.table");
const DIR: &str = "/db";
const FILE_ID: u64 = 7;
const ROWS: u64 = 600;

fn key(n: u64) -> Vec<u8> {
    format!("user:{n:05}").into_bytes()
}

#[cfg(feature = "zstd")]
/// Like what a service stores: the same fields in each, and little else that repeats.
fn value(n: u64) -> Option<Vec<u8>> {
    let hash = key_hash(&n.to_le_bytes());
    let (name, city) = (hash % 1_000, hash / 1_000 % 50);
    let row = format!("{{\"id\":{n},\"name\":\"n{name}\",\"city\":\"c{city}\",\"rank\":{hash}}}");
    (!n.is_multiple_of(11)).then(|| row.into_bytes())
}

/// What the manifest says of the table in the fixture.
fn meta() -> TableMeta {
    TableMeta {
        file_id: FILE_ID,
        smallest: Bytes::from(key(0)),
        largest: Bytes::from(key(ROWS - 1)),
        entries: ROWS,
        tombstones: ROWS.div_ceil(11),
        max_seq: ROWS,
        bytes: FIXTURE.len() as u64,
        checksum: crc32fast::hash(FIXTURE),
    }
}

/// A directory whose one table is the fixture, with a pair in its log.
fn directory() -> MemFs {
    let fs = MemFs::new();
    let dir = Path::new(DIR);
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    {
        let engine = Engine::open(Arc::clone(&shared), dir, Config::tiny()).unwrap();
        let ticket = engine.append(Batch::new().put(b"in the log", b"v")).unwrap();
        engine.wait_durable(ticket).unwrap();
    }
    let file = fs.open(&table_path(dir, FILE_ID), OpenMode::CreateNew).unwrap();
    file.write_at(0, FIXTURE).unwrap();
    let (mut manifest, _) = Manifest::open(&shared, dir, 1 << 20).unwrap();
    manifest.append(&Edit { added: vec![(6, meta())], ..Edit::default() }).unwrap();
    fs
}

fn bytes_of(fs: &MemFs, path: &Path) -> Vec<u8> {
    let file = fs.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

#[cfg(not(feature = "zstd"))]
#[test]
fn without_the_feature_the_directory_is_refused_by_its_name_and_nothing_is_lost() {
    let fs = directory();
    let dir = Path::new(DIR);
    let log = |fs: &MemFs| -> Vec<(String, Vec<u8>)> {
        let names = fs.list(&dir.join("log")).unwrap();
        let read = |name: String| (name.clone(), bytes_of(fs, &dir.join("log").join(name)));
        names.into_iter().map(read).collect()
    };
    let before = log(&fs);
    for read_only in [false, true, false] {
        let shared = Arc::new(fs.clone());
        let opened = if read_only {
            Engine::open_read_only(shared, dir, Config::tiny())
        } else {
            Engine::open(shared, dir, Config::tiny())
        };
        let error = opened.unwrap_err();
        assert!(matches!(&error, Error::NeedsFeature { feature: "zstd", .. }), "{error}");
        let told = error.to_string();
        assert!(told.contains("7.table") && told.contains("feature `zstd`"), "{told}");
        assert_eq!(bytes_of(&fs, &table_path(dir, FILE_ID)), FIXTURE);
        assert_eq!(log(&fs), before);
    }
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let (_, found) = Manifest::open(&shared, dir, 1 << 20).unwrap();
    assert_eq!(found.version.tables().count(), 1);
}

#[cfg(feature = "zstd")]
mod with_zstd {
    use std::ops::Bound;

    use super::*;
    use crate::cache::BlockCache;
    use crate::config::Compression;
    use crate::key::Entry;

    fn build(fs: &MemFs, how: Compression, rows: u64) -> TableMeta {
        fs.create_dir(Path::new(DIR)).unwrap();
        let path = table_path(Path::new(DIR), FILE_ID);
        let _ = fs.remove(&path);
        let config = Config::tiny();
        let builder = Builder::new(fs, &path, FILE_ID, &config, &config.filter).unwrap();
        let mut builder = builder.with_blocks(512, how);
        for n in 0..rows {
            builder.add(&key(n), n + 1, value(n).as_deref()).unwrap();
        }
        builder.finish().unwrap()
    }

    fn open(fs: &MemFs, meta: &TableMeta) -> Result<Arc<Table>, Error> {
        let cache = Arc::new(BlockCache::new(0, 512));
        let path = table_path(Path::new(DIR), FILE_ID);
        let config = Config::tiny();
        Table::open(fs, &path, meta.clone(), cache, &[&*config.filter]).map(Arc::new)
    }

    fn rows(count: u64) -> Vec<Entry> {
        let row = |n| Entry { key: key(n).into(), seq: n + 1, value: value(n).map(Bytes::from) };
        (0..count).map(row).collect()
    }

    const DICTIONARY: Compression = Compression::Zstd { level: 3, dictionary_bytes_max: 512 };
    const PLAIN: Compression = Compression::Zstd { level: 3, dictionary_bytes_max: 0 };

    /// Tables that end before the dictionary is made, while it could be, and long after.
    #[test]
    fn rows_are_read_back_whether_a_dictionary_was_made_or_not() {
        for count in [1, 40, 250, 600, 3_000] {
            for how in [PLAIN, DICTIONARY] {
                let fs = MemFs::new();
                let meta = build(&fs, how, count);
                let table = open(&fs, &meta).unwrap();
                let want = rows(count);
                assert_eq!(table.scan().collect::<Result<Vec<_>, _>>().unwrap(), want);
                let mut back = table.scan().rev().collect::<Result<Vec<_>, _>>().unwrap();
                back.reverse();
                assert_eq!(back, want);
                for entry in &want {
                    let seen = table.get(&entry.key, u64::MAX).unwrap().unwrap();
                    assert_eq!((seen.seq, &seen.value), (entry.seq, &entry.value));
                }
                let some = Bound::Included(&b"user:00017"[..]);
                assert_eq!(table.range(some, Bound::Unbounded).count(), want.len().max(17) - 17);
                assert_eq!(table.verify().unwrap(), meta.bytes);
            }
        }
    }

    #[test]
    fn zstd_is_smaller_than_lz4_and_a_dictionary_smaller_still() {
        let fs = MemFs::new();
        let bytes = [Compression::None, Compression::Lz4, PLAIN, DICTIONARY]
            .map(|how| build(&fs, how, 3_000).bytes);
        assert!(bytes.is_sorted_by(|a, b| a * 95 / 100 > *b), "{bytes:?}");
    }

    #[test]
    fn every_flipped_byte_of_zstd_blocks_dictionary_and_all_is_an_error() {
        for how in [PLAIN, DICTIONARY] {
            let fs = MemFs::new();
            let meta = build(&fs, how, 700);
            let path = table_path(Path::new(DIR), FILE_ID);
            let want = rows(700);
            for byte in 0..meta.bytes {
                fs.flip_bit(&path, byte, (byte % 8) as u8).unwrap();
                let read = open(&fs, &meta).and_then(|table| {
                    let mut given = Vec::new();
                    for entry in table.scan() {
                        given.push(entry?);
                    }
                    assert_eq!(given, want, "byte {byte} is under no checksum");
                    Ok(())
                });
                let Err(Error::Corrupt { path: named, offset, .. }) = read else {
                    panic!("byte {byte} of {}: {read:?}", meta.bytes);
                };
                assert!(named == path && offset <= byte, "byte {byte} blamed on {offset}");
                fs.flip_bit(&path, byte, (byte % 8) as u8).unwrap();
            }
            open(&fs, &meta).unwrap().verify().unwrap();
        }
    }

    #[test]
    fn the_committed_table_is_read() {
        if std::env::var_os("KV_LSM_WRITE_FIXTURES").is_some() {
            let fs = MemFs::new();
            build(&fs, DICTIONARY, ROWS);
            let written = bytes_of(&fs, &table_path(Path::new(DIR), FILE_ID));
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/table_v2_zstd.table");
            std::fs::write(path, written).unwrap();
            return;
        }
        let shared = Arc::new(directory());
        let engine = Engine::open(shared, Path::new(DIR), Config::tiny()).unwrap();
        for n in 0..ROWS {
            let found = engine.get(&key(n)).unwrap().map(|found| found.value);
            assert_eq!(found, value(n).map(Bytes::from));
        }
        assert!(engine.get(b"in the log").unwrap().is_some());
        engine.verify().unwrap();
    }
}
