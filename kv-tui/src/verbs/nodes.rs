//! `kv nodes`: the members as the asked node sees them.

use clap::Args;
use kv_client::wire::NodeInfo;
use serde_json::{Map, Value, json};

use super::Output;
use crate::args::Connect;
use crate::error::Exit;
use crate::model::state_word;
use crate::{Error, text};

/// It has no arguments of its own.
#[derive(Debug, Args)]
pub(crate) struct Nodes {}

/// The head of the table, shared with the terminal, which shows as many columns as it has room for.
pub(crate) const HEAD: [&str; COLUMNS] = [
    "NODE",
    "STATE",
    "REDIS",
    "RPC",
    "ZONE",
    "WEIGHT",
    "PARTITIONS",
    "CALL",
    "QUEUED",
    "PHI",
    "READ P95",
    "EPOCH",
];
pub(crate) const COLUMNS: usize = 12;

impl Nodes {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let nodes = connect.admin().await?.nodes().await?;
        if output.json {
            let nodes: Vec<Value> = nodes.iter().map(object).collect();
            output.object(Map::from_iter([("nodes".to_owned(), nodes.into())]))?;
        } else {
            let rows: Vec<Vec<String>> = nodes.iter().map(|node| row(node).to_vec()).collect();
            output.to.write_all(text::table(&HEAD, &rows).as_bytes())?;
        }
        Ok(Exit::Ok)
    }
}

/// A member in the columns of `HEAD`.
pub(crate) fn row(node: &NodeInfo) -> [String; COLUMNS] {
    let or_dash = |what: &str| if what.is_empty() { "-".to_owned() } else { safe(what) };
    let call = match (node.unanswered_ms, node.call_us) {
        (0, Some(us)) => text::latency(us),
        (0, None) => "-".to_owned(),
        (silent, _) => format!("silent {}", text::duration(u64::from(silent))),
    };
    [
        node.node.to_string(),
        state_word(node.state).to_owned(),
        or_dash(&node.endpoints.resp),
        or_dash(&node.endpoints.rpc),
        or_dash(&node.zone),
        node.weight.to_string(),
        format!("{} ({} first)", node.partitions, node.first_places),
        call,
        node.queue_ops.to_string(),
        format!("{}.{:02}", node.phi_hundredths / 100, node.phi_hundredths % 100),
        node.read_p95_us.map_or_else(|| "-".to_owned(), text::latency),
        node.epoch.to_string(),
    ]
}

/// What another node says of itself is shown, and does nothing to the terminal.
fn safe(what: &str) -> String {
    text::shown(what.as_bytes(), 80)
}

fn object(node: &NodeInfo) -> Value {
    json!({
        "node": node.node.to_string(),
        "state": state_word(node.state),
        "resp": node.endpoints.resp,
        "rpc": node.endpoints.rpc,
        "http": node.endpoints.http,
        "zone": node.zone,
        "weight": node.weight,
        "partitions": node.partitions,
        "first_places": node.first_places,
        "call_us": node.call_us,
        "queue_ops": node.queue_ops,
        "unanswered_ms": node.unanswered_ms,
        "floor_age_ms": node.floor_age_ms,
        "read_p95_us": node.read_p95_us,
        "phi_hundredths": node.phi_hundredths,
        "epoch": node.epoch,
    })
}
