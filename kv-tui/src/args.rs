//! The command line of `kv`, and the way from it to an exit code.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::TypedValueParser as _;
use clap::{Args, Parser, Subcommand};
use kv_client::wire::Level;
use kv_client::{Admin, Client, Config, Secret};

use crate::error::{Error, Exit};
use crate::text;
use crate::verbs::{self, Output};

const CODES: &str = "\
Exit codes: 0 done, 1 error (for get: no value), 2 usage, 3 degraded (status, doctor) or not all \
of it (import, export, bench), \
4 no quorum (too few replicas answered or are up), 5 no node reached, 124 no answer in time \
(a write may be stored).";

const SHAPES: &str = "\
Exit codes:
  0 done                       4 no quorum: too few replicas answered or are up
  1 error; for get: no value   5 no node could be reached
  2 usage                      124 no answer in time; a write may be stored
  3 degraded (status, doctor); import, export: some keys were not copied, and are listed;
    bench: worse than the saved run, or some requests failed

With --json a verb prints one object (errors stay text on stderr):
  get      {key, siblings: [{value, dot, expires_at_ms}], context}
  put, del  {key, dot, context}
  locate   {key, slot, partition, token, replicas: [{node, state, resp, rpc}], fallbacks: [..]}
  conflicts     {total, conflicts: [{key, siblings, newest_ms, replicas}], next, partial, silent}
  events        {events: [{on, number, unix_ms, code, warns, about, text}], lost, silent}
  resolve, conflicts resolve   {key, dot, context}; with --dry-run {key, rule, siblings, value,
            notes}
  doctor   {lints: [{name, finding, what, fix}]}; finding is ok, unknown, warn or bad
  explain  {key, slot, partition, token, replicas, fallbacks,
            answers: [{node, us, found_in, versions: [{dot, bytes}], error}], notes}
  status   {health, node, cluster, version, uptime_ms, ready, endpoints, layouts, engine,
            memory_bytes, disk_bytes, rows, members: {up, total},
            partitions: {full, short, no_quorum, total}, alerts, figures}
  nodes    {nodes: [{node, state, resp, rpc, http, zone, weight, partitions, first_places,
            call_us, queue_ops, unanswered_ms, floor_age_ms, read_p95_us, phi_hundredths,
            epoch}]}
  cluster status   {layouts: [{epoch, digest}], stable, removed,
            members: [{node, seen, finished, waits_for}]}
  cluster plan, cluster zone   {epoch, moves, steps: [copies, ..], firsts_changed, bytes_about,
            nodes: [{node, weight, before, after, gains}], zones: [{zone, nodes, copies}], apart,
            partitions}; weight is null for one that leaves; pairs are [now, then]
  cluster commit   {epoch, stable, steps, steps_left}; with --detach without steps
  cluster abort    {epoch}
  cluster split    {epoch, before, after, copies, bytes}; with --epoch {epoch, stable,
            partitions}
  cluster transfers   {stable, transfers: [{node, left, begun, bytes, ms, left_ms, waits_for}]}
  cluster history  {changes: [{epoch, unix_ms, what, joined, left, copies}]}
  cluster replace  {epoch, old, new}
  ring     {epoch, digest, copies, nodes, partitions: [[index into nodes, ...], ...]}
  aae      {trees_built, trees_building, leaves, rate_per_mille, filling,
            peers: [{node, begins, exchanges, age_ms, found, mended, bytes, last_bytes, failure}]}
  repair   {partitions, replicas, leaves, found, mended, bytes, failed: [{partition, why}]}
  bench    {kv_bench, server, targets, settings: {..}, per_second, seconds, missing, unfinished,
            errors: {word: n}, latency_us: {kind: {count, mean, p50, p90, p95, p99, p999, max}},
            samples: [[per_second, p50, p99], ..], histogram_us: [[us, n], ..],
            changes: [{name, before, after, percent, verdict}]}
  import, export   {from, to, resumed, scanned, stored, gone, refused: {kind: keys}, refused_file,
            verified, mended, differing, ms}
  hints    {hints: [{on, for, keys, bytes, age_ms, state}], hint_bytes_max, silent}
  hot      {keys: [{key, slot, partition, ops_per_s, error_per_s}], partitions: [{partition,
            reads_per_s, writes_per_s, bytes_per_s}], reads_per_s, writes_per_s, silent}
  autoscale status   {mode, paused_until_ms, provisioner, evaluator, policy: {setting: n}, members,
            desired, verdict, reason, doing, failure, waiting, loads: [{node, ops_per_s,
            cpu_per_mille, disk_bytes, wait_us}]}
  autoscale history  as events
  autoscale set, autoscale pause, autoscale resume   {done}
  node drain       {node, stage, ends, ended, clients, requests, hints, hints_kept}
A dot is {ms, counter, node, tenure}; ids, tenures, digests and contexts are hexadecimal text.
Keys and values are text; with --hex, or where they are not UTF-8, key_hex and value_hex stand
in their place. A value is null where a delete stands beside concurrent writes.";

/// Reads, writes and looks at a kv cluster.
#[derive(Debug, Parser)]
#[command(name = "kv", version, after_help = CODES, after_long_help = SHAPES)]
pub(crate) struct Kv {
    #[command(flatten)]
    connect: Connect,
    /// Print one JSON object in place of a table (see --help for its shape).
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

/// Which node to ask.
#[derive(Clone, Debug, Args)]
pub(crate) struct Connect {
    /// The tarpc addresses of one node or several, tried in turn.
    #[arg(
        long = "connect",
        global = true,
        env = "KV_CONNECT",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:7101"
    )]
    pub(crate) addresses: Vec<String>,
    /// A file that holds the cluster's secret; white space at its end is not part of it.
    #[arg(
        long,
        global = true,
        env = "KV_SECRET_FILE",
        value_name = "FILE",
        value_parser = clap::builder::OsStringValueParser::new().map(PathBuf::from)
    )]
    secret_file: Option<PathBuf>,
    /// Milliseconds to wait for an answer.
    #[arg(long, global = true, value_name = "MS", default_value_t = 2_000)]
    deadline_ms: u32,
}

impl Connect {
    /// To one address, without a secret.
    #[cfg(test)]
    pub(crate) fn to(address: &str) -> Self {
        Self { addresses: vec![address.to_owned()], secret_file: None, deadline_ms: 2_000 }
    }

    fn config(&self) -> Result<Config, Error> {
        let secret = match &self.secret_file {
            Some(path) if !path.as_os_str().is_empty() => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Error::Input(format!("{}: {error}", path.display())))?;
                Secret::new(text.trim_end())
            }
            // Also a variable that is there and empty.
            _ => Secret::default(),
        };
        let dial_ms_max = Config::default().dial_ms_max.min(self.deadline_ms);
        Ok(Config { secret, deadline_ms: self.deadline_ms, dial_ms_max, ..Config::default() })
    }

    /// An operator's client.
    pub(crate) async fn admin(&self) -> Result<Admin, Error> {
        Ok(Admin::connect(&self.addresses, self.config()?).await?)
    }

    /// An operator's client that waits at least so long for each answer.
    pub(crate) async fn patient_admin(&self, deadline_ms: u32) -> Result<Admin, Error> {
        let config = self.config()?;
        let deadline_ms = config.deadline_ms.max(deadline_ms);
        Ok(Admin::connect(&self.addresses, Config { deadline_ms, ..config }).await?)
    }

    /// An operator's client that waits at most so long for each answer.
    pub(crate) async fn quick_admin(&self, deadline_ms: u32) -> Result<Admin, Error> {
        let config = self.config()?;
        let deadline_ms = config.deadline_ms.min(deadline_ms);
        let dial_ms_max = config.dial_ms_max.min(deadline_ms / 2);
        let config = Config { deadline_ms, dial_ms_max, ..config };
        Ok(Admin::connect(&self.addresses, config).await?)
    }

    /// A program's client that waits at least so long for each answer.
    pub(crate) async fn patient_client(&self, deadline_ms: u32) -> Result<Client, Error> {
        let config = self.config()?;
        let deadline_ms = config.deadline_ms.max(deadline_ms);
        Ok(Client::connect(&self.addresses, Config { deadline_ms, ..config }).await?)
    }

    /// The same as options of a command line, each with its value.
    pub(crate) fn arguments(&self) -> Vec<(&'static str, OsString)> {
        let mut arguments = vec![("--connect", self.addresses.join(",").into())];
        arguments.extend(self.secret_file.as_ref().map(|path| ("--secret-file", path.into())));
        arguments.push(("--deadline-ms", self.deadline_ms.to_string().into()));
        arguments
    }

    /// The same with one address only.
    pub(crate) fn only(&self, address: &str) -> Self {
        Self { addresses: vec![address.to_owned()], ..self.clone() }
    }

    /// The same with further addresses, tried after those that were given.
    pub(crate) fn with_more(&self, addresses: &[String]) -> Self {
        let mut more = self.clone();
        more.addresses.extend_from_slice(addresses);
        more
    }

    /// Milliseconds to wait for an answer.
    pub(crate) fn deadline_ms(&self) -> u32 {
        self.deadline_ms
    }

    /// A program's client.
    pub(crate) async fn client(&self, read: Level, write: Level) -> Result<Client, Error> {
        Ok(Client::connect(&self.addresses, self.config()?).await?.at_levels(read, write))
    }
}

/// A key.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeyArg {
    /// The key.
    pub(crate) key: String,
    /// Keys and values are given and shown as hexadecimal digits.
    #[arg(long)]
    pub(crate) hex: bool,
}

impl KeyArg {
    /// Its bytes.
    pub(crate) fn bytes(&self) -> Result<bytes::Bytes, Error> {
        self.given("KEY", &self.key)
    }

    /// Some other argument's bytes, by the same rule.
    pub(crate) fn given(&self, what: &str, text: &str) -> Result<bytes::Bytes, Error> {
        if self.hex { text::unhex(what, text) } else { Ok(text.to_owned().into()) }
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows the value of a key, and siblings if concurrent writes left any.
    Get(verbs::get::Get),
    /// Stores a value over what is there, or over what a context covers.
    Put(verbs::put::Put),
    /// Deletes what is there, or what a context covers.
    Del(verbs::del::Del),
    /// Shows where a key lives, and what each replica has of it.
    Explain(verbs::explain::Explain),
    /// Shows how the cluster is, as the asked node sees it.
    Status(verbs::status::Status),
    /// Lists the members as the asked node sees them.
    Nodes(verbs::nodes::Nodes),
    /// Makes a node ready to be stopped.
    #[command(subcommand)]
    Node(verbs::node::Node),
    /// Shows the live layouts and whom they wait for; plans and commits changes of the members.
    #[command(subcommand)]
    Cluster(verbs::cluster::Cluster),
    /// Shows who owns how much, or each partition's owners.
    Ring(verbs::ring::Ring),
    /// Shows how replicas are compared, and what was mended.
    Aae(verbs::aae::Aae),
    /// Compares the replicas of all partitions, of one, or of one key now, and mends them.
    Repair(verbs::repair::Repair),
    /// Shows what nodes keep for others that are down.
    Hints(verbs::hints::Hints),
    /// Shows the keys and partitions that are asked for most.
    Hot(verbs::hot::Hot),
    /// Shows how many nodes there should be and why, and changes how that is decided.
    #[command(subcommand)]
    Autoscale(verbs::autoscale::Autoscale),
    /// Shows where a key lives.
    Locate(verbs::locate::Locate),
    /// Lists the keys with siblings that concurrent writes left, or resolves one.
    Conflicts(verbs::conflicts::Conflicts),
    /// Makes one value of a key's siblings: the same as conflicts resolve.
    Resolve(verbs::conflicts::Resolve),
    /// Shows what happened on all nodes, in plain words.
    Events(verbs::events::Events),
    /// Checks what an operator should look at, and says what to do.
    Doctor(verbs::doctor::Doctor),
    /// Loads a Redis-speaking server with one of YCSB's workloads, and measures it.
    Bench(verbs::bench::Bench),
    /// Copies a Redis server's strings, or an export, into the cluster, and verifies the copy.
    Import(verbs::import::Import),
    /// Copies the cluster's keys into a file or a Redis server, and verifies the copy.
    Export(verbs::export::Export),
    /// Opens the terminal, as the command kv-tui does.
    Tui(verbs::tui::Tui),
    /// Prints a shell's completions.
    Completions(verbs::papers::Completions),
    /// Prints the manual page.
    Man(verbs::papers::Man),
}

/// Runs the `kv` command. `arguments` are those of a process, its name first.
pub fn kv(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let kv = match Kv::try_parse_from(arguments) {
        Ok(kv) => kv,
        Err(told) => {
            // Help and version come this way too.
            let _unwritable = told.print();
            return if told.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    if let Verb::Tui(verb) = &kv.verb {
        return crate::screen::kv_tui(verb.arguments(&kv.connect));
    }
    let stdout = io::stdout();
    let output = Output { json: kv.json, terminal: stdout.is_terminal(), to: &mut stdout.lock() };
    match runtime().map_err(Error::from).and_then(|runtime| runtime.block_on(kv.run(output))) {
        Ok(exit) => exit.into(),
        // Who reads our output has enough of it, as `head` does.
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok.into(),
        Err(error) => {
            complain("kv", &error);
            error.exit().into()
        }
    }
}

pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

pub(crate) fn complain(name: &str, error: &Error) {
    let _unwritable = writeln!(io::stderr(), "{name}: {error}");
}

impl Kv {
    async fn run(&self, mut output: Output<'_>) -> Result<Exit, Error> {
        let (connect, output) = (&self.connect, &mut output);
        match &self.verb {
            Verb::Get(verb) => verb.run(connect, output).await,
            Verb::Put(verb) => verb.run(connect, output).await,
            Verb::Del(verb) => verb.run(connect, output).await,
            Verb::Explain(verb) => verb.run(connect, output).await,
            Verb::Status(verb) => verb.run(connect, output).await,
            Verb::Nodes(verb) => verb.run(connect, output).await,
            Verb::Node(verb) => verb.run(connect, output).await,
            Verb::Ring(verb) => verb.run(connect, output).await,
            Verb::Cluster(verb) => verb.run(connect, output).await,
            Verb::Aae(verb) => verb.run(connect, output).await,
            Verb::Repair(verb) => verb.run(connect, output).await,
            Verb::Hints(verb) => verb.run(connect, output).await,
            Verb::Hot(verb) => verb.run(connect, output).await,
            Verb::Autoscale(verb) => verb.run(connect, output).await,
            Verb::Locate(verb) => verb.run(connect, output).await,
            Verb::Conflicts(verb) => verb.run(connect, output).await,
            Verb::Resolve(verb) => verb.run(connect, output).await,
            Verb::Events(verb) => verb.run(connect, output).await,
            Verb::Doctor(verb) => verb.run(connect, output).await,
            Verb::Bench(verb) => verb.run(connect, output).await,
            Verb::Import(verb) => verb.run(connect, output).await,
            Verb::Export(verb) => verb.run(connect, output).await,
            // It has a runtime of its own, and is gone before this one is made.
            Verb::Tui(_) => Ok(Exit::Usage),
            Verb::Completions(verb) => verb.run(output),
            Verb::Man(verb) => verb.run(output),
        }
    }
}

#[cfg(test)]
#[path = "verbs_tests.rs"]
mod tests;
