//! What is known of one member, and which of two accounts of it is the newer one.
//!
//! Accounts of a member are ordered by incarnation, then by state: `Up < Suspect < Down < Left`.
//! Only the member itself raises its incarnation. So any two nodes that have heard the same
//! accounts, in any order and any number of times, hold the same one (SWIM, section 4.2, made a
//! join): an accusation beats the claim to be up at the same incarnation, and the accused refutes
//! it by a higher one. A member that was down and is heard with a higher incarnation is up again.

use crate::identity::Address;
use crate::time::Millis;

/// How many accusers a suspicion names: more add nothing to the confidence in it.
pub const ACCUSERS_MAX: usize = 4;

/// What a member is believed to be. The order is that of accounts with one incarnation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// It answers, or nobody has said otherwise.
    Up,
    /// It did not answer someone, and has a while to refute that.
    Suspect,
    /// It has not refuted the suspicion in time.
    Down,
    /// It has said that it leaves.
    Left,
}

impl State {
    /// Up or suspect: it is still probed and still gets news.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Up | Self::Suspect)
    }

    /// Down or left.
    pub const fn is_gone(self) -> bool {
        !self.is_live()
    }
}

/// What is known of one member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// What it is believed to be.
    pub state: State,
    /// The incarnation of which that is believed.
    pub incarnation: u64,
    /// Where it listens.
    pub address: Address,
    /// Since when it is in this state, by this node's clock.
    pub since: Millis,
}

/// Those who say that a member does not answer: a small set, ordered by arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Accusers<N>([Option<N>; ACCUSERS_MAX]);

impl<N: Copy + Eq> Accusers<N> {
    pub(crate) const fn none() -> Self {
        Self([None; ACCUSERS_MAX])
    }

    pub(crate) fn one(node: N) -> Self {
        let mut accusers = Self::none();
        accusers.insert(node);
        accusers
    }

    /// Adds `node`; false when it was there already or the set is full.
    pub(crate) fn insert(&mut self, node: N) -> bool {
        for place in &mut self.0 {
            match place {
                Some(present) if *present == node => return false,
                Some(_) => {}
                None => {
                    *place = Some(node);
                    return true;
                }
            }
        }
        false
    }

    pub(crate) fn len(&self) -> usize {
        self.iter().count()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = N> + '_ {
        self.0.iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_of_one_incarnation_are_ordered_by_state() {
        assert!(State::Up < State::Suspect);
        assert!(State::Suspect < State::Down);
        assert!(State::Down < State::Left);
    }

    #[test]
    fn accusers_count_once_and_stop_at_the_limit() {
        let mut accusers = Accusers::one(1_u64);
        assert!(!accusers.insert(1));
        assert!((2..=ACCUSERS_MAX as u64).all(|node| accusers.insert(node)));
        assert!(!accusers.insert(99));
        assert_eq!(accusers.len(), ACCUSERS_MAX);
    }
}
