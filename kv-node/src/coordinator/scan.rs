//! SCAN, KEYS, RANDOMKEY, DBSIZE: reads of all keys, wherever they are.
//!
//! A page is read from R replicas of the partition and joined, so a key whose acknowledged write
//! has not reached one of them is still shown, and a deleted one is not. A cursor is the slot and
//! the top 48 bits of the token; keys at one position come together, in one page.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kv_client::NodeId;
use kv_quorum::{HybridTime, Mark, Record, WriteSet};
use kv_ring::{Partition, SLOTS};

use super::plans::sets_of;
use super::{Coordinator, Newer, Scope};
use crate::error::RequestError;
use crate::keys::{DEFAULT_KEYSPACE, KeyRef, PREFIX_BYTES, position, slot_end};
use crate::plug::storage::PageRequest;
use crate::replica::Replica;
use crate::wire::{PeerOp, PeerOut};

/// Where a scan goes on: slot and the token's top 48 bits. 0 is the start, and the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanCursor(pub u64);

/// Bits of the token in a cursor.
const TOKEN_BITS: u32 = 48;
/// Bytes of one page from one replica at most.
const PAGE_BYTES_MAX: u32 = 512 * 1_024;
/// A step ends when its keys are so many bytes together.
const STEP_BYTES_MAX: usize = 4 << 20;

impl ScanCursor {
    fn position(self) -> (u16, u64) {
        let slot = (self.0 >> TOKEN_BITS) as u16;
        (slot, self.0 << (64 - TOKEN_BITS))
    }

    /// Just above a position.
    fn after(slot: u16, token: u64) -> Self {
        let top = token >> (64 - TOKEN_BITS);
        let next = (u64::from(slot) << TOKEN_BITS | top) + 1;
        if next >> TOKEN_BITS >= u64::from(SLOTS) { Self(0) } else { Self(next) }
    }

    fn slot_start(slot: u32) -> Self {
        if slot >= u32::from(SLOTS) { Self(0) } else { Self(u64::from(slot) << TOKEN_BITS) }
    }
}

/// One step of a scan.
#[derive(Clone, Debug, Default)]
pub struct ScanPage {
    /// Live keys.
    pub keys: Vec<Bytes>,
    /// Where to go on; 0 at the end.
    pub next: ScanCursor,
}

impl Coordinator {
    /// One step of a scan over all keys, or over those whose slot's first live primary this node
    /// is (`local`). Goes through at least `count` rows, or to the end of a partition that has
    /// fewer; may find no key and still not be at the end.
    ///
    /// # Errors
    /// `Unavailable`: R replicas of the next partition did not answer; the cursor is still good.
    pub(crate) async fn scan(
        &self,
        cursor: ScanCursor,
        count: usize,
        local: bool,
    ) -> Result<ScanPage, RequestError> {
        let mut scope = self.scope()?;
        let mut cursor = cursor;
        let mut page = ScanPage::default();
        // A sparse key space would otherwise cost a round trip for each empty partition.
        for _ in 0..PARTITIONS_A_STEP {
            let (slot, token) = cursor.position();
            let Some(slot) = kv_ring::Slot::new(slot) else { return Ok(page) };
            let partition = scope.layouts.newest().partitions().of(slot);
            let last = *partition.slots().end();
            if local && scope.decider(partition) != Some(scope.view.me) {
                cursor = ScanCursor::slot_start(u32::from(last) + 1);
            } else {
                let from = position(DEFAULT_KEYSPACE, slot.index(), token);
                let to = slot_end(DEFAULT_KEYSPACE, last);
                let left = count.saturating_sub(page.keys.len()).max(1);
                let scanned = self.scan_partition(&scope, partition, from, to, left).await;
                if scanned.is_err()
                    && let Newer::Known(newer) = self.newer_scope(&scope, false).await
                {
                    // Replicas refused: they knew layouts that this node has learned since.
                    scope = *newer;
                    continue;
                }
                let (keys, end) = scanned?;
                page.keys.extend(keys);
                cursor = end.unwrap_or_else(|| ScanCursor::slot_start(u32::from(last) + 1));
            }
            page.next = cursor;
            let bytes: usize = page.keys.iter().map(Bytes::len).sum();
            if cursor.0 == 0 || page.keys.len() >= count || bytes >= STEP_BYTES_MAX {
                break;
            }
        }
        Ok(page)
    }

    /// Live keys of part of one partition, joined over R replicas; and where the page ended, if
    /// before the range did.
    async fn scan_partition(
        &self,
        scope: &Scope,
        partition: Partition,
        from: Bytes,
        to: Bytes,
        count: usize,
    ) -> Result<(Vec<Bytes>, Option<ScanCursor>), RequestError> {
        let copies = scope.copies(scope.keyspace.read, None)?;
        let wanted = copies.least(scope.keyspace.n);
        let sets = sets_of(&scope.layouts, copies, partition, <[NodeId]>::to_vec)?;
        let me = scope.view.me;
        let rows_max = count.clamp(1, 4_096) as u32 + 1;
        let mut pages: BTreeMap<NodeId, SourcePage> = BTreeMap::new();
        let mut asked: BTreeSet<NodeId> = BTreeSet::new();
        // Who can't answer (down, damaged, a newcomer) is replaced by another, as long as any is
        // left.
        loop {
            let nodes = next_to_ask(scope, &sets, &pages, &asked)
                .map_err(|reached| self.short(reached, wanted, scope))?;
            if nodes.is_empty() {
                break;
            }
            asked.extend(nodes.iter().copied());
            if nodes.contains(&me) && self.parts.replica.standings().is_complete(partition) {
                let page = PageRequest {
                    from: from.clone(),
                    to: to.clone(),
                    rows_max: rows_max as usize,
                    bytes_max: PAGE_BYTES_MAX as usize,
                };
                let mark = self.parts.replica.mark(partition);
                match self.parts.replica.page_of_skeletons(page).await {
                    Ok((rows, end)) => {
                        // None, if something was lost meanwhile.
                        let mark = mark.min(self.parts.replica.mark(partition));
                        pages.insert(me, SourcePage { source: me, rows, end, mark });
                    }
                    Err(error) => tracing::warn!(%error, "a page of a scan could not be read"),
                }
            }
            let others: Vec<NodeId> = nodes.into_iter().filter(|node| *node != me).collect();
            let asks = others.iter().map(|node| {
                let op = PeerOp::Scan {
                    from: from.clone(),
                    to: to.clone(),
                    rows_max,
                    bytes_max: PAGE_BYTES_MAX,
                    keys_only: true,
                };
                (*node, op)
            });
            let answers = self.gather_while_up(scope.deadline_ms, asks.collect()).await;
            for (node, answer) in others.into_iter().zip(answers) {
                if let Some(Ok(PeerOut::Page { rows, end, mark })) = answer {
                    let mark = Mark::at(HybridTime::from_bits(mark));
                    pages.insert(node, SourcePage { source: node, rows, end, mark });
                }
            }
        }
        let pages = pages.into_values().collect();
        let merged = merge(pages, self.now_ms(), &self.parts.replica);
        merged.inspect_err(|error| {
            self.parts.figures.damaged_records.one();
            tracing::error!(%error, "a scan met a record that can't be read");
        })
    }

    fn short(&self, reached: usize, wanted: u8, scope: &Scope) -> RequestError {
        self.parts.figures.unavailable.one();
        RequestError::Unavailable { reached: reached as u8, wanted, silent: scope.down.clone() }
    }

    /// Live keys: of the whole cluster, or of the slots whose first live primary this node is.
    ///
    /// # Errors
    /// `Unavailable` if a member that is up did not answer.
    pub(crate) async fn count_keys(&self, local: bool) -> Result<u64, RequestError> {
        let scope = self.scope()?;
        let own = self.count_own(&scope);
        if local {
            return Ok(own);
        }
        // What nobody is asked for would be missing from the sum, and nobody would know.
        let partitions = scope.layouts.newest().partitions();
        let deciders: BTreeSet<Option<NodeId>> =
            partitions.iter().map(|partition| scope.decider(partition)).collect();
        let answers = |node: NodeId| node == scope.view.me || !scope.down.contains(&node);
        if !deciders.iter().all(|decider| decider.is_some_and(answers)) {
            return Err(self.short(0, 1, &scope));
        }
        let members = scope.layouts.newest().members();
        let asks: Vec<(NodeId, PeerOp)> = members
            .iter()
            .filter(|node| **node != scope.view.me && !scope.down.contains(*node))
            .map(|node| (*node, PeerOp::Count))
            .collect();
        let wanted = asks.len() as u8;
        let mut sum = own;
        for answer in self.gather_while_up(scope.deadline_ms, asks).await {
            match answer {
                Some(Ok(PeerOut::Count(count))) => sum += count,
                _ => return Err(self.short(0, wanted, &scope)),
            }
        }
        Ok(sum)
    }

    /// Live keys in the slots whose first live primary this node is.
    pub(crate) fn count_own(&self, scope: &Scope) -> u64 {
        let partitions = scope.layouts.newest().partitions();
        partitions
            .iter()
            .filter(|partition| scope.decider(*partition) == Some(scope.view.me))
            .flat_map(Partition::slots)
            .map(|slot| self.parts.replica.counts().of(slot))
            .sum()
    }

    /// `count_own` for a peer that asks.
    ///
    /// # Errors
    /// `Loading`.
    pub(crate) fn count_own_now(&self) -> Result<u64, RequestError> {
        Ok(self.count_own(&self.scope()?))
    }

    /// Some live key, or none if there is none: the first at or after a random position.
    ///
    /// # Errors
    /// As a scan.
    pub(crate) async fn random_key(&self, local: bool) -> Result<Option<Bytes>, RequestError> {
        let slot = self.parts.rng.next_u64() % u64::from(SLOTS);
        let token = self.parts.rng.next_u64() >> (64 - TOKEN_BITS);
        let mut cursor = ScanCursor(slot << TOKEN_BITS | token);
        let mut wrapped = false;
        loop {
            let page = self.scan(cursor, 1, local).await?;
            if !page.keys.is_empty() {
                let at = self.parts.rng.next_u64() as usize % page.keys.len();
                return Ok(page.keys.into_iter().nth(at));
            }
            cursor = page.next;
            if cursor.0 == 0 {
                if wrapped {
                    return Ok(None);
                }
                wrapped = true;
            }
        }
    }
}

/// Whom to ask next for a page, so that enough of every set answer; nobody when they have. `Err`
/// says how many can answer where that is too few.
fn next_to_ask<T>(
    scope: &Scope,
    sets: &[WriteSet<NodeId>],
    pages: &BTreeMap<NodeId, T>,
    asked: &BTreeSet<NodeId>,
) -> Result<BTreeSet<NodeId>, usize> {
    let me = scope.view.me;
    let mut next = BTreeSet::new();
    for set in sets {
        let have = set.nodes.iter().filter(|node| pages.contains_key(*node)).count();
        let mut live: Vec<NodeId> = set
            .nodes
            .iter()
            .copied()
            .filter(|node| !scope.down.contains(node) && !asked.contains(node))
            .collect();
        live.sort_by_key(|node| *node != me);
        let needed = set.required.saturating_sub(have);
        if live.len() < needed {
            return Err(have);
        }
        live.truncate(needed);
        next.extend(live);
    }
    Ok(next)
}

/// Partitions that one step of a scan looks into at most.
const PARTITIONS_A_STEP: usize = 256;

/// Rows of one replica.
struct SourcePage {
    source: NodeId,
    rows: Vec<(Bytes, Bytes)>,
    /// Whether they are all of the range.
    end: bool,
    /// The replica's mark: what it does not hold live at or below that is dead.
    mark: Mark,
}

/// What can't be read, and where. A read error is never "not found": the key may be live.
fn damaged(source: NodeId, key: &[u8], why: impl std::fmt::Display) -> RequestError {
    let shown = key.get(PREFIX_BYTES..).unwrap_or(key);
    let shown = shown.get(..64).unwrap_or(shown).escape_ascii();
    RequestError::Storage(format!("the record of key '{shown}' on node {source} is damaged: {why}"))
}

/// The join of what each replica has of a key, or has not, under their marks.
fn join_all_under(of_key: &[Option<Record<Bytes>>], marks: &[Mark]) -> Record<Bytes> {
    let nothing = Record::new();
    let mut known: Option<(Record<Bytes>, Mark)> = None;
    for (record, mark) in of_key.iter().zip(marks) {
        let record = record.as_ref().unwrap_or(&nothing);
        match &mut known {
            None => known = Some((record.clone(), *mark)),
            Some((joined, of_joined)) => {
                joined.join_under(*of_joined, record, *mark);
                *of_joined = (*mark).max(*of_joined);
            }
        }
    }
    known.map_or(nothing, |(joined, _)| joined)
}

/// Joins pages of one range: live keys up to where the shortest page ends.
///
/// # Errors
/// A row can't be read: the error names its key and its node.
fn merge(
    pages: Vec<SourcePage>,
    now_ms: u64,
    replica: &Replica,
) -> Result<(Vec<Bytes>, Option<ScanCursor>), RequestError> {
    let mut until: Option<(u16, u64)> = None;
    for SourcePage { rows, end, .. } in &pages {
        let last = rows.last().and_then(|(key, _)| KeyRef::parse(key));
        if let (false, Some(last)) = (*end, last) {
            // A position is cut off whole: its last rows may be on the next page.
            let at = (last.slot.index(), last.token.value() >> (64 - TOKEN_BITS));
            until = Some(until.map_or(at, |until| until.min(at)));
        }
    }
    let marks: Vec<Mark> = pages.iter().map(|page| page.mark).collect();
    let mut found: BTreeMap<Bytes, Vec<Option<Record<Bytes>>>> = BTreeMap::new();
    let mut firsts: Option<(u16, u64)> = None;
    let rows = pages.into_iter().enumerate().flat_map(|(from, page)| {
        page.rows.into_iter().map(move |(key, bytes)| (from, page.source, key, bytes))
    });
    for (from, source, key, bytes) in rows {
        let Some(place) = KeyRef::parse(&key) else {
            return Err(damaged(source, &key, "it has no place"));
        };
        let at = (place.slot.index(), place.token.value() >> (64 - TOKEN_BITS));
        firsts = Some(firsts.map_or(at, |first| first.min(at)));
        let Some(bytes) = replica.alive(&bytes) else { continue };
        let record = Record::decode(&bytes).map_err(|error| damaged(source, &key, error))?;
        let record = record.map(Bytes::copy_from_slice);
        let of_key = found.entry(key).or_insert_with(|| vec![None; marks.len()]);
        if let Some(slot) = of_key.get_mut(from) {
            *slot = Some(record);
        }
    }
    // One position that fills a whole page is given as far as it came, and passed.
    let only = until.is_some() && until == firsts;
    let within = |key: &Bytes| {
        KeyRef::parse(key).is_some_and(|place| {
            let at = (place.slot.index(), place.token.value() >> (64 - TOKEN_BITS));
            until.is_none_or(|until| if only { at <= until } else { at < until })
        })
    };
    let keys = found
        .into_iter()
        .filter(|(key, _)| within(key))
        .filter(|(_, of_key)| join_all_under(of_key, &marks).exists(now_ms))
        .map(|(key, _)| key.slice(PREFIX_BYTES..))
        .collect();
    let next = until.map(|(slot, top)| {
        let token = top << (64 - TOKEN_BITS);
        if only {
            ScanCursor::after(slot, token)
        } else {
            ScanCursor(u64::from(slot) << TOKEN_BITS | top)
        }
    });
    Ok((keys, next))
}
