//! The real terminal program in a pseudo terminal, attached to real nodes: what an operator sees
//! and presses while a node dies and comes back, and while a cut link makes a conflict.
//!
//! Three nodes in a network namespace of the test's own. `script` gives the program its terminal,
//! vt100 reads what it draws. Needs root, `unshare`, iptables and `script`: else `SKIPPED`, loudly.

#![expect(clippy::print_stdout, reason = "figures, for whoever runs it with --nocapture")]

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kv_tests::cluster::{Cluster, ClusterConfig, Links, Network};
use parking_lot::Mutex;

const NODES: usize = 3;
const ROWS: NonZeroU16 = NonZeroU16::new(40).unwrap();
const COLUMNS: NonZeroU16 = NonZeroU16::new(120).unwrap();
/// For whatever a cluster does by itself: it takes a few seconds, and a busy machine stalls it.
const PATIENCE: Duration = Duration::from_secs(90);

/// The program in its terminal.
struct Terminal {
    process: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<vt100::Parser>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    fn attach(cluster: &Cluster) -> io::Result<Self> {
        let rpc: Vec<String> = cluster.rpc_addresses().iter().map(ToString::to_string).collect();
        let program = env!("CARGO_BIN_EXE_kv-test-tui");
        let line = format!(
            "stty rows {ROWS} cols {COLUMNS}; exec '{program}' --connect {}",
            rpc.join(",")
        );
        let mut process = Command::new("script")
            .args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"])
            .env("TERM", "xterm-256color")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("KV_CONNECT")
            .env_remove("KV_SECRET_FILE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let gone = || io::Error::other("a pipe is missing");
        let keys = process.stdin.take().ok_or_else(gone)?;
        let mut drawn = process.stdout.take().ok_or_else(gone)?;
        let screen = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)));
        let shared = Arc::clone(&screen);
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(count) = drawn.read(&mut bytes) {
                match bytes.get(..count) {
                    Some(some) if !some.is_empty() => shared.lock().process(some),
                    _ => break,
                }
            }
        });
        Ok(Self { process, keys, screen, reader: Some(reader) })
    }

    fn text(&self) -> String {
        self.screen.lock().screen().contents()
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).expect("pressed");
    }

    /// Waits until something is on the screen, and tells what `find` made of it.
    fn until<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            let text = self.text();
            if let Some(found) = find(&text) {
                println!("{what} after {:.1} s", began.elapsed().as_secs_f64());
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "{what} is not on the screen:\n{text}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn shows(&self, what: &str) {
        self.until(what, |text| text.contains(what).then_some(()));
    }

    /// Waits for its end; its exit code.
    fn end(&mut self) -> Option<i32> {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if let Ok(Some(status)) = self.process.try_wait() {
                if let Some(reader) = self.reader.take() {
                    reader.join().expect("it read all");
                }
                return status.code();
            }
            thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// Hints that the header tells, if it tells them.
fn hints(text: &str) -> Option<u64> {
    let after = text.lines().next()?.split_once("hints ")?.1;
    after.split(' ').next()?.parse().ok()
}

fn client(address: SocketAddr) -> redis::Connection {
    let client = redis::Client::open(format!("redis://{address}/")).expect("an address");
    client.get_connection().expect("it serves")
}

/// SETs through a node until told to stop; how many, and what failed.
fn write(address: SocketAddr, stop: &AtomicBool) -> (u64, Vec<String>) {
    let mut node = client(address);
    let (mut done, mut failed) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let set = redis::cmd("SET").arg(format!("w:{}", done % 300)).arg(done).to_owned();
        match set.query::<String>(&mut node) {
            Ok(_) => done += 1,
            Err(error) => failed.push(error.to_string()),
        }
        thread::sleep(Duration::from_millis(20));
    }
    (done, failed)
}

/// A cluster in a network of this test's own; `None` if the test is over already.
fn in_own_network(test: &str) -> Option<(Cluster, Links)> {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("SKIPPED {test}: there is no `script`");
        return None;
    }
    if !Network::is_own(test) {
        return None;
    }
    let config = ClusterConfig {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_kv-test-node")),
        skews_ms: vec![0; NODES],
        settings: vec!["log.level=warn".into()],
        spread: true,
    };
    Some((Cluster::begin(config).expect("three nodes serve"), Links::whole(NODES)))
}

#[test]
fn an_operator_sees_a_node_die_and_resolves_a_conflict() {
    let test = "an_operator_sees_a_node_die_and_resolves_a_conflict";
    let Some((mut cluster, links)) = in_own_network(test) else { return };
    let nodes = cluster.addresses();
    let mut terminal = Terminal::attach(&cluster).expect("a terminal");
    terminal.shows("3 nodes: 3 up");

    // A node dies under writes: none fails, and hints for it grow.
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (address, stop) = (nodes[0], Arc::clone(&stop));
        thread::spawn(move || write(address, &stop))
    };
    cluster.kill(&[2]).expect("killed");
    terminal.shows("1 down");
    let some = terminal.until("hints", |text| hints(text).filter(|count| *count > 0));
    let more = terminal.until("more hints", |text| hints(text).filter(|count| *count > some));
    println!("{some}, then {more} hints");
    // It comes back, and they go.
    cluster.start(2).expect("started");
    terminal.shows("3 nodes: 3 up");
    terminal.until("no hints", |text| hints(text).filter(|count| *count == 0));
    stop.store(true, Ordering::Relaxed);
    let (done, failed) = writer.join().expect("it wrote");
    println!("{done} writes meanwhile, {} failed", failed.len());
    assert!(failed.is_empty() && done > 50, "{done} {failed:?}");

    // Both sides of a cut link write one key.
    links.split(&[2]).expect("cut");
    let one = r#"{"items":["tea"],"n":1}"#;
    let other = r#"{"items":["cup"],"n":2}"#;
    let set = |node: &mut redis::Connection, value: &str| {
        let consistency = redis::cmd("KV.CONSISTENCY").arg("W").arg("ONE").to_owned();
        consistency.query::<redis::Value>(node).expect("taken");
        redis::cmd("SET").arg("cart:9001").arg(value).query::<String>(node).expect("stored");
    };
    set(&mut client(nodes[0]), one);
    set(&mut client(nodes[2]), other);
    links.heal().expect("whole");

    // Once the two have met, the operator finds the key among those with siblings, and three keys
    // resolve it: the tab, the rule, and apply.
    terminal.press("4");
    terminal.shows("cart:9001");
    terminal.shows("sibling 2");
    terminal.press("m");
    terminal.shows("result, not yet written");
    terminal.shows("JSON merge");
    terminal.press("a");
    terminal.until("the end of the conflict", |text| {
        (!text.contains("result, not yet written")).then_some(())
    });
    for node in &nodes {
        let value: String =
            redis::cmd("GET").arg("cart:9001").query(&mut client(*node)).expect("read");
        assert!(value.contains("tea") && value.contains("cup"), "{node}: {value}");
        assert!(value.contains("\"n\":2"), "{node}: {value}");
        let seen: redis::Value =
            redis::cmd("KV.GET").arg("cart:9001").query(&mut client(*node)).expect("read");
        assert_eq!(versions(&seen), 1, "{node}: {seen:?}");
    }
    terminal.press("q");
    assert_eq!(terminal.end(), Some(0), "it ends well:\n{}", terminal.text());
    assert!(!terminal.screen.lock().screen().alternate_screen(), "the terminal is as it was");
}

/// How many values KV.GET showed: its answer is the context, and a list of them.
fn versions(seen: &redis::Value) -> usize {
    match seen {
        redis::Value::Array(parts) => match parts.get(1) {
            Some(redis::Value::Array(values)) => values.len(),
            _ => 0,
        },
        _ => 0,
    }
}
