//! kv-lsm beside other embedded stores: the driver in `bench/`, a package outside the workspace, in
//! release.
//!
//! The driver measures and judges; this verb builds it, says on which machine, and keeps what it
//! printed. The peers are dependencies of the driver only, with a lock file of its own.

use std::fs;

use super::{Figure, Machine, Options};
use crate::cmd;
use crate::error::{Error, Result};
use crate::term;

/// How the driver marks what is not as asked.
const MISSED: &str = "| MISSED |";

/// Builds the driver and runs it with the words that were given for it.
pub(super) fn measure(options: &Options) -> Result<Figure> {
    let target = cmd::root().join("target");
    fs::create_dir_all(&target).map_err(Error::io(&target))?;
    let machine = Machine::look(&target)?;
    let mut command = cmd::cargo(&[
        "run",
        "--release",
        "--locked",
        "--quiet",
        "--manifest-path",
        "bench/Cargo.toml",
        "--",
        "lsm",
    ]);
    if !options.driver.iter().any(|word| word == "--dir") {
        // Where the figure of the disk was taken: a temporary directory may be memory.
        command.arg("--dir").arg(&target);
    }
    command.args(&options.driver);
    term::note("building the driver with its peers, then running it");
    let table = cmd::read(&mut command)?;
    let missed = table.matches(MISSED).count();
    Ok(Figure {
        markdown: format!("## kv-lsm beside other stores\n\n{machine}\n\n{table}"),
        missed,
    })
}
