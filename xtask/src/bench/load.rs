//! Loading keys, running `redis-benchmark` against a port, and reading what it says.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::Options;
use crate::error::{Error, Result};
use crate::process::{Identity, Life};
use crate::resp::{Connection, Reply};
use crate::term::Step;

const CONNECTIONS: &str = "50";
const VALUE_BYTES: usize = 100;
const LOADERS: u64 = 8;
const LOAD_BATCH: u64 = 64;
const LOAD_LIMIT: Duration = Duration::from_secs(30);
/// Servers are quiet that used less than a part of one core in a look's time.
const QUIET_LOOK: Duration = Duration::from_secs(2);
const QUIET_PART: u32 = 20;
const QUIET_LOOKS_MAX: u32 = 30;
/// Requests of a run at a pipeline of 16, as a multiple of those at 1.
const PIPELINED_FACTOR: u64 = 5;

/// One row of the tables: a command and how many of it travel together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) command: &'static str,
    pub(super) pipeline: u64,
}

/// The four rows of each table.
pub(super) const ROWS: [Row; 4] = [
    Row { command: "SET", pipeline: 1 },
    Row { command: "GET", pipeline: 1 },
    Row { command: "SET", pipeline: 16 },
    Row { command: "GET", pipeline: 16 },
];

/// What one run showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measure {
    pub(super) per_second: f64,
    pub(super) p99_ms: f64,
    /// CPU time of all the servers for one request, in microseconds.
    pub(super) cpu_us: f64,
}

impl Row {
    pub(super) const fn requests(self, options: &Options) -> u64 {
        let factor = if self.pipeline > 1 { PIPELINED_FACTOR } else { 1 };
        options.requests.saturating_mul(factor)
    }
}

/// The median by each field of its own.
pub(super) fn median(measures: &[Measure]) -> Measure {
    let of = |field: fn(&Measure) -> f64| {
        let mut values: Vec<f64> = measures.iter().map(field).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Measure {
        per_second: of(|one| one.per_second),
        p99_ms: of(|one| one.p99_ms),
        cpu_us: of(|one| one.cpu_us),
    }
}

/// Whether a program can be found on the PATH.
pub(super) fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|dir| dir.join(program).is_file())
}

/// One run of `redis-benchmark` against `port`, beside the CPU time of `servers`.
pub(super) fn measure(
    row: Row,
    port: u16,
    servers: &[Identity],
    options: &Options,
) -> Result<Measure> {
    let requests = row.requests(options);
    let mut command = Command::new("redis-benchmark");
    command
        .args(["-p", &port.to_string(), "-t", &row.command.to_lowercase()])
        .args(["-n", &requests.to_string(), "-r", &options.keys.to_string()])
        .args(["-P", &row.pipeline.to_string(), "-c", CONNECTIONS])
        .args(["-d", &VALUE_BYTES.to_string(), "--csv"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let before = cpu_time(servers)?;
    let child = command
        .spawn()
        .map_err(|source| Error::Spawn { program: "redis-benchmark".into(), source })?;
    let output = finish(child, servers)?;
    let used = cpu_time(servers)?.saturating_sub(before);
    let (per_second, p99_ms) = parse_csv(&output, row.command)
        .ok_or_else(|| Error::Failed(format!("redis-benchmark said: {output}")))?;
    let cpu_us = used.as_secs_f64() * 1e6 / requests as f64;
    Ok(Measure { per_second, p99_ms, cpu_us })
}

/// Writes every key that `redis-benchmark -r` may ask for, so that each GET hits.
pub(super) fn preload(port: u16, keys: u64) -> Result<()> {
    let step = Step::begin(format!("loading {keys} keys"));
    let share = keys.div_ceil(LOADERS);
    let loaders: Vec<_> = (0..LOADERS)
        .map(|loader| {
            let (from, to) = (loader * share, ((loader + 1) * share).min(keys));
            thread::spawn(move || load_range(port, from, to))
        })
        .collect();
    for loader in loaders {
        let loaded = loader.join().map_err(|_| Error::Failed("a loader panicked".into()))?;
        loaded.map_err(|error| Error::Failed(format!("loading keys: {error}")))?;
    }
    step.done();
    let mut connection = Connection::open(port, LOAD_LIMIT).map_err(unreachable(port))?;
    for key in [0, keys / 2, keys.saturating_sub(1)] {
        match connection.call(&["GET", &key_name(key)]).map_err(unreachable(port))? {
            Reply::Bulk(value) if value.len() == VALUE_BYTES => {}
            other => return Err(Error::Failed(format!("a loaded key reads as {other:?}"))),
        }
    }
    Ok(())
}

fn load_range(port: u16, from: u64, to: u64) -> std::io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(LOAD_LIMIT))?;
    stream.set_nodelay(true)?;
    let value = "x".repeat(VALUE_BYTES);
    let mut next = from;
    while next < to {
        let end = (next + LOAD_BATCH).min(to);
        let mut batch = String::new();
        for key in next..end {
            let key = key_name(key);
            let length = key.len();
            let head = format_args!("*3\r\n$3\r\nSET\r\n${length}\r\n{key}\r\n${VALUE_BYTES}\r\n");
            let _ = write!(batch, "{head}{value}\r\n");
        }
        stream.write_all(batch.as_bytes())?;
        let expected = "+OK\r\n".repeat(usize::try_from(end - next).unwrap_or_default());
        let mut replies = vec![0; expected.len()];
        stream.read_exact(&mut replies)?;
        if replies != expected.as_bytes() {
            return Err(std::io::Error::other(String::from_utf8_lossy(&replies).into_owned()));
        }
        next = end;
    }
    Ok(())
}

/// The name that `redis-benchmark` gives to its key of that number.
fn key_name(number: u64) -> String {
    format!("key:{number:012}")
}

/// Waits for the generator. It never gives up on a server that is gone, so we do.
fn finish(mut child: Child, servers: &[Identity]) -> Result<String> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            let mut output = String::new();
            if let Some(mut pipe) = child.stdout.take() {
                let _ = pipe.read_to_string(&mut output);
            }
            if status.success() {
                return Ok(output);
            }
            return Err(Error::Tool { command: "redis-benchmark".into(), code: status.code() });
        }
        if servers.iter().any(|server| server.life() == Life::Gone) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::Unreachable("a server ended while it was measured".into()));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until what a load left to do in the background (flushes, compactions, trees) is done, so
/// that it is not counted for the requests behind it; a minute at most.
pub(super) fn until_quiet(servers: &[Identity]) -> Result<()> {
    let step = Step::begin("until the nodes are quiet");
    for _ in 0..QUIET_LOOKS_MAX {
        let before = cpu_time(servers)?;
        thread::sleep(QUIET_LOOK);
        if cpu_time(servers)?.saturating_sub(before) * QUIET_PART < QUIET_LOOK {
            break;
        }
    }
    step.done();
    Ok(())
}

fn cpu_time(servers: &[Identity]) -> Result<Duration> {
    let times: Option<Vec<Duration>> = servers.iter().map(|server| server.cpu_time()).collect();
    let gone = || Error::Unreachable("a server ended while it was measured".into());
    Ok(times.ok_or_else(gone)?.into_iter().sum())
}

/// Requests per second and p99 in milliseconds of one command, by the names in the header.
fn parse_csv(output: &str, command: &str) -> Option<(f64, f64)> {
    let mut lines = output.lines().filter(|line| line.starts_with('"')).map(csv_fields);
    let header = lines.next()?;
    let row = lines.find(|row| row.first() == Some(&command))?;
    let number = |name: &str| {
        let column = header.iter().position(|field| *field == name)?;
        row.get(column)?.parse::<f64>().ok()
    };
    Some((number("rps")?, number("p99_latency_ms")?))
}

fn csv_fields(line: &str) -> Vec<&str> {
    line.trim().split(',').map(|field| field.trim_matches('"')).collect()
}

fn unreachable(port: u16) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::Unreachable(format!("port {port}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = "\
\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\
\"p99_latency_ms\",\"max_latency_ms\"\n\
\"SET\",\"1111.12\",\"0.593\",\"0.120\",\"0.543\",\"1.055\",\"1.295\",\"1.359\"\n\
\"GET\",\"2222.62\",\"0.549\",\"0.112\",\"0.455\",\"0.831\",\"4.103\",\"4.159\"\n";

    #[test]
    fn the_csv_is_read_by_its_header() {
        assert_eq!(parse_csv(CSV, "SET"), Some((1111.12, 1.295)));
        assert_eq!(parse_csv(CSV, "GET"), Some((2222.62, 4.103)));
        let warned = format!("WARNING: something\n{CSV}");
        assert_eq!(parse_csv(&warned, "GET"), Some((2222.62, 4.103)));
        assert_eq!(parse_csv(CSV, "DEL"), None);
        assert_eq!(parse_csv("", "SET"), None);
    }

    #[test]
    fn the_median_is_taken_of_each_field() {
        let one = |n: f64| Measure { per_second: n, p99_ms: 10.0 - n, cpu_us: n };
        assert_eq!(median(&[one(3.0), one(1.0), one(2.0)]), one(2.0));
        assert!(median(&[]).per_second.is_nan());
    }

    #[test]
    fn keys_are_named_as_the_generator_names_them() {
        assert_eq!(key_name(42), "key:000000000042");
    }

    #[test]
    fn programs_are_looked_for_on_the_path() {
        assert!(is_installed("sh"));
        assert!(!is_installed("no-such-program-of-anybodys"));
    }
}
