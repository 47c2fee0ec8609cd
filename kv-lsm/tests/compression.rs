//! Compression by level, as the users of an engine see it: what is smaller, what still works on
//! such a directory, and what a build says that cannot read it.
#![cfg_attr(
    feature = "zstd",
    expect(clippy::unwrap_used, reason = "helpers of tests, which the lint takes for other code")
)]

use std::path::Path;
use std::sync::Arc;

use kv_lsm::fs::MemFs;
use kv_lsm::{Compression, Config, Engine, Error};

const ZSTD: Compression = Compression::Zstd { level: 3, dictionary_bytes_max: 1024 };

#[cfg(not(feature = "zstd"))]
#[test]
fn a_build_without_zstd_refuses_the_setting_by_the_feature_s_name() {
    for config in [
        Config { compression_last: Some(ZSTD), ..Config::tiny() },
        Config { compression: ZSTD, ..Config::tiny() },
    ] {
        let fs = MemFs::new();
        let error = Engine::open(Arc::new(fs), Path::new("/db"), config).unwrap_err();
        assert!(matches!(&error, Error::Config { .. }), "{error}");
        assert!(error.to_string().contains("feature `zstd`"), "{error}");
    }
}

#[cfg(feature = "zstd")]
mod with_zstd {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use kv_lsm::fs::{Fs, OpenMode};
    use kv_lsm::{Batch, StepOutcome};

    use super::*;

    /// Blocks, tables and memtables large enough for dictionaries.
    fn config() -> Config {
        Config {
            compression_last: Some(ZSTD),
            memtable_bytes_max: 256 << 10,
            log_bytes_max: 1 << 20,
            block_bytes: 1 << 10,
            table_bytes_max: 64 << 10,
            level1_bytes: 512 << 10,
            ..Config::tiny()
        }
    }

    fn open(fs: &MemFs, dir: &str, config: Config) -> Engine {
        Engine::open(Arc::new(fs.clone()), Path::new(dir), config).unwrap()
    }

    fn key(n: u32) -> Vec<u8> {
        format!("user:{:08x}", n.wrapping_mul(0x9E37_79B9)).into_bytes()
    }

    fn value(n: u32, life: u32) -> Vec<u8> {
        let mixed = u64::from(n + life).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let row = format!("{{\"id\":{n},\"life\":{life},\"rank\":{mixed},\"plan\":\"free\"}}");
        row.into_bytes()
    }

    fn fill(engine: &Engine, numbers: impl Iterator<Item = u32>, life: u32) {
        let mut batch = Batch::new();
        for n in numbers {
            batch.clear();
            batch.put(&key(n), &value(n, life));
            engine.append(&batch).unwrap();
        }
        engine.flush().unwrap();
        while engine.step().unwrap() != StepOutcome::Idle {}
    }

    fn all(engine: &Engine) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let plain = |item: Result<(bytes::Bytes, bytes::Bytes), Error>| {
            let (key, value) = item.unwrap();
            (key.to_vec(), value.to_vec())
        };
        engine.scan::<&[u8]>(..).map(plain).collect()
    }

    fn tables(fs: &MemFs, dir: &str) -> Vec<PathBuf> {
        let names = fs.list(Path::new(dir)).unwrap().into_iter();
        let paths = names.map(|name| Path::new(dir).join(name));
        paths.filter(|path| path.extension().is_some_and(|e| e == "table")).collect()
    }

    /// The tables whose footers say version 2.
    fn in_zstd(fs: &MemFs, dir: &str) -> Vec<PathBuf> {
        let version = |path: &PathBuf| {
            let file = fs.open(path, OpenMode::Read).unwrap();
            let mut version = [0; 4];
            file.read_at(file.len().unwrap() - 20, &mut version).unwrap();
            u32::from_le_bytes(version)
        };
        tables(fs, dir).into_iter().filter(|path| version(path) == 2).collect()
    }

    fn disk_bytes(engine: &Engine) -> u64 {
        engine.stats().level_bytes.iter().sum()
    }

    #[test]
    fn the_last_level_is_in_zstd_and_smaller_and_the_others_are_not() {
        let fs = MemFs::new();
        let engine = open(&fs, "/db", config());
        fill(&engine, 0..10_000, 0);
        fill(&engine, 0..1_000, 1);
        let levels = engine.stats().level_tables;
        assert!(levels[6] > 1 && levels[..6].iter().sum::<usize>() > 0, "{levels:?}");
        assert_eq!(in_zstd(&fs, "/db").len(), levels[6], "{levels:?}");
        let lz4 = open(&MemFs::new(), "/db", Config { compression_last: None, ..config() });
        fill(&lz4, 0..10_000, 0);
        fill(&lz4, 0..1_000, 1);
        assert_eq!(all(&engine), all(&lz4));
        let (small, large) = (disk_bytes(&engine), disk_bytes(&lz4));
        assert!(small * 10 < large * 8, "{small} of {large}");
    }

    /// What overlaps nothing is moved down as it is, but not to where it would be in the wrong
    /// compression for ever.
    #[test]
    fn ascending_keys_come_to_the_last_level_in_zstd_too() {
        let fs = MemFs::new();
        let engine = open(&fs, "/db", config());
        let mut batch = Batch::new();
        for n in 0..6_000_u32 {
            batch.clear();
            batch.put(format!("{n:08}").as_bytes(), &value(n, 0));
            engine.append(&batch).unwrap();
        }
        engine.flush().unwrap();
        while engine.step().unwrap() != StepOutcome::Idle {}
        let levels = engine.stats().level_tables;
        assert!(levels[6] > 1 && in_zstd(&fs, "/db").len() == levels[6], "{levels:?}");
    }

    #[test]
    fn copies_looks_and_checks_work_on_it_and_a_turned_bit_is_named() {
        let fs = MemFs::new();
        let engine = open(&fs, "/db", config());
        fill(&engine, 0..6_000, 0);
        let want = all(&engine);
        engine.checkpoint(Path::new("/copy")).unwrap();
        engine.close().unwrap();
        drop(engine);
        assert!(!in_zstd(&fs, "/copy").is_empty());
        let copy = open(&fs.crash(3), "/copy", config());
        assert_eq!(all(&copy), want);
        let look = || {
            let fs = Arc::new(fs.clone());
            Engine::open_read_only(fs, Path::new("/db"), config()).unwrap()
        };
        assert_eq!(all(&look()), want);
        assert!(look().verify_all().is_empty());
        let path = in_zstd(&fs, "/db").remove(0);
        let bytes = fs.open(&path, OpenMode::Read).unwrap().len().unwrap();
        for byte in (0..bytes).step_by(97) {
            fs.flip_bit(&path, byte, (byte % 8) as u8).unwrap();
            let found = look().verify_all();
            assert!(
                matches!(&found[..], [Error::Corrupt { path: named, .. }] if *named == path),
                "byte {byte}: {found:?}"
            );
            fs.flip_bit(&path, byte, (byte % 8) as u8).unwrap();
        }
        assert!(look().verify_all().is_empty());
    }

    #[test]
    fn the_setting_may_change_between_opens_and_old_tables_are_read_under_either() {
        let fs = MemFs::new();
        let mut want = BTreeMap::new();
        let back = Config { compression_last: None, compression: Compression::None, ..config() };
        for (life, config) in [config(), back, config()].into_iter().enumerate() {
            let zstd = config.compression_last.is_some();
            let engine = open(&fs, "/db", config);
            assert_eq!(all(&engine), want, "life {life}");
            // Everything overlaps, so that the last level is written anew.
            fill(&engine, 0..8_000, life as u32);
            want = (0..8_000).map(|n| (key(n), value(n, life as u32))).collect();
            assert_eq!(all(&engine), want, "life {life}");
            assert_eq!(!in_zstd(&fs, "/db").is_empty(), zstd, "life {life}");
            engine.close().unwrap();
        }
    }

    #[test]
    fn power_cuts_lose_nothing_durable() {
        let fs = MemFs::new();
        let engine = open(&fs, "/db", config());
        let mut batch = Batch::new();
        for n in 0..12_000_u32 {
            batch.clear();
            batch.put(&key(n % 5_000), &value(n % 5_000, n / 5_000));
            let ticket = engine.append(&batch).unwrap();
            if n % 50 == 0 {
                for _ in 0..4 {
                    engine.step().unwrap();
                }
            }
            if n % 1_499 == 0 {
                engine.wait_durable(ticket).unwrap();
                let found = open(&fs.crash(u64::from(n)), "/db", config());
                for m in 0..5_000.min(n + 1) {
                    let got = found.get(&key(m)).unwrap().unwrap();
                    assert_eq!(got.value, value(m, (n - m) / 5_000), "{m} at {n}");
                }
                found.verify().unwrap();
            }
        }
        assert!(!in_zstd(&fs, "/db").is_empty(), "nothing was compacted");
    }
}
