//! `kv cluster plan` and `commit`: nodes join, leave, and bring more or less.
//!
//! A plan changes nothing and ends with the line that commits it, which names the epoch that the
//! plan was made after: where somebody else changed something meanwhile, nothing is done. A change
//! that takes several steps is one command, which waits for each; whoever stops it goes on with a
//! new plan.

use clap::Args;
use kv_client::wire::{Bounded, CHANGE_NODES_MAX, MembersChange, MembersPlan, NodeShare};
use kv_client::{Admin, NodeId};
use serde_json::{Map, Value, json};

use super::Output;
use super::transfers::until_stable;
use crate::{Error, text};

/// What is to change.
#[derive(Debug, Args)]
pub(crate) struct Change {
    /// An empty node that was started with seeds in the cluster becomes a member.
    #[arg(long = "join", value_name = "NODE")]
    joins: Vec<NodeId>,
    /// A member hands over all that it holds, and is none afterwards.
    #[arg(long = "leave", value_name = "NODE")]
    leaves: Vec<NodeId>,
    /// A member brings so much, as against the others; 0 drains it.
    #[arg(long = "weight", value_name = "NODE=WEIGHT", value_parser = weight)]
    weights: Vec<(NodeId, u32)>,
}

/// Arguments of `commit`.
#[derive(Debug, Args)]
pub(crate) struct Commit {
    #[command(flatten)]
    change: Change,
    /// The epoch that the plan was made after, as `plan` says.
    #[arg(long, value_name = "EPOCH")]
    epoch: u64,
    /// Do not wait for the data to move: only the first step is made.
    #[arg(long)]
    detach: bool,
}

fn weight(text: &str) -> Result<(NodeId, u32), String> {
    let (node, weight) = text.split_once('=').ok_or("NODE=WEIGHT is asked for")?;
    let node = node.parse().map_err(|_| format!("{node} is not a node's id"))?;
    let weight = weight.parse().map_err(|_| format!("{weight} is not a weight"))?;
    Ok((node, weight))
}

impl Change {
    pub(crate) fn wire(&self, after: Option<u64>) -> Result<MembersChange, Error> {
        if self.joins.is_empty() && self.leaves.is_empty() && self.weights.is_empty() {
            return Err(Error::Input("say what is to change: --join, --leave or --weight".into()));
        }
        let many = || Error::Input(format!("at most {CHANGE_NODES_MAX} nodes of a kind at once"));
        Ok(MembersChange {
            joins: Bounded::new(self.joins.clone()).map_err(|_| many())?,
            leaves: Bounded::new(self.leaves.clone()).map_err(|_| many())?,
            weights: Bounded::new(self.weights.clone()).map_err(|_| many())?,
            after,
        })
    }

    /// The arguments that say the same.
    fn arguments(&self) -> String {
        let joins = self.joins.iter().map(|node| format!(" --join {node}"));
        let leaves = self.leaves.iter().map(|node| format!(" --leave {node}"));
        let weights =
            self.weights.iter().map(|(node, weight)| format!(" --weight {node}={weight}"));
        joins.chain(leaves).chain(weights).collect()
    }

    pub(crate) fn print(&self, plan: &MembersPlan, output: &mut Output<'_>) -> Result<(), Error> {
        if output.json {
            output.object(object(plan))?;
            return Ok(());
        }
        let rows: Vec<Vec<String>> = plan.nodes.iter().map(row).collect();
        output.to.write_all(
            text::table(&["NODE", "WEIGHT", "HOLDS", "WOULD HOLD", "TO FILL"], &rows).as_bytes(),
        )?;
        let bytes = text::size(plan.bytes_about);
        output.line(format!(
            "{} copies of partitions to make, about {bytes}; {} first places change",
            plan.moves, plan.firsts_changed
        ))?;
        match plan.steps.as_slice() {
            [] => output.line("it is so already: there is nothing to do")?,
            [_] => output.line("in one step; every quorum is kept meanwhile")?,
            steps => {
                let copies: Vec<String> = steps.iter().map(u32::to_string).collect();
                let (count, copies) = (steps.len(), copies.join(", "));
                output
                    .line(format!("in {count} steps of {copies} copies, to keep every quorum"))?;
            }
        }
        output.line(format!(
            "nothing has changed; to do it: kv cluster commit{} --epoch {}",
            self.arguments(),
            plan.epoch
        ))?;
        Ok(())
    }
}

impl Commit {
    pub(crate) async fn run(&self, admin: &Admin, output: &mut Output<'_>) -> Result<(), Error> {
        let mut epoch = self.epoch;
        for step in 1.. {
            let plan = admin.plan(self.change.wire(None)?).await?;
            let decided = admin.change_members(self.change.wire(Some(epoch))?).await?;
            let left = plan.steps.len().saturating_sub(1);
            if !output.json {
                let how = if plan.steps.is_empty() { "it is so" } else { "it is decided" };
                output.line(format!("epoch {decided}: {how}; {left} steps to follow"))?;
            }
            if self.detach {
                self.detached(decided, left, output)?;
                return Ok(());
            }
            until_stable(admin, output).await?;
            if left == 0 {
                return self.done(decided, step, output);
            }
            epoch = decided;
        }
        Ok(())
    }

    fn detached(&self, epoch: u64, left: usize, output: &mut Output<'_>) -> Result<(), Error> {
        if output.json {
            output.object(Map::from_iter([
                ("epoch".to_owned(), epoch.into()),
                ("stable".to_owned(), false.into()),
                ("steps_left".to_owned(), left.into()),
            ]))?;
            return Ok(());
        }
        output.line("data moves; watch it with: kv cluster transfers --watch")?;
        if left > 0 {
            let change = self.change.arguments();
            output.line(format!("then go on with: kv cluster commit{change} --epoch {epoch}"))?;
        }
        Ok(())
    }

    fn done(&self, epoch: u64, steps: u64, output: &mut Output<'_>) -> Result<(), Error> {
        if output.json {
            output.object(Map::from_iter([
                ("epoch".to_owned(), epoch.into()),
                ("stable".to_owned(), true.into()),
                ("steps".to_owned(), steps.into()),
                ("steps_left".to_owned(), 0.into()),
            ]))?;
            return Ok(());
        }
        output.line(format!("epoch {epoch} is stable"))?;
        for node in &self.change.leaves {
            output.line(format!("{node} is a member no more, and may be stopped"))?;
        }
        Ok(())
    }
}

fn row(share: &NodeShare) -> Vec<String> {
    vec![
        share.node.to_string(),
        share.weight.map_or_else(|| "leaves".to_owned(), |weight| weight.to_string()),
        share.before.to_string(),
        share.after.to_string(),
        share.gains.to_string(),
    ]
}

fn object(plan: &MembersPlan) -> Map<String, Value> {
    let nodes: Vec<Value> = plan
        .nodes
        .iter()
        .map(|share| {
            json!({
                "node": share.node.to_string(),
                "weight": share.weight,
                "before": share.before,
                "after": share.after,
                "gains": share.gains,
            })
        })
        .collect();
    Map::from_iter([
        ("epoch".to_owned(), plan.epoch.into()),
        ("moves".to_owned(), plan.moves.into()),
        ("steps".to_owned(), plan.steps.clone().into()),
        ("firsts_changed".to_owned(), plan.firsts_changed.into()),
        ("bytes_about".to_owned(), plan.bytes_about.into()),
        ("nodes".to_owned(), nodes.into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_ends_with_the_line_that_commits_it() {
        let change = Change {
            joins: vec![NodeId(4)],
            leaves: vec![NodeId(2)],
            weights: vec![weight("0000000000000001=3").expect("a weight")],
        };
        let share = NodeShare { node: NodeId(2), before: 64, ..NodeShare::default() };
        let plan =
            MembersPlan { epoch: 7, moves: 64, nodes: vec![share], ..MembersPlan::default() };
        let plan = MembersPlan { steps: vec![40, 24], ..plan };
        let mut text = Vec::new();
        let mut output = Output { json: false, terminal: false, to: &mut text };
        change.print(&plan, &mut output).expect("memory takes it");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("leaves") && text.contains("2 steps of 40, 24 copies"), "{text}");
        let line = "kv cluster commit --join 0000000000000004 --leave 0000000000000002 --weight \
                    0000000000000001=3 --epoch 7\n";
        assert!(text.ends_with(line), "{text}");
        assert_eq!(Value::Object(object(&plan))["nodes"][0]["weight"], Value::Null);
        let nothing = Change { joins: vec![], leaves: vec![], weights: vec![] };
        assert!(matches!(nothing.wire(None), Err(Error::Input(_))));
        assert!(weight("1").is_err() && weight("1=x").is_err() && weight("x=1").is_err());
    }
}
