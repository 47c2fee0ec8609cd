//! `kv cluster plan` and `commit`: nodes join, leave, bring more or less, and stand in other zones.
//!
//! A plan changes nothing and ends with the line that commits it, which names the epoch that the
//! plan was made after: where somebody else changed something meanwhile, nothing is done. A change
//! that takes several steps is one command, which waits for each; whoever stops it goes on with a
//! new plan.

use clap::Args;
use kv_client::wire::{
    Bounded, CHANGE_NODES_MAX, MembersChange, MembersPlan, NodeShare, ZoneShare,
};
use kv_client::{Admin, NodeId};
use serde_json::{Map, Value, json};

use super::Output;
use super::transfers::{members_among, until_stable};
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
    /// A member stands in this zone from then on: copies go to different zones.
    #[arg(long = "zone", value_name = "NODE=ZONE", value_parser = zone)]
    zones: Vec<(NodeId, String)>,
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

fn zone(text: &str) -> Result<(NodeId, String), String> {
    let (node, zone) = text.split_once('=').ok_or("NODE=ZONE is asked for")?;
    let node = node.parse().map_err(|_| format!("{node} is not a node's id"))?;
    Ok((node, zone.to_owned()))
}

impl Change {
    /// That a member stands in this zone from then on.
    pub(crate) fn of_zone(node: NodeId, zone: &str) -> Self {
        let zones = vec![(node, zone.to_owned())];
        Self { joins: Vec::new(), leaves: Vec::new(), weights: Vec::new(), zones }
    }

    fn is_empty(&self) -> bool {
        let Self { joins, leaves, weights, zones } = self;
        joins.is_empty() && leaves.is_empty() && weights.is_empty() && zones.is_empty()
    }

    pub(crate) fn wire(&self, after: Option<u64>) -> Result<MembersChange, Error> {
        if self.is_empty() {
            let how = "say what is to change: --join, --leave, --weight or --zone";
            return Err(Error::Input(how.into()));
        }
        let many = || Error::Input(format!("at most {CHANGE_NODES_MAX} nodes of a kind at once"));
        Ok(MembersChange {
            joins: Bounded::new(self.joins.clone()).map_err(|_| many())?,
            leaves: Bounded::new(self.leaves.clone()).map_err(|_| many())?,
            weights: Bounded::new(self.weights.clone()).map_err(|_| many())?,
            zones: Bounded::new(self.zones.clone()).map_err(|_| many())?,
            after,
        })
    }

    /// The arguments that say the same.
    fn arguments(&self) -> String {
        let joins = self.joins.iter().map(|node| format!(" --join {node}"));
        let leaves = self.leaves.iter().map(|node| format!(" --leave {node}"));
        let weights =
            self.weights.iter().map(|(node, weight)| format!(" --weight {node}={weight}"));
        let zones = self.zones.iter().map(|(node, zone)| {
            let plain = !zone.is_empty() && zone.chars().all(|c| c.is_alphanumeric() || c == '-');
            if plain {
                format!(" --zone {node}={zone}")
            } else {
                format!(" --zone '{node}={zone}'")
            }
        });
        joins.chain(leaves).chain(weights).chain(zones).collect()
    }

    pub(crate) fn print(&self, plan: &MembersPlan, output: &mut Output<'_>) -> Result<(), Error> {
        if output.json {
            output.object(object(plan))?;
            return Ok(());
        }
        let rows: Vec<Vec<String>> = plan.nodes.iter().map(row).collect();
        output.to.write_all(
            text::table(&["NODE", "WEIGHT", "HOLDS", "WOULD HOLD", "TO FILL", "BYTES"], &rows)
                .as_bytes(),
        )?;
        if plan.zones.len() > 1 {
            let rows: Vec<Vec<String>> = plan.zones.iter().map(zone_row).collect();
            let heads = ["ZONE", "NODES", "COPIES", "NODES THEN", "COPIES THEN"];
            output.to.write_all(text::table(&heads, &rows).as_bytes())?;
            output.line(format!(
                "copies of {} of {} partitions stand in different zones, of {} then",
                plan.apart.0, plan.partitions, plan.apart.1
            ))?;
        }
        let bytes = text::size(plan.bytes_about);
        output.line(format!(
            "{} copies of partitions to make, about {bytes}; {} first places change",
            plan.moves, plan.firsts_changed
        ))?;
        if plan.bytes_about > 0 && plan.fill_bytes_per_second > 0 {
            let rate = text::size(plan.fill_bytes_per_second);
            let seconds = plan.fill_ms_min.div_ceil(1_000);
            output.line(format!(
                "at {rate} in a second, the most that a node fills with: {seconds} s at least"
            ))?;
        }
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
            until_stable(admin, decided, output).await?;
            if left == 0 {
                self.have_left(admin, decided).await?;
                return self.done(decided, step, output);
            }
            epoch = decided;
        }
        Ok(())
    }

    /// That who was to leave is no member: whoever is told so ends it, and its data with it.
    async fn have_left(&self, admin: &Admin, epoch: u64) -> Result<(), Error> {
        if self.change.leaves.is_empty() {
            return Ok(());
        }
        let still = members_among(admin, epoch, &self.change.leaves).await?;
        if still.is_empty() {
            return Ok(());
        }
        let still: Vec<String> = still.iter().map(NodeId::to_string).collect();
        let still = still.join(", ");
        let why = format!("epoch {epoch} is stable, and these are members in it still: {still}");
        Err(Error::Unsettled(format!("{why}; do not end them, look at a new plan")))
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
        for (node, zone) in &self.change.zones {
            output.line(format!("give {node} cluster.zone = {zone:?} in its settings too"))?;
        }
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
        if share.gains == 0 { "-".to_owned() } else { text::size(share.gains_bytes) },
    ]
}

fn zone_row(share: &ZoneShare) -> Vec<String> {
    let name = if share.zone.is_empty() { "-".to_owned() } else { share.zone.clone() };
    let (nodes, copies) = (share.nodes, share.copies);
    vec![
        text::shown(name.as_bytes(), 64),
        nodes.0.to_string(),
        copies.0.to_string(),
        nodes.1.to_string(),
        copies.1.to_string(),
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
                "gains_bytes": share.gains_bytes,
            })
        })
        .collect();
    let zones: Vec<Value> = plan
        .zones
        .iter()
        .map(|share| {
            json!({
                "zone": share.zone,
                "nodes": [share.nodes.0, share.nodes.1],
                "copies": [share.copies.0, share.copies.1],
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
        ("zones".to_owned(), zones.into()),
        ("apart".to_owned(), json!([plan.apart.0, plan.apart.1])),
        ("partitions".to_owned(), plan.partitions.into()),
        ("fill_bytes_per_second".to_owned(), plan.fill_bytes_per_second.into()),
        ("fill_ms_min".to_owned(), plan.fill_ms_min.into()),
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
            zones: vec![zone("0000000000000003=b").expect("a zone")],
        };
        let share = NodeShare { node: NodeId(2), before: 64, ..NodeShare::default() };
        let plan =
            MembersPlan { epoch: 7, moves: 64, nodes: vec![share], ..MembersPlan::default() };
        let of = |name: &str, copies| ZoneShare { zone: name.into(), nodes: (1, 1), copies };
        let zones = vec![of("a", (64, 32)), of("b", (0, 32))];
        let plan = MembersPlan { steps: vec![40, 24], zones, apart: (0, 64), ..plan };
        let gains = NodeShare { node: NodeId(4), gains: 64, gains_bytes: 3 << 20, ..share };
        let plan = MembersPlan {
            nodes: vec![share, gains],
            bytes_about: 3 << 20,
            fill_bytes_per_second: 1 << 20,
            fill_ms_min: 3_000,
            ..plan
        };
        let mut text = Vec::new();
        let mut output = Output { json: false, terminal: false, to: &mut text };
        change.print(&plan, &mut output).expect("memory takes it");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("copies of 0 of 0 partitions stand in different zones, of 64 then"));
        assert!(text.contains("3.0 MiB") && text.contains("at 1.0 MiB in a second"), "{text}");
        assert!(text.contains("3 s at least"), "{text}");
        assert!(text.contains("leaves") && text.contains("2 steps of 40, 24 copies"), "{text}");
        let line = "kv cluster commit --join 0000000000000004 --leave 0000000000000002 --weight \
                    0000000000000001=3 --zone 0000000000000003=b --epoch 7\n";
        assert!(text.ends_with(line), "{text}");
        assert_eq!(Value::Object(object(&plan))["nodes"][0]["weight"], Value::Null);
        let nothing = Change { joins: vec![], leaves: vec![], weights: vec![], zones: vec![] };
        assert!(matches!(nothing.wire(None), Err(Error::Input(_))));
        let spaced = Change::of_zone(NodeId(1), "second floor");
        assert_eq!(spaced.arguments(), " --zone '0000000000000001=second floor'");
        assert!(zone("1").is_err() && zone("x=a").is_err());
        assert!(weight("1").is_err() && weight("1=x").is_err() && weight("x=1").is_err());
    }
}
