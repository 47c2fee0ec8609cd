//! `kv cluster transfers`, and the waiting of `commit`: how far nodes have got with what they fill.

use std::time::Duration;

use clap::Args;
use kv_client::wire::{LayoutProgress, LayoutsView};
use kv_client::{Admin, NodeId};
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
            look_until(admin, output, |layouts| Ok(layouts.live.len() == 1)).await?;
        }
        Ok(())
    }
}

/// How an epoch that was decided stands, as the asked node tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// It alone is live: what it changed is over.
    Stable,
    /// Older layouts are live beside it.
    Moving,
    /// The asked node has not heard of it yet.
    Behind,
    /// A later epoch came on top: what it asked for may have been called off.
    Overtaken(u64),
}

impl Stand {
    fn of(layouts: &LayoutsView, decided: u64) -> Self {
        match layouts.live.iter().map(|name| name.epoch).max() {
            Some(newest) if newest > decided => Self::Overtaken(newest),
            Some(newest) if newest == decided && layouts.live.len() == 1 => Self::Stable,
            Some(newest) if newest == decided => Self::Moving,
            _ => Self::Behind,
        }
    }
}

/// Waits until the layout of this epoch alone is live, and says how far it is meanwhile. That one
/// layout is live says nothing of which: the change may have been called off by then, or the asked
/// node may not know of it.
///
/// # Errors
/// A later epoch came on top, or nobody answers.
pub(super) async fn until_stable(
    admin: &Admin,
    decided: u64,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    look_until(admin, output, |layouts| match Stand::of(layouts, decided) {
        Stand::Stable => Ok(true),
        Stand::Moving | Stand::Behind => Ok(false),
        Stand::Overtaken(newest) => Err(overtaken(decided, newest)),
    })
    .await
}

/// Those of the nodes that are members still in the layout of this epoch.
///
/// # Errors
/// A later epoch came on top, or nobody who knows of this one answers.
pub(super) async fn members_among(
    admin: &Admin,
    decided: u64,
    nodes: &[NodeId],
) -> Result<Vec<NodeId>, Error> {
    let mut looks = 0;
    loop {
        let ring = admin.ring().await?;
        if ring.epoch > decided {
            return Err(overtaken(decided, ring.epoch));
        }
        if ring.epoch == decided {
            return Ok(nodes.iter().copied().filter(|node| ring.nodes.contains(node)).collect());
        }
        if looks >= FAILED_LOOKS_MAX {
            let why = format!("the asked node knows epoch {}, not yet {decided}", ring.epoch);
            return Err(Error::Unsettled(format!("{why}: end no node before it does")));
        }
        looks += 1;
        tokio::time::sleep(Duration::from_millis(LOOK_AGAIN_MS)).await;
    }
}

fn overtaken(decided: u64, newest: u64) -> Error {
    Error::Unsettled(format!(
        "epoch {newest} came on top of epoch {decided}, which may have been called off: end no \
         node that was to leave; kv cluster history tells what changed, a new plan what is left"
    ))
}

/// Looks until it is over, and says how far it is meanwhile.
async fn look_until(
    admin: &Admin,
    output: &mut Output<'_>,
    is_over: impl Fn(&LayoutsView) -> Result<bool, Error>,
) -> Result<(), Error> {
    let (mut looks, mut failed) = (0, 0);
    loop {
        match admin.layouts().await {
            Ok(layouts) => {
                if is_over(&layouts)? {
                    return Ok(());
                }
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
    use kv_client::wire::LayoutName;

    use super::*;

    #[test]
    fn only_the_epoch_that_was_decided_is_waited_for() {
        let stand = |live: &[u64]| {
            let name = |epoch: &u64| LayoutName { epoch: *epoch, digest: *epoch };
            let live = live.iter().map(name).collect();
            Stand::of(&LayoutsView { live, ..LayoutsView::default() }, 8)
        };
        assert_eq!(stand(&[8]), Stand::Stable);
        assert_eq!(stand(&[7, 8]), Stand::Moving);
        assert_eq!(stand(&[7]), Stand::Behind, "a node that has not heard of it");
        assert_eq!(stand(&[]), Stand::Behind);
        assert_eq!(stand(&[7, 8, 9]), Stand::Overtaken(9));
        assert_eq!(stand(&[9]), Stand::Overtaken(9), "it was called off, and that is over too");
        let told = overtaken(8, 9);
        assert_eq!(told.exit(), crate::error::Exit::Degraded);
        assert!(told.to_string().contains("end no node"), "{told}");
    }

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
