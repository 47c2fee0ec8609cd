//! `kv ring`: who owns how much of the newest layout, or each partition's owners.

use clap::Args;
use kv_client::wire::RingView;
use serde_json::{Map, Value};

use super::Output;
use crate::args::Connect;
use crate::error::Exit;
use crate::{Error, text};

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct Ring {
    /// List every partition with its owners in order of preference.
    #[arg(long)]
    partitions: bool,
}

impl Ring {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let ring = connect.admin().await?.ring().await?;
        if output.json {
            output.object(object(&ring))?;
            return Ok(Exit::Ok);
        }
        let (count, copies) = (ring.partitions(), ring.copies);
        output
            .line(format!("layout {}, {count} partitions, {copies} copies of each", ring.epoch))?;
        let table = if self.partitions { partitions(&ring) } else { shares(&ring) };
        output.to.write_all(table.as_bytes())?;
        Ok(Exit::Ok)
    }
}

fn partitions(ring: &RingView) -> String {
    let row = |partition: usize| {
        let owners: Vec<String> = ring.owners_of(partition).map(|node| node.to_string()).collect();
        vec![partition.to_string(), owners.join(" ")]
    };
    let rows: Vec<Vec<String>> = (0..ring.partitions()).map(row).collect();
    text::table(&["PARTITION", "OWNERS"], &rows)
}

fn shares(ring: &RingView) -> String {
    let copies = usize::from(ring.copies).max(1);
    let total = ring.owners.len().max(1);
    let rows: Vec<Vec<String>> = (0_usize..)
        .zip(&ring.nodes)
        .map(|(at, node)| {
            let is_it = |owner: &&u16| usize::from(**owner) == at;
            let held = ring.owners.iter().filter(is_it).count();
            let first = ring.owners.iter().step_by(copies).filter(is_it).count();
            let tenths = held * 1_000 / total;
            let share = format!("{}.{} %", tenths / 10, tenths % 10);
            vec![node.to_string(), held.to_string(), first.to_string(), share]
        })
        .collect();
    text::table(&["NODE", "PARTITIONS", "FIRST", "SHARE"], &rows)
}

fn object(ring: &RingView) -> Map<String, Value> {
    let nodes: Vec<String> = ring.nodes.iter().map(ToString::to_string).collect();
    let owners = ring.owners.chunks(usize::from(ring.copies).max(1));
    let owners: Vec<Value> = owners.map(|owners| owners.to_vec().into()).collect();
    Map::from_iter([
        ("epoch".to_owned(), ring.epoch.into()),
        ("digest".to_owned(), format!("{:016x}", ring.digest).into()),
        ("copies".to_owned(), ring.copies.into()),
        ("nodes".to_owned(), nodes.into()),
        ("partitions".to_owned(), owners.into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_client::NodeId;

    fn ring() -> RingView {
        let nodes = vec![NodeId(1), NodeId(2), NodeId(3)];
        RingView { epoch: 4, digest: 255, copies: 2, nodes, owners: vec![0, 1, 0, 2] }
    }

    #[test]
    fn shares_count_places_and_first_places() {
        let lines: Vec<String> = shares(&ring()).lines().map(str::to_owned).collect();
        assert_eq!(lines[1], "0000000000000001  2           2      50.0 %");
        assert_eq!(lines[2], "0000000000000002  1           0      25.0 %");
    }

    #[test]
    fn every_partition_is_listed_in_order_of_preference() {
        let text = partitions(&ring());
        assert!(text.ends_with("1          0000000000000001 0000000000000003\n"), "{text}");
        let object = Value::Object(object(&ring()));
        assert_eq!(object["partitions"], serde_json::json!([[0, 1], [0, 2]]));
        assert_eq!(object["digest"], "00000000000000ff");
    }
}
