//! `cargo xtask bench`: the figures of the project, measured on this machine.

use crate::error::{Error, Result};

/// Which figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Redis,
    Cluster,
}

/// How long and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) rounds: u64,
    /// Requests of one run; each figure has its own default.
    pub(crate) requests: Option<u64>,
    /// Keys that are loaded before anything is measured.
    pub(crate) keys: u64,
    /// Whether docs/PERFORMANCE.md is written.
    pub(crate) write: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { rounds: 3, requests: None, keys: 1_000_000, write: true }
    }
}

pub(crate) fn run(_what: What, _options: &Options) -> Result<()> {
    Err(Error::Failed("there is no node to measure yet".into()))
}
