//! `cargo xtask tidy`: the rules that neither rustc nor clippy knows.
//!
//! Each rule is a pure function from text or from the package graph to findings, so that it is
//! tested without a workspace; this file gathers the inputs (tracked files, `cargo metadata`) and
//! prints what was found. A finding either fails or warns. (After rust-analyzer's and TigerBeetle's
//! `tidy`.)

mod graph;
mod licences;
mod readme;
mod source;
mod words;
mod wrap;

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::arrows::{self, LEAVES};
use crate::cmd;
use crate::error::{Error, Result};
use crate::metadata::Graph;
use crate::term;

/// The command that the README tells a newcomer to test with, and that `ci` runs.
pub(crate) const README_TEST_COMMAND: &str = "cargo test --workspace";

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Warn,
    Fail,
}

/// One thing that a rule found.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    level: Level,
    /// `path` or `path:line`, or a package's name.
    place: String,
    what: String,
}

impl Finding {
    fn fail(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { level: Level::Fail, place: place.into(), what: what.into() }
    }

    fn warn(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { level: Level::Warn, place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Runs every rule over the workspace and prints what they found; with `fix`, first mends what a
/// machine can.
pub(crate) fn run(fix: bool) -> Result<()> {
    if fix {
        fold_comments()?;
    }
    let mut findings = files()?;
    findings.extend(readme());
    let host = Graph::for_host()?;
    findings.extend(arrows::check(&host).into_iter().map(|what| Finding::fail("arrows", what)));
    findings.extend(graph::size(&host));
    let all = Graph::for_all()?;
    findings.extend(graph::denied(&all));
    findings.extend(licences::check(&all));
    findings.extend(leaves_alone());

    for finding in &findings {
        match finding.level {
            Level::Warn => term::warn(finding),
            Level::Fail => term::error(finding),
        }
    }
    let failed = findings.iter().filter(|finding| finding.level == Level::Fail).count();
    let warned = findings.len() - failed;
    term::out(format_args!("tidy: {failed} to mend, {warned} to look at"));
    if failed == 0 { Ok(()) } else { Err(Error::Failed("the tree is not tidy".into())) }
}

/// Rules over the text of each tracked file.
fn files() -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (path, text) in tracked()? {
        findings.extend(words::check(&path, &text));
        if is_rust(&path) {
            findings.extend(source::check(&path, &text));
        }
    }
    Ok(findings)
}

fn fold_comments() -> Result<()> {
    for (path, text) in tracked()?.into_iter().filter(|(path, _)| is_rust(path)) {
        if let Some(folded) = wrap::fold(&text) {
            let file = cmd::root().join(&path);
            fs::write(&file, folded).map_err(Error::io(&file))?;
            term::note(format_args!("{path}: comments folded"));
        }
    }
    Ok(())
}

/// Path and text of each tracked file. A file may be gone from the working tree, and a binary one
/// has no lines: both are left out.
fn tracked() -> Result<Vec<(String, String)>> {
    let root = cmd::root();
    let listed = cmd::read(Command::new("git").args(["ls-files", "-z"]).current_dir(&root))?;
    let paths = listed.split('\0').filter(|path| !path.is_empty());
    let read = |path: &str| Some((path.to_owned(), fs::read_to_string(root.join(path)).ok()?));
    Ok(paths.filter_map(read).collect())
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

/// The README must name the very command that CI runs, or it tells a newcomer something untested,
/// and figures that were measured.
fn readme() -> Vec<Finding> {
    let read = |path| fs::read_to_string(cmd::root().join(path)).unwrap_or_default();
    let text = read("README.md");
    let mut findings = readme::figures(&text, &read("docs/PERFORMANCE.md"));
    if !text.contains(README_TEST_COMMAND) {
        let what = format!("doesn't name its test command, `{README_TEST_COMMAND}`");
        findings.push(Finding::fail("README.md", what));
    }
    findings
}

/// Each leaf must compile alone, without features and with all of them: nobody else's features hold
/// it up, and none of its own goes uncompiled.
fn leaves_alone() -> Vec<Finding> {
    let mut findings = Vec::new();
    for leaf in LEAVES {
        for features in ["--no-default-features", "--all-features"] {
            let mut check = cmd::cargo(&["check", "--quiet", "--locked", "--lib", features]);
            if let Err(error) = cmd::run(check.args(["-p", leaf])) {
                findings.push(Finding::fail(*leaf, format!("doesn't stand alone: {error}")));
            }
        }
    }
    findings
}
