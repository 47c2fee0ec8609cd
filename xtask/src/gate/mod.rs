//! `cargo xtask release-gate`: every proof that exists, at its full length, and the file that says
//! what came of it.
//!
//! Each row is one command that anybody can type; it passes when the command does. What a command
//! prints after `figure:` is kept beside its row, and of one that fails its last words. The file is
//! written after each row, so that what was proved stays when a later one is interrupted; a row
//! that fails stops no other. `--quick` is for trying the verb: it takes a part of the seeds and no
//! long tests, and the file says so in each of its rows.

mod evidence;
mod rows;

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use evidence::{Entry, Evidence};
use rows::{Proof, ROWS, Row, Run};

use crate::bench::{Machine, report};
use crate::cmd;
use crate::error::{Error, Result};
use crate::term;

/// Where the evidence stands.
const EVIDENCE: &str = "docs/EVIDENCE.md";
const HEADER: &str = "# Evidence\n\nWritten by `cargo xtask release-gate`: what was run, on which \
                      commit and machine, and what came of it. Rows without a proof say so.\n";
/// A line of a command's output that is worth keeping.
const FIGURE: &str = "figure: ";
/// Figures that are kept of one row at most.
const FIGURES_MAX: usize = 24;
/// Last lines that are kept of a command that failed.
const LAST_LINES_MAX: usize = 6;

/// Which rows, how long, and whether the file is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Only this row.
    pub(crate) only: Option<String>,
    /// A part of the seeds, and no long tests.
    pub(crate) quick: bool,
    /// Leave the file alone.
    pub(crate) no_write: bool,
}

/// Runs the rows one after the other.
pub(crate) fn run_rows(options: &Options) -> Result<()> {
    let order: Vec<&str> = ROWS.iter().map(|row| row.id).collect();
    let wanted =
        |row: &&Row| options.only.as_deref().is_none_or(|only| row.id.eq_ignore_ascii_case(only));
    let rows: Vec<&Row> = ROWS.iter().filter(wanted).collect();
    if rows.is_empty() {
        return Err(Error::Usage(format!("there is no such row; there are: {}", order.join(" "))));
    }
    let data = cmd::root().join("target");
    fs::create_dir_all(&data).map_err(Error::io(&data))?;
    let machine = Machine::look(&data)?;
    let path = cmd::root().join(EVIDENCE);
    let mut evidence = Evidence::parse(&fs::read_to_string(&path).unwrap_or_default());
    let mut failed = Vec::new();
    for row in rows {
        let ended = prove(row, options.quick);
        if ended.outcome == Outcome::Failed {
            failed.push(row.id);
        }
        evidence.set(row.id, ended.entry(row, &machine));
        if !options.no_write {
            let (summary, table) = (evidence.summary(&order), evidence.render(&order));
            let body = format!("{summary} Last: {machine}\n\n{table}");
            report::write(&path, HEADER, "release-gate", &body)?;
        }
    }
    term::out(format_args!("{}\n{}", evidence.summary(&order), evidence.render(&order)));
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Error::Degraded(format!("not proved: {}", failed.join(" "))))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    /// Something in it said that it can't be run here.
    Skipped,
    Failed,
    Missing,
    /// It has no quick form.
    Left,
}

impl Outcome {
    const fn text(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Skipped => "**in part SKIPPED here**",
            Self::Failed => "**FAILED**",
            Self::Missing => "**not built**",
            Self::Left => "left out",
        }
    }
}

struct Ended {
    how: String,
    outcome: Outcome,
    quick: bool,
    took: Duration,
    notes: Vec<String>,
}

impl Ended {
    fn entry(self, row: &Row, machine: &Machine) -> Entry {
        let quick = if self.quick { " (QUICK RUN, proves little)" } else { "" };
        Entry {
            demand: row.demand.into(),
            asked: row.asked.into(),
            how: self.how,
            outcome: format!("{}{quick}", self.outcome.text()),
            took: term::human(self.took),
            on: machine.day_and_commit(),
            notes: self.notes,
        }
    }
}

fn prove(row: &Row, quick: bool) -> Ended {
    term::title(format_args!("== {} {}", row.id, row.demand));
    let without = |how: &str, outcome| Ended {
        how: how.to_owned(),
        outcome,
        quick,
        took: Duration::ZERO,
        notes: Vec::new(),
    };
    let (arguments, long) = match &row.proof {
        Proof::Missing(why) => return Ended { quick: false, ..without(why, Outcome::Missing) },
        Proof::Run(Run { quick: None, .. }) if quick => return without("-", Outcome::Left),
        Proof::Run(Run { quick: Some(arguments), .. }) if quick => (*arguments, false),
        Proof::Run(Run { arguments, long, .. }) => (*arguments, *long),
    };
    let prefix = if long { "KV_TEST_LONG=1 " } else { "" };
    let how = format!("`{prefix}cargo {}`", arguments.join(" "));
    // Building is no part of the proof's time; if it fails the command itself says why.
    if arguments.first() == Some(&"test") {
        let _failed = cmd::run(cmd::cargo(arguments).args(["--quiet", "--no-run"]));
    }
    let began = Instant::now();
    let followed = follow(arguments, long);
    let outcome = match (followed.passed, followed.skipped) {
        (false, _) => Outcome::Failed,
        (true, true) => Outcome::Skipped,
        (true, false) => Outcome::Passed,
    };
    let mut notes = followed.figures;
    if !followed.passed {
        notes.extend(followed.last_lines.into_iter().map(|line| format!("failed: {line}")));
    }
    Ended { how, outcome, quick, took: began.elapsed(), notes }
}

/// What came of a command.
#[derive(Debug, Default)]
struct Followed {
    passed: bool,
    skipped: bool,
    figures: Vec<String>,
    last_lines: VecDeque<String>,
}

impl Followed {
    fn hear(&mut self, line: &str) {
        self.skipped |= line.trim_start().starts_with("SKIPPED");
        // The test harness may have put the name of a test before it.
        if let Some((_, figure)) = line.split_once(FIGURE)
            && self.figures.len() < FIGURES_MAX
        {
            self.figures.push(figure.trim().to_owned());
        }
        if !line.trim().is_empty() {
            self.last_lines.push_back(line.trim().chars().take(300).collect());
            if self.last_lines.len() > LAST_LINES_MAX {
                self.last_lines.pop_front();
            }
        }
    }
}

/// Runs cargo, shows what it prints and keeps what is worth it.
fn follow(arguments: &[&str], long: bool) -> Followed {
    let mut arguments = arguments.to_vec();
    if arguments.first() == Some(&"test") {
        arguments.extend(["--", "--nocapture"]);
    }
    let mut command: Command = cmd::cargo(&arguments);
    if long {
        command.env("KV_TEST_LONG", "1");
    } else {
        command.env_remove("KV_TEST_LONG");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let last_lines = VecDeque::from([error.to_string()]);
            return Followed { last_lines, ..Followed::default() };
        }
    };
    let followed = Mutex::new(Followed::default());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        if let Some(err) = err {
            scope.spawn(|| listen(err, &followed));
        }
        if let Some(out) = out {
            listen(out, &followed);
        }
    });
    let mut followed = followed.into_inner().unwrap_or_else(PoisonError::into_inner);
    followed.passed = child.wait().is_ok_and(|status| status.success());
    followed
}

fn listen(output: impl Read, followed: &Mutex<Followed>) {
    for line in BufReader::new(output).split(b'\n').map_while(std::io::Result::ok) {
        let line = String::from_utf8_lossy(&line);
        term::note(&line);
        followed.lock().unwrap_or_else(PoisonError::into_inner).hear(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_command_prints_the_figures_and_the_last_words_are_kept() {
        let mut followed = Followed::default();
        for line in ["test a ... figure: 3 of 4 ", "x", "", "  SKIPPED: no root", "1", "2", "3"] {
            followed.hear(line);
        }
        (4..9).for_each(|line| followed.hear(&line.to_string()));
        assert_eq!(followed.figures, ["3 of 4"]);
        assert!(followed.skipped);
        assert_eq!(followed.last_lines, ["3", "4", "5", "6", "7", "8"]);
    }

    #[test]
    fn a_command_that_fails_says_so() {
        let followed = follow(&["no-such-verb"], false);
        assert!(!followed.passed && !followed.last_lines.is_empty());
    }
}
