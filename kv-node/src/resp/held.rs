//! What a connection holds in memory for its client, and what all of them may hold together.
//!
//! Buffers up to `KEEP_BYTES` belong to having a connection; what is above counts in one sum for
//! all connections, and those that bring the sum over its bound pay for it, not those that hold
//! little.

use std::cmp::Ordering;
use std::future::{Future, poll_fn};
use std::io;
use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Room that buffers keep when they are empty.
pub(super) const KEEP_BYTES: usize = 64 * 1024;
/// How long a batch waits for a client that takes nothing of what fills half of its output.
const READ_PATIENCE: Duration = Duration::from_secs(5);

/// What one connection holds of something, in the sum over all connections: what is above
/// `KEEP_BYTES`. The sum is borrowed, or shared where what holds outlives the borrow.
#[derive(Debug)]
pub(super) struct Held<S: Deref<Target = AtomicUsize>> {
    sum: S,
    sum_max: usize,
    counted: usize,
}

impl<S: Deref<Target = AtomicUsize>> Held<S> {
    /// Nothing yet, in a sum that should not grow beyond `sum_max`.
    pub(super) fn new(sum: S, sum_max: usize) -> Self {
        Self { sum, sum_max, counted: 0 }
    }

    /// It holds so many bytes now.
    pub(super) fn set(&mut self, bytes: usize) {
        let now = if bytes > KEEP_BYTES { bytes } else { 0 };
        match now.cmp(&self.counted) {
            Ordering::Equal => return,
            Ordering::Greater => self.sum.fetch_add(now - self.counted, Relaxed),
            Ordering::Less => self.sum.fetch_sub(self.counted - now, Relaxed),
        };
        self.counted = now;
    }

    /// Whether this connection is one of those that bring the sum over its bound.
    pub(super) fn is_too_much(&self) -> bool {
        self.counted > 0 && self.sum.load(Relaxed) > self.sum_max
    }
}

impl<S: Deref<Target = AtomicUsize>> Drop for Held<S> {
    fn drop(&mut self) {
        self.sum.fetch_sub(self.counted, Relaxed);
    }
}

/// Answers that are written or wait to be.
pub(super) struct Output<'s> {
    pub(super) bytes: Vec<u8>,
    sent: usize,
    held: Held<&'s AtomicUsize>,
}

impl<'s> Output<'s> {
    pub(super) fn new(held: Held<&'s AtomicUsize>) -> Self {
        Self { bytes: Vec::new(), sent: 0, held }
    }

    /// Cuts a client whose waiting answers bring all clients' together over their bound.
    pub(super) fn check_sum(&mut self) -> io::Result<()> {
        self.count();
        if !self.held.is_too_much() {
            return Ok(());
        }
        let bytes = self.waiting().len();
        tracing::warn!(bytes, "clients do not read their answers: one of them closed");
        Err(io::Error::other("outputs_bytes_max is exceeded"))
    }

    fn count(&mut self) {
        self.held.set(self.bytes.capacity());
    }

    pub(super) fn waiting(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent >= self.bytes.len()
    }

    pub(super) fn wrote(&mut self, count: usize) {
        self.sent += count;
        if self.is_empty() {
            self.sent = 0;
            self.bytes.clear();
            if self.bytes.capacity() > KEEP_BYTES {
                self.bytes.shrink_to(KEEP_BYTES);
            }
            self.count();
        }
    }

    /// Writes what the socket takes without waiting.
    pub(super) async fn write_ready(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        while !self.is_empty() {
            let wrote = {
                let mut write = pin!(writer.write(self.waiting()));
                poll_fn(|context| match write.as_mut().poll(context) {
                    Poll::Ready(wrote) => Poll::Ready(Some(wrote)),
                    Poll::Pending => Poll::Ready(None),
                })
                .await
            };
            match wrote {
                None => break,
                Some(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Some(Ok(count)) => self.wrote(count),
                Some(Err(error)) => return Err(error),
            }
        }
        // What was sent of a long output is given back before more is appended.
        if self.sent > KEEP_BYTES {
            self.bytes.drain(..self.sent);
            self.sent = 0;
            self.bytes.shrink_to(KEEP_BYTES);
            self.count();
        }
        Ok(())
    }

    /// In the middle of a batch: waits until no more than `bytes_max` wait. A client that reads,
    /// however slowly, gets everything; one that takes nothing for some seconds is cut.
    pub(super) async fn make_room(
        &mut self,
        bytes_max: usize,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        while self.waiting().len() > bytes_max {
            match tokio::time::timeout(READ_PATIENCE, writer.write(self.waiting())).await {
                Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(wrote) => self.wrote(wrote?),
                Err(_) => return Err(io::Error::other("a client does not read its answers")),
            }
        }
        Ok(())
    }
}
