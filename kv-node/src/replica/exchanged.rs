//! When this replica last exchanged a partition with each peer, with every difference mended.
//!
//! Collection asks it: a partition's mark may rise to a floor once an exchange that began after
//! that floor was published has ended among all replicas, and what differed is durable on both
//! sides. Bounded by the partitions held and their replicas; kept in memory only, since after a
//! restart everything is exchanged again.
//!
//! Invariant: a time noted is that of an exchange's beginning, never of its end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_client::NodeId;
use kv_quorum::HybridTime;
use kv_ring::Partition;
use parking_lot::Mutex;

/// Exchanges that ended well.
#[derive(Debug, Default)]
pub struct ExchangeLog(Mutex<BTreeMap<(Partition, NodeId), HybridTime>>, AtomicU64);

impl ExchangeLog {
    /// A new stamp, above every earlier one whatever the clock does, and not below `time`: the
    /// beginning of an exchange, or of a climb that exchanges have to begin after.
    pub fn stamp(&self, time: HybridTime) -> HybridTime {
        let above = |last| HybridTime::next(HybridTime::from_bits(last), 0).max(time).to_bits();
        let next = |last| Some(above(last));
        let last = self.1.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        HybridTime::from_bits(above(last.unwrap_or_default()))
    }

    /// An exchange of `partition` with `peer` that began at `begun` has ended: what differed is
    /// mended durably on both sides.
    pub fn note(&self, partition: Partition, peer: NodeId, begun: HybridTime) {
        let mut log = self.0.lock();
        let last = log.entry((partition, peer)).or_insert(begun);
        *last = begun.max(*last);
    }

    /// When the last good exchange with `peer` began.
    pub fn last(&self, partition: Partition, peer: NodeId) -> Option<HybridTime> {
        self.0.lock().get(&(partition, peer)).copied()
    }

    /// The beginning of the longest past of the last good exchanges with all of `peers`; `None`
    /// while one of them is missing.
    pub fn least(
        &self,
        partition: Partition,
        peers: impl IntoIterator<Item = NodeId>,
    ) -> Option<HybridTime> {
        let log = self.0.lock();
        let mut least = None;
        for peer in peers {
            let begun = *log.get(&(partition, peer))?;
            least = Some(least.map_or(begun, |least: HybridTime| least.min(begun)));
        }
        least
    }

    /// This replica lost something of the partition: what was equal need not be so now.
    pub fn forget(&self, partition: Partition) {
        self.0.lock().retain(|(of, _), _| *of != partition);
    }

    /// The partitions were doubled: what was exchanged is exchanged again, by the finer count.
    pub(super) fn forget_all(&self) {
        self.0.lock().clear();
    }

    /// A peer is no replica any more, or came back with another disk.
    pub fn forget_peer(&self, peer: NodeId) {
        self.0.lock().retain(|(_, with), _| *with != peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_whatever_the_clock_does() {
        let log = ExchangeLog::default();
        let at = |ms| HybridTime::new(ms, 0);
        let stamps = [at(5), at(3), at(3), at(9)].map(|time| log.stamp(time));
        assert!(stamps.is_sorted_by(|a, b| a < b) && stamps[3] == at(9));
    }

    #[test]
    fn the_least_needs_every_peer() {
        let log = ExchangeLog::default();
        let partition = kv_ring::PartitionCount::DEFAULT.nth(3).expect("one of many");
        let (partition, at) = (partition, |ms| HybridTime::new(ms, 0));
        log.note(partition, NodeId(1), at(10));
        assert_eq!(log.least(partition, [NodeId(1), NodeId(2)]), None);
        log.note(partition, NodeId(2), at(20));
        log.note(partition, NodeId(1), at(5));
        assert_eq!(log.least(partition, [NodeId(1), NodeId(2)]), Some(at(10)));
        log.forget_peer(NodeId(1));
        assert_eq!(log.least(partition, [NodeId(1)]), None);
        log.forget(partition);
        assert_eq!(log.last(partition, NodeId(2)), None);
    }
}
