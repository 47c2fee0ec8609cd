//! Figure 5: one node with the in-memory engine beside redis-server, on the same machine.
//!
//! The two take turns, row by row and round by round, and the one that begins changes with the
//! round: what the machine does meanwhile hits both alike.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::load::{self, Measure, ROWS, Row};
use super::machine::Machine;
use super::{Figure, Options, REDIS_PORT, shape};
use crate::cluster::{Bench, Engine, Shape};
use crate::error::{Error, Result};
use crate::process::{self, Identity};
use crate::resp::{Connection, Reply};
use crate::term;

/// What is asked of a row: throughput beside Redis's, and CPU for each operation beside Redis's.
const fn targets(row: Row) -> (f64, Option<f64>) {
    if row.pipeline == 1 { (0.85, None) } else { (1.0, Some(1.0)) }
}

/// A redis-server that ends with the figure, or with Ctrl-C.
struct Redis {
    process: Identity,
    port: u16,
}

/// Starts both, loads both, measures in turns.
pub(super) fn measure(options: &Options) -> Result<Figure> {
    let ours = Bench::start(Shape { engine: Engine::Memory, ..shape(1) })?;
    let machine = Machine::look(ours.dir())?;
    let redis = Redis::start(REDIS_PORT, &ours.dir().join("redis.log"))?;
    load::preload(ours.port(), options.keys)?;
    load::preload(redis.port, options.keys)?;
    let mut rows = Vec::new();
    for row in ROWS {
        let (mut of_redis, mut of_ours) = (Vec::new(), Vec::new());
        for round in 0..options.rounds {
            term::note(format_args!("{} -P {} round {}", row.command, row.pipeline, round + 1));
            let run_redis = || load::measure(row, redis.port, &[redis.process], options);
            let run_ours = || load::measure(row, ours.port(), ours.processes(), options);
            if round % 2 == 0 {
                of_redis.push(run_redis()?);
                of_ours.push(run_ours()?);
            } else {
                of_ours.push(run_ours()?);
                of_redis.push(run_redis()?);
            }
        }
        rows.push((row, load::median(&of_redis), load::median(&of_ours)));
    }
    Ok(render(&machine.to_string(), options, &rows))
}

fn render(machine: &str, options: &Options, rows: &[(Row, Measure, Measure)]) -> Figure {
    let mut markdown = format!(
        "## One node with the in-memory engine beside redis-server\n\n{machine}\n\n\
         50 connections, values of 100 B, {} keys loaded, interleaved, median of {}.\n\n\
         | command | -P | Redis op/s | ours op/s | ratio | asked | Redis p99 ms | ours p99 ms \
         | Redis CPU µs/op | ours CPU µs/op | CPU ratio | asked | |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        options.keys, options.rounds
    );
    let mut missed = 0;
    for (row, redis, ours) in rows {
        let (least, most_cpu) = targets(*row);
        let ratio = ours.per_second / redis.per_second;
        let cpu = ours.cpu_us / redis.cpu_us;
        // A comparison with NaN is false, so what couldn't be measured is missed.
        let met = ratio >= least && most_cpu.is_none_or(|most| cpu <= most);
        missed += usize::from(!met);
        let asked_cpu = most_cpu.map_or_else(|| "-".into(), |most| format!("<= {most:.2}"));
        let _ = writeln!(
            markdown,
            "| {} | {} | {:.0} | {:.0} | {ratio:.2} | >= {least:.2} | {:.2} | {:.2} | {:.2} \
             | {:.2} | {cpu:.2} | {asked_cpu} | {} |",
            row.command,
            row.pipeline,
            redis.per_second,
            ours.per_second,
            redis.p99_ms,
            ours.p99_ms,
            redis.cpu_us,
            ours.cpu_us,
            if met { "met" } else { "MISSED" },
        );
    }
    Figure { markdown, missed }
}

impl Redis {
    /// Without snapshots and without its log: the fastest that it is.
    fn start(port: u16, log: &Path) -> Result<Self> {
        if Connection::open(port, Duration::from_secs(1)).is_ok() {
            return Err(Error::Failed(format!("port {port} is not free")));
        }
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--save", "", "--appendonly", "no"]);
        let redis = Self { process: process::start(&mut command, log)?, port };
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            let answer = Connection::open(port, Duration::from_secs(1))
                .and_then(|mut connection| connection.call(&["PING"]));
            if answer.is_ok_and(|reply| reply == Reply::Status("PONG".into())) {
                return Ok(redis);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Error::Unreachable(format!("redis-server doesn't answer; see {}", log.display())))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process.stop(Duration::from_secs(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(ours_per_second: f64, ours_cpu: f64) -> Figure {
        let redis = Measure { per_second: 100.0, p99_ms: 1.0, cpu_us: 10.0 };
        let ours = Measure { per_second: ours_per_second, p99_ms: 1.0, cpu_us: ours_cpu };
        let rows: Vec<_> = ROWS.iter().map(|row| (*row, redis, ours)).collect();
        render("A machine.", &Options::default(), &rows)
    }

    #[test]
    fn targets_are_judged_row_by_row() {
        assert_eq!(figure(100.0, 10.0).missed, 0);
        assert_eq!(figure(90.0, 10.0).missed, 2, "enough at -P 1, not at -P 16");
        assert_eq!(figure(80.0, 10.0).missed, 4);
        assert_eq!(figure(120.0, 11.0).missed, 2, "CPU counts at -P 16 only");
        assert_eq!(figure(f64::NAN, 10.0).missed, 4, "unmeasured is missed");
    }

    /// The whole way of a figure but for the node: start, load, run, read. It needs the Redis
    /// tools; without them there is nothing to measure and the verb itself says SKIPPED.
    #[test]
    fn a_real_server_is_loaded_and_measured() {
        if !load::is_installed("redis-server") || !load::is_installed("redis-benchmark") {
            return;
        }
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let log = std::env::temp_dir().join(format!("kv-redis-{}.log", std::process::id()));
        let redis = Redis::start(port, &log).unwrap();
        let options = Options { requests: 2000, keys: 1000, ..Options::default() };
        load::preload(port, options.keys).unwrap();
        let mut connection = Connection::open(port, Duration::from_secs(1)).unwrap();
        assert_eq!(connection.call(&["DBSIZE"]).unwrap(), Reply::Integer(1000));
        for row in ROWS {
            let measure = load::measure(row, port, &[redis.process], &options).unwrap();
            assert!(measure.per_second > 0.0 && measure.p99_ms > 0.0, "{measure:?}");
        }
        let info = connection.info("stats").unwrap();
        assert_eq!(info.number("keyspace_misses"), Some(0), "every GET hits what was loaded");
        let process = redis.process;
        drop(redis);
        assert_eq!(process.life(), process::Life::Gone);
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn the_table_has_a_line_for_each_row() {
        let text = figure(100.0, 10.0).markdown;
        assert!(text.contains("| SET | 16 | 100 | 100 | 1.00 | >= 1.00 |"), "{text}");
        assert!(text.contains("A machine."));
    }
}
