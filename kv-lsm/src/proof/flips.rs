//! Flipped bits in every kind of file that an engine leaves: each is found, with file and offset,
//! or changes nothing that is read. (TigerBeetle's simulator corrupts at rest likewise; Pebble
//! looks for flipped bits in its log.)
//!
//! One directory is made that has them all; then, again and again, one bit of a copy of it is
//! turned, it is opened, and everything in it is read in every way. Only one outcome is neither
//! found nor harmless, and only in the log of a process that was killed: its very last frame, which
//! nothing on the disk says was ever synced, is cut as a torn one would be (the README says so).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::script::{Random, State, open, read_all};
use crate::fs::{Fs, MemFs, OpenMode};
use crate::{Batch, Config, Engine, Error};

const KEYS: u64 = 120;
/// No table that was ever built has such a number.
const ORPHAN: &str = "0000000000900000.table";
/// No frame, block or edit of these files is larger.
const UNIT_BYTES_MAX: u64 = 4 << 10;
const DIRS: [&str; 3] = ["/db", "/db/log", "/copy"];

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Log,
    /// Of a process that was killed right after its last sync.
    LogOfKilled,
    Spare,
    Table,
    /// While the engine has it open.
    TableInUse,
    Manifest,
    Lock,
    /// What a crash leaves of a flush, a new manifest, a new segment.
    Leftover,
    TableOfCheckpoint,
    ManifestOfCheckpoint,
}

const KINDS: [Kind; 10] = [
    Kind::Log,
    Kind::LogOfKilled,
    Kind::Spare,
    Kind::Table,
    Kind::TableInUse,
    Kind::Manifest,
    Kind::Lock,
    Kind::Leftover,
    Kind::TableOfCheckpoint,
    Kind::ManifestOfCheckpoint,
];

impl Kind {
    fn takes(self, path: &Path) -> bool {
        let is_copy = path.starts_with("/copy");
        let name = path.file_name().unwrap().to_str().unwrap();
        let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
        match self {
            Self::Log | Self::LogOfKilled => end == "log",
            Self::Spare => end == "spare",
            Self::Table | Self::TableInUse => end == "table" && name != ORPHAN && !is_copy,
            Self::Manifest => name == "MANIFEST" && !is_copy,
            Self::Lock => name == "LOCK",
            Self::Leftover => name == ORPHAN || end == "next" || end == "new",
            Self::TableOfCheckpoint => end == "table" && is_copy,
            Self::ManifestOfCheckpoint => name == "MANIFEST" && is_copy,
        }
    }

    /// Whether nothing is ever read of such a file.
    fn is_never_read(self) -> bool {
        matches!(self, Self::Spare | Self::Lock | Self::Leftover)
    }
}

/// What came of a flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The directory does not open.
    Refused,
    /// Reads of what was damaged fail, or the check of the whole file does.
    Found,
    /// Everything is there, and nothing complains.
    Harmless,
    /// The last frame of a killed process's log is cut.
    Cut,
}

/// A directory with files of every kind, and what it must show.
struct Example {
    disk: MemFs,
    state: State,
    /// Without the last batch.
    before_last: State,
    /// What the checkpoint must show.
    copied: State,
}

fn config() -> Config {
    // So that several levels have tables.
    Config { level1_bytes: 16 << 10, table_bytes_max: 4 << 10, ..Config::tiny() }
}

/// Writes, flushes, compacts, makes a checkpoint, and leaves a part in the log.
fn example(close: bool) -> Example {
    let disk = MemFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let engine = open(&fs, &config()).unwrap();
    let mut random = Random(7);
    let (mut state, mut before_last, mut copied) = (State::new(), State::new(), State::new());
    let mut n = 0;
    loop {
        before_last.clone_from(&state);
        let key = Bytes::from(format!("key{:04}", random.below(KEYS)));
        let mut batch = Batch::new();
        if random.below(6) == 0 {
            batch.delete(&key);
            state.remove(&key);
        } else {
            let value: Vec<u8> =
                (0..60 + random.below(400)).map(|_| random.below(256) as u8).collect();
            batch.put(&key, &value);
            state.insert(key, Bytes::from(value));
        }
        engine.wait_durable(engine.append(&batch).unwrap()).unwrap();
        n += 1;
        if n < 400 {
            engine.step().unwrap();
        }
        if n == 300 {
            engine.checkpoint(Path::new("/copy")).unwrap();
            copied.clone_from(&state);
        }
        // Behind the last flush a few frames stay in the log.
        if n >= 420 && engine.stats().memtable_bytes > 3_000 && state != before_last {
            break;
        }
    }
    let levels = engine.stats().level_tables;
    assert!(
        levels.iter().sum::<usize>() > 3 && levels[1..].iter().sum::<usize>() > 0,
        "{levels:?}"
    );
    if close {
        engine.close().unwrap();
    }
    drop(engine);
    let disk = copy_of(&disk);
    let manifest = bytes_of(&disk, Path::new("/db/MANIFEST"));
    let table = files(&disk).into_iter().find(|path| Kind::Table.takes(path)).unwrap();
    write(&disk, Path::new("/db/LOCK"), b"this is never read");
    write(&disk, Path::new("/db/MANIFEST.next"), &manifest);
    write(&disk, &Path::new("/db").join(ORPHAN), &bytes_of(&disk, &table));
    write(&disk, Path::new("/db/log/77.new"), &[0; 1024]);
    Example { disk, state, before_last, copied }
}

fn files(disk: &MemFs) -> Vec<PathBuf> {
    let of = |dir: &&str| -> Vec<PathBuf> {
        let names = disk.list(Path::new(dir)).unwrap();
        names.into_iter().map(|name| Path::new(dir).join(name)).collect()
    };
    DIRS.iter().flat_map(of).collect()
}

fn bytes_of(disk: &MemFs, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
    bytes
}

fn write(disk: &MemFs, path: &Path, bytes: &[u8]) {
    disk.open(path, OpenMode::CreateNew).unwrap().write_at(0, bytes).unwrap();
}

/// As found by the next process: what was written is there.
fn copy_of(disk: &MemFs) -> MemFs {
    let copy = MemFs::new();
    for dir in DIRS {
        copy.create_dir(Path::new(dir)).unwrap();
    }
    for path in files(disk) {
        write(&copy, &path, &bytes_of(disk, &path));
    }
    copy
}

/// Fails unless the error names the file, and a place that is not behind the flipped byte.
fn assert_named(error: &Error, path: &Path, byte: u64) {
    match error {
        Error::Corrupt { path: named, offset, .. } => {
            assert_eq!(named, path, "{error}");
            let within = (*offset..offset + UNIT_BYTES_MAX).contains(&byte);
            assert!(within, "{error}, and the bit is in byte {byte}");
        }
        // The version of a log's first frame stands outside of any checksum.
        Error::UnknownFormat { path: named, .. } => {
            assert!(named == path && byte < 64, "{error}, and the bit is in byte {byte}");
        }
        other => panic!("{other}, for a bit in byte {byte} of {}", path.display()),
    }
}

/// Reads everything in every way. Errors must be of the flipped byte; says whether there were any.
fn read_everything(engine: &Engine, state: &State, path: &Path, byte: u64) -> bool {
    let mut found = false;
    let mut note = |error: &Error| {
        assert_named(error, path, byte);
        found = true;
    };
    for n in 0..KEYS + 20 {
        let key = Bytes::from(format!("key{n:04}"));
        match engine.get(&key) {
            Ok(read) => {
                let read = read.map(|read| read.value);
                assert_eq!(read.as_ref(), state.get(&key), "{key:?}, {}", path.display());
            }
            Err(error) => note(&error),
        }
    }
    let pairs: Vec<_> = state.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    walk(engine.scan::<&[u8]>(..), pairs.iter(), &mut note);
    walk(engine.scan::<&[u8]>(..).rev(), pairs.iter().rev(), &mut note);
    engine.verify_all().iter().for_each(&mut note);
    for damage in engine.damage() {
        note(&Error::corrupt(&damage.path, damage.offset, damage.what));
    }
    found
}

/// A walk gives the right pairs up to the first damage, and all of them if there is none.
fn walk<'a>(
    items: impl Iterator<Item = Result<(Bytes, Bytes), Error>>,
    mut pairs: impl Iterator<Item = &'a (Bytes, Bytes)>,
    note: &mut impl FnMut(&Error),
) {
    for item in items {
        match item {
            Ok(pair) => assert_eq!(Some(&pair), pairs.next(), "a walk gives something else"),
            Err(error) => return note(&error),
        }
    }
    assert_eq!(pairs.next(), None, "a walk ends too early, without an error");
}

/// Flips a bit of a copy and sees what comes of it.
fn flip(example: &Example, kind: Kind, path: &Path, byte: u64, bit: u8) -> Outcome {
    let disk = copy_of(&example.disk);
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let turn = || disk.flip_bit(path, byte, bit).unwrap();
    let is_copy = path.starts_with("/copy");
    if kind != Kind::TableInUse {
        turn();
    }
    let opened = if is_copy {
        Engine::open_read_only(Arc::clone(&fs), Path::new("/copy"), config())
    } else {
        open(&fs, &config())
    };
    let engine = match opened {
        Ok(engine) => engine,
        Err(error) => {
            assert_named(&error, path, byte);
            return Outcome::Refused;
        }
    };
    if kind == Kind::TableInUse {
        turn();
    }
    if kind == Kind::LogOfKilled && read_all(&engine).unwrap() == example.before_last {
        return Outcome::Cut;
    }
    let state = if is_copy { &example.copied } else { &example.state };
    if read_everything(&engine, state, path, byte) { Outcome::Found } else { Outcome::Harmless }
}

/// A byte of a file: most often one that was written to, as most of a segment is zeros.
fn choose_byte(bytes: &[u8], random: &mut Random) -> u64 {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
    let end = if random.below(10) == 0 { bytes.len() as u64 } else { used };
    random.below(end.max(1))
}

#[test]
fn flipped_bits_of_every_kind_of_file_are_found_or_harmless() {
    let flips: u64 = if std::env::var_os("KV_TEST_LONG").is_some() { 10_000 } else { 1_000 };
    let (closed, killed) = (example(true), example(false));
    let mut counts: BTreeMap<(Kind, Outcome), u64> = BTreeMap::new();
    let mut random = Random(1);
    for n in 0..flips {
        let kind = KINDS[(n % KINDS.len() as u64) as usize];
        let example = if kind == Kind::LogOfKilled { &killed } else { &closed };
        let mut paths = files(&example.disk);
        paths.retain(|path| kind.takes(path));
        assert!(!paths.is_empty(), "there is no file of the kind {kind:?}");
        let path = &paths[random.below(paths.len() as u64) as usize];
        let byte = choose_byte(&bytes_of(&example.disk, path), &mut random);
        let outcome = flip(example, kind, path, byte, random.below(8) as u8);
        let is_table = matches!(kind, Kind::Table | Kind::TableInUse | Kind::TableOfCheckpoint);
        let place = format!("byte {byte} of {}: {outcome:?}", path.display());
        assert!(!is_table || outcome == Outcome::Found, "{place}");
        assert!(!kind.is_never_read() || outcome == Outcome::Harmless, "{place}");
        assert!(kind == Kind::LogOfKilled || outcome != Outcome::Cut, "{place}");
        *counts.entry((kind, outcome)).or_default() += 1;
    }
    for kind in KINDS {
        let of = |outcome| counts.get(&(kind, outcome)).copied().unwrap_or(0);
        let (refused, found) = (of(Outcome::Refused), of(Outcome::Found));
        let (harmless, cut) = (of(Outcome::Harmless), of(Outcome::Cut));
        println!(
            "figure: flipped bits, {kind:?}: {refused} refused at open, {found} found by reads or \
             verify, {harmless} harmless, {cut} cut as a torn last frame"
        );
        assert!(kind.is_never_read() || refused + found > flips / 50, "{kind:?} is hardly checked");
    }
}
