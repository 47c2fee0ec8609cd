//! `kv import` and `kv export` between a real redis-server and real nodes.
//!
//! `KV_TEST_LONG=1` copies 100,000 keys instead of 5,000. Without a redis-server on the PATH there
//! is nothing to copy from, and the test says so.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kv_tests::cluster::{Cluster, ClusterConfig};
use redis::Connection;

const BATCH: usize = 1_000;
/// Keys of other types, and what they are.
const OTHERS: [(&str, &str); 3] = [("a-list", "list"), ("a-hash", "hash"), ("a-set", "set")];

/// A redis-server that ends with its value, and a directory for everything.
struct Redis {
    process: Child,
    port: u16,
    dir: PathBuf,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _ended = self.process.wait();
        let _left = fs::remove_dir_all(&self.dir);
    }
}

impl Redis {
    /// None where it is not installed.
    fn start() -> Option<Self> {
        let dir = std::env::temp_dir().join(format!("kv-tests-redis-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        // Closed again at the end of the statement: the server is to listen there.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|free| free.local_addr())
            .expect("a free port")
            .port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .current_dir(&dir)
            .stdout(Stdio::null())
            .spawn();
        let process = match process {
            Ok(process) => process,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => panic!("redis-server: {error}"),
        };
        let redis = Self { process, port, dir };
        let until = Instant::now() + Duration::from_secs(10);
        while redis.try_connect(0).is_err() {
            assert!(Instant::now() < until, "redis-server does not serve");
            thread::sleep(Duration::from_millis(20));
        }
        Some(redis)
    }

    fn url(&self, db: u8) -> String {
        format!("redis://127.0.0.1:{}/{db}", self.port)
    }

    fn try_connect(&self, db: u8) -> redis::RedisResult<Connection> {
        redis::Client::open(self.url(db))?.get_connection()
    }

    fn connect(&self, db: u8) -> Connection {
        self.try_connect(db).expect("it serves")
    }

    /// Strings of all lengths, two of three with an expiry, and keys of other types.
    fn fill(&self, keys: usize) {
        let mut redis = self.connect(0);
        let numbers: Vec<usize> = (0..keys).collect();
        for numbers in numbers.chunks(BATCH) {
            let mut pipe = redis::pipe();
            for number in numbers {
                let set = pipe.cmd("SET").arg(key(*number)).arg(value(*number));
                if number % 3 != 0 {
                    set.arg("PX").arg(600_000 + number);
                }
            }
            pipe.query::<()>(&mut redis).expect("filled");
        }
        let mut pipe = redis::pipe();
        pipe.cmd("RPUSH").arg(OTHERS[0].0).arg("x");
        pipe.cmd("HSET").arg(OTHERS[1].0).arg("x").arg("y");
        pipe.cmd("SADD").arg(OTHERS[2].0).arg("x");
        pipe.query::<()>(&mut redis).expect("filled");
    }
}

fn key(number: usize) -> String {
    format!("user:{number}")
}

fn value(number: usize) -> Vec<u8> {
    (0..number % 200).map(|place| (number * 31 + place * 7) as u8).collect()
}

fn kv(cluster: &Cluster, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv-test-cli"));
    let rpc: Vec<String> = cluster.rpc_addresses().iter().map(ToString::to_string).collect();
    command.args(["--connect", &rpc.join(","), "--json"]).args(words);
    command
}

/// The object that it printed, and its exit code.
fn told(output: &Output) -> (String, i32) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().expect("it ended by itself");
    assert!(code == 0 || code == 3, "exit {code}: {errors}");
    (text, code)
}

fn has(text: &str, field: &str) {
    assert!(text.contains(field), "{field} in {text}");
}

/// A number out of a checkpoint.
fn number(checkpoint: &Path, field: &str) -> u64 {
    let text = fs::read_to_string(checkpoint).unwrap_or_default();
    let field = format!("\"{field}\": ");
    let after = text.lines().find_map(|line| line.trim().strip_prefix(&field));
    after.and_then(|digits| digits.trim_end_matches(',').parse().ok()).unwrap_or(0)
}

/// Values and times to live of some keys through one node, beside the original's.
fn compare(node: SocketAddr, original: &mut Connection, keys: usize) {
    let node = redis::Client::open(format!("redis://{node}/")).expect("an address");
    let mut node = node.get_connection().expect("it serves");
    let sample: Vec<usize> = (0..keys).step_by(keys / 500).collect();
    let mut pipe = redis::pipe();
    for number in &sample {
        pipe.cmd("GET").arg(key(*number));
        pipe.cmd("PTTL").arg(key(*number));
    }
    let copied: Vec<(Vec<u8>, i64)> = pipe.query(&mut node).expect("read");
    let originals: Vec<(Vec<u8>, i64)> = pipe.query(original).expect("read");
    for ((number, copied), original) in sample.iter().zip(copied).zip(originals) {
        assert_eq!(copied.0, original.0, "{}", key(*number));
        assert_eq!(copied.0, value(*number));
        let (here, there) = (copied.1, original.1);
        assert_eq!(here == -1, number % 3 == 0, "{}: {here}", key(*number));
        assert!(here.abs_diff(there) < 2_000, "{}: {here} {there} ms", key(*number));
    }
}

#[test]
fn keys_are_imported_through_a_kill_and_exported_again() {
    let Some(redis) = Redis::start() else {
        println!("SKIPPED: there is no redis-server");
        return;
    };
    let keys = if std::env::var_os("KV_TEST_LONG").is_some() { 100_000 } else { 5_000 };
    redis.fill(keys);
    let cluster = Cluster::begin(ClusterConfig {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_kv-test-node")),
        skews_ms: vec![0, 0, 0],
        settings: vec!["log.level=warn".into()],
        spread: false,
    })
    .expect("three nodes serve");
    let checkpoint = redis.dir.join("import");
    let (path, from) = (checkpoint.to_string_lossy().into_owned(), redis.url(0));
    let import = ["import", "--from", &from, "--checkpoint", &path, "--page-keys", "200"];
    // The first time it takes two seconds and is killed on its way.
    let rate = (keys / 2).to_string();
    let mut first = kv(&cluster, &[&import[..], &["--keys-per-s-max", &rate]].concat())
        .stdout(Stdio::null())
        .spawn()
        .expect("started");
    let until = Instant::now() + Duration::from_mins(1);
    while number(&checkpoint, "stored") < keys as u64 / 4 {
        assert!(Instant::now() < until, "it does not get on");
        thread::sleep(Duration::from_millis(5));
    }
    first.kill().expect("killed");
    first.wait().expect("gone");
    let before = number(&checkpoint, "stored");
    assert!(before < keys as u64, "it was killed on its way");
    // The second time it goes on, and lists what it can't copy.
    let began = Instant::now();
    let (text, code) = told(&kv(&cluster, &import).output().expect("run"));
    println!("{before} of {keys} keys, then kill -9; the rest and the verification took");
    println!("{} ms: {text}", began.elapsed().as_millis());
    assert_eq!(code, 3, "{text}");
    for field in ["\"resumed\":true", "\"mended\":0", "\"differing\":0", "\"gone\":0"] {
        has(&text, field);
    }
    has(&text, &format!("\"stored\":{keys},"));
    has(&text, &format!("\"verified\":{keys}}}"));
    has(&text, "\"refused\":{\"hash\":1,\"list\":1,\"set\":1}");
    let list = fs::read_to_string(redis.dir.join("import.refused")).expect("a list");
    for (key, kind) in OTHERS {
        has(&list, &format!("{{\"key\":\"{key}\",\"kind\":\"{kind}\""));
    }
    assert_eq!(list.lines().count(), OTHERS.len());
    for node in cluster.addresses() {
        compare(node, &mut redis.connect(0), keys);
    }
    export(&cluster, &redis, keys);
}

/// Into another database of the server, and into a file and back from it.
fn export(cluster: &Cluster, redis: &Redis, keys: usize) {
    let at = |name: &str| redis.dir.join(name).to_string_lossy().into_owned();
    let (checkpoint, file) = (at("export"), at("export.jsonl"));
    let run = |to: &str| {
        let words = ["export", "--to", to, "--checkpoint", &checkpoint];
        let (text, code) = told(&kv(cluster, &words).output().expect("run"));
        assert_eq!(code, 0, "{text}");
        has(&text, &format!("\"stored\":{keys},"));
        has(&text, &format!("\"verified\":{keys}}}"));
    };
    run(&redis.url(1));
    let mut other = redis.connect(1);
    let size: usize = redis::cmd("DBSIZE").query(&mut other).expect("counted");
    assert_eq!(size, keys);
    let first = cluster.addresses().into_iter().next().expect("a node");
    compare(first, &mut other, keys);
    run(&file);
    let text = fs::read_to_string(&file).expect("a file");
    assert_eq!(text.lines().count(), keys + 2);
    let again = ["export", "--to", &file, "--checkpoint", &checkpoint];
    let refused = kv(cluster, &again).output().expect("run");
    assert_eq!(refused.status.code(), Some(2), "the file is there already");
    let import = ["import", "--from", &file, "--checkpoint", &at("back")];
    let (text, code) = told(&kv(cluster, &import).output().expect("run"));
    assert_eq!(code, 0, "{text}");
    has(&text, &format!("\"verified\":{keys}}}"));
}
