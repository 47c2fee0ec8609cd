//! `cargo xtask dist`: what a package or a machine without Rust needs, under target/dist.
//!
//! ```text
//! target/dist/bin/kv-node kv kv-tui       static and stripped
//! target/dist/completions/kv.bash ...     for bash, zsh and fish
//! target/dist/man/kv.1 kv-get.1 ...       of each command and each verb
//! target/dist/LICENSE-* README.md
//! target/dist/SHA256SUMS                  of all of these
//! ```
//!
//! The binaries need nothing of the system that runs them but its kernel: musl's where that target
//! is installed, else the GNU one's linked statically. A static GNU binary looks host names up with
//! the libraries of the machine, if there are any: give it addresses.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cmd;
use crate::error::{Error, Result};
use crate::term::{self, Step};

/// Package and binary.
const BINARIES: [(&str, &str); 3] =
    [("kv-node", "kv-node"), ("kv-tui", "kv"), ("kv-tui", "kv-tui")];
const COMMANDS: [&str; 2] = ["kv", "kv-tui"];
/// Shells, and what the file of one is called.
const SHELLS: [(&str, &str); 3] = [("bash", "{}.bash"), ("zsh", "_{}"), ("fish", "{}.fish")];
const PAPERS: [&str; 3] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md"];

/// Makes it all anew.
pub(crate) fn run() -> Result<()> {
    let dist = cmd::root().join("target/dist");
    if dist.exists() {
        fs::remove_dir_all(&dist).map_err(Error::io(&dist))?;
    }
    for name in ["bin", "completions", "man"] {
        let dir = dist.join(name);
        fs::create_dir_all(&dir).map_err(Error::io(&dir))?;
    }
    let target = target()?;
    for (package, binary) in BINARIES {
        let built =
            cmd::built_with(package, binary, &["--release", "--target", &target], |build| {
                build.env("RUSTFLAGS", "-C target-feature=+crt-static");
                build.env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
            })?;
        copy(&built, &dist.join("bin").join(binary))?;
    }
    papers(&dist)?;
    for name in PAPERS {
        copy(&cmd::root().join(name), &dist.join(name))?;
    }
    sums(&dist)?;
    term::out(format_args!("{} for {target}", dist.display()));
    Ok(())
}

/// musl's target for this machine if it is installed, else the machine's own.
fn target() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = cmd::read(Command::new(&rustc).arg("-vV"))?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or_else(|| Error::Failed("rustc -vV names no host".into()))?;
    let musl = host.replace("-gnu", "-musl");
    let print = ["--print", "target-libdir", "--target", &musl];
    let libraries = cmd::read(Command::new(&rustc).args(print)).unwrap_or_default();
    let installed = !libraries.trim().is_empty() && Path::new(libraries.trim()).is_dir();
    Ok(if installed { musl } else { host.to_owned() })
}

/// Completions and manual pages, by the programs themselves.
fn papers(dist: &Path) -> Result<()> {
    let step = Step::begin("completions and manual pages");
    let kv = dist.join("bin/kv");
    for command in COMMANDS {
        for (shell, file) in SHELLS {
            let script =
                cmd::read(Command::new(&kv).args(["completions", shell, "--of", command]))?;
            let path = dist.join("completions").join(file.replace("{}", command));
            fs::write(&path, script).map_err(Error::io(&path))?;
        }
        let pages = dist.join("man");
        cmd::run(Command::new(&kv).args(["man", "--of", command, "--to"]).arg(pages))?;
    }
    step.done();
    Ok(())
}

/// Checksums in the form that `sha256sum --check` reads.
fn sums(dist: &Path) -> Result<()> {
    let mut files = Vec::new();
    gather(dist, Path::new(""), &mut files)?;
    files.sort();
    let path = dist.join("SHA256SUMS");
    let out = File::create(&path).map_err(Error::io(&path))?;
    let mut sums = Command::new("sha256sum");
    sums.current_dir(dist).args(&files).stdin(Stdio::null()).stdout(out);
    cmd::run(&mut sums)
}

/// Every file below, named from `top`.
fn gather(top: &Path, below: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let dir = top.join(below);
    for entry in fs::read_dir(&dir).map_err(Error::io(&dir))? {
        let entry = entry.map_err(Error::io(&dir))?;
        let name = below.join(entry.file_name());
        if entry.path().is_dir() {
            gather(top, &name, files)?;
        } else {
            files.push(name);
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).map_err(Error::io(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_are_summed_by_their_names_from_the_top() {
        let scratch = crate::cluster::tests::scratch("dist");
        let top = scratch.0.dir();
        fs::create_dir_all(top.join("bin")).unwrap();
        fs::write(top.join("bin/kv"), "abc").unwrap();
        fs::write(top.join("README.md"), "").unwrap();
        sums(top).unwrap();
        let text = fs::read_to_string(top.join("SHA256SUMS")).unwrap();
        let kv = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  bin/kv\n";
        assert!(text.contains(kv), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }
}
