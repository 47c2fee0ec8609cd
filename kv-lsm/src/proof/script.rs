//! A seeded script of appends, steps, reads, copies and reopenings, and the model that it is held
//! to.
//!
//! Each batch also writes its own number under one key, so that a recovered state says which
//! prefix it claims to be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::fs::{Fs, MemFs};
use crate::{Batch, Config, Durability, Engine, Error, Ticket};

const MARKER: &[u8] = b"marker";
/// Checkpoints that one history makes: each costs as much memory as the directory.
const COPIES_MAX: usize = 2;

/// A generator for test choices (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

type Op = (Bytes, Option<Bytes>);
pub(super) type State = BTreeMap<Bytes, Bytes>;

/// Batches in the order in which they were appended.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    batches: Vec<(Vec<Op>, Durability, Ticket)>,
    /// So many batches were reported durable, with the strictest durability.
    acknowledged: usize,
    /// The checkpoints that were reported done, and what each must hold.
    copies: Vec<(PathBuf, State)>,
    /// Checkpoints begun.
    copies_begun: usize,
    /// What the engines of this history did.
    pub(super) done: Done,
}

/// What a history reached, so that a test can see that it is worth something.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) flushes: u64,
    pub(super) compactions: u64,
    pub(super) copies: u64,
}

impl Done {
    fn add(&mut self, engine: &Engine) {
        let stats = engine.stats();
        self.flushes += stats.flushes;
        self.compactions += stats.compactions;
    }
}

impl Model {
    /// What a store that holds the first `count` batches shows.
    pub(super) fn state(&self, count: usize) -> State {
        let mut state = State::new();
        for (key, value) in self.batches[..count].iter().flat_map(|(ops, ..)| ops) {
            match value {
                Some(value) => state.insert(key.clone(), value.clone()),
                None => state.remove(key),
            };
        }
        state
    }

    pub(super) fn appended(&self) -> usize {
        self.batches.len()
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    fn observe(&mut self, durable: Ticket) {
        let reported = self.batches.iter().enumerate().rev();
        let synced = reported.filter(|(_, (_, durability, _))| *durability == Durability::Sync);
        let last = synced.map(|(n, (.., ticket))| (n, *ticket)).find(|(_, at)| *at <= durable);
        self.acknowledged = self.acknowledged.max(last.map_or(0, |(n, _)| n + 1));
    }

    /// As [`Model::adopt`], when damage may have cost durable batches at the end of the log.
    pub(super) fn adopt_damaged(&mut self, engine: &Engine) -> Result<(), String> {
        self.acknowledged = 0;
        self.adopt(engine).map_err(|e| e.to_string())
    }

    /// Checks a recovered engine, and from now on takes what it holds for the history.
    pub(super) fn adopt(&mut self, engine: &Engine) -> Result<(), Failed> {
        let state = read_all(engine)?;
        let count = state.get(MARKER).map_or(Ok(0), |value| {
            String::from_utf8_lossy(value).parse::<usize>().map_err(|e| e.to_string())
        })?;
        if count < self.acknowledged {
            return Err(Failed::Wrong(format!(
                "lost: {count} of {} durable batches",
                self.acknowledged
            )));
        }
        if count > self.batches.len() {
            return Err(format!("invented: {count} of {} batches", self.batches.len()).into());
        }
        if state != self.state(count) {
            return Err(format!("a hole: it is not the state after {count} batches").into());
        }
        let mut backward: Vec<_> = engine.scan::<&[u8]>(..).rev().collect::<Result<_, Error>>()?;
        backward.reverse();
        if backward != state.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>() {
            return Err("a reverse scan differs".to_owned().into());
        }
        self.batches.truncate(count);
        Ok(())
    }
}

pub(super) fn read_all(engine: &Engine) -> Result<State, Error> {
    engine.scan::<&[u8]>(..).collect()
}

pub(super) fn open(fs: &Arc<dyn Fs>, config: &Config) -> Result<Engine, Error> {
    Engine::open(Arc::clone(fs), Path::new("/db"), config.clone())
}

/// What a script may do beside appending and stepping.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mix {
    /// Closes and opens again.
    pub(super) reopens: bool,
    /// Drops the engine without closing, as `kill -9` does, and opens again.
    pub(super) kills: bool,
    /// Batches of weaker durability.
    pub(super) weak: bool,
    /// Makes checkpoints.
    pub(super) copies: bool,
    /// Goes on after an error: works with what still works, and opens once more what does not open.
    pub(super) stubborn: bool,
    pub(super) value_bytes_max: u64,
    pub(super) keys: u64,
}

impl Mix {
    /// Appends and steps, with small values.
    pub(super) const PLAIN: Self = Self {
        reopens: false,
        kills: false,
        weak: false,
        copies: false,
        stubborn: false,
        value_bytes_max: 64,
        keys: 40,
    };

    fn open(self, fs: &Arc<dyn Fs>, config: &Config) -> Result<Engine, Error> {
        open(fs, config).or_else(|e| if self.stubborn { open(fs, config) } else { Err(e) })
    }

    fn adopt(self, engine: &Engine, model: &mut Model) -> Result<(), Failed> {
        match model.adopt(engine) {
            Err(Failed::Engine(_)) if self.stubborn => model.adopt(engine),
            adopted => adopted,
        }
    }
}

/// Runs `steps` random steps. Errors of the engine end the script, unless it is stubborn: the model
/// then knows what was appended and what was reported durable. `Err` is a violation, not an error
/// of the engine.
pub(super) fn run(
    fs: &Arc<dyn Fs>,
    config: &Config,
    mix: Mix,
    seed: u64,
    steps: usize,
    model: &mut Model,
) -> Result<(), String> {
    match try_run(fs, config, mix, seed, steps, model) {
        Ok(()) | Err(Failed::Engine(_)) => Ok(()),
        Err(Failed::Wrong(what)) => Err(what),
    }
}

fn try_run(
    fs: &Arc<dyn Fs>,
    config: &Config,
    mix: Mix,
    seed: u64,
    steps: usize,
    model: &mut Model,
) -> Result<(), Failed> {
    let mut random = Random(seed);
    let mut engine = mix.open(fs, config)?;
    for _ in 0..steps {
        let stopped = match random.below(100) {
            0..60 => append(&engine, mix, &mut random, model).is_err(),
            60..85 => engine.step().is_err(),
            85..90 => {
                let last = model.batches.last().map_or_else(Ticket::default, |(.., t)| *t);
                engine.wait_durable(last).is_err()
            }
            90..95 => match check_reads(&engine, &mut random, model) {
                Err(Failed::Engine(_)) if mix.stubborn => false,
                checked => checked.map(|()| false)?,
            },
            95 if mix.copies => copy(&engine, model).is_err(),
            96..98 if mix.reopens => {
                let closed = engine.close().is_ok();
                if closed {
                    model.observe(model.batches.last().map_or_else(Ticket::default, |b| b.2));
                }
                model.done.add(&engine);
                drop(engine);
                engine = mix.open(fs, config)?;
                mix.adopt(&engine, model)?;
                !closed
            }
            98..100 if mix.kills => {
                model.done.add(&engine);
                drop(engine);
                engine = mix.open(fs, config)?;
                mix.adopt(&engine, model)?;
                false
            }
            _ => false,
        };
        model.observe(engine.durable());
        if stopped && !mix.stubborn {
            break;
        }
    }
    model.done.add(&engine);
    Ok(())
}

fn append(engine: &Engine, mix: Mix, random: &mut Random, model: &mut Model) -> Result<(), Error> {
    let mut ops: Vec<Op> = Vec::new();
    for _ in 0..=random.below(4) {
        let key = Bytes::from(format!("key{:03}", random.below(mix.keys)));
        let value = (random.below(4) > 0).then(|| {
            let fill = random.below(256) as u8;
            Bytes::from(vec![fill; random.below(mix.value_bytes_max) as usize])
        });
        ops.push((key, value));
    }
    let count = model.batches.len() + 1;
    ops.push((Bytes::from_static(MARKER), Some(Bytes::from(count.to_string()))));
    let mut batch = Batch::new();
    for (key, value) in &ops {
        match value {
            Some(value) => batch.put(key, value),
            None => batch.delete(key),
        };
    }
    let durability = match random.below(6) {
        0 if mix.weak => Durability::Os,
        1 if mix.weak => Durability::Periodic { ms: 1 },
        _ => Durability::Sync,
    };
    batch.set_durability(durability);
    let ticket = engine.append(&batch)?;
    model.batches.push((ops, durability, ticket));
    Ok(())
}

/// Makes a checkpoint, of what was appended until now.
fn copy(engine: &Engine, model: &mut Model) -> Result<(), Error> {
    if model.copies_begun == COPIES_MAX {
        return Ok(());
    }
    let to = PathBuf::from(format!("/copy{}", model.copies_begun));
    model.copies_begun += 1;
    engine.checkpoint(&to)?;
    model.copies.push((to, model.state(model.appended())));
    model.done.copies += 1;
    Ok(())
}

/// Why a check failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The file system refused something, and the engine said so.
    Engine(Error),
    /// A promise was broken.
    Wrong(String),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match error {
            Error::Io { .. } | Error::Poisoned { .. } => Self::Engine(error),
            _ => Self::Wrong(error.to_string()),
        }
    }
}

impl From<String> for Failed {
    fn from(what: String) -> Self {
        Self::Wrong(what)
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Engine(error) => write!(f, "{error}"),
            Self::Wrong(what) => f.write_str(what),
        }
    }
}

/// A read that the engine refuses is no violation; one that is wrong is.
fn check_reads(engine: &Engine, random: &mut Random, model: &Model) -> Result<(), Failed> {
    let state = model.state(model.appended());
    let key = Bytes::from(format!("key{:03}", random.below(40)));
    let found = engine.get(&key)?.map(|found| found.value);
    if found.as_ref() != state.get(&key) {
        return Err(Failed::Wrong(format!("get of {key:?} differs")));
    }
    let from = Bytes::from(format!("key{:03}", random.below(40)));
    let backward = random.below(2) == 1;
    let mut seen: Vec<_> = if backward {
        engine.scan(from.clone()..).rev().take(5).collect::<Result<_, Error>>()
    } else {
        engine.scan(from.clone()..).take(5).collect::<Result<_, Error>>()
    }?;
    let known = state.range(from..).map(|(k, v)| (k.clone(), v.clone()));
    let mut known: Vec<_> =
        if backward { known.rev().take(5).collect() } else { known.take(5).collect() };
    if backward {
        seen.reverse();
        known.reverse();
    }
    if seen != known {
        return Err(Failed::Wrong("a scan differs".to_owned()));
    }
    Ok(())
}

/// After the end of a run: kills or cuts the power, opens, and checks.
pub(super) fn recover(
    disk: &MemFs,
    config: &Config,
    model: &Model,
    power_cut: Option<u64>,
) -> Result<MemFs, String> {
    let disk = power_cut.map_or_else(|| disk.clone(), |seed| disk.crash(seed));
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let engine = open(&fs, config).map_err(|e| format!("does not open: {e}"))?;
    model.clone().adopt(&engine).map_err(|e| e.to_string())?;
    for (dir, state) in &model.copies {
        let copy = Engine::open_read_only(Arc::clone(&fs), dir, config.clone())
            .map_err(|e| format!("a checkpoint does not open: {e}"))?;
        if read_all(&copy).map_err(|e| format!("a checkpoint: {e}"))? != *state {
            return Err("a checkpoint holds something else".to_owned());
        }
    }
    Ok(disk)
}
