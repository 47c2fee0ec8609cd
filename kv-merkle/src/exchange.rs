//! Finding the leaves in which two trees differ, several levels a round, without a transport.
//!
//! ```text
//! asker                                answerer (keeps nothing)
//!   Open { root }             ->
//!                             <-       Same, or the nodes some levels below the root
//!   Compare { depth, nodes }  ->       for those that differed
//!                             <-       the nodes some levels below each of them
//!   ... until the nodes are leaves
//! ```
//!
//! Asking `l` levels deeper at once costs 2^l digests for each differing node and saves `l - 1`
//! round trips: with 4 levels a difference in 65,536 leaves is found in 4 rounds and 1 KiB each.
//! Invariant: with trees that don't change meanwhile, what [`Exchange::differing`] names in the end
//! is exactly the leaves that differ (but for collisions of 128-bit digests). When one changes, a
//! difference may be named that is gone, or be left to the next exchange; nothing worse.

use alloc::vec::Vec;

use crate::Error;
use crate::digest::Digest;
use crate::shape::Shape;
use crate::tree::Tree;

/// The longest answer: 64 KiB of digests.
pub const ANSWER_DIGESTS_MAX: usize = 4_096;

/// What the asker wants to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Are the trees the same? If not: the nodes `levels` below the root.
    Open {
        /// The shape of both trees.
        shape: Shape,
        /// The asker's root.
        root: Digest,
        /// How many levels to go down, at least 1.
        levels: u8,
    },
    /// The nodes `levels` below each of these.
    Compare {
        /// The shape of both trees.
        shape: Shape,
        /// The depth of the nodes.
        depth: u8,
        /// How many levels to go down, at least 1.
        levels: u8,
        /// The nodes, ascending.
        nodes: Vec<u32>,
    },
}

/// What the answerer has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The roots are equal.
    Same,
    /// The answerer's tree has another shape: there is nothing to compare.
    OtherShape {
        /// Its shape.
        shape: Shape,
    },
    /// The nodes below those that were asked for, in order.
    Nodes {
        /// The depth of these nodes.
        depth: u8,
        /// All of them.
        digests: Vec<Digest>,
    },
}

/// Answers a request. Keeps nothing, so every request can be repeated. O(digests in the answer).
///
/// # Errors
/// [`Error::AnswerTooLong`], [`Error::Malformed`] for nodes that the tree does not have.
pub fn answer(tree: &Tree, request: &Request) -> Result<Answer, Error> {
    let (shape, depth, levels, nodes): (_, _, _, &[u32]) = match request {
        Request::Open { shape, levels, .. } => (*shape, 0, *levels, &[0]),
        Request::Compare { shape, depth, levels, nodes } => (*shape, *depth, *levels, nodes),
    };
    if shape != tree.shape() {
        return Ok(Answer::OtherShape { shape: tree.shape() });
    }
    if let Request::Open { root, .. } = request
        && *root == tree.root()
    {
        return Ok(Answer::Same);
    }
    if depth >= shape.depth() || levels == 0 {
        return Err(Error::Malformed { field: "depth" });
    }
    if !nodes.is_sorted_by(|a, b| a < b) || nodes.last().is_none_or(|last| *last >= 1 << depth) {
        return Err(Error::Malformed { field: "nodes" });
    }
    let lower = depth.saturating_add(levels).min(shape.depth());
    let count = nodes.len() << (lower - depth);
    if count > ANSWER_DIGESTS_MAX {
        return Err(Error::AnswerTooLong { digests: count });
    }
    let mut digests = Vec::with_capacity(count);
    for node in nodes {
        digests.extend(tree.below(depth, *node, levels));
    }
    assert!(digests.len() == count, "each node that exists has its descendants");
    Ok(Answer::Nodes { depth: lower, digests })
}

/// How an exchange goes about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    levels_per_round: u8,
    answer_digests_max: usize,
}

impl Pace {
    /// Goes down `levels_per_round` levels with each request, for as many nodes as fit into an
    /// answer of `answer_digests_max` digests, one node at least. Both are brought within 1 to 12
    /// levels and 2 to [`ANSWER_DIGESTS_MAX`] digests.
    pub const fn new(levels_per_round: u8, answer_digests_max: usize) -> Self {
        let answer_digests_max = match answer_digests_max {
            0 | 1 => 2,
            more if more > ANSWER_DIGESTS_MAX => ANSWER_DIGESTS_MAX,
            more => more,
        };
        let levels_fit = answer_digests_max.ilog2() as u8;
        let levels_per_round = match levels_per_round {
            0 => 1,
            more if more > levels_fit => levels_fit,
            more => more,
        };
        Self { levels_per_round, answer_digests_max }
    }
}

impl Default for Pace {
    /// 4 levels a round, answers of at most 16 KiB.
    fn default() -> Self {
        Self::new(4, 1_024)
    }
}

/// The asker's side of one comparison.
#[derive(Clone, Debug)]
pub struct Exchange {
    shape: Shape,
    pace: Pace,
    /// Differing nodes of `depth` that are still to be asked for, ascending.
    pending: Vec<u32>,
    depth: u8,
    /// Differing nodes of the next depth, ascending: leaves in the end.
    found: Vec<u32>,
    state: State,
    rounds: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    Opening,
    Idle,
    /// Waits for the answer about the first so many of `pending`.
    Waiting(usize),
    Done,
}

impl Exchange {
    /// A comparison of `tree` with a peer's. Give the same tree to each call that follows.
    pub const fn new(tree: &Tree, pace: Pace) -> Self {
        Self {
            shape: tree.shape(),
            pace,
            pending: Vec::new(),
            depth: 0,
            found: Vec::new(),
            state: State::Opening,
            rounds: 0,
        }
    }

    /// The request to send: the next one, or the same again while its answer is missing. `None`
    /// when all is known.
    pub fn request(&mut self, tree: &Tree) -> Option<Request> {
        let (shape, levels) = (self.shape, self.pace.levels_per_round);
        let count = match self.state {
            State::Done => return None,
            State::Opening => return Some(Request::Open { shape, root: tree.root(), levels }),
            State::Waiting(count) => count,
            State::Idle => {
                let each = 1_usize << (self.lower() - self.depth);
                (self.pace.answer_digests_max / each).clamp(1, self.pending.len())
            }
        };
        self.state = State::Waiting(count);
        let nodes = self.pending.iter().take(count).copied().collect();
        Some(Request::Compare { shape, depth: self.depth, levels, nodes })
    }

    /// Takes the peer's answer to the last request. O(digests in it).
    ///
    /// # Errors
    /// [`Error::NotAsked`] when it belongs to another request, [`Error::OtherDepth`] when the trees
    /// can't be compared. Nothing has changed; the request may be sent again.
    pub fn on_answer(&mut self, tree: &Tree, answer: &Answer) -> Result<(), Error> {
        let opening = self.state == State::Opening;
        let asked: Vec<u32> = match self.state {
            State::Opening => Vec::from([0]),
            State::Waiting(count) => self.pending.iter().take(count).copied().collect(),
            State::Idle | State::Done => return Err(Error::NotAsked),
        };
        let (depth, theirs) = match answer {
            Answer::Same if opening => {
                self.state = State::Done;
                self.rounds += 1;
                return Ok(());
            }
            Answer::Same => return Err(Error::NotAsked),
            Answer::OtherShape { shape } => {
                let (ours, theirs) = (self.shape.depth(), shape.depth());
                return Err(Error::OtherDepth { ours, theirs });
            }
            Answer::Nodes { depth, digests } => (*depth, digests),
        };
        let lower = self.lower();
        let width = lower - self.depth;
        if depth != lower || theirs.len() != asked.len() << width {
            return Err(Error::NotAsked);
        }
        let below = asked.iter().flat_map(|node| {
            let first = node << width;
            first..first + (1 << width)
        });
        for (node, theirs) in below.zip(theirs) {
            if tree.node(lower, node) != Some(*theirs) {
                self.found.push(node);
            }
        }
        self.rounds += 1;
        if !opening {
            self.pending.drain(..asked.len());
        }
        self.state = State::Idle;
        if self.pending.is_empty() {
            self.descend(lower);
        }
        Ok(())
    }

    /// Whether all is known.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The leaves that differ, ascending: all of them once [`is_done`](Self::is_done), those known
    /// so far before.
    pub fn differing(&self) -> &[u32] {
        let leaves = self.is_done() || self.lower() == self.shape.depth();
        if leaves { &self.found } else { &[] }
    }

    /// How many answers were taken.
    pub const fn rounds(&self) -> u32 {
        self.rounds
    }

    fn lower(&self) -> u8 {
        self.depth.saturating_add(self.pace.levels_per_round).min(self.shape.depth())
    }

    /// Everything of this depth was asked for: go on with what differed below it.
    fn descend(&mut self, lower: u8) {
        if lower == self.shape.depth() || self.found.is_empty() {
            self.state = State::Done;
            return;
        }
        self.pending = core::mem::take(&mut self.found);
        self.depth = lower;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaves::Leaves;

    fn tree(depth: u8, changed: &[u32]) -> Tree {
        let mut leaves = Leaves::new(Shape::new(depth).unwrap());
        for leaf in changed {
            leaves.add(*leaf, Digest::new(9)).unwrap();
        }
        Tree::build(&leaves)
    }

    #[test]
    fn equal_trees_need_one_round() {
        let (ours, theirs) = (tree(10, &[3]), tree(10, &[3]));
        let mut exchange = Exchange::new(&ours, Pace::default());
        let request = exchange.request(&ours).unwrap();
        let answer = answer(&theirs, &request).unwrap();
        assert_eq!(answer, Answer::Same);
        exchange.on_answer(&ours, &answer).unwrap();
        assert!(exchange.is_done());
        assert_eq!((exchange.differing(), exchange.rounds()), (&[][..], 1));
        assert_eq!(exchange.request(&ours), None);
    }

    #[test]
    fn a_lost_answer_is_asked_for_again_and_a_doubled_one_refused() {
        let (ours, theirs) = (tree(10, &[3, 900]), tree(10, &[]));
        let mut exchange = Exchange::new(&ours, Pace::default());
        let mut last = None;
        while let Some(request) = exchange.request(&ours) {
            assert_eq!(exchange.request(&ours), Some(request.clone()));
            let answer = answer(&theirs, &request).unwrap();
            let Answer::Nodes { depth, digests } = answer.clone() else { panic!("they differ") };
            let foreign = Answer::Nodes { depth: depth + 1, digests };
            assert_eq!(exchange.on_answer(&ours, &foreign), Err(Error::NotAsked));
            exchange.on_answer(&ours, &answer).unwrap();
            assert_eq!(exchange.on_answer(&ours, &answer), Err(Error::NotAsked));
            last = Some(answer);
        }
        assert!(last.is_some());
        assert_eq!(exchange.differing(), [3, 900]);
        assert_eq!(exchange.rounds(), 3);
    }

    #[test]
    fn other_shapes_are_named() {
        let (ours, theirs) = (tree(10, &[]), tree(9, &[]));
        let mut exchange = Exchange::new(&ours, Pace::default());
        let request = exchange.request(&ours).unwrap();
        let answer = answer(&theirs, &request).unwrap();
        let error = Error::OtherDepth { ours: 10, theirs: 9 };
        assert_eq!(exchange.on_answer(&ours, &answer), Err(error));
        assert!(!exchange.is_done());
    }

    #[test]
    fn requests_that_ask_for_too_much_or_nonsense_are_refused() {
        let tree = tree(16, &[1]);
        let shape = tree.shape();
        let compare = |depth, levels, nodes: &[u32]| {
            let nodes = nodes.to_vec();
            answer(&tree, &Request::Compare { shape, depth, levels, nodes })
        };
        assert_eq!(compare(0, 13, &[0]), Err(Error::AnswerTooLong { digests: 8_192 }));
        assert_eq!(compare(0, 255, &[0]), Err(Error::AnswerTooLong { digests: 65_536 }));
        assert!(compare(0, 12, &[0]).is_ok());
        assert!(compare(16, 1, &[0]).is_err());
        assert!(compare(200, 1, &[0]).is_err());
        assert!(compare(3, 0, &[0]).is_err());
        assert!(compare(3, 1, &[]).is_err());
        assert!(compare(3, 1, &[8]).is_err());
        assert!(compare(3, 1, &[4, 4]).is_err());
        assert!(compare(3, 1, &[5, 4]).is_err());
        assert!(compare(3, 1, &[4, 7]).is_ok());
    }

    #[test]
    fn a_pace_stays_within_its_bounds() {
        assert_eq!(Pace::new(0, 0), Pace { levels_per_round: 1, answer_digests_max: 2 });
        let fastest = Pace { levels_per_round: 12, answer_digests_max: ANSWER_DIGESTS_MAX };
        assert_eq!(Pace::new(200, usize::MAX), fastest);
    }
}
