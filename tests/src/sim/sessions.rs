//! Sessions: what one read showed, no later read goes behind, whoever reads and wherever.
//!
//! The checker of registers judges by what clients were told, so it excuses a write of which
//! nobody knows when it took effect. The watch over the mints knows more: which values a mint
//! covered, and which of two was minted later. A value that was read is on R copies, or was
//! written back to W, before its reader was told; so a later read that shows another value must
//! not show
//!
//! ```text
//! covered    one whose every dot was covered by every mint of the value that was read before
//! earlier    one whose every dot is earlier than every dot of that value and does not cover it,
//!            where nobody deletes (blind writes are seen in the order of their dots; a DEL may
//!            cover the later of two values beside each other and leave the earlier)
//! ```
//! A SET that minted a second time has two dots: it may stand where either stands, so both must be
//! behind before its value counts as behind.
//!
//! KV.GET shows all values: a later one shows none that is covered by one shown before, and still
//! shows those that nobody has replaced.
//!
//! As for registers this is what R + W > N, W > N/2 and R > N/2 promise over primaries; with
//! fallbacks counted only the reads of the audit are bound, and to each other. Then, in any run
//! whose replicas became equal, GET must show
//!
//! ```text
//! latest     a value that KV.GET shows too, and none whose every dot is earlier than every dot of
//!            another one that it shows; nil only if that is empty or somebody deleted
//! ```

use std::collections::BTreeMap;

use super::checkers::{Rules, Violation};
use super::history::{Action, EVERY_KEY, Op, Outcome};
use super::run::is_audit;
use super::watch::Mints;

/// The name under which it tells what it found.
const CHECKER: &str = "session";

/// The reads that went back behind what an earlier read had shown.
#[must_use]
pub fn backwards(mints: &Mints, ops: &[Op], rules: &Rules) -> Vec<Violation> {
    let mut found = Vec::new();
    let flushed = ops.iter().any(|op| op.action == Action::Flush);
    let mut keys = BTreeMap::<&str, Vec<&Op>>::new();
    for op in ops.iter().filter(|op| op.key != EVERY_KEY && Mints::watches(&op.key)) {
        keys.entry(&op.key).or_default().push(op);
    }
    for (key, mut ops) in keys {
        let by_time = !flushed && ops.iter().all(|op| keeps_order(op));
        let deletes = flushed || ops.iter().any(|op| deletes(op));
        if rules.sloppy {
            ops.retain(|op| is_audit(op));
        }
        if rules.settled {
            let is_earlier = |value: &str, than: &str| mints.is_behind(key, value, than, true);
            let late = not_the_latest(&ops, deletes, is_earlier);
            found.extend(late.map(|what| Violation { checker: CHECKER, key: key.into(), what }));
        }
        let is_behind = |value: &str, than: &str| mints.is_behind(key, value, than, by_time);
        found.extend(behind(&ops, is_behind).map(|(read, value, than)| Violation {
            checker: CHECKER,
            key: key.into(),
            what: format!("node {} shows {value} after {than} had been read", read.node),
        }));
        if !flushed {
            let is_covered = |value: &str, than: &str| mints.is_behind(key, value, than, false);
            let is_replaced = |value: &str| mints.is_replaced(key, value);
            let looks = went_back(&ops, is_covered, is_replaced);
            found.extend(looks.map(|what| Violation { checker: CHECKER, key: key.into(), what }));
        }
    }
    found
}

/// Whether an operation may leave nothing where there was something.
fn deletes(op: &Op) -> bool {
    let kind = matches!(op.action, Action::Delete | Action::DeleteSeen { .. });
    kind && op.may_have_written()
}

/// What is wrong with the GETs of an audit beside what KV.GET shows there.
fn not_the_latest(
    ops: &[&Op],
    deletes: bool,
    is_earlier: impl Fn(&str, &str) -> bool,
) -> impl Iterator<Item = String> {
    let audits: Vec<&Op> = ops.iter().copied().filter(|op| is_audit(op)).collect();
    let all = audits.iter().find_map(|op| match &op.outcome {
        Outcome::AllShown(values) => Some(values.as_slice()),
        _ => None,
    });
    let gets = audits.into_iter().filter(|op| op.action == Action::Get);
    gets.filter_map(move |op| {
        let (all, node) = (all?, op.node);
        let Some(value) = op.shown()? else {
            let none = all.is_empty() || deletes;
            return (!none).then(|| format!("node {node} shows nothing beside {all:?}"));
        };
        if !all.iter().any(|other| other == value) {
            return Some(format!("node {node} shows {value}, which is not among {all:?}"));
        }
        let later = all.iter().find(|other| *other != value && is_earlier(value, other))?;
        Some(format!("node {node} shows {value} and not {later}, which is later"))
    })
}

/// Whether an operation leaves values in the order of their dots.
fn keeps_order(op: &Op) -> bool {
    matches!(op.action, Action::Set(_) | Action::Get | Action::Siblings)
}

/// The reads that show a value behind one that an earlier read had shown, with both.
fn behind<'h>(
    ops: &[&'h Op],
    is_behind: impl Fn(&str, &str) -> bool,
) -> impl Iterator<Item = (&'h Op, &'h str, &'h str)> {
    let read = |op: &&'h Op| Some((*op, op.shown()??)).filter(|(op, _)| op.action == Action::Get);
    let reads: Vec<(&Op, &str)> = ops.iter().filter_map(read).collect();
    let mut first_told = BTreeMap::<&str, u64>::new();
    for (op, value) in &reads {
        let first = first_told.entry(*value).or_insert(u64::MAX);
        *first = op.ended.min(*first);
    }
    let mut known = BTreeMap::<(&str, &str), bool>::new();
    reads.into_iter().filter_map(move |(op, value)| {
        let before = first_told.iter().filter(|(_, told)| **told < op.began);
        let mut others = before.map(|(other, _)| *other).filter(|other| *other != value);
        let than = others
            .find(|than| *known.entry((value, *than)).or_insert_with(|| is_behind(value, than)))?;
        Some((op, value, than))
    })
}

/// What is wrong with reads of all values beside earlier ones.
fn went_back<'h>(
    ops: &[&'h Op],
    is_covered: impl Fn(&str, &str) -> bool,
    is_replaced: impl Fn(&str) -> bool,
) -> impl Iterator<Item = String> {
    let look = |op: &&'h Op| match &op.outcome {
        Outcome::AllShown(values) => Some((*op, values.as_slice())),
        _ => None,
    };
    let looks: Vec<(&Op, &[String])> = ops.iter().filter_map(look).collect();
    let mut first_told = BTreeMap::<&str, u64>::new();
    for (op, values) in &looks {
        for value in *values {
            let first = first_told.entry(value).or_insert(u64::MAX);
            *first = op.ended.min(*first);
        }
    }
    looks.into_iter().filter_map(move |(op, values)| {
        let mut before =
            first_told.iter().filter(|(_, told)| **told < op.began).map(|(than, _)| than);
        before.find_map(|than| {
            let node = op.node;
            if let Some(value) = values.iter().find(|value| is_covered(value, than)) {
                return Some(format!("node {node} shows {value} after {than} had been read"));
            }
            let gone = !values.iter().any(|value| value == than) && !is_replaced(than);
            gone.then(|| format!("node {node} does not show {than}, read before, replaced by none"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::history::History;
    use crate::sim::run::AUDITOR;

    /// Reads one after another, and what they show.
    fn reads(shown: &[&str]) -> Vec<Op> {
        let mut history = History::default();
        for value in shown {
            let read = history.begin(0, 0, "c:1", Action::Get);
            history.end(read, Outcome::Shown(Some((*value).to_owned())), 0);
        }
        history.take_ops()
    }

    #[test]
    fn a_read_behind_an_earlier_one_is_found_and_one_beside_it_is_not() {
        let order = |value: &str, than: &str| value < than;
        let found = |shown: &[&str]| {
            let ops = reads(shown);
            let ops: Vec<&Op> = ops.iter().collect();
            behind(&ops, order).map(|(_, value, than)| format!("{value} {than}")).collect()
        };
        let found: [Vec<String>; 2] = [found(&["a", "b", "b", "c"]), found(&["a", "c", "b"])];
        assert_eq!(found, [vec![], vec!["b c".to_owned()]]);
    }

    #[test]
    fn of_all_values_none_comes_back_and_none_goes_without_a_reason() {
        let found = |shown: [&[&str]; 2]| {
            let mut history = History::default();
            for values in shown {
                let read = history.begin(0, 0, "m:1", Action::Siblings);
                let values = values.iter().map(|value| (*value).to_owned()).collect();
                history.end(read, Outcome::AllShown(values), 0);
            }
            let ops = history.take_ops();
            let ops: Vec<&Op> = ops.iter().collect();
            // b was put over a, and over nothing else.
            went_back(&ops, |old, new| (old, new) == ("a", "b"), |value| value == "a").count()
        };
        assert_eq!(found([&["a", "c"], &["b", "c"]]), 0);
        assert_eq!(found([&["a"], &["b", "c"]]), 0);
        assert_eq!(found([&["b"], &["a", "b"]]), 1, "a was covered");
        assert_eq!(found([&["b", "c"], &["b"]]), 1, "nobody replaced c");
        assert_eq!(found([&["c"], &[]]), 1);
    }

    #[test]
    fn when_all_is_healed_the_latest_of_all_values_is_shown() {
        let found = |all: &[&str], shown: Option<&str>, deletes: bool| {
            let mut history = History::default();
            let look = history.begin(AUDITOR, 0, "c:1", Action::Siblings);
            let values = all.iter().map(|value| (*value).to_owned()).collect();
            history.end(look, Outcome::AllShown(values), 0);
            let read = history.begin(AUDITOR, 1, "c:1", Action::Get);
            history.end(read, Outcome::Shown(shown.map(Into::into)), 0);
            let ops = history.take_ops();
            let ops: Vec<&Op> = ops.iter().collect();
            not_the_latest(&ops, deletes, |value, than| value < than).count()
        };
        assert_eq!(found(&["a", "b"], Some("b"), false), 0);
        assert_eq!(found(&["a", "b"], Some("a"), false), 1, "the earlier");
        assert_eq!(found(&["a", "b"], Some("c"), false), 1, "from nowhere");
        assert_eq!(found(&["a"], None, false), 1, "nobody deleted");
        assert_eq!(found(&["a"], None, true), 0, "a later delete beside it");
        assert_eq!(found(&[], None, false), 0);
    }

    #[test]
    fn a_read_that_began_before_the_other_ended_may_show_either() {
        let mut history = History::default();
        let early = history.begin(0, 0, "c:1", Action::Get);
        let late = history.begin(1, 1, "c:1", Action::Get);
        history.end(late, Outcome::Shown(Some("b".into())), 0);
        history.end(early, Outcome::Shown(Some("a".into())), 0);
        let ops = history.take_ops();
        let ops: Vec<&Op> = ops.iter().collect();
        assert_eq!(behind(&ops, |value, than| value < than).count(), 0);
    }
}
