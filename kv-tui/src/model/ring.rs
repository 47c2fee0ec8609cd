//! What a layout says of its members: who holds how much, and who owns which part of the ring.

use std::collections::BTreeMap;

use kv_client::NodeId;
use kv_client::wire::RingView;

/// What one member holds of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The member.
    pub node: NodeId,
    /// Partitions that it holds a copy of.
    pub held: usize,
    /// Of these, how many it is the first replica of.
    pub first: usize,
    /// Thousandths of all copies that it holds.
    pub per_mille: usize,
}

/// Each member's share, in the layout's order. Linear in copies.
pub fn shares(ring: &RingView) -> Vec<Share> {
    let mut counts: BTreeMap<u16, (usize, usize)> = BTreeMap::new();
    let copies = usize::from(ring.copies).max(1);
    for (at, owner) in ring.owners.iter().enumerate() {
        let (held, first) = counts.entry(*owner).or_default();
        *held += 1;
        *first += usize::from(at % copies == 0);
    }
    let total = ring.owners.len().max(1);
    let share = |(at, node): (u16, &NodeId)| {
        let (held, first) = counts.get(&at).copied().unwrap_or_default();
        Share { node: *node, held, first, per_mille: held * 1_000 / total }
    };
    (0_u16..).zip(&ring.nodes).map(share).collect()
}

/// The largest share over the mean share, in hundredths; `None` without members or copies.
pub fn balance_hundredths(shares: &[Share]) -> Option<usize> {
    let total: usize = shares.iter().map(|share| share.held).sum();
    let most = shares.iter().map(|share| share.held).max()?;
    (most * shares.len() * 100).checked_div(total)
}

/// The owners of a partition, in order of preference.
pub fn owners_at(ring: &RingView, partition: usize) -> Vec<NodeId> {
    ring.owners_of(partition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_their_balance() {
        let nodes = vec![NodeId(1), NodeId(2), NodeId(3)];
        let ring = RingView {
            copies: 2,
            nodes,
            owners: vec![0, 1, 0, 2, 0, 1, 2, 0],
            ..RingView::default()
        };
        let shares = shares(&ring);
        let counts: Vec<_> = shares.iter().map(|share| (share.held, share.first)).collect();
        assert_eq!(counts, [(4, 3), (2, 0), (2, 1)]);
        assert_eq!(shares[0].per_mille, 500);
        assert_eq!(balance_hundredths(&shares), Some(150));
        assert_eq!(owners_at(&ring, 3), [NodeId(3), NodeId(1)]);
        assert_eq!(balance_hundredths(&[]), None);
    }
}
