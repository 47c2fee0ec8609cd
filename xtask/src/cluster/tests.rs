//! The verbs from `up` to `down --purge` on fake nodes: real processes, a few dozen lines of
//! server.
//!
//! A fake node is this test binary again, started through a script that names the one test below;
//! it speaks just enough HTTP and RESP, and shares its keys with the others through files, so that
//! a put through one is seen by a get through the next.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::place::Ports;
use super::state::State;
use super::up::launch;
use super::*;
use crate::process::Life;

/// A place that is removed with the test.
pub(crate) struct Scratch(pub(crate) Place);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Ok(Some(state)) = State::load(&self.0) {
            for process in state.processes.iter().chain([&state.proxy]).flatten() {
                process.signal(crate::process::Signal::KILL);
            }
        }
        if let Some(above) = self.0.dir().parent() {
            let _ = fs::remove_dir_all(above);
        }
    }
}

pub(crate) fn scratch(name: &str) -> Scratch {
    let dir = std::env::temp_dir().join(format!("kv-xtask-{name}-{}", std::process::id()));
    Scratch(Place::at(dir.join(name)))
}

#[test]
fn a_cluster_lives_from_up_to_purge() {
    let scratch = scratch("life");
    let place = &scratch.0;
    let shape = Shape { base_port: free_base(3), ..Shape::default() };
    let verb = |verb| at(place, "life", verb);
    let code = |verb| at(place, "life", verb).map_or_else(|error| error.exit_code(), |()| 0);

    assert_eq!(code(Verb::Status { json: false }), 5, "there is none yet");
    launch(place, "life", &shape, fake_binary(place)).unwrap();
    assert_eq!(code(Verb::Status { json: true }), 0);
    // On a running cluster `up` says so and builds nothing.
    assert_eq!(code(Verb::Up(shape.clone())), 0);

    verb(Verb::Kill { node: 2, hard: true }).unwrap();
    assert_eq!(life(place, 2), Life::Gone);
    assert_eq!(code(Verb::Status { json: false }), 3);
    assert_eq!(code(Verb::Kill { node: 2, hard: false }), 1, "it is not there");
    verb(Verb::Start { node: 2 }).unwrap();
    assert_eq!(code(Verb::Status { json: false }), 0);

    verb(Verb::Pause { node: 3, lasts: None }).unwrap();
    while life(place, 3) == Life::Running {
        std::thread::yield_now();
    }
    assert_eq!(code(Verb::Status { json: false }), 3);
    verb(Verb::Resume { node: 3 }).unwrap();
    let lasts = Some(Duration::from_millis(20));
    verb(Verb::Pause { node: 3, lasts }).unwrap();
    assert_eq!(life(place, 3), Life::Running, "it goes on by itself");
    verb(Verb::Kill { node: 3, hard: false }).unwrap();
    assert_eq!(code(Verb::Logs { node: Some(1), follow: false }), 0);

    verb(Verb::Down { purge: false }).unwrap();
    assert_eq!(code(Verb::Status { json: false }), 5);
    assert!(place.config_file(1).exists(), "data stays without --purge");
    verb(Verb::Down { purge: true }).unwrap();
    assert!(!place.dir().exists());
}

#[test]
fn a_node_that_ends_at_start_fails_the_launch_and_stops_the_rest() {
    let scratch = scratch("early");
    let place = &scratch.0;
    fs::create_dir_all(place.dir()).unwrap();
    let script = place.dir().join("half");
    let fake = fake_binary(place);
    let text = format!(
        "#!/bin/sh\ncase $2 in *n2*) echo no luck; exit 1;; *) exec {} \"$@\";; esac\n",
        fake.display()
    );
    write_script(&script, &text);
    let shape = Shape { base_port: free_base(3), ..Shape::default() };
    let error = launch(place, "early", &shape, script).unwrap_err();
    assert!(error.to_string().starts_with("n2 ended while starting"), "{error}");
    for node in 1..=3 {
        assert_eq!(life(place, node), Life::Gone, "n{node}");
    }
}

/// Not a test of anything: the body of a fake node, when the script below starts it.
#[test]
fn fake_node() {
    let Some(config) = std::env::var_os("XTASK_FAKE_NODE") else { return };
    let text = fs::read_to_string(&config).unwrap();
    let port = |key: &str| -> u16 {
        let prefix = format!("{key} = \"127.0.0.1:");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap();
        line.trim_end_matches('"').parse().unwrap()
    };
    let members = text.lines().find_map(|line| line.strip_prefix("bootstrap_expect = ")).unwrap();
    let shared = PathBuf::from(config).parent().unwrap().parent().unwrap().join("shared");
    fs::create_dir_all(&shared).unwrap();
    let http = TcpListener::bind((Ipv4Addr::LOCALHOST, port("http"))).unwrap();
    std::thread::spawn(move || {
        for stream in http.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    for stream in TcpListener::bind((Ipv4Addr::LOCALHOST, port("resp"))).unwrap().incoming() {
        let (shared, members) = (shared.clone(), members.to_owned());
        std::thread::spawn(move || serve(&stream.unwrap(), &shared, &members));
    }
}

fn serve(stream: &TcpStream, shared: &Path, members: &str) {
    let mut lines = BufReader::new(stream).lines();
    let mut writer = stream;
    while let Some(Ok(head)) = lines.next() {
        let count: usize = head.trim_start_matches('*').parse().unwrap();
        let words: Vec<String> = (0..count).filter_map(|_| lines.by_ref().nth(1)?.ok()).collect();
        let path = words.get(1).map(|key| shared.join(key));
        let reply = match (words[0].as_str(), path) {
            ("SET", Some(path)) => {
                fs::write(path, &words[2]).unwrap();
                "+OK\r\n".to_owned()
            }
            ("GET", Some(path)) => match fs::read_to_string(path) {
                Ok(value) => format!("${}\r\n{value}\r\n", value.len()),
                Err(_) => "$-1\r\n".to_owned(),
            },
            ("DEL", Some(path)) => format!(":{}\r\n", u8::from(fs::remove_file(path).is_ok())),
            ("INFO", _) => {
                let body = format!("# kv\r\nkv_members_up:{members}\r\n");
                format!("${}\r\n{body}\r\n", body.len())
            }
            _ => "-ERR unknown command\r\n".to_owned(),
        };
        writer.write_all(reply.as_bytes()).unwrap();
    }
}

fn fake_binary(place: &Place) -> PathBuf {
    fs::create_dir_all(place.dir()).unwrap();
    let script = place.dir().join("fake-node");
    let exe = std::env::current_exe().unwrap();
    let text = format!(
        "#!/bin/sh\nXTASK_FAKE_NODE=$2 exec '{}' --exact cluster::tests::fake_node --nocapture\n",
        exe.display()
    );
    write_script(&script, &text);
    script
}

fn write_script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A base from which all ports of `nodes` nodes are free; each test process looks elsewhere first.
pub(crate) fn free_base(nodes: u16) -> u16 {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 67).unwrap() * 400;
    loop {
        let step = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let base = 2000 + (own + step * 400) % 26800;
        let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        if (1..=nodes).all(|node| Ports::of(base, node).all(true).all(|port| free(&port))) {
            return base;
        }
    }
}

fn life(place: &Place, node: u16) -> Life {
    let state = State::load(place).unwrap().unwrap();
    state.process(node).unwrap().map_or(Life::Gone, crate::process::Identity::life)
}
