//! What peers ask of this replica: joins and reads, a call's operations as one batch each.
//!
//! All joins of a call are one locked pass, one append and one wait for its sync; all reads are one
//! look. An answer goes out only when what it tells is durable.

use bytes::Bytes;
use kv_quorum::{Actor, Context, Dot, EncodedRecord, HybridTime, Mark, MarkedOutcome, Record};

use super::{Replica, Verdict};
use crate::coordinator::fingerprint;
use crate::plug::storage::{PageRequest, StorageError};
use crate::teeth::{Bug, planted};
use crate::wire::{OpFailure, PeerOut};

/// A join that a peer asks for.
pub struct Join {
    /// The storage key.
    pub key: Bytes,
    /// The encoded record.
    pub record: Bytes,
    /// The mark under which the peer holds it; none, where it does not say.
    pub mark: Mark,
    /// Whether its newest dot was minted just now.
    pub minted: bool,
}

/// Rows in key order, and whether the range is exhausted.
pub(crate) type Rows = (Vec<(Bytes, Bytes)>, bool);

impl Replica {
    /// Appends to `out` the join of what is stored under `key` and what came in from one whose
    /// partition has `their_mark` (none, where that is not known); and the dots that were live
    /// here and that the incoming record did not cover. What is dead here under the flush mark or
    /// the partition's mark is not joined in.
    pub fn join(
        &self,
        key: &[u8],
        stored: Option<&[u8]>,
        incoming: &[u8],
        their_mark: Mark,
        out: &mut Vec<u8>,
    ) -> (Verdict, Vec<Dot>) {
        match self.alive(incoming) {
            Some(incoming) => self.join_as_it_is(key, stored, &incoming, their_mark, out),
            // Nothing here, and what there is not is dead below their mark.
            None if their_mark != Mark::NONE => {
                (self.join_absence(key, stored, their_mark, out), Vec::new())
            }
            // Dead as it is, it replaced nothing that lives here, and its minter is to know.
            None => (Verdict::Keep, uncovered_by(stored, incoming)),
        }
    }

    /// `join` with one whose partition has `their_mark` and who has nothing under `key`.
    pub fn join_absence(
        &self,
        key: &[u8],
        stored: Option<&[u8]>,
        their_mark: Mark,
        out: &mut Vec<u8>,
    ) -> Verdict {
        let nothing = EncodedRecord::EMPTY.as_bytes();
        self.join_as_it_is(key, stored, nothing, their_mark, out).0
    }

    fn join_as_it_is(
        &self,
        key: &[u8],
        stored: Option<&[u8]>,
        incoming: &[u8],
        their_mark: Mark,
        out: &mut Vec<u8>,
    ) -> (Verdict, Vec<Dot>) {
        let mark = self.mark_for(key);
        match kv_quorum::join_encoded_under(stored, mark, incoming, their_mark, out) {
            Ok(joined) => match joined.outcome {
                MarkedOutcome::Unchanged => (Verdict::Keep, joined.uncovered),
                MarkedOutcome::Incoming => {
                    out.extend_from_slice(incoming);
                    (Verdict::Write, joined.uncovered)
                }
                MarkedOutcome::Merged => (Verdict::Write, joined.uncovered),
                MarkedOutcome::Empty => (Verdict::Remove, joined.uncovered),
            },
            // The caller has checked the incoming bytes; stored ones that can't be read stay as
            // they are, and are found out by the read that follows.
            Err(_) => (Verdict::Keep, Vec::new()),
        }
    }

    /// Joins records that peers sent, durably. `own` says, for a storage key, the actor under
    /// which this node mints there now; `alarm` is called for a key whose incoming record covers
    /// dots of that actor which this replica doesn't hold.
    pub async fn apply(
        &self,
        joins: &[Join],
        own: impl Fn(&[u8]) -> Actor + Send + Sync,
        mut alarm: impl FnMut(&[u8]) + Send,
    ) -> Vec<PeerOut> {
        let mut outs: Vec<PeerOut> = Vec::with_capacity(joins.len());
        outs.extend(joins.iter().map(|join| PeerOut::Applied {
            complete: self.standings.is_complete_for(&join.key),
            uncovered: Vec::new(),
            coverage: Bytes::new(),
        }));
        let keys: Vec<&[u8]> = joins.iter().map(|join| &join.key[..]).collect();
        let update = self
            .update_each(&keys, &mut |place, stored, out| {
                let (Some(join), Some(slot)) = (joins.get(place), outs.get_mut(place)) else {
                    return Verdict::Keep;
                };
                if kv_quorum::peek(&join.record).is_err() {
                    *slot = PeerOut::Failed(OpFailure::Malformed);
                    return Verdict::Keep;
                }
                if self.forgot(&join.key, stored, &join.record, own(&join.key)) {
                    alarm(&join.key);
                }
                if stored.is_some_and(|stored| kv_quorum::peek(stored).is_err()) {
                    *slot =
                        PeerOut::Failed(OpFailure::Storage("the stored record is damaged".into()));
                    return Verdict::Keep;
                }
                if join.minted && is_stillborn(self.mark_for(&join.key), stored, &join.record) {
                    *slot = PeerOut::Failed(OpFailure::Refused(BELOW_MARK.into()));
                    return Verdict::Keep;
                }
                let (verdict, uncovered) =
                    self.join(&join.key, stored, &join.record, join.mark, out);
                if !uncovered.is_empty() {
                    let complete = self.standings.is_complete_for(&join.key);
                    let coverage = stored.and_then(|stored| Record::decode(stored).ok());
                    let coverage = coverage.map_or_else(Context::new, |it| it.coverage().clone());
                    *slot = told(complete, &coverage, &uncovered);
                }
                verdict
            })
            .await;
        let durable = match update {
            Ok(update) => {
                if let Some((places, error)) = update.failed {
                    let failure = op_failure(&error);
                    for at in places {
                        if let Some(out) = outs.get_mut(at as usize) {
                            *out = PeerOut::Failed(failure.clone());
                        }
                    }
                }
                self.durable(update.ticket).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = durable {
            let failure = op_failure(&error);
            outs.fill_with(|| PeerOut::Failed(failure.clone()));
        }
        for (join, out) in joins.iter().zip(&mut outs) {
            // What was lost since it was asked first may be what the look did not find.
            if let PeerOut::Applied { complete, .. } = out {
                *complete &= self.standings.is_complete_for(&join.key);
            }
        }
        outs
    }

    /// Whether an incoming record covers dots of this node's own tenure that this replica does not
    /// cover: by what is stored, by the partition's mark, by the flush mark.
    pub(super) fn forgot(
        &self,
        key: &[u8],
        stored: Option<&[u8]>,
        incoming: &[u8],
        own: Actor,
    ) -> bool {
        let claimed = kv_quorum::covered_until(incoming, own).unwrap_or(HybridTime::ZERO);
        if claimed == HybridTime::ZERO {
            return false;
        }
        let held =
            stored.map_or(Ok(HybridTime::ZERO), |stored| kv_quorum::covered_until(stored, own));
        let forgotten = self.mark_for(key).time().max(self.flushed());
        held.is_ok_and(|held| claimed > held.max(forgotten))
    }

    /// Reads records for a peer: a fingerprint that is the same is answered by `Same`. `hinted`
    /// joins in the hints about the keys, as a fallback does.
    pub async fn look_up(
        &self,
        digest_key: u64,
        reads: &[(Bytes, Option<u128>)],
        hinted: bool,
    ) -> Vec<PeerOut> {
        let mut outs: Vec<PeerOut> = Vec::with_capacity(reads.len());
        outs.extend(reads.iter().map(|(key, _)| PeerOut::Record {
            complete: self.standings.is_complete_for(key),
            mark: self.mark_for(key).time().to_bits(),
            record: Bytes::new(),
        }));
        let keys: Vec<&[u8]> = reads.iter().map(|(key, _)| &key[..]).collect();
        let mut show = |place: usize, record: Option<&[u8]>| {
            let (Some((key, have)), Some(slot)) = (reads.get(place), outs.get_mut(place)) else {
                return;
            };
            // What was lost, or not filled yet, when it was looked for may be there now.
            let was = matches!(slot, PeerOut::Record { complete: true, .. });
            let complete = was && self.standings.is_complete_for(key);
            let print = have.and_then(|_| fingerprint(digest_key, record));
            if have.is_some() && print.is_none() {
                self.damaged_record(key, record);
            }
            let same = have.is_some() && *have == print;
            *slot = if same {
                PeerOut::Same { complete }
            } else {
                let record = record.map_or_else(Bytes::new, Bytes::copy_from_slice);
                // It rose since, or something was lost: the lower one speaks for what was read.
                let before = if let PeerOut::Record { mark, .. } = slot { *mark } else { 0 };
                let mark = self.mark_for(key).time().to_bits().min(before);
                PeerOut::Record { complete, mark, record }
            };
        };
        let read = if hinted {
            self.read_hinted(&keys, &mut show).await
        } else {
            self.read(&keys, &mut show).await
        };
        let durable = match read {
            Ok(_) if planted(Bug::ShowBeforeSync) => Ok(()),
            Ok(ticket) => self.durable(ticket).await,
            Err(error) => Err(error),
        };
        if let Err(error) = durable {
            let failure = op_failure(&error);
            outs.fill_with(|| PeerOut::Failed(failure.clone()));
        }
        outs
    }

    /// Whether this replica holds a write durably: the dot is covered (by the record, or by the
    /// mark, under which what was superseded may be collected), and where it is still live its
    /// register is as new as `stamp`.
    ///
    /// # Errors
    /// Nothing is known of the key.
    pub async fn holds(
        &self,
        key: &[u8],
        dot: Dot,
        stamp: HybridTime,
    ) -> Result<bool, StorageError> {
        if dot.time <= self.flushed() {
            return Ok(true);
        }
        // As it is before the read: a dot below it was here, and what is not live now is dead.
        let mark = self.mark_for(key);
        let (mut covered, mut new_enough) = (false, true);
        let ticket = self
            .read(&[key], &mut |_, record| {
                let Some(record) = record else { return };
                match Record::decode(record) {
                    Ok(record) => {
                        let live = record.find(dot);
                        covered = record.coverage().covers(dot);
                        new_enough = live.is_none_or(|live| live.expiry.stamp >= stamp);
                    }
                    Err(_) => new_enough = false,
                }
            })
            .await?;
        self.durable(ticket).await?;
        // None, if something was lost meanwhile.
        let mark = mark.min(self.mark_for(key));
        Ok(new_enough && (covered || mark.covers(dot)))
    }

    /// A page of whole records; empty ones stand for what is flushed and not removed yet.
    ///
    /// # Errors
    /// Nothing is known of the range.
    pub async fn page(&self, page: PageRequest) -> Result<Rows, StorageError> {
        let page = self.engine.scan(page).await?;
        self.durable(page.ticket).await?;
        let rows = page.rows.into_iter().map(|(key, record)| {
            let left = self.left_of(&record).unwrap_or_default();
            (key, left)
        });
        Ok((rows.collect(), page.end))
    }

    /// A page of records without their values' bytes: what a scan needs to know what is alive.
    ///
    /// # Errors
    /// Nothing is known of the range.
    pub async fn page_of_skeletons(&self, page: PageRequest) -> Result<Rows, StorageError> {
        let page = self.engine.scan(page).await?;
        self.durable(page.ticket).await?;
        let rows = page.rows.into_iter().map(|(key, record)| {
            let skeleton = match Record::decode(&record) {
                Ok(record) => Bytes::from(record.map(|_| Bytes::new()).to_bytes()),
                Err(_) => record,
            };
            (key, skeleton)
        });
        Ok((rows.collect(), page.end))
    }
}

/// Said of a write whose minter's clock lags further behind than a mark.
pub(super) const BELOW_MARK: &str = "below what all replicas agreed on: it would be dead at once";

/// Whether the newest dot of a record would be dead as soon as it is here: the mark covers it, and
/// nothing that is stored does. To acknowledge that would be to acknowledge nothing.
fn is_stillborn(mark: Mark, stored: Option<&[u8]>, incoming: &[u8]) -> bool {
    if !kv_quorum::latest_of(incoming).is_ok_and(|latest| latest <= mark.time()) {
        return false;
    }
    let Ok(incoming) = Record::decode(incoming) else { return false };
    let newest = incoming.live().iter().map(|version| version.dot).max_by_key(|dot| dot.time);
    let stored = stored.and_then(|stored| Record::decode(stored).ok());
    newest.is_some_and(|dot| {
        mark.covers(dot) && !stored.is_some_and(|stored| stored.coverage().covers(dot))
    })
}

/// The live dots of what is stored that a record does not cover.
fn uncovered_by(stored: Option<&[u8]>, incoming: &[u8]) -> Vec<Dot> {
    let stored = stored.and_then(|stored| Record::decode(stored).ok());
    let (Some(stored), Ok(incoming)) = (stored, Record::decode(incoming)) else {
        return Vec::new();
    };
    let dots = stored.live().iter().map(|version| version.dot);
    dots.filter(|dot| !incoming.coverage().covers(*dot)).collect()
}

pub(super) fn told(complete: bool, coverage: &Context, uncovered: &[Dot]) -> PeerOut {
    let coverage = Bytes::from(coverage.to_bytes());
    let uncovered = uncovered
        .iter()
        .map(|dot| (dot.actor.node, dot.actor.tenure, dot.time.to_bits()))
        .collect();
    PeerOut::Applied { complete, uncovered, coverage }
}

pub(super) fn op_failure(error: &StorageError) -> OpFailure {
    match error {
        StorageError::Full(_)
        | StorageError::DiskFull
        | StorageError::Busy(_)
        | StorageError::Closed => OpFailure::Storage(error.to_string()),
        _ => OpFailure::Unknown(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use kv_quorum::{Draft, Limits};

    use super::*;

    fn written(ms: u64, seen: &Context) -> Record<&'static [u8]> {
        let mut record = Record::new();
        let dot = Dot::new(Actor::new(1, 1), HybridTime::new(ms, 0));
        record.mint(dot, seen, Draft::string(&b"v"[..]), &Limits::default()).expect("a new dot");
        record
    }

    #[test]
    fn what_is_minted_below_the_mark_is_stillborn_unless_it_is_known_here() {
        let mark = Mark::at(HybridTime::new(50, 0));
        let (low, high) = (written(40, &Context::new()), written(60, &Context::new()));
        let (low_bytes, high_bytes) = (low.to_bytes(), high.to_bytes());
        assert!(is_stillborn(mark, None, &low_bytes));
        assert!(!is_stillborn(mark, None, &high_bytes), "it lies above");
        assert!(!is_stillborn(Mark::NONE, None, &low_bytes), "nothing is known to be dead");
        assert!(!is_stillborn(mark, Some(&low_bytes), &low_bytes), "it is here");
        let over = written(60, low.coverage());
        assert!(!is_stillborn(mark, Some(&over.to_bytes()), &low_bytes), "it was replaced here");
    }
}
