//! `kv conflicts`: lists the keys with siblings of the whole cluster. `kv conflicts resolve KEY`:
//! makes one value of a key's siblings by a rule, as the terminal does: an ordinary write with the
//! context of what was read.

use clap::{ArgGroup, Args, Subcommand};
use kv_client::wire::{Conflict, ConflictsView, Expiry, Level};
use kv_client::{Client, Versioned};
use serde_json::{Map, Value, json};

use super::{Output, written};
use crate::args::{Connect, KeyArg};
use crate::error::Exit;
use crate::model::{Rule, Verdict, resolve, suggested};
use crate::{Error, json, text};

/// Lists keys with siblings, unless something is to be done about one.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Conflicts {
    #[command(subcommand)]
    what: Option<What>,
    /// Go on behind a page: the number that it ended with.
    #[arg(long, value_name = "CURSOR", default_value_t = 0)]
    from: u64,
    /// Keys at most.
    #[arg(long, value_name = "KEYS", default_value_t = 100)]
    count: u32,
    /// Show keys as hexadecimal digits.
    #[arg(long)]
    hex: bool,
}

/// What to do about a key with siblings.
#[derive(Debug, Subcommand)]
enum What {
    /// Makes one value of a key's siblings.
    Resolve(Resolve),
}

const HEAD: [&str; 4] = ["KEY", "SIBLINGS", "NEWEST", "REPLICAS"];

/// Its arguments.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("how").args(["rule", "pick", "value"])))]
pub(crate) struct Resolve {
    #[command(flatten)]
    key: KeyArg,
    /// merge (JSON objects), union (JSON arrays, lines), max (numbers), latest, delete; the first
    /// of these but delete that decides unless given.
    #[arg(long, value_parser = rule)]
    rule: Option<Rule>,
    /// Take this sibling, counted from 1 in the order that `kv get` shows.
    #[arg(long, value_name = "N")]
    pick: Option<usize>,
    /// Write this value.
    #[arg(long, allow_hyphen_values = true)]
    value: Option<String>,
    /// Show what would be written, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Copies that must be durable: one, quorum, all, local-quorum, each-quorum or a number; the
    /// keyspace's unless given.
    #[arg(long, value_name = "COPIES", value_parser = text::level, default_value = "keyspace")]
    w: Level,
}

fn rule(word: &str) -> Result<Rule, String> {
    Rule::named(word).ok_or_else(|| "merge, union, max, latest or delete".to_owned())
}

impl Conflicts {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        if let Some(What::Resolve(verb)) = &self.what {
            return verb.run(connect, output).await;
        }
        let view = connect.admin().await?.conflicts(self.from, self.count).await?;
        if output.json {
            output.object(self.object(&view))?;
        } else {
            self.print(&view, output)?;
        }
        let all = view.partial.is_empty() && view.silent.is_empty();
        Ok(if all { Exit::Ok } else { Exit::Degraded })
    }

    fn print(&self, view: &ConflictsView, output: &mut Output<'_>) -> Result<(), Error> {
        match view.total {
            0 => output.line("no key has siblings")?,
            1 => output.line("1 key has siblings")?,
            count => output.line(format!("{count} keys have siblings"))?,
        }
        if !view.rows.is_empty() {
            let rows: Vec<Vec<String>> = view.rows.iter().map(|row| self.row(row)).collect();
            output.to.write_all(text::table(&HEAD, &rows).as_bytes())?;
        }
        for node in &view.partial {
            output.line(format!("{node} has not listed all of its own yet"))?;
        }
        for node in &view.silent {
            output.line(format!("{node} did not answer: what only it has is not listed"))?;
        }
        if view.next != 0 {
            output.line(format!("more: kv conflicts --from {}", view.next))?;
        }
        Ok(())
    }

    fn row(&self, row: &Conflict) -> Vec<String> {
        let key = if self.hex { text::hex(&row.key) } else { text::shown(&row.key, 200) };
        let (siblings, replicas) = (row.siblings.to_string(), row.replicas.to_string());
        vec![key, siblings, text::moment(row.newest_ms), replicas]
    }

    fn object(&self, view: &ConflictsView) -> Map<String, Value> {
        let row = |row: &Conflict| {
            let mut object = Map::new();
            json::put_bytes(&mut object, "key", &row.key, self.hex);
            object.insert("siblings".into(), row.siblings.into());
            object.insert("newest_ms".into(), row.newest_ms.into());
            object.insert("replicas".into(), row.replicas.into());
            Value::from(object)
        };
        let names = |nodes: &[kv_client::NodeId]| -> Vec<String> {
            nodes.iter().map(ToString::to_string).collect()
        };
        let rows: Vec<Value> = view.rows.iter().map(row).collect();
        let object = json!({
            "total": view.total,
            "conflicts": rows,
            "next": view.next,
            "partial": names(&view.partial),
            "silent": names(&view.silent),
        });
        match object {
            Value::Object(object) => object,
            _ => Map::new(),
        }
    }
}

impl Resolve {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let key = self.key.bytes()?;
        let client = connect.client(Level::Keyspace, self.w).await?;
        let seen = client.get(key).await?;
        if !seen.is_conflict() {
            return self.nothing(&seen, output);
        }
        let rule = self.rule(&seen)?;
        let verdict = resolve(&rule, seen.siblings())
            .map_err(|why| Error::Undecided(format!("{rule} does not decide: {why}")))?;
        if self.dry_run {
            return self.show(&rule, &seen, &verdict, output);
        }
        if !output.json {
            for note in &verdict.notes {
                output.line(text::shown(note.as_bytes(), 300))?;
            }
        }
        let out = write(&client, &seen, verdict).await?;
        written(output, &self.key, &out, "nothing written")
    }

    fn rule(&self, seen: &Versioned) -> Result<Rule, Error> {
        let first = |at: usize| at.checked_sub(1);
        match (&self.rule, self.pick, &self.value) {
            (Some(rule), ..) => Ok(rule.clone()),
            (_, Some(pick), _) => first(pick)
                .filter(|at| *at < seen.siblings().len())
                .map(Rule::Pick)
                .ok_or_else(|| {
                    let count = seen.siblings().len();
                    Error::Input(format!("--pick {pick}: there are siblings 1 to {count}"))
                }),
            (_, _, Some(value)) => Ok(Rule::Edit(self.key.given("--value", value)?)),
            _ => Ok(suggested(seen.siblings())),
        }
    }

    /// One version or none: done before anybody asked.
    fn nothing(&self, seen: &Versioned, output: &mut Output<'_>) -> Result<Exit, Error> {
        if output.json {
            let mut object = Map::new();
            json::put_bytes(&mut object, "key", seen.key(), self.key.hex);
            object.insert("dot".into(), Value::Null);
            object.insert("context".into(), text::hex(seen.context()).into());
            output.object(object)?;
        } else {
            output.line("no siblings, nothing written")?;
        }
        Ok(Exit::Ok)
    }

    fn show(
        &self,
        rule: &Rule,
        seen: &Versioned,
        verdict: &Verdict,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let count = seen.siblings().len();
        if output.json {
            let mut object = Map::new();
            json::put_bytes(&mut object, "key", seen.key(), self.key.hex);
            object.insert("rule".into(), rule.to_string().into());
            object.insert("siblings".into(), count.into());
            match &verdict.value {
                Some(value) => json::put_bytes(&mut object, "value", value, self.key.hex),
                None => drop(object.insert("value".into(), Value::Null)),
            }
            object.insert("notes".into(), verdict.notes.clone().into());
            output.object(object)?;
            return Ok(Exit::Ok);
        }
        output.line(format!("{count} siblings by rule {rule}; not written"))?;
        for note in &verdict.notes {
            output.line(text::shown(note.as_bytes(), 300))?;
        }
        output.line(match &verdict.value {
            Some(value) if self.key.hex => text::hex(value),
            Some(value) => text::shown(value, usize::MAX),
            None => "(deleted)".to_owned(),
        })?;
        Ok(Exit::Ok)
    }
}

async fn write(client: &Client, seen: &Versioned, verdict: Verdict) -> Result<Versioned, Error> {
    let expiry = verdict.expires_at_ms.map_or(Expiry::Never, Expiry::AtMs);
    Ok(match verdict.value {
        Some(value) => client.put_expiring(seen, value, expiry).await?,
        None => client.delete(seen).await?,
    })
}
