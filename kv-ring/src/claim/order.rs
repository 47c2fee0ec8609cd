//! The order of the owners of each partition, once it is known who they are.
//!
//! First places are dealt by a flow of their own: of its `c` copies a node is first for `c / N`,
//! rounded down or up. That always works out (each copy being an N-th of a first place is a
//! fractional solution) and lies between floor and ceiling of an N-th of the feasible share. Then
//! second places among the copies that are left, and so on: each rank is spread as evenly. An owner
//! keeps its rank where it can, and one that already has the data goes before a newcomer.
//!
//! Who owns which partition of a first layout does not matter, only how many each owns. So there
//! partitions with the same owners are neighbours: one range for all who list them, and clients of
//! Redis Cluster read the whole list each time that a node dies.
//!
//! Invariant: the sets of owners are not touched.

use alloc::vec;
use alloc::vec::Vec;

use crate::claim::ClaimRequest;
use crate::claim::flow::shuffled;
use crate::claim::network::Network;

const SOURCE: usize = 0;
const SINK: usize = 1;

/// The owners of all partitions, ordered, as one flat list.
pub(crate) fn ordered(request: &ClaimRequest<'_>, mut left: Vec<Vec<u16>>) -> Vec<u16> {
    let mut order = vec![Vec::with_capacity(request.replicas()); left.len()];
    for rank in 0..request.replicas() {
        let chosen = deal(request, &left, rank);
        for ((left, order), chosen) in left.iter_mut().zip(&mut order).zip(chosen) {
            left.retain(|&owner| owner != chosen);
            order.push(chosen);
        }
    }
    if request.before(0).is_empty() {
        order.sort_unstable();
    }
    order.concat()
}

/// Who gets this rank of each partition, of those that have none yet.
fn deal(request: &ClaimRequest<'_>, left: &[Vec<u16>], rank: usize) -> Vec<u16> {
    let nodes = request.nodes().len();
    let ranks_left = request.replicas() - rank;
    let far = i64::try_from(2 * left.len() + 1).unwrap_or(i64::MAX);
    let mut network = Network::new(2 + nodes + left.len());
    let mut copies = vec![0_usize; nodes];
    for &owner in left.iter().flatten() {
        if let Some(count) = copies.get_mut(usize::from(owner)) {
            *count += 1;
        }
    }
    for (node, count) in copies.into_iter().enumerate() {
        network.arc(SOURCE, 2 + node, count / ranks_left, 0);
        network.arc(SOURCE, 2 + node, usize::from(count % ranks_left != 0), far);
    }
    let mut candidates = Vec::new();
    for partition in shuffled(left.len(), rank as u64) {
        network.arc(2 + nodes + partition, SINK, 1, 0);
        let before = request.before(partition);
        for &owner in left.get(partition).into_iter().flatten() {
            let cost = if before.get(rank) == Some(&owner) {
                0
            } else if before.contains(&owner) || before.is_empty() {
                1
            } else {
                2
            };
            let arc = network.arc(2 + usize::from(owner), 2 + nodes + partition, 1, cost);
            candidates.push((arc, owner, partition));
        }
    }
    let sent = network.flow(SOURCE, SINK);
    assert_eq!(sent, left.len(), "each rank can be dealt evenly");

    let mut chosen = vec![0; left.len()];
    for (arc, owner, partition) in candidates {
        if network.is_full(arc)
            && let Some(slot) = chosen.get_mut(partition)
        {
            *slot = owner;
        }
    }
    chosen
}
