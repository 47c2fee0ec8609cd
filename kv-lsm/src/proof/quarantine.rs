//! Damaged tables: their keys fail and nothing else does, until the owner gives them up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::script::open;
use crate::fs::{Fs, MemFs};
use crate::{Batch, Config, Engine, Error, StepOutcome};

const KEYS: usize = 200;

fn key(n: usize) -> String {
    format!("{n:05}")
}

fn drain(engine: &Engine) {
    while engine.step().unwrap() != StepOutcome::Idle {}
}

/// A directory whose keys are all in tables, opened anew so that nothing is cached.
fn in_tables(config: &Config) -> MemFs {
    let disk = MemFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let engine = open(&fs, config).unwrap();
    for n in 0..KEYS {
        let mut batch = Batch::new();
        batch.put(key(n).as_bytes(), format!("value {n}").repeat(20).as_bytes());
        engine.append(&batch).unwrap();
        drain(&engine);
    }
    engine.close().unwrap();
    disk
}

fn tables(disk: &MemFs) -> Vec<PathBuf> {
    let names = disk.list(Path::new("/db")).unwrap().into_iter();
    let paths = names.map(|name| Path::new("/db").join(name));
    paths.filter(|path| path.extension().is_some_and(|e| e == "table")).collect()
}

/// How many keys are read, are missing, and fail.
fn count(engine: &Engine) -> (usize, usize, usize) {
    let mut counted = (0, 0, 0);
    for n in 0..KEYS {
        match engine.get(key(n).as_bytes()) {
            Ok(Some(found)) => {
                assert_eq!(found.value, format!("value {n}").repeat(20));
                counted.0 += 1;
            }
            Ok(None) => counted.1 += 1,
            Err(Error::Corrupt { .. }) => counted.2 += 1,
            Err(e) => panic!("{e}"),
        }
    }
    counted
}

#[test]
fn a_damaged_block_fails_its_own_keys_until_it_is_given_up() {
    let config = Config::tiny();
    let disk = in_tables(&config);
    let path = tables(&disk).remove(0);
    disk.flip_bit(&path, 100, 3).unwrap();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let engine = open(&fs, &config).unwrap();
    assert!(engine.damage().is_empty(), "nobody has looked yet");
    let (found, missing, failed) = count(&engine);
    assert_eq!(missing, 0, "a damaged key is never not found");
    assert!(failed > 0 && found > KEYS / 2, "{found} found, {failed} failed");
    let damage = engine.damage();
    assert_eq!(damage.len(), 1);
    let range = damage[0].smallest.clone()..=damage[0].largest.clone();
    for n in 0..KEYS {
        let within = range.contains(key(n).as_bytes());
        assert!(within || engine.get(key(n).as_bytes()).is_ok(), "{n} is outside the range");
    }
    assert!(engine.scan::<&[u8]>(..).any(|row| row.is_err()), "a scan does not pass over it");
    assert_eq!(engine.stats().damaged, 1);

    engine.give_up(&damage[0]);
    assert_eq!(count(&engine), (found, failed, 0), "now it reads as empty");
    assert_eq!(engine.scan::<&[u8]>(..).flatten().count(), found);
    assert!(engine.damage().is_empty());
    drain(&engine);
    assert!(!tables(&disk).contains(&path), "the table was written anew");
    assert_eq!(count(&engine), (found, failed, 0));
    assert!(engine.verify().is_ok());
    drop(engine);
    let engine = open(&fs, &config).unwrap();
    assert_eq!(count(&engine), (found, failed, 0), "and stays so");
    assert!(engine.damage().is_empty());
}

#[test]
fn a_table_that_is_missing_or_unreadable_is_quarantined_as_a_whole() {
    let config = Config::tiny();
    for missing in [false, true] {
        let disk = in_tables(&config);
        let path = tables(&disk).remove(0);
        if missing {
            disk.remove(&path).unwrap();
        } else {
            let len = disk.open(&path, crate::fs::OpenMode::Read).unwrap().len().unwrap();
            disk.flip_bit(&path, len - 20, 1).unwrap();
        }
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        let engine = open(&fs, &config).unwrap();
        let damage = engine.damage();
        assert!(damage.len() == 1 && damage[0].whole, "{damage:?}");
        let (found, absent, failed) = count(&engine);
        assert!(absent == 0 && failed > 0, "{found} found, {absent} absent, {failed} failed");
        engine.give_up(&damage[0]);
        drain(&engine);
        assert_eq!(count(&engine), (found, failed, 0));
        assert!(!tables(&disk).contains(&path));
        drop(engine);
        assert!(open(&fs, &config).unwrap().damage().is_empty());
    }
}

#[test]
fn compaction_stops_before_damage_and_goes_on_when_it_is_given_up() {
    let config = Config::tiny();
    let disk = in_tables(&config);
    for path in tables(&disk) {
        disk.flip_bit(&path, 100, 3).unwrap();
    }
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let engine = open(&fs, &config).unwrap();
    for n in 0..config.level0_tables_compact * 60 {
        let mut batch = Batch::new();
        batch.put(key(n % KEYS).as_bytes(), &[7; 700]);
        engine.append(&batch).unwrap();
        drain(&engine);
    }
    assert!(engine.stats().compaction_stopped.is_some(), "{:?}", engine.stats());
    let before = engine.stats().compactions;
    // A scan ends at the first damage that it meets.
    while engine.scan::<&[u8]>(..).any(|row| row.is_err()) {
        engine.damage().iter().for_each(|damage| engine.give_up(damage));
        drain(&engine);
    }
    assert!(engine.stats().compactions > before);
    assert_eq!(engine.stats().compaction_stopped, None);
}
