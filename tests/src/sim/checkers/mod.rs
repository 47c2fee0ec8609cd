//! Checkers: each looks at a history for one thing that must never be in it.
//!
//! They know nothing of the world; the same ones judge simulated nodes and real processes. Each
//! has a test in which it must find a planted violation, or it would prove nothing.

mod lost;
mod order;
mod phantom;
mod siblings;
#[cfg(test)]
mod tests;

use super::history::Op;

pub use lost::Lost;
pub use order::Order;
pub use phantom::Phantom;
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

/// Looks at a history.
pub trait Checker {
    /// Its name.
    fn name(&self) -> &'static str;

    /// What it finds in a history, whose operations stand in the order of their beginnings.
    fn check(&self, ops: &[Op]) -> Vec<Violation>;
}

/// What all checkers find.
#[must_use]
pub fn check_all(ops: &[Op]) -> Vec<Violation> {
    let checkers: [&dyn Checker; 4] = [&Lost, &Phantom, &Order, &Siblings];
    checkers.iter().flat_map(|checker| checker.check(ops)).collect()
}

/// The operations of each key, keys in order.
fn by_key(ops: &[Op]) -> std::collections::BTreeMap<&str, Vec<&Op>> {
    let mut keys = std::collections::BTreeMap::<&str, Vec<&Op>>::new();
    for op in ops {
        keys.entry(&op.key).or_default().push(op);
    }
    keys
}
