//! `kv events`: what happened on all nodes, in plain words, the newest last.

use clap::Args;
use kv_client::wire::EventView;
use serde_json::{Map, Value, json};

use super::Output;
use crate::args::Connect;
use crate::error::Exit;
use crate::source::{Feed, PATIENT_MS};
use crate::{Error, text};

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Events at most.
    #[arg(long, value_name = "EVENTS", default_value_t = 100)]
    count: u32,
    /// Only those that an operator should look at.
    #[arg(long)]
    warn: bool,
    /// Only codes that begin so, such as `member` or `hint.begun`.
    #[arg(long, value_name = "CODE", default_value = "")]
    code: String,
    /// Go on and print what happens, until it is stopped; with --json one object for each event.
    #[arg(long)]
    follow: bool,
}

impl Events {
    /// The newest events whose codes begin so.
    pub(crate) fn of_code(code: &str, count: u32) -> Self {
        Self { count, warn: false, code: code.to_owned(), follow: false }
    }

    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        if self.follow {
            return self.go_on(connect, output).await;
        }
        let view = connect.admin().await?.events(&[], self.count).await?;
        let events = view.events.iter().filter(|event| self.wants(event));
        if output.json {
            let names = |nodes: &[kv_client::NodeId]| -> Vec<String> {
                nodes.iter().map(ToString::to_string).collect()
            };
            let events: Vec<Value> = events.map(|event| object(event).into()).collect();
            let mut all = Map::new();
            all.insert("events".into(), events.into());
            all.insert("lost".into(), names(&view.lost).into());
            all.insert("silent".into(), names(&view.silent).into());
            output.object(all)?;
        } else {
            for event in events {
                output.line(line(event))?;
            }
            for node in &view.silent {
                output.line(format!("{node} did not answer: what it noted is not shown"))?;
            }
        }
        Ok(if view.silent.is_empty() { Exit::Ok } else { Exit::Degraded })
    }

    async fn go_on(&self, connect: &Connect, output: &mut Output<'_>) -> Result<Exit, Error> {
        let (patient, admin) = (connect.quick_admin(PATIENT_MS).await?, connect.admin().await?);
        let mut feed = Feed::default();
        loop {
            let snapshot = feed.next(&patient, &admin).await?;
            for event in snapshot.events.iter().filter(|event| self.wants(event)) {
                if output.json {
                    output.object(object(event))?;
                } else {
                    output.line(line(event))?;
                }
            }
        }
    }

    fn wants(&self, event: &EventView) -> bool {
        (event.warns || !self.warn) && event.code.starts_with(&self.code)
    }
}

fn line(event: &EventView) -> String {
    let word = if event.warns { "WARN" } else { "INFO" };
    let (when, on) = (text::moment(event.unix_ms), event.on);
    let code = text::shown(event.code.as_bytes(), 40);
    format!("{when} {word} {on} {code:<17} {}", text::shown(event.text.as_bytes(), 400))
}

fn object(event: &EventView) -> Map<String, Value> {
    let object = json!({
        "on": event.on.to_string(),
        "number": event.number,
        "unix_ms": event.unix_ms,
        "code": event.code,
        "warns": event.warns,
        "about": event.about.map(|node| node.to_string()),
        "text": event.text,
    });
    match object {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use kv_client::NodeId;

    use super::*;

    #[test]
    fn a_line_and_an_object_say_the_same() {
        let event = EventView {
            on: NodeId(7),
            number: 3,
            unix_ms: 1_783_071_668_000,
            code: "member.down".into(),
            warns: true,
            about: Some(NodeId(8)),
            text: "0000000000000008 is down\x1b[2J".into(),
        };
        let shown = line(&event);
        assert!(shown.contains("WARN 0000000000000007 member.down"), "{shown}");
        assert!(!shown.contains('\x1b'), "{shown}");
        let object = object(&event);
        assert_eq!(object["code"], "member.down");
        assert_eq!(object["about"], "0000000000000008");
        let verb = Events { count: 1, warn: true, code: "member".into(), follow: false };
        assert!(verb.wants(&event));
        assert!(!verb.wants(&EventView { warns: false, ..event.clone() }));
        assert!(!verb.wants(&EventView { code: "hint.begun".into(), ..event }));
    }
}
