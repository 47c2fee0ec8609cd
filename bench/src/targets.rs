//! What is asked of kv-lsm beside its peers.

/// A bound on a figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// At least so many times the best peer's rate.
    Rate(f64),
    /// At least so many times the bare loop's rate.
    OfBare(f64),
    /// At most so many times the best peer's (a time or a size).
    Most(f64),
    /// At most this.
    Number(f64),
}

/// The peers whose best is counted; others are shown.
pub(crate) const COUNTED: [&str; 2] = ["fjall", "surrealkv"];

/// Workload, what it is, and what is asked of it.
pub(crate) const RATES: &[(&str, &str, Option<Asked>)] = &[
    ("fillseq", "fill in order, 1 writer", Some(Asked::Rate(1.0))),
    ("fillrandom", "fill at random, 1 writer", Some(Asked::Rate(1.1))),
    ("fillrandom2", "fill at random, 2 writers", Some(Asked::Rate(1.3))),
    ("fillbatch", "fill at random, batches of 100", Some(Asked::Rate(1.0))),
    ("overwrite", "overwrite, 1 writer", Some(Asked::Rate(1.1))),
    ("sync1", "commit with fdatasync, 1 writer", Some(Asked::OfBare(0.95))),
    ("sync16", "commit with fdatasync, 16 writers", Some(Asked::Rate(1.0))),
    ("sync64", "commit with fdatasync, 64 writers", Some(Asked::Rate(1.0))),
    ("readhit", "read, 1 reader", Some(Asked::Rate(1.1))),
    ("readhit2", "read, 2 readers", Some(Asked::Rate(1.1))),
    ("readmiss", "read of what is not there", Some(Asked::Rate(1.2))),
    ("readzipf", "read, Zipf 0.99, 1 reader", Some(Asked::Rate(2.0))),
    ("readzipf2", "read, Zipf 0.99, 2 readers", Some(Asked::Rate(2.0))),
    ("scan100", "scan of 100 pairs", Some(Asked::Rate(1.0))),
    ("ycsba", "YCSB A, 2 threads", Some(Asked::Rate(1.3))),
    ("ycsbb", "YCSB B, 2 threads", Some(Asked::Rate(1.3))),
    ("ycsbc", "YCSB C, 2 threads", Some(Asked::Rate(1.3))),
    ("ycsbf", "YCSB F, 2 threads", Some(Asked::Rate(1.3))),
    ("readcold", "read after an open, page cache dropped", Some(Asked::Rate(1.0))),
];

/// A gauge: what it is, what it is divided by and its unit, and what is asked of it.
pub(crate) const GAUGES: &[(&str, &str, f64, Option<Asked>)] = &[
    ("wa_fillrandom", "bytes written : user's, fillrandom", 1.0, Some(Asked::Number(2.5))),
    ("wa_fillseq", "bytes written : user's, fillseq", 1.0, None),
    ("disk", "bytes on disk at rest : user's", 1.0, Some(Asked::Most(1.05))),
    ("rss_fill", "most memory while filling, MiB", 1_048_576.0, None),
    ("rss_read", "most memory after that, MiB", 1_048_576.0, None),
    ("open", "open after a close, page cache dropped, ms", 1e-3, Some(Asked::Most(1.0))),
    ("recovery", "open after a kill, log full, ms", 1e-3, Some(Asked::Most(0.5))),
    ("missing", "pairs missing after the kill", 1.0, Some(Asked::Number(0.0))),
];

/// The worst single write of fillrandom may take so long, in milliseconds.
pub(crate) const STALL_MS_MAX: f64 = 50.0;
