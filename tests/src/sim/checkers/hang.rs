//! Hangs: every operation ends, with an answer or an error, long before a client gives up.

use super::{Checker, Rules, Violation};
use crate::sim::history::{Op, Outcome};

/// Looks for operations that never ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hang;

impl Checker for Hang {
    fn name(&self) -> &'static str {
        "hang"
    }

    fn check(&self, ops: &[Op], _rules: &Rules) -> Vec<Violation> {
        let hung = ops.iter().filter(|op| op.outcome == Outcome::Hung);
        hung.map(|op| Violation {
            checker: self.name(),
            key: op.key.clone(),
            what: format!("node {} never answered {:?}", op.node, op.action),
        })
        .collect()
    }
}
