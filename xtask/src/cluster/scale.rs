//! `scale N`: nodes are started and join, or leave and are stopped, while the cluster serves.
//!
//! The plan is shown and then committed by `kv`, as an operator would; who leaves are the nodes
//! with the highest numbers. A node that left is a member no more, so its data goes with it.

use std::cmp::Ordering;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::place::{Place, Ports};
use super::state::State;
use super::up::{self, READY_LIMIT};
use super::{STOP_LIMIT, Shape, config};
use crate::cmd;
use crate::error::{Error, Result};
use crate::process::Life;
use crate::term::{self, Step};

const ASK_EVERY: Duration = Duration::from_millis(100);
/// Fewer nodes than this hold fewer copies than clusters have from then on.
const COPIES: u16 = 3;

/// Makes it a cluster of so many nodes. Waits until the data has moved, unless `detach`.
pub(super) fn run(place: &Place, name: &str, nodes: u16, detach: bool) -> Result<()> {
    let state = State::load(place)?.ok_or_else(|| super::status::absent(place, name))?;
    let has = state.shape.nodes;
    if state.alive() < usize::from(has) {
        let option = place.option();
        return Err(Error::Degraded(format!(
            "only {} of {has} nodes run; `cargo xtask cluster status{option}` says which",
            state.alive()
        )));
    }
    if has < COPIES || nodes < COPIES {
        return Err(Error::Usage(format!(
            "a cluster is scaled from {COPIES} nodes on; this one has {has}"
        )));
    }
    let kv = cmd::built("kv-tui", "kv", &["--release"])?;
    let asked = Asked { kv, rpc: Ports::of(state.shape.base_port, 1).rpc, place };
    match nodes.cmp(&has) {
        Ordering::Greater => grow(&asked, name, state, nodes, detach),
        Ordering::Less if detach => {
            Err(Error::Usage("nodes that leave are waited for: without --detach".into()))
        }
        Ordering::Less => shrink(&asked, state, nodes),
        Ordering::Equal => {
            term::out(format_args!("it has {nodes} nodes already"));
            Ok(())
        }
    }
}

fn grow(asked: &Asked<'_>, name: &str, mut state: State, nodes: u16, detach: bool) -> Result<()> {
    let (place, has) = (asked.place, state.shape.nodes);
    let shape = Shape { nodes, ..state.shape.clone() };
    up::check_ports_of(&shape, has + 1..=nodes)?;
    config::write_all(place, name, &shape)?;
    state.shape = shape;
    for node in has + 1..=nodes {
        let process = up::start_node(place, &state, node)?;
        state.processes.push(Some(process));
        state.save(place)?;
    }
    let step = Step::begin(format!("waiting for {} new nodes", nodes - has));
    let began = Instant::now();
    let ids = loop {
        for (node, _, process) in state.nodes() {
            up::still_there(place, node, process)?;
        }
        let known = asked.ids()?;
        let of = |node| known.iter().find(|(rpc, _)| *rpc == state.shape.told_rpc(node));
        let new: Option<Vec<String>> =
            (has + 1..=nodes).map(|node| Some(of(node)?.1.clone())).collect();
        if let Some(new) = new {
            break new;
        }
        if began.elapsed() > READY_LIMIT {
            return Err(Error::Degraded("the new nodes are not heard of".into()));
        }
        std::thread::sleep(ASK_EVERY);
    };
    step.done();
    asked.change("--join", &ids, detach)?;
    if !detach {
        term::out(format_args!("{nodes} nodes serve"));
    }
    Ok(())
}

fn shrink(asked: &Asked<'_>, mut state: State, nodes: u16) -> Result<()> {
    let place = asked.place;
    let known = asked.ids()?;
    let of = |node| known.iter().find(|(rpc, _)| *rpc == state.shape.told_rpc(node));
    let ids: Option<Vec<String>> =
        (nodes + 1..=state.shape.nodes).map(|node| Some(of(node)?.1.clone())).collect();
    let ids = ids.ok_or_else(|| Error::Degraded("not all nodes are known to node 1".into()))?;
    asked.change("--leave", &ids, false)?;
    // Their directories go: that the change went well is not enough to have been told.
    let still = members_among(&cmd::read(asked.kv().args(["--json", "cluster", "status"]))?, &ids)?;
    if !still.is_empty() {
        let still = still.join(", ");
        return Err(Error::Degraded(format!("not ended, since it is a member still: {still}")));
    }
    for node in nodes + 1..=state.shape.nodes {
        let process = state.process(node)?.filter(|process| process.life() != Life::Gone);
        if !process.is_none_or(|process| process.stop(STOP_LIMIT)) {
            term::warn(format_args!("n{node} did not end when asked and was killed"));
        }
        let dir = place.node_dir(node);
        fs::remove_dir_all(&dir).map_err(Error::io(&dir))?;
    }
    state.processes.truncate(usize::from(nodes));
    state.shape.nodes = nodes;
    state.save(place)?;
    term::out(format_args!("{nodes} nodes serve; the others are stopped, and their data is gone"));
    Ok(())
}

/// Node 1 as `kv` asks it.
struct Asked<'a> {
    kv: PathBuf,
    rpc: u16,
    place: &'a Place,
}

impl Asked<'_> {
    fn kv(&self) -> Command {
        let mut command = Command::new(&self.kv);
        command.args(["--connect", &format!("127.0.0.1:{}", self.rpc)]);
        command.arg("--secret-file").arg(self.place.secret_file());
        command
    }

    /// The rpc port and the id of every node that node 1 knows and that is up.
    fn ids(&self) -> Result<Vec<(u16, String)>> {
        let told = cmd::read(self.kv().args(["--json", "nodes"]))?;
        Ok(up_nodes(&told))
    }

    /// Shows the plan and commits it.
    fn change(&self, how: &str, ids: &[String], detach: bool) -> Result<()> {
        let change: Vec<&str> = ids.iter().flat_map(|id| [how, id]).collect();
        let planned = cmd::read(self.kv().args(["--json", "cluster", "plan"]).args(&change))?;
        let planned: Option<Value> = serde_json::from_str(&planned).ok();
        let epoch = planned.as_ref().and_then(|plan| plan.get("epoch")?.as_u64());
        let epoch = epoch.ok_or_else(|| Error::Failed("the plan names no epoch".into()))?;
        cmd::run(self.kv().args(["cluster", "plan"]).args(&change))?;
        let mut commit = self.kv();
        commit.args(["cluster", "commit"]).args(&change).args(["--epoch", &epoch.to_string()]);
        if detach {
            commit.arg("--detach");
        }
        cmd::run(&mut commit)
    }
}

/// Those of the ids that a live layout names, as `kv cluster status` tells.
fn members_among(told: &str, ids: &[String]) -> Result<Vec<String>> {
    let told: Option<Value> = serde_json::from_str(told).ok();
    let members = told.as_ref().and_then(|told| told.get("members")?.as_array());
    let members = members.filter(|members| !members.is_empty());
    let members = members.ok_or_else(|| Error::Failed("the members are not told".into()))?;
    let named = |id: &&String| {
        members.iter().any(|member| member.get("node").and_then(Value::as_str) == Some(id.as_str()))
    };
    Ok(ids.iter().filter(named).cloned().collect())
}

fn up_nodes(told: &str) -> Vec<(u16, String)> {
    let told: Value = serde_json::from_str(told).unwrap_or_default();
    let nodes = told.get("nodes").and_then(Value::as_array);
    let node = |node: &Value| {
        let rpc = node.get("rpc")?.as_str()?.rsplit_once(':')?.1.parse().ok()?;
        let is_up = node.get("state")?.as_str()? == "up";
        is_up.then_some((rpc, node.get("node")?.as_str()?.to_owned()))
    };
    nodes.into_iter().flatten().filter_map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_named_by_a_live_layout_is_not_ended() {
        let told = r#"{"members": [{"node": "000a"}, {"node": "000b"}], "stable": true}"#;
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let among = |told: &str, of: &[&str]| members_among(told, &ids(of)).ok();
        assert_eq!(among(told, &["000b", "000c"]), Some(ids(&["000b"])));
        assert_eq!(among(told, &["000c"]), Some(ids(&[])));
        assert_eq!(among("{}", &["000c"]), None, "who can't tell does not say that none are");
        assert_eq!(among(r#"{"members": []}"#, &["000c"]), None);
    }

    #[test]
    fn nodes_are_known_by_their_ports_when_they_are_up() {
        let told = r#"{"nodes": [
            {"node": "000a", "state": "up", "rpc": "127.0.0.1:7101"},
            {"node": "000b", "state": "down", "rpc": "127.0.0.1:7102"},
            {"node": "000c", "state": "up", "rpc": ""}]}"#;
        assert_eq!(up_nodes(told), [(7101, "000a".to_owned())]);
        assert!(up_nodes("nothing").is_empty());
    }
}
