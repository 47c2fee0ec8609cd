//! An embedded log-structured merge engine with an honest commit log: group commit, recycled segments, crash-tested.

mod cache;
mod codec;
mod commit;
mod compaction;
mod compression;
mod config;
mod engine;
mod error;
mod explain;
pub mod fs;
mod iter;
mod key;
mod memtable;
mod metrics;
mod poison;
#[cfg(test)]
mod proof;
mod recovery;
mod snapshot;
mod sstable;
mod step;
mod ticket;
mod version;
mod wal;

pub use commit::{Batch, Durability};
pub use compaction::{CompactionFilter, Decision};
#[cfg(any(test, feature = "__planted"))]
pub use config::Planted;
pub use config::{Compression, Config, Threads};
pub use engine::{Engine, Found, Iter, Resident, Snapshot};
pub use error::Error;
pub use explain::{Explanation, MemtableHit, Probe, TableProbe};
pub use metrics::Stats;
pub use sstable::{BlockedBloom, Bloom, Filter, FilterPolicy};
pub use step::StepOutcome;
pub use ticket::{OnDurable, Ticket};
