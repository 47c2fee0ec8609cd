//! Reads a directory from end to end and names what is damaged: `verify DIR`.
//!
//! It changes nothing, and needs no lock: the directory is opened as it is, its log replayed in
//! memory. What it finds is told as file, offset and what does not hold; the exit code says whether
//! there was anything.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use kv_lsm::{Config, Engine, fs::OsFs};

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]
fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: verify DIR");
        return ExitCode::from(2);
    };
    let engine = match Engine::open_read_only(Arc::new(OsFs::new()), &dir, Config::default()) {
        Ok(engine) => engine,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let found = engine.verify_all();
    for error in &found {
        eprintln!("{error}");
    }
    let stats = engine.stats();
    let tables: usize = stats.level_tables.iter().sum();
    let bytes: u64 = stats.level_bytes.iter().sum();
    println!("{tables} tables, {bytes} bytes, {} damaged", found.len());
    if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
