//! Blind writes as puts: with the context that their coordinator had, which no client is told.
//!
//! The watch over the mints knows what a SET replaced, and what was deleted between two moments.
//! So the checker of siblings can judge every key, whoever wrote it and however.
//!
//! Of a SET that minted twice, somebody may have been shown the first dot only, and his context
//! covers no more than that: it may stand after he replaced it, and is not judged. A DEL beside
//! another of the same key may have minted either's tombstone, and is not judged either: both stand
//! here as writes without an answer.

use super::history::{Action, Op, Outcome};
use super::watch::{Mints, SHARED};

/// The history with SETs and DELs as puts and deletes of what was seen: those of shared keys, and
/// with `all` those of every key that is watched.
#[must_use]
pub fn with_contexts(mints: &Mints, ops: &[Op], all: bool) -> Vec<Op> {
    let mut out = ops.to_vec();
    let watched = |op: &&mut Op| op.key.starts_with(SHARED) || all && Mints::watches(&op.key);
    for op in out.iter_mut().filter(watched) {
        match &op.action {
            Action::Set(value) => {
                let seen = mints.replaced_by(&op.key, value);
                if mints.dots_of(&op.key, value) > 1 {
                    op.outcome = Outcome::Unknown("minted twice".into());
                }
                op.action = Action::Put { value: value.clone(), seen };
            }
            Action::Delete => {
                let to_us = if op.is_acknowledged() { op.ended_us } else { u64::MAX };
                let seen = mints.deleted_between(&op.key, op.began_us, to_us);
                if ops.iter().any(|other| is_beside(op, other)) {
                    op.outcome = Outcome::Unknown("beside another".into());
                }
                op.action = Action::DeleteSeen { seen };
            }
            _ => {}
        }
    }
    out
}

/// Whether `other` is another DEL of the key that may have deleted at the same time.
fn is_beside(op: &Op, other: &Op) -> bool {
    other.key == op.key
        && other.began != op.began
        && other.action == Action::Delete
        && other.may_have_written()
        && other.began < op.ended
        && op.began < other.ended
}
