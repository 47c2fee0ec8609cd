//! Figure 4: a durable cluster of three nodes, then of five, asked through one of them.
//!
//! Client and nodes share the machine. Beside the speed stands what it was paid with: replica reads
//! for each GET and applies for each SET, from the nodes' own counters, so that a fast table that
//! skipped its quorum would show it.

use std::fmt::Write;
use std::thread;
use std::time::Duration;

use super::load::{self, Measure, ROWS, Row};
use super::machine::Machine;
use super::{Figure, Options, shape};
use crate::cluster::Bench;
use crate::error::{Error, Result};
use crate::resp::{Connection, Info};
use crate::term;

const SIZES: [u16; 2] = [3, 5];
const P99_MS_MAX: f64 = 10.0;
/// After a run the last copies beyond W are still on their way.
const SETTLE: Duration = Duration::from_secs(1);

/// Counters of all nodes together, over the runs of one row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Counters {
    replica_reads: u64,
    replica_applies: u64,
    forwarded: u64,
}

/// What one request cost. Requests are those that the generator sent, not what a node counted.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Price {
    /// Applies for a SET, reads for a GET.
    replica_operations: f64,
    /// The part of the requests that the asked node passed on.
    forwarded: f64,
}

/// One row of a table: its speed and its price.
type Line = (Row, Measure, Price);

/// Operations per second that are asked of three nodes.
const fn target(row: Row) -> f64 {
    match (row.pipeline, row.command.as_bytes()) {
        (1, b"SET") => 20_000.0,
        (1, _) => 30_000.0,
        (_, b"SET") => 50_000.0,
        (_, _) => 80_000.0,
    }
}

/// Measures each size on a fresh cluster.
pub(super) fn measure(options: &Options) -> Result<Figure> {
    let mut tables = Vec::new();
    let mut machine = String::new();
    for nodes in SIZES {
        let cluster = Bench::start(shape(nodes))?;
        if machine.is_empty() {
            machine = Machine::look(cluster.dir())?.to_string();
        }
        load::preload(cluster.port(), options.keys)?;
        load::until_quiet(cluster.processes())?;
        tables.push((nodes, measure_one(&cluster, options)?));
    }
    Ok(render(&machine, options, &tables))
}

fn measure_one(cluster: &Bench, options: &Options) -> Result<Vec<Line>> {
    let mut measures: Vec<(Row, Vec<Measure>, Counters)> =
        ROWS.iter().map(|row| (*row, Vec::new(), Counters::default())).collect();
    for round in 0..options.rounds {
        for (row, of_row, counted) in &mut measures {
            term::note(format_args!("{} -P {} round {}", row.command, row.pipeline, round + 1));
            let before = Counters::read(&cluster.ports())?;
            of_row.push(load::measure(*row, cluster.port(), cluster.processes(), options)?);
            thread::sleep(SETTLE);
            counted.add_difference(before, Counters::read(&cluster.ports())?);
        }
    }
    let price =
        |row: Row, counted: Counters| counted.price(row, row.requests(options), options.rounds);
    Ok(measures
        .into_iter()
        .map(|(row, of_row, counted)| (row, load::median(&of_row), price(row, counted)))
        .collect())
}

impl Counters {
    /// Asks every node and adds up.
    fn read(ports: &[u16]) -> Result<Self> {
        let mut sum = Self::default();
        for port in ports {
            let info = Connection::open(*port, Duration::from_secs(5))
                .and_then(|mut connection| connection.info("kv"))
                .map_err(|error| Error::Unreachable(format!("port {port}: {error}")))?;
            sum.add(&info)?;
        }
        Ok(sum)
    }

    fn add(&mut self, info: &Info) -> Result<()> {
        let number = |name: &str| {
            let missing = || Error::Failed(format!("INFO kv has no {name}"));
            info.number(name).ok_or_else(missing)
        };
        self.replica_reads += number("kv_replica_reads")?;
        self.replica_applies += number("kv_replica_applies")?;
        self.forwarded += number("kv_forwarded")?;
        Ok(())
    }

    const fn add_difference(&mut self, before: Self, after: Self) {
        self.replica_reads += after.replica_reads.saturating_sub(before.replica_reads);
        self.replica_applies += after.replica_applies.saturating_sub(before.replica_applies);
        self.forwarded += after.forwarded.saturating_sub(before.forwarded);
    }

    fn price(self, row: Row, requests: u64, rounds: u64) -> Price {
        let work = if row.command == "SET" { self.replica_applies } else { self.replica_reads };
        let each = |count: u64| count as f64 / (requests * rounds) as f64;
        Price { replica_operations: each(work), forwarded: each(self.forwarded) }
    }
}

/// What one request must have cost: three applies for a SET; two reads for a GET, hedged ones (at
/// most one in twenty) besides.
fn is_full_price(row: Row, each: f64) -> bool {
    let range = if row.command == "SET" { 2.99..=3.05 } else { 1.99..=2.1 };
    range.contains(&each)
}

fn render(machine: &str, options: &Options, tables: &[(u16, Vec<Line>)]) -> Figure {
    let mut markdown = format!(
        "## A durable cluster, asked through one node\n\n{machine}\n\n\
         N=3, R=W=2, durability `sync`, 50 connections, values of 100 B, {} keys loaded, median of \
         {}; client and nodes on this machine, which were quiet again after the load. Replica \
         operations: applies for each SET (3 asked) \
         and reads for each GET (2 asked, hedged ones besides).\n",
        options.keys, options.rounds
    );
    let mut missed = 0;
    for (nodes, lines) in tables {
        let _ = write!(
            markdown,
            "\n### {nodes} nodes\n\n\
             | command | -P | op/s | asked | p99 ms | asked | CPU µs/op, all nodes \
             | replica operations | forwarded | |\n\
             |---|---|---|---|---|---|---|---|---|---|\n"
        );
        for (row, measure, price) in lines {
            let judged = *nodes == 3;
            let fast = !judged || measure.per_second >= target(*row);
            let calm = !judged || row.pipeline > 1 || measure.p99_ms < P99_MS_MAX;
            let met = fast && calm && is_full_price(*row, price.replica_operations);
            missed += usize::from(!met);
            let asked = if judged { format!(">= {:.0}", target(*row)) } else { "-".into() };
            let asked_p99 = if judged && row.pipeline == 1 { "< 10" } else { "-" };
            let _ = writeln!(
                markdown,
                "| {} | {} | {:.0} | {asked} | {:.2} | {asked_p99} | {:.1} | {:.2} | {:.2} | {} |",
                row.command,
                row.pipeline,
                measure.per_second,
                measure.p99_ms,
                measure.cpu_us,
                price.replica_operations,
                price.forwarded,
                match (met, judged) {
                    (false, _) => "MISSED",
                    (true, true) => "met",
                    (true, false) => "-",
                },
            );
        }
    }
    Figure { markdown, missed }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: Row = Row { command: "SET", pipeline: 1 };
    const GET: Row = Row { command: "GET", pipeline: 1 };

    fn missed(
        nodes: u16,
        row: Row,
        per_second: f64,
        p99_ms: f64,
        replica_operations: f64,
    ) -> usize {
        let measure = Measure { per_second, p99_ms, cpu_us: 1.0 };
        let price = Price { replica_operations, forwarded: 0.0 };
        let tables = [(nodes, vec![(row, measure, price)])];
        render("A machine.", &Options::default(), &tables).missed
    }

    #[test]
    fn three_nodes_are_judged_by_speed_tail_and_price() {
        assert_eq!(missed(3, SET, 20_000.0, 9.9, 3.0), 0);
        assert_eq!(missed(3, SET, 19_999.0, 9.9, 3.0), 1);
        assert_eq!(missed(3, SET, 20_000.0, 10.0, 3.0), 1);
        assert_eq!(missed(3, SET, 20_000.0, 9.9, 2.0), 1, "a copy is missing");
        assert_eq!(missed(3, SET, 20_000.0, 9.9, f64::NAN), 1, "nothing was counted");
        assert_eq!(missed(3, GET, 30_000.0, 9.9, 2.04), 0, "hedged reads are allowed");
        assert_eq!(missed(3, GET, 30_000.0, 9.9, 1.0), 1, "no quorum was read");
        let pipelined = Row { pipeline: 16, ..GET };
        assert_eq!(missed(3, pipelined, 80_000.0, 50.0, 2.0), 0, "no tail asked at -P 16");
    }

    #[test]
    fn five_nodes_are_shown_and_judged_by_price_alone() {
        assert_eq!(missed(5, SET, 1.0, 99.0, 3.0), 0);
        assert_eq!(missed(5, SET, 1.0, 99.0, 2.0), 1);
    }

    #[test]
    fn a_price_is_the_difference_over_all_nodes_for_each_request() {
        let at = |n: u64| Counters { replica_reads: 2 * n, replica_applies: 3 * n, forwarded: n };
        let mut counted = Counters::default();
        counted.add_difference(at(10), at(30));
        counted.add_difference(at(100), at(110));
        assert_eq!(counted, at(30));
        let price = Price { replica_operations: 3.0, forwarded: 1.0 };
        assert_eq!(counted.price(SET, 15, 2), price);
        assert_eq!(counted.price(GET, 15, 2), Price { replica_operations: 2.0, ..price });
    }

    #[test]
    fn a_node_that_doesnt_count_is_an_error() {
        let mut sum = Counters::default();
        let full = "kv_replica_reads:2\r\nkv_replica_applies:3\r\nkv_forwarded:1\r\n";
        sum.add(&Info::new(full)).unwrap();
        assert_eq!(sum, Counters { replica_reads: 2, replica_applies: 3, forwarded: 1 });
        assert!(sum.add(&Info::new("kv_replica_reads:2\r\n")).is_err());
    }
}
