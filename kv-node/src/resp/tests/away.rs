//! Clients that are sent away, since their node takes none any more.

use std::time::Duration;

use super::Door;

#[tokio::test(start_paused = true)]
async fn who_is_sent_away_is_answered_first() {
    let door = Door::plain().await;
    let (mut idle, mut multi, mut half) = (door.connect(), door.connect(), door.connect());
    assert_eq!(idle.ask(b"PING\r\n").await, "+PONG|");
    assert_eq!(multi.ask(b"MULTI\r\nSET k v\r\n").await, "+OK|+QUEUED|");
    assert_eq!(half.ask(b"*2\r\n$4\r\nECHO\r\n$5\r\nhel").await, "", "half a request");
    door.0.send_away();
    assert!(idle.is_closed().await, "it asks nothing");
    assert!(!multi.is_closed().await && !half.is_closed().await, "they are in the midst");
    assert_eq!(half.ask(b"lo\r\nPING\r\n").await, "$5|hello|+PONG|");
    assert!(half.is_closed().await);
    assert_eq!(multi.ask(b"EXEC\r\n").await, "*1|+OK|");
    assert!(multi.is_closed().await);
    let mut late = door.connect();
    assert!(late.is_closed().await, "who came just before the door closed goes too");
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_too_late_is_not_done_and_breaks_nothing() {
    let door = Door::plain().await;
    let mut client = door.connect();
    assert_eq!(client.ask(b"SET k first\r\n").await, "+OK|");
    door.0.send_away();
    tokio::time::sleep(Duration::from_millis(10)).await;
    client.send(b"SET k second\r\n").await;
    assert_eq!(client.heard().await, b"", "the connection ends, without an answer");
    door.0.closing.store(false, std::sync::atomic::Ordering::Release);
    assert_eq!(door.connect().ask(b"GET k\r\n").await, "$5|first|");
}

#[tokio::test(start_paused = true)]
async fn who_never_pauses_is_served_for_a_while_only() {
    let door = Door::plain().await;
    let mut client = door.connect();
    assert_eq!(client.ask(b"PING\r\n").await, "+PONG|");
    // Something is always there, and reads end with a whole request.
    let many = b"PING  \r\n".repeat(300_000);
    let sent = tokio::spawn(async move {
        let _cut = tokio::io::AsyncWriteExt::write_all(&mut client.0, &many).await;
        let mut told = Vec::new();
        let _closed = tokio::io::AsyncReadExt::read_to_end(&mut client.0, &mut told).await;
        told.len() / b"+PONG\r\n".len()
    });
    tokio::task::yield_now().await;
    door.0.send_away();
    let answered = sent.await.expect("the client ends");
    assert!(answered > 0 && answered < 300_000, "{answered}");
}
