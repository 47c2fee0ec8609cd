//! An embedded log-structured merge engine with an honest commit log: group commit, recycled segments, crash-tested.
#![allow(dead_code)]

mod cache;
mod codec;
mod compaction;
mod compression;
mod config;
mod error;
pub mod fs;
mod iter;
mod key;
mod sstable;
mod version;

#[cfg(feature = "__planted")]
pub use config::Planted;
pub use config::{Compression, Config, Threads};
pub use error::Error;
pub use sstable::{BlockedBloom, Bloom, Filter, FilterPolicy};
