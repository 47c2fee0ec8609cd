//! `kv hints`: what nodes keep for others that are down, and where its delivery stands.

use clap::Args;
use kv_client::wire::{HintQueue, HintState, HintsView};
use serde_json::{Map, Value, json};

use super::Output;
use crate::args::Connect;
use crate::error::Exit;
use crate::{Error, text};

/// It has no arguments of its own.
#[derive(Debug, Args)]
pub(crate) struct Hints {}

const HEAD: [&str; 6] = ["ON", "FOR", "HINTS", "OLDEST", "SIZE", "STATE"];

impl Hints {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let view = connect.admin().await?.hints().await?;
        if output.json {
            output.object(object(&view))?;
        } else {
            print(&view, output)?;
        }
        Ok(Exit::Ok)
    }
}

/// The table, with what it does not show in words.
pub(crate) fn print(view: &HintsView, output: &mut Output<'_>) -> Result<(), Error> {
    let limit = text::size(view.hint_bytes_max);
    let waiting: u64 = view.queues.iter().map(|queue| queue.keys).sum();
    if view.queues.is_empty() {
        output.line(format!("no hints, at most {limit} on a node"))?;
    } else {
        output.line(format!("{waiting} hints, at most {limit} on a node"))?;
        let rows: Vec<Vec<String>> = view.queues.iter().map(row).collect();
        output.to.write_all(text::table(&HEAD, &rows).as_bytes())?;
    }
    for node in &view.silent {
        output.line(format!("{node} did not say what it holds"))?;
    }
    Ok(())
}

fn row(queue: &HintQueue) -> Vec<String> {
    vec![
        queue.on.to_string(),
        queue.target.to_string(),
        queue.keys.to_string(),
        text::duration(queue.age_ms),
        text::size(queue.bytes),
        match queue.state {
            HintState::Waiting => format!("waiting for {}", queue.target),
            state => state_word(state).to_owned(),
        },
    ]
}

fn state_word(state: HintState) -> &'static str {
    match state {
        HintState::Waiting => "waiting",
        HintState::Replaying => "replaying",
        HintState::BackedOff => "backed off",
        _ => "unknown",
    }
}

pub(crate) fn object(view: &HintsView) -> Map<String, Value> {
    let queue = |queue: &HintQueue| {
        json!({
            "on": queue.on.to_string(),
            "for": queue.target.to_string(),
            "keys": queue.keys,
            "bytes": queue.bytes,
            "age_ms": queue.age_ms,
            "state": state_word(queue.state),
        })
    };
    let hints: Vec<Value> = view.queues.iter().map(queue).collect();
    let silent: Vec<String> = view.silent.iter().map(ToString::to_string).collect();
    let mut object = Map::new();
    object.insert("hints".into(), hints.into());
    object.insert("hint_bytes_max".into(), view.hint_bytes_max.into());
    object.insert("silent".into(), silent.into());
    object
}

#[cfg(test)]
mod tests {
    use kv_client::NodeId;

    use super::*;

    fn view() -> HintsView {
        let queue = |on, state| HintQueue {
            on: NodeId(on),
            target: NodeId(3),
            keys: 104,
            bytes: 31 << 10,
            age_ms: 13_000,
            state,
        };
        HintsView {
            queues: vec![queue(1, HintState::Waiting), queue(4, HintState::Replaying)],
            hint_bytes_max: 512 << 20,
            silent: vec![NodeId(3)],
        }
    }

    #[test]
    fn a_queue_is_a_row_and_who_is_silent_is_said() {
        let mut printed = Vec::new();
        let mut output = Output { json: false, terminal: false, to: &mut printed };
        print(&view(), &mut output).expect("a buffer");
        let text = String::from_utf8(printed).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "208 hints, at most 512.0 MiB on a node");
        assert!(lines[1].starts_with("ON ") && lines[1].contains("OLDEST"), "{text}");
        assert!(lines[2].ends_with("104    13s     31.0 KiB  waiting for 0000000000000003"));
        assert!(lines[3].ends_with("replaying") && lines[4].contains("did not say"), "{text}");
    }

    #[test]
    fn the_object_has_every_queue() {
        let object = object(&view());
        assert_eq!(object["hints"][0]["keys"], 104);
        assert_eq!(object["hints"][1]["state"], "replaying");
        assert_eq!(object["silent"][0], "0000000000000003");
    }
}
