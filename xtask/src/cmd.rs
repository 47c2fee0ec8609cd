//! Starting other programs, with their own words left to them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::error::{Error, Result};

/// The workspace's top directory.
///
/// `cargo run` says where xtask's manifest is; a binary called by hand falls back on the place
/// where it was built.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// The cargo that runs us, in the workspace's top directory, with `args`.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    // Set by `cargo run` for us alone; a build script that watches one would run again each time.
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&key);
        }
    }
    command
}

/// Builds a binary of a package and answers where it is; cargo shows its own progress on stderr.
pub(crate) fn built(package: &str, binary: &str, args: &[&str]) -> Result<PathBuf> {
    built_with(package, binary, args, |_| {})
}

/// The same by a command that `change` may change.
pub(crate) fn built_with(
    package: &str,
    binary: &str,
    args: &[&str],
    change: impl FnOnce(&mut Command),
) -> Result<PathBuf> {
    let mut build = cargo(&["build", "--locked", "-p", package, "--bin", binary]);
    build.arg("--message-format=json-render-diagnostics").args(args);
    change(&mut build);
    let messages = read(&mut build)?;
    executable(&messages, binary)
        .ok_or_else(|| Error::Failed(format!("cargo built {binary} and named no executable")))
}

fn executable(messages: &str, binary: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .find(|path| path.file_name().is_some_and(|name| name == binary))
}

/// Runs to the end; output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|source| spawn_error(command, source))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Tool { command: words(command), code: status.code() })
    }
}

/// Runs to the end and answers what it wrote to stdout; its stderr is ours.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    command.stderr(Stdio::inherit()).stdin(Stdio::null());
    let output = command.output().map_err(|source| spawn_error(command, source))?;
    if !output.status.success() {
        return Err(Error::Tool { command: words(command), code: output.status.code() });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one would type it.
pub(crate) fn words(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program.file_name().map_or_else(
        || program.to_string_lossy().into_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(name).chain(args).collect::<Vec<_>>().join(" ")
}

fn spawn_error(command: &Command, source: std::io::Error) -> Error {
    Error::Spawn { program: command.get_program().to_string_lossy().into_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_cargos_messages() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"executable\":null}\n",
            "not json\n",
            "{\"reason\":\"compiler-artifact\",\"executable\":\"t/build-script\"}\n",
            "{\"reason\":\"compiler-artifact\",\"executable\":\"t/release/kv-node\"}\n",
        );
        let found = Some(PathBuf::from("t/release/kv-node"));
        assert_eq!(executable(messages, "kv-node"), found);
        assert_eq!(executable(messages, "kv"), None);
        assert_eq!(executable("{}", "kv-node"), None);
    }
}
