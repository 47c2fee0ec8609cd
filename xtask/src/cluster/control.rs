//! `kill`, `start`, `restart`, `pause`, `resume`, `down`: what is done to nodes that run.

use std::fs;
use std::time::{Duration, Instant};

use super::STOP_LIMIT;
use super::place::{Place, Ports};
use super::probe::Health;
use super::state::State;
use super::up::{self, READY_LIMIT};
use crate::error::{Error, Result};
use crate::process::{Identity, Life, Signal};
use crate::term::{self, Step};

/// Ends one node: asks it, or with `hard` takes it down as a crash would.
pub(super) fn kill(place: &Place, node: u16, hard: bool) -> Result<()> {
    let process = running(place, node)?;
    if hard {
        process.signal(Signal::KILL);
    } else {
        process.signal(Signal::TERM);
        process.signal(Signal::CONT);
    }
    if !process.wait_gone(STOP_LIMIT) {
        return Err(Error::Failed(format!(
            "n{node} is still there after {}; `cargo xtask cluster kill {node} -9{}` ends it",
            term::human(STOP_LIMIT),
            place.option()
        )));
    }
    let how = if hard { "killed" } else { "stopped" };
    let option = place.option();
    term::out(format_args!(
        "n{node} {how}; `cargo xtask cluster start {node}{option}` brings it back"
    ));
    Ok(())
}

/// Starts a node again on what it left, and waits until it is ready.
pub(super) fn start(place: &Place, node: u16) -> Result<()> {
    let mut state = state(place)?;
    if state.process(node)?.is_some_and(|process| process.life() != Life::Gone) {
        term::out(format_args!("n{node} is already running"));
        return Ok(());
    }
    let process = up::start_node(place, &state, node)?;
    state.set_process(node, Some(process));
    state.save(place)?;
    let step = Step::begin(format!("waiting for n{node}"));
    let began = Instant::now();
    while !Health::ask(Ports::of(state.shape.base_port, node)).ready {
        up::still_there(place, node, Some(process))?;
        if began.elapsed() > READY_LIMIT {
            return Err(Error::Degraded(format!(
                "n{node} is not ready after {}; see `cargo xtask cluster logs {node}{}`",
                term::human(READY_LIMIT),
                place.option()
            )));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = step.done();
    term::out(format_args!("n{node} is ready after {}", term::human(took)));
    Ok(())
}

/// Ends nodes as asked and starts them again, one after the other. Each is drained when it is asked
/// to end, and the next is asked when the cluster is whole again: clients that dial anew and ask
/// once more see no error.
pub(super) fn restart(place: &Place, only: Option<u16>) -> Result<()> {
    if let Some(node) = only {
        kill(place, node, false)?;
        return start(place, node);
    }
    for node in 1..=state(place)?.shape.nodes {
        until_whole(place)?;
        kill(place, node, false)?;
        start(place, node)?;
    }
    until_whole(place)
}

/// Waits until every node serves, sees all others and keeps nothing for them.
fn until_whole(place: &Place) -> Result<()> {
    let state = state(place)?;
    let expected = state.shape.nodes;
    let step = Step::begin("waiting until all see each other");
    let began = Instant::now();
    let whole = |(_, ports, _)| Health::ask(ports).is_whole(expected);
    while !state.nodes().all(whole) {
        if began.elapsed() > READY_LIMIT {
            return Err(Error::Degraded(format!(
                "the nodes do not all see each other after {}; see `cargo xtask cluster status{}`",
                term::human(READY_LIMIT),
                place.option()
            )));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    step.done();
    Ok(())
}

/// Stops a node's time without its knowing, for so long or until it is resumed.
pub(super) fn pause(place: &Place, node: u16, lasts: Option<Duration>) -> Result<()> {
    let process = running(place, node)?;
    process.signal(Signal::STOP);
    if let Some(lasts) = lasts {
        let step = Step::begin(format!("n{node} is paused for {}", term::human(lasts)));
        std::thread::sleep(lasts);
        process.signal(Signal::CONT);
        step.done();
        term::out(format_args!("n{node} goes on"));
        return Ok(());
    }
    let option = place.option();
    term::out(format_args!("n{node} paused; `cargo xtask cluster resume {node}{option}` wakes it"));
    Ok(())
}

/// Lets a paused node go on.
pub(super) fn resume(place: &Place, node: u16) -> Result<()> {
    running(place, node)?.signal(Signal::CONT);
    term::out(format_args!("n{node} goes on"));
    Ok(())
}

/// Ends every node; with `purge` nothing of the cluster stays.
pub(super) fn down(place: &Place, name: &str, purge: bool) -> Result<()> {
    let state = match State::load(place) {
        Ok(state) => state,
        // Purging is the way out of a damaged state file; its nodes can't be named by it anyway.
        Err(error) if purge => {
            term::warn(error);
            None
        }
        Err(error) => return Err(error),
    };
    if let Some(mut state) = state {
        end_all(&state);
        state.processes.fill(None);
        if let Some(proxy) = state.proxy.take() {
            proxy.stop(STOP_LIMIT);
        }
        state.save(place)?;
        term::out(format_args!("cluster `{name}` is down"));
    } else {
        term::out(format_args!("no cluster `{name}` was running"));
    }
    if purge && place.dir().exists() {
        fs::remove_dir_all(place.dir()).map_err(Error::io(place.dir()))?;
        term::out("its data is removed");
    }
    Ok(())
}

/// Asks all at once, so that the slowest node alone decides how long it takes.
fn end_all(state: &State) {
    for process in state.processes.iter().flatten() {
        process.signal(Signal::TERM);
        process.signal(Signal::CONT);
    }
    for (node, _, process) in state.nodes() {
        if !process.is_none_or(|process| process.stop(STOP_LIMIT)) {
            term::warn(format_args!("n{node} did not end when asked and was killed"));
        }
    }
}

fn running(place: &Place, node: u16) -> Result<Identity> {
    let process = state(place)?.process(node)?;
    process.filter(|process| process.life() != Life::Gone).ok_or_else(|| {
        Error::Failed(format!(
            "n{node} is not running; `cargo xtask cluster start {node}{}` starts it",
            place.option()
        ))
    })
}

fn state(place: &Place) -> Result<State> {
    State::load(place)?.ok_or_else(|| {
        let option = place.option();
        let text = format!("there is no such cluster; `cargo xtask cluster up{option}` makes one");
        Error::Unreachable(text)
    })
}
