//! Taking hints: a call's as one locked pass, one append, one wait for its sync.

use bytes::Bytes;
use kv_client::NodeId;
use kv_quorum::{Actor, Context, Dot, Mark, Record};

use crate::keys::{HINTS, KeyRef, hint_row};
use crate::plug::storage::{StorageError, Ticket};
use crate::replica::serve::{BELOW_MARK, op_failure, told};
use crate::replica::{Replica, Verdict};
use crate::wire::{OpFailure, PeerOut};

/// A record to keep for a node that is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// For whom.
    pub target: NodeId,
    /// The storage key.
    pub key: Bytes,
    /// The encoded record.
    pub record: Bytes,
    /// Whether it counts towards W. One that does not has less room.
    pub counted: bool,
    /// Whether it was written just now: then it counts only if it lives on.
    pub minted: bool,
}

/// What putting a call's hints came to, before anybody waits for their sync.
struct Put {
    outs: Vec<PeerOut>,
    /// For each hint the live dots here that it does not cover, and the coverage around them.
    seen: Vec<(Vec<Dot>, Context)>,
    ticket: Result<Ticket, StorageError>,
}

/// The rows that a call's hints need under their locks, and which hint each is looked at for.
struct Rows {
    rows: Vec<Bytes>,
    /// (hint, whether the row is the hint's own).
    of: Vec<(usize, bool)>,
}

impl Rows {
    fn of(hints: &[Hint], targets: &[NodeId]) -> Self {
        let mut all = Self { rows: Vec::new(), of: Vec::new() };
        for (place, hint) in hints.iter().enumerate() {
            for target in targets.iter().filter(|target| **target != hint.target) {
                all.rows.push(hint_row(*target, &hint.key));
                all.of.push((place, false));
            }
            all.rows.push(hint_row(hint.target, &hint.key));
            all.of.push((place, true));
        }
        all
    }
}

impl Replica {
    /// Keeps hints that peers sent, durably: one answer for each, in order, as a replica's `apply`
    /// would answer. `own` and `alarm` as there.
    pub async fn keep_hints(
        &self,
        hints: &[Hint],
        own: impl Fn(&[u8]) -> Actor + Send + Sync,
        alarm: impl FnMut(&[u8]) + Send,
    ) -> Vec<PeerOut> {
        let Put { mut outs, seen, ticket } = self.put_hints(hints, own, alarm).await;
        let durable = match ticket {
            Ok(ticket) => self.durable(ticket).await,
            Err(error) => Err(error),
        };
        if let Err(error) = durable {
            let failure = op_failure(&error);
            outs.fill_with(|| PeerOut::Failed(failure.clone()));
            return outs;
        }
        for (answer, (uncovered, coverage)) in outs.iter_mut().zip(&seen) {
            if !uncovered.is_empty() && matches!(answer, PeerOut::Applied { .. }) {
                *answer = told(true, coverage, uncovered);
            }
        }
        outs
    }

    /// Keeps hints of this node's own writes for primaries that are down and unserved: beyond W,
    /// so nobody waits for them. Says how many found no room.
    pub async fn keep_beyond(&self, hints: &[Hint]) -> usize {
        let mut refused = 0;
        let mut left = hints;
        while !left.is_empty() {
            let (chunk, rest) = left.split_at(fitting(left));
            left = rest;
            let Put { outs, ticket, .. } =
                self.put_hints(chunk, |_| Actor::default(), |_| {}).await;
            refused += match ticket {
                Ok(_) => outs.iter().filter(|out| matches!(out, PeerOut::Failed(_))).count(),
                Err(_) => chunk.len(),
            };
        }
        refused
    }

    async fn put_hints(
        &self,
        hints: &[Hint],
        own: impl Fn(&[u8]) -> Actor + Send + Sync,
        mut alarm: impl FnMut(&[u8]) + Send,
    ) -> Put {
        let Some(_entered) = self.hints.enter() else {
            let why = OpFailure::Refused(UNCOUNTED.into());
            let outs = hints.iter().map(|_| PeerOut::Failed(why.clone())).collect();
            return Put { outs, seen: Vec::new(), ticket: Ok(Ticket::DURABLE) };
        };
        let mut outs: Vec<PeerOut> = hints.iter().map(judge).collect();
        let mut seen: Vec<(Vec<Dot>, Context)> = vec![Default::default(); hints.len()];
        let mut claims: Vec<bool> = vec![false; hints.len()];
        let Rows { rows, of } = Rows::of(hints, &self.hint_targets());
        let slices: Vec<&[u8]> = rows.iter().map(|row| &row[..]).collect();
        let mut pending = 0;
        let update = self
            .update(&slices, &mut |place, stored, out| {
                let Some((at, owns)) = of.get(place).copied() else { return Verdict::Keep };
                let (Some(hint), Some(answer)) = (hints.get(at), outs.get_mut(at)) else {
                    return Verdict::Keep;
                };
                if matches!(answer, PeerOut::Failed(_)) {
                    return Verdict::Keep;
                }
                // Dead at once, or below what this node has told that it holds no hint of: to
                // acknowledge that would be to acknowledge nothing.
                let disowned = hint.minted && self.hints.is_disowned(&hint.record);
                let Some(incoming) = self.alive(&hint.record).filter(|_| !disowned) else {
                    if hint.minted {
                        *answer = PeerOut::Failed(OpFailure::Refused(BELOW_MARK.into()));
                    }
                    return Verdict::Keep;
                };
                if stored.is_some_and(|stored| kv_quorum::peek(stored).is_err()) {
                    let why = "a stored hint is damaged".to_owned();
                    *answer = PeerOut::Failed(OpFailure::Storage(why));
                    return Verdict::Keep;
                }
                if let (true, Some(claim)) = (owns, claims.get_mut(at)) {
                    *claim = self.forgot(&hint.key, stored, &incoming, own(&hint.key));
                }
                let start = out.len();
                let row = rows.get(place).map_or(&[][..], |row| &row[..]);
                let (verdict, uncovered) = self.join(row, stored, &incoming, Mark::NONE, out);
                if let Some((dots, coverage)) = seen.get_mut(at) {
                    note(stored, uncovered, dots, coverage);
                }
                if !owns || verdict != Verdict::Write {
                    return Verdict::Keep;
                }
                let before = stored.map_or(0, <[u8]>::len);
                let key_bytes = rows.get(place).map_or(0, Bytes::len);
                let row = if stored.is_none() { key_bytes } else { 0 };
                let more = ((out.len() - start) + row).saturating_sub(before) as u64;
                if more > 0 && !self.hints.has_room(pending + more, hint.counted) {
                    *answer = PeerOut::Failed(OpFailure::Refused(FULL.into()));
                    return Verdict::Keep;
                }
                pending += more;
                Verdict::Write
            })
            .await;
        for (hint, _) in hints.iter().zip(claims).filter(|(_, claims)| *claims) {
            alarm(&hint.key);
        }
        Put { outs, seen, ticket: update.map(|update| update.ticket) }
    }
}

/// What a full log answers.
pub(crate) const FULL: &str = "the hint log is full";
/// What a log answers after a restart or damage, until its rows are counted.
pub(crate) const UNCOUNTED: &str = "the hints of this node are being counted";

/// Bytes of hints that are put into one append; a larger one goes alone.
const APPEND_BYTES_MAX: usize = 256 * 1_024;

/// How many of the first hints fit one append; at least one.
fn fitting(hints: &[Hint]) -> usize {
    let mut bytes = 0;
    let fits = hints.iter().take_while(|hint| {
        bytes += hint.key.len() + hint.record.len();
        bytes <= APPEND_BYTES_MAX
    });
    fits.count().clamp(1, hints.len().max(1))
}

/// Whether a hint may be kept at all.
fn judge(hint: &Hint) -> PeerOut {
    let keyspace = KeyRef::parse(&hint.key).map(|key| key.keyspace);
    let sound = keyspace.is_some_and(|number| number != HINTS);
    if sound && kv_quorum::peek(&hint.record).is_ok() {
        PeerOut::Applied { complete: true, uncovered: Vec::new(), coverage: Bytes::new() }
    } else {
        PeerOut::Failed(OpFailure::Malformed)
    }
}

/// Adds what one row showed to what a hint's answer tells.
fn note(stored: Option<&[u8]>, uncovered: Vec<Dot>, dots: &mut Vec<Dot>, coverage: &mut Context) {
    if uncovered.is_empty() {
        return;
    }
    dots.extend(uncovered);
    dots.sort_unstable();
    dots.dedup();
    if let Some(record) = stored.and_then(|stored| Record::decode(stored).ok()) {
        coverage.join(record.coverage());
    }
}
