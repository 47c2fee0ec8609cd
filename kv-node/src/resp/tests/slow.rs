//! Clients that pipeline and never read, begin requests and never end them, queue and never
//! execute, or ask for much at once: all together they are held to one bound.

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

#[tokio::test(start_paused = true)]
async fn a_hundred_clients_that_never_end_a_request_stay_within_the_budget() {
    // 900 KB of a request of which one argument is missing.
    let key = vec![b'k'; 9_000];
    let keys = (0..100).flat_map(|_| [b"$9000\r\n", &key[..], b"\r\n"].concat());
    let unended: Vec<u8> = b"*102\r\n$4\r\nMGET\r\n".iter().copied().chain(keys).collect();
    begun_stay_within_the_budget(&unended).await;
}

#[tokio::test(start_paused = true)]
async fn tiny_arguments_count_with_what_is_kept_for_each() {
    // 300 KB, and eight bytes for each of 50,000 arguments.
    let unended = [b"*1000000\r\n".to_vec(), b"$0\r\n\r\n".repeat(50_000)].concat();
    begun_stay_within_the_budget(&unended).await;
}

async fn begun_stay_within_the_budget(unended: &[u8]) {
    const SUM: usize = 8 << 20;
    let resp = RespConfig { queries_bytes_max: SUM, ..RespConfig::default() };
    let door = Door::of(resp, CompatConfig::default(), Rmw::Refuse, 1).await;
    let mut other = door.connect();
    let mut begun = Vec::new();
    let mut most = 0;
    for _ in 0..100 {
        let mut client = door.connect();
        let _refused = client.0.write_all(unended).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        most = most.max(door.0.queries_bytes.load(Relaxed));
        begun.push(client);
    }
    // A buffer grows by doubling, and is counted when it was read into.
    assert!(most <= SUM + (4 << 20), "{most} bytes were held");
    assert!(most > SUM / 2, "the bound was never near: {most}");
    let mut refused = 0;
    for client in &mut begun {
        let heard = client.heard().await;
        refused += usize::from(heard.starts_with(b"-BUSY") && client.is_closed().await);
    }
    assert!(refused > 80, "{refused} of 100 were refused");
    assert_eq!(other.ask(&request(&[b"PING"])).await, "+PONG|");
    drop(begun);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(door.0.queries_bytes.load(Relaxed), 0, "what is closed is counted no more");
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_behind_a_wait_counts_and_ends_it() {
    const SUM: usize = 8 << 20;
    let resp = RespConfig { queries_bytes_max: SUM, ..RespConfig::default() };
    let (door, net, nodes) = Door::of_three_with(resp).await;
    // The third node hears nothing: no WAIT for it ends by itself.
    net.network.set_cut("n0", "n2", true);
    net.network.set_cut("n1", "n2", true);
    let value = vec![b'v'; 9_000];
    let sets = (0..50).flat_map(|_| request(&[b"SET", b"k", &value]));
    let wait = [request(&[b"SET", b"a", b"1"]), request(&[b"WAIT", b"2", b"0"])].concat();
    let batch: Vec<u8> = wait.into_iter().chain(sets).collect();
    let (mut clients, mut most) = (Vec::new(), 0);
    for _ in 0..100 {
        let mut client = door.connect();
        client.send(&batch).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        most = most.max(door.0.queries_bytes.load(Relaxed));
        clients.push(client);
    }
    assert!(most <= SUM + (2 << 20), "{most} bytes were held");
    assert!(most > SUM / 2, "the bound was never near: {most}");
    // Who came when there was no room waited no longer, and was served.
    let heard = clients.pop().expect("a hundred").heard().await;
    assert!(shown(&heard).starts_with("+OK|:1|+OK|"), "{}", shown(&heard));
    // The first waits still, until it goes.
    assert_eq!(shown(&clients.swap_remove(0).heard().await), "+OK|");
    drop(clients);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(door.0.queries_bytes.load(Relaxed), 0, "what is closed is counted no more");
    drop(nodes);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_clients_that_queue_and_never_execute_stay_within_the_budget() {
    const SUM: usize = 8 << 20;
    let resp = RespConfig { queries_bytes_max: SUM, ..RespConfig::default() };
    let door = Door::of(resp, CompatConfig::default(), Rmw::Refuse, 1).await;
    let mut other = door.connect();
    let value = vec![b'v'; 9_000];
    // 450 KB each.
    let sets = (0..50).flat_map(|_| request(&[b"SET", b"k", &value]));
    let batch: Vec<u8> = request(&[b"MULTI"]).into_iter().chain(sets).collect();
    let (mut clients, mut refused, mut most) = (Vec::new(), 0, 0);
    for _ in 0..100 {
        let mut client = door.connect();
        let heard = client.ask(&batch).await;
        refused += usize::from(heard.contains("-BUSY all clients together queue too much"));
        most = most.max(door.0.queries_bytes.load(Relaxed));
        clients.push(client);
    }
    assert!(most <= SUM + (1 << 20), "{most} bytes were held");
    assert!(most > SUM / 2, "the bound was never near: {most}");
    assert!((70..95).contains(&refused), "{refused} of 100 were refused");
    // Who was refused is told so by EXEC, and nothing was done.
    let mut last = clients.pop().expect("a hundred");
    let heard = last.ask(&request(&[b"EXEC"])).await;
    assert!(heard.starts_with("-EXECABORT"), "{heard}");
    assert_eq!(other.ask(&request(&[b"GET", b"k"])).await, "$-1|");
    // Who was not executes, and what it held is free for others.
    let mut first = clients.swap_remove(0);
    let heard = first.ask(&request(&[b"EXEC"])).await;
    assert!(heard.starts_with("*50|+OK|+OK|"), "{heard}");
    drop(clients);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(door.0.queries_bytes.load(Relaxed), 0, "what is done or closed is counted no more");
}

#[tokio::test(start_paused = true)]
async fn answers_that_grow_in_one_command_are_counted_while_they_grow() {
    const SUM: usize = 4 << 20;
    let resp = RespConfig { outputs_bytes_max: SUM, ..RespConfig::default() };
    let door = Door::of(resp, CompatConfig::default(), Rmw::Refuse, 1).await;
    let mut client = door.connect();
    let value = vec![b'v'; 10_000];
    assert_eq!(client.ask(&request(&[b"SET", b"k", &value])).await, "+OK|");
    let mut mget: Vec<&[u8]> = vec![b"MGET"];
    // 20 MB in one answer.
    mget.resize(2_001, b"k");
    let heard = client.ask(&request(&mget)).await;
    assert!(heard.starts_with("-BUSY answers to all clients together"), "{heard:.100}");
    assert_eq!(client.ask(&request(&[b"PING"])).await, "+PONG|", "it is served on");
    mget.truncate(101);
    let heard = client.ask(&request(&mget)).await;
    assert!(heard.starts_with("*100|$10000|"), "what fits is answered: {heard:.100}");
    // In EXEC each command is owed an answer: what doesn't fit is refused, what needs no room done.
    client.ask(&request(&[b"MULTI"])).await;
    for _ in 0..9 {
        assert_eq!(client.ask(&request(&mget)).await, "+QUEUED|");
    }
    assert_eq!(client.ask(&request(&[b"SET", b"late", b"1"])).await, "+QUEUED|");
    client.send(&request(&[b"EXEC"])).await;
    let heard = shown(&client.heard().await);
    assert!(heard.starts_with("*10|*100|$10000|"), "{heard:.100}");
    assert!(heard.contains("|-BUSY answers to all clients"), "{} bytes", heard.len());
    assert!(heard.ends_with("|+OK|"), "{} bytes", heard.len());
    assert_eq!(client.ask(&request(&[b"GET", b"late"])).await, "$1|1|");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(door.0.outputs_bytes.load(Relaxed), 0, "what is sent is counted no more");
}
