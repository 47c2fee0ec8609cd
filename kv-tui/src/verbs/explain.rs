//! `kv explain KEY`: where a key lives, and what each replica has of it.

use clap::Args;
use kv_client::NodeId;
use kv_client::wire::{Explanation, ReplicaAnswer, VersionName};
use serde_json::{Map, Value, json};

use super::Output;
use crate::args::{Connect, KeyArg};
use crate::error::Exit;
use crate::{Error, json, text};

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    key: KeyArg,
}

impl Explain {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let explained = connect.admin().await?.explain(self.key.bytes()?).await?;
        if output.json {
            output.object(object(&explained, self.key.hex))?;
        } else {
            print(&explained, output)?;
        }
        Ok(Exit::Ok)
    }
}

fn print(explained: &Explanation, output: &mut Output<'_>) -> Result<(), Error> {
    let place = &explained.location;
    let (slot, partition, token) = (place.slot, place.partition, place.token);
    output.line(format!("slot {slot}, partition {partition}, token {token:016x}"))?;
    if !place.fallbacks.is_empty() {
        output.line(format!("fallbacks {}", names(&place.fallbacks).join(", ")))?;
    }
    for note in &explained.notes {
        output.line(note)?;
    }
    let rows: Vec<Vec<String>> = explained.replicas.iter().map(row).collect();
    let table = text::table(&["REPLICA", "TIME", "VERSIONS", "FOUND IN"], &rows);
    output.to.write_all(table.as_bytes())?;
    Ok(())
}

fn row(answer: &ReplicaAnswer) -> Vec<String> {
    let versions = match &answer.versions {
        Ok(versions) if versions.is_empty() => "none".to_owned(),
        Ok(versions) => versions.iter().map(version).collect::<Vec<_>>().join(", "),
        Err(why) => format!("no answer: {}", text::shown(why.as_bytes(), 200)),
    };
    let found_in = text::shown(answer.found_in.as_bytes(), 200);
    vec![answer.node.to_string(), text::latency(answer.us), versions, found_in]
}

fn version(version: &VersionName) -> String {
    let what = version.bytes.map_or_else(|| "deleted".to_owned(), text::size);
    format!("{} ({what})", text::dot(&version.dot))
}

fn names(nodes: &[NodeId]) -> Vec<String> {
    nodes.iter().map(ToString::to_string).collect()
}

fn object(explained: &Explanation, hex: bool) -> Map<String, Value> {
    let place = &explained.location;
    let answers = explained.replicas.iter().map(|answer| {
        let versions = answer.versions.as_ref().ok().map(|versions| {
            let versions = versions.iter();
            let one =
                |name: &VersionName| json!({"dot": json::dot(&name.dot), "bytes": name.bytes});
            versions.map(one).collect::<Vec<_>>()
        });
        json!({
            "node": answer.node.to_string(),
            "us": answer.us,
            "found_in": answer.found_in,
            "versions": versions.unwrap_or_default(),
            "error": answer.versions.as_ref().err(),
        })
    });
    let answers: Vec<Value> = answers.collect();
    let mut object = Map::new();
    json::put_bytes(&mut object, "key", &explained.key, hex);
    object.insert("slot".into(), place.slot.into());
    object.insert("partition".into(), place.partition.into());
    object.insert("token".into(), format!("{:016x}", place.token).into());
    object.insert("replicas".into(), names(&place.replicas).into());
    object.insert("fallbacks".into(), names(&place.fallbacks).into());
    object.insert("answers".into(), answers.into());
    object.insert("notes".into(), explained.notes.clone().into());
    object
}
