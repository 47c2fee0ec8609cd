//! Mending what differs in a range: which keys of it, and then their records.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use kv_quorum::{EncodedRecord, HybridTime, Mark};
use kv_ring::Partition;

use super::ExchangeError;
use super::talk::Talk;
use super::wire::{ExchangeOp, ExchangeOut, Fingerprinted};
use crate::coordinator::{Coordinator, fingerprint};
use crate::keys::{KeyRef, after};
use crate::plug::storage::PageRequest;
use crate::replica::Join;
use crate::wire::{PeerOp, PeerOut};

/// Rows of one page of a list.
const LIST_ROWS_MAX: usize = 4_096;
/// Bytes of rows that are read for one page of a list, or sent in one page of records.
const PAGE_BYTES_MAX: usize = 512 * 1_024;
/// Keys that are mended with one round trip.
const MEND_KEYS_MAX: usize = 64;
/// Who lists fewer rows than one of so many takes whole pages of the other's before anything is
/// compared key by key.
const FEW_ROWS_PART: usize = 4;

/// A page of a list of this node.
pub(super) struct Listing {
    pub(super) rows: Vec<Fingerprinted>,
    /// Up to which key, inclusive; `None`: to the end of the range.
    pub(super) until: Option<Bytes>,
}

impl Talk<'_> {
    /// Compares a range key by key and mends what differs.
    pub(super) async fn mend_range(
        &mut self,
        partition: Partition,
        from: Bytes,
        to: Bytes,
    ) -> Result<(), ExchangeError> {
        let mut from = from;
        loop {
            let own = self.coordinator.list(from.clone(), to.clone()).await?;
            self.tally.rows_listed += own.rows.len() as u64;
            // Under a mark of its own it may have had what the peer still has, and must say so.
            let marked = self.coordinator.parts.replica.mark(partition) != Mark::NONE;
            if own.rows.is_empty() && own.until.is_none() && !marked {
                return self.take_range(partition, from, to).await;
            }
            let (begin, code) = (from.clone(), partition.code());
            let op = ExchangeOp::List { partition: code, from: begin, to: to.clone() };
            let ExchangeOut::Listed { rows, until, .. } = self.ask_one(op).await? else {
                return Err(ExchangeError::Confused);
            };
            let theirs = Listing { rows, until: (!until.is_empty()).then_some(until) };
            let (mut keys, until) = differing(&own, &theirs);
            if !marked && own.rows.len() * FEW_ROWS_PART < theirs.rows.len() && own.until.is_none()
            {
                let end = until.as_ref().map_or_else(|| to.clone(), |until| after(until));
                self.take_range(partition, from.clone(), end.clone()).await?;
                let own = self.coordinator.list(from.clone(), end).await?;
                keys = differing(&own, &theirs).0;
            }
            for keys in keys.chunks(MEND_KEYS_MAX) {
                self.mend_keys(keys).await?;
            }
            let Some(until) = until else { return Ok(()) };
            from = after(&until);
        }
    }

    /// Takes whole records of a range of which this node has nothing, or little.
    async fn take_range(
        &mut self,
        partition: Partition,
        from: Bytes,
        to: Bytes,
    ) -> Result<(), ExchangeError> {
        // An empty list: pages don't say whether the peer is complete.
        let (partition, nothing) = (partition.code(), to.clone());
        self.ask_one(ExchangeOp::List { partition, from: nothing, to: to.clone() }).await?;
        let mut from = from;
        loop {
            let page = PeerOp::Scan {
                from,
                to: to.clone(),
                rows_max: LIST_ROWS_MAX as u32,
                bytes_max: PAGE_BYTES_MAX as u32,
                keys_only: false,
            };
            let Some(PeerOut::Page { rows, end, mark }) = self.ask(vec![page]).await?.pop() else {
                return Err(ExchangeError::Confused);
            };
            let last = rows.last().map(|(key, _)| key.clone());
            let rows = rows.into_iter().filter(|(_, record)| !record.is_empty());
            let mark = Mark::at(HybridTime::from_bits(mark));
            let joins: Vec<Join> =
                rows.map(|(key, record)| Join { key, record, mark, minted: false }).collect();
            self.coordinator.join_all_here(&joins).await?;
            self.tally.found += joins.len() as u64;
            self.mended(joins.len());
            let Some(last) = last.filter(|_| !end) else { return Ok(()) };
            from = after(&last);
        }
    }

    /// Brings keys to the same records on both sides. A key that is the same by now costs its name
    /// and its fingerprint. Each side judges by the other's mark what the other does not have: what
    /// only one has collected yet goes from the other too, and nothing comes back.
    pub(super) async fn mend_keys(&mut self, keys: &[Bytes]) -> Result<(), ExchangeError> {
        let digest_key = self.coordinator.digest_key()?;
        let own = self.coordinator.records(keys).await?;
        let reads = keys.iter().zip(&own).map(|(key, (own, _))| PeerOp::Read {
            key: key.clone(),
            have: fingerprint(digest_key, own.as_deref()),
        });
        let answers = self.ask(reads.collect()).await?;
        let mut joins = Vec::new();
        let mut theirs = Vec::new();
        for (key, answer) in keys.iter().zip(answers) {
            match answer {
                PeerOut::Same { .. } => {}
                PeerOut::Record { record, mark, .. } => {
                    let mark = Mark::at(HybridTime::from_bits(mark));
                    let record = (!record.is_empty()).then_some(record);
                    if record.is_some() || mark != Mark::NONE {
                        let record = record.clone().unwrap_or_else(nothing);
                        joins.push(Join { key: key.clone(), record, mark, minted: false });
                    }
                    theirs.push((key.clone(), record));
                }
                _ => return Err(ExchangeError::Confused),
            }
        }
        if theirs.is_empty() {
            return Ok(());
        }
        self.tally.found += theirs.len() as u64;
        self.coordinator.join_all_here(&joins).await?;
        self.give_back(theirs).await
    }

    /// Sends the peer what it lacks of keys whose records it told, now that this node has those.
    async fn give_back(
        &mut self,
        theirs: Vec<(Bytes, Option<Bytes>)>,
    ) -> Result<(), ExchangeError> {
        let keys: Vec<Bytes> = theirs.iter().map(|(key, _)| key.clone()).collect();
        let joined = self.coordinator.records(&keys).await?;
        let mut applies = Vec::new();
        for ((key, theirs), (joined, mark)) in theirs.iter().zip(&joined) {
            let same = kv_quorum::same_versions(joined.as_deref(), theirs.as_deref());
            let key = key.clone();
            let told = mark.time().to_bits();
            match joined {
                _ if same == Ok(true) => {}
                Some(record) => {
                    applies.push(PeerOp::Apply {
                        key,
                        record: record.clone(),
                        mark: told,
                        minted: false,
                    });
                }
                // What it has was collected here, or has to go there: it takes the mark's word.
                None if covers_all(*mark, theirs.as_deref()) => {
                    applies.push(PeerOp::Apply {
                        key,
                        record: nothing(),
                        mark: told,
                        minted: false,
                    });
                }
                // What it has is dead here, and it does not know yet why.
                None => return Err(ExchangeError::Confused),
            }
        }
        let asked = applies.len();
        let answers = self.ask(applies).await?;
        let applied = |out: &PeerOut| matches!(out, PeerOut::Applied { .. });
        if answers.len() != asked || !answers.iter().all(applied) {
            return Err(ExchangeError::Confused);
        }
        self.mended(keys.len());
        Ok(())
    }

    fn mended(&mut self, keys: usize) {
        self.tally.mended += keys as u64;
        self.coordinator.parts.figures.aae_keys_mended.add(keys as u64);
    }
}

impl Coordinator {
    /// A page of a range's keys and fingerprints. What it tells is durable.
    pub(super) async fn list(&self, from: Bytes, to: Bytes) -> Result<Listing, ExchangeError> {
        let replica = &self.parts.replica;
        let request = PageRequest { from, to, rows_max: LIST_ROWS_MAX, bytes_max: PAGE_BYTES_MAX };
        let (rows, end) = replica.page(request).await?;
        self.parts.figures.aae_rows_listed.add(rows.len() as u64);
        let digest_key = self.digest_key()?;
        let until = rows.last().map(|(key, _)| key.clone()).filter(|_| !end);
        let none = fingerprint(digest_key, None);
        let rows = rows.into_iter().filter_map(|(key, record)| {
            // A record that can't be read is found out when it is asked for.
            let print = fingerprint(digest_key, replica.alive(&record).as_deref());
            (print != none).then(|| (key, print.unwrap_or(0).to_be_bytes()))
        });
        Ok(Listing { rows: rows.collect(), until })
    }

    /// This node's records of keys, durably, each with the mark that speaks for it.
    async fn records(&self, keys: &[Bytes]) -> Result<Vec<(Option<Bytes>, Mark)>, ExchangeError> {
        let replica = &self.parts.replica;
        let slices: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let before = slices.iter().map(|key| (None, replica.mark_for(key)));
        let mut records: Vec<(Option<Bytes>, Mark)> = before.collect();
        let ticket = replica
            .read(&slices, &mut |place, record| {
                if let Some((slot, _)) = records.get_mut(place) {
                    *slot = record.map(Bytes::copy_from_slice);
                }
            })
            .await?;
        replica.durable(ticket).await?;
        // None, if something was lost meanwhile.
        for ((_, mark), key) in records.iter_mut().zip(slices) {
            *mark = replica.mark_for(key).min(*mark);
        }
        Ok(records)
    }

    /// Joins records in here, durably.
    async fn join_all_here(&self, joins: &[Join]) -> Result<(), ExchangeError> {
        if joins.is_empty() {
            return Ok(());
        }
        let replica = &self.parts.replica;
        let slot = |key: &[u8]| KeyRef::parse(key).map(|key| key.slot);
        let own = |key: &[u8]| {
            slot(key).map_or_else(kv_quorum::Actor::default, |at| self.parts.dots.actor_at(at))
        };
        let mut over = Vec::new();
        let alarm = |key: &[u8]| {
            if let Some(at) = slot(key).map(|slot| replica.standings().of(slot)) {
                self.alarm(at);
                over.push(at);
            }
        };
        let outs = replica.apply(joins, own, alarm).await;
        for at in over {
            if let Err(error) = self.resume_minting(at).await {
                tracing::error!(%error, "no new tenure could be begun");
            }
        }
        self.parts.figures.replica_applies.add(joins.len() as u64);
        let failed = outs.into_iter().find_map(|out| match out {
            PeerOut::Failed(failure) => Some(format!("{failure:?}")),
            _ => None,
        });
        match failed {
            None => Ok(()),
            Some(why) => Err(crate::plug::storage::StorageError::Io(why).into()),
        }
    }

    pub(super) fn digest_key(&self) -> Result<u64, ExchangeError> {
        let record = self.parts.view.now().record.clone();
        record.map(|record| record.digest_key).ok_or(ExchangeError::NoReplicas)
    }
}

/// The record of one who has nothing of a key.
fn nothing() -> Bytes {
    Bytes::from_static(EncodedRecord::EMPTY.as_bytes())
}

/// Whether all that lives in a record lies at or below a mark.
fn covers_all(mark: Mark, record: Option<&[u8]>) -> bool {
    let highest = record.map_or(Ok(None), kv_quorum::peek);
    highest.is_ok_and(|peek| peek.is_none_or(|peek| mark.covers(peek.dot)))
}

/// Keys that are not the same on both lists, in order, and up to where both lists reach.
fn differing(own: &Listing, theirs: &Listing) -> (Vec<Bytes>, Option<Bytes>) {
    let until = match (&own.until, &theirs.until) {
        (Some(own), Some(theirs)) => Some(own.min(theirs).clone()),
        (one, other) => one.clone().or_else(|| other.clone()),
    };
    let mut keys: BTreeMap<&Bytes, [Option<[u8; 16]>; 2]> = BTreeMap::new();
    for (key, print) in &own.rows {
        keys.entry(key).or_default()[0] = Some(*print);
    }
    for (key, print) in &theirs.rows {
        keys.entry(key).or_default()[1] = Some(*print);
    }
    let end = until.as_ref().map_or(Bound::Unbounded, Bound::Included);
    let both = keys.range::<Bytes, _>((Bound::Unbounded, end));
    let differ = both.filter(|(_, [own, theirs])| own != theirs);
    (differ.map(|(key, _)| Bytes::clone(key)).collect(), until)
}

#[cfg(test)]
mod unit {
    use super::*;

    fn listing(rows: &[(&str, u8)], until: Option<&str>) -> Listing {
        let rows = rows.iter().map(|(key, print)| (Bytes::from(key.to_string()), [*print; 16]));
        Listing { rows: rows.collect(), until: until.map(|key| Bytes::from(key.to_owned())) }
    }

    #[test]
    fn lists_are_compared_as_far_as_both_reach() {
        let own = listing(&[("a", 1), ("b", 1), ("d", 1), ("f", 1)], None);
        let theirs = listing(&[("a", 1), ("b", 2), ("c", 1), ("d", 1)], Some("d"));
        let (keys, until) = differing(&own, &theirs);
        assert_eq!((keys, until), (vec!["b".into(), "c".into()], Some("d".into())));
        let (keys, until) = differing(&theirs, &own);
        assert_eq!((keys.len(), until), (2, Some("d".into())));
        let rest = listing(&[], None);
        assert_eq!(differing(&own, &rest).0.len(), 4);
        assert_eq!(differing(&rest, &rest), (Vec::new(), None));
    }
}
