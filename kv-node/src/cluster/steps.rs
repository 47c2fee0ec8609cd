//! A planned change of the members as the steps that it is made in.
//!
//! No set of owners may get more newcomers at once than its quorums can spare (kv-ring's
//! `towards`). Each step is a layout of its own, decided when the one before is stable; what is
//! left is planned anew then, so whoever makes the steps may stop, and another goes on.

use kv_client::NodeId;
use kv_ring::{AutoClaim, Error, Exchange, Layout, Plan, Topology};

/// What is to be decided next, and what follows it.
#[derive(Clone, Debug)]
pub struct Steps {
    /// The layout of the next step.
    pub next: Layout<NodeId>,
    /// Where the last step ends.
    pub target: Layout<NodeId>,
    /// All that moves until then.
    pub plan: Plan<NodeId>,
    /// Copies that each step makes; no step if everything is so already.
    pub copies: Vec<usize>,
}

impl Steps {
    /// From a layout to members as they are to be. A node's first place for a partition may move
    /// without a copy. O(partitions * N²) besides the chooser's.
    ///
    /// # Errors
    /// What kv-ring says of such members.
    pub fn between(
        before: &Layout<NodeId>,
        members: &Topology<NodeId>,
        newcomers_max: usize,
    ) -> Result<Self, Error> {
        let target = Layout::next(before, members, before.replicas(), &AutoClaim)?;
        let plan = Plan::between(before, &target)?;
        let next = before.towards(&target, newcomers_max)?;
        let nothing_moves = plan.is_empty() && plan.firsts_changed() == 0;
        if nothing_moves && *members == before.topology() {
            return Ok(Self { next, target, plan, copies: Vec::new() });
        }
        let mut copies = vec![Plan::between(before, &next)?.moves().len()];
        let mut at = next.clone();
        while at != target && copies.len() < before.replicas() {
            let step = at.towards(&target, newcomers_max)?;
            copies.push(Plan::between(&at, &step)?.moves().len());
            at = step;
        }
        Ok(Self { next, target, plan, copies })
    }
}

impl Steps {
    /// The one step in which two copies change places; none if they have already.
    ///
    /// # Errors
    /// What kv-ring says of it.
    pub fn exchanging(before: &Layout<NodeId>, exchange: &Exchange<NodeId>) -> Result<Self, Error> {
        let made = before.may_exchange(&exchange.back()).is_ok();
        let target = if made { before.clone() } else { before.exchanged(exchange)? };
        let plan = Plan::between(before, &target)?;
        let copies = if made { Vec::new() } else { vec![plan.moves().len()] };
        Ok(Self { next: target.clone(), target, plan, copies })
    }
}

#[cfg(test)]
mod tests {
    use kv_ring::{NodeSpec, Zone};

    use super::*;
    use crate::cluster::decree::tests::first;

    #[test]
    fn a_change_takes_the_steps_that_the_quorums_need() {
        let before = first(3);
        let mut members = before.topology();
        let so = Steps::between(&before, &members, 1).expect("three nodes");
        assert!(so.copies.is_empty(), "it is so already");
        for node in [4, 5] {
            members.insert(NodeId(node), NodeSpec::new(1, Zone::named("")));
        }
        let two = Steps::between(&before, &members, 1).expect("five nodes");
        assert_eq!(two.copies.len(), 2, "some partition gets both");
        assert_eq!(two.copies.iter().sum::<usize>(), two.plan.moves().len());
        assert_ne!(two.next, two.target);
        let rest = Steps::between(&two.next, &members, 1).expect("five nodes");
        assert_eq!(rest.copies, two.copies[1..]);
        assert_eq!(Steps::between(&before, &members, 2).expect("five nodes").copies.len(), 1);
        for node in [1, 2, 3, 4] {
            members.remove(NodeId(node));
        }
        let few = Steps::between(&before, &members, 1);
        assert!(matches!(few, Err(Error::TooFewNodes { .. })), "{few:?}");
    }

    #[test]
    fn copies_change_places_in_one_step_and_only_once() {
        let before = first(5);
        let partitions = || before.partitions().iter();
        let pairs = partitions().flat_map(|one| partitions().map(move |other| (one, other)));
        let mut exchanges = pairs.filter_map(|(partition, against)| {
            let (from, to) = (before.owners(partition)[0], before.owners(against)[0]);
            let exchange = Exchange { partition, from, to, against };
            before.may_exchange(&exchange).ok().map(|()| exchange)
        });
        let exchange = exchanges.next().expect("five nodes hold three copies");
        let steps = Steps::exchanging(&before, &exchange).expect("it can be made");
        assert_eq!((steps.copies, steps.next.epoch()), (vec![2], 2));
        let again = Steps::exchanging(&steps.next, &exchange).expect("it is so");
        assert!(again.copies.is_empty());
        assert!(Steps::exchanging(&steps.next, &exchange.back()).is_ok(), "and back");
    }
}
