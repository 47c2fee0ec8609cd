//! `kv node drain`: makes a node ready to be stopped, and takes that back.
//!
//! It is asked of the node itself, and of nobody in its place: with `--node` its address is looked
//! up first. The verb waits until the node is drained, and ended where it is to end; whoever stops
//! the verb does not stop the drain.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use kv_client::wire::{DrainOrder, DrainStage, DrainView};
use kv_client::{Admin, NodeId};
use serde_json::{Map, Value, json};

use super::Output;
use crate::args::Connect;
use crate::error::Exit;
use crate::{Error, text};

/// Rest between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A process that is drained may take so long to close.
const END_WITHIN: Duration = Duration::from_secs(30);

/// What it can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// Makes a node ready to be stopped, and ends its process: others are asked in its stead, its
    /// clients' requests end, hints go to those who are up, its log is flushed. SIGTERM does the
    /// same.
    Drain(Drain),
}

/// Arguments of `drain`.
#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// The node, as `kv nodes` names it. Without it, the one that --connect names.
    #[arg(long = "node", value_name = "ID")]
    node: Option<NodeId>,
    /// Its process does not end: it goes on as a replica, without clients.
    #[arg(long, conflicts_with = "undo")]
    stay: bool,
    /// It takes clients again. A start does the same.
    #[arg(long)]
    undo: bool,
}

impl Node {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let Self::Drain(drain) = self;
        drain.run(connect, output).await
    }
}

impl Drain {
    async fn run(&self, connect: &Connect, output: &mut Output<'_>) -> Result<Exit, Error> {
        let admin = self.node_itself(connect).await?;
        let order = match (self.undo, self.stay) {
            (true, _) => DrainOrder::Undo,
            (false, true) => DrainOrder::Stay,
            (false, false) => DrainOrder::End,
        };
        let mut view = admin.drain(order).await?;
        if let Some(asked) = self.node.filter(|asked| *asked != view.node) {
            let found = view.node;
            return Err(Error::Input(format!("at the address of {asked} {found} answered")));
        }
        if self.undo {
            return told(&view, false, output);
        }
        while view.stage < DrainStage::Drained {
            tokio::time::sleep(LOOK_EVERY).await;
            view = match admin.drain(DrainOrder::Look).await {
                Ok(now) if now.stage == DrainStage::Off => {
                    let what = "the drain was taken back, or the node was started again";
                    return Err(Error::Input(what.into()));
                }
                Ok(now) => now,
                Err(error) if order != DrainOrder::End => return Err(error.into()),
                // It was drained between two looks, and has ended.
                Err(_) => {
                    let (stage, requests) = (DrainStage::Drained, 0);
                    return told(&DrainView { stage, requests, clients: 0, ..view }, true, output);
                }
            };
        }
        let ended = order == DrainOrder::End && has_ended(&admin).await;
        told(&view, ended, output)
    }

    /// The way to the node that is meant, and to no other.
    async fn node_itself(&self, connect: &Connect) -> Result<Admin, Error> {
        let Some(node) = self.node else {
            return match &*connect.addresses {
                [_] => connect.admin().await,
                _ => Err(Error::Input("--connect names several: say which, --node ID".into())),
            };
        };
        let nodes = connect.admin().await?.nodes().await?;
        let of = nodes.iter().find(|info| info.node == node);
        let of = of.ok_or_else(|| Error::Input(format!("{node} is not known; see kv nodes")))?;
        connect.only(&of.endpoints.rpc).admin().await
    }
}

/// Whether the process of a drained node has ended, or another runs in its place.
async fn has_ended(admin: &Admin) -> bool {
    let began = Instant::now();
    while began.elapsed() < END_WITHIN {
        match admin.drain(DrainOrder::Look).await {
            Ok(view) if view.stage == DrainStage::Drained => tokio::time::sleep(LOOK_EVERY).await,
            _ => return true,
        }
    }
    false
}

fn word(stage: DrainStage) -> &'static str {
    match stage {
        DrainStage::Off => "off",
        DrainStage::Telling => "telling",
        DrainStage::Closing => "closing",
        DrainStage::Drained => "drained",
        _ => "unknown",
    }
}

fn told(view: &DrainView, ended: bool, output: &mut Output<'_>) -> Result<Exit, Error> {
    if output.json {
        output.object(object(view, ended))?;
        return Ok(Exit::Ok);
    }
    let node = view.node;
    if view.stage == DrainStage::Off {
        output.line(format!("{node} takes clients"))?;
        return Ok(Exit::Ok);
    }
    let left = view.clients + view.requests + view.hints;
    if left > 0 {
        let DrainView { clients, requests, hints, ms_max, .. } = view;
        let waited = text::duration(*ms_max);
        output.line(format!(
            "waited {waited} at most: {clients} clients were still connected, {requests} \
             operations under way, hints about {hints} keys not handed over"
        ))?;
    }
    if view.hints + view.hints_kept > 0 {
        let keys = view.hints + view.hints_kept;
        output
            .line(format!("hints about {keys} keys stay on its disk until it is started again"))?;
    }
    output.line(match (ended, view.ends) {
        (true, _) => format!("{node} is drained, and has ended"),
        (false, true) => format!("{node} is drained, and ends"),
        (false, false) => format!("{node} is drained, and may be stopped"),
    })?;
    if !view.ends {
        output.line("to take that back: kv node drain --undo")?;
    }
    Ok(Exit::Ok)
}

fn object(view: &DrainView, ended: bool) -> Map<String, Value> {
    Map::from_iter([
        ("node".to_owned(), view.node.to_string().into()),
        ("stage".to_owned(), word(view.stage).into()),
        ("ends".to_owned(), view.ends.into()),
        ("ended".to_owned(), ended.into()),
        ("clients".to_owned(), view.clients.into()),
        ("requests".to_owned(), json!(view.requests)),
        ("hints".to_owned(), view.hints.into()),
        ("hints_kept".to_owned(), view.hints_kept.into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(view: &DrainView, ended: bool) -> String {
        let mut text = Vec::new();
        let mut output = Output { json: false, terminal: false, to: &mut text };
        told(view, ended, &mut output).expect("memory takes it");
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn what_is_left_is_said() {
        let node = NodeId(7);
        let drained = DrainView { node, stage: DrainStage::Drained, ..DrainView::default() };
        let text = said(&drained, false);
        assert!(text.starts_with("0000000000000007 is drained, and may be stopped\n"), "{text}");
        assert!(text.ends_with("kv node drain --undo\n"), "{text}");
        let ends = DrainView { ends: true, clients: 2, hints_kept: 5, ms_max: 10_000, ..drained };
        let text = said(&ends, true);
        assert!(text.contains("2 clients were still connected"), "{text}");
        assert!(text.contains("about 5 keys stay"), "{text}");
        assert!(text.ends_with("is drained, and has ended\n"), "{text}");
        let off = DrainView { stage: DrainStage::Off, ..drained };
        assert_eq!(said(&off, false), "0000000000000007 takes clients\n");
        let object = Value::Object(object(&ends, true));
        assert_eq!((&object["stage"], &object["ended"]), (&json!("drained"), &json!(true)));
    }
}
