//! Siblings: what KV.GET shows is what the acknowledged writes and their contexts say.
//!
//! The formula of riak_kv's issue 679, over values instead of dots: an acknowledged value stays
//! until a write covers it with a context whose holder had been shown it, and never comes back
//! after that. Writes that were never answered may have covered what their context says, or not.
//! A blind SET's context is what its coordinator knew, which the watch over the mints tells: it
//! stands here as a put, and a DEL likewise.
//!
//! A FLUSHALL kills every dot up to its mark. A value whose dots all lie above the last mark, as
//! the watch knows, or that was written after the flush was acknowledged, is not excused by it. One
//! that was acknowledged before it began is gone for good when it is acknowledged, with fallbacks
//! counted too: then every member has the mark.

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
        let flushes = flushes(ops);
        for (key, ops) in by_key(ops) {
            let puts: Vec<&Op> = ops.iter().copied().filter(|op| seen(op).is_some()).collect();
            for read in &ops {
                let Outcome::AllShown(shown) = &read.outcome else { continue };
                let bound = !rules.sloppy || is_audit(read);
                for put in puts.iter().filter(|put| put.is_acknowledged()) {
                    let may_be_flushed = may_be_flushed(read, put, &flushes, rules);
                    let what = flushed(read, shown, put, &flushes).or_else(|| {
                        judge(read, shown, put, &puts, may_be_flushed).filter(|_| bound)
                    });
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

/// Whether a flush may have taken what was put, before this read ended.
fn may_be_flushed(read: &Op, put: &Op, flushes: &[&Op], rules: &Rules) -> bool {
    let is_above = put.written().is_some_and(|value| rules.above_flush.contains(value));
    let before = |flush: &Op| flush.is_acknowledged() && flush.ended < put.began;
    !is_above && flushes.iter().any(|flush| flush.began < read.ended && !before(flush))
}

/// What is wrong with an acknowledged put that a flush has surely taken, as this read shows it.
fn flushed(read: &Op, shown: &[String], put: &Op, flushes: &[&Op]) -> Option<String> {
    let value = put.written().filter(|value| shown.iter().any(|shown| shown == value))?;
    let surely = |flush: &&Op| {
        flush.is_acknowledged() && put.ended < flush.began && flush.ended < read.began
    };
    let what = || format!("node {} shows {value}, which was flushed", read.node);
    flushes.iter().any(surely).then(what)
}

/// What is wrong with an acknowledged put, as this read shows it.
fn judge(
    read: &Op,
    shown: &[String],
    put: &Op,
    puts: &[&Op],
    may_be_flushed: bool,
) -> Option<String> {
    let value = put.written()?;
    let covers =
        |other: &&&Op| seen(other).is_some_and(|seen| seen.iter().any(|seen| seen == value));
    let is_there = shown.iter().any(|shown| shown == value);
    let node = read.node;
    if !is_there && put.ended < read.began && !may_be_flushed {
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
