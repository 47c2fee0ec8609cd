//! The HTTP port and the binary, over real sockets and processes.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A process that is not left behind, with its directory.
struct Running {
    child: Child,
    dir: PathBuf,
    http: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn scratch() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name =
        format!("kv-node-bin-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    std::env::temp_dir().join(name)
}

fn command(dir: &std::path::Path, set: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv-node"));
    command.arg("--data-dir").arg(dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    for pair in set {
        command.args(["--set", pair]);
    }
    command
}

impl Running {
    fn start(set: &[&str]) -> Self {
        let (dir, http) = (scratch(), free_port());
        let port = format!("listen.http={http}");
        let mut all = vec!["listen.resp=127.0.0.1:0", "listen.rpc=127.0.0.1:0", &port];
        all.extend(set);
        let mut command = command(&dir, &all);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let running = Self { child, dir, http };
        let until = Instant::now() + Duration::from_secs(10);
        while running.try_ask("GET /health/live HTTP/1.1\r\nHost: x\r\n").is_none() {
            assert!(Instant::now() < until, "the node does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        running
    }

    fn try_ask(&self, head: &str) -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&self.http, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "{head}Connection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        (!answer.is_empty()).then_some(answer)
    }

    fn get(&self, path: &str) -> String {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n");
        self.try_ask(&head).expect("the HTTP port answers")
    }

    fn until(&self, path: &str, start: &str) -> String {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let answer = self.get(path);
            if answer.starts_with(start) {
                return answer;
            }
            assert!(Instant::now() < until, "{path} goes on to answer {answer}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_node_alone_becomes_ready_and_shows_its_figures() {
    let node = Running::start(&["cluster.name=solo"]);
    node.until("/health/ready", "HTTP/1.1 200");
    let page = node.get("/metrics");
    assert!(page.contains("content-type: text/plain; version=0.0.4"), "{page}");
    for figure in ["kv_replica_reads_total{", "kv_members_up{", "kv_rpc_accepted_total{"] {
        assert!(page.contains(figure), "{figure} is missing from {page}");
    }
    let up = page.lines().find(|line| line.starts_with("kv_members_up{")).unwrap();
    assert!(
        up.contains("cluster=\"solo\"") && up.contains("node=\"") && up.ends_with("} 1"),
        "{up}"
    );
    assert!(page.contains("# HELP kv_replans_total Operations begun again because"), "{page}");
}

#[test]
fn a_node_without_a_cluster_lives_and_says_why_it_is_not_ready() {
    let node = Running::start(&["cluster.bootstrap_expect=0", "storage.engine=memory"]);
    let answer = node.get("/health/ready");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("no layout yet"), "{answer}");
    assert!(node.get("/health/live").starts_with("HTTP/1.1 200"));
    assert!(node.get("/anything").starts_with("HTTP/1.1 404"));
    let refused =
        node.try_ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n").unwrap();
    assert!(refused.starts_with("HTTP/1.1 405"), "{refused}");
    let long = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n", "x".repeat(64 * 1024));
    let refused = node.try_ask(&long);
    assert!(refused.is_none_or(|answer| answer.starts_with("HTTP/1.1 431")), "a head is bounded");
    assert!(node.get("/health/live").starts_with("HTTP/1.1 200"), "and the node goes on");
}

#[test]
fn a_signal_stops_it_cleanly_and_its_directory_is_its_own() {
    let mut node = Running::start(&[]);
    node.until("/health/ready", "HTTP/1.1 200");
    let others = ["listen.resp=", "listen.http=", "listen.rpc=127.0.0.1:0"];
    let second = command(&node.dir, &others).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(3), "{said}");
    assert!(said.contains("another process is using it"), "{said}");
    let other_dir = scratch();
    let taken = format!("listen.resp={}", node.http);
    let third = command(&other_dir, &[&taken, "listen.http="]).output().unwrap();
    let said = String::from_utf8_lossy(&third.stderr).into_owned();
    assert_eq!(third.status.code(), Some(3), "{said}");
    assert!(said.contains("listen.resp") && said.contains(&node.http.port().to_string()), "{said}");
    assert!(!other_dir.exists(), "a start that fails for a port touches no data");
    let pid = node.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(node.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_node_that_would_keep_less_than_its_cluster_promises_does_not_start() {
    let mut born = Running::start(&["storage.durability=sync"]);
    born.until("/health/ready", "HTTP/1.1 200");
    born.child.kill().unwrap();
    born.child.wait().unwrap();
    let set = [
        "listen.resp=127.0.0.1:0",
        "listen.rpc=127.0.0.1:0",
        "listen.http=",
        "storage.durability=os",
    ];
    let ended = command(&born.dir, &set).output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(
        !ended.status.success() && told.contains("set storage.durability = \"sync\""),
        "{told}"
    );
}

#[test]
fn settings_are_checked_and_shown_without_starting() {
    let dir = scratch();
    let sound = command(&dir, &["keyspace.n=1"]).arg("--check-config").output().unwrap();
    assert_eq!(sound.status.code(), Some(0));
    let shown =
        command(&dir, &["resp.requirepass=hunter2"]).arg("--print-config").output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("# requirepass = \"***\"") && !shown.contains("hunter2"), "{shown}");
    let unknown = command(&dir, &["listen.rsp=x"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("`listen.resp`"));
    let version = command(&dir, &[]).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("kv-node "));
    let open = command(&dir, &["listen.http=0.0.0.0:0"]).arg("--check-config").output().unwrap();
    assert_eq!(open.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&open.stderr).contains("--insecure"));
    assert!(!dir.exists(), "none of these touches the directory");
}

#[test]
fn nodes_find_each_other_by_names_that_a_resolver_knows() {
    let ports: Vec<u16> = (0..3).map(|_| free_port().port()).collect();
    let names: Vec<String> = ports.iter().map(|port| format!("\"localhost:{port}\"")).collect();
    let names = format!("cluster.seeds_dns=[{}]", names.join(","));
    let start = |port: &u16| {
        let rpc = format!("listen.rpc=127.0.0.1:{port}");
        Running::start(&[&rpc, &names, "cluster.bootstrap_expect=3", "storage.engine=memory"])
    };
    let nodes: Vec<Running> = ports.iter().map(start).collect();
    for node in &nodes {
        node.until("/health/ready", "HTTP/1.1 200");
    }
}
