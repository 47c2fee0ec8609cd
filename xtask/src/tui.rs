//! `cargo xtask tui`: the terminal, attached to a cluster of `cargo xtask cluster up`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::cluster::{self, Reach};
use crate::cmd;
use crate::error::{Error, Result};

/// Builds kv-tui and becomes it. Arguments are handed on.
pub(crate) fn run(name: &str, arguments: &[OsString]) -> Result<()> {
    let reach = cluster::reach(name)?;
    let terminal = cmd::built("kv-tui", "kv-tui", &["--release"])?;
    let mut command = Command::new(&terminal);
    command.args(["--connect", &reach.connect]).arg("--secret-file").arg(&reach.secret_file);
    let xtask = std::env::current_exe().map_err(Error::io(Path::new("xtask")))?;
    hand_over(&mut command, &xtask, name, &reach);
    let source = command.args(arguments).exec();
    Err(Error::Spawn { program: "kv-tui".into(), source })
}

/// Tells kv-tui how the cluster's nodes are killed, paused and brought back: by our own verbs.
pub(crate) fn hand_over(kv_tui: &mut Command, xtask: &Path, name: &str, reach: &Reach) {
    kv_tui.arg("--local-base-port").arg(reach.base_port.to_string());
    kv_tui.arg("--local").arg(xtask).args(["cluster", "{}", "--name", name, ";"]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{self, Verb};

    #[test]
    fn what_the_terminal_will_ask_for_is_understood() {
        let reach = Reach {
            base_port: 8_000,
            connect: String::new(),
            resp: Vec::new(),
            secret_file: "secret".into(),
        };
        let mut command = Command::new("kv-tui");
        hand_over(&mut command, Path::new("/x/xtask"), "other", &reach);
        let words: Vec<String> =
            command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert_eq!(words[..4], ["--local-base-port", "8000", "--local", "/x/xtask"]);
        assert_eq!(words.last().map(String::as_str), Some(";"));
        let asked: [&[&str]; 8] = [
            &["kill", "3", "-9"],
            &["start", "3"],
            &["restart", "3"],
            &["pause", "3"],
            &["resume", "3"],
            &["partition", "3"],
            &["heal", "3"],
            &["heal"],
        ];
        for verb in asked {
            let arguments = words[4..words.len() - 1].iter().flat_map(|word| match word.as_str() {
                "{}" => verb.to_vec(),
                word => vec![word],
            });
            let parsed = flags::parse(arguments.map(OsString::from)).expect("it is understood");
            assert!(matches!(&parsed, Verb::Cluster { name, .. } if name == "other"), "{parsed:?}");
        }
    }
}
