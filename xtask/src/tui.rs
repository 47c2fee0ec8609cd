//! `cargo xtask tui`: the terminal, attached to a cluster of `cargo xtask cluster up`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::cluster;
use crate::cmd;
use crate::error::{Error, Result};

/// Builds kv-tui and becomes it. Arguments are handed on.
pub(crate) fn run(name: &str, arguments: &[OsString]) -> Result<()> {
    let reach = cluster::reach(name)?;
    let terminal = cmd::built("kv-tui", "kv-tui", &["--release"])?;
    let mut command = Command::new(&terminal);
    command.args(["--connect", &reach.connect]).arg("--secret-file").arg(reach.secret_file);
    let source = command.args(arguments).exec();
    Err(Error::Spawn { program: "kv-tui".into(), source })
}
