//! The connections that are open, so that one can list and end the others.
//!
//! A connection's card is written by that connection only, once for each batch of requests that
//! it reads, and read by whoever asks. Ending one is a flag and a wake-up: it closes by itself,
//! between two commands, and never in the middle of an answer.
//!
//! Bounded by `clients_max`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::reply::Protocol;

/// What a connection says of itself, now and then.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) name: Vec<u8>,
    pub(super) lib_name: Vec<u8>,
    pub(super) lib_version: Vec<u8>,
    pub(super) protocol: Protocol,
}

/// What is seen of it with each batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// The last command; empty before the first.
    pub(super) command: &'static str,
    /// Commands queued by MULTI; `None` without one.
    pub(super) queued: Option<usize>,
    /// Bytes of answers that wait.
    pub(super) output_bytes: usize,
}

/// One connection, as others see it.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) id: u64,
    pub(super) peer: Option<SocketAddr>,
    pub(super) local: Option<SocketAddr>,
    since: Instant,
    /// When it last asked for anything, in milliseconds since it came.
    asked_ms: AtomicU64,
    said: Mutex<Said>,
    seen: Mutex<Seen>,
    ended: AtomicBool,
    /// It is to go when what it asked is answered.
    leaving: AtomicBool,
    wake: Notify,
}

impl Card {
    /// A connection that came just now.
    pub(super) fn new(id: u64, peer: Option<SocketAddr>, local: Option<SocketAddr>) -> Self {
        Self {
            id,
            peer,
            local,
            since: Instant::now(),
            asked_ms: AtomicU64::new(0),
            said: Mutex::default(),
            seen: Mutex::default(),
            ended: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// Notes what a batch of requests came to.
    pub(super) fn see(&self, seen: Seen) {
        self.asked_ms.store(self.age_ms(), Ordering::Relaxed);
        *self.seen.lock() = seen;
    }

    /// Notes what the connection says of itself.
    pub(super) fn say(&self, said: Said) {
        *self.said.lock() = said;
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Seconds since it came.
    pub(super) fn age_s(&self) -> u64 {
        self.since.elapsed().as_secs()
    }

    /// Ends the connection, as soon as it is between two commands.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether it is to end.
    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Returns when it is to end.
    pub(super) async fn ended(&self) {
        while !self.is_ended() {
            self.wake.notified().await;
        }
    }

    /// Ends the connection, as soon as what it asked is answered.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether it is to go.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Returns when it is to end, or to go and in the midst of nothing.
    pub(super) async fn over(&self, in_the_midst: bool) {
        while !self.is_ended() && (in_the_midst || !self.is_leaving()) {
            self.wake.notified().await;
        }
    }

    /// Its line in CLIENT LIST, with the fields of Redis 7.
    pub(super) fn line(&self) -> String {
        let (said, seen) = (self.said.lock().clone(), *self.seen.lock());
        let address = |address: Option<SocketAddr>| {
            address.map_or_else(|| "?:0".to_owned(), |address| address.to_string())
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let multi = seen.queued.map_or(-1, |queued| queued as i64);
        let resp = if said.protocol == Protocol::Resp3 { 3 } else { 2 };
        let age_ms = self.age_ms();
        let idle = age_ms.saturating_sub(self.asked_ms.load(Ordering::Relaxed)) / 1_000;
        let flags = if multi >= 0 { "x" } else { "N" };
        let mut line = String::with_capacity(320);
        let _infallible = writeln!(
            line,
            "id={} addr={} laddr={} fd=0 name={} age={} idle={idle} flags={flags} db=0 sub=0 \
             psub=0 ssub=0 multi={multi} qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 \
             obl=0 oll=0 omem={bytes} tot-mem={bytes} events=r cmd={} user=default redir=-1 \
             resp={resp} lib-name={} lib-ver={}",
            self.id,
            address(self.peer),
            address(self.local),
            text(&said.name),
            age_ms / 1_000,
            if seen.command.is_empty() { "NULL" } else { seen.command },
            text(&said.lib_name),
            text(&said.lib_version),
            bytes = seen.output_bytes,
        );
        line
    }
}

/// All open connections, by number.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<BTreeMap<u64, Arc<Card>>>);

impl Clients {
    /// A connection came.
    pub(super) fn add(&self, card: &Arc<Card>) {
        self.0.lock().insert(card.id, Arc::clone(card));
    }

    /// It went.
    pub(super) fn remove(&self, id: u64) {
        self.0.lock().remove(&id);
    }

    /// Those that `wanted` chooses, in the order in which they came.
    pub(super) fn choose(&self, wanted: impl Fn(&Card) -> bool) -> Vec<Arc<Card>> {
        self.0.lock().values().filter(|card| wanted(card)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_listed_and_ended() {
        let clients = Clients::default();
        let peer: SocketAddr = "127.0.0.1:5000".parse().expect("an address");
        let cards: Vec<Arc<Card>> =
            (1..=3).map(|id| Arc::new(Card::new(id, Some(peer), None))).collect();
        for card in &cards {
            clients.add(card);
        }
        cards[1].say(Said { name: b"worker".to_vec(), ..Said::default() });
        cards[1].see(Seen { command: "get", queued: Some(2), output_bytes: 0 });
        let line = cards[1].line();
        for part in ["id=2 addr=127.0.0.1:5000 laddr=?:0", "name=worker", "multi=2", "cmd=get"] {
            assert!(line.contains(part), "{line}");
        }
        assert!(cards[0].line().contains("cmd=NULL"));
        let chosen = clients.choose(|card| card.id > 1);
        assert_eq!(chosen.iter().map(|card| card.id).collect::<Vec<_>>(), [2, 3]);
        chosen[0].end();
        // Told before anybody waits, it is not lost.
        cards[1].ended().await;
        assert!(cards[1].is_ended() && !cards[2].is_ended());
        cards[2].leave();
        cards[2].over(false).await;
        let busy = tokio::time::timeout(std::time::Duration::from_millis(5), cards[2].over(true));
        assert!(busy.await.is_err() && !cards[2].is_ended(), "what it began it may end");
        cards[2].end();
        cards[2].over(true).await;
        clients.remove(2);
        assert_eq!(clients.choose(|_| true).len(), 2);
    }
}
