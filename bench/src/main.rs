//! kv-lsm beside its peers: the same workloads, interleaved in one run, each engine in a process of
//! its own. `cargo xtask bench lsm` builds and runs it and keeps what it prints.
//!
//! ```text
//! kv-bench lsm [--against fjall,surrealkv,redb] [--quick] [--rounds 3] [--only NAME,...]
//!              [--dir DIR] [--json FILE]
//! ```
//! The tables go to the standard output, what it is at to the standard error.
#![expect(clippy::print_stdout, reason = "a program that prints its figures")]

mod child;
mod data;
mod plan;
mod process;
mod report;
mod store;
mod targets;
mod work;

use std::path::PathBuf;

use lexopt::prelude::*;

use crate::plan::Options;
use crate::store::{NAMES, Result, Sizes};

fn main() -> Result<()> {
    let mut parser = lexopt::Parser::from_env();
    match parser.value()?.string()?.as_str() {
        "lsm" => {
            let (options, json) = parse(&mut parser)?;
            let results = plan::run(&options)?;
            println!("{}", report::markdown(&results, &options));
            if let Some(path) = json {
                std::fs::write(path, serde_json::to_string_pretty(&results)?)?;
            }
            Ok(())
        }
        "child" => {
            let engine = parser.value()?.string()?;
            let mut number = || -> Result<u64> { Ok(parser.value()?.parse()?) };
            let (pairs, memtable_bytes, cache_bytes) = (number()?, number()?, number()?);
            let sizes = Sizes {
                memtable_bytes: memtable_bytes as usize,
                cache_bytes: cache_bytes as usize,
            };
            child::serve(&engine, pairs, sizes)
        }
        other => Err(format!("`{other}` is no bench of this program").into()),
    }
}

fn parse(parser: &mut lexopt::Parser) -> Result<(Options, Option<PathBuf>)> {
    let (mut quick, mut rounds, mut json) = (false, None, None);
    let (mut dir, mut only) = (std::env::temp_dir().join("kv-bench"), Vec::new());
    let mut against = vec!["fjall", "surrealkv"];
    while let Some(argument) = parser.next()? {
        match argument {
            Long("quick") => quick = true,
            Long("rounds") => rounds = Some(parser.value()?.parse()?),
            Long("json") => json = Some(PathBuf::from(parser.value()?)),
            Long("dir") => dir = PathBuf::from(parser.value()?).join("kv-bench"),
            Long("only") => {
                only = parser.value()?.string()?.split(',').map(str::to_owned).collect();
            }
            Long("against") => {
                let words = parser.value()?.string()?;
                against = words
                    .split(',')
                    .filter(|word| !word.is_empty())
                    .map(known)
                    .collect::<Result<_>>()?;
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let mut options = Options::new(quick, dir, &against, only);
    options.rounds = rounds.unwrap_or(options.rounds);
    Ok((options, json))
}

fn known(name: &str) -> Result<&'static str> {
    let found = NAMES.into_iter().find(|known| *known == name);
    found
        .ok_or_else(|| format!("no engine is called {name}; there are {}", NAMES.join(", ")).into())
}
