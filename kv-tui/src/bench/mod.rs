//! A load generator that speaks RESP: `kv bench`, YCSB's workloads A to F against any Redis server.
//!
//! ```text
//! main thread: load ── samples once a second, draws ── report
//!                │                  │ takes
//! threads:   clients ── schedule ── batch ── tally
//! ```
//!
//! In the open loop a request has a time at which it is meant to begin, whatever became of those
//! before it, and its latency counts from then: a server that stalls is charged with all requests
//! that should have begun meanwhile (Tene's "coordinated omission"). In the closed loop each client
//! waits for its answers, and latency counts from the sending.
//!
//! Cooper et al., "Benchmarking Cloud Serving Systems with YCSB" (2010), for the workloads. Where
//! it scans by key, this walks by SCAN: neither server keeps keys in order.

mod alarm;
mod client;
mod compare;
mod draw;
mod keys;
mod load;
mod report;
mod run;
mod tally;
#[cfg(test)]
mod tests;
mod workload;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::resp::Target;

pub(crate) use compare::{Interval, Verdict, compare, differing};
pub(crate) use draw::Picture;
pub(crate) use load::{load, server_name};
pub(crate) use report::Report;
pub(crate) use run::run;
pub(crate) use workload::Workload;

/// The whole part of a number; 0 of a negative one.
#[expect(clippy::cast_sign_loss, reason = "the cast saturates")]
pub(crate) fn whole(number: f64) -> u64 {
    number as u64
}

/// Which keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Distribution {
    /// All alike.
    Uniform,
    /// By Zipf's law with exponent 0.99, the popular ones spread over all keys.
    Zipf,
}

impl Distribution {
    /// Its name on the command line and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Clients are spread over them, and move on to the next when one goes away.
    pub(crate) targets: Vec<Target>,
    pub(crate) workload: Workload,
    pub(crate) distribution: Distribution,
    pub(crate) keys: u64,
    pub(crate) prefix: String,
    pub(crate) value_bytes: u32,
    pub(crate) clients: u32,
    pub(crate) threads: u32,
    /// Requests of one client that are under way together.
    pub(crate) pipeline: u32,
    /// Requests a second of all clients together; `None` is the closed loop.
    pub(crate) rate: Option<u32>,
    pub(crate) warm_up: Duration,
    pub(crate) time: Duration,
    pub(crate) seed: u64,
    /// For one batch's answers.
    pub(crate) wait: Duration,
}

impl Plan {
    /// What must be the same in runs that are compared, by name.
    pub(crate) fn settings(&self) -> BTreeMap<String, Value> {
        let settings = [
            ("workload", Value::from(self.workload.name())),
            ("distribution", self.distribution.name().into()),
            ("keys", self.keys.into()),
            ("value_bytes", self.value_bytes.into()),
            ("clients", self.clients.into()),
            ("threads", self.threads.into()),
            ("pipeline", self.pipeline.into()),
            ("rate", self.rate.into()),
        ];
        settings.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// The name of a key.
    pub(crate) fn key(&self, number: u64) -> String {
        format!("{}{number:012}", self.prefix)
    }
}
