//! Scaling by traffic: what nodes carry, whether there should be more of them or fewer, and the
//! loop that sees to it.
//!
//! ```text
//! load.rs    what this node carries ── gossip ──> every node
//! policy     what was measured ──> a decision, and why
//! board.rs   what operators set for all
//! this loop  joins an empty node that waits, asks the provisioner for one, lets a member leave,
//!            has it ended
//! ```
//! Every node measures and decides, so that any of them can show the decision and take over; only
//! the live member with the lowest id acts on it. Should two believe that they are it, each names
//! the epoch that it decided after: of two changes one is decided, and a request to the provisioner
//! has the same name from both.
//!
//! A step leaves nothing half-way that only this node knows. A node that was asked for is seen when
//! it waits to be joined, whoever asked; one that left is on a list that is told around
//! (`board.rs`), and is ended by whoever decides then.
//!
//! Invariant: at most one change of the members at a time, through the same door as an operator's.

pub(crate) mod board;
pub(crate) mod ground;
pub mod load;
pub mod policy;
pub(crate) mod scaler;
mod sketch;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use board::{Board, Mode, Told};
pub use policy::Policy;

use crate::plug::provisioner::Provisioner;

/// What is configured of scaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleSettings {
    /// Whether decisions are made and carried out.
    pub mode: Mode,
    /// The policy.
    pub policy: Policy,
    /// Milliseconds between two looks.
    pub interval_ms: u64,
    /// Milliseconds in which a node that was asked for has to come.
    pub add_ms_max: u64,
}

/// How a node scales its cluster.
pub struct ScaleParts {
    /// What is configured.
    pub settings: ScaleSettings,
    /// Who starts nodes and ends them.
    pub provisioner: Arc<dyn Provisioner>,
}

/// Whether what a policy looks back at fits what is kept.
///
/// # Errors
/// The setting, and why not.
pub(crate) fn check_windows(policy: &Policy, interval_ms: u64) -> Result<(), String> {
    let most_ms = interval_ms.saturating_mul(policy::SAMPLES_MAX as u64 - 2);
    for (key, window_ms) in
        [("out_after_ms", policy.out_after_ms), ("in_after_ms", policy.in_after_ms)]
    {
        if window_ms > most_ms {
            return Err(format!("{key}: at most {most_ms} with a look each {interval_ms} ms"));
        }
    }
    Ok(())
}
