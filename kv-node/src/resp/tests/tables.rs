//! Conversations from text tables.

use super::{Client, Door, shown};
use crate::cluster::record::Rmw;
use crate::config::{AnnounceAs, CompatConfig, ConfigSet, RespConfig, SecretText};
use crate::resp::glob::Glob;

/// Runs a table; every line that differs is told.
async fn converse(door: &Door, table: &str) {
    let mut client: Option<Client> = None;
    let mut answer = String::new();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (number, line) in table.lines().enumerate() {
        let (mark, rest) = line.split_at(line.len().min(2));
        match mark.trim_end() {
            "" => client = None,
            "#" => {}
            ">" => {
                let client = client.get_or_insert_with(|| door.connect());
                client.send(format!("{rest}\r\n").as_bytes()).await;
                answer = shown(&client.heard().await);
            }
            "<" | "~" => {
                checked += 1;
                let fits = if mark.starts_with('<') {
                    answer == rest
                } else {
                    Glob::new(rest.as_bytes()).expect("a short pattern").matches(answer.as_bytes())
                };
                if !fits {
                    wrong
                        .push(format!("line {}: wanted {rest}\n      got    {answer}", number + 1));
                }
            }
            other => panic!("line {}: what is {other:?}?", number + 1),
        }
    }
    assert!(checked > 0, "the table checks nothing");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn commands_without_promises() {
    converse(&Door::plain().await, include_str!("plain.txt")).await;
}

#[tokio::test(start_paused = true)]
async fn promises_where_one_node_decides() {
    let (resp, compat) = (RespConfig::default(), CompatConfig::default());
    let door = Door::of(resp, compat, Rmw::BestEffort, 1).await;
    converse(&door, include_str!("promises.txt")).await;
}

#[tokio::test(start_paused = true)]
async fn a_password() {
    let resp = RespConfig { requirepass: SecretText::new("sesame"), ..RespConfig::default() };
    let door = Door::of(resp, CompatConfig::default(), Rmw::Refuse, 1).await;
    converse(&door, include_str!("password.txt")).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_layout() {
    let resp = RespConfig { announce: AnnounceAs::Cluster, ..RespConfig::default() };
    let compat = CompatConfig { config_set: ConfigSet::Accept };
    let door = Door::of(resp, compat, Rmw::Refuse, 3).await;
    converse(&door, include_str!("loading.txt")).await;
}
