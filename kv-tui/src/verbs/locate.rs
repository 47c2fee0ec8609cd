//! `kv locate KEY`: where a key lives, without asking its replicas for it.

use clap::Args;
use kv_client::NodeId;
use kv_client::wire::{Location, NodeInfo};
use serde_json::{Map, Value, json};

use super::Output;
use crate::args::{Connect, KeyArg};
use crate::error::Exit;
use crate::model::state_word;
use crate::{Error, json, text};

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct Locate {
    #[command(flatten)]
    key: KeyArg,
}

const HEAD: [&str; 5] = ["PLACE", "NODE", "STATE", "REDIS", "RPC"];

impl Locate {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let (admin, key) = (connect.admin().await?, self.key.bytes()?);
        let place = admin.locate(key.clone()).await?;
        let nodes = admin.nodes().await?;
        if output.json {
            let mut object = Map::new();
            json::put_bytes(&mut object, "key", &key, self.key.hex);
            object.insert("slot".into(), place.slot.into());
            object.insert("partition".into(), place.partition.into());
            object.insert("token".into(), format!("{:016x}", place.token).into());
            object.insert("replicas".into(), objects(&place.replicas, &nodes));
            object.insert("fallbacks".into(), objects(&place.fallbacks, &nodes));
            output.object(object)?;
        } else {
            print(&place, &nodes, output)?;
        }
        Ok(Exit::Ok)
    }
}

fn print(place: &Location, nodes: &[NodeInfo], output: &mut Output<'_>) -> Result<(), Error> {
    let (slot, partition, token) = (place.slot, place.partition, place.token);
    output.line(format!("slot {slot}, partition {partition}, token {token:016x}"))?;
    let replicas = (1_usize..).zip(&place.replicas).map(|(at, id)| (at.to_string(), id));
    let fallbacks = place.fallbacks.iter().map(|id| ("fallback".to_owned(), id));
    let row = |(at, id): (String, &NodeId)| {
        let node = nodes.iter().find(|node| node.node == *id);
        let address = |address: &str| text::shown(address.as_bytes(), 80);
        vec![
            at,
            id.to_string(),
            node.map_or("unknown", |node| state_word(node.state)).to_owned(),
            node.map_or_else(|| "-".to_owned(), |node| address(&node.endpoints.resp)),
            node.map_or_else(|| "-".to_owned(), |node| address(&node.endpoints.rpc)),
        ]
    };
    let rows: Vec<Vec<String>> = replicas.chain(fallbacks).map(row).collect();
    output.to.write_all(text::table(&HEAD, &rows).as_bytes())?;
    Ok(())
}

fn objects(ids: &[NodeId], nodes: &[NodeInfo]) -> Value {
    let object = |id: &NodeId| {
        let node = nodes.iter().find(|node| node.node == *id);
        json!({
            "node": id.to_string(),
            "state": node.map(|node| state_word(node.state)),
            "resp": node.map(|node| &node.endpoints.resp),
            "rpc": node.map(|node| &node.endpoints.rpc),
        })
    };
    ids.iter().map(object).collect()
}
