//! Whether this node's wall clock can be believed, by what its peers' envelopes say of theirs.
//!
//! ```text
//! skewed   too far from a majority of those who were heard: nothing is minted
//! sound    near a majority of all members, each heard since the clock last jumped
//! ```
//! What can't be taken back (a floor, the bytes of a value that has ended) waits until the clock is
//! sound. That it is not skewed is too little for that: right after a jump nobody has said so yet.
//! A jump shows by itself, as a change between the wall clock and the steady one, and what peers
//! said before it says nothing of the clock behind it.
//!
//! Invariant: only present members have a say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kv_client::NodeId;
use parking_lot::Mutex;

/// What the clocks show at one moment, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) wall_ms: u64,
    pub(super) steady_ms: u64,
}

/// What peers say of this node's clock.
pub(super) struct ClockCheck {
    /// Clocks may be so far from each other.
    limit_ms: u64,
    state: Mutex<State>,
    skewed: Arc<AtomicBool>,
}

#[derive(Default)]
struct State {
    /// How far each member's clock is from this one's, as its last answer told.
    offsets: BTreeMap<NodeId, i64>,
    /// The wall clock less the steady one when it last jumped, or was first looked at.
    ahead_ms: Option<i64>,
}

impl ClockCheck {
    pub(super) fn new(limit_ms: u64) -> Self {
        Self { limit_ms, state: Mutex::default(), skewed: Arc::default() }
    }

    /// Whether this node's clock is too far from a majority's to mint.
    pub(super) fn skewed(&self) -> &Arc<AtomicBool> {
        &self.skewed
    }

    pub(super) fn is_skewed(&self) -> bool {
        self.skewed.load(Ordering::Acquire)
    }

    /// Notes the time that a member told.
    pub(super) fn heard(
        &self,
        from: NodeId,
        theirs_ms: u64,
        now: Now,
        is_member: impl Fn(NodeId) -> bool,
    ) {
        if !is_member(from) {
            return;
        }
        let offset = theirs_ms as i64 - now.wall_ms as i64;
        let mut state = self.state.lock();
        let jumped = state.look(now, self.limit_ms);
        let before = state.offsets.insert(from, offset);
        if !jumped && before.is_some_and(|old| self.is_far(old) == self.is_far(offset)) {
            return;
        }
        state.offsets.retain(|node, _| is_member(*node));
        let far = state.offsets.values().filter(|offset| self.is_far(**offset)).count();
        let skewed = far > state.offsets.len().div_ceil(2);
        if skewed != self.skewed.swap(skewed, Ordering::AcqRel) {
            tracing::error!(skewed, "this node's clock is or was too far from a majority's");
        }
    }

    /// Whether a majority of all members, this node among them, has been heard since the clock
    /// last jumped, and is near it.
    pub(super) fn is_sound(&self, now: Now, others: impl IntoIterator<Item = NodeId>) -> bool {
        let mut state = self.state.lock();
        state.look(now, self.limit_ms);
        let (mut members, mut near) = (1, 1);
        for node in others {
            members += 1;
            let is_near = |offset: &i64| !self.is_far(*offset);
            near += usize::from(state.offsets.get(&node).is_some_and(is_near));
        }
        near > members / 2
    }

    fn is_far(&self, offset: i64) -> bool {
        offset.unsigned_abs() > self.limit_ms
    }
}

impl State {
    /// Says whether the wall clock has jumped since the last look.
    fn look(&mut self, now: Now, limit_ms: u64) -> bool {
        let ahead_ms = now.wall_ms as i64 - now.steady_ms as i64;
        let jumped = self.ahead_ms.is_some_and(|old| old.abs_diff(ahead_ms) > limit_ms);
        if jumped {
            self.offsets.clear();
        }
        if jumped || self.ahead_ms.is_none() {
            self.ahead_ms = Some(ahead_ms);
        }
        jumped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT_MS: u64 = 60_000;
    const HOUR_MS: u64 = 3_600_000;
    const START: Now = Now { wall_ms: 1_700_000_000_000, steady_ms: 1_000 };

    fn later(ms: u64) -> Now {
        Now { wall_ms: START.wall_ms + ms, steady_ms: START.steady_ms + ms }
    }

    fn others() -> [NodeId; 2] {
        [NodeId(2), NodeId(3)]
    }

    fn hear(check: &ClockCheck, node: u64, theirs_ms: u64, now: Now) {
        check.heard(NodeId(node), theirs_ms, now, |node| others().contains(&node));
    }

    #[test]
    fn a_clock_is_sound_when_a_majority_of_the_members_was_heard_near_it() {
        let check = ClockCheck::new(LIMIT_MS);
        assert!(check.is_sound(START, []), "who is alone is a majority");
        assert!(!check.is_sound(START, others()), "nobody was heard");
        hear(&check, 2, START.wall_ms + 50_000, START);
        assert!(check.is_sound(START, others()));
        assert!(!check.is_sound(START, (2..7).map(NodeId)), "two of six");
        hear(&check, 2, START.wall_ms + HOUR_MS, START);
        assert!(!check.is_sound(START, others()));
    }

    #[test]
    fn a_clock_that_jumped_is_not_sound_before_the_others_were_heard_again() {
        let check = ClockCheck::new(LIMIT_MS);
        hear(&check, 2, START.wall_ms, START);
        hear(&check, 3, START.wall_ms, START);
        assert!(check.is_sound(later(HOUR_MS), others()), "time goes on");
        let jumped = Now { wall_ms: START.wall_ms + 2 * HOUR_MS, ..later(HOUR_MS) };
        assert!(!check.is_sound(jumped, others()));
        assert!(!check.is_skewed(), "nobody has said so yet");
        hear(&check, 2, START.wall_ms + HOUR_MS, jumped);
        hear(&check, 3, START.wall_ms + HOUR_MS, jumped);
        assert!(check.is_skewed() && !check.is_sound(jumped, others()));
        // And back.
        assert!(!check.is_sound(later(HOUR_MS), others()));
        hear(&check, 2, START.wall_ms + HOUR_MS, later(HOUR_MS));
        hear(&check, 3, START.wall_ms + HOUR_MS, later(HOUR_MS));
        assert!(check.is_sound(later(HOUR_MS), others()) && !check.is_skewed());
    }

    #[test]
    fn who_was_replaced_has_no_say() {
        let check = ClockCheck::new(LIMIT_MS);
        let all = |_: NodeId| true;
        check.heard(NodeId(9), START.wall_ms, START, all);
        hear(&check, 2, START.wall_ms + HOUR_MS, START);
        assert!(!check.is_skewed(), "one of two others");
        hear(&check, 3, START.wall_ms + HOUR_MS, START);
        assert!(check.is_skewed(), "both others, whatever the old one said");
    }
}
