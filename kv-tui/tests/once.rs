//! The `kv-tui` and `kv` programs themselves, against a node in memory: what they print, and with
//! which exit code they end.

use std::process::{Command, Output};

use kv_client::{Client, Config, MemoryNode, Secret};

/// Runs a program while the node, which lives in this process, goes on answering.
async fn run(program: &'static str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).env_remove("KV_CONNECT").env_remove("KV_SECRET_FILE");
    tokio::task::spawn_blocking(move || command.output().expect("it starts"))
        .await
        .expect("it ends")
}

const TUI: &str = env!("CARGO_BIN_EXE_kv-tui");
const KV: &str = env!("CARGO_BIN_EXE_kv");

#[tokio::test]
async fn a_frame_of_each_tab_is_printed() {
    let node = MemoryNode::start(Secret::default()).await.expect("a port");
    let client = Client::connect(&[node.address()], Config::default()).await.expect("it listens");
    client.add_sibling("cart", "tea").await.expect("written");
    client.add_sibling("cart", "cup").await.expect("written");
    for tab in ["ring", "nodes", "keys", "conflicts", "repair", "events", "scale"] {
        let size = ["--size", "100x30", "--key", "cart"];
        let arguments = [&["--connect", node.address(), "--once", tab][..], &size].concat();
        let out = run(TUI, &arguments).await;
        let text = String::from_utf8(out.stdout).expect("text");
        assert_eq!(out.status.code(), Some(0), "{tab}\n{text}");
        assert_eq!(text.lines().count(), 30, "{tab}\n{text}");
        assert!(text.starts_with(" kv  1 nodes: 1 up"), "{tab}\n{text}");
        let siblings = text.contains("= sibling 2") || text.contains("sibling 2  via");
        assert_eq!(siblings, matches!(tab, "keys" | "conflicts"), "{tab}\n{text}");
    }
}

#[tokio::test]
async fn ends_are_told_apart_by_exit_code() {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let nobody = free.local_addr().expect("bound").to_string();
    drop(free);
    let node = MemoryNode::start(Secret::default()).await.expect("a port");
    let cases = [
        (TUI, vec!["--connect", &nobody, "--once", "ring"], 5),
        (TUI, vec!["--once", "lab"], 2),
        (TUI, vec!["--connect", node.address(), "--once", "ring", "--size", "0x1"], 2),
        // Standard output is no terminal here.
        (TUI, vec!["--connect", node.address()], 2),
        (KV, vec!["--connect", node.address(), "status"], 0),
        (KV, vec!["--connect", node.address(), "get", "nothing"], 1),
        (KV, vec!["--connect", node.address(), "doctor"], 3),
        (KV, vec!["--connect", &nobody, "doctor"], 5),
        (KV, vec!["tui", "--connect", node.address(), "--once", "ring"], 0),
        (KV, vec!["tui", "--once", "ring", "--connect", &nobody], 5),
        (KV, vec!["dance"], 2),
    ];
    for (program, arguments, code) in cases {
        let out = run(program, &arguments).await;
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(code), "{arguments:?} {told}");
    }
}
