//! `kv cluster transfers`, and the waiting of `commit`: how far nodes have got with what they fill.

use std::time::Duration;

use clap::Args;
use kv_client::Admin;
use kv_client::wire::{LayoutProgress, LayoutsView};
use serde_json::{Map, Value, json};

use super::Output;
use crate::{Error, text};

/// Between two looks.
const LOOK_AGAIN_MS: u64 = 500;
/// Between two lines of a command that waits.
const SAY_AGAIN_LOOKS: u32 = 4;
/// So many looks may fail in a row: the asked node may be one that leaves.
const FAILED_LOOKS_MAX: u32 = 20;

/// Arguments of `transfers`.
#[derive(Debug, Args)]
pub(crate) struct Transfers {
    /// Go on until nothing moves any more.
    #[arg(long)]
    watch: bool,
}

impl Transfers {
    pub(crate) async fn run(&self, admin: &Admin, output: &mut Output<'_>) -> Result<(), Error> {
        let layouts = admin.layouts().await?;
        if output.json {
            output.object(object(&layouts))?;
        } else {
            print(&layouts, output)?;
        }
        if self.watch {
            until_stable(admin, output).await?;
        }
        Ok(())
    }
}

/// Waits until one layout is live, and says how far it is meanwhile.
pub(super) async fn until_stable(admin: &Admin, output: &mut Output<'_>) -> Result<(), Error> {
    let (mut looks, mut failed) = (0, 0);
    loop {
        match admin.layouts().await {
            Ok(layouts) if layouts.live.len() == 1 => return Ok(()),
            Ok(layouts) => {
                failed = 0;
                if !output.json && looks % SAY_AGAIN_LOOKS == 0 {
                    output.line(line(&layouts))?;
                }
            }
            Err(error) if failed >= FAILED_LOOKS_MAX => return Err(error.into()),
            Err(_) => failed += 1,
        }
        looks += 1;
        tokio::time::sleep(Duration::from_millis(LOOK_AGAIN_MS)).await;
    }
}

/// All nodes together, in one line.
pub(crate) fn line(layouts: &LayoutsView) -> String {
    let sum = |of: fn(&LayoutProgress) -> u64| -> u64 { layouts.members.iter().map(of).sum() };
    let begun = sum(|member| u64::from(member.begun));
    let left = sum(|member| u64::from(member.left));
    let moved = text::size(sum(|member| member.bytes));
    let longest = layouts.members.iter().filter_map(left_ms).max();
    let rest = longest.map_or_else(String::new, |ms| format!(", about {} s left", ms / 1_000 + 1));
    let waiting = layouts.members.iter().filter(|member| !member.waits_for.is_empty()).count();
    format!(
        "{} of {begun} partitions filled, {moved} moved{rest}; {waiting} of {} nodes unfinished",
        begun.saturating_sub(left),
        layouts.members.len()
    )
}

/// What a node's fills will take, as they went so far.
pub(crate) fn left_ms(member: &LayoutProgress) -> Option<u64> {
    let done = u64::from(member.begun.checked_sub(member.left)?);
    if done == 0 || member.left == 0 {
        return None;
    }
    Some(member.ms.saturating_mul(u64::from(member.left)) / done)
}

fn print(layouts: &LayoutsView, output: &mut Output<'_>) -> Result<(), Error> {
    if layouts.live.len() == 1 {
        output.line("nothing moves: one layout is live")?;
        return Ok(());
    }
    let rows: Vec<Vec<String>> = layouts.members.iter().map(row).collect();
    let heads = ["NODE", "TO FILL", "OF", "MOVED", "FOR", "LEFT", "WAITS FOR"];
    output.to.write_all(text::table(&heads, &rows).as_bytes())?;
    Ok(())
}

fn row(member: &LayoutProgress) -> Vec<String> {
    let seconds = |ms: u64| format!("{} s", ms.div_ceil(1_000));
    let waits = if member.waits_for.is_empty() { "-" } else { &member.waits_for };
    vec![
        member.node.to_string(),
        member.left.to_string(),
        member.begun.to_string(),
        text::size(member.bytes),
        seconds(member.ms),
        left_ms(member).map_or_else(|| "-".to_owned(), seconds),
        text::shown(waits.as_bytes(), 80),
    ]
}

fn object(layouts: &LayoutsView) -> Map<String, Value> {
    let transfers: Vec<Value> = layouts
        .members
        .iter()
        .map(|member| {
            json!({
                "node": member.node.to_string(),
                "left": member.left,
                "begun": member.begun,
                "bytes": member.bytes,
                "ms": member.ms,
                "left_ms": left_ms(member),
                "waits_for": member.waits_for,
            })
        })
        .collect();
    let stable = layouts.live.len() == 1;
    Map::from_iter([
        ("stable".to_owned(), stable.into()),
        ("transfers".to_owned(), transfers.into()),
    ])
}

#[cfg(test)]
mod tests {
    use kv_client::NodeId;
    use kv_client::wire::LayoutName;

    use super::*;

    #[test]
    fn it_says_what_is_left_and_for_how_long() {
        let name = |epoch| LayoutName { epoch, digest: epoch };
        let still = LayoutProgress { node: NodeId(1), seen: 8, ..LayoutProgress::default() };
        let filling = LayoutProgress {
            node: NodeId(4),
            begun: 100,
            left: 75,
            bytes: 3 << 20,
            ms: 5_000,
            waits_for: "75 partitions to fill".into(),
            ..still.clone()
        };
        let layouts = LayoutsView {
            live: vec![name(7), name(8)],
            members: vec![still, filling],
            removed: Vec::new(),
        };
        let line = line(&layouts);
        assert!(
            line.starts_with("25 of 100 partitions filled, 3.0 MiB moved, about 16 s"),
            "{line}"
        );
        let mut text = Vec::new();
        let mut output = Output { json: false, terminal: false, to: &mut text };
        print(&layouts, &mut output).expect("memory takes it");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("15 s") && text.contains("75 partitions"), "{text}");
        let object = Value::Object(object(&layouts));
        assert_eq!(
            (&object["stable"], &object["transfers"][1]["left_ms"]),
            (&json!(false), &json!(15_000))
        );
        assert_eq!(object["transfers"][0]["left_ms"], Value::Null);
    }
}
