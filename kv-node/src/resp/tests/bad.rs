//! Bad input: the right error, the connection alive where it can be, memory bounded, the node
//! untouched. And what is merely unusual: binary keys, pipelines, requests in pieces.

use std::fmt::Write as _;

use super::{Client, Door, request, shown};
use crate::cluster::record::Rmw;
use crate::config::{CompatConfig, RespConfig};

async fn alive(client: &mut Client) {
    assert_eq!(client.ask(b"PING\r\n").await, "+PONG|", "the connection is in step");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_refused_in_its_place() {
    let door = Door::plain().await;
    let mut client = door.connect();
    let value = vec![b'v'; 11 * 1024];
    let pair = client.ask(&request(&[b"SET", b"k", &value])).await;
    assert_eq!(pair, "-ERR pair of 11265 bytes is over the limit of 10240 bytes|");
    let key = vec![b'k'; 64 * 1024];
    let told = client.ask(&request(&[b"SET", &key, b"v"])).await;
    assert_eq!(told, "-ERR key of 65536 bytes is over the limit of 65509 bytes|");
    assert_eq!(client.ask(&request(&[b"GET", &key])).await, "$-1|");
    alive(&mut client).await;
    // Over what is buffered at all: skipped as it comes.
    let mut bytes = request(&[b"SET", b"k", &vec![b'v'; 900 * 1024]]);
    bytes.extend_from_slice(b"ECHO after\r\n");
    let told = client.ask(&bytes).await;
    assert!(told.starts_with("-ERR argument of 921600 bytes is over the limit of "), "{told}");
    assert!(told.ends_with("|$5|after|"), "{told}");
    // One refused SET of a run does not spoil its neighbours.
    let mut bytes = request(&[b"SET", b"a", b"1"]);
    bytes.extend(request(&[b"SET", b"b", &value]));
    bytes.extend(request(&[b"SET", b"c", b"3"]));
    bytes.extend(request(&[b"MGET", b"a", b"b", b"c"]));
    let told = client.ask(&bytes).await;
    assert_eq!(
        told,
        "+OK|-ERR pair of 11265 bytes is over the limit of 10240 bytes|+OK|*3|$1|1|$-1|$1|3|"
    );
}

#[tokio::test(start_paused = true)]
async fn broken_framing_is_told_and_closes() {
    let door = Door::plain().await;
    for (bytes, told) in [
        (&b"*1\r\n$-5\r\n"[..], "-ERR Protocol error: invalid bulk length|"),
        (b"*1\r\n$99999999999\r\n", "-ERR Protocol error: invalid bulk length|"),
        (b"*99999999999\r\n", "-ERR Protocol error: invalid multibulk length|"),
        (b"*2\r\n*1\r\n$1\r\na\r\n", "-ERR Protocol error: expected '$', got '*'|"),
        (b"PING\r\n*1\r\n:1\r\n", "+PONG|-ERR Protocol error: expected '$', got ':'|"),
        (b"SET \"a\r\n", "-ERR Protocol error: unbalanced quotes in request|"),
    ] {
        let mut client = door.connect();
        assert_eq!(client.ask(bytes).await, told, "{}", shown(bytes));
        assert!(client.is_closed().await, "{}", shown(bytes));
    }
    let mut client = door.connect();
    let line = client.ask(&vec![b'a'; 900 * 1024]).await;
    assert_eq!(line, "-ERR Protocol error: too big inline request|");
    assert!(client.is_closed().await);
    // Nothing to do, and nothing is answered.
    let mut client = door.connect();
    assert_eq!(client.ask(b"*-1\r\n*0\r\n\r\n").await, "");
    alive(&mut client).await;
    let mut client = door.connect();
    assert_eq!(client.ask(b"POST / HTTP/1.1\r\nHost: a\r\n").await, "");
    assert!(client.is_closed().await, "a browser is not answered");
}

#[tokio::test(start_paused = true)]
async fn before_auth_little_is_taken() {
    let requirepass = crate::config::SecretText::new("sesame");
    let resp = RespConfig { requirepass, ..RespConfig::default() };
    let door = Door::of(resp, CompatConfig::default(), Rmw::Refuse, 1).await;
    let mut client = door.connect();
    let told = client.ask(b"*11\r\n").await;
    assert_eq!(told, "-ERR Protocol error: unauthenticated multibulk length|");
    assert!(client.is_closed().await);
    let mut client = door.connect();
    let told = client.ask(b"*1\r\n$20000\r\n").await;
    assert_eq!(told, "-ERR Protocol error: unauthenticated bulk length|");
    // The larger limits hold from the request after AUTH on, in the same packet.
    let mut bytes = request(&[b"AUTH", b"sesame"]);
    bytes.extend(request(&[b"ECHO", &vec![b'x'; 20_000]]));
    let told = door.connect().ask(&bytes).await;
    assert!(told.starts_with("+OK|$20000|xxx"), "{told:.80}");
}

#[tokio::test(start_paused = true)]
async fn keys_and_values_are_bytes() {
    let mut client = Door::plain().await.connect();
    let key = b"\x00\r\n\xff *$";
    assert_eq!(client.ask(&request(&[b"SET", key, b"\r\n\x00"])).await, "+OK|");
    client.send(&request(&[b"GET", key])).await;
    assert_eq!(client.heard().await, b"$3\r\n\r\n\x00\r\n");
    client.send(&request(&[b"KEYS", b"*"])).await;
    assert_eq!(client.heard().await, b"*1\r\n$7\r\n\x00\r\n\xff *$\r\n");
    assert_eq!(client.ask(&request(&[b"SET", b"", b""])).await, "+OK|");
    assert_eq!(client.ask(&request(&[b"GET", b""])).await, "$0||");
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_is_answered_in_order_however_it_is_cut() {
    let door = Door::plain().await;
    let mut bytes = Vec::new();
    let mut wanted = String::new();
    for n in 0..1500 {
        let value = n.to_string();
        bytes.extend(request(&[b"SET", b"same", value.as_bytes()]));
        bytes.extend(request(&[b"GET", b"same"]));
        write!(wanted, "+OK|${}|{value}|", value.len()).unwrap();
        if n % 7 == 0 {
            bytes.extend(request(&[b"SET", b"same", b"first"]));
            bytes.extend(request(&[b"SET", b"same", b"second"]));
            bytes.extend(request(&[b"DEL", b"same", b"other"]));
            wanted.push_str("+OK|+OK|:1|");
        }
    }
    assert_eq!(door.connect().ask(&bytes).await, wanted);
    let mut client = door.connect();
    let mut got = String::new();
    for piece in bytes.chunks(1013) {
        client.send(piece).await;
        got.push_str(&shown(&client.heard().await));
    }
    assert_eq!(got, wanted);
}

#[tokio::test(start_paused = true)]
async fn a_context_of_another_key_or_cluster_is_refused() {
    let mut client = Door::plain().await.connect();
    client.send(&request(&[b"KV.PUT", b"a", b"1"])).await;
    let put = client.heard().await;
    let context = context_of(&put);
    let refused = "-ERR the context is not one of this key in this cluster: use what KV.GET or \
                   KV.PUT answered|";
    assert_eq!(client.ask(&request(&[b"KV.PUT", b"b", b"2", b"CTX", context])).await, refused);
    assert_eq!(client.ask(&request(&[b"KV.DEL", b"b", b"CTX", context])).await, refused);
    let told = client.ask(&request(&[b"KV.PUT", b"a", b"2", b"CTX", context])).await;
    assert!(told.starts_with("*1|$"), "{told}");
    client.send(&request(&[b"KV.GET", b"a"])).await;
    let got = client.heard().await;
    assert!(got.ends_with(b"*1\r\n$1\r\n2\r\n"), "its own key's context replaces: {}", shown(&got));
}

/// The bytes of the first bulk string of an answer.
fn context_of(answer: &[u8]) -> &[u8] {
    let rest = answer.strip_prefix(b"*1\r\n$").expect("an array of one bulk string");
    let end = rest.iter().position(|byte| *byte == b'\r').expect("a length");
    let length: usize = std::str::from_utf8(&rest[..end]).unwrap().parse().unwrap();
    &rest[end + 2..end + 2 + length]
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut() {
    let resp = RespConfig { output_bytes_max: 1 << 20, ..RespConfig::default() };
    let door = Door::of(resp, CompatConfig::default(), Rmw::Refuse, 1).await;
    let mut client = door.connect();
    let value = vec![b'v'; 10_000];
    assert_eq!(client.ask(&request(&[b"SET", b"k", &value])).await, "+OK|");
    let gets: Vec<u8> = (0..1000).flat_map(|_| request(&[b"GET", b"k"])).collect();
    client.send(&gets).await;
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let heard = client.heard().await.len();
    assert!(heard < 4 << 20, "10 MB were asked for, {heard} came before the cut");
    assert!(client.is_closed().await);
    // One that asks for as much and reads gets it all.
    let mut reader = door.connect();
    let mut heard = 0;
    for _ in 0..20 {
        let gets: Vec<u8> = (0..50).flat_map(|_| request(&[b"GET", b"k"])).collect();
        reader.send(&gets).await;
        heard += reader.heard().await.len();
    }
    assert_eq!(heard, 1000 * (10_000 + "$10000\r\n\r\n".len()));
}

#[tokio::test(start_paused = true)]
async fn silence_is_cut_where_that_is_asked_for() {
    let resp = RespConfig { idle_ms_max: 5_000, ..RespConfig::default() };
    let door = Door::of(resp, CompatConfig::default(), Rmw::Refuse, 1).await;
    let mut client = door.connect();
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    alive(&mut client).await;
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    assert!(client.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn of_several_writes_the_error_says_what_became_of_the_others() {
    let (resp, compat) = (RespConfig::default(), CompatConfig::default());
    let door = Door::of(resp, compat, Rmw::BestEffort, 1).await;
    let mut client = door.connect();
    let value = vec![b'v'; 11 * 1024];
    let told = client.ask(&request(&[b"MSET", b"a", b"1", b"b", &value, b"c", b"3"])).await;
    assert!(told.starts_with("-ERR pair of 11265 bytes is over"), "{told}");
    assert!(told.ends_with("; 2 of 3 keys are stored|"), "{told}");
    let told = client.ask(&request(&[b"MSETNX", b"x", b"1", b"y", &value])).await;
    assert!(told.starts_with("-ERR pair of 11265 bytes is over"), "{told}");
    assert!(told.ends_with("; 1 of 2 keys are set, in their order|"), "{told}");
    assert_eq!(client.ask(b"MSETNX n 1 n 2\r\n").await, ":1|");
    assert_eq!(client.ask(b"GET n\r\n").await, "$1|2|", "the last of a key");
    let to = vec![b'k'; 11 * 1024];
    let told = client.ask(&request(&[b"RENAME", b"a", &to])).await;
    assert!(told.ends_with("; that is of the new key, the old one is as it was|"), "{told}");
    assert_eq!(client.ask(b"MGET a c\r\n").await, "*2|$1|1|$1|3|");
    alive(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn long_answers_are_refused_by_the_name_of_their_bound() {
    let resp = RespConfig { output_bytes_max: 64 << 10, ..RespConfig::default() };
    let door = Door::of(resp, CompatConfig::default(), Rmw::Refuse, 1).await;
    let mut client = door.connect();
    let value = vec![b'v'; 10_000];
    assert_eq!(client.ask(&request(&[b"SET", b"k", &value])).await, "+OK|");
    let names: Vec<&[u8]> = [&b"MGET"[..]].into_iter().chain([&b"k"[..]; 9]).collect();
    let told = client.ask(&request(&names)).await;
    assert_eq!(told, "-ERR the answer would be over resp.output_bytes_max: ask for less at once|");
    let mut bytes = request(&[b"MULTI"]);
    (0..9).for_each(|_| bytes.extend(request(&[b"GET", b"k"])));
    bytes.extend(request(&[b"MSET", b"k", b"w"]));
    bytes.extend(request(&[b"EXEC"]));
    let told = client.ask(&bytes).await;
    let last = "-ERR not executed: the answers are over resp.output_bytes_max, or all clients' \
                over resp.outputs_bytes_max|";
    assert!(told.ends_with(last), "{told:.90}");
    let mut names: Vec<&[u8]> = vec![b"get"; 1_027];
    names.splice(..2, [&b"COMMAND"[..], b"INFO"]);
    let told = client.ask(&request(&names)).await;
    assert_eq!(told, "-ERR at most 1024 commands are described at once|");
    alive(&mut client).await;
}
