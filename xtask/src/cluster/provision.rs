//! `provision`: starts one more node of a cluster, or ends one that has left, as `kv-node` asks.
//!
//! This is the program of `autoscale.command` on a developer's machine. It reads one request as
//! JSON on stdin, as an operator's program would. A request that was done before is done: its name
//! is kept with the node that came of it.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::place::{Place, Ports};
use super::state::{Exclusive, State};
use super::{STOP_LIMIT, config, up};
use crate::error::{Error, Result};
use crate::term;

/// Other verbs hold the cluster for a while.
const LOCK_LIMIT: Duration = Duration::from_secs(20);
/// Bytes of a request at most.
const REQUEST_BYTES_MAX: u64 = 256 * 1_024;
/// Nodes of one cluster at most: their ports are in blocks of a hundred.
const NODES_MAX: u16 = 99;

/// Does what stdin asks for.
pub(super) fn run(place: &Place, name: &str) -> Result<()> {
    let mut text = String::new();
    std::io::stdin()
        .take(REQUEST_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(Error::io(Path::new("standard input")))?;
    let _lock = patient_lock(place)?;
    serve(place, name, &text)
}

fn patient_lock(place: &Place) -> Result<Exclusive> {
    let began = Instant::now();
    loop {
        match place.lock() {
            Err(_) if began.elapsed() < LOCK_LIMIT => {
                std::thread::sleep(Duration::from_millis(50));
            }
            taken => return taken,
        }
    }
}

fn serve(place: &Place, name: &str, text: &str) -> Result<()> {
    let request: Value = serde_json::from_str(text)
        .map_err(|error| Error::Usage(format!("the request is not JSON: {error}")))?;
    let word = |key: &str| request.get(key).and_then(Value::as_str).unwrap_or_default();
    let state = State::load(place)?;
    let Some(mut state) = state else { return Err(super::status::absent(place, name)) };
    match word("do") {
        "add" => {
            let seeds = request.get("seeds").and_then(Value::as_array);
            let seeds = seeds.into_iter().flatten().filter_map(Value::as_str);
            let seeds: Vec<String> = seeds.map(str::to_owned).collect();
            add(place, name, &mut state, word("request"), &seeds)
        }
        "remove" => remove(place, &mut state, word("rpc")),
        other => Err(Error::Usage(format!("`{other}` is neither add nor remove"))),
    }
}

fn add(
    place: &Place,
    name: &str,
    state: &mut State,
    request: &str,
    seeds: &[String],
) -> Result<()> {
    let path = place.dir().join("provisioned.json");
    let known = fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str(&text).ok());
    let mut known: Map<String, Value> = known.unwrap_or_default();
    if let Some(node) = known.get(request) {
        term::out(format_args!("n{node} was started for {request} before"));
        return Ok(());
    }
    let node = next_node(state)?;
    config::write_joiner(place, name, &state.shape, node, seeds)?;
    let process = up::start_node(place, state, node)?;
    while state.processes.len() < usize::from(node) {
        state.processes.push(None);
    }
    state.shape.nodes = state.shape.nodes.max(node);
    state.set_process(node, Some(process));
    state.save(place)?;
    known.insert(request.to_owned(), node.into());
    fs::write(&path, Value::Object(known).to_string()).map_err(Error::io(&path))?;
    term::out(format_args!("n{node} is starting"));
    Ok(())
}

/// The first number behind all others whose ports are free.
fn next_node(state: &State) -> Result<u16> {
    let first = state.processes.len() + 1;
    let free = |node: &u16| {
        let mut ports = Ports::of(state.shape.base_port, *node).all(state.shape.faults);
        ports.all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
    };
    let mut numbers = u16::try_from(first).unwrap_or(NODES_MAX + 1)..=NODES_MAX;
    numbers.find(free).ok_or_else(|| Error::Failed("no ports are left for another node".into()))
}

fn remove(place: &Place, state: &mut State, rpc: &str) -> Result<()> {
    let port = rpc.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let found = state.nodes().find(|(node, ..)| Some(state.shape.told_rpc(*node)) == port);
    let Some((node, _, process)) = found else {
        term::out(format_args!("there is no node at {rpc}"));
        return Ok(());
    };
    if let Some(process) = process
        && !process.stop(STOP_LIMIT)
    {
        term::warn(format_args!("n{node} did not end when asked and was killed"));
    }
    state.set_process(node, None);
    while state.processes.last().is_some_and(Option::is_none) {
        state.processes.pop();
    }
    state.shape.nodes = u16::try_from(state.processes.len()).unwrap_or(state.shape.nodes);
    state.save(place)?;
    let dir = place.data_dir(node);
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(Error::io(&dir))?;
    }
    term::out(format_args!("n{node} is gone"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Shape;

    #[test]
    fn a_node_is_started_once_for_a_request_and_ended_by_its_port() {
        let scratch = crate::cluster::tests::scratch("provision");
        let place = &scratch.0;
        fs::create_dir_all(place.dir()).unwrap();
        let absent = serve(place, "x", r#"{"do":"add","request":"a"}"#);
        assert!(matches!(absent, Err(Error::Unreachable(_))), "{absent:?}");
        // A node that ends when it is told to.
        let binary = place.dir().join("node.sh");
        fs::write(&binary, "#!/bin/sh\nexec sleep 60\n").unwrap();
        let mut mode = fs::metadata(&binary).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
        fs::set_permissions(&binary, mode).unwrap();
        let shape = Shape { nodes: 0, base_port: 21_700, ..Shape::default() };
        State::new(shape, binary).save(place).unwrap();
        let add = r#"{"do":"add","request":"add-1","seeds":["127.0.0.1:21801"]}"#;
        serve(place, "x", add).unwrap();
        serve(place, "x", add).unwrap();
        let state = State::load(place).unwrap().unwrap();
        assert_eq!((state.processes.len(), state.alive()), (1, 1));
        let node = state.nodes().next().map(|(node, ..)| node).unwrap();
        let config = fs::read_to_string(place.config_file(node)).unwrap();
        assert!(config.contains("bootstrap_expect = 0\nseeds = [\"127.0.0.1:21801\"]"), "{config}");
        let rpc = Ports::of(21_700, node).rpc;
        let remove = format!(r#"{{"do":"remove","request":"r","rpc":"127.0.0.1:{rpc}"}}"#);
        serve(place, "x", &remove).unwrap();
        serve(place, "x", &remove).unwrap();
        let state = State::load(place).unwrap().unwrap();
        assert_eq!((state.processes.len(), state.alive(), state.shape.nodes), (0, 0, 0));
        assert!(matches!(serve(place, "x", "{}"), Err(Error::Usage(_))));
        assert!(matches!(serve(place, "x", "?"), Err(Error::Usage(_))));
    }
}
