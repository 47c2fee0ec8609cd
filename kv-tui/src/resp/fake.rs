//! A Redis server in memory, for tests: so many commands as the verbs send.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Reply, read};

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Bytes, and milliseconds to live or -1.
    Text(Bytes, i64),
    /// Of this type.
    Other(&'static str),
}

/// Its content, and what it was asked.
#[derive(Debug, Default)]
pub(crate) struct Data {
    pub(crate) run_id: String,
    pub(crate) keys: BTreeMap<Bytes, Held>,
    pub(crate) commands: u64,
    /// Answers this many more commands and then closes each connection.
    pub(crate) lives_for: Option<u64>,
    /// Answers nothing between these moments.
    pub(crate) stall: Option<(Instant, Instant)>,
}

/// A server that ends with its value.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) address: String,
    data: Arc<Mutex<Data>>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let data = Arc::new(Mutex::new(Data { run_id: "first".to_owned(), ..Data::default() }));
        let shared = Arc::clone(&data);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(attend(stream, Arc::clone(&shared)));
            }
        });
        Self { address, data, task }
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Data) -> T) -> T {
        act(&mut self.data.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set(&self, key: &str, value: &str, ttl_ms: i64) {
        let held = Held::Text(value.to_owned().into(), ttl_ms);
        self.with(|data| data.keys.insert(key.to_owned().into(), held));
    }
}

async fn attend(mut stream: TcpStream, data: Arc<Mutex<Data>>) {
    // As a Redis server: an answer doesn't wait until the one before it is acknowledged.
    stream.set_nodelay(true).expect("a connection");
    let (mut buffer, mut queue) = (Vec::new(), None);
    loop {
        let stall = data.lock().unwrap_or_else(PoisonError::into_inner).stall;
        if let Some((from, to)) = stall
            && Instant::now() >= from
        {
            tokio::time::sleep_until(to.into()).await;
        }
        let mut out = Vec::new();
        let mut taken = 0;
        while let Ok(Some((reply, length))) = read(&buffer[taken..]) {
            taken += length;
            let words = words_of(&reply);
            let mut data = data.lock().unwrap_or_else(PoisonError::into_inner);
            data.commands += 1;
            match data.lives_for {
                Some(0) => return,
                Some(left) => data.lives_for = Some(left - 1),
                None => {}
            }
            out.extend(turn(&mut data, &mut queue, words));
        }
        buffer.drain(..taken);
        if stream.write_all(&out).await.is_err() {
            return;
        }
        match stream.read_buf(&mut buffer).await {
            Ok(count) if count > 0 => {}
            _ => return,
        }
    }
}

fn words_of(reply: &Reply<'_>) -> Vec<Bytes> {
    let Reply::Items(items) = reply else { panic!("a command is a list") };
    let word = |item: &Reply<'_>| match item {
        Reply::Bulk(Some(bytes)) => Bytes::copy_from_slice(bytes),
        _ => panic!("a command's words are strings"),
    };
    items.iter().map(word).collect()
}

fn turn(data: &mut Data, queue: &mut Option<Vec<Vec<Bytes>>>, words: Vec<Bytes>) -> Vec<u8> {
    match (&words[0][..], queue.as_mut()) {
        (b"MULTI", _) => {
            *queue = Some(Vec::new());
            b"+OK\r\n".to_vec()
        }
        (b"EXEC", _) => {
            let all = queue.take().expect("MULTI came first");
            let mut out = format!("*{}\r\n", all.len()).into_bytes();
            for words in &all {
                out.extend(answer(data, words));
            }
            out
        }
        (_, Some(queue)) => {
            queue.push(words);
            b"+QUEUED\r\n".to_vec()
        }
        _ => answer(data, &words),
    }
}

fn answer(data: &mut Data, words: &[Bytes]) -> Vec<u8> {
    const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    let key = words.get(1).cloned().unwrap_or_default();
    let held = data.keys.get(&key).cloned();
    match (&words[0][..], held) {
        (b"INFO", _) => bulk(format!("# Server\r\nrun_id:{}\r\n", data.run_id).as_bytes()),
        (b"SCAN", _) => scan(data, &key, &words[3]),
        (b"TYPE", held) => match held {
            Some(Held::Text(..)) => b"+string\r\n".to_vec(),
            Some(Held::Other(kind)) => format!("+{kind}\r\n").into_bytes(),
            None => b"+none\r\n".to_vec(),
        },
        (b"PTTL", held) => match held {
            Some(Held::Text(_, ttl_ms)) => format!(":{ttl_ms}\r\n").into_bytes(),
            Some(Held::Other(_)) => b":-1\r\n".to_vec(),
            None => b":-2\r\n".to_vec(),
        },
        (b"SET", _) => {
            let ttl_ms = match words.get(4) {
                Some(digits) => str::from_utf8(digits).expect("text").parse().expect("digits"),
                None => -1,
            };
            data.keys.insert(key, Held::Text(words[2].clone(), ttl_ms));
            b"+OK\r\n".to_vec()
        }
        (b"MGET", _) => {
            let mut out = format!("*{}\r\n", words.len() - 1).into_bytes();
            for key in &words[1..] {
                match data.keys.get(key) {
                    Some(Held::Text(text, _)) => out.extend(bulk(text)),
                    _ => out.extend(b"$-1\r\n"),
                }
            }
            out
        }
        (b"GET" | b"STRLEN", Some(Held::Other(_))) => WRONG.as_bytes().to_vec(),
        (b"GET", Some(Held::Text(text, _))) => bulk(&text),
        (b"GET", None) => b"$-1\r\n".to_vec(),
        (b"STRLEN", Some(Held::Text(text, _))) => format!(":{}\r\n", text.len()).into_bytes(),
        (b"STRLEN", None) => b":0\r\n".to_vec(),
        (command, _) => {
            format!("-ERR unknown command '{}'\r\n", String::from_utf8_lossy(command)).into_bytes()
        }
    }
}

/// The cursor is the number of keys that were told.
fn scan(data: &Data, cursor: &[u8], count: &[u8]) -> Vec<u8> {
    let number = |digits| str::from_utf8(digits).expect("text").parse::<usize>().expect("digits");
    let (from, count) = (number(cursor), number(count));
    let keys: Vec<&Bytes> = data.keys.keys().skip(from).take(count).collect();
    let next = if from + keys.len() < data.keys.len() { from + keys.len() } else { 0 };
    let mut out = b"*2\r\n".to_vec();
    out.extend(bulk(next.to_string().as_bytes()));
    out.extend(format!("*{}\r\n", keys.len()).into_bytes());
    for key in keys {
        out.extend(bulk(key));
    }
    out
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}
