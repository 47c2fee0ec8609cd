//! One engine in a process of its own, told line by line what to do; so memory, CPU time and bytes
//! written are its own, and a kill is a kill.
//!
//! ```text
//! open DIR | run WORKLOAD OPS SECONDS | load | verify N | rest SECONDS | figures | forget
//! chill | close | bare SECONDS           each answered with one line of JSON
//! ```

use std::fs::OpenOptions;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::data::{is_value_of, key, value};
use crate::process;
use crate::store::{self, Result, Sizes, Store};
use crate::work::{self, BATCH_PAIRS, Limits, Outcome, WORKLOADS};

/// What is asked when nothing is measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) written_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) peak_rss_bytes: u64,
    /// Pairs that the fills have written.
    pub(crate) pairs: u64,
}

struct Child<'a> {
    engine: &'a str,
    pairs: u64,
    sizes: Sizes,
    dir: PathBuf,
    store: Option<Box<dyn Store>>,
    next: AtomicU64,
}

/// Serves the parent until its end of the pipe is closed.
pub(crate) fn serve(engine: &str, pairs: u64, sizes: Sizes) -> Result<()> {
    let mut child =
        Child { engine, pairs, sizes, dir: PathBuf::new(), store: None, next: AtomicU64::new(0) };
    for line in std::io::stdin().lock().lines() {
        let answer = child.answer(&line?)?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

impl Child<'_> {
    fn store(&self) -> Result<&dyn Store> {
        self.store.as_deref().ok_or_else(|| "nothing is open".into())
    }

    fn answer(&mut self, line: &str) -> Result<String> {
        let words: Vec<&str> = line.split(' ').collect();
        Ok(match words[..] {
            ["open", dir] => {
                self.dir = PathBuf::from(dir);
                let began = Instant::now();
                self.store = Some(store::open(self.engine, &self.dir, self.sizes)?);
                serde_json::to_string(&began.elapsed().as_secs_f64())?
            }
            ["run", name, ops, seconds] => {
                let workload = WORKLOADS.iter().find(|workload| workload.name == name);
                let workload = *workload.ok_or("no such workload")?;
                let limits = Limits { ops: ops.parse()?, seconds: seconds.parse()? };
                let run = work::run(self.store()?, workload, self.pairs, &self.next, limits)?;
                serde_json::to_string(&run)?
            }
            ["load"] => serde_json::to_string(&self.load()?)?,
            ["verify", count] => serde_json::to_string(&self.missing(count.parse()?)?)?,
            ["rest", seconds] => {
                let at_most = Duration::from_secs_f64(seconds.parse()?);
                serde_json::to_string(&process::rest(at_most))?
            }
            ["figures"] => serde_json::to_string(&Figures {
                written_bytes: process::written_bytes(),
                disk_bytes: process::disk_bytes(&self.dir),
                peak_rss_bytes: process::peak_rss_bytes(),
                pairs: self.next.load(Ordering::Relaxed),
            })?,
            ["forget"] => {
                process::forget_peak();
                "null".to_owned()
            }
            ["chill"] => {
                process::chill(&self.dir)?;
                "null".to_owned()
            }
            ["close"] => {
                if let Some(store) = self.store.take() {
                    store.close()?;
                }
                "null".to_owned()
            }
            ["bare", seconds] => serde_json::to_string(&self.bare(seconds.parse()?)?)?,
            _ => return Err(format!("not understood: {line}").into()),
        })
    }

    /// Writes what a fill at random that ran out of time has left.
    fn load(&self) -> Result<u64> {
        let store = self.store()?;
        let mut loaded = 0;
        loop {
            let first = self.next.load(Ordering::Relaxed);
            let end = (first + BATCH_PAIRS).min(self.pairs);
            if first >= end {
                return Ok(loaded);
            }
            let pairs: Vec<_> = (first..end).map(key).map(|key| (key, value(&key, 0))).collect();
            store.put_batch(&pairs)?;
            self.next.store(end, Ordering::Relaxed);
            loaded += end - first;
        }
    }

    /// How many of the first `count` pairs are not there.
    fn missing(&self, count: u64) -> Result<u64> {
        let store = self.store()?;
        let mut missing = 0;
        for number in 0..count {
            let key = key(number);
            let mut right = false;
            store.get(&key, &mut |value| right = is_value_of(value, &key))?;
            missing += u64::from(!right);
        }
        Ok(missing)
    }

    /// The loop that commits are held to: 4 KiB appended and synced, one after another.
    fn bare(&self, seconds: f64) -> Result<Outcome> {
        let path = self.dir.with_extension("bare");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
        let (began, mut ops) = (Instant::now(), 0);
        while began.elapsed().as_secs_f64() < seconds {
            file.write_all(&[7; 4096])?;
            file.sync_data()?;
            ops += 1;
        }
        let seconds = began.elapsed().as_secs_f64();
        std::fs::remove_file(&path)?;
        Ok(Outcome { ops, seconds, ..Outcome::default() })
    }
}
