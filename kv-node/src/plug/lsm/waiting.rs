//! Who waits for the engine's log: one wake from its thread for all that one sync made durable.
//!
//! A task that is woken from another thread costs a system call, on the thread that syncs and on
//! the runtime's; at fifty clients one sync has fifty waiters. Here one task asks the engine for
//! the next ticket, and wakes the others from inside the runtime. It ends when nobody waits.
//!
//! Invariant: who waits is told once, no earlier than the engine told it, and an error is told to
//! all whose ticket was not durable before it.

use std::collections::VecDeque;
use std::sync::Arc;

use kv_lsm::{Engine, Error, Ticket};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::plug::exec::Exec;

/// What a waiter is told.
type Told = Result<(), Error>;

/// The waiters of one engine: at most one for each append that is under way.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    /// Ascending by ticket; nearly always appended to.
    waiters: VecDeque<(Ticket, oneshot::Sender<Told>)>,
    /// Whether the task runs that wakes them.
    told: bool,
}

impl Waiting {
    /// Resolves when `ticket` is durable or never will be; nothing when the engine is closed.
    pub(super) async fn wait(
        self: &Arc<Self>,
        engine: &Engine,
        exec: &dyn Exec,
        ticket: Ticket,
    ) -> Option<Told> {
        let (give, take) = oneshot::channel();
        if self.add(ticket, give) {
            exec.spawn(Box::pin(Arc::clone(self).tell(engine.clone())));
        }
        take.await.ok()
    }

    /// Whether the task is to be started.
    fn add(&self, ticket: Ticket, give: oneshot::Sender<Told>) -> bool {
        let mut queue = self.0.lock();
        let later = queue.waiters.iter().rev().take_while(|(at, _)| *at > ticket).count();
        let at = queue.waiters.len() - later;
        queue.waiters.insert(at, (ticket, give));
        !std::mem::replace(&mut queue.told, true)
    }

    async fn tell(self: Arc<Self>, engine: Engine) {
        while let Some(ticket) = self.first() {
            let (give, take) = oneshot::channel();
            // Whoever waited may be gone; so may this task.
            let callback = Box::new(move |told| drop(give.send(told)));
            engine.on_durable(ticket, callback);
            let told = take.await;
            match told {
                Ok(Ok(())) => self.wake(|at| at <= engine.durable(), &Ok(())),
                Ok(Err(error)) => {
                    self.wake(|at| at <= engine.durable(), &Ok(()));
                    self.wake(|_| true, &Err(error));
                }
                Err(_) => self.0.lock().waiters.clear(),
            }
        }
    }

    /// The ticket that is waited for next; without one the task ends.
    fn first(&self) -> Option<Ticket> {
        let mut queue = self.0.lock();
        let first = queue.waiters.front().map(|(ticket, _)| *ticket);
        queue.told = first.is_some();
        first
    }

    fn wake(&self, which: impl Fn(Ticket) -> bool, told: &Told) {
        let mut queue = self.0.lock();
        let count = queue.waiters.partition_point(|(at, _)| which(*at));
        let later = queue.waiters.split_off(count);
        let some = std::mem::replace(&mut queue.waiters, later);
        drop(queue);
        for (_, give) in some {
            // Whoever waited may be gone.
            drop(give.send(told.clone()));
        }
    }
}
