//! `kv doctor`: what an operator should look at, each with the next step.

use clap::Args;
use serde_json::{Map, Value, json};

use super::Output;
use crate::args::Connect;
use crate::error::Exit;
use crate::model::{Finding, Lint, lints};
use crate::{Error, source, text};

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Also print what is well.
    #[arg(long)]
    all: bool,
}

impl Doctor {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let admin = connect.admin().await?;
        let snapshot = source::Feed::default().next(&admin, &admin).await?;
        let lints = lints(&snapshot);
        if output.json {
            let all: Vec<Value> = lints.iter().map(object).collect();
            output.object(Map::from_iter([("lints".to_owned(), all.into())]))?;
        } else {
            self.print(&lints, output)?;
        }
        Ok(exit(&lints))
    }

    fn print(&self, lints: &[Lint], output: &mut Output<'_>) -> Result<(), Error> {
        let shown = |lint: &&Lint| self.all || lint.finding != Finding::Well;
        for lint in lints.iter().filter(shown) {
            let what = text::shown(lint.what.as_bytes(), 600);
            output.line(format!("{:<7} {:<12} {what}", lint.finding.word(), lint.name))?;
            if !lint.fix.is_empty() {
                output.line(format!("{:<20} next: {}", "", lint.fix))?;
            }
        }
        let well = lints.iter().filter(|lint| lint.finding == Finding::Well).count();
        output.line(format!("{well} of {} checks passed", lints.len()))?;
        Ok(())
    }
}

/// What is not known is no reason to call an operator: the next run may know it.
fn exit(lints: &[Lint]) -> Exit {
    match lints.iter().map(|lint| lint.finding).max() {
        Some(Finding::Bad) => Exit::NoQuorum,
        Some(Finding::Warn) => Exit::Degraded,
        _ => Exit::Ok,
    }
}

fn object(lint: &Lint) -> Value {
    json!({
        "name": lint.name,
        "finding": lint.finding.word(),
        "what": lint.what,
        "fix": lint.fix,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn what_is_ill_is_printed_with_the_next_step() {
        let print = |lints: &[Lint]| {
            let mut printed = Vec::new();
            let mut output = Output { json: false, terminal: false, to: &mut printed };
            Doctor { all: false }.print(lints, &mut output).expect("a buffer");
            String::from_utf8(printed).expect("text")
        };
        let (well, ill) = (lints(&fixture::told()), lints(&fixture::ill()));
        assert_eq!(print(&well), "11 of 11 checks passed\n");
        assert_eq!((exit(&well), exit(&ill)), (Exit::Ok, Exit::Degraded));
        let text = print(&ill);
        assert!(text.contains("warn    quorum-risk  do not stop "), "{text}");
        assert!(text.contains("next: bring the members that are down back first"), "{text}");
    }
}
