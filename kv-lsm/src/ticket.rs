//! Tickets: how a caller learns that its batch has become durable, without waiting for it.
//!
//! Invariants: the durable ticket only rises; a callback runs exactly once, with an error when the
//! engine is poisoned before its ticket is durable; callbacks that wait run in ticket order, all
//! that one sync satisfied in one go.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};

use parking_lot::Mutex;

use crate::error::Error;

/// A batch's place in the log. Later batches have greater tickets; a ticket that is durable makes
/// all before it durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// The ticket with this number, which [`Ticket::seq`] gave: for owners that hand tickets on in
    /// a form of their own.
    #[must_use]
    pub fn from_seq(seq: u64) -> Self {
        Self(seq)
    }

    /// The ticket as a number, for figures and logs: the sequence of the batch's last operation.
    #[must_use]
    pub fn seq(self) -> u64 {
        self.0
    }
}

/// What runs when a ticket is durable, or never will be.
pub type OnDurable = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// The durable ticket and who waits for it to rise.
#[derive(Default)]
pub(crate) struct Tickets {
    durable: AtomicU64,
    has_failed: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Ascending by sequence; nearly always appended to.
    callbacks: VecDeque<(u64, OnDurable)>,
    /// Threads that sleep until a sequence is durable. Each is woken by itself, and all at once: a
    /// condition variable would let them through its lock one after the other.
    sleepers: Vec<(u64, Thread)>,
    failed: Option<Error>,
}

impl Tickets {
    pub(crate) fn new(durable: u64) -> Self {
        Self { durable: AtomicU64::new(durable), ..Self::default() }
    }

    pub(crate) fn durable(&self) -> Ticket {
        Ticket(self.durable.load(Ordering::Acquire))
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().callbacks.len()
    }

    pub(crate) fn on_durable(&self, ticket: Ticket, callback: OnDurable) {
        let result = {
            let mut waiting = self.waiting.lock();
            if ticket <= self.durable() {
                Ok(())
            } else if let Some(error) = &waiting.failed {
                Err(error.clone())
            } else {
                let later =
                    waiting.callbacks.iter().rev().take_while(|(seq, _)| *seq > ticket.0).count();
                let at = waiting.callbacks.len() - later;
                waiting.callbacks.insert(at, (ticket.0, callback));
                return;
            }
        };
        callback(result);
    }

    /// Blocks until `ticket` is durable or never will be.
    pub(crate) fn wait(&self, ticket: Ticket) -> Result<(), Error> {
        if ticket <= self.durable() {
            return Ok(());
        }
        {
            let mut waiting = self.waiting.lock();
            if let Some(error) = waiting.failed.as_ref().filter(|_| ticket > self.durable()) {
                return Err(error.clone());
            }
            waiting.sleepers.push((ticket.0, thread::current()));
        }
        loop {
            // It was raised before the waker took the lock, or the waker finds this thread.
            if ticket <= self.durable() {
                return Ok(());
            }
            if self.has_failed.load(Ordering::Acquire) {
                let waiting = self.waiting.lock();
                if let Some(error) = waiting.failed.as_ref().filter(|_| ticket > self.durable()) {
                    return Err(error.clone());
                }
            }
            thread::park();
        }
    }

    /// Everything up to `seq` is durable: runs the callbacks that this satisfies.
    pub(crate) fn publish(&self, seq: u64) {
        let mut woken = Vec::new();
        let satisfied: VecDeque<_> = {
            let mut waiting = self.waiting.lock();
            self.durable.fetch_max(seq, Ordering::Release);
            if !waiting.sleepers.is_empty() {
                woken.extend(waiting.sleepers.extract_if(.., |(at, _)| *at <= seq));
            }
            let count = waiting.callbacks.partition_point(|(at, _)| *at <= seq);
            let later = waiting.callbacks.split_off(count);
            std::mem::replace(&mut waiting.callbacks, later)
        };
        for (_, thread) in woken {
            thread.unpark();
        }
        for (_, callback) in satisfied {
            callback(Ok(()));
        }
    }

    /// Nothing that is not durable now ever will be.
    pub(crate) fn fail(&self, error: &Error) {
        let (lost, woken) = {
            let mut waiting = self.waiting.lock();
            waiting.failed.get_or_insert_with(|| error.clone());
            self.has_failed.store(true, Ordering::Release);
            (std::mem::take(&mut waiting.callbacks), std::mem::take(&mut waiting.sleepers))
        };
        for (_, thread) in woken {
            thread.unpark();
        }
        for (_, callback) in lost {
            callback(Err(error.clone()));
        }
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets")
            .field("durable", &self.durable())
            .field("waiting", &self.waiting())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn callbacks_run_once_in_ticket_order_and_the_rest_fails() {
        let tickets = Tickets::new(0);
        let ran = Arc::new(Mutex::new(Vec::new()));
        for seq in [5, 2, 9, 1, 7] {
            let ran = Arc::clone(&ran);
            let callback = Box::new(move |r: Result<(), Error>| ran.lock().push((seq, r.is_ok())));
            tickets.on_durable(Ticket(seq), callback);
        }
        tickets.publish(5);
        assert_eq!(*ran.lock(), [(1, true), (2, true), (5, true)]);
        tickets.fail(&Error::Closed);
        assert_eq!(ran.lock()[3..], [(7, false), (9, false)]);
        tickets.wait(Ticket(5)).unwrap();
        tickets.wait(Ticket(6)).unwrap_err();
        tickets.on_durable(Ticket(6), Box::new(|r| assert!(r.is_err())));
        tickets.on_durable(Ticket(4), Box::new(|r| assert!(r.is_ok())));
    }
}
