//! Reads a directory from end to end and names what is damaged: `verify DIR`.
//!
//! It changes nothing, and needs no lock: the directory is opened as it is, its log replayed in
//! memory. What it finds is told as file, offset and what does not hold; the exit code says whether
//! there was anything. Without a directory it shows that on one of its own, in which it turns one
//! bit of a table.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::{env, fs};

use kv_lsm::{Batch, Config, Engine, fs::OsFs};

#[expect(clippy::print_stderr, reason = "a program for a terminal")]
fn main() -> ExitCode {
    let sound = match env::args_os().nth(1).map(PathBuf::from) {
        Some(dir) => verify(&dir),
        None => demonstrate(),
    };
    match sound {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing is damaged.
#[expect(clippy::print_stdout, reason = "a program for a terminal")]
fn verify(dir: &Path) -> Result<bool, Box<dyn Error>> {
    let engine = Engine::open_read_only(Arc::new(OsFs::new()), dir, Config::default())?;
    let found = engine.verify_all();
    for error in &found {
        println!("{error}");
    }
    let stats = engine.stats();
    let tables: usize = stats.level_tables.iter().sum();
    let bytes: u64 = stats.level_bytes.iter().sum();
    println!("{tables} tables, {bytes} bytes, {} damaged", found.len());
    Ok(found.is_empty())
}

/// Whether one turned bit is found, and nothing before it was turned.
fn demonstrate() -> Result<bool, Box<dyn Error>> {
    let dir = env::temp_dir().join(format!("kv-lsm-verify-{}", std::process::id()));
    let found = write(&dir).and_then(|()| {
        let was_sound = verify(&dir)?;
        turn_a_bit(&dir)?;
        Ok(was_sound && !verify(&dir)?)
    });
    fs::remove_dir_all(&dir)?;
    found
}

fn write(dir: &Path) -> Result<(), Box<dyn Error>> {
    let engine = Engine::open(Arc::new(OsFs::new()), dir, Config::default())?;
    let mut batch = Batch::new();
    for n in 0..1_000 {
        batch.put(format!("key{n:04}").as_bytes(), b"value");
    }
    engine.commit(&batch)?;
    engine.flush()?;
    Ok(engine.close()?)
}

fn turn_a_bit(dir: &Path) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "table") {
            let mut bytes = fs::read(&path)?;
            if let Some(byte) = bytes.get_mut(100) {
                *byte ^= 1;
            }
            fs::write(&path, bytes)?;
        }
    }
    Ok(())
}
