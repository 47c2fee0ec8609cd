//! Short names for nodes: a letter each for the ring, and enough digits of the id to type.
//!
//! A node keeps its letter for as long as the terminal runs, whoever joins or leaves, so that an
//! operator can learn them. The first letters go by address, so that a cluster that was started in
//! order reads A, B, C in that order.

use std::collections::BTreeMap;

use kv_client::NodeId;

use super::Snapshot;

/// Digits of an id that are shown at least.
const DIGITS_MIN: usize = 4;
/// Names that are kept at most; what is beyond them is shown by its id.
const NAMES_MAX: usize = 4_096;

/// The names that were given so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    at: BTreeMap<NodeId, usize>,
    digits: usize,
}

impl Names {
    /// Gives names to nodes that have none yet.
    pub fn learn(&mut self, snapshot: &Snapshot) {
        let of_nodes = snapshot.nodes.iter().map(|node| (node.endpoints.rpc.as_str(), node.node));
        let of_ring = snapshot.ring.iter().flat_map(|ring| &ring.nodes).map(|node| ("~", *node));
        let mut new: Vec<(&str, NodeId)> =
            of_nodes.chain(of_ring).filter(|(_, node)| !self.at.contains_key(node)).collect();
        new.sort_unstable();
        for (_, node) in new {
            let next = self.at.len();
            if next < NAMES_MAX {
                self.at.entry(node).or_insert(next);
            }
        }
        self.digits = self.digits_needed();
    }

    /// The node's letter: A to Z, then a to z, then `+`, which several share. `?` for a stranger.
    pub fn letter(&self, node: NodeId) -> char {
        match self.at.get(&node).map(|at| u8::try_from(*at).unwrap_or(u8::MAX)) {
            Some(at @ 0..26) => char::from(b'A' + at),
            Some(at @ 26..52) => char::from(b'a' + at - 26),
            Some(_) => '+',
            None => '?',
        }
    }

    /// The first digits of its id, as many as tell all nodes apart.
    pub fn short(&self, node: NodeId) -> String {
        node.to_string().chars().take(self.digits.max(DIGITS_MIN)).collect()
    }

    /// Letter and digits: `A 9a66`.
    pub fn label(&self, node: NodeId) -> String {
        format!("{} {}", self.letter(node), self.short(node))
    }

    fn digits_needed(&self) -> usize {
        let ids: Vec<String> = self.at.keys().map(ToString::to_string).collect();
        // The ids are in order, so the longest common beginnings are between neighbours.
        let common = ids.windows(2).map(|pair| match pair {
            [one, other] => one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count(),
            _ => 0,
        });
        common.max().map_or(DIGITS_MIN, |common| (common + 1).max(DIGITS_MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::three;
    use kv_client::wire::NodeState::Alive;
    use kv_client::wire::{Endpoints, NodeInfo};

    #[test]
    fn letters_stay_when_somebody_joins() {
        let mut snapshot = three([Alive; 3]);
        let mut names = Names::default();
        names.learn(&snapshot);
        assert_eq!([1, 2, 3].map(|id| names.letter(NodeId(id))), ['A', 'B', 'C']);
        // It sorts before all others, and still comes last.
        let rpc = "127.0.0.1:1".to_owned();
        let endpoints = Endpoints { rpc, ..Endpoints::default() };
        snapshot.nodes.push(NodeInfo { node: NodeId(0), endpoints, ..NodeInfo::default() });
        names.learn(&snapshot);
        assert_eq!([0, 1, 2, 9].map(|id| names.letter(NodeId(id))), ['D', 'A', 'B', '?']);
        assert_eq!(names.short(NodeId(1)).len(), 16, "ids that differ in the last digit");
    }

    #[test]
    fn ids_that_differ_early_are_short() {
        let mut names = Names::default();
        let nodes = [0x9a66_0000_0000_0000, 0x1b00_0000_0000_0000_u64];
        let nodes = nodes.map(|id| NodeInfo { node: NodeId(id), ..NodeInfo::default() });
        names.learn(&Snapshot { nodes: nodes.to_vec(), ..Snapshot::default() });
        assert_eq!(names.label(NodeId(0x9a66_0000_0000_0000)), "B 9a66");
    }

    #[test]
    fn there_are_more_nodes_than_letters() {
        let nodes = (0..60).map(|id| NodeInfo { node: NodeId(id), ..NodeInfo::default() });
        let mut names = Names::default();
        names.learn(&Snapshot { nodes: nodes.collect(), ..Snapshot::default() });
        assert_eq!([26, 51, 52].map(|id| names.letter(NodeId(id))), ['a', 'z', '+']);
    }
}
