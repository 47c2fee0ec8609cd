//! Expiry: a value with an end is there until then, and not longer, by as much as the clocks of
//! the nodes were wrong.
//!
//! One client writes each such key once, and changes its end. Which end is in force is not always
//! known: that of the last change that was acknowledged, or that of any change that was never
//! answered. A read is wrong only if it is wrong for all of them.
//!
//! With fallbacks counted an acknowledged change need not have met the one before it, and of both
//! that wins whose stamp is later; so any may be in force, and only the audit is bound. Its clocks
//! are right again, however far they were off before: what a clock took for over is not gone.

use super::{Checker, Rules, Violation, by_key, flushes};
use crate::sim::history::{Action, Op, Outcome};
use crate::sim::run::is_audit;

/// Looks for values that are shown after their end, or gone before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expiry;

impl Checker for Expiry {
    fn name(&self) -> &'static str {
        "expiry"
    }

    fn check(&self, ops: &[Op], rules: &Rules) -> Vec<Violation> {
        let mut found = Vec::new();
        let flushes = flushes(ops);
        for (key, ops) in by_key(ops) {
            let set =
                |op: &&&Op| matches!(op.action, Action::SetUntil { .. }) && op.is_acknowledged();
            let Some(set) = ops.iter().find(set) else { continue };
            for read in ops.iter().filter(|op| op.began > set.ended) {
                let Some(shown) = read.shown() else { continue };
                if rules.sloppy && !is_audit(read) {
                    continue;
                }
                let before = |flush: &Op| flush.is_acknowledged() && flush.ended < set.began;
                let may = |flush: &&Op| flush.began < read.ended && !before(flush);
                if shown.is_none() && flushes.iter().any(may) {
                    continue;
                }
                let what = judge(read, shown, set, &ops, rules);
                found.extend(what.map(|what| Violation {
                    checker: self.name(),
                    key: key.into(),
                    what,
                }));
            }
        }
        found
    }
}

fn judge(read: &Op, shown: Option<&str>, set: &Op, ops: &[&Op], rules: &Rules) -> Option<String> {
    // GETEX shows what was before it changes the end.
    let changes = ops.iter().filter(|op| op.began < read.ended && op.began != read.began);
    let mut surely = end_of(set)?;
    let mut maybe = Vec::new();
    for change in changes {
        let Some(end) = end_of(change) else { continue };
        let done = change.is_acknowledged() || matches!(change.outcome, Outcome::Shown(Some(_)));
        if done && change.ended < read.began && !rules.sloppy {
            surely = end;
        } else if done || matches!(change.outcome, Outcome::Unknown(_) | Outcome::Hung) {
            maybe.push(end);
        }
    }
    maybe.push(surely);
    // What a node's clock may be wrong by, and a request's time on its way.
    let slack_ms = if is_audit(read) { rules.skew_ms_healed } else { rules.skew_ms } + 1;
    let began_ms = rules.epoch_ms + read.began_us / 1_000;
    let ended_ms = rules.epoch_ms + read.ended_us.div_ceil(1_000);
    let over = |end: &Option<u64>| end.is_some_and(|end| end + slack_ms < began_ms);
    let ahead = |end: &Option<u64>| end.is_none_or(|end| end > ended_ms + slack_ms);
    match shown {
        Some(value) if maybe.iter().all(over) => {
            Some(format!("node {} shows {value} at {began_ms}, after its end", read.node))
        }
        None if maybe.iter().all(ahead) => {
            Some(format!("node {} shows nothing at {ended_ms}, before the end", read.node))
        }
        _ => None,
    }
}

/// The end that an operation sets (`None` within: none at all), if it sets one.
#[expect(clippy::option_option, reason = "no write at all, one for ever, one that ends")]
fn end_of(op: &Op) -> Option<Option<u64>> {
    match op.action {
        Action::SetUntil { until_ms, .. } => Some(Some(until_ms)),
        Action::Expire(until_ms) => Some(until_ms),
        Action::GetEx(until_ms) => Some(Some(until_ms)),
        _ => None,
    }
}
