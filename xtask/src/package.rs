//! `cargo xtask package`: each leaf as a stranger gets it.
//!
//! A leaf is packed by `cargo package`, unpacked into a directory of its own outside the workspace,
//! built without features, tested with its defaults, and its examples are run there. What only
//! works inside the workspace (an inherited profile, a file that isn't packed, a sibling's feature)
//! fails here. A leaf may ask at most three packages of its user, the storage engine twelve.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arrows::LEAVES;
use crate::cmd;
use crate::error::{Error, Result};
use crate::metadata::{Graph, Kind, Package};
use crate::term;

const REQUIRED_MAX: usize = 3;
const REQUIRED_MAX_OF_ENGINE: usize = 12;

/// Packs and proves one leaf, or all of them.
pub(crate) fn run(only: Option<&str>) -> Result<()> {
    let graph = Graph::for_host()?;
    let leaves: Vec<&Package> = LEAVES
        .iter()
        .filter(|leaf| only.is_none_or(|name| name == **leaf))
        .filter_map(|leaf| graph.member(leaf))
        .collect();
    if leaves.is_empty() {
        let known = LEAVES.join(" ");
        return Err(Error::Usage(format!("{} is no leaf; they are: {known}", only.unwrap_or(""))));
    }
    let outside = Outside::create()?;
    for leaf in leaves {
        check_required(leaf)?;
        let dir = unpack(leaf, &outside.0)?;
        prove(leaf, &dir, &outside.0.join("target"))?;
        let required = required(leaf);
        term::out(format_args!("{}: packed, built, tested; requires {required}", leaf.name));
    }
    Ok(())
}

/// A directory outside the workspace that goes away with the run.
struct Outside(PathBuf);

impl Outside {
    fn create() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("kv-package-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(Error::io(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn required(leaf: &Package) -> usize {
    let needs = |kind| kind != Kind::Dev;
    leaf.declared.iter().filter(|one| needs(one.kind) && !one.optional).count()
}

fn check_required(leaf: &Package) -> Result<()> {
    let most = if leaf.name == "kv-lsm" { REQUIRED_MAX_OF_ENGINE } else { REQUIRED_MAX };
    let count = required(leaf);
    if count <= most {
        return Ok(());
    }
    Err(Error::Failed(format!("{} requires {count} packages; {most} is the most", leaf.name)))
}

fn unpack(leaf: &Package, outside: &Path) -> Result<PathBuf> {
    term::title(format_args!("== {}", leaf.name));
    let target = outside.join("packed");
    let mut pack = cmd::cargo(&["package", "--quiet", "--no-verify", "--allow-dirty"]);
    pack.args(["-p", &leaf.name, "--target-dir"]).arg(&target);
    cmd::run(&mut pack)?;
    let stem = format!("{}-{}", leaf.name, leaf.version);
    let archive = target.join("package").join(format!("{stem}.crate"));
    cmd::run(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(outside))?;
    Ok(outside.join(stem))
}

fn prove(leaf: &Package, dir: &Path, target: &Path) -> Result<()> {
    for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        if !dir.join(file).exists() {
            term::warn(format_args!("{}: {file} is not in the package", leaf.name));
        }
    }
    let cargo = |args: &[&str]| {
        let mut command = cmd::cargo(args);
        cmd::run(command.current_dir(dir).env("CARGO_TARGET_DIR", target))
    };
    cargo(&["build", "--quiet", "--no-default-features"])?;
    cargo(&["test", "--quiet"])?;
    if leaf.examples.is_empty() {
        return Err(Error::Failed(format!("{} has no example to run", leaf.name)));
    }
    for example in &leaf.examples {
        cargo(&["run", "--quiet", "--example", example])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Declared;

    fn leaf(name: &str, normal: usize) -> Package {
        let one = |kind, optional| Declared { name: "x".into(), kind, optional };
        let mut declared = vec![one(Kind::Normal, false); normal];
        declared.extend([one(Kind::Normal, true), one(Kind::Dev, false)]);
        Package { name: name.into(), declared, ..Package::default() }
    }

    #[test]
    fn only_required_dependencies_count() {
        assert_eq!(required(&leaf("kv-ring", 2)), 2);
    }

    #[test]
    fn the_engine_may_ask_for_more() {
        assert!(check_required(&leaf("kv-ring", 3)).is_ok());
        assert!(check_required(&leaf("kv-ring", 4)).is_err());
        assert!(check_required(&leaf("kv-lsm", 12)).is_ok());
        assert!(check_required(&leaf("kv-lsm", 13)).is_err());
    }
}
