//! One key gets nine of ten requests, through all nodes of a cluster of real processes: the others
//! are hardly slower for it.
//!
//! `KV_TEST_LONG=1` runs five rounds of ten seconds; else it is three of one. What was seen is
//! printed as `figure: ...`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kv_tests::cluster::{Client, Cluster, ClusterConfig, StopAtEnd, load};
use kv_tests::sim::history::History;
use parking_lot::Mutex;

const CLIENTS: usize = 8;
const KEYS: usize = 4_000;
/// The 99th percentile of the other keys may be so many times that of before, and so much more.
const P99_TIMES: u32 = 2;
const P99_SLACK: Duration = Duration::from_millis(5);

/// Reads and writes until it is stopped: in odd phases nine of ten on one key. The times of the
/// other keys, with their phase.
fn work(
    id: usize,
    addresses: &[SocketAddr],
    stop: &AtomicBool,
    phase: &AtomicUsize,
) -> Vec<(usize, Duration)> {
    let history = Mutex::new(History::default());
    let mut client = Client::new(id, addresses.to_vec(), &history);
    let mut times = Vec::new();
    let mut others = [0; 2];
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let now = phase.load(Ordering::Relaxed);
        let is_hot = now % 2 == 1 && n % 10 != 0;
        let key = if is_hot {
            "hot".to_owned()
        } else {
            // Everywhere, whatever the step.
            format!("k:{}", (n * CLIENTS + id) * 2_654_435_761 % KEYS)
        };
        // Drawn by itself: on hot keys and on others half of it is reads, half is writes.
        let drawn = ((n * CLIENTS + id) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 63;
        let command = match drawn {
            0 => redis::cmd("GET").arg(&key).to_owned(),
            _ => redis::cmd("SET").arg(&key).arg("a value of some length").to_owned(),
        };
        let asked = Instant::now();
        let told = client.ask::<Option<String>>((n + id) % addresses.len(), &command);
        assert!(told.is_ok(), "{key}: {told:?}");
        if !is_hot {
            *others.get_mut(drawn as usize).expect("one bit") += 1;
            times.push((now, asked.elapsed()));
        }
    }
    let both = others.iter().all(|count| count * 3 > times.len());
    assert!(both, "reads and writes of other keys, about as many of each: {others:?}");
    times
}

fn p99(times: &[(usize, Duration)], phase: usize) -> Duration {
    let mut of: Vec<Duration> =
        times.iter().filter(|time| time.0 == phase).map(|time| time.1).collect();
    of.sort_unstable();
    of.get(of.len() * 99 / 100).copied().unwrap_or_default()
}

fn median(mut of: Vec<Duration>) -> Duration {
    of.sort_unstable();
    of.get(of.len() / 2).copied().unwrap_or_default()
}

#[test]
fn one_hot_key_hardly_slows_the_others_down() {
    let is_long = std::env::var_os("KV_TEST_LONG").is_some();
    let (rounds, each) =
        if is_long { (5, Duration::from_secs(10)) } else { (3, Duration::from_secs(1)) };
    let config = ClusterConfig {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_kv-test-node")),
        skews_ms: vec![0, 0, 0],
        settings: vec!["log.level=warn".into()],
        spread: false,
    };
    let cluster = Cluster::begin(config).expect("three nodes serve");
    let addresses = cluster.addresses();
    load(&addresses, KEYS).expect("three are up");
    let (stop, phase) = (AtomicBool::new(false), AtomicUsize::new(0));
    let times: Vec<(usize, Duration)> = thread::scope(|scope| {
        let _stops = StopAtEnd(&stop);
        let (addresses, stop, phase) = (&addresses, &stop, &phase);
        let clients: Vec<_> =
            (0..CLIENTS).map(|id| scope.spawn(move || work(id, addresses, stop, phase))).collect();
        for now in 0..2 * rounds {
            phase.store(now, Ordering::Relaxed);
            thread::sleep(each);
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().expect("a client ends")).collect()
    });
    let each = |odd: usize| (0..rounds).map(|round| p99(&times, 2 * round + odd)).collect();
    let (even, hot) = (median(each(0)), median(each(1)));
    println!("figure: p99 of other keys {even:?} with even load, {hot:?} beside a hot key");
    assert!(hot <= P99_TIMES * even + P99_SLACK, "{hot:?} beside a hot key, {even:?} without");
}
