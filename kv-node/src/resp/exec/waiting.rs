//! WAIT: the one command that may take as long as its client likes, so the client is watched.
//!
//! ```text
//! WAIT -> what waits is written -> the ledger is waited for, beside reads from the client
//!      -> enough replicas | its time | the client is gone | it sends more than may be buffered
//! ```
//! What the client sends meanwhile is kept for the parser, up to the connection's own bound. A
//! client that closes its side ends the WAIT as its time would: nothing waits for nobody. Between
//! MULTI and EXEC nothing waits at all, as in Redis.
//!
//! Invariant: what is kept meanwhile counts with what all clients' requests hold
//! (`resp.queries_bytes_max`); who brings that over its bound has waited long enough.

use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Exec, Session, Step};
use crate::resp::args;
use crate::resp::held::{Held, KEEP_BYTES};
use crate::resp::reply::Reply;
use crate::resp::request::Request;

/// What a WAIT asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::resp) struct Waiting {
    wanted: usize,
    timeout_ms: u64,
}

impl Exec<'_> {
    /// WAIT outside EXEC: the connection waits, or there is an answer already.
    pub(super) fn begin_wait(&mut self, request: &Request<'_>, place: usize) -> Step {
        let parsed = args::wait(request).map_err(super::Failure::from);
        let ready = parsed.and_then(|parsed| Ok((parsed, self.coordinator()?)));
        match ready {
            Ok(((wanted, timeout_ms), _)) => {
                let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
                Step::Wait(Waiting { wanted, timeout_ms }, place + 1)
            }
            Err(failure) => {
                self.reply().error(failure);
                Step::Next(place + 1)
            }
        }
    }
}

/// What arrives while a WAIT waits.
pub(in crate::resp) struct Later<'s> {
    pub(in crate::resp) bytes: Vec<u8>,
    held: Held<&'s AtomicUsize>,
}

impl<'s> Later<'s> {
    /// Nothing yet, which counts in this sum.
    pub(in crate::resp) fn new(held: Held<&'s AtomicUsize>) -> Self {
        Self { bytes: Vec::new(), held }
    }

    /// Everything goes to `input`.
    pub(in crate::resp) fn move_to(&mut self, input: &mut Vec<u8>) {
        input.append(&mut self.bytes);
        self.bytes.shrink_to(KEEP_BYTES);
        self.count();
    }

    fn count(&mut self) {
        self.held.set(self.bytes.capacity());
    }
}

impl Session {
    /// Waits, and answers. What the client sends meanwhile goes to `later`, `bytes_max` bytes at
    /// most.
    pub(in crate::resp) async fn wait(
        &mut self,
        waiting: Waiting,
        reader: &mut (impl AsyncRead + Unpin),
        later: &mut Later<'_>,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) {
        let Some(node) = self.coordinator.clone() else { return };
        let card = &self.card;
        let held = {
            let held = node.wait(&mut self.ledger, waiting.wanted, waiting.timeout_ms);
            tokio::pin!(held);
            loop {
                tokio::select! {
                    biased;
                    held = &mut held => break Some(held),
                    read = reader.read_buf(&mut later.bytes) => {
                        let gone = !matches!(read, Ok(count) if count > 0);
                        later.count();
                        if gone || later.bytes.len() > bytes_max || later.held.is_too_much() {
                            break None;
                        }
                    }
                    () = card.ended() => break None,
                }
            }
        };
        let held = held.unwrap_or_else(|| node.waited(&mut self.ledger));
        Reply::new(out, self.protocol).integer(i64::try_from(held).unwrap_or(i64::MAX));
    }
}
