//! Phantoms: a read shows only values that somebody began to write before the read ended, and
//! whose write was not said to have failed with nothing written. A counter shows no more than what
//! was counted before the read ended.

use super::{Checker, Rules, Violation, by_key};
use crate::sim::history::{Action, Op, Outcome};

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
            if ops.iter().any(|op| op.action == Action::Increment) {
                let too_many = ops.iter().filter_map(|read| too_many(read, &ops));
                found.extend(too_many.map(|what| Violation {
                    checker: "phantom",
                    key: key.into(),
                    what,
                }));
                continue;
            }
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

/// Why a counter must not show what a read shows of it, if it must not. (What is shown of it is no
/// value of the workload's, and is told as a damaged one.)
fn too_many(read: &Op, ops: &[&Op]) -> Option<String> {
    let Some(Some(shown)) = read.shown() else { return None };
    let shown = shown.strip_prefix("damaged ").unwrap_or(shown);
    let counts = |op: &&&Op| {
        op.action == Action::Increment && op.may_have_written() && op.began < read.ended
    };
    let most = ops.iter().filter(counts).count();
    let fits = shown.parse::<usize>().is_ok_and(|shown| shown <= most);
    (!fits).then(|| format!("node {} shows {shown}, and {most} were counted", read.node))
}
