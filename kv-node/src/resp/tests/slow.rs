//! Clients that pipeline and never read: all together they are held to one bound.

use std::sync::atomic::Ordering::Relaxed;

use super::*;

#[tokio::test(start_paused = true)]
async fn two_hundred_clients_that_never_read_stay_within_the_budget() {
    const SUM: usize = 8 << 20;
    let resp = RespConfig { outputs_bytes_max: SUM, ..RespConfig::default() };
    let door = Door::of(resp, CompatConfig::default(), Rmw::Refuse, 1).await;
    let mut reader = door.connect();
    let value = vec![b'v'; 10_000];
    assert_eq!(reader.ask(&request(&[b"SET", b"k", &value])).await, "+OK|");
    let gets: Vec<u8> = (0..300).flat_map(|_| request(&[b"GET", b"k"])).collect();
    let mut silent = Vec::new();
    let mut most = 0;
    for _ in 0..200 {
        let mut client = door.connect();
        client.send(&gets).await;
        // 3 MB each, of which its stream takes one.
        tokio::time::sleep(Duration::from_millis(20)).await;
        most = most.max(door.0.outputs_bytes.load(Relaxed));
        silent.push(client);
    }
    // One run's answers may go over it before they are counted.
    assert!(most <= SUM + (4 << 20), "{most} bytes were held");
    assert!(most > SUM / 2, "the bound was never near: {most}");
    let mut closed = 0;
    for client in &mut silent {
        client.heard().await;
        closed += usize::from(client.is_closed().await);
    }
    assert!(closed > 100, "{closed} of 200 were closed");
    // A client that reads is served all the while.
    assert_eq!(reader.ask(&request(&[b"PING"])).await, "+PONG|");
    drop(silent);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(door.0.outputs_bytes.load(Relaxed), 0, "what is closed is counted no more");
}
