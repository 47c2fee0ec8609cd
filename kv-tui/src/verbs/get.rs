//! `kv get KEY`: the value; every sibling with its dot where concurrent writes left several.

use clap::Args;
use kv_client::Versioned;
use kv_client::wire::{Level, Sibling};
use serde_json::{Map, Value};

use super::Output;
use crate::args::{Connect, KeyArg};
use crate::error::Exit;
use crate::{Error, json, text};

/// Characters of a sibling's value in a table.
const VALUE_WIDTH_MAX: usize = 60;

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct Get {
    #[command(flatten)]
    key: KeyArg,
    /// Replicas that must answer: one, quorum, all, local-quorum, each-quorum or a number; the
    /// keyspace's unless given.
    #[arg(long, value_name = "COPIES", value_parser = text::level, default_value = "keyspace")]
    r: Level,
    /// Also print the context that covers what is shown, for `kv put --context`.
    #[arg(long)]
    context: bool,
}

impl Get {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let key = self.key.bytes()?;
        let seen = connect.client(self.r, Level::Keyspace).await?.get(key).await?;
        if output.json {
            output.object(object(&seen, self.key.hex))?;
        } else {
            self.print(&seen, output)?;
        }
        Ok(if seen.values().next().is_some() { Exit::Ok } else { Exit::Error })
    }

    fn print(&self, seen: &Versioned, output: &mut Output<'_>) -> Result<(), Error> {
        match seen.siblings() {
            [Sibling { value: Some(value), .. }] => {
                // A single value goes out as it is, so that it can be redirected.
                if self.key.hex {
                    output.line(text::hex(value))?;
                } else if output.terminal {
                    output.line(text::shown(value, usize::MAX))?;
                } else {
                    output.to.write_all(value)?;
                    output.line("")?;
                }
            }
            siblings if seen.values().next().is_none() => {
                let deleted = if siblings.is_empty() { "" } else { " (deleted)" };
                output.line(format!("no value{deleted}"))?;
            }
            siblings => {
                let rows: Vec<Vec<String>> =
                    siblings.iter().map(|sibling| self.row(sibling)).collect();
                let count = siblings.len();
                output.line(format!("{count} siblings, left by concurrent writes"))?;
                let table = text::table(&["VALUE", "DOT", "EXPIRES AT MS"], &rows);
                output.to.write_all(table.as_bytes())?;
                if !self.context {
                    output.line("to resolve them: get --context, then put with that context")?;
                }
            }
        }
        if self.context {
            output.line(format!("context {}", text::hex(seen.context())))?;
        }
        Ok(())
    }

    fn row(&self, sibling: &Sibling) -> Vec<String> {
        let value = match &sibling.value {
            Some(value) if self.key.hex => text::hex(value),
            Some(value) => text::shown(value, VALUE_WIDTH_MAX),
            None => "(deleted)".to_owned(),
        };
        let expires = sibling.expires_at_ms.map_or_else(|| "-".to_owned(), |at| at.to_string());
        vec![value, text::dot(&sibling.dot), expires]
    }
}

fn object(seen: &Versioned, hex: bool) -> Map<String, Value> {
    let siblings = seen.siblings().iter().map(|sibling| {
        let mut object = Map::new();
        match &sibling.value {
            Some(value) => json::put_bytes(&mut object, "value", value, hex),
            None => drop(object.insert("value".into(), Value::Null)),
        }
        object.insert("dot".into(), json::dot(&sibling.dot));
        object.insert("expires_at_ms".into(), sibling.expires_at_ms.into());
        Value::Object(object)
    });
    let siblings = siblings.collect();
    let mut object = Map::new();
    json::put_bytes(&mut object, "key", seen.key(), hex);
    object.insert("siblings".into(), siblings);
    object.insert("context".into(), text::hex(seen.context()).into());
    object
}
