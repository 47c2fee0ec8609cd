//! A run as text: what was done to the world, what clients asked and were told, in the order of
//! time, and what must not be.

use std::fmt::Write as _;

use super::history::Op;
use super::run::{Report, is_audit};

/// The whole run as text.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut lines: Vec<(u64, String)> =
        report.log.iter().map(|(at, what)| (*at, format!("-- {what}"))).collect();
    lines.extend(report.ops.iter().map(|op| (op.began_us, line(op))));
    lines.sort_by_key(|(at, _)| *at);
    let mut out = format!("{}\n", report.line());
    for violation in &report.violations {
        let _infallible = writeln!(out, "!! {violation}");
    }
    for (at_us, what) in lines {
        let _infallible =
            writeln!(out, "{:>12} {what}", format!("{}.{:03}", at_us / 1_000, at_us % 1_000));
    }
    out
}

fn line(op: &Op) -> String {
    let who = if is_audit(op) { "audit".to_owned() } else { format!("client {}", op.client) };
    let took_us = op.ended_us.saturating_sub(op.began_us);
    format!(
        "{who} node {} {} {:?} -> {:?} [{} {}] {took_us} us",
        op.node, op.key, op.action, op.outcome, op.began, op.ended
    )
}

impl Report {
    /// The run in one line; the same for the same seed, whatever the machine.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "seed {} trace {:016x} ops {} acknowledged {} unknown {} world {} ms violations {}",
            self.seed,
            self.trace_hash,
            self.ops.len(),
            self.acknowledged,
            self.unknown,
            self.world_ms,
            self.violations.len(),
        )
    }
}
