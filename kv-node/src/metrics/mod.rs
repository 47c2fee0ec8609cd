//! The node's figures: what is counted, under which names the outside sees it, and what they mean.
//!
//! ```text
//! counters  what requests add to          registry  every name, once, with its help
//!      \                                  /       \
//!       page ── text ──> /metrics              papers ──> docs/METRICS.md, the dashboard,
//!                                                         the alert rules, OPERATING.md's table
//! ```
//! **Invariant.** A figure can only be put on the page by the registry's item for it, and every
//! item has its `# HELP` and `# TYPE` there whether or not it has a value now; so the page, the
//! docs and what is queried can't drift apart without a test that fails. No label has a value that
//! a client chooses, and none has more than `SERIES_MAX` of them.

mod counters;
mod errors;
mod latencies;
mod page;
#[cfg(test)]
mod papers;
pub(crate) mod process;
mod registry;
mod text;

pub use counters::{Counter, Figures};
pub use errors::Errors;
pub use latencies::{Class, Latencies};
pub(crate) use page::{members_up, render};
pub use registry::{Group, Kind, Metric, all};
