//! Checkers: each looks at a history for one thing that must never be in it.
//!
//! They know nothing of the world; the same ones judge simulated nodes and real processes. Each
//! has a test in which it must find a planted violation, or it would prove nothing.

pub mod converged;
mod expiry;
mod hang;
mod lost;
mod phantom;
mod register;
mod siblings;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::history::{Action, Op};

pub use expiry::Expiry;
pub use hang::Hang;
pub use lost::Lost;
pub use phantom::Phantom;
pub use register::Register;
pub use siblings::Siblings;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Who found it.
    pub checker: &'static str,
    /// On which key.
    pub key: String,
    /// What it is.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}", self.checker, self.key, self.what)
    }
}

/// What was promised in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Fallbacks counted: reads and writes need not have met before all was healed.
    pub sloppy: bool,
    /// Replicas were equal, and nothing was under way any more, when the audit began.
    pub settled: bool,
    /// The furthest that any node's wall clock was from the true time, in milliseconds.
    pub skew_ms: u64,
    /// The furthest that one is in the audit.
    pub skew_ms_healed: u64,
    /// Milliseconds since 1970 at the beginning of the run.
    pub epoch_ms: u64,
    /// Values whose every dot lies above all that was flushed: no FLUSHALL took them.
    pub above_flush: BTreeSet<String>,
}

/// Looks at a history.
pub trait Checker {
    /// Its name.
    fn name(&self) -> &'static str;

    /// What it finds in a history, whose operations stand in the order of their beginnings.
    fn check(&self, ops: &[Op], rules: &Rules) -> Vec<Violation>;
}

/// What all checkers find in the history of a strict keyspace whose clocks are right.
#[must_use]
pub fn check_all(ops: &[Op]) -> Vec<Violation> {
    check_under(ops, &Rules::default())
}

/// What all checkers find.
#[must_use]
pub fn check_under(ops: &[Op], rules: &Rules) -> Vec<Violation> {
    check_with(ops, ops, rules)
}

/// What all checkers find: that of siblings in a history in which blind writes stand as puts.
#[must_use]
pub fn check_with(ops: &[Op], with_contexts: &[Op], rules: &Rules) -> Vec<Violation> {
    let checkers: [&dyn Checker; 5] = [&Lost, &Phantom, &Register, &Expiry, &Hang];
    let mut found: Vec<Violation> =
        checkers.iter().flat_map(|checker| checker.check(ops, rules)).collect();
    found.extend(Siblings.check(with_contexts, rules));
    found
}

/// The operations of each key, keys in order.
fn by_key(ops: &[Op]) -> std::collections::BTreeMap<&str, Vec<&Op>> {
    let mut keys = std::collections::BTreeMap::<&str, Vec<&Op>>::new();
    for op in ops {
        keys.entry(&op.key).or_default().push(op);
    }
    keys
}

/// The FLUSHALLs that may have taken effect.
fn flushes(ops: &[Op]) -> Vec<&Op> {
    ops.iter().filter(|op| op.action == Action::Flush && op.may_have_written()).collect()
}
