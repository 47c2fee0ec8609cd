//! `kv cluster split`: twice as many partitions, and no data moves.
//!
//! Without an epoch it is a plan and changes nothing; the plan ends with the line that does it,
//! which names the epoch that the plan was made after.

use clap::Args;
use kv_client::Admin;
use kv_client::wire::SplitPlan;
use serde_json::Map;

use super::Output;
use super::transfers::until_stable;
use crate::{Error, text};

/// Arguments of `split`.
#[derive(Debug, Args)]
pub(crate) struct Split {
    /// Do it, after this epoch, as the plan says. Without it the plan is shown.
    #[arg(long, value_name = "EPOCH")]
    epoch: Option<u64>,
    /// Do not wait until all nodes are through.
    #[arg(long, requires = "epoch")]
    detach: bool,
}

impl Split {
    pub(crate) async fn run(&self, admin: &Admin, output: &mut Output<'_>) -> Result<(), Error> {
        let Some(after) = self.epoch else {
            return print(&admin.plan_split().await?, output);
        };
        let epoch = admin.split(after).await?;
        if !output.json {
            output.line(format!("epoch {epoch}: it is decided"))?;
        }
        if !self.detach {
            until_stable(admin, epoch, output).await?;
        }
        let partitions = admin.ring().await?.partitions();
        if output.json {
            output.object(Map::from_iter([
                ("epoch".to_owned(), epoch.into()),
                ("stable".to_owned(), (!self.detach).into()),
                ("partitions".to_owned(), partitions.into()),
            ]))?;
        } else if self.detach {
            output.line("watch it with: kv cluster status")?;
        } else {
            output.line(format!("epoch {epoch} is stable, of {partitions} partitions"))?;
        }
        Ok(())
    }
}

fn print(plan: &SplitPlan, output: &mut Output<'_>) -> Result<(), Error> {
    let SplitPlan { epoch, before, after, copies, bytes } = *plan;
    if output.json {
        output.object(Map::from_iter([
            ("epoch".to_owned(), epoch.into()),
            ("before".to_owned(), before.into()),
            ("after".to_owned(), after.into()),
            ("copies".to_owned(), copies.into()),
            ("bytes".to_owned(), bytes.into()),
        ]))?;
        return Ok(());
    }
    output
        .line(format!("{before} partitions now, {after} then; they are not put together again"))?;
    let size = text::size(bytes);
    output.line(format!("{copies} copies of partitions to make, {size}; every quorum is kept"))?;
    output.line(format!("nothing has changed; to do it: kv cluster split --epoch {epoch}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_moves_nothing_and_ends_with_the_line_that_does_it() {
        let plan = SplitPlan { epoch: 7, before: 1_024, after: 2_048, copies: 0, bytes: 0 };
        let mut text = Vec::new();
        let mut output = Output { json: false, terminal: false, to: &mut text };
        print(&plan, &mut output).expect("memory takes it");
        let text = String::from_utf8(text).expect("text");
        assert!(text.starts_with("1024 partitions now, 2048 then"), "{text}");
        assert!(text.contains("0 copies of partitions to make, 0"), "{text}");
        assert!(text.ends_with("kv cluster split --epoch 7\n"), "{text}");
        let mut text = Vec::new();
        let mut output = Output { json: true, terminal: false, to: &mut text };
        print(&plan, &mut output).expect("memory takes it");
        let text = String::from_utf8(text).expect("text");
        assert_eq!(text, "{\"after\":2048,\"before\":1024,\"bytes\":0,\"copies\":0,\"epoch\":7}\n");
    }
}
