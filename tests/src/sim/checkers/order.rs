//! Order: what one client wrote to a key one after the other is never seen out of order, through
//! whichever nodes it wrote and whatever their clocks say.
//!
//! ```text
//! stale   a read began after write j was acknowledged and shows an acknowledged write before j
//! back    a read shows an acknowledged write older than what an earlier read already showed
//! ```
//! A write that was never answered may take effect at any time, so a read may show it whenever it
//! likes; only what was acknowledged is bound. The first state of a key is a nil that counts as
//! acknowledged before everything.

use super::{Checker, Violation, by_key};
use crate::sim::history::{Action, Op, Outcome};

/// Looks for reads that go back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Order;

impl Checker for Order {
    fn name(&self) -> &'static str {
        "order"
    }

    fn check(&self, ops: &[Op]) -> Vec<Violation> {
        let mut found = Vec::new();
        for (key, ops) in by_key(ops) {
            let Some(sequence) = Sequence::of(&ops) else { continue };
            let mut find = |what: String| {
                found.push(Violation { checker: "order", key: key.into(), what });
            };
            for read in &ops {
                let Outcome::Shown(shown) = &read.outcome else { continue };
                if let Some(newer) = sequence.stale(read, shown.as_deref()) {
                    find(format!("node {} shows {shown:?} after {newer}", read.node));
                }
                if let Some(earlier) = sequence.back(read, shown.as_deref(), &ops) {
                    find(format!("node {} goes back to {shown:?} from {earlier:?}", read.node));
                }
            }
        }
        found
    }
}

/// What one client wrote to one key, in order.
struct Sequence<'h>(Vec<&'h Op>);

impl<'h> Sequence<'h> {
    /// None where several clients write, or somebody puts siblings.
    fn of(ops: &[&'h Op]) -> Option<Self> {
        let writes: Vec<&Op> = ops
            .iter()
            .copied()
            .filter(|op| !matches!(op.action, Action::Get | Action::Siblings))
            .collect();
        let first = writes.first()?;
        let simple = |op: &&Op| {
            op.client == first.client && matches!(op.action, Action::Set(_) | Action::Delete)
        };
        writes.iter().all(simple).then_some(Self(writes))
    }

    /// Why `shown` is too old for this read, if it is.
    fn stale(&self, read: &Op, shown: Option<&str>) -> Option<String> {
        // The last write that every read from now on must know, with its number from 1.
        let known = |op: &&Op| op.is_acknowledged() && op.ended < read.began;
        let newest = self.0.iter().rposition(known)?;
        let legal = |(at, op): (usize, &&Op)| {
            op.written() == shown
                && op.began < read.ended
                && op.may_have_written()
                && (at >= newest || !op.is_acknowledged())
        };
        if self.0.iter().enumerate().any(legal) {
            return None;
        }
        self.0.get(newest).map(|op| format!("{:?} was acknowledged", op.action))
    }

    /// What an earlier read showed that is newer than what this one shows, if there is such.
    fn back(&self, read: &Op, shown: Option<&str>, ops: &[&'h Op]) -> Option<&'h str> {
        let now = self.place(shown?)?;
        if !self.0.get(now)?.is_acknowledged() {
            return None;
        }
        ops.iter().filter(|earlier| earlier.ended < read.began).find_map(|earlier| {
            let Outcome::Shown(Some(value)) = &earlier.outcome else { return None };
            self.place(value).is_some_and(|then| then > now).then_some(value.as_str())
        })
    }

    fn place(&self, value: &str) -> Option<usize> {
        self.0.iter().position(|op| op.written() == Some(value))
    }
}
