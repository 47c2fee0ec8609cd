//! Flushes and compactions against a map: whatever is compacted, every reader sees what it saw.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::cache::BlockCache;
use crate::compaction::{Decision, choose};
use crate::fs::{FailFs, FailKind, MemFs};
use crate::iter::visible;
use crate::key::Entry;
use crate::keyspace::Registry;
use crate::sstable::{ResidentEntry, key_hash, table_id};
use crate::version::{LEVELS, Manifest, Opener};

/// Key and reversed sequence to value: every version ever written.
type History = BTreeMap<(Vec<u8>, std::cmp::Reverse<u64>), Option<Vec<u8>>>;

/// The part of an engine that flushes and compacts, step by step.
struct Store {
    fs: Arc<dyn Fs>,
    config: Config,
    manifest: Manifest,
    version: Version,
    opener: Opener,
    next_file_id: u64,
}

const DIR: &str = "db";

impl Store {
    fn open(fs: Arc<dyn Fs>) -> Result<Self, Error> {
        let config = Config {
            block_bytes: 100,
            table_bytes_max: 600,
            level0_tables_compact: 2,
            level1_bytes: 1500,
            level_fanout: 2,
            ..Config::tiny()
        };
        let dir = PathBuf::from(DIR);
        let (manifest, recovered) = Manifest::open(&fs, &dir, 2000)?;
        let opener = Opener {
            fs: Arc::clone(&fs),
            dir,
            cache: Arc::new(BlockCache::new(8 << 20, config.block_bytes)),
            filters: vec![Arc::clone(&config.filter), Arc::clone(&config.filter_upper)],
        };
        let version = recovered.version.open(&opener)?;
        // Ids of files that a crash left may be taken; a real engine removes them.
        let dir = Path::new(DIR);
        let names = fs.list(dir).map_err(|source| Error::io("list", dir, source))?;
        let left = names.iter().filter_map(|name| table_id(name)).max().map_or(0, |id| id + 1);
        let next_file_id = recovered.next_file_id.max(left);
        Ok(Self { fs, config, manifest, version, opener, next_file_id })
    }

    fn new() -> Self {
        let fs = MemFs::new();
        fs.create_dir(Path::new(DIR)).unwrap();
        Self::open(Arc::new(fs)).unwrap()
    }

    fn with<T>(
        &mut self,
        snapshots: &[u64],
        filter: Option<&dyn CompactionFilter>,
        work: impl FnOnce(&Version, &mut Context<'_>) -> T,
    ) -> T {
        let next = &mut self.next_file_id;
        let mut next_file_id = || {
            *next += 1;
            *next
        };
        let mut context = Context {
            fs: self.fs.as_ref(),
            dir: Path::new(DIR),
            config: &self.config,
            spaces: &Registry::default(),
            snapshots,
            filter,
            next_file_id: &mut next_file_id,
            stop: &|| false,
            changed: Vec::new(),
        };
        work(&self.version, &mut context)
    }

    fn install(&mut self, edit: &Edit) -> Result<(), Error> {
        self.manifest.append(edit)?;
        self.version = self.version.apply(edit, |meta| self.opener.open(meta))?;
        let kept: Vec<u64> = edit.added.iter().map(|(_, meta)| meta.file_id).collect();
        for (_, file_id) in edit.removed.iter().filter(|(_, id)| !kept.contains(id)) {
            let path = table_path(Path::new(DIR), *file_id);
            self.fs.remove(&path).map_err(|source| Error::io("remove", &path, source))?;
        }
        Ok(())
    }

    fn flush(&mut self, entries: &History, snapshots: &[u64]) -> Result<(), Error> {
        let list: Vec<_> =
            entries.iter().map(|(at, value)| Ok(entry(at, value.as_ref()))).collect();
        let last = entries.keys().map(|(_, seq)| seq.0).max().unwrap_or(0);
        let walk: EntryIter = Box::new(list.into_iter());
        let edit = self.with(snapshots, None, |_, context| flush_entries(walk, last, context))?;
        self.install(&edit)
    }

    /// Compacts until nothing is to do; gives the number of jobs.
    fn compact(
        &mut self,
        snapshots: &[u64],
        filter: Option<&dyn CompactionFilter>,
    ) -> Result<usize, Error> {
        let mut jobs = 0;
        while let Some(job) = choose(&self.version, &self.config, &Registry::default()) {
            let edit =
                self.with(snapshots, filter, |version, context| run(&job, version, context))?;
            self.install(&edit)?;
            jobs += 1;
            assert!(jobs < 1000, "compaction does not come to rest");
        }
        Ok(jobs)
    }

    fn seen(&self, snapshot: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
        let walk = || {
            let all = self.version.iters(Bound::Unbounded, Bound::Unbounded);
            visible(merge(all), snapshot)
        };
        let plain = |item: Result<(Bytes, Bytes), Error>| {
            let (key, value) = item.unwrap();
            (key.to_vec(), value.to_vec())
        };
        let forward: Vec<_> = walk().map(plain).collect();
        let mut backward: Vec<_> = walk().rev().map(plain).collect();
        backward.reverse();
        assert_eq!(forward, backward);
        forward
    }

    fn check(&self, history: &History, snapshot: u64) {
        let want = model(history, snapshot);
        let flat = want.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        assert_eq!(self.seen(snapshot), flat.collect::<Vec<_>>());
        for key in 0..40_u8 {
            let key = [b'k', key];
            let resident = self.version.get_resident(&key, key_hash(&key), snapshot).unwrap();
            let got = self.version.get(&key, key_hash(&key), snapshot).unwrap();
            match (resident, &got) {
                (ResidentEntry::Found(entry), Some(got)) => assert_eq!(entry, *got),
                (ResidentEntry::Absent, None) | (ResidentEntry::NeedsIo, _) => {}
                (resident, got) => panic!("{resident:?} contradicts {got:?}"),
            }
            let again = self.version.get_resident(&key, key_hash(&key), snapshot).unwrap();
            assert_ne!(again, ResidentEntry::NeedsIo, "a read that fits the cache is not in it");
            let got = got.and_then(|entry| entry.value);
            let want = want.get(&key[..]).cloned().flatten();
            assert_eq!(got.map(|value| value.to_vec()), want);
        }
    }

    /// The files on the disk are those of the version.
    fn assert_no_strays(&self) {
        let names = self.fs.list(Path::new(DIR)).unwrap();
        let on_disk: Vec<u64> = names.iter().filter_map(|name| table_id(name)).collect();
        let mut known: Vec<u64> = self.version.tables().map(|(_, t)| t.meta().file_id).collect();
        known.sort_unstable();
        assert_eq!(on_disk, known);
    }
}

fn entry(at: &(Vec<u8>, std::cmp::Reverse<u64>), value: Option<&Vec<u8>>) -> Entry {
    let (key, seq) = at;
    Entry { key: key.clone().into(), seq: seq.0, value: value.cloned().map(Bytes::from) }
}

fn model(history: &History, snapshot: u64) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    let mut newest = BTreeMap::new();
    for ((key, seq), value) in history.iter().rev() {
        if seq.0 <= snapshot {
            newest.insert(key.clone(), value.clone());
        }
    }
    newest
}

/// One write: the key's number and the value's length, 0 for a delete.
type Write = (u8, usize);

fn batches() -> impl Strategy<Value = Vec<Vec<Write>>> {
    let write = (0_u8..40, 0_usize..50).prop_map(|(key, len)| (key, len.saturating_sub(10)));
    proptest::collection::vec(proptest::collection::vec(write, 1..40), 1..14)
}

/// The batch as a memtable, its sequences from `first` on.
fn memtable(batch: &[Write], first: u64) -> History {
    let versions = batch.iter().zip(first..).map(|(&(key, len), seq)| {
        let value = (len > 0).then(|| vec![seq as u8; len]);
        ((vec![b'k', key], std::cmp::Reverse(seq)), value)
    });
    versions.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn readers_see_the_same_before_and_after(
        batches in batches(), every in 1_usize..5, snapshot_every in 1_usize..6,
    ) {
        let mut store = Store::new();
        let (mut history, mut snapshots, mut seq) = (History::new(), Vec::new(), 1);
        for (number, batch) in batches.iter().enumerate() {
            let memtable = memtable(batch, seq);
            history.extend(memtable.clone());
            if number % snapshot_every == 0 {
                snapshots.push(seq + batch.len() as u64 / 2);
            }
            seq += batch.len() as u64;
            store.flush(&memtable, &snapshots).unwrap();
            if number % every == 0 {
                store.compact(&snapshots, None).unwrap();
                store.assert_no_strays();
            }
            for snapshot in snapshots.iter().chain([&u64::MAX]) {
                store.check(&history, *snapshot);
            }
        }
        // Opened anew it is the same.
        let store = Store::open(Arc::clone(&store.fs)).unwrap();
        for snapshot in snapshots.iter().chain([&u64::MAX]) {
            store.check(&history, *snapshot);
        }
    }

    #[test]
    fn a_failed_call_loses_nothing(
        batches in batches(),
        fails_at in 0_u64..400,
        kind in prop::sample::select(vec![
            FailKind::Once(std::io::ErrorKind::Other),
            FailKind::From(std::io::ErrorKind::StorageFull),
            FailKind::Torn,
        ]),
        seed: u64,
    ) {
        let disk = MemFs::new();
        disk.create_dir(Path::new(DIR)).unwrap();
        disk.sync_dir(Path::new("")).ok();
        drop(Store::open(Arc::new(disk.clone())).unwrap());
        let failing = FailFs::new(Arc::new(disk.clone()), fails_at, kind);
        let (mut history, mut acknowledged, mut seq) = (History::new(), 0, 1);
        if let Ok(mut store) = Store::open(Arc::new(failing)) {
            for batch in &batches {
                let memtable = memtable(batch, seq);
                history.extend(memtable.clone());
                seq += batch.len() as u64;
                if store.flush(&memtable, &[]).is_err() {
                    break;
                }
                acknowledged = seq - 1;
                if store.compact(&[], None).is_err() {
                    break;
                }
            }
        }
        let store = Store::open(Arc::new(disk.crash(seed))).unwrap();
        let after = store.seen(u64::MAX);
        let flat = |snapshot: u64| -> Vec<(Vec<u8>, Vec<u8>)> {
            let seen = model(&history, snapshot).into_iter();
            seen.filter_map(|(key, value)| Some((key, value?))).collect()
        };
        prop_assert!(after == flat(acknowledged) || after == flat(seq - 1));
    }
}

#[test]
fn tombstones_and_what_they_hid_leave_the_disk() {
    let mut store = Store::new();
    let puts: Vec<Write> = (0..40).map(|key| (key, 30)).collect();
    let dels: Vec<Write> = (0..40).map(|key| (key, 0)).collect();
    store.flush(&memtable(&puts, 1), &[]).unwrap();
    store.flush(&memtable(&dels, 100), &[]).unwrap();
    assert!(store.compact(&[], None).unwrap() > 0);
    assert_eq!(store.version.tables().count(), 0);
    store.assert_no_strays();
}

#[test]
fn outputs_are_cut_at_keys_and_levels_fill_up() {
    let mut store = Store::new();
    for round in 0..30_u64 {
        let batch: Vec<Write> = (0..40).map(|key| (key, 20)).collect();
        store.flush(&memtable(&batch, 1 + round * 40), &[(round + 1) * 40]).unwrap();
    }
    // All rounds are kept by snapshots: many versions of every key.
    let snapshots: Vec<u64> = (1..=30).map(|round| round * 40).collect();
    store.compact(&snapshots, None).unwrap();
    let used = (1..LEVELS).filter(|level| !store.version.level(*level).is_empty()).count();
    assert!(used >= 1);
    assert!(store.version.tables().count() > 3);
    for (_, table) in store.version.tables() {
        table.verify().unwrap();
    }
}

#[derive(Debug)]
struct DropShort;

impl CompactionFilter for DropShort {
    fn decide(&self, _: &[u8], value: &[u8]) -> Decision {
        if value.len() < 20 { Decision::Drop } else { Decision::Keep }
    }
}

#[test]
fn the_filter_uncovers_nothing() {
    let mut store = Store::new();
    let long: Vec<Write> = (0..40).map(|key| (key, 30)).collect();
    let short: Vec<Write> = (0..40).step_by(2).map(|key| (key, 5)).collect();
    store.flush(&memtable(&long, 1), &[]).unwrap();
    store.flush(&memtable(&[(0, 30)], 50), &[]).unwrap();
    store.compact(&[], None).unwrap();
    store.flush(&memtable(&short, 100), &[]).unwrap();
    store.flush(&memtable(&[(1, 40)], 200), &[]).unwrap();
    store.compact(&[], Some(&DropShort)).unwrap();
    let seen = store.seen(u64::MAX);
    assert_eq!(seen.len(), 20);
    assert!(seen.iter().all(|(key, _)| key[1] % 2 == 1), "an older version came back");
}

#[test]
fn a_stopped_job_leaves_no_files() {
    let mut store = Store::new();
    let batch: Vec<Write> = (0..40).map(|key| (key, 30)).collect();
    for round in 0..2 {
        store.flush(&memtable(&batch, 1 + round * 40), &[]).unwrap();
    }
    let job = choose(&store.version, &store.config, &Registry::default()).unwrap();
    let asked = std::cell::Cell::new(0);
    let result = store.with(&[], None, |version, context| {
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() > 60
        };
        let mut context = Context {
            fs: context.fs,
            dir: context.dir,
            config: context.config,
            spaces: context.spaces,
            snapshots: &[],
            filter: None,
            next_file_id: context.next_file_id,
            stop: &stop,
            changed: Vec::new(),
        };
        run(&job, version, &mut context)
    });
    assert!(matches!(result, Err(Error::Closed)));
    store.assert_no_strays();
}
