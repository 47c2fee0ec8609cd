//! WAIT: the one command that may take as long as its client likes, so the client is watched.
//!
//! ```text
//! WAIT -> what waits is written -> the ledger is waited for, beside reads from the client
//!      -> enough replicas | its time | the client is gone | it sends more than may be buffered
//! ```
//! What the client sends meanwhile is kept for the parser, up to the connection's own bound. A
//! client that closes its side ends the WAIT as its time would: nothing waits for nobody. Between
//! MULTI and EXEC nothing waits at all, as in Redis.

use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Exec, Session, Step};
use crate::resp::args;
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

impl Session {
    /// Waits, and answers. What the client sends meanwhile goes to `later`, `later_max` bytes at
    /// most.
    pub(in crate::resp) async fn wait(
        &mut self,
        waiting: Waiting,
        reader: &mut (impl AsyncRead + Unpin),
        (later, later_max): (&mut Vec<u8>, usize),
        out: &mut Vec<u8>,
    ) {
        let Some(node) = self.coordinator.clone() else { return };
        let held = {
            let held = node.wait(&mut self.ledger, waiting.wanted, waiting.timeout_ms);
            tokio::pin!(held);
            loop {
                tokio::select! {
                    biased;
                    held = &mut held => break Some(held),
                    read = reader.read_buf(later) => {
                        let gone = !matches!(read, Ok(count) if count > 0);
                        if gone || later.len() > later_max {
                            break None;
                        }
                    }
                }
            }
        };
        let held = held.unwrap_or_else(|| node.waited(&mut self.ledger));
        Reply::new(out, self.protocol).integer(i64::try_from(held).unwrap_or(i64::MAX));
    }
}
