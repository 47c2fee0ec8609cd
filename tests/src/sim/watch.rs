//! A watch over what nodes mint, read off the storage seam: what each value covers and replaces.
//!
//! The context of a blind write is what its coordinator knew, which no client is told. The record
//! that it appends says so: all that its coverage covers and that is not live in it is dead. A dot
//! that no append showed before is being minted, since a minter appends before it sends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kv_node::keys::{KeyRef, parse_hint};
use kv_node::plug::clock::{Clock, TokioClock};
use kv_node::plug::storage::{
    DamagedRange, EngineStatus, FrozenBatch, Page, PageRequest, Quarantine, Resident, Row,
    StorageEngine, StorageError, Ticket,
};
use kv_quorum::{Context, Dot, HybridTime, Record};
use parking_lot::Mutex;

use super::workload::value_of;

/// Keys that clients put siblings to begin so.
pub const SHARED: &str = "m:";
/// Keys whose mints are watched begin so: those that clients overwrite and delete.
const WATCHED: [&str; 3] = [SHARED, "c:", "s:"];

/// Everything that was minted for the watched keys of a run.
#[derive(Debug)]
pub struct Mints {
    clock: Arc<TokioClock>,
    keys: Mutex<BTreeMap<String, KeyMints>>,
}

#[derive(Debug, Default)]
struct KeyMints {
    known: BTreeSet<Dot>,
    mints: Vec<Mint>,
}

#[derive(Debug)]
struct Mint {
    at_us: u64,
    dot: Dot,
    value: Option<String>,
    coverage: Context,
    live: Vec<Dot>,
}

impl Mints {
    /// A watch that knows the time.
    #[must_use]
    pub fn new(clock: Arc<TokioClock>) -> Self {
        Self { clock, keys: Mutex::default() }
    }

    /// Whether the mints of a key are watched.
    #[must_use]
    pub fn watches(key: &str) -> bool {
        WATCHED.iter().any(|prefix| key.starts_with(prefix))
    }

    fn note(&self, storage_key: &[u8], record: &[u8]) {
        // Who mints in the place of a primary appends hints only.
        let storage_key = parse_hint(storage_key).map_or(storage_key, |(_, key)| key);
        let Some(key) = KeyRef::parse(storage_key) else { return };
        let Ok(name) = std::str::from_utf8(key.key) else { return };
        if !Self::watches(name) {
            return;
        }
        let Ok(record) = Record::decode(record) else { return };
        let mut keys = self.keys.lock();
        let at = keys.entry(name.to_owned()).or_default();
        for version in record.live() {
            if at.known.insert(version.dot) {
                let text = |bytes: &&[u8]| value_of(bytes);
                at.mints.push(Mint {
                    at_us: self.clock.steady_us(),
                    dot: version.dot,
                    value: version.value.as_ref().map(text),
                    coverage: record.coverage().clone(),
                    live: record.live().iter().map(|version| version.dot).collect(),
                });
            }
        }
    }

    /// The values whose every dot lies above a time.
    #[must_use]
    pub fn above(&self, time: HybridTime) -> BTreeSet<String> {
        let keys = self.keys.lock();
        let mints = || keys.values().flat_map(|at| &at.mints);
        let below: BTreeSet<&String> = mints()
            .filter(|mint| mint.dot.time <= time)
            .filter_map(|mint| mint.value.as_ref())
            .collect();
        let values = mints().filter_map(|mint| mint.value.as_ref());
        values.filter(|value| !below.contains(value)).cloned().collect()
    }

    /// How many dots of `value` were minted in a key: two where a blind write minted once more.
    #[must_use]
    pub fn dots_of(&self, key: &str, value: &str) -> usize {
        let keys = self.keys.lock();
        let own = |mint: &&Mint| mint.value.as_deref() == Some(value);
        keys.get(key).map_or(0, |at| at.mints.iter().filter(own).count())
    }

    /// The values that the mints of `value` replaced in a key: covered, and not live beside it.
    #[must_use]
    pub fn replaced_by(&self, key: &str, value: &str) -> Vec<String> {
        let mut replaced = self.replaced(key, |mint| mint.value.as_deref() == Some(value));
        replaced.retain(|other| other != value);
        replaced
    }

    /// The values that deletes replaced which were minted in a key between two moments.
    #[must_use]
    pub fn deleted_between(&self, key: &str, from_us: u64, to_us: u64) -> Vec<String> {
        let within = |mint: &Mint| (from_us..=to_us).contains(&mint.at_us);
        self.replaced(key, |mint| mint.value.is_none() && within(mint))
    }

    /// Whether `value` is surely behind `than` in a key: every mint of `than` covered every mint of
    /// `value`, or, `by_time`, has a later dot that is not covered by it.
    #[must_use]
    pub fn is_behind(&self, key: &str, value: &str, than: &str, by_time: bool) -> bool {
        let keys = self.keys.lock();
        let Some(at) = keys.get(key) else { return false };
        let of =
            |name| at.mints.iter().filter(move |mint: &&Mint| mint.value.as_deref() == Some(name));
        let dead =
            |old: &Mint, new: &Mint| new.coverage.covers(old.dot) && !new.live.contains(&old.dot);
        // A clock that lags mints a lower dot over what it covers all the same.
        let earlier = |old: &Mint, new: &Mint| old.dot.time < new.dot.time && !dead(new, old);
        let behind = |old: &Mint, new: &Mint| dead(old, new) || by_time && earlier(old, new);
        let both = of(value).next().is_some() && of(than).next().is_some();
        both && of(value).all(|old| of(than).all(|new| behind(old, new)))
    }

    /// Whether any mint of a key replaced one of `value`.
    #[must_use]
    pub fn is_replaced(&self, key: &str, value: &str) -> bool {
        let keys = self.keys.lock();
        let Some(at) = keys.get(key) else { return false };
        let own: Vec<&Mint> =
            at.mints.iter().filter(|mint| mint.value.as_deref() == Some(value)).collect();
        at.mints.iter().any(|mint| {
            own.iter().any(|own| mint.coverage.covers(own.dot) && !mint.live.contains(&own.dot))
        })
    }

    fn replaced(&self, key: &str, by: impl Fn(&Mint) -> bool) -> Vec<String> {
        let keys = self.keys.lock();
        let Some(at) = keys.get(key) else { return Vec::new() };
        let mut replaced = BTreeSet::new();
        for mint in at.mints.iter().filter(|mint| by(mint)) {
            let dead =
                |other: &&Mint| mint.coverage.covers(other.dot) && !mint.live.contains(&other.dot);
            replaced.extend(at.mints.iter().filter(dead).filter_map(|other| other.value.clone()));
        }
        replaced.into_iter().collect()
    }
}

/// An engine that is watched.
pub struct WatchedEngine<E> {
    /// The engine.
    pub inner: E,
    /// Where mints are noted.
    pub mints: Arc<Mints>,
    /// How long a sync takes, in milliseconds: what is appended is at risk meanwhile.
    pub sync_ms: u64,
}

impl<E> std::fmt::Debug for WatchedEngine<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchedEngine").finish_non_exhaustive()
    }
}

impl<E: StorageEngine> Quarantine for WatchedEngine<E> {
    fn damaged(&self) -> Vec<DamagedRange> {
        self.inner.damaged()
    }

    fn give_up(&self, range: &DamagedRange) {
        self.inner.give_up(range);
    }
}

#[async_trait]
impl<E: StorageEngine> StorageEngine for WatchedEngine<E> {
    fn visit_resident(
        &self,
        keys: &[&[u8]],
        visit: &mut dyn FnMut(usize, Resident<'_>),
    ) -> Result<(), StorageError> {
        self.inner.visit_resident(keys, visit)
    }

    fn append(&self, batch: &FrozenBatch) -> Result<Ticket, StorageError> {
        for (key, value) in batch.slices() {
            if let Some(record) = value {
                self.mints.note(key, record);
            }
        }
        self.inner.append(batch)
    }

    async fn durable(&self, ticket: Ticket) -> Result<(), StorageError> {
        if self.sync_ms > 0 && !ticket.is_durable() {
            tokio::time::sleep(Duration::from_millis(self.sync_ms)).await;
        }
        self.inner.durable(ticket).await
    }

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Row>>, StorageError> {
        self.inner.read(keys).await
    }

    async fn scan(&self, page: PageRequest) -> Result<Page, StorageError> {
        self.inner.scan(page).await
    }

    fn status(&self, explain: Option<&[u8]>) -> (EngineStatus, Option<String>) {
        self.inner.status(explain)
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.inner.close().await
    }
}

#[cfg(test)]
mod tests {
    use kv_node::keys::DEFAULT_KEYSPACE;
    use kv_quorum::{Actor, Draft, Limits};

    use super::*;

    #[test]
    fn a_blind_write_replaces_what_its_record_covers_and_a_put_what_its_context_does() {
        let mints = Mints::new(Arc::new(TokioClock::new(0)));
        let key = KeyRef::place(DEFAULT_KEYSPACE, b"m:1").to_storage();
        let dot = |node, ms| Dot::new(Actor::new(node, 1), HybridTime::new(ms, 0));
        let mut record: Record<&[u8]> = Record::new();
        for (node, value) in [(1, b"a|a"), (2, b"b|b")] {
            let draft = Draft::string(&value[..]);
            record.mint(dot(node, 1), &Context::new(), draft, &Limits::default()).expect("new");
            mints.note(&key, &record.to_bytes());
        }
        assert_eq!(mints.replaced_by("m:1", "b"), [] as [String; 0]);
        record.mint_blind(dot(1, 2), Draft::string(&b"c|"[..])).expect("new");
        mints.note(&key, &record.to_bytes());
        assert_eq!(mints.replaced_by("m:1", "c"), ["a", "b"]);
        let above = |ms| mints.above(HybridTime::new(ms, 0)).into_iter().collect::<Vec<_>>();
        assert_eq!((above(0).len(), above(1)), (3, vec!["c".to_owned()]));
        assert_eq!((mints.dots_of("m:1", "c"), mints.dots_of("m:1", "d")), (1, 0));
        assert!(mints.is_behind("m:1", "a", "c", false) && !mints.is_behind("m:1", "c", "a", true));
        assert!(!mints.is_behind("m:1", "a", "b", true), "they are siblings of one time");
        record.mint_blind(dot(2, 3), Draft::tombstone()).expect("new");
        mints.note(&key, &record.to_bytes());
        assert_eq!(mints.deleted_between("m:1", 0, u64::MAX), ["a", "b", "c"]);
        assert_eq!(mints.deleted_between("m:1", u64::MAX, u64::MAX), [] as [String; 0]);
    }
}
