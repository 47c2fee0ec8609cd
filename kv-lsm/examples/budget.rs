//! Data ten times as large as the memory for it, and reads of which few keys get most: what stays
//! in memory, and how many reads need the disk.
//!
//! `cargo run --release -p kv-lsm --example budget -- [budget in MiB] [reads] [DIR]`. The budget is
//! shared out as an owner would: memtables and the log's buffers get a part, indexes and filters
//! what they are seen to need, the cache of blocks and hot rows the rest. Pairs are of 16 and 100
//! bytes; keys are read by Zipf's law with 0.99, scattered over the key space.
//!
//! A read that made the engine take a block from a file counts as one of the disk, whether or not
//! the system had it in its page cache. Beside the share of the others stands that of a perfect
//! cache, which holds the pairs that are read most, as many as fit the whole budget if they cost
//! nothing but their bytes. With an argument it fails where it misses what is asked.
#![expect(clippy::print_stdout, reason = "a program that prints its figures")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use std::{env, fs};

use kv_lsm::fs::OsFs;
use kv_lsm::{Batch, Config, Durability, Engine};

const VALUE_BYTES: usize = 100;
const PAIR_BYTES: u64 = 16 + VALUE_BYTES as u64;
/// Data for each byte of budget.
const TIMES: u64 = 10;
const THETA: f64 = 0.99;
/// What is asked.
const RSS_MAX: f64 = 1.1;
const WITHOUT_DISK_MIN: f64 = 0.9;
/// Of the budget: the program, its threads' stacks, buffers of compaction and of the log.
const FIXED_BYTES: u64 = 5 << 20;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut words = env::args().skip(1);
    let asked = words.next();
    // Without arguments it only shows how it goes.
    let budget_bytes = asked.as_deref().map_or(Ok(1), str::parse::<u64>)? << 20;
    let reads: u64 = words.next().map_or(Ok(20_000), |word| word.parse())?;
    let own = || env::temp_dir().join(format!("kv-lsm-budget-{}", std::process::id()));
    let dir = words.next().map_or_else(own, PathBuf::from);
    let met = measure(&dir, budget_bytes, reads);
    fs::remove_dir_all(&dir)?;
    let met = met? || asked.is_none();
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(dir: &Path, budget_bytes: u64, reads: u64) -> Result<bool, Box<dyn Error>> {
    let pairs = TIMES * budget_bytes / PAIR_BYTES;
    let began = Instant::now();
    let pinned_bytes = load(dir, budget_bytes, pairs)?;
    let rest = FIXED_BYTES + pinned_bytes + 2 * memtable_bytes(budget_bytes);
    let cache_bytes = budget_bytes.saturating_sub(rest);
    println!(
        "{pairs} pairs loaded in {:.1} s; of {} MiB the cache has {}, indexes and filters take {}, \
         two memtables {}",
        began.elapsed().as_secs_f64(),
        budget_bytes >> 20,
        cache_bytes >> 20,
        pinned_bytes >> 20,
        (2 * memtable_bytes(budget_bytes)) >> 20,
    );
    // What the load took is given back, as far as the allocator does that.
    forget_peak();
    let engine = Engine::open(Arc::new(OsFs::new()), dir, config(budget_bytes, cache_bytes))?;
    let zipf = Zipf::new(pairs, THETA);
    let mut random = 7;
    // Once to fill the cache, and once to be counted.
    read(&engine, &zipf, reads, &mut random)?;
    let began = Instant::now();
    let before = engine.stats().cache_misses;
    read(&engine, &zipf, reads, &mut random)?;
    // A read may take more than one: then fewer reads than this did.
    let touched = engine.stats().cache_misses - before;
    let speed = reads as f64 / began.elapsed().as_secs_f64() / 1e3;
    let stats = engine.stats();
    engine.close()?;
    let without = 1.0 - touched as f64 / reads as f64;
    let perfect = zipf.share(budget_bytes / PAIR_BYTES);
    let rss = peak_rss_bytes() as f64 / budget_bytes as f64;
    println!(
        "figure: {pairs} pairs, {TIMES} times the budget of {} MiB, zipf {THETA}: {:.1} % of \
         {reads} reads took no block from a file (asked: {:.0} %; a perfect cache {:.1} %), \
         {speed:.0} k/s, one thread",
        budget_bytes >> 20,
        100.0 * without,
        100.0 * WITHOUT_DISK_MIN,
        100.0 * perfect,
    );
    println!(
        "figure: peak of resident memory while reading: {rss:.2} of the budget (asked: at most \
         {RSS_MAX}); cache {} KiB of {} KiB, pinned {} KiB",
        stats.cache_bytes >> 10,
        stats.cache_bytes_max >> 10,
        stats.pinned_bytes >> 10,
    );
    Ok(without >= WITHOUT_DISK_MIN && rss <= RSS_MAX)
}

fn memtable_bytes(budget_bytes: u64) -> u64 {
    budget_bytes / 16
}

fn config(budget_bytes: u64, cache_bytes_max: u64) -> Config {
    Config {
        memtable_bytes_max: memtable_bytes(budget_bytes) as usize,
        memtables_sealed_max: 1,
        log_buffer_bytes_max: 256 << 10,
        value_bytes_max: 64 << 10,
        batch_bytes_max: 256 << 10,
        table_bytes_max: (budget_bytes / 8).clamp(1 << 20, 64 << 20),
        level1_bytes: budget_bytes,
        cache_bytes_max,
        ..Config::default()
    }
}

/// Writes all pairs in the order of chance, and rests when everything is in its place. Gives the
/// memory that indexes and filters need.
fn load(dir: &Path, budget_bytes: u64, pairs: u64) -> Result<u64, Box<dyn Error>> {
    let engine = Engine::open(Arc::new(OsFs::new()), dir, config(budget_bytes, 1 << 20))?;
    let mut batch = Batch::new();
    batch.set_durability(Durability::Os);
    for n in 0..pairs {
        batch.put(&key(n), &value(n));
        if batch.len() == 100 || n + 1 == pairs {
            engine.append(&batch)?;
            batch.clear();
        }
    }
    engine.flush()?;
    let mut compactions = u64::MAX;
    while engine.stats().compactions != compactions {
        compactions = engine.stats().compactions;
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    let pinned_bytes = engine.stats().pinned_bytes as u64;
    engine.close()?;
    Ok(pinned_bytes)
}

/// Reads by Zipf's law, and looks at each value.
fn read(engine: &Engine, zipf: &Zipf, reads: u64, random: &mut u64) -> Result<(), Box<dyn Error>> {
    for _ in 0..reads {
        *random += 1;
        let n = zipf.number(mix(*random));
        let found = engine.get(&key(n))?.ok_or("a key is missing")?;
        if found.value != value(n)[..] {
            return Err("a wrong value".into());
        }
    }
    Ok(())
}

/// SplitMix64's finisher: a bijection that looks like chance.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

fn key(n: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(n).to_be_bytes());
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

/// Half of it does not compress.
fn value(n: u64) -> [u8; VALUE_BYTES] {
    let mut value = [b'x'; VALUE_BYTES];
    for (part, salt) in value[..48].chunks_exact_mut(8).zip(1..) {
        part.copy_from_slice(&mix(n ^ salt << 56).to_le_bytes());
    }
    value
}

/// Zipf's law (Gray et al., "Quickly generating billion-record synthetic databases", 1994).
struct Zipf {
    items: f64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipf {
    fn new(items: u64, theta: f64) -> Self {
        let (zeta, zeta2) = (zeta(items), zeta(2));
        let eta = (1.0 - (2.0 / items as f64).powf(1.0 - theta)) / (1.0 - zeta2 / zeta);
        Self { items: items as f64, zeta, alpha: 1.0 / (1.0 - theta), eta }
    }

    /// The item that a random word stands for; the lower, the more often.
    #[expect(clippy::cast_sign_loss, reason = "neither a rank nor a count is below 0")]
    fn number(&self, word: u64) -> u64 {
        let unit = (word >> 11) as f64 / (1_u64 << 53) as f64;
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(THETA) {
            return 1;
        }
        let rank = self.items * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.items as u64 - 1)
    }

    /// Which part of all reads the first `items` get.
    fn share(&self, items: u64) -> f64 {
        zeta(items) / self.zeta
    }
}

fn zeta(items: u64) -> f64 {
    (1..=items).map(|item| (item as f64).powf(-THETA)).sum()
}

/// Begins to look for the peak anew.
fn forget_peak() {
    // Where that can't be done the peak is that of the whole life: never too little.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that was resident.
fn peak_rss_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(u64::MAX >> 10) << 10
}
