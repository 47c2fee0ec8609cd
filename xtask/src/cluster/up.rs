//! `up`: build, start, wait until it really serves, say what to type next.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::place::{Place, Ports};
use super::probe::{self, Health};
use super::state::State;
use super::{Durability, Engine, Shape, config, faults, name_of, status};
use crate::cmd;
use crate::error::{Error, Result};
use crate::process::{self, Identity, Life};
use crate::term::{self, Step};

/// From the processes' start to a cluster that serves.
pub(super) const READY_LIMIT: Duration = Duration::from_mins(1);
const ASK_EVERY: Duration = Duration::from_millis(20);
/// Lines of a log that are shown when its node ended.
const LAST_WORDS: usize = 20;

/// Makes the cluster serve, or says that it already does.
pub(super) fn run(place: &Place, name: &str, shape: &Shape) -> Result<()> {
    let _lock = place.lock()?;
    let before = State::load(place)?;
    if let Some(state) = before.as_ref().filter(|state| state.alive() > 0) {
        term::out(format_args!("cluster `{name}` is already running"));
        if let Some(note) = unlike(&state.shape, shape) {
            let option = place.option();
            term::warn(format_args!(
                "{note}; to change that, `cargo xtask cluster down --purge{option}` first: \
                 its data goes with it"
            ));
        }
        return status::run(place, name, false);
    }
    refuse_other_shape(place, before.as_ref(), shape)?;
    if let Some(late) = before.as_ref().and_then(|state| too_late(&state.shape, shape)) {
        let option = place.option();
        term::warn(format_args!(
            "{late} is decided when a cluster is born, and this one has data: it keeps what it \
             has; `cargo xtask cluster down --purge{option}` first makes a new one"
        ));
    }
    check_ports(shape)?;
    let binary = build()?;
    let took = launch(place, name, shape, binary)?;
    greet(place, name, shape, took);
    Ok(())
}

/// Writes the configuration, starts every node and waits until the cluster serves; how long that
/// took since the first process was started.
pub(super) fn launch(
    place: &Place,
    name: &str,
    shape: &Shape,
    binary: PathBuf,
) -> Result<Duration> {
    config::write_all(place, name, shape)?;
    let mut state = State::new(shape.clone(), binary);
    if shape.faults {
        // The proxy reads how many nodes there are.
        state.save(place)?;
        state.proxy = Some(faults::start_proxy(place)?);
        state.save(place)?;
    }
    let began = Instant::now();
    for node in 1..=shape.nodes {
        let process = start_node(place, &state, node)?;
        state.set_process(node, Some(process));
        state.save(place)?;
    }
    if let Err(error) = wait_serving(place, &state, began) {
        // A birth that failed is no cluster: nothing of it stays running.
        if state.alive() < usize::from(shape.nodes) {
            for process in state.processes.iter().chain([&state.proxy]).flatten() {
                process.stop(Duration::from_secs(2));
            }
        }
        return Err(error);
    }
    Ok(began.elapsed())
}

/// Builds the node in release.
pub(super) fn build() -> Result<PathBuf> {
    term::title("building the node (release)");
    cmd::built("kv-node", "kv-node", &["--release"])
}

/// Starts one node on its configuration.
pub(super) fn start_node(place: &Place, state: &State, node: u16) -> Result<Identity> {
    let mut command = Command::new(&state.binary);
    command.arg("--config").arg(place.config_file(node));
    for setting in &state.shape.set {
        command.args(["--set", setting]);
    }
    command.current_dir(place.node_dir(node));
    process::start_detached(&mut command, &place.log_file(node))
}

/// Waits until every node sees all others and a put and a get pass through each.
fn wait_serving(place: &Place, state: &State, began: Instant) -> Result<()> {
    let nodes: Vec<(u16, Ports, Option<Identity>)> = state.nodes().collect();
    let ports: Vec<Ports> = nodes.iter().map(|(_, ports, _)| *ports).collect();
    let step = Step::begin(format!("waiting for {} nodes", nodes.len()));
    loop {
        let lack = nodes.iter().find_map(|(node, ports, process)| {
            still_there(place, *node, *process).err().map(Err).or_else(|| {
                let lack = Health::ask(*ports).lack(state.shape.nodes)?;
                Some(Ok(format!("n{node} {lack}")))
            })
        });
        let lack = match lack {
            Some(Err(error)) => return Err(error),
            Some(Ok(lack)) => lack,
            None => match probe::quorum_round(&ports) {
                Ok(()) => {
                    step.done();
                    return Ok(());
                }
                Err(error) => format!("a put and a get do not pass: {error}"),
            },
        };
        if began.elapsed() > READY_LIMIT {
            return Err(Error::Degraded(format!(
                "not serving after {}: {lack}; see `cargo xtask cluster logs{}`",
                term::human(READY_LIMIT),
                place.option()
            )));
        }
        step.say(&lack);
        std::thread::sleep(ASK_EVERY);
    }
}

/// An error with its last words when the node's process is gone.
pub(super) fn still_there(place: &Place, node: u16, process: Option<Identity>) -> Result<()> {
    if process.is_some_and(|process| process.life() != Life::Gone) {
        return Ok(());
    }
    let log = fs::read_to_string(place.log_file(node)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    for line in lines.iter().skip(lines.len().saturating_sub(LAST_WORDS)) {
        term::note(format_args!("n{node} | {line}"));
    }
    Err(Error::Failed(format!("n{node} ended while starting; its last words are above")))
}

/// Data that was born with another number of nodes can't be started as something else.
fn refuse_other_shape(place: &Place, before: Option<&State>, shape: &Shape) -> Result<()> {
    match before {
        Some(state) if state.shape.nodes != shape.nodes => Err(Error::Failed(format!(
            "it has the data of {nodes} nodes; start it with -n {nodes}, or remove it with \
             `cargo xtask cluster down --purge{}`",
            place.option(),
            nodes = state.shape.nodes,
        ))),
        _ => Ok(()),
    }
}

/// A setting that is asked for now, and does nothing to a cluster that was born without it.
fn too_late<'a>(has: &Shape, asked: &'a Shape) -> Option<&'a str> {
    let at_birth = ["keyspace.", "cluster.partitions", "cluster.name"];
    let new = |setting: &&String| {
        at_birth.iter().any(|start| setting.starts_with(start)) && !has.set.contains(setting)
    };
    asked.set.iter().find(new).map(String::as_str)
}

/// What was asked for and a running cluster is not; nothing where only defaults were asked for.
fn unlike(has: &Shape, asked: &Shape) -> Option<String> {
    (*asked != Shape::default() && asked != has).then(|| {
        format!(
            "it has {} nodes from port {} on with engine {} and durability {}{}",
            has.nodes,
            has.base_port,
            name_of(Engine::NAMES, has.engine),
            name_of(Durability::NAMES, has.durability),
            if has.faults { ", and faults" } else { ", and no faults" },
        )
    })
}

/// An error that names the first port that somebody else holds.
pub(super) fn check_ports(shape: &Shape) -> Result<()> {
    check_ports_of(shape, 1..=shape.nodes)
}

/// The same for some of a cluster's nodes.
pub(super) fn check_ports_of(shape: &Shape, nodes: RangeInclusive<u16>) -> Result<()> {
    let base_port = shape.base_port;
    for node in nodes {
        for port in Ports::of(base_port, node).all(shape.faults) {
            if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                return Err(Error::Failed(format!(
                    "port {port} is not free ({error}); choose others with --base-port {}",
                    base_port + 1000
                )));
            }
        }
    }
    Ok(())
}

fn greet(place: &Place, name: &str, shape: &Shape, took: Duration) {
    for node in 1..=shape.nodes {
        let Ports { resp, rpc, http, .. } = Ports::of(shape.base_port, node);
        term::out(format_args!("n{node}  redis {resp}  rpc {rpc}  http {http}  (127.0.0.1)"));
    }
    let first = Ports::of(shape.base_port, 1).resp;
    let last = Ports::of(shape.base_port, shape.nodes).resp;
    let option = place.option();
    let kill = if shape.nodes > 1 { 2 } else { 1 };
    term::out(format_args!("cluster `{name}` serves after {}; next:", term::human(took)));
    if on_path("redis-cli", std::env::var_os("PATH").as_deref()) {
        term::out(format_args!("  redis-cli -p {first} set a 1"));
        term::out(format_args!("  redis-cli -p {last} get a"));
    } else {
        let secret = place.secret_file();
        let secret = secret.display();
        let ask = format!(
            "cargo run -q -p kv-tui --bin kv -- --secret-file {secret} --connect 127.0.0.1"
        );
        let of = |node| Ports::of(shape.base_port, node).rpc;
        term::out(format_args!("  {ask}:{} put a 1", of(1)));
        term::out(format_args!("  {ask}:{} get a", of(shape.nodes)));
        term::out("  (redis-cli is not installed; any Redis client works as well)");
    }
    term::out(format_args!("  cargo xtask tui{option}"));
    term::out(format_args!("  cargo xtask cluster kill {kill} -9{option}"));
    if shape.faults {
        term::out(format_args!("  cargo xtask cluster partition {}{option}", shape.nodes));
        term::out(format_args!("  cargo xtask cluster slow {kill} 50ms±10{option}"));
        term::out(format_args!("  cargo xtask cluster heal{option}"));
    }
    term::out(format_args!("  cargo xtask cluster status{option}"));
    term::out(format_args!("  cargo xtask cluster down --purge{option}"));
}

/// Whether a program is where the shell looks for it.
fn on_path(program: &str, path: Option<&OsStr>) -> bool {
    path.is_some_and(|path| std::env::split_paths(path).any(|dir| dir.join(program).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_cluster_says_what_it_does_not_become() {
        let has = Shape::default();
        assert_eq!(unlike(&has, &Shape::default()), None);
        let five = Shape { nodes: 5, ..Shape::default() };
        assert!(unlike(&has, &five).is_some_and(|note| note.contains("3 nodes")));
        assert_eq!(unlike(&five, &five), None);
        assert_eq!(unlike(&five, &Shape::default()), None, "a plain `up` asks for nothing");
    }

    #[test]
    fn a_setting_that_comes_too_late_is_named() {
        let with = |set: &[&str]| Shape {
            set: set.iter().map(|setting| (*setting).to_owned()).collect(),
            ..Shape::default()
        };
        let born = with(&["keyspace.rmw=refuse"]);
        assert_eq!(too_late(&born, &born), None);
        assert_eq!(too_late(&born, &with(&["log.level=debug"])), None);
        let rmw = with(&["log.level=debug", "keyspace.rmw=best-effort"]);
        assert_eq!(too_late(&born, &rmw), Some("keyspace.rmw=best-effort"));
    }

    #[test]
    fn a_program_is_looked_for_on_the_path() {
        assert!(on_path("sh", Some(OsStr::new("/nowhere:/bin:/usr/bin"))));
        assert!(!on_path("sh", Some(OsStr::new("/nowhere"))));
        assert!(!on_path("sh", None));
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let shape = Shape { nodes: 1, base_port: port - 1, ..Shape::default() };
        let error = check_ports(&shape).unwrap_err().to_string();
        assert!(error.contains(&port.to_string()), "{error}");
    }

    #[test]
    fn data_of_three_nodes_is_not_started_as_five() {
        let state = State::new(Shape::default(), PathBuf::new());
        let place = Place::at("kv/x".into());
        let five = Shape { nodes: 5, ..Shape::default() };
        assert!(refuse_other_shape(&place, Some(&state), &five).is_err());
        assert!(refuse_other_shape(&place, Some(&state), &Shape::default()).is_ok());
        assert!(refuse_other_shape(&place, None, &five).is_ok());
    }
}
