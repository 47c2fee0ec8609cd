//! `kv autoscale status|history|set|pause|resume`: how many nodes there should be, why, and who
//! says so.

use clap::{Args, Subcommand, ValueEnum};
use kv_client::wire::{AutoscaleChange, AutoscaleView, Bounded, NodeLoadView, ScaleMode};
use serde_json::{Map, Value, json};

use super::{Output, events};
use crate::args::Connect;
use crate::error::Exit;
use crate::{Error, text};

/// What it can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Autoscale {
    /// Shows how many nodes there should be, why, and what is done about it.
    Status,
    /// Shows what was decided and done, the newest last.
    History(HistoryArgs),
    /// Changes the mode or the policy, for the whole cluster.
    Set(Set),
    /// Nothing is added or taken away for a while; decisions are still shown.
    Pause(Pause),
    /// Ends a pause.
    Resume,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Events that are looked through, the newest.
    #[arg(long, value_name = "EVENTS", default_value_t = 1_000)]
    count: u32,
}

/// Arguments of `set`.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// Whether decisions are made, and carried out.
    #[arg(long, value_enum)]
    mode: Option<ModeArg>,
    /// A setting of the policy, such as `nodes_max=8`, as `status` names them.
    #[arg(value_name = "SETTING=NUMBER", value_parser = setting)]
    settings: Vec<(String, u64)>,
}

/// Arguments of `pause`.
#[derive(Debug, Args)]
pub(crate) struct Pause {
    /// For so many seconds; for good without it.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ModeArg {
    /// No decisions are made.
    Off,
    /// They are made and shown.
    Advise,
    /// They are made, shown and carried out.
    Auto,
}

fn setting(text: &str) -> Result<(String, u64), String> {
    let (name, number) = text.split_once('=').ok_or("SETTING=NUMBER is asked for")?;
    let number = number.parse().map_err(|_| format!("{number} is not a number"))?;
    Ok((name.trim().to_owned(), number))
}

impl Autoscale {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let admin = connect.admin().await?;
        let change = match self {
            Self::Status => {
                let view = admin.autoscale().await?;
                if output.json {
                    output.object(object(&view))?;
                } else {
                    print(&view, output)?;
                }
                let failed = !view.failure.is_empty();
                return Ok(if failed { Exit::Degraded } else { Exit::Ok });
            }
            Self::History(history) => {
                return events::Events::of_code("scale.", history.count).run(connect, output).await;
            }
            Self::Set(set) => set.change()?,
            Self::Pause(Pause { seconds }) => {
                let for_ms = seconds.map_or(u64::MAX, |seconds| seconds.saturating_mul(1_000));
                AutoscaleChange { pause_ms: Some(for_ms), ..AutoscaleChange::default() }
            }
            Self::Resume => AutoscaleChange { pause_ms: Some(0), ..AutoscaleChange::default() },
        };
        admin.set_autoscale(change).await?;
        if output.json {
            output.object(Map::from_iter([("done".to_owned(), true.into())]))?;
        } else {
            output.line("OK: the other members hear of it within seconds")?;
        }
        Ok(Exit::Ok)
    }
}

impl Set {
    fn change(&self) -> Result<AutoscaleChange, Error> {
        if self.mode.is_none() && self.settings.is_empty() {
            return Err(Error::Input("say what is to change: --mode, or SETTING=NUMBER".into()));
        }
        let many = |_| Error::Input("too many settings at once".into());
        let mode = self.mode.map(|mode| match mode {
            ModeArg::Off => ScaleMode::Off,
            ModeArg::Advise => ScaleMode::Advise,
            ModeArg::Auto => ScaleMode::Auto,
        });
        let policy = Bounded::new(self.settings.clone()).map_err(many)?;
        Ok(AutoscaleChange { mode, policy, pause_ms: None })
    }
}

/// The mode in a word.
pub(crate) fn mode_word(mode: ScaleMode) -> &'static str {
    match mode {
        ScaleMode::Off => "off",
        ScaleMode::Advise => "advise",
        ScaleMode::Auto => "auto",
        _ => "unknown",
    }
}

/// A pause in words, if there is one.
pub(crate) fn pause(view: &AutoscaleView) -> Option<String> {
    match view.paused_until_ms {
        0 => None,
        u64::MAX => Some("paused until it is resumed".into()),
        until_ms => Some(format!("paused until {}", text::moment(until_ms))),
    }
}

fn print(view: &AutoscaleView, output: &mut Output<'_>) -> Result<(), Error> {
    let (mode, by) = (mode_word(view.mode), &view.provisioner);
    output.line(format!("mode {mode}, nodes come from: {by}"))?;
    if let Some(paused) = pause(view) {
        output.line(paused)?;
    }
    let (members, desired) = (view.members, view.desired);
    output.line(format!("{members} nodes, there should be {desired}"))?;
    if !view.verdict.is_empty() {
        let reason = text::shown(view.reason.as_bytes(), 400);
        output.line(format!("{}: {reason}", text::shown(view.verdict.as_bytes(), 20)))?;
    }
    if let Some(evaluator) = view.evaluator {
        let doing = if view.doing.is_empty() { "decides" } else { &view.doing };
        output.line(format!("{evaluator}: {}", text::shown(doing.as_bytes(), 200)))?;
    }
    if !view.failure.is_empty() {
        output.line(format!("failed: {}", text::shown(view.failure.as_bytes(), 200)))?;
    }
    for node in &view.waiting {
        output.line(format!("{node} is empty and waits to be joined"))?;
    }
    let rows: Vec<Vec<String>> = view.loads.iter().map(row).collect();
    let head = ["NODE", "OP/S", "CPU", "DISK", "WAIT"];
    output.to.write_all(text::table(&head, &rows).as_bytes())?;
    let settings: Vec<String> =
        view.policy.iter().map(|(name, value)| format!("{name}={value}")).collect();
    output.line(format!("policy: {}", settings.join(" ")))?;
    Ok(())
}

fn row(load: &NodeLoadView) -> Vec<String> {
    let cpu = load.cpu_per_mille.map(|per_mille| format!("{} %", per_mille / 10));
    vec![
        load.node.to_string(),
        text::count(load.ops_per_s),
        cpu.unwrap_or_else(|| "--".into()),
        text::size(load.disk_bytes),
        text::latency(load.wait_us.into()),
    ]
}

fn object(view: &AutoscaleView) -> Map<String, Value> {
    let load = |load: &NodeLoadView| {
        json!({
            "node": load.node.to_string(),
            "ops_per_s": load.ops_per_s,
            "cpu_per_mille": load.cpu_per_mille,
            "disk_bytes": load.disk_bytes,
            "wait_us": load.wait_us,
        })
    };
    let loads: Vec<Value> = view.loads.iter().map(load).collect();
    let waiting: Vec<String> = view.waiting.iter().map(ToString::to_string).collect();
    let policy = view.policy.iter().map(|(name, value)| (name.clone(), (*value).into()));
    let object = json!({
        "mode": mode_word(view.mode),
        "paused_until_ms": view.paused_until_ms,
        "provisioner": view.provisioner,
        "evaluator": view.evaluator.map(|node| node.to_string()),
        "policy": policy.collect::<Map<String, Value>>(),
        "members": view.members,
        "desired": view.desired,
        "verdict": view.verdict,
        "reason": view.reason,
        "doing": view.doing,
        "failure": view.failure,
        "waiting": waiting,
        "loads": loads,
    });
    if let Value::Object(object) = object { object } else { Map::new() }
}

#[cfg(test)]
mod tests {
    use kv_client::NodeId;

    use super::*;

    #[test]
    fn status_says_how_many_there_should_be_and_why() {
        let load = NodeLoadView { node: NodeId(7), ops_per_s: 1_234, ..NodeLoadView::default() };
        let view = AutoscaleView {
            mode: ScaleMode::Auto,
            paused_until_ms: u64::MAX,
            provisioner: "command".into(),
            evaluator: Some(NodeId(3)),
            policy: vec![("nodes_min".into(), 3)],
            members: 3,
            desired: 4,
            verdict: "out".into(),
            reason: "too few\x1b".into(),
            failure: "no quota".into(),
            waiting: vec![NodeId(9)],
            loads: vec![load],
            ..AutoscaleView::default()
        };
        let mut text = Vec::new();
        let mut output = Output { json: false, terminal: true, to: &mut text };
        print(&view, &mut output).expect("memory takes it");
        let text = String::from_utf8(text).expect("text");
        for wanted in [
            "mode auto, nodes come from: command\npaused until it is resumed\n",
            "3 nodes, there should be 4\nout: too few",
            "0000000000000003: decides\nfailed: no quota\n",
            "0000000000000009 is empty and waits to be joined\n",
            "policy: nodes_min=3\n",
        ] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
        assert!(!text.contains('\x1b'));
        let object = Value::Object(object(&view));
        assert_eq!(object["policy"]["nodes_min"], 3);
        assert_eq!(object["loads"][0]["cpu_per_mille"], Value::Null);
        assert_eq!(object["evaluator"], "0000000000000003");
    }

    #[test]
    fn a_change_says_something() {
        let set = Set { mode: None, settings: Vec::new() };
        assert!(matches!(set.change(), Err(Error::Input(_))));
        let settings = vec![setting("nodes_max=8").expect("a setting")];
        let change = Set { mode: Some(ModeArg::Advise), settings }.change().expect("a change");
        assert_eq!(change.mode, Some(ScaleMode::Advise));
        assert_eq!(change.policy.as_slice(), [("nodes_max".to_owned(), 8)]);
        assert!(setting("nodes_max").is_err() && setting("nodes_max=many").is_err());
    }
}
