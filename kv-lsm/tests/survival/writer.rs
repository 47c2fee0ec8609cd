//! The process that writes until something ends it, and what its directory is held to afterwards.
//!
//! Thread `t` commits batches 0, 1, 2, ...: batch `n` puts `t/n`, sets `head/t` to `n`, and deletes
//! `t/m` for an older `m` now and then. Values follow from (t, n), so none has to be remembered.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kv_lsm::fs::OsFs;
use kv_lsm::{Batch, Config, Durability, Engine, Threads};

pub(super) const THREADS: u64 = 4;
/// Where the writer works; only the process that is one has it.
const DIR_ENV: &str = "KV_LSM_SURVIVAL_DIR";
/// Whether it asks for syncs.
const SYNC_ENV: &str = "KV_LSM_SURVIVAL_SYNC";
/// Batch n deletes what batch n - `DELETED_AFTER` put, if n is a multiple of `DELETED_EVERY`.
const DELETED_AFTER: u64 = 40;
const DELETED_EVERY: u64 = 3;
const LOCKED_MAX: Duration = Duration::from_secs(5);

/// Small files, so that a few hundred batches rotate, flush and compact; with threads.
pub(super) fn config() -> Config {
    Config { threads: Threads::Background, stall_ms_max: 5_000, ..Config::tiny() }
}

/// Opens it. A process that another test forks holds all locks of this one until it has become
/// another program, so one that is held is tried again for a moment.
pub(super) fn open(dir: &Path) -> Result<Engine, kv_lsm::Error> {
    let began = Instant::now();
    loop {
        match Engine::open(Arc::new(OsFs::new()), dir, config()) {
            Err(kv_lsm::Error::Locked { .. }) if began.elapsed() < LOCKED_MAX => {
                thread::sleep(Duration::from_millis(1));
            }
            opened => return opened,
        }
    }
}

fn key(thread: u64, n: u64) -> Vec<u8> {
    format!("{thread:02}/{n:09}").into_bytes()
}

fn head(thread: u64) -> Vec<u8> {
    format!("head/{thread:02}").into_bytes()
}

fn value(thread: u64, n: u64) -> Vec<u8> {
    let mut state = thread << 40 ^ n;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..20 + (n * 37 + thread * 11) % 500).map(|_| next()).collect()
}

fn is_deleted(n: u64, count: u64) -> bool {
    let by = n + DELETED_AFTER;
    by < count && by.is_multiple_of(DELETED_EVERY)
}

/// The writer. In every other process it is a test that does nothing.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(DIR_ENV) else { return };
    let durability =
        if std::env::var_os(SYNC_ENV).is_some() { Durability::Sync } else { Durability::Os };
    let engine = open(Path::new(&dir)).unwrap();
    thread::scope(|scope| {
        for t in 0..THREADS {
            let engine = &engine;
            scope.spawn(move || write(engine, t, durability));
        }
    });
}

/// Goes on until the engine refuses.
fn write(engine: &Engine, t: u64, durability: Durability) {
    let mut batch = Batch::new();
    batch.set_durability(durability);
    for n in count_of(engine, t).unwrap().. {
        batch.clear();
        batch.put(&key(t, n), &value(t, n)).put(&head(t), n.to_string().as_bytes());
        if n >= DELETED_AFTER && n.is_multiple_of(DELETED_EVERY) {
            batch.delete(&key(t, n - DELETED_AFTER));
        }
        // Some leave the log to its thread, as a server would.
        let committed = if t.is_multiple_of(2) {
            engine.commit(&batch).map(drop)
        } else {
            engine.append(&batch).and_then(|ticket| engine.wait_durable(ticket))
        };
        if let Err(error) = committed {
            let words = format!("thread {t}, batch {n}: {error}");
            std::io::stderr().write_all(words.as_bytes()).unwrap();
            return;
        }
        let line = format!("\nacked {t} {n} .\n");
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    }
}

/// How many batches of a thread are there, as its head says.
fn count_of(engine: &Engine, t: u64) -> Result<u64, kv_lsm::Error> {
    let found = engine.get(&head(t))?;
    Ok(found.map_or(0, |found| String::from_utf8_lossy(&found.value).parse::<u64>().unwrap() + 1))
}

/// A writer that runs.
pub(super) struct Writer {
    child: Child,
    lines: Option<BufReader<ChildStdout>>,
    /// The file with its last words.
    told: PathBuf,
}

impl Writer {
    /// Starts one in `dir`; returns when it has had its first batch acknowledged.
    pub(super) fn start(dir: &Path, sync: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "writer::writer", "--nocapture", "--test-threads=1"]);
        command.env(DIR_ENV, dir).env_remove(SYNC_ENV);
        if sync {
            command.env(SYNC_ENV, "1");
        }
        // What it says when the disk goes away is no news; that it ends without that is.
        let told = dir.with_extension("told");
        let stderr = std::fs::File::create(&told).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines: Some(lines), told }
    }

    /// Lets it work for so long after its first acknowledgement, calls `end`, kills it, and gives
    /// how many batches of each thread were acknowledged.
    pub(super) fn end_after(
        mut self,
        time: Duration,
        end: impl FnOnce(),
    ) -> [u64; THREADS as usize] {
        let mut lines = self.lines.take().unwrap();
        let mut acked = [0; THREADS as usize];
        let mut line = String::new();
        while acked == [0; THREADS as usize] {
            line.clear();
            if lines.read_line(&mut line).unwrap() == 0 {
                let told = std::fs::read_to_string(&self.told).unwrap_or_default();
                panic!("the writer ended by itself: {told}");
            }
            note(&line, &mut acked);
        }
        // Somebody must read on, or it waits for room in the pipe.
        let reader = thread::spawn(move || {
            let mut rest = Vec::new();
            lines.read_to_end(&mut rest).unwrap();
            rest
        });
        thread::sleep(time);
        end();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        for line in String::from_utf8_lossy(&reader.join().unwrap()).split_inclusive('\n') {
            note(line, &mut acked);
        }
        acked
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn note(line: &str, acked: &mut [u64; THREADS as usize]) {
    let mut words = line.strip_suffix(" .\n").unwrap_or_default().split(' ');
    if let (Some("acked"), Some(t), Some(n)) = (words.next(), words.next(), words.next()) {
        let (t, n): (usize, u64) = (t.parse().unwrap(), n.parse().unwrap());
        acked[t] = acked[t].max(n + 1);
    }
}

/// What a directory holds of what its writers wrote.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Batches of each thread.
    pub(super) counts: [u64; THREADS as usize],
    /// Those that were acknowledged and are not there.
    pub(super) lost: u64,
}

/// Opens the directory and looks at everything in it. Panics over a hole, a torn batch, a wrong
/// byte, or something that nobody wrote; what was lost it counts.
pub(super) fn check(dir: &Path, acked: &[u64; THREADS as usize]) -> Held {
    let engine = open(dir).unwrap();
    let mut held = Held::default();
    let mut rows = 0;
    for t in 0..THREADS {
        let count = count_of(&engine, t).unwrap();
        let known = acked[t as usize];
        held.lost += known.saturating_sub(count);
        held.counts[t as usize] = count;
        for n in 0..count {
            let found = engine.get(&key(t, n)).unwrap().map(|found| found.value);
            if is_deleted(n, count) {
                assert_eq!(found, None, "thread {t}: batch {n} of {count} was deleted");
            } else {
                let found = found.unwrap_or_else(|| panic!("a hole: {t}/{n} of {count}"));
                assert!(found == value(t, n), "a wrong byte in {t}/{n}");
                rows += 1;
            }
        }
        rows += usize::from(count > 0);
    }
    let seen = engine.scan::<&[u8]>(..).map(Result::unwrap).count();
    assert_eq!(seen, rows, "a walk sees what reads see");
    engine.verify().unwrap();
    engine.close().unwrap();
    held
}
