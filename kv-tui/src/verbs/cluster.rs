//! `kv cluster status`, `plan`, `zone NODE ZONE`, `commit`, `abort`, `split`, `replace OLD [NEW]`,
//! `transfers`, `history`: the live layouts, and changes of them.

use clap::{Args, Subcommand};
use kv_client::NodeId;
use kv_client::wire::{LayoutProgress, LayoutsView, PastChange};
use serde_json::{Map, Value, json};

use super::Output;
use super::members::{Change, Commit};
use super::split::Split;
use super::transfers::Transfers;
use crate::args::Connect;
use crate::error::Exit;
use crate::{Error, text};

/// A change is decided by ballots, which may have to be held again.
const CHANGE_MS: u32 = 12_000;

/// What it can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Shows the live layouts, and who has not finished the newest, and why.
    Status,
    /// Shows what a change of the members would move. Nothing is changed.
    Plan(Change),
    /// Shows what would move if a member stood in another zone. Nothing is changed.
    Zone(Zone),
    /// Changes the members as planned, and waits while data moves.
    Commit(Commit),
    /// Calls off the change of the members that is under way. Nodes that were to join are members
    /// no more, and come back on an empty directory only.
    Abort,
    /// Doubles the partitions, up to one for each slot, while requests go on; no data moves.
    /// Without an epoch it shows what would be, and nothing is changed.
    Split(Split),
    /// Shows what moves, how far it is and what is left.
    Transfers(Transfers),
    /// Shows the changes of the layout that the asked node took.
    History,
    /// Gives all that OLD holds to NEW, an empty node that was started with seeds in the cluster.
    /// OLD is refused for good from then on, whether it runs or not: what only OLD held is lost.
    /// Without NEW it gives up a node that holds nothing any more and that older layouts wait for.
    Replace(Replace),
}

/// Arguments of `replace`.
#[derive(Debug, Args)]
pub(crate) struct Replace {
    /// The node that is given up, as `kv nodes` names it.
    #[arg(value_name = "OLD")]
    old: NodeId,
    /// The node that takes its places; none where the newest layout gives OLD nothing.
    #[arg(value_name = "NEW")]
    new: Option<NodeId>,
}

/// Arguments of `zone`.
#[derive(Debug, Args)]
pub(crate) struct Zone {
    /// The member, as `kv nodes` names it.
    #[arg(value_name = "NODE")]
    node: NodeId,
    /// Where it stands: a rack, a building, a data centre.
    #[arg(value_name = "ZONE")]
    zone: String,
}

impl Cluster {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let admin = connect.patient_admin(CHANGE_MS).await?;
        match self {
            Self::Status => {
                let layouts = admin.layouts().await?;
                if output.json {
                    output.object(object(&layouts))?;
                } else {
                    print(&layouts, output)?;
                }
            }
            Self::Plan(change) => {
                let plan = admin.plan(change.wire(None)?).await?;
                change.print(&plan, output)?;
            }
            Self::Zone(Zone { node, zone }) => {
                let change = Change::of_zone(*node, zone);
                let plan = admin.plan(change.wire(None)?).await?;
                change.print(&plan, output)?;
            }
            Self::Commit(commit) => commit.run(&admin, output).await?,
            Self::Abort => {
                let epoch = admin.abort_change().await?;
                if output.json {
                    output.object(Map::from_iter([("epoch".to_owned(), epoch.into())]))?;
                } else {
                    output.line(format!("epoch {epoch}: the change is called off"))?;
                    output.line("wait until it is stable: kv cluster status")?;
                }
            }
            Self::Split(split) => split.run(&admin, output).await?,
            Self::Transfers(transfers) => transfers.run(&admin, output).await?,
            Self::History => history(&admin.past_changes().await?, output)?,
            Self::Replace(Replace { old, new: None }) => {
                let epoch = admin.give_up(*old).await?;
                if output.json {
                    let (epoch, old) = (epoch.into(), old.to_string().into());
                    let pairs = [("epoch".to_owned(), epoch), ("old".to_owned(), old)];
                    output.object(Map::from_iter(pairs))?;
                } else {
                    output
                        .line(format!("epoch {epoch}: {old} is given up, nobody waits for it"))?;
                    output.line("wait until it is stable: kv cluster status")?;
                }
            }
            Self::Replace(Replace { old, new: Some(new) }) => {
                let epoch = admin.replace(*old, *new).await?;
                if output.json {
                    let (old, new) = (old.to_string(), new.to_string());
                    output.object(Map::from_iter([
                        ("epoch".to_owned(), epoch.into()),
                        ("old".to_owned(), old.into()),
                        ("new".to_owned(), new.into()),
                    ]))?;
                } else {
                    output.line(format!("epoch {epoch}: {new} is in the places of {old}"))?;
                    output.line("watch it fill with: kv cluster status")?;
                }
            }
        }
        Ok(Exit::Ok)
    }
}

fn print(layouts: &LayoutsView, output: &mut Output<'_>) -> Result<(), Error> {
    let epochs: Vec<String> = layouts.live.iter().map(|name| name.epoch.to_string()).collect();
    let moving = if is_stable(layouts) { "stable" } else { "in transition" };
    output.line(format!("epoch {}, {moving}", epochs.join(" and ")))?;
    let rows: Vec<Vec<String>> = layouts.members.iter().map(row).collect();
    output
        .to
        .write_all(text::table(&["NODE", "KNOWS", "FINISHED", "WAITS FOR"], &rows).as_bytes())?;
    for node in &layouts.removed {
        output.line(format!("removed for good: {node}"))?;
    }
    Ok(())
}

fn row(member: &LayoutProgress) -> Vec<String> {
    let waits = if member.waits_for.is_empty() { "-" } else { &member.waits_for };
    vec![
        member.node.to_string(),
        member.seen.to_string(),
        member.finished.to_string(),
        text::shown(waits.as_bytes(), 80),
    ]
}

/// What changed, the oldest first.
fn history(changes: &[PastChange], output: &mut Output<'_>) -> Result<(), Error> {
    if output.json {
        let changes: Vec<Value> = changes
            .iter()
            .map(|change| {
                json!({
                    "epoch": change.epoch,
                    "unix_ms": change.unix_ms,
                    "what": change.what,
                    "joined": names(&change.joined),
                    "left": names(&change.left),
                    "copies": change.copies,
                })
            })
            .collect();
        output.object(Map::from_iter([("changes".to_owned(), changes.into())]))?;
        return Ok(());
    }
    if changes.is_empty() {
        output.line("nothing has changed since this node is in the cluster")?;
        return Ok(());
    }
    let row = |change: &PastChange| {
        let (joined, left) = (names(&change.joined).join(" "), names(&change.left).join(" "));
        let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        vec![
            change.epoch.to_string(),
            text::moment(change.unix_ms),
            text::shown(change.what.as_bytes(), 20),
            or_none(joined),
            or_none(left),
            change.copies.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = changes.iter().map(row).collect();
    let heads = ["EPOCH", "WHEN", "WHAT", "JOINED", "LEFT", "COPIES"];
    output.to.write_all(text::table(&heads, &rows).as_bytes())?;
    Ok(())
}

fn names(nodes: &[NodeId]) -> Vec<String> {
    nodes.iter().map(NodeId::to_string).collect()
}

fn is_stable(layouts: &LayoutsView) -> bool {
    layouts.live.len() == 1
}

fn object(layouts: &LayoutsView) -> Map<String, Value> {
    let live: Vec<Value> = layouts
        .live
        .iter()
        .map(|name| json!({"epoch": name.epoch, "digest": format!("{:016x}", name.digest)}))
        .collect();
    let members: Vec<Value> = layouts
        .members
        .iter()
        .map(|member| {
            json!({
                "node": member.node.to_string(),
                "seen": member.seen,
                "finished": member.finished,
                "waits_for": member.waits_for,
            })
        })
        .collect();
    let removed: Vec<Value> = layouts.removed.iter().map(|node| node.to_string().into()).collect();
    Map::from_iter([
        ("layouts".to_owned(), live.into()),
        ("stable".to_owned(), is_stable(layouts).into()),
        ("members".to_owned(), members.into()),
        ("removed".to_owned(), removed.into()),
    ])
}

#[cfg(test)]
mod tests {
    use kv_client::wire::LayoutName;

    use super::*;

    fn moving() -> LayoutsView {
        let name = |epoch| LayoutName { epoch, digest: epoch };
        let finished =
            LayoutProgress { node: NodeId(1), seen: 8, finished: 8, ..LayoutProgress::default() };
        let waits_for = "12 partitions to fill".to_owned();
        let two = LayoutProgress { node: NodeId(2), seen: 8, finished: 7, ..Default::default() };
        let waiting = LayoutProgress { waits_for, ..two };
        LayoutsView {
            live: vec![name(7), name(8)],
            members: vec![finished, waiting],
            removed: vec![NodeId(9)],
        }
    }

    #[test]
    fn it_says_whom_a_transition_waits_for() {
        let mut text = Vec::new();
        let mut output = Output { json: false, terminal: false, to: &mut text };
        print(&moving(), &mut output).expect("memory takes it");
        let text = String::from_utf8(text).expect("text");
        assert!(text.starts_with("epoch 7 and 8, in transition\n"), "{text}");
        assert!(text.contains("12 partitions to fill"), "{text}");
        assert!(text.ends_with("removed for good: 0000000000000009\n"), "{text}");
        let object = Value::Object(object(&moving()));
        assert_eq!(object["stable"], false);
        assert_eq!(object["members"][0]["waits_for"], "");
        assert_eq!(object["members"][1]["finished"], 7);
        let past = PastChange {
            epoch: 8,
            unix_ms: 1_783_071_668_000,
            what: "members".into(),
            joined: vec![NodeId(4)],
            ..PastChange::default()
        };
        let mut text = Vec::new();
        let mut output = Output { json: false, terminal: false, to: &mut text };
        history(&[past], &mut output).expect("memory takes it");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("2026-07-03") && text.contains("0000000000000004"), "{text}");
        let still = LayoutsView { live: vec![LayoutName { epoch: 2, digest: 2 }], ..moving() };
        assert!(is_stable(&still));
    }
}
