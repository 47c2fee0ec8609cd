//! Siblings: what KV.GET shows is what the acknowledged puts and their contexts say.
//!
//! The formula of riak_kv's issue 679, over values instead of dots: an acknowledged value stays
//! until a put covers it with a context whose holder had been shown it, and never comes back after
//! that. Puts that were never answered may have covered what their context says, or not.

use super::{Checker, Violation, by_key};
use crate::sim::history::{Action, Op, Outcome};

/// Compares siblings with the set derived from all puts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Siblings;

impl Checker for Siblings {
    fn name(&self) -> &'static str {
        "siblings"
    }

    fn check(&self, ops: &[Op]) -> Vec<Violation> {
        let mut found = Vec::new();
        for (key, ops) in by_key(ops) {
            let puts: Vec<&Op> =
                ops.iter().copied().filter(|op| matches!(op.action, Action::Put { .. })).collect();
            for read in &ops {
                let Outcome::AllShown(shown) = &read.outcome else { continue };
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

/// What is wrong with an acknowledged put, as this read shows it.
fn judge(read: &Op, shown: &[String], put: &Op, puts: &[&Op]) -> Option<String> {
    let value = put.written()?;
    let covers = |other: &&&Op| match &other.action {
        Action::Put { seen, .. } => seen.iter().any(|seen| seen == value),
        _ => false,
    };
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
            return Some(format!("node {node} shows {value} after {:?} replaced it", by.written()));
        }
    }
    None
}
