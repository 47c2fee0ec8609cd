//! How many durable writes a second this machine does with so many writers:
//! `cargo run --release -p kv-lsm --example group_commit -- <dir> [writers] [seconds] [batch]`.
//!
//! Each writer appends a batch and waits for its sync before the next one.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kv_lsm::fs::OsFs;
use kv_lsm::{Batch, Config, Engine};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    // Without a directory a fresh one of the system's; it is left behind, to be looked at.
    let fresh = || std::env::temp_dir().join(format!("kv-lsm-example-{}", std::process::id()));
    let dir = args.next().map_or_else(fresh, PathBuf::from);
    let writers: usize = args.next().as_deref().unwrap_or("64").parse()?;
    let seconds: u64 = args.next().as_deref().unwrap_or("3").parse()?;
    let batch_ops: usize = args.next().as_deref().unwrap_or("1").parse()?;

    let engine = Engine::open(Arc::new(OsFs::new()), &dir, Config::default())?;
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    let counts: Vec<Result<u64, kv_lsm::Error>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers)
            .map(|writer| {
                let engine = engine.clone();
                scope.spawn(move || write_until(&engine, writer, batch_ops, end))
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let elapsed = begin.elapsed().as_secs_f64();
    let batches: u64 = counts.into_iter().sum::<Result<u64, _>>()?;
    let stats = engine.stats();
    let syncs = stats.log_syncs.max(1);
    println!(
        "{writers} writers, batches of {batch_ops}: {:.0} durable batches/s, {:.0} syncs/s, \
         {:.1} batches a sync",
        batches as f64 / elapsed,
        syncs as f64 / elapsed,
        batches as f64 / syncs as f64,
    );
    engine.close()?;
    Ok(())
}

fn write_until(
    engine: &Engine,
    writer: usize,
    batch_ops: usize,
    end: Instant,
) -> Result<u64, kv_lsm::Error> {
    let mut batch = Batch::new();
    let mut count = 0;
    while Instant::now() < end {
        batch.clear();
        for op in 0..batch_ops {
            batch.put(format!("{writer:04}/{count:08}/{op:04}").as_bytes(), &[7; 100]);
        }
        engine.wait_durable(engine.append(&batch)?)?;
        count += 1;
    }
    Ok(count)
}
