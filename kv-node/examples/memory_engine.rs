//! What the in-memory engine takes for each pair, and how fast it is beside a hash table behind a
//! lock: `cargo run --release -p kv-node --example memory_engine [pairs] [rounds]`.
//!
//! Pairs are of 16 and 100 bytes, with storage keys and records as a node writes them for a SET;
//! then come JSON values of some 200 bytes, held as they are and compressed. Memory is the growth
//! of a process's resident set, each time in a process of its own. For the speed both hold the same
//! rows and take turns; what is told is the median. It fails if a figure misses what is asked.
#![expect(clippy::print_stdout, reason = "a program that prints its figures")]

use std::error::Error;
use std::process::{Command, ExitCode};
use std::time::Instant;
use std::{env, fs};

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use kv_node::keys::{KeyRef, PREFIX_BYTES};
use kv_node::plug::memory::{MemoryConfig, MemoryEngine};
use kv_node::plug::storage::{Resident, StorageEngine, WriteBatch};
use kv_quorum::{Actor, Dot, Draft, HybridTime, blind_overwrite};
use parking_lot::RwLock;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEY_BYTES: usize = PREFIX_BYTES + 16;
const VALUE_BYTES: usize = 100;
/// Rows of a batch, as a pipeline of a client makes them.
const BATCH: usize = 16;
const BYTES_PER_KEY_MAX: f64 = 189.0;
const SPEED_MIN: f64 = 0.8;
/// Values from here on are compressed where that is on.
const COMPRESS_BYTES_MIN: usize = 64;
/// What may be left of a JSON value's bytes.
const JSON_SHARE_MAX: f64 = 0.5;

type Key = [u8; KEY_BYTES];
type Outcome<T> = Result<T, Box<dyn Error>>;

/// What the pairs' values are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    /// A hundred bytes that look like chance.
    Noise,
    Json,
    /// The same, and the engine compresses.
    JsonPacked,
}

impl Values {
    const ALL: [(&'static str, Self); 3] =
        [("noise", Self::Noise), ("json", Self::Json), ("json-packed", Self::JsonPacked)];

    fn engine(self) -> MemoryEngine {
        MemoryEngine::new(MemoryConfig {
            memory_bytes_max: 1 << 40,
            hash_seed: 7,
            compress_bytes_min: (self == Self::JsonPacked).then_some(COMPRESS_BYTES_MIN),
            ..MemoryConfig::default()
        })
    }

    fn write(self, n: u64, version: u64, out: &mut Vec<u8>) {
        if self == Self::Noise {
            let noise = (0..13).flat_map(|salt| mix(n ^ salt << 40 ^ version << 50).to_le_bytes());
            out.extend(noise.take(VALUE_BYTES));
        } else {
            out.extend_from_slice(json(n, version).as_bytes());
        }
    }
}

fn main() -> Outcome<ExitCode> {
    let mut words = env::args().skip(1);
    let first = words.next();
    if first.as_deref() == Some("memory") {
        let (name, pairs) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let values = Values::ALL.iter().find(|(known, _)| *known == name).ok_or("which values?")?.1;
        return measure_memory(values, pairs.parse()?).map(|()| ExitCode::SUCCESS);
    }
    let pairs: u64 = first.as_deref().unwrap_or("1000000").parse()?;
    let rounds: usize = words.next().as_deref().unwrap_or("3").parse()?;
    let (loaded, overwritten) = memory_of("noise", pairs)?;
    println!(
        "figure: in-memory engine, {pairs} pairs of 16+{VALUE_BYTES} B with their versions: \
         {loaded:.1} B of resident memory a key (asked: at most {BYTES_PER_KEY_MAX}; Redis 7.0 has \
         208), {overwritten:.1} after each was overwritten"
    );
    let reads = measure_reads(pairs, rounds)?;
    measure_writes(pairs, rounds)?;
    let share = measure_json(pairs, rounds)?;
    let met = loaded <= BYTES_PER_KEY_MAX && reads >= SPEED_MIN && share <= JSON_SHARE_MAX;
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// SplitMix64's finisher: a bijection that looks like chance.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

fn key(n: u64) -> Key {
    let name = format!("{:016x}", mix(n));
    let mut storage = Vec::with_capacity(KEY_BYTES);
    KeyRef::place(0, name.as_bytes()).write_to(&mut storage);
    let mut key = [0; KEY_BYTES];
    key.copy_from_slice(&storage);
    key
}

/// A user's row as an application keeps it.
fn json(n: u64, version: u64) -> String {
    const NAMES: [&str; 8] =
        ["anna", "bruno", "carla", "dmitri", "esra", "farid", "greta", "hiroshi"];
    const LANDS: [&str; 5] = ["DE", "FR", "JP", "BR", "US"];
    const TAGS: [&str; 6] = ["new", "gold", "beta", "staff", "blocked", "trial"];
    let chance = mix(n ^ version << 50);
    let pick = |of: &[&'static str], shift: u64| {
        of.get((chance >> shift) as usize % of.len()).copied().unwrap_or_default()
    };
    let (name, land, tag) = (pick(&NAMES, 3), pick(&LANDS, 9), pick(&TAGS, 15));
    let (day, hour, second) = (1 + (chance >> 20) % 28, (chance >> 25) % 24, (chance >> 30) % 60);
    let (cents, visits) = ((chance >> 36) % 1_000_000, (chance >> 40) % 5_000);
    format!(
        "{{\"id\":{n},\"name\":\"{name}\",\"email\":\"{name}{}@example.com\",\
         \"country\":\"{land}\",\
         \"active\":{},\"balance\":{}.{:02},\
         \"created\":\"2026-11-{day:02}T{hour:02}:17:{second:02}Z\",\
         \"visits\":{visits},\"tags\":[\"{tag}\",\"mail\"],\"session\":\"{:08x}\"}}",
        chance % 10_000,
        chance & 1 == 0,
        cents / 100,
        cents % 100,
        chance >> 32,
    )
}

/// The record that a SET leaves over `stored`.
fn record(
    values: Values,
    n: u64,
    version: u64,
    stored: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Outcome<()> {
    let mut value = Vec::with_capacity(256);
    values.write(n, version, &mut value);
    // One tenure for each partition, and a clock that goes on.
    let time = HybridTime::new(1_700_000_000_000 + version * 1_000_000 + n / 200, n as u16 % 200);
    let dot = Dot::new(Actor::new(mix(1), mix(n % 1_024)), time);
    blind_overwrite(stored, dot, Draft::string(&value[..]), out)
        .map_err(|error| format!("{error:?}").into())
}

/// Writes pairs, over what is there.
fn write_ours(
    engine: &MemoryEngine,
    values: Values,
    numbers: &[u64],
    version: u64,
    at_once: usize,
) -> Outcome<f64> {
    let began = Instant::now();
    let mut stored = Vec::new();
    for part in numbers.chunks(at_once) {
        let mut batch = WriteBatch::with_capacity(part.len(), part.len() * (KEY_BYTES + 300));
        for &n in part {
            let key = key(n);
            stored.clear();
            engine.visit_resident(&[&key[..]], &mut |_, resident| {
                if let Resident::Found { bytes, .. } = resident {
                    stored.extend_from_slice(bytes);
                }
            })?;
            let over = Some(&stored[..]).filter(|stored| !stored.is_empty());
            batch.put_with(&key, |out| record(values, n, version, over, out))?;
        }
        engine.append(&batch.freeze())?;
    }
    Ok(millions(began, numbers.len()))
}

fn millions(began: Instant, rows: usize) -> f64 {
    rows as f64 / began.elapsed().as_secs_f64() / 1e6
}

fn resident_bytes() -> Outcome<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line.and_then(|rest| rest.split_whitespace().next()).unwrap_or("").parse()?;
    Ok(kib * 1024.0)
}

/// Bytes a key after the load, and after everything was overwritten, as a child measures them.
fn memory_of(values: &str, pairs: u64) -> Outcome<(f64, f64)> {
    let words = ["memory", values, &pairs.to_string()];
    let child = Command::new(env::current_exe()?).args(words).output()?;
    let told = String::from_utf8_lossy(&child.stdout);
    let (loaded, overwritten) = told.trim().split_once(' ').ok_or("the child told nothing")?;
    Ok((loaded.parse()?, overwritten.parse()?))
}

/// The child.
fn measure_memory(values: Values, pairs: u64) -> Outcome<()> {
    let numbers: Vec<u64> = (0..pairs).collect();
    let before = resident_bytes()?;
    let engine = values.engine();
    write_ours(&engine, values, &numbers, 0, BATCH)?;
    let loaded = resident_bytes()? - before;
    write_ours(&engine, values, &numbers, 1, BATCH)?;
    let overwritten = resident_bytes()? - before;
    println!("{} {}", loaded / pairs as f64, overwritten / pairs as f64);
    Ok(())
}

/// Reads all `keys`, one by one or so many in one call, and copies each row as an answer does;
/// gives million reads a second.
fn read_ours(engine: &MemoryEngine, keys: &[Key], at_once: usize) -> Outcome<f64> {
    let began = Instant::now();
    let mut answer = Answer::default();
    let mut visit = |_, resident: Resident<'_>| {
        if let Resident::Found { bytes, .. } = resident {
            answer.take(bytes);
        }
    };
    for part in keys.chunks(at_once) {
        if let [key] = part {
            engine.visit_resident(&[key], &mut visit)?;
            continue;
        }
        let mut asked: [&[u8]; BATCH] = [&[]; BATCH];
        for (place, key) in asked.iter_mut().zip(part) {
            *place = key;
        }
        engine.visit_resident(asked.get(..part.len()).unwrap_or_default(), &mut visit)?;
    }
    answer.speed(began, keys.len())
}

type Locked = RwLock<HashMap<Vec<u8>, Vec<u8>, FixedState>>;

fn read_theirs(table: &Locked, keys: &[Key], at_once: usize) -> Outcome<f64> {
    let began = Instant::now();
    let mut answer = Answer::default();
    for part in keys.chunks(at_once) {
        let table = table.read();
        for key in part {
            if let Some(bytes) = table.get(&key[..]) {
                answer.take(bytes);
            }
        }
    }
    answer.speed(began, keys.len())
}

/// Where an answer to a client is put together.
#[derive(Default)]
struct Answer {
    bytes: Vec<u8>,
    rows: usize,
}

impl Answer {
    fn take(&mut self, row: &[u8]) {
        if self.bytes.len() > 16 << 10 {
            self.bytes.clear();
        }
        self.bytes.extend_from_slice(row);
        self.rows += 1;
    }

    fn speed(&self, began: Instant, reads: usize) -> Outcome<f64> {
        if self.rows < reads {
            return Err("a key is missing".into());
        }
        Ok(millions(began, reads))
    }
}

/// The same SETs with one lock for each batch.
fn write_theirs(table: &Locked, numbers: &[u64], version: u64, at_once: usize) -> Outcome<f64> {
    let began = Instant::now();
    for part in numbers.chunks(at_once) {
        let mut table = table.write();
        for &n in part {
            let key = key(n);
            let mut value = Vec::with_capacity(256);
            if let Some(stored) = table.get_mut(&key[..]) {
                record(Values::Noise, n, version, Some(stored), &mut value)?;
                stored.clear();
                stored.extend_from_slice(&value);
            } else {
                record(Values::Noise, n, version, None, &mut value)?;
                value.shrink_to_fit();
                table.insert(key.to_vec(), value);
            }
        }
    }
    Ok(millions(began, numbers.len()))
}

/// The numbers below `pairs` as chance orders them.
fn scattered(pairs: u64) -> Vec<u64> {
    let mut numbers: Vec<u64> = (0..pairs).collect();
    numbers.sort_unstable_by_key(|n| mix(n ^ 0x55));
    numbers
}

/// Prints what a duel told; gives the ratio of ours to theirs.
fn tell(what: &str, ours: Vec<f64>, theirs: Vec<f64>) -> f64 {
    let rounds = ours.len();
    let (ours, theirs) = (median(ours), median(theirs));
    let ratio = ours / theirs;
    println!(
        "figure: in-memory engine, {what}: {ours:.2} M/s; hashbrown behind a lock {theirs:.2} M/s; \
         ratio {ratio:.2} (asked: at least {SPEED_MIN}), median of {rounds}"
    );
    ratio
}

/// Gives the lesser ratio of ours to theirs.
fn measure_reads(pairs: u64, rounds: usize) -> Outcome<f64> {
    let engine = Values::Noise.engine();
    let numbers: Vec<u64> = (0..pairs).collect();
    write_ours(&engine, Values::Noise, &numbers, 0, BATCH)?;
    let table = Locked::default();
    write_theirs(&table, &numbers, 0, BATCH)?;
    let keys: Vec<Key> = scattered(pairs).into_iter().map(key).collect();
    let mut least = f64::INFINITY;
    for at_once in [1, BATCH] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds.max(1) {
            ours.push(read_ours(&engine, &keys, at_once)?);
            theirs.push(read_theirs(&table, &keys, at_once)?);
        }
        let what = format!("GETs of {pairs} pairs, {at_once} in a call");
        least = least.min(tell(&what, ours, theirs));
    }
    Ok(least)
}

/// SETs of new keys, and over what is there.
fn measure_writes(pairs: u64, rounds: usize) -> Outcome<()> {
    let numbers = scattered(pairs);
    for at_once in [1, BATCH] {
        let (mut new, mut new_theirs) = (Vec::new(), Vec::new());
        let (mut over, mut over_theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds.max(1) {
            let (engine, table) = (Values::Noise.engine(), Locked::default());
            new.push(write_ours(&engine, Values::Noise, &numbers, 0, at_once)?);
            new_theirs.push(write_theirs(&table, &numbers, 0, at_once)?);
            over.push(write_ours(&engine, Values::Noise, &numbers, 1, at_once)?);
            over_theirs.push(write_theirs(&table, &numbers, 1, at_once)?);
        }
        tell(&format!("SETs of {pairs} new pairs, {at_once} in a batch"), new, new_theirs);
        tell(&format!("SETs over {pairs} pairs, {at_once} in a batch"), over, over_theirs);
    }
    Ok(())
}

/// Prints what compression does; gives which share of the values' bytes is left.
fn measure_json(pairs: u64, rounds: usize) -> Outcome<f64> {
    let numbers = scattered(pairs);
    let keys: Vec<Key> = numbers.iter().copied().map(key).collect();
    let bytes: usize = (0..pairs).map(|n| json(n, 0).len()).sum();
    let mean = bytes as f64 / pairs as f64;
    let ((plain, plain_over), (packed, packed_over)) =
        (memory_of("json", pairs)?, memory_of("json-packed", pairs)?);
    // Keys, versions and tables are the same: what is saved was the values'.
    let share = (mean - (plain - packed)) / mean;
    println!(
        "figure: in-memory engine, {pairs} JSON values of {mean:.0} B: {plain:.1} B of resident \
         memory a key ({plain_over:.1} after each was overwritten); compressed {packed:.1} \
         ({packed_over:.1}): a value takes {share:.2} of its bytes (asked: at most \
         {JSON_SHARE_MAX})"
    );
    let mut speeds = Vec::new();
    for values in [Values::Json, Values::JsonPacked] {
        let engine = values.engine();
        let (mut sets, mut gets) = (Vec::new(), Vec::new());
        for version in 0..rounds.max(1) as u64 {
            sets.push(write_ours(&engine, values, &numbers, version, BATCH)?);
            gets.push(read_ours(&engine, &keys, BATCH)?);
        }
        speeds.push((median(sets), median(gets)));
    }
    if let [(set, get), (packed_set, packed_get)] = speeds[..] {
        println!(
            "figure: in-memory engine, JSON, {BATCH} in a call: GET {get:.2} M/s, compressed \
             {packed_get:.2} M/s ({:.0} ns more each); SET {set:.2} M/s, compressed \
             {packed_set:.2} M/s ({:.0} ns more each)",
            1e3 / packed_get - 1e3 / get,
            1e3 / packed_set - 1e3 / set,
        );
    }
    Ok(share)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
