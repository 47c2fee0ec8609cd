//! Siblings: what KV.GET shows is what the acknowledged writes and their contexts say.
//!
//! The formula of riak_kv's issue 679, over values instead of dots: an acknowledged value stays
//! until a write covers it with a context whose holder had been shown it, and never comes back
//! after that. Writes that were never answered may have covered what their context says, or not.
//! A blind SET's context is what its coordinator knew, which the watch over the mints tells: it
//! stands here as a put, and a DEL likewise.

use super::{Checker, Rules, Violation, by_key, flushes};
use crate::sim::history::{Action, Op, Outcome};
use crate::sim::run::is_audit;

/// Compares siblings with the set derived from all writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Siblings;

impl Checker for Siblings {
    fn name(&self) -> &'static str {
        "siblings"
    }

    fn check(&self, ops: &[Op], rules: &Rules) -> Vec<Violation> {
        let mut found = Vec::new();
        if !flushes(ops).is_empty() {
            return found;
        }
        for (key, ops) in by_key(ops) {
            let puts: Vec<&Op> = ops.iter().copied().filter(|op| seen(op).is_some()).collect();
            for read in &ops {
                let Outcome::AllShown(shown) = &read.outcome else { continue };
                if rules.sloppy && !is_audit(read) {
                    continue;
                }
                for put in puts.iter().filter(|put| put.is_acknowledged()) {
                    let what = judge(read, shown, put, &puts);
                    let violation = |what| Violation { checker: "siblings", key: key.into(), what };
                    found.extend(what.map(violation));
                }
            }
        }
        found
    }
}

/// The values that a write's context covers.
fn seen(op: &Op) -> Option<&[String]> {
    match &op.action {
        Action::Put { seen, .. } | Action::DeleteSeen { seen } => Some(seen),
        _ => None,
    }
}

/// What is wrong with an acknowledged put, as this read shows it.
fn judge(read: &Op, shown: &[String], put: &Op, puts: &[&Op]) -> Option<String> {
    let value = put.written()?;
    let covers =
        |other: &&&Op| seen(other).is_some_and(|seen| seen.iter().any(|seen| seen == value));
    let is_there = shown.iter().any(|shown| shown == value);
    let node = read.node;
    if !is_there && put.ended < read.began {
        let mut may =
            puts.iter().filter(|by| by.may_have_written() && by.began < read.ended).filter(covers);
        if may.next().is_none() {
            return Some(format!("node {node} lacks {value}, which nobody replaced"));
        }
    }
    if is_there {
        let surely =
            |by: &&&Op| by.is_acknowledged() && by.ended < read.began && put.ended < by.began;
        if let Some(by) = puts.iter().filter(surely).find(covers) {
            return Some(format!("node {node} shows {value} after {:?} replaced it", by.action));
        }
    }
    None
}
