//! `status`: what each node says of itself, as a table or as JSON, and an exit code.

use serde_json::{Value, json};

use super::faults;
use super::place::{Place, Ports};
use super::probe::Health;
use super::state::State;
use crate::error::{Error, Result};
use crate::process::{Identity, Life};
use crate::term;

/// One node as it is now.
struct Row {
    node: u16,
    ports: Ports,
    pid: Option<u32>,
    word: &'static str,
    members_up: Option<u64>,
}

/// There is no cluster of that name.
pub(super) fn absent(place: &Place, name: &str) -> Error {
    let up = format!("cargo xtask cluster up{}", place.option());
    Error::Unreachable(format!("there is no cluster `{name}`; make one with `{up}`"))
}

/// Prints the state; 0 when all serve, 3 when some do, 5 when none does or there is no cluster.
pub(super) fn run(place: &Place, name: &str, as_json: bool) -> Result<()> {
    let Some(state) = State::load(place)? else { return Err(absent(place, name)) };
    let expected = state.shape.nodes;
    let rows: Vec<Row> = state
        .nodes()
        .map(|(node, ports, process)| Row::ask(node, ports, process, expected))
        .collect();
    let links = if state.shape.faults && state.alive() > 0 {
        faults::load(place)?.lines()
    } else {
        Vec::new()
    };
    if as_json {
        term::out(render_json(name, &rows, &links));
    } else {
        print_table(&rows, expected);
        links.iter().for_each(term::out);
    }
    let serving = rows.iter().filter(|row| row.word == "up").count();
    let answering = rows.iter().filter(|row| row.members_up.is_some()).count();
    if serving == rows.len() {
        Ok(())
    } else if answering > 0 {
        Err(Error::Degraded(format!("{serving} of {expected} nodes are up and see all others")))
    } else {
        Err(Error::Unreachable(format!(
            "no node of `{name}` answers; start it with `cargo xtask cluster up{}`",
            place.option()
        )))
    }
}

impl Row {
    fn ask(node: u16, ports: Ports, process: Option<Identity>, expected: u16) -> Self {
        let life = process.map_or(Life::Gone, Identity::life);
        let (word, members_up) = match life {
            Life::Gone => ("down", None),
            Life::Paused => ("paused", None),
            Life::Running => {
                let health = Health::ask(ports);
                let word = match health.lack(expected) {
                    None => "up",
                    Some(_) if health.ready => "degraded",
                    Some(_) => "starting",
                };
                (word, health.members_up)
            }
        };
        let pid = process.filter(|_| life != Life::Gone).map(|process| process.pid);
        Self { node, ports, pid, word, members_up }
    }
}

fn print_table(rows: &[Row], expected: u16) {
    let line = "node  state     sees  redis  rpc    http   pid";
    term::out(line);
    for Row { node, ports, pid, word, members_up } in rows {
        let sees = members_up.map_or_else(|| "-".into(), |up| format!("{up}/{expected}"));
        let pid = pid.map_or_else(|| "-".into(), |pid| pid.to_string());
        let Ports { resp, rpc, http, .. } = ports;
        let name = format!("n{node}");
        let line = format!("{name:<5} {word:<9} {sees:<5} {resp:<6} {rpc:<6} {http:<6} {pid}");
        term::out(line);
    }
}

fn render_json(name: &str, rows: &[Row], links: &[String]) -> Value {
    let nodes: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "node": row.node, "state": row.word, "pid": row.pid,
                "resp": row.ports.resp, "rpc": row.ports.rpc, "http": row.ports.http,
                "members_up": row.members_up,
            })
        })
        .collect();
    json!({ "name": name, "nodes": nodes, "faults": links })
}
