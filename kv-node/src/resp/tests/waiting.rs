//! WAIT as a client sees it: beside a replica that gets nothing.

use tokio::io::AsyncWriteExt;

use super::{Client, Door, request};

async fn cut_off() -> (Client, impl Sized) {
    let (door, net, nodes) = Door::of_three().await;
    net.network.set_cut("n0", "n2", true);
    let mut client = door.connect();
    assert_eq!(client.ask(&request(&[b"SET", b"k", b"v"])).await, "+OK|");
    (client, (door, net, nodes))
}

#[tokio::test(start_paused = true)]
async fn wait_ends_with_its_time_and_later_commands_keep_their_order() {
    let (mut client, _world) = cut_off().await;
    assert_eq!(client.ask(b"WAIT 1 0\r\n").await, ":1|", "one other has it");
    assert_eq!(client.ask(b"SET k v\r\nWAIT 2 100\r\nPING\r\n").await, "+OK|:1|+PONG|");
    client.send(b"SET k v\r\nWAIT 2 1000\r\n").await;
    assert_eq!(client.heard().await, b"+OK\r\n", "what came before is not kept back");
    client.send(b"ECHO a\r\nECHO b\r\n").await;
    assert_eq!(client.heard().await, b"", "nothing overtakes");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(client.heard().await, b":1\r\n$1\r\na\r\n$1\r\nb\r\n");
}

#[tokio::test(start_paused = true)]
async fn wait_between_multi_and_exec_does_not_wait() {
    let (mut client, _world) = cut_off().await;
    let queued = "MULTI\r\nSET k v\r\nWAIT 2 0\r\nPING\r\nEXEC\r\n";
    let told = client.ask(queued.as_bytes()).await;
    assert_eq!(told, "+OK|+QUEUED|+QUEUED|+QUEUED|*3|+OK|:1|+PONG|");
}

#[tokio::test(start_paused = true)]
async fn wait_for_ever_ends_with_its_client() {
    let (mut client, _world) = cut_off().await;
    client.send(b"WAIT 2 0\r\n").await;
    assert_eq!(client.heard().await, b"", "it waits");
    client.0.shutdown().await.expect("the door is there");
    assert_eq!(client.heard().await, b":1\r\n", "as if its time were over");
    assert!(client.is_closed().await);
}
