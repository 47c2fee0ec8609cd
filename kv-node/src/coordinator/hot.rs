//! What is asked for most, everywhere: each node counts what it coordinates, so what all counted is
//! added up.

use std::collections::BTreeMap;

use kv_client::NodeId;
use kv_client::wire::{HOT_KEYS_MAX, HotKeyView, HotView, PartitionLoad};
use kv_ring::{PartitionCount, Slot};

use super::Coordinator;
use crate::error::RequestError;
use crate::scale::load::{HotKey, Rate};
use crate::wire::{HotPage, PeerOp, PeerOut};

/// Milliseconds that other nodes have to tell.
const TOLD_MS_MAX: u64 = 1_000;
/// Partitions that one node names at most.
const PARTITIONS_MAX: usize = 64;
/// Partitions that an answer names at most.
const SHOWN_MAX: usize = 16;

impl Coordinator {
    /// What this node was asked for most in its last window.
    pub(crate) fn hot_here(&self) -> HotPage {
        let window = self.load.window();
        let view = self.parts.view.now();
        let count = view.layouts.as_ref().map(|layouts| layouts.newest().partitions());
        let partitions = count.map(|count| window.partitions(count)).unwrap_or_default();
        HotPage {
            keys: window.hot.clone(),
            partitions: partitions.into_iter().take(PARTITIONS_MAX).collect(),
            total: window.total(),
        }
    }

    /// What all members that answer were asked for most.
    ///
    /// # Errors
    /// `Loading`.
    pub(crate) async fn hot_everywhere(&self, count: u32) -> Result<HotView, RequestError> {
        let scope = self.scope()?;
        let layouts = scope.layouts.live();
        let mut asked: Vec<NodeId> =
            layouts.flat_map(|layout| layout.members().iter().copied()).collect();
        asked.sort_unstable();
        asked.dedup();
        asked.retain(|node| *node != scope.view.me && !scope.down.contains(node));
        let asks = asked.iter().map(|node| (*node, PeerOp::Hot)).collect();
        let soon = self.parts.clock.steady_ms() + TOLD_MS_MAX;
        let answers = self.gather_while_up(soon.min(scope.deadline_ms), asks).await;
        let mut pages = vec![self.hot_here()];
        let mut silent = scope.down.clone();
        for (node, answer) in asked.into_iter().zip(answers) {
            match answer {
                Some(Ok(PeerOut::Hot(page))) => pages.push(page),
                _ => silent.push(node),
            }
        }
        silent.sort_unstable();
        let partitions = scope.layouts.newest().partitions();
        Ok(HotView { silent, ..merge(pages, count.clamp(1, HOT_KEYS_MAX), partitions) })
    }
}

fn merge(pages: Vec<HotPage>, count: u32, of: PartitionCount) -> HotView {
    let mut keys: BTreeMap<(u64, Vec<u8>), HotKey> = BTreeMap::new();
    let mut partitions: BTreeMap<u16, PartitionLoad> = BTreeMap::new();
    let mut view = HotView::default();
    for page in pages {
        view.reads_per_s = view.reads_per_s.saturating_add(page.total.reads_per_s);
        view.writes_per_s = view.writes_per_s.saturating_add(page.total.writes_per_s);
        for (partition, rate) in page.partitions {
            add(partitions.entry(partition).or_default(), partition, rate);
        }
        for hot in page.keys {
            let sum = keys.entry((hot.token, hot.key.clone())).or_default();
            let ops_per_s = sum.ops_per_s.saturating_add(hot.ops_per_s);
            let error_per_s = sum.error_per_s.saturating_add(hot.error_per_s);
            *sum = HotKey { ops_per_s, error_per_s, ..hot };
        }
    }
    let mut busiest: Vec<PartitionLoad> = partitions.into_values().collect();
    let ops = |load: &PartitionLoad| load.reads_per_s.saturating_add(load.writes_per_s);
    busiest.sort_by_key(|load| (std::cmp::Reverse(ops(load)), load.partition));
    busiest.truncate(SHOWN_MAX);
    view.partitions = busiest;
    let mut hottest: Vec<HotKey> = keys.into_values().collect();
    hottest.sort_by_key(|hot| (std::cmp::Reverse(hot.ops_per_s), hot.token));
    hottest.truncate(count as usize);
    view.keys = hottest.into_iter().map(|hot| shown(hot, of)).collect();
    view
}

fn add(load: &mut PartitionLoad, partition: u16, rate: Rate) {
    *load = PartitionLoad {
        partition,
        reads_per_s: load.reads_per_s.saturating_add(rate.reads_per_s),
        writes_per_s: load.writes_per_s.saturating_add(rate.writes_per_s),
        bytes_per_s: load.bytes_per_s.saturating_add(rate.bytes_per_s),
    };
}

fn shown(hot: HotKey, of: PartitionCount) -> HotKeyView {
    HotKeyView {
        key: hot.key.into(),
        slot: hot.slot,
        partition: Slot::new(hot.slot).map_or(0, |slot| of.of(slot).index()),
        ops_per_s: hot.ops_per_s,
        error_per_s: hot.error_per_s,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_counted_is_added_up() {
        let hot = |key: &str, ops_per_s| HotKey {
            key: key.into(),
            token: key.len() as u64,
            slot: 16_383,
            ops_per_s,
            error_per_s: 1,
        };
        let rate = |reads_per_s| Rate { reads_per_s, writes_per_s: 1, bytes_per_s: 10 };
        let page = |keys: &[HotKey], partitions: &[(u16, Rate)], total| HotPage {
            keys: keys.to_vec(),
            partitions: partitions.to_vec(),
            total: rate(total),
        };
        let pages = || {
            vec![
                page(&[hot("a", 100), hot("bb", 90)], &[(1, rate(50)), (2, rate(40))], 500),
                page(&[hot("bb", 80)], &[(2, rate(40))], 300),
            ]
        };
        let count = PartitionCount::new(64).expect("a power of two");
        let view = merge(pages(), 9, count);
        let keys: Vec<_> = view.keys.iter().map(|hot| (&hot.key[..], hot.ops_per_s)).collect();
        assert_eq!(keys, [(&b"bb"[..], 170), (&b"a"[..], 100)]);
        assert_eq!((view.keys[0].error_per_s, view.keys[0].partition), (2, 63));
        assert_eq!((view.reads_per_s, view.writes_per_s), (800, 2));
        let busiest = view.partitions[0];
        assert_eq!((busiest.partition, busiest.reads_per_s, busiest.bytes_per_s), (2, 80, 20));
        assert_eq!(merge(pages(), 1, count).keys.len(), 1);
    }
}
