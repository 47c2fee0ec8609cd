//! What compression makes of 200-byte JSON values on this machine, and what a read pays for it:
//! `cargo run --release -p kv-lsm --features zstd --example compression -- [pairs] [rounds] [dir]`.
//!
//! Each way gets a directory of its own, filled with the same pairs until all are in the last
//! level. Then pairs are read at random, the ways in turn: without a cache, so that each read takes
//! its block from the system's page cache, checks and decompresses it; and with one that holds
//! everything. Figures are medians over the rounds. Without the feature `zstd` its ways are left
//! out.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use std::{env, fs};

use kv_lsm::fs::OsFs;
use kv_lsm::{Batch, Compression, Config, Durability, Engine, StepOutcome, Threads};

const VALUE_BYTES: usize = 200;
const KEY_BYTES: usize = 16;
const READS: u64 = 20_000;

/// Name, compression and size of blocks.
type Way = (&'static str, Compression, usize);

fn ways() -> Vec<Way> {
    let zstd = |level, dictionary_bytes_max| Compression::Zstd { level, dictionary_bytes_max };
    let all = [
        ("none, 4 KiB", Compression::None, 4 << 10),
        ("LZ4, 4 KiB", Compression::Lz4, 4 << 10),
        ("LZ4, 16 KiB", Compression::Lz4, 16 << 10),
        ("zstd 1, 4 KiB", zstd(1, 0), 4 << 10),
        ("zstd 3, 4 KiB", zstd(3, 0), 4 << 10),
        ("zstd 3, 16 KiB", zstd(3, 0), 16 << 10),
        ("zstd 3 with dictionary, 4 KiB", zstd(3, 16 << 10), 4 << 10),
        ("zstd 1 with dictionary, 1 KiB", zstd(1, 16 << 10), 1 << 10),
        ("zstd 3 with dictionary, 1 KiB", zstd(3, 16 << 10), 1 << 10),
    ];
    let takes = |way: &Way| config(way, 0).check().is_ok();
    all.into_iter().filter(takes).collect()
}

fn config(&(_, compression, block_bytes): &Way, cache_bytes_max: u64) -> Config {
    Config {
        threads: Threads::Inline,
        compression_last: Some(compression),
        block_bytes,
        cache_bytes_max,
        level0_tables_compact: 1,
        ..Config::default()
    }
}

/// One way's figures.
struct Told {
    stored_bytes: u64,
    load_seconds: f64,
    miss_us: Vec<f64>,
    hit_us: Vec<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let pairs: u64 = args.next().as_deref().unwrap_or("10000").parse()?;
    let rounds: usize = args.next().as_deref().unwrap_or("1").parse()?;
    let fresh = || env::temp_dir().join(format!("kv-lsm-compression-{}", std::process::id()));
    let dir = args.next().map_or_else(fresh, PathBuf::from);
    let told = measure(&dir, pairs, rounds);
    fs::remove_dir_all(&dir)?;
    let told = told?;
    let raw_bytes = pairs * (KEY_BYTES + VALUE_BYTES) as u64;
    println!("{pairs} pairs of {KEY_BYTES} + {VALUE_BYTES} bytes, {rounds} rounds");
    println!("| way | bytes a pair | of the raw pairs | get, miss | get, hit | load |");
    println!("|---|---|---|---|---|---|");
    for ((name, ..), mut told) in ways().iter().zip(told) {
        println!(
            "| {name} | {:.1} | {:.1} % | {:.2} us | {:.2} us | {:.2} s |",
            told.stored_bytes as f64 / pairs as f64,
            100.0 * told.stored_bytes as f64 / raw_bytes as f64,
            median(&mut told.miss_us),
            median(&mut told.hit_us),
            told.load_seconds,
        );
    }
    Ok(())
}

fn measure(dir: &Path, pairs: u64, rounds: usize) -> Result<Vec<Told>, kv_lsm::Error> {
    let mut told = Vec::new();
    let mut open = Vec::new();
    for (n, way) in ways().iter().enumerate() {
        let dir = dir.join(n.to_string());
        told.push(load(&dir, way, pairs)?);
        let read = |cache| Engine::open_read_only(Arc::new(OsFs::new()), &dir, config(way, cache));
        let (cold, warm) = (read(0)?, read(1 << 30)?);
        for n in 0..pairs {
            warm.get(&key(n))?;
        }
        open.push((cold, warm));
    }
    for round in 0..rounds {
        for ((cold, warm), told) in open.iter().zip(&mut told) {
            told.miss_us.push(reads(cold, pairs, round)?);
            told.hit_us.push(reads(warm, pairs, round)?);
        }
    }
    Ok(told)
}

/// Writes the pairs; when it is done all are in the last level.
fn load(dir: &Path, way: &Way, pairs: u64) -> Result<Told, kv_lsm::Error> {
    let began = Instant::now();
    let engine = Engine::open(Arc::new(OsFs::new()), dir, config(way, 0))?;
    let mut batch = Batch::new();
    batch.set_durability(Durability::Os);
    for n in 0..pairs {
        batch.put(&key(n), value(n).as_bytes());
        if batch.len() == 100 {
            engine.append(&batch)?;
            batch.clear();
        }
    }
    engine.append(&batch)?;
    engine.flush()?;
    while engine.step()? != StepOutcome::Idle {}
    let load_seconds = began.elapsed().as_secs_f64();
    let stored_bytes = engine.stats().level_bytes.iter().sum();
    engine.close()?;
    Ok(Told { stored_bytes, load_seconds, miss_us: Vec::new(), hit_us: Vec::new() })
}

/// Microseconds for one read of a pair that is there.
fn reads(engine: &Engine, pairs: u64, round: usize) -> Result<f64, kv_lsm::Error> {
    let began = Instant::now();
    let mut found = 0;
    for n in 0..READS {
        let n = mixed(n + READS * round as u64) % pairs;
        found += u64::from(engine.get(&key(n))?.is_some());
    }
    assert!(found == READS, "a pair is missing");
    Ok(began.elapsed().as_secs_f64() * 1e6 / READS as f64)
}

/// Keys as of a hashed store: a number that is as good as random, then the pair's own.
fn key(n: u64) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let halves = key.as_chunks_mut::<8>().0.iter_mut();
    for (half, number) in halves.zip([mixed(n), n]) {
        *half = number.to_be_bytes();
    }
    key
}

/// Like what a service stores of its users: fields that repeat, names of some hundreds, numbers
/// and a token that are as good as random.
fn value(n: u64) -> String {
    const NAMES: [&str; 16] = [
        "anna", "boris", "chen", "dora", "emil", "fatima", "goran", "hana", "ivan", "jana", "kofi",
        "lena", "mateo", "nadia", "omar", "petra",
    ];
    const CITIES: [&str; 8] =
        ["Berlin", "Lagos", "Lima", "Osaka", "Porto", "Quito", "Turku", "Zagreb"];
    const PLANS: [&str; 4] = ["free", "basic", "team", "enterprise"];
    let mut random = mixed(n ^ 0xA5A5);
    let mut next = |bound: u64| {
        random = mixed(random);
        random % bound
    };
    let name = pick(&NAMES, next(16));
    let number = next(1_000);
    let city = pick(&CITIES, next(8));
    let plan = pick(&PLANS, next(4));
    let (day, hour, minute) = (next(28) + 1, next(24), next(60));
    let (token, score, active) = (next(u64::MAX), next(1_000), next(2) == 0);
    let mut text = format!(
        "{{\"id\":{n},\"name\":\"{name}{number}\",\"mail\":\"{name}{number}@example.org\",\
         \"city\":\"{city}\",\"plan\":\"{plan}\",\
         \"seen\":\"2026-03-{day:02}T{hour:02}:{minute:02}Z\",\
         \"token\":\"{token:016x}\",\"score\":0.{score:03},\"active\":{active},\"note\":\""
    );
    while text.len() < VALUE_BYTES - 2 {
        let _ = write!(text, "{} ", pick(&NAMES, next(16)));
    }
    text.truncate(VALUE_BYTES - 2);
    text + "\"}"
}

fn pick<'a>(from: &[&'a str], at: u64) -> &'a str {
    from.get(at as usize).copied().unwrap_or_default()
}

/// SplitMix64.
fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
