//! Whether a directory that starts is the last one of its node, as far as the others know.
//!
//! ```text
//! own lease at or below a time heard from this id     an old copy: refused for good
//! own position below what was heard as durable        it lost something: a newcomer everywhere
//! neither, from a majority                            confirmed
//! ```
//!
//! The lease bounds every time that the directory told, so a copy that is older than a lease period
//! is always found out by whoever heard from its later life. A younger copy, a tail that a power
//! cut took and a disk that lied about a sync are seen by the position; what they lost is fetched
//! from others, so nobody has to act. One node that knows better is enough to refuse; a majority
//! (this node is one of it) has to be asked.
//!
//! Pure: `node::life` carries the questions.

use std::collections::BTreeSet;

use kv_client::NodeId;

use super::heard::Heard;

/// What the starting directory knows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// Exclusive upper bound of every time that it told.
    pub lease: u64,
    /// How far its engine was recovered.
    pub position: u64,
}

/// What the answers so far come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Too few have answered.
    Wait,
    /// It may serve. `lost`: it lacks something that it had acknowledged.
    Confirmed {
        /// Whether it counts as a newcomer in every partition.
        lost: bool,
    },
    /// It is an old copy: `by` has heard a time from this id that it can't have told.
    Old {
        /// Who knows better.
        by: NodeId,
        /// The time that was heard.
        heard: u64,
    },
}

/// The question whether a directory may serve.
#[derive(Debug)]
pub struct Confirmation {
    own: Own,
    needed: usize,
    confirmed: BTreeSet<NodeId>,
    lost: bool,
    old: Option<(NodeId, u64)>,
}

impl Confirmation {
    /// A directory of a layout with `members` members, itself among them.
    pub fn new(own: Own, members: usize) -> Self {
        Self { own, needed: members / 2, confirmed: BTreeSet::new(), lost: false, old: None }
    }

    /// What another member has heard from this id.
    pub fn on_answer(&mut self, from: NodeId, heard: Heard) {
        if heard.time > 0 && heard.time >= self.own.lease {
            self.old = self.old.or(Some((from, heard.time)));
        }
        self.lost |= heard.position > self.own.position;
        self.confirmed.insert(from);
    }

    /// What is known by now.
    pub fn finding(&self) -> Finding {
        match self.old {
            Some((by, heard)) => Finding::Old { by, heard },
            None if self.confirmed.len() >= self.needed => Finding::Confirmed { lost: self.lost },
            None => Finding::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Own = Own { lease: 100, position: 10 };

    fn heard(time: u64, position: u64) -> Heard {
        Heard { life: 1, time, position }
    }

    #[test]
    fn a_majority_has_to_be_asked_and_the_node_is_one_of_it() {
        for (members, needed) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
            let mut asked = Confirmation::new(OWN, members);
            for from in 0..needed {
                assert_eq!(asked.finding(), Finding::Wait, "{members} members, {from} answers");
                asked.on_answer(NodeId(from), heard(99, 10));
                asked.on_answer(NodeId(from), heard(99, 10));
            }
            assert_eq!(asked.finding(), Finding::Confirmed { lost: false });
        }
    }

    #[test]
    fn one_that_heard_a_later_life_is_enough_to_refuse() {
        let mut asked = Confirmation::new(OWN, 5);
        asked.on_answer(NodeId(1), heard(99, 10));
        asked.on_answer(NodeId(2), heard(100, 0));
        asked.on_answer(NodeId(3), heard(99, 10));
        assert_eq!(asked.finding(), Finding::Old { by: NodeId(2), heard: 100 });
    }

    #[test]
    fn a_position_below_what_was_durable_is_a_loss() {
        let mut asked = Confirmation::new(OWN, 3);
        asked.on_answer(NodeId(1), heard(50, 11));
        assert_eq!(asked.finding(), Finding::Confirmed { lost: true });
    }

    #[test]
    fn a_directory_without_a_lease_has_told_nothing() {
        let own = Own { lease: 0, position: 0 };
        let mut asked = Confirmation::new(own, 3);
        asked.on_answer(NodeId(1), Heard::default());
        assert_eq!(asked.finding(), Finding::Confirmed { lost: false });
        asked.on_answer(NodeId(2), heard(1, 0));
        assert!(matches!(asked.finding(), Finding::Old { .. }));
    }
}
