//! Crashes of an engine with keyspaces: batches over several, and keyspaces that come and go, with
//! a power cut or an error at every call of the file system.
//!
//! Beside the promise for batches (a prefix without holes, with all that is durable) it is checked
//! that a keyspace which was made or dropped is there or not there accordingly, that one under way
//! is there as a whole or not at all, that a drop (and the first creation) never survives a batch
//! before it that is lost, and that a keyspace begins empty: where there was one of its name, and
//! where the default one has had keys that are stored as its own would be.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::crash::{Covered, is_long, over_scripts};
use super::script::{Random, open};
use crate::fs::{FailFs, FailKind, Fs, MemFs};
use crate::{Batch, Config, Durability, Engine, Error, Ticket};

const NAMES: [&str; 3] = ["a", "b", "c"];
const MARKER: &[u8] = b"marker";
/// As what the byte 0xFF is read.
const MARK: char = char::REPLACEMENT_CHARACTER;
const STEPS: usize = 110;

/// What was done, in order.
#[derive(Clone, Debug)]
enum Event {
    /// Keyspace (none: the default one), key and value.
    Batch(Vec<(Option<&'static str>, String, Option<String>)>, Durability, Ticket),
    Create(&'static str),
    Drop(&'static str),
}

/// The history, and how much of it must be there.
#[derive(Clone, Debug, Default)]
struct Model {
    events: Vec<Event>,
    batches: usize,
    acknowledged: usize,
    /// A change of keyspaces that failed: it may be durable.
    undecided: Option<Event>,
}

type State = BTreeMap<Option<&'static str>, BTreeMap<String, String>>;

impl Model {
    /// What is there after the first `count` batches and all changes of keyspaces; or nothing, if
    /// that can't be: a drop and the first creation never survive a batch before them that is lost.
    fn state(events: &[Event], count: usize) -> Option<State> {
        let mut state = State::from([(None, BTreeMap::new())]);
        let (mut seen, mut is_on) = (0, false);
        for event in events {
            match event {
                Event::Batch(ops, ..) => {
                    seen += 1;
                    for (keyspace, key, value) in ops.iter().filter(|_| seen <= count) {
                        let Some(map) = state.get_mut(keyspace) else { continue };
                        match value {
                            Some(value) => map.insert(key.clone(), value.clone()),
                            None => map.remove(key),
                        };
                    }
                }
                Event::Create(_) if !is_on && seen > count => return None,
                Event::Create(name) => {
                    is_on = true;
                    state.insert(Some(*name), BTreeMap::new());
                }
                Event::Drop(_) if seen > count => return None,
                Event::Drop(name) => {
                    state.remove(&Some(*name));
                }
            }
        }
        Some(state)
    }

    fn newest(&self) -> State {
        Self::state(&self.events, usize::MAX).unwrap_or_default()
    }

    fn live(&self) -> Vec<&'static str> {
        self.newest().into_keys().flatten().collect()
    }

    /// Whether the first keyspace has to be refused.
    fn is_marked(&self) -> bool {
        let is_on = self.events.iter().any(|event| matches!(event, Event::Create(_)));
        let default = self.newest().remove(&None).unwrap_or_default();
        !is_on && default.keys().any(|key| key.starts_with(MARK))
    }

    fn observe(&mut self, durable: Ticket) {
        let mut count = 0;
        for event in &self.events {
            if let Event::Batch(_, durability, ticket) = event {
                count += 1;
                if *durability == Durability::Sync && *ticket <= durable {
                    self.acknowledged = self.acknowledged.max(count);
                }
            }
        }
    }

    /// Holds what a recovered engine has to the history; gives how many batches it has.
    fn check(&self, found: &State) -> Result<usize, String> {
        let marker = found.get(&None).and_then(|map| map.get("marker"));
        let count = marker.map_or(0, |text| text.parse::<usize>().unwrap());
        if count < self.acknowledged || count > self.batches {
            let (least, most) = (self.acknowledged, self.batches);
            return Err(format!("{count} batches, of {least} durable and {most} in all"));
        }
        let mut with = self.events.clone();
        with.extend(self.undecided.clone());
        let possible = [&self.events, &with].map(|events| Self::state(events, count));
        if possible.iter().flatten().any(|state| state == found) {
            return Ok(count);
        }
        Err(format!("after {count} batches:\n{found:?}\nis none of\n{possible:?}"))
    }

    /// Checks it, and from now on takes it for the history.
    fn adopt(&mut self, found: &State) -> Result<(), String> {
        self.batches = self.check(found)?;
        let mut seen = 0;
        self.events.retain(|event| {
            seen += usize::from(matches!(event, Event::Batch(..)));
            seen <= self.batches || !matches!(event, Event::Batch(..))
        });
        Ok(())
    }
}

fn read_all(engine: &Engine) -> Result<State, Error> {
    let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
    let plain =
        |item: Result<(Bytes, Bytes), Error>| item.map(|(key, value)| (text(key), text(value)));
    let mut state = State::new();
    state.insert(None, engine.scan::<&[u8]>(..).map(plain).collect::<Result<_, _>>()?);
    for name in engine.keyspaces() {
        let name = NAMES.into_iter().find(|known| *known == name).expect("a name that was given");
        let Some(keyspace) = engine.keyspace(name) else { continue };
        let walk = keyspace.scan::<&[u8]>(..)?;
        state.insert(Some(name), walk.map(plain).collect::<Result<_, _>>()?);
    }
    Ok(state)
}

/// One script on `fs` until it ends or something fails.
fn run(fs: &Arc<dyn Fs>, config: &Config, seed: u64, model: &mut Model) {
    let mut random = Random(seed);
    let Ok(mut engine) = open(fs, config) else { return };
    for _ in 0..STEPS {
        let name = NAMES[random.below(3) as usize];
        let done = match random.below(100) {
            0..8 => {
                let is_new = !model.live().contains(&name) && !model.is_marked();
                let done = engine.create_keyspace(name).map(|_| ());
                note(model, Event::Create(name), done, is_new)
            }
            8..14 => {
                let is_there = model.live().contains(&name);
                let done = engine.drop_keyspace(name);
                note(model, Event::Drop(name), done, is_there)
            }
            14..64 => append(&engine, &mut random, model),
            64..94 => engine.step().map(|_| ()),
            94..97 => engine.flush().map(|_| ()),
            _ => {
                // As `kill -9` does.
                model.observe(engine.durable());
                drop(engine);
                let Ok(next) = open(fs, config) else { return };
                engine = next;
                let Ok(found) = read_all(&engine) else { return };
                model.adopt(&found).unwrap_or_else(|e| panic!("script {seed}, killed: {e}"));
                Ok(())
            }
        };
        model.observe(engine.durable());
        match done {
            // Nothing has changed, and perhaps there is room again.
            Ok(()) | Err(Error::DiskFull) => {}
            Err(_) => return,
        }
    }
}

/// Notes a change of keyspaces; what was refused because of its name changes nothing.
fn note(
    model: &mut Model,
    event: Event,
    done: Result<(), Error>,
    expected: bool,
) -> Result<(), Error> {
    match done {
        Ok(()) => {
            assert!(expected, "{event:?} should have been refused");
            let is_first = !model.events.iter().any(|event| matches!(event, Event::Create(_)));
            if is_first || matches!(event, Event::Drop(_)) {
                // With it everything that came before.
                model.acknowledged = model.batches;
            }
            model.events.push(event);
            Ok(())
        }
        Err(Error::Keyspace { .. }) => {
            assert!(!expected, "{event:?} should not have been refused");
            Ok(())
        }
        Err(Error::DiskFull) => Err(Error::DiskFull),
        Err(error) => {
            model.undecided = Some(event);
            Err(error)
        }
    }
}

/// How a key of the model is written.
fn bytes(key: &str) -> Vec<u8> {
    match key.strip_prefix(MARK) {
        Some(rest) => [b"\xff", rest.as_bytes()].concat(),
        None => key.as_bytes().to_vec(),
    }
}

fn append(engine: &Engine, random: &mut Random, model: &mut Model) -> Result<(), Error> {
    let mut batch = Batch::new();
    let mut ops = Vec::new();
    let live = model.live();
    for _ in 0..=random.below(3) {
        let mut key = format!("key{:02}", random.below(30));
        let at = random.below(live.len() as u64 + 1) as usize;
        let name = live.get(at).copied();
        let is_marked = name.is_none() && random.below(3) == 0;
        if is_marked {
            // As a key of one of the first keyspaces would lie.
            let id = char::from(1 + random.below(4) as u8);
            key = format!("{MARK}\0\0{id}key{:02}", random.below(2));
        }
        let value = (random.below(4) > if is_marked { 2 } else { 0 })
            .then(|| format!("{}", random.below(10)).repeat(random.below(500) as usize));
        let keyspace = name.and_then(|name| engine.keyspace(name));
        match (&keyspace, &value) {
            (Some(keyspace), Some(value)) => batch.put_in(keyspace, &bytes(&key), value.as_bytes()),
            (Some(keyspace), None) => batch.delete_in(keyspace, &bytes(&key)),
            (None, Some(value)) => batch.put(&bytes(&key), value.as_bytes()),
            (None, None) => batch.delete(&bytes(&key)),
        };
        ops.push((name, key, value));
    }
    let count = (model.batches + 1).to_string();
    batch.put(MARKER, count.as_bytes());
    ops.push((None, "marker".to_owned(), Some(count)));
    let durability = if random.below(3) > 0 { Durability::Sync } else { Durability::Os };
    batch.set_durability(durability);
    let ticket = engine.append(&batch)?;
    model.batches += 1;
    model.events.push(Event::Batch(ops, durability, ticket));
    Ok(())
}

/// Runs a script with call `fails_at` failing; gives disk, history, and the calls made.
fn run_failing(config: &Config, seed: u64, fails_at: u64, kind: FailKind) -> (MemFs, Model, u64) {
    let disk = MemFs::new();
    let failing = FailFs::new(Arc::new(disk.clone()), fails_at, kind);
    let fs: Arc<dyn Fs> = Arc::new(failing.clone());
    let mut model = Model::default();
    run(&fs, config, seed, &mut model);
    (disk, model, failing.calls())
}

fn recover(disk: &MemFs, config: &Config, model: &Model) -> Result<(), String> {
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let engine = open(&fs, config).map_err(|e| format!("does not open: {e}"))?;
    let found = read_all(&engine).map_err(|e| e.to_string())?;
    model.check(&found).map(|_| ())
}

/// How many scripts there are. Each makes some hundred calls, and at each something happens.
fn scripts() -> usize {
    if is_long() { 50 } else { 8 }
}

#[test]
fn a_power_cut_after_every_call_keeps_keyspaces_and_batches_together() {
    let config = Config::tiny();
    let (changes, undecided) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let covered = over_scripts(scripts(), |script| {
        let mut covered = Covered::default();
        let seed = script as u64;
        let (_, model, calls) = run_failing(&config, seed, u64::MAX, FailKind::Torn);
        let made = model.events.iter().filter(|e| !matches!(e, Event::Batch(..))).count();
        changes.fetch_add(made, Ordering::Relaxed);
        assert!(model.batches > 30, "{} batches", model.batches);
        for call in 0..=calls {
            covered.points += 1;
            for kind in [FailKind::From(io::ErrorKind::Other), FailKind::Torn] {
                let (disk, model, _) = run_failing(&config, seed, call, kind);
                covered.at_stake += model.acknowledged as u64;
                undecided.fetch_add(usize::from(model.undecided.is_some()), Ordering::Relaxed);
                for cut in 0..2 {
                    covered.crashes += 1;
                    recover(&disk.crash(cut), &config, &model).unwrap_or_else(|e| {
                        panic!("script {seed}, {kind:?} at call {call}, power cut {cut}: {e}")
                    });
                }
            }
        }
        covered
    });
    covered.tell("power cuts while keyspaces come and go");
    let (changes, undecided) = (changes.into_inner(), undecided.into_inner());
    assert!(covered.crashes > 5_000 && covered.at_stake > 20_000, "{covered:?}");
    assert!(changes > 40 && undecided > 100, "{changes} changes, {undecided} cut short");
}

#[test]
fn an_error_at_every_call_loses_no_keyspace() {
    let config = Config::tiny();
    let covered = over_scripts(scripts(), |script| {
        let mut covered = Covered::default();
        let seed = 1_000 + script as u64;
        let (.., calls) = run_failing(&config, seed, u64::MAX, FailKind::Torn);
        for call in 0..=calls {
            covered.points += 1;
            for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other].map(FailKind::Once) {
                let (disk, model, _) = run_failing(&config, seed, call, kind);
                covered.at_stake += model.acknowledged as u64;
                for disk in [disk.clone(), disk.crash(call)] {
                    covered.crashes += 1;
                    recover(&disk, &config, &model)
                        .unwrap_or_else(|e| panic!("script {seed}, {kind:?} at call {call}: {e}"));
                }
            }
        }
        covered
    });
    covered.tell("an error while keyspaces come and go");
    assert!(covered.crashes > 5_000, "{covered:?}");
}
