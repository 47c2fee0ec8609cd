//! `cargo xtask cluster VERB`.

use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

use super::words::unknown;
use super::{Verb, asked_for_help, cluster_name, number, sub_verb, text, usage};
use crate::cluster::{self, Durability, Engine};
use crate::error::{Error, Result};

const VERBS: &[&str] = &[
    "up",
    "status",
    "kill",
    "start",
    "restart",
    "pause",
    "resume",
    "logs",
    "scale",
    "partition",
    "slow",
    "drop",
    "heal",
    "down",
    "ls",
    "env",
    "exec",
    "provision",
    "proxy",
];
const OPTIONS: &[&str] = &[
    "--name",
    "--nodes",
    "--base-port",
    "--engine",
    "--durability",
    "--set",
    "--faults",
    "--json",
    "--purge",
    "-9",
    "--detach",
    "--follow",
    "-f",
];
/// Ports of node i are base + i, and 100, 200 and 300 more: more nodes would overlap.
const NODES_MAX: u16 = 99;

pub(super) fn parse(parser: &mut Parser) -> Result<Verb> {
    let word = sub_verb(parser, "cluster", VERBS)?;
    let Some(word) = word else { return Ok(Verb::Help) };
    let mut name = cluster::DEFAULT_NAME.to_owned();
    let mut up = cluster::Shape::default();
    let (mut json, mut purge, mut hard, mut node) = (false, false, false, None);
    let (mut detach, mut follow) = (false, false);
    let (mut lasts, mut line) = (None, Vec::new());
    let mut words = Vec::new();
    while let Some(arg) = parser.next().map_err(usage)? {
        match (word.as_str(), arg) {
            (_, Arg::Long("name")) => name = cluster_name(text(parser)?)?,
            ("up", Arg::Short('n') | Arg::Long("nodes")) => up.nodes = number(parser)?,
            ("up", Arg::Long("base-port")) => up.base_port = number(parser)?,
            ("up", Arg::Long("engine")) => up.engine = choice(parser, Engine::NAMES)?,
            ("up", Arg::Long("durability")) => up.durability = choice(parser, Durability::NAMES)?,
            ("up", Arg::Long("faults")) => up.faults = true,
            ("partition" | "slow" | "drop" | "heal", Arg::Value(value)) => {
                words.push(value.string().map_err(usage)?);
            }
            ("up", Arg::Long("set")) => up.set.push(assignment(text(parser)?)?),
            ("status", Arg::Long("json")) => json = true,
            ("down", Arg::Long("purge")) => purge = true,
            ("kill", Arg::Short('9')) => hard = true,
            ("scale", Arg::Long("detach")) => detach = true,
            ("logs", Arg::Short('f') | Arg::Long("follow")) => follow = true,
            // What comes after `--` is another program's.
            ("exec", Arg::Value(word)) => {
                line.push(word);
                line.extend(parser.raw_args().map_err(usage)?);
            }
            ("pause", Arg::Value(value)) if node.is_some() && lasts.is_none() => {
                lasts = Some(while_of(&value.string().map_err(usage)?)?);
            }
            (
                "kill" | "start" | "restart" | "pause" | "resume" | "logs" | "scale",
                Arg::Value(value),
            ) if node.is_none() => {
                node = Some(node_number(&value.string().map_err(usage)?)?);
            }
            (_, other) => return asked_for_help(other, OPTIONS),
        }
    }
    let chosen = || {
        node.ok_or_else(|| {
            let text = format!("which node? nodes are 1, 2, 3 ...: `cargo xtask cluster {word} 2`");
            Error::Usage(text)
        })
    };
    let verb = match word.as_str() {
        "up" => cluster::Verb::Up(check_shape(up)?),
        "status" => cluster::Verb::Status { json },
        "kill" => cluster::Verb::Kill { node: chosen()?, hard },
        "start" => cluster::Verb::Start { node: chosen()? },
        "restart" => cluster::Verb::Restart { node },
        "pause" => cluster::Verb::Pause { node: chosen()?, lasts },
        "resume" => cluster::Verb::Resume { node: chosen()? },
        "logs" => cluster::Verb::Logs { node, follow },
        "ls" => cluster::Verb::List,
        "env" => cluster::Verb::Env,
        "exec" => cluster::Verb::Exec { line },
        "scale" => cluster::Verb::Scale { nodes: chosen()?, detach },
        "provision" => cluster::Verb::Provision,
        "proxy" => cluster::Verb::Proxy,
        "partition" | "slow" | "drop" | "heal" => {
            cluster::Verb::Faults(cluster::Change::parse(&word, &words)?)
        }
        _ => cluster::Verb::Down { purge },
    };
    Ok(Verb::Cluster { name, verb })
}

fn check_shape(shape: cluster::Shape) -> Result<cluster::Shape> {
    if shape.nodes == 0 || shape.nodes > NODES_MAX {
        return Err(Error::Usage(format!("a local cluster has 1 to {NODES_MAX} nodes")));
    }
    if shape.base_port < 1024 || shape.base_port > u16::MAX - 300 - NODES_MAX {
        let most = u16::MAX - 300 - NODES_MAX;
        return Err(Error::Usage(format!("--base-port is between 1024 and {most}")));
    }
    Ok(shape)
}

fn assignment(text: String) -> Result<String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text),
        _ => Err(Error::Usage(format!("--set takes KEY=VALUE, not `{text}`"))),
    }
}

/// `3` and `n3` are node 3.
fn node_number(text: &str) -> Result<u16> {
    let digits = text.strip_prefix('n').unwrap_or(text);
    match digits.parse() {
        Ok(number) if (1..=NODES_MAX).contains(&number) => Ok(number),
        _ => Err(Error::Usage(format!("`{text}` is no node; nodes are 1, 2, 3 ..."))),
    }
}

/// `5s` or `200ms`, an hour at most.
fn while_of(text: &str) -> Result<Duration> {
    let ms = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(ms), _) => ms.parse::<u64>().ok(),
        (None, Some(s)) => s.parse::<u64>().ok().and_then(|s| s.checked_mul(1_000)),
        (None, None) => None,
    };
    match ms {
        Some(ms @ 1..=3_600_000) => Ok(Duration::from_millis(ms)),
        _ => Err(Error::Usage(format!("`{text}` is no time; write 5s or 200ms, an hour at most"))),
    }
}

fn choice<T: Copy>(parser: &mut Parser, names: &[(&str, T)]) -> Result<T> {
    let word = text(parser)?;
    let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    names
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, value)| *value)
        .ok_or_else(|| unknown("value", &word, &known))
}
