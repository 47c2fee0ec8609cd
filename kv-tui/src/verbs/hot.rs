//! `kv hot`: the keys and partitions that are asked for most, all nodes together.

use clap::Args;
use kv_client::wire::{HotKeyView, HotView, PartitionLoad};
use serde_json::{Map, Value, json};

use super::Output;
use crate::args::Connect;
use crate::error::Exit;
use crate::{Error, json, text};

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct Hot {
    /// Keys at most.
    #[arg(long, value_name = "KEYS", default_value_t = 16)]
    count: u32,
    /// Keys are shown as hexadecimal digits.
    #[arg(long)]
    hex: bool,
}

impl Hot {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let view = connect.admin().await?.hot(self.count).await?;
        if output.json {
            output.object(object(&view, self.hex))?;
        } else {
            print(&view, self.hex, output)?;
        }
        Ok(if view.silent.is_empty() { Exit::Ok } else { Exit::Degraded })
    }
}

fn print(view: &HotView, hex: bool, output: &mut Output<'_>) -> Result<(), Error> {
    let (reads, writes) = (text::count(view.reads_per_s), text::count(view.writes_per_s));
    output.line(format!("{reads} reads and {writes} writes a second in the last seconds"))?;
    if view.keys.is_empty() {
        output.line("no key is asked for much more often than others")?;
    } else {
        let total = view.reads_per_s.saturating_add(view.writes_per_s).max(1);
        let rows: Vec<Vec<String>> = view.keys.iter().map(|hot| row(hot, total, hex)).collect();
        let head = ["OP/S", "SHARE", "PARTITION", "SLOT", "KEY"];
        output.to.write_all(text::table(&head, &rows).as_bytes())?;
    }
    if !view.partitions.is_empty() {
        let rows: Vec<Vec<String>> = view.partitions.iter().map(partition_row).collect();
        let head = ["PARTITION", "READS/S", "WRITES/S", "WRITTEN/S"];
        output.to.write_all(text::table(&head, &rows).as_bytes())?;
    }
    for node in &view.silent {
        output.line(format!("{node} did not answer: what it counted is not in it"))?;
    }
    Ok(())
}

fn row(hot: &HotKeyView, total: u64, hex: bool) -> Vec<String> {
    vec![
        text::count(hot.ops_per_s),
        format!("{} %", hot.ops_per_s.saturating_mul(100) / total),
        hot.partition.to_string(),
        hot.slot.to_string(),
        if hex { text::hex(&hot.key) } else { text::shown(&hot.key, 60) },
    ]
}

fn partition_row(load: &PartitionLoad) -> Vec<String> {
    vec![
        load.partition.to_string(),
        text::count(load.reads_per_s),
        text::count(load.writes_per_s),
        text::size(load.bytes_per_s),
    ]
}

fn object(view: &HotView, hex: bool) -> Map<String, Value> {
    let key = |hot: &HotKeyView| {
        let mut object = Map::new();
        json::put_bytes(&mut object, "key", &hot.key, hex);
        object.insert("slot".into(), hot.slot.into());
        object.insert("partition".into(), hot.partition.into());
        object.insert("ops_per_s".into(), hot.ops_per_s.into());
        object.insert("error_per_s".into(), hot.error_per_s.into());
        Value::Object(object)
    };
    let partition = |load: &PartitionLoad| {
        json!({
            "partition": load.partition,
            "reads_per_s": load.reads_per_s,
            "writes_per_s": load.writes_per_s,
            "bytes_per_s": load.bytes_per_s,
        })
    };
    let keys: Vec<Value> = view.keys.iter().map(key).collect();
    let partitions: Vec<Value> = view.partitions.iter().map(partition).collect();
    let silent: Vec<String> = view.silent.iter().map(ToString::to_string).collect();
    Map::from_iter([
        ("keys".to_owned(), keys.into()),
        ("partitions".to_owned(), partitions.into()),
        ("reads_per_s".to_owned(), view.reads_per_s.into()),
        ("writes_per_s".to_owned(), view.writes_per_s.into()),
        ("silent".to_owned(), silent.into()),
    ])
}

#[cfg(test)]
mod tests {
    use kv_client::NodeId;

    use super::*;

    #[test]
    fn keys_are_shown_with_their_share_and_do_nothing_to_a_terminal() {
        let hot = HotKeyView {
            key: b"hot\x1b[2J".as_slice().into(),
            slot: 5,
            partition: 1,
            ops_per_s: 900,
            error_per_s: 3,
        };
        let view = HotView {
            keys: vec![hot],
            partitions: vec![PartitionLoad {
                partition: 1,
                reads_per_s: 950,
                ..Default::default()
            }],
            reads_per_s: 1_000,
            writes_per_s: 0,
            silent: vec![NodeId(3)],
        };
        let mut text = Vec::new();
        let mut output = Output { json: false, terminal: true, to: &mut text };
        print(&view, false, &mut output).expect("memory takes it");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("90 %") && !text.contains('\x1b'), "{text}");
        assert!(text.ends_with("0000000000000003 did not answer: what it counted is not in it\n"));
        let object = Value::Object(object(&view, true));
        assert_eq!(object["keys"][0]["ops_per_s"], 900);
        assert_eq!(object["partitions"][0]["reads_per_s"], 950);
    }
}
