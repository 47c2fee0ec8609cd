//! Phantoms: a read shows only values that somebody began to write before the read ended, and
//! whose write was not said to have failed with nothing written.

use super::{Checker, Rules, Violation, by_key};
use crate::sim::history::{Op, Outcome};

/// Looks for values that nobody wrote.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phantom;

impl Checker for Phantom {
    fn name(&self) -> &'static str {
        "phantom"
    }

    fn check(&self, ops: &[Op], _rules: &Rules) -> Vec<Violation> {
        let mut found = Vec::new();
        for (key, ops) in by_key(ops) {
            for read in &ops {
                let values: &[String] = match &read.outcome {
                    Outcome::Shown(Some(value)) => std::slice::from_ref(value),
                    Outcome::AllShown(values) => values,
                    _ => continue,
                };
                for value in values {
                    let source =
                        ops.iter().find(|op| op.written() == Some(value) && op.began < read.ended);
                    let what = match source.map(|op| &op.outcome) {
                        None => format!("nobody wrote {value}"),
                        Some(Outcome::Failed(why)) => {
                            format!("{value} was refused and is there: {why}")
                        }
                        Some(_) => continue,
                    };
                    found.push(Violation { checker: "phantom", key: key.into(), what });
                }
            }
        }
        found
    }
}
