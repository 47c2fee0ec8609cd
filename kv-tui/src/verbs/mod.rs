//! The verbs of `kv`, one file each: its arguments, the question that it asks, its answer as a
//! table and as JSON.

pub(crate) mod aae;
pub(crate) mod autoscale;
pub(crate) mod bench;
pub(crate) mod cluster;
pub(crate) mod conflicts;
mod copying;
pub(crate) mod del;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod hints;
pub(crate) mod hot;
pub(crate) mod import;
pub(crate) mod locate;
pub(crate) mod members;
pub(crate) mod node;
pub(crate) mod nodes;
pub(crate) mod papers;
pub(crate) mod put;
pub(crate) mod repair;
pub(crate) mod ring;
pub(crate) mod split;
pub(crate) mod status;
pub(crate) mod transfers;
pub(crate) mod tui;

use std::io::{self, Write};

use kv_client::Versioned;
use serde_json::{Map, Value};

use crate::args::KeyArg;
use crate::error::Exit;
use crate::{Error, json, text};

/// Where answers go, and in which form.
pub(crate) struct Output<'a> {
    pub(crate) json: bool,
    /// Whether a person's terminal reads it: then bytes are shown, not sent.
    pub(crate) terminal: bool,
    pub(crate) to: &'a mut dyn Write,
}

impl Output<'_> {
    pub(crate) fn object(&mut self, object: Map<String, Value>) -> io::Result<()> {
        writeln!(self.to, "{}", Value::Object(object))
    }

    pub(crate) fn line(&mut self, line: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.to, "{}", line.as_ref())
    }
}

/// What a write answers.
fn written(
    output: &mut Output<'_>,
    key: &KeyArg,
    out: &Versioned,
    nothing: &str,
) -> Result<Exit, Error> {
    let dot = out.siblings().first().map(|sibling| sibling.dot);
    if output.json {
        let mut object = Map::new();
        json::put_bytes(&mut object, "key", out.key(), key.hex);
        object.insert("dot".into(), dot.as_ref().map_or(Value::Null, json::dot));
        object.insert("context".into(), text::hex(out.context()).into());
        output.object(object)?;
    } else {
        match dot {
            Some(dot) => output.line(format!("OK {}", text::dot(&dot)))?,
            None => output.line(nothing)?,
        }
    }
    Ok(Exit::Ok)
}
