//! The rows of the gate: what is demanded, how far that is asked to go, and the command that shows
//! it as far as it is built.
//!
//! They are those of the project's reliability goals (A1 to A21), and the lines of the issues that
//! are measured (by name). A row that nothing proves yet stands here too and says so: a gate that
//! leaves rows out would look better than it is.

/// One row of the gate.
pub(super) struct Row {
    pub(super) id: &'static str,
    pub(super) demand: &'static str,
    /// How far the goals ask it to go.
    pub(super) asked: &'static str,
    pub(super) proof: Proof,
}

/// What shows it.
pub(super) enum Proof {
    /// A command, as arguments of cargo.
    Run(Run),
    /// Nothing yet, and why.
    Missing(&'static str),
}

/// A command.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) arguments: &'static [&'static str],
    /// The same in minutes instead of hours; none if it is not worth a quick look.
    pub(super) quick: Option<&'static [&'static str]>,
    /// Whether long tests are asked for; never in a quick run.
    pub(super) long: bool,
}

const fn run(
    id: &'static str,
    demand: &'static str,
    asked: &'static str,
    arguments: &'static [&'static str],
    quick: Option<&'static [&'static str]>,
) -> Row {
    Row { id, demand, asked, proof: Proof::Run(Run { arguments, quick, long: false }) }
}

/// The tests of a target: at full length `KV_TEST_LONG` is set.
const fn tests(
    id: &'static str,
    demand: &'static str,
    asked: &'static str,
    arguments: &'static [&'static str],
) -> Row {
    let quick = Some(arguments);
    Row { id, demand, asked, proof: Proof::Run(Run { arguments, quick, long: true }) }
}

const fn missing(
    id: &'static str,
    demand: &'static str,
    asked: &'static str,
    why: &'static str,
) -> Row {
    Row { id, demand, asked, proof: Proof::Missing(why) }
}

macro_rules! scenario {
    ($name:literal, $seeds:literal) => {
        &["xtask", "sim", "--scenario", $name, "--seeds", $seeds, "--keep-going"]
    };
}

/// All rows, in the order in which they run: what takes minutes first.
pub(super) const ROWS: &[Row] = &[
    run("A19", "licences, refused packages, arrows", "audit of advisories too", TIDY, Some(TIDY)),
    run("A21", "no unsafe code in ours", "100 %", CLIPPY, Some(CLIPPY)),
    tests("A4", "engine against a model, with crashes", "1,000,000 sequences", LSM),
    tests(
        "A5",
        "a power cut and an error at every file call of 50 scripts",
        "50 scripts, about 100,000 power cuts; 10,000 in issue 6, line 3",
        LSM_PROOF,
    ),
    tests(
        "A7a",
        "kill -9 of a process that commits with Sync",
        "issue 6, line 3: 20 rounds; 200 are run",
        LSM_KILL,
    ),
    tests(
        "A7b",
        "the power of a mounted ext4 is cut under it; without syncs that loses",
        "1,000 cuts; 200 are run, of one node; issue 6, line 3: 20",
        LSM_POWER,
    ),
    tests(
        "A13",
        "flipped bits are found, in every kind of file of kv-lsm",
        "10,000 flips; issue 6, line 4: 1,000",
        LSM_DAMAGE,
    ),
    tests(
        "A15b",
        "readers of log, block, table, manifest and what is behind checksums, on mutations",
        "fuzzed, 5 M inputs each; the tests are run",
        LSM_FUZZ,
    ),
    run(
        "memory",
        "the in-memory engine: bytes a key, reads beside hashbrown behind a lock",
        "issue 6, line 2: at most 189 B, at least 0.8",
        MEMORY_ENGINE,
        Some(MEMORY_ENGINE_SMALL),
    ),
    run(
        "budget",
        "kv-lsm with data ten times its memory, zipf 0.99",
        "issue 6, line 2: RSS within 1.1 of the budget, 90 % of reads without the disk",
        LSM_BUDGET,
        None,
    ),
    tests(
        "A15",
        "the request parser against an oracle",
        "fuzzed, 10 M inputs, sanitized; the tests are run",
        RESP,
    ),
    run(
        "gossip",
        "1,000 members, 5 % of packets lost",
        "issue 3, line 8",
        GOSSIP,
        Some(GOSSIP_ONE),
    ),
    tests(
        "healing",
        "hints drain, anti-entropy alone mends, equal pairs cost nothing",
        "issue 3, lines 6 and 7",
        HEALING,
    ),
    tests(
        "A6",
        "kill -9 of one and of all, nothing lost; a stopped replica is hardly noticed",
        "200 rounds; 10 are run",
        CLUSTER,
    ),
    tests(
        "A11",
        "real links cut, processes stopped and killed, 10 mixed rounds",
        "50 rounds; 10 are run",
        PARTITIONS,
    ),
    tests(
        "A9",
        "join two, leave two (riak_kv #1754); transfers go on after kills",
        "20 runs",
        TRANSFERS,
    ),
    tests(
        "terminal",
        "the terminal: a kill, a conflict, its own node dies; signals, ctrl-z, a panic",
        "issue 4, lines 1 and 3: it asks another node within 2 s",
        TERMINAL,
    ),
    tests(
        "terminals",
        "what three attached terminals cost three nodes, in a release",
        "issue 4, line 6: under 1 % of a core",
        TERMINALS,
    ),
    tests(
        "frames",
        "every tab at every size; 50 nodes and 10,000 conflicts are drawn fast, in a release",
        "issue 4, line 2: a frame in 5 ms",
        FRAMES,
    ),
    tests(
        "scripts",
        "exit codes of verbs against nodes that are well, and of which 1, 2 and 3 are dead",
        "issue 4, line 4",
        SCRIPTS,
    ),
    tests(
        "copies",
        "a redis-server's keys with their expiry, imported, interrupted, resumed, verified",
        "issue 4, line 5: 100,000 keys",
        COPIES,
    ),
    tests(
        "metrics",
        "Prometheus's text format; each panel and rule names a figure that exists",
        "issue 4, line 7",
        METRICS,
    ),
    tests("elastic", "two join, two leave, one is replaced under load", "issue 5, line 1", ELASTIC),
    tests("split", "partitions doubled under load with kill -9", "issue 5, line 7", SPLITS),
    tests("rolling", "every node drained and back", "issue 5, line 7: 0 errors", ROLLING),
    tests("hot", "one key with nine of ten requests", "issue 5, line 8", HOT),
    tests("commit", "two changes at once, 1,000 seeds", "issue 5, line 3", COMMIT),
    tests(
        "A2",
        "one seed, two processes: one trace",
        "100 of 100; a seed of each scenario is run",
        SIM_REPLAY,
    ),
    tests(
        "controls",
        "who destroys more than W - 1 disks is seen to lose",
        "issue 3, line 3",
        CONTROLS,
    ),
    run(
        "A10a",
        "a wiped replica forgets",
        "1,000 seeds; 200 are run",
        scenario!("forget-wiped", "0..200"),
        Some(scenario!("forget-wiped", "0..20")),
    ),
    run(
        "A10b",
        "a restored backup forgets",
        "1,000 seeds; 200 are run",
        scenario!("forget-restored", "0..200"),
        Some(scenario!("forget-restored", "0..20")),
    ),
    run(
        "A10c",
        "a suffix is lost",
        "1,000 seeds; 200 are run",
        scenario!("forget-suffix", "0..200"),
        Some(scenario!("forget-suffix", "0..20")),
    ),
    run(
        "A10d",
        "an old tombstone returns from a fallback",
        "1,000 seeds; 200 are run",
        scenario!("doomstone", "0..200"),
        Some(scenario!("doomstone", "0..20")),
    ),
    run(
        "A10e",
        "a replica in memory forgets at each start",
        "issue 3: 200 seeds",
        scenario!("forget-memory", "0..200"),
        Some(scenario!("forget-memory", "0..20")),
    ),
    run(
        "A10f",
        "fallbacks mint where no primary is up",
        "issue 3: 200 seeds",
        scenario!("stand-ins", "0..200"),
        Some(scenario!("stand-ins", "0..20")),
    ),
    run(
        "A10g",
        "expiry, and EXPIRE on stale replicas",
        "issue 3: 200 seeds",
        scenario!("expiry", "0..200"),
        Some(scenario!("expiry", "0..20")),
    ),
    run(
        "A10h",
        "FLUSHALL, also one that is cut short",
        "issue 3: 200 seeds",
        scenario!("flush", "0..200"),
        Some(scenario!("flush", "0..20")),
    ),
    run(
        "A10i",
        "disks fail while who could make up for it is away",
        "issue 3: 200 seeds",
        scenario!("bad-disks", "0..200"),
        Some(scenario!("bad-disks", "0..20")),
    ),
    run(
        "A10j",
        "the power of all nodes is cut again and again",
        "issue 3: 200 seeds",
        scenario!("power-cuts", "0..200"),
        Some(scenario!("power-cuts", "0..20")),
    ),
    run(
        "A10k",
        "partitions move and come back, changes are called off",
        "issue 5: 500 seeds",
        scenario!("reshape", "0..500"),
        Some(scenario!("reshape", "0..20")),
    ),
    run(
        "A10l",
        "partitions move while two sides don't hear of each other",
        "issue 5: 200 seeds",
        scenario!("reshape-apart", "0..200"),
        Some(scenario!("reshape-apart", "0..20")),
    ),
    run(
        "A10m",
        "who held a partition stands in for who holds it now",
        "200 seeds",
        scenario!("taken", "0..200"),
        Some(scenario!("taken", "0..20")),
    ),
    run(
        "A1",
        "the full swarm, 0 violations",
        "10,000 seeds; 1,000 are run",
        SWARM,
        Some(SWARM_FEW),
    ),
    run("A20", "planted bugs are caught", "30 of 30; 25 are planted", TEETH, None),
    missing(
        "clients",
        "cluster clients of redis-py and ioredis, each node killed in turn",
        "issue 3, line 5",
        "by hand, they need pip and npm: tests/clients/README.md",
    ),
    missing("A3", "linearizable keyspaces under churn", "2,000 seeds", "no such keyspaces yet"),
    missing(
        "A7c",
        "two of three nodes lose the power of a mounted file system at once",
        "100 cuts",
        "simulated disks only (A10j); a mounted one only beneath kv-lsm (A7b)",
    ),
    missing("A8", "every named failpoint aborts", "20 times each", "A5 stands in for it"),
    missing(
        "A12",
        "pauses of 30 and 60 s, clocks that jump and strobe",
        "20 rounds each",
        "pauses of 30 s in A11, clocks in A1; no real clock is turned",
    ),
    missing(
        "A14",
        "full, failing and slow disks",
        "10 rounds each",
        "simulated disks only, in A1 and A5",
    ),
    missing("A16", "a soak of eight hours", "8 h", "not run"),
    missing(
        "A17",
        "overload tenfold, slow readers, 10,000 idle connections",
        "goodput >= 80 %",
        "unit tests of the bounds only",
    ),
    missing("A18", "every command by every user, TLS", "100 %", "no users and no TLS yet"),
];

const TIDY: &[&str] = &["xtask", "tidy"];
/// `unsafe_code` is forbidden in the workspace's lints.
const CLIPPY: &[&str] =
    &["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-Dwarnings"];
const LSM: &[&str] = &["test", "-p", "kv-lsm"];
const LSM_PROOF: &[&str] = &["test", "-p", "kv-lsm", "--lib", "proof::crash"];
const LSM_KILL: &[&str] = &["test", "-p", "kv-lsm", "--test", "survival", "kill::"];
const LSM_POWER: &[&str] = &["test", "-p", "kv-lsm", "--test", "survival", "power::"];
const LSM_DAMAGE: &[&str] = &["test", "-p", "kv-lsm", "--lib", "flipped"];
const LSM_FUZZ: &[&str] = &["test", "-p", "kv-lsm", "--lib", "for_a_while"];
const MEMORY_ENGINE: &[&str] =
    &["run", "--quiet", "--release", "-p", "kv-node", "--example", "memory_engine"];
const MEMORY_ENGINE_SMALL: &[&str] = &[
    "run",
    "--quiet",
    "--release",
    "-p",
    "kv-node",
    "--example",
    "memory_engine",
    "--",
    "100000",
    "1",
];
const LSM_BUDGET: &[&str] =
    &["run", "--quiet", "--release", "-p", "kv-lsm", "--example", "budget", "--", "64", "3000000"];
const RESP: &[&str] = &["test", "--workspace", "--lib", "resp::"];
/// Ten thousand take hours: `bench gossip` reports them.
const GOSSIP: &[&str] = &["xtask", "bench", "gossip", "--members", "1000", "--no-write"];
const GOSSIP_ONE: &[&str] =
    &["xtask", "bench", "gossip", "--members", "100", "--minutes", "10", "--no-write"];
const HEALING: &[&str] = &["test", "--workspace", "--test", "healing"];
const CLUSTER: &[&str] = &["test", "--workspace", "--test", "cluster"];
const PARTITIONS: &[&str] = &["test", "--workspace", "--test", "partitions"];
const TRANSFERS: &[&str] = &["test", "--workspace", "--test", "transfers"];
const TERMINAL: &[&str] = &["test", "--workspace", "--test", "terminal"];
const TERMINALS: &[&str] =
    &["test", "--release", "-p", "kv-tests", "--test", "terminal", "three_terminals"];
const FRAMES: &[&str] = &["test", "--release", "-p", "kv-tui", "--lib", "view::"];
const SCRIPTS: &[&str] = &["test", "--workspace", "--test", "scripts"];
const COPIES: &[&str] = &["test", "--workspace", "--test", "copies"];
const METRICS: &[&str] = &["test", "--workspace", "--lib", "--test", "cluster", "metrics"];
const ELASTIC: &[&str] = &["test", "--workspace", "--test", "elastic"];
const SPLITS: &[&str] = &["test", "--workspace", "--test", "splits"];
const ROLLING: &[&str] = &["test", "--workspace", "--test", "rolling"];
const HOT: &[&str] = &["test", "--workspace", "--test", "hot"];
const COMMIT: &[&str] = &["test", "--workspace", "--lib", "cluster::commit"];
const SIM_REPLAY: &[&str] = &["test", "--workspace", "--test", "sim", "replays"];
const CONTROLS: &[&str] = &["test", "--workspace", "--test", "sim", "seen_to_lose"];
const SWARM: &[&str] = &["xtask", "sim", "--seeds", "0..1000", "--keep-going"];
const SWARM_FEW: &[&str] = &["xtask", "sim", "--seeds", "0..50", "--keep-going"];
const TEETH: &[&str] = &["xtask", "sim", "--teeth"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::flags;

    #[test]
    fn every_row_has_an_id_of_its_own_and_every_goal_a_row() {
        let ids: BTreeSet<&str> = ROWS.iter().map(|row| row.id).collect();
        assert_eq!(ids.len(), ROWS.len());
        for goal in 1..=21 {
            let id = format!("A{goal}");
            let is_of = |row: &&str| row.trim_end_matches(char::is_alphabetic) == id;
            assert!(ids.iter().any(is_of), "{id} has no row");
        }
    }

    #[test]
    fn verbs_that_rows_call_exist() {
        let runs = ROWS.iter().filter_map(|row| match &row.proof {
            Proof::Run(run) => Some([Some(run.arguments), run.quick]),
            Proof::Missing(_) => None,
        });
        for arguments in runs.flatten().flatten() {
            if let ["xtask", rest @ ..] = arguments {
                assert!(flags::parse(rest.iter().map(Into::into)).is_ok(), "{rest:?}");
            }
        }
    }
}
