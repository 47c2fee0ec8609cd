//! An embedded log-structured merge engine with an honest commit log: group commit, recycled
//! segments, crash-tested.
//!
//! Keys and values are bytes. A write goes to a commit log and to a sorted table in memory; full
//! tables in memory become sorted files, which are merged level by level in the background. Reads
//! see every write at once; *durable* is something that a caller is told, by a [`Ticket`], so that
//! thousands of writers share one sync and none of them blocks a thread.
//!
//! It is not a database: no transactions over reads, no network, no columns, no `mmap`, and one
//! process at a time. It spends its effort on what happens when the disk or the power fails:
//! damage is an error and never "not found", a failed sync is never retried, and the tests cut
//! the power after every single call of the file system.
//!
//! ```
//! use std::{path::Path, sync::Arc};
//! use kv_lsm::{Batch, Config, Engine, fs::MemFs};
//!
//! # fn main() -> Result<(), kv_lsm::Error> {
//! let engine = Engine::open(Arc::new(MemFs::new()), Path::new("/db"), Config::default())?;
//! let mut batch = Batch::new();
//! batch.put(b"planet/earth", b"blue").put(b"planet/mars", b"red").delete(b"planet/pluto");
//! let ticket = engine.append(&batch)?; // visible now ...
//! engine.wait_durable(ticket)?; // ... and now it survives a power cut
//! assert_eq!(engine.get(b"planet/mars")?.unwrap().value, "red");
//! let planets: Result<Vec<_>, _> = engine.scan("planet/".."planet0").rev().collect();
//! assert_eq!(planets?.len(), 2);
//! engine.close()
//! # }
//! ```
//!
//! - [`Engine`]: open, [`append`](Engine::append), [`on_durable`](Engine::on_durable),
//!   [`get_resident`](Engine::get_resident) (never touches the disk), [`get`](Engine::get),
//!   [`scan`](Engine::scan) from both ends, [`snapshot`](Engine::snapshot),
//!   [`explain`](Engine::explain), [`verify`](Engine::verify); [`commit`](Engine::commit) appends
//!   and waits in one, [`checkpoint`](Engine::checkpoint) copies a directory while it is in use,
//!   [`open_read_only`](Engine::open_read_only) looks into one without changing it.
//! - [`Keyspace`]: keys of their own with options of their own, in the same batches and snapshots:
//!   [`create_keyspace`](Engine::create_keyspace), [`Batch::put_in`].
//! - [`Config`]: bounds with units in their names. [`Threads::Inline`] takes the engine's threads
//!   away: the owner calls [`step`](Engine::step), so that a simulation decides what happens when.
//! - [`fs`]: the file system as a seam. [`fs::MemFs`] models what a power cut leaves behind,
//!   [`fs::FailFs`] fails at a chosen call.
//!
//! What is promised about syncs, and what is assumed of disks, is in the README.

mod cache;
mod checkpoint;
mod codec;
mod commit;
mod compaction;
mod compression;
mod config;
mod engine;
mod erase;
mod error;
mod explain;
pub mod fs;
#[cfg(any(test, feature = "__fuzz"))]
pub mod fuzzing;
mod group;
mod head;
mod iter;
mod key;
mod keyspace;
mod memtable;
mod metrics;
mod pace;
mod poison;
#[cfg(test)]
mod proof;
mod recovery;
mod shared;
mod snapshot;
mod sstable;
mod step;
mod ticket;
mod version;
mod view;
mod wal;
mod work;

pub use commit::{Batch, Durability};
pub use compaction::{CompactionFilter, Decision};
#[cfg(any(test, feature = "__planted"))]
pub use config::Planted;
pub use config::{Compression, Config, Threads};
pub use engine::Engine;
pub use erase::Erased;
pub use error::Error;
pub use explain::{Explanation, MemtableHit, Probe, TableProbe};
pub use keyspace::{Keyspace, KeyspaceOptions};
pub use metrics::Stats;
pub use snapshot::{Iter, Snapshot};
pub use sstable::{BlockedBloom, Bloom, Damage, Filter, FilterPolicy};
pub use step::StepOutcome;
pub use ticket::{OnDurable, Ticket};
pub use view::{Found, Resident};
