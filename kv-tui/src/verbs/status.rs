//! `kv status`: how the cluster is, with an exit code that says it too.

use clap::Args;
use serde_json::{Map, Value, json};

use super::Output;
use crate::args::Connect;
use crate::error::Exit;
use crate::model::{Health, Snapshot};
use crate::{Error, source, text};

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Also print every figure of the node.
    #[arg(long)]
    figures: bool,
}

impl Status {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let snapshot = source::snapshot(&connect.admin().await?).await?;
        if output.json {
            output.object(object(&snapshot))?;
        } else {
            self.print(&snapshot, output)?;
        }
        Ok(exit(snapshot.health()))
    }

    fn print(&self, snapshot: &Snapshot, output: &mut Output<'_>) -> Result<(), Error> {
        let status = &snapshot.status;
        let ((up, members), counts) = (snapshot.members_up(), snapshot.partition_counts());
        output.line(snapshot.health().word())?;
        let cluster = status.cluster.map_or_else(|| "none yet".to_owned(), |id| id.to_string());
        let rows = status.rows.map_or_else(String::new, |rows| format!(", {rows} rows"));
        let (memory, disk) = (text::size(status.memory_bytes), text::size(status.disk_bytes));
        let resp = &status.endpoints.resp;
        let lines = [
            ("cluster", cluster),
            ("members", format!("{up} of {members} up")),
            (
                "partitions",
                format!(
                    "{} full, {} short, {} without quorum",
                    counts.full, counts.short, counts.no_quorum
                ),
            ),
            ("node", format!("{} version {} redis {resp}", status.node, status.version)),
            ("up for", text::duration(status.uptime_ms)),
            ("engine", format!("{}, memory {memory}, disk {disk}{rows}", status.engine)),
        ];
        for (name, what) in lines {
            output.line(format!("{name:<11} {what}"))?;
        }
        for alert in snapshot.alerts() {
            output.line(format!("alert       {}", text::shown(alert.as_bytes(), 300)))?;
        }
        if self.figures {
            let rows: Vec<Vec<String>> = status
                .figures
                .iter()
                .map(|(name, value)| vec![name.clone(), value.to_string()])
                .collect();
            output.to.write_all(text::table(&["FIGURE", "VALUE"], &rows).as_bytes())?;
        }
        Ok(())
    }
}

fn exit(health: Health) -> Exit {
    match health {
        Health::Healthy => Exit::Ok,
        Health::Degraded => Exit::Degraded,
        Health::NoQuorum => Exit::NoQuorum,
    }
}

fn object(snapshot: &Snapshot) -> Map<String, Value> {
    let status = &snapshot.status;
    let ((up, members), counts) = (snapshot.members_up(), snapshot.partition_counts());
    let layouts = status
        .layouts
        .iter()
        .map(|layout| json!({"epoch": layout.epoch, "digest": format!("{:016x}", layout.digest)}));
    let layouts: Vec<Value> = layouts.collect();
    let figures: Map<String, Value> =
        status.figures.iter().map(|(name, value)| (name.clone(), (*value).into())).collect();
    let object = json!({
        "health": snapshot.health().word(),
        "node": status.node.to_string(),
        "cluster": status.cluster.map(|id| id.to_string()),
        "version": status.version,
        "uptime_ms": status.uptime_ms,
        "ready": status.ready,
        "endpoints": {
            "resp": status.endpoints.resp,
            "rpc": status.endpoints.rpc,
            "http": status.endpoints.http,
        },
        "layouts": layouts,
        "engine": status.engine,
        "memory_bytes": status.memory_bytes,
        "disk_bytes": status.disk_bytes,
        "rows": status.rows,
        "members": {"up": up, "total": members},
        "partitions": {
            "full": counts.full,
            "short": counts.short,
            "no_quorum": counts.no_quorum,
            "total": counts.total(),
        },
        "alerts": snapshot.alerts(),
        "figures": figures,
    });
    match object {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::three;
    use kv_client::wire::NodeState::{Alive, Down};

    #[test]
    fn the_exit_code_follows_health() {
        let table = [([Alive; 3], 0), ([Alive, Alive, Down], 3), ([Alive, Down, Down], 4)];
        for (states, code) in table {
            assert_eq!(exit(three(states).health()) as u8, code, "{states:?}");
        }
    }

    #[test]
    fn people_and_scripts_are_told_the_same() {
        let snapshot = three([Alive, Alive, Down]);
        let mut text = Vec::new();
        let mut output = Output { json: false, terminal: false, to: &mut text };
        Status { figures: false }.print(&snapshot, &mut output).expect("memory takes it");
        let text = String::from_utf8(text).expect("text");
        assert!(text.starts_with("degraded\n"), "{text}");
        assert!(text.contains("members     2 of 3 up\n"), "{text}");
        assert!(text.contains("0 full, 4 short, 0 without quorum"), "{text}");
        assert!(text.contains("alert       node 0000000000000003 (127.0.0.1:7103) is down"));
        let object = Value::Object(object(&snapshot));
        assert_eq!(object["health"], "degraded");
        assert_eq!(object["members"], json!({"up": 2, "total": 3}));
        assert_eq!(object["partitions"]["short"], 4);
        assert_eq!(object["node"], "0000000000000001");
    }
}
