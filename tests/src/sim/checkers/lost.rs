//! Lost writes: a key that was written once and acknowledged shows its value to every later read
//! (with fallbacks counted: to every read after all is healed), and the audit could read every
//! key. (Jepsen's set-full, for keys instead of elements.)

use super::{Checker, Rules, Violation, by_key, flushes};
use crate::sim::history::{Action, EVERY_KEY, Op, Outcome};
use crate::sim::run::is_audit;

/// Looks for acknowledged writes that are missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lost;

impl Checker for Lost {
    fn name(&self) -> &'static str {
        "lost"
    }

    fn check(&self, ops: &[Op], rules: &Rules) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut find = |key: &str, what: String| {
            found.push(Violation { checker: "lost", key: key.into(), what });
        };
        let flushes = flushes(ops);
        for (key, ops) in by_key(ops) {
            if key == EVERY_KEY {
                continue;
            }
            let read = |op: &&Op| {
                is_audit(op) && matches!(op.outcome, Outcome::Shown(_) | Outcome::AllShown(_))
            };
            if !ops.iter().any(read) {
                find(key, "could not be read when all was healed".into());
            }
            let writes: Vec<&&Op> = ops.iter().filter(|op| is_write(op)).collect();
            let [write] = writes.as_slice() else { continue };
            let Action::Set(value) = &write.action else { continue };
            if !write.is_acknowledged() {
                continue;
            }
            for read in ops.iter().filter(|op| op.began > write.ended) {
                let promised = !rules.sloppy || is_audit(read);
                let flushed = |flush: &&Op| {
                    let before = flush.is_acknowledged() && flush.ended < write.began;
                    flush.began < read.ended && !before
                };
                if let Outcome::Shown(shown) = &read.outcome
                    && shown.as_ref() != Some(value)
                    && promised
                    && !flushes.iter().any(flushed)
                {
                    let node = read.node;
                    find(key, format!("{value} was acknowledged, node {node} shows {shown:?}"));
                }
            }
        }
        found
    }
}

fn is_write(op: &Op) -> bool {
    !matches!(op.action, Action::Get | Action::Siblings)
}
