//! `kv aae`: how the asked node compares its copies with others', and what was mended.

use clap::Args;
use kv_client::wire::{AaePeer, AaeView};
use serde_json::{Map, Value, json};

use super::Output;
use crate::args::Connect;
use crate::error::Exit;
use crate::{Error, text};

/// It has no arguments of its own.
#[derive(Debug, Args)]
pub(crate) struct Aae {}

const HEAD: [&str; 8] =
    ["PEER", "BEGUN BY", "LAST", "EXCHANGES", "FOUND", "MENDED", "BYTES", "LAST BYTES"];

impl Aae {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let view = connect.admin().await?.aae().await?;
        if output.json {
            output.object(object(&view))?;
        } else {
            print(&view, output)?;
        }
        Ok(Exit::Ok)
    }
}

fn print(view: &AaeView, output: &mut Output<'_>) -> Result<(), Error> {
    let (built, building, leaves) = (view.trees_built, view.trees_building, view.leaves);
    output.line(format!("{built} trees built, {building} to build, {leaves} leaves each"))?;
    output.line(format!("{} % of the rate may be used now", view.rate_per_mille / 10))?;
    if view.filling > 0 {
        output.line(format!("{} partitions are being filled after a loss", view.filling))?;
    }
    let rows: Vec<Vec<String>> = view.peers.iter().map(row).collect();
    output.to.write_all(text::table(&HEAD, &rows).as_bytes())?;
    for peer in view.peers.iter().filter(|peer| !peer.failure.is_empty()) {
        let failure = text::shown(peer.failure.as_bytes(), 200);
        output.line(format!("{}: the last exchange did not end: {failure}", peer.node))?;
    }
    Ok(())
}

fn row(peer: &AaePeer) -> Vec<String> {
    let last =
        peer.age_ms.map_or_else(|| "never".to_owned(), |ms| format!("{} ago", text::duration(ms)));
    vec![
        peer.node.to_string(),
        if peer.begins { "this node" } else { "the peer" }.to_owned(),
        last,
        peer.exchanges.to_string(),
        peer.found.to_string(),
        peer.mended.to_string(),
        text::size(peer.bytes),
        text::size(peer.last_bytes),
    ]
}

fn object(view: &AaeView) -> Map<String, Value> {
    let peers: Vec<Value> = view.peers.iter().map(peer_object).collect();
    Map::from_iter([
        ("trees_built".to_owned(), view.trees_built.into()),
        ("trees_building".to_owned(), view.trees_building.into()),
        ("leaves".to_owned(), view.leaves.into()),
        ("rate_per_mille".to_owned(), view.rate_per_mille.into()),
        ("filling".to_owned(), view.filling.into()),
        ("peers".to_owned(), peers.into()),
    ])
}

fn peer_object(peer: &AaePeer) -> Value {
    json!({
        "node": peer.node.to_string(),
        "begins": peer.begins,
        "exchanges": peer.exchanges,
        "age_ms": peer.age_ms,
        "found": peer.found,
        "mended": peer.mended,
        "bytes": peer.bytes,
        "last_bytes": peer.last_bytes,
        "failure": peer.failure,
    })
}
