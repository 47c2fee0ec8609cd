//! Registers: what GET shows of a key that clients overwrite and delete, whoever they are and
//! whatever their nodes' clocks say.
//!
//! ```text
//! stale   a read shows a value although a SET or DEL that began after that value's write was
//!         acknowledged had itself been acknowledged, or shown, before the read began
//! gone    a read shows nil although an acknowledged or shown value can't have been deleted
//! ```
//! So reads never go back, in one session or between two: what one read showed, the write-back of
//! that read makes the next one see. A write that was not answered yet may take effect at any time,
//! and once more after a read showed it: a SET that mints a second time does, over what was written
//! meanwhile.
//!
//! This is what R + W > N, W > N/2 and R > N/2 promise over primaries. With fallbacks counted it is
//! promised again when all is healed, of what is written then. Of two SETs that met two sides of a
//! cut the later dot wins, whatever their clients were told and when; so of what was written before
//! only this is left for the reads of the audit:
//!
//! ```text
//! gone    nil is shown although a SET was acknowledged and nobody can have deleted anything
//! apart   two reads of one key show two values, although nothing is written any more
//! ```
//! That it is the latest dot which wins is judged with the watch over the mints (`sessions`), and
//! what is written afterwards by `alive`.

use std::collections::BTreeMap;

use super::{Checker, Rules, Violation, by_key, flushes};
use crate::sim::history::{Action, Op};
use crate::sim::run::is_audit;

/// Looks for reads that show too old a value, or none where there is one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Register;

impl Checker for Register {
    fn name(&self) -> &'static str {
        "register"
    }

    fn check(&self, ops: &[Op], rules: &Rules) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut find = |key: &str, what: String| {
            found.push(Violation { checker: "register", key: key.into(), what });
        };
        let flushes = flushes(ops);
        for (key, ops) in by_key(ops) {
            if let Some(what) = apart(&ops).filter(|_| rules.settled) {
                find(key, what);
            }
            let Some(history) = KeyHistory::of(&ops, &flushes) else { continue };
            for read in &ops {
                let Some(shown) = read.shown() else { continue };
                let what = match shown {
                    _ if rules.sloppy && !is_audit(read) => None,
                    None if rules.sloppy => history.gone_at_last(read),
                    Some(_) if rules.sloppy => None,
                    Some(value) => history.stale(read, value),
                    None => history.gone(read),
                };
                if let Some(what) = what {
                    find(key, what);
                }
            }
        }
        found
    }
}

/// Two reads of the audit that show two values of one key.
fn apart(ops: &[&Op]) -> Option<String> {
    if ops.iter().any(|op| matches!(op.action, Action::SetUntil { .. })) {
        return None;
    }
    let of_audit = |op: &&&Op| is_audit(op) && op.action == Action::Get;
    let mut shown = ops.iter().filter(of_audit).filter_map(|op| Some((op.node, op.shown()?)));
    let (node, first) = shown.next()?;
    let (other, value) = shown.find(|(_, value)| *value != first)?;
    Some(format!("node {node} shows {first:?} and node {other} {value:?} when all is healed"))
}

/// The writes of a key, and when each was surely there.
struct KeyHistory<'h> {
    /// SETs, with the place from which on they are surely there.
    sets: Vec<(&'h Op, u64)>,
    /// DELs and FLUSHALLs.
    kills: Vec<&'h Op>,
    /// Whether values may end by themselves.
    ends: bool,
}

impl<'h> KeyHistory<'h> {
    /// None where somebody puts siblings.
    fn of(ops: &[&'h Op], flushes: &[&'h Op]) -> Option<Self> {
        let siblings =
            |op: &&Op| matches!(op.action, Action::Put { .. } | Action::DeleteSeen { .. });
        if ops.iter().any(siblings) {
            return None;
        }
        let mut first_shown = BTreeMap::<&str, u64>::new();
        for op in ops {
            if let Some(Some(value)) = op.shown() {
                let first = first_shown.entry(value).or_insert(u64::MAX);
                *first = op.ended.min(*first);
            }
        }
        let set = |op: &&'h Op| {
            let acknowledged = if op.is_acknowledged() { op.ended } else { u64::MAX };
            let shown = first_shown.get(op.written()?).copied().unwrap_or(u64::MAX);
            op.may_have_written().then_some((*op, acknowledged.min(shown)))
        };
        let kill = |op: &&Op| op.action == Action::Delete && op.may_have_written();
        Some(Self {
            sets: ops.iter().filter_map(set).collect(),
            kills: ops.iter().copied().filter(kill).chain(flushes.iter().copied()).collect(),
            ends: ops.iter().any(|op| matches!(op.action, Action::SetUntil { .. })),
        })
    }

    /// Why this read must not show this value, if it must not.
    fn stale(&self, read: &Op, value: &str) -> Option<String> {
        let (set, _) = self.sets.iter().find(|(set, _)| set.written() == Some(value))?;
        let there = if set.is_acknowledged() { set.ended } else { u64::MAX };
        let newer = self.sets.iter().find(|(set, known)| {
            set.written() != Some(value) && set.began > there && *known < read.began
        });
        let killed = || {
            let over = |kill: &&&Op| {
                kill.is_acknowledged() && kill.began > there && kill.ended < read.began
            };
            self.kills.iter().find(over).copied()
        };
        let by = newer.map(|(set, _)| *set).or_else(killed)?;
        let node = read.node;
        Some(format!("node {node} shows {value}, and {:?} had been there since", by.action))
    }

    /// Why this read of the audit must show a value whatever fallbacks counted before, if it must.
    fn gone_at_last(&self, read: &Op) -> Option<String> {
        if self.ends || self.kills.iter().any(|kill| kill.began < read.ended) {
            return None;
        }
        let there = |(set, _): &&(&Op, u64)| set.is_acknowledged() && set.ended < read.began;
        let (set, _) = self.sets.iter().find(there)?;
        let node = read.node;
        Some(format!("node {node} shows nothing at last, and nobody deleted {:?}", set.written()))
    }

    /// Why this read must show a value, if it must.
    fn gone(&self, read: &Op) -> Option<String> {
        if self.ends {
            return None;
        }
        let lost = |(set, there): &&(&Op, u64)| {
            let kills = |kill: &&Op| {
                kill.began < read.ended && !(kill.is_acknowledged() && kill.ended < set.began)
            };
            *there < read.began && !self.kills.iter().any(kills)
        };
        let (set, _) = self.sets.iter().find(lost)?;
        let node = read.node;
        Some(format!("node {node} shows nothing, and nobody deleted {:?}", set.written()))
    }
}
