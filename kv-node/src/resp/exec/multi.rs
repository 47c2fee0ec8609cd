//! MULTI, EXEC, DISCARD: an ordered batch.
//!
//! What is queued is executed in order, one result each, and nothing promises that others see all
//! of it or none: WATCH is refused for that reason. An error while queueing (unknown command,
//! wrong number of arguments, too much) makes EXEC refuse the whole batch, as in Redis.
//!
//! Invariant: what all connections queue counts in `queries_bytes_max`, beside requests that have
//! not wholly arrived.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::{Exec, Executed, Failure, Items, Shared};
use crate::resp::held::Held;
use crate::resp::request::{Item, OwnedRequest, Request};
use crate::resp::table::{self, CommandId};

/// Commands in one batch at most.
const QUEUE_COMMANDS_MAX: usize = 65_536;
/// Bytes that they hold at most.
const QUEUE_BYTES_MAX: usize = 16 << 20;
const NOT_EXECUTED: &str = "ERR not executed: the answers are over resp.output_bytes_max, or all \
                            clients' over resp.outputs_bytes_max";

/// Commands between MULTI and EXEC.
#[derive(Debug)]
pub(in crate::resp) struct Queue {
    requests: Vec<OwnedRequest>,
    bytes: usize,
    held: Held<Arc<AtomicUsize>>,
    spoiled: bool,
}

impl Queue {
    fn new(shared: &Shared) -> Self {
        let held = Held::new(Arc::clone(&shared.queries_bytes), shared.resp.queries_bytes_max);
        Self { requests: Vec::new(), bytes: 0, held, spoiled: false }
    }

    /// Keeps a request, or says why it can't.
    fn push(&mut self, request: &Request<'_>) -> Result<(), &'static str> {
        let kept = request.keep();
        let bytes = self.bytes + kept.bytes_held() + size_of::<OwnedRequest>();
        if self.len() >= QUEUE_COMMANDS_MAX || bytes > QUEUE_BYTES_MAX {
            return Err("ERR the batch is over 65536 commands or 16 MiB");
        }
        self.held.set(bytes);
        if self.held.is_too_much() {
            return Err("BUSY all clients together queue too much (resp.queries_bytes_max); \
                        nothing of the batch was done");
        }
        self.bytes = bytes;
        self.requests.push(kept);
        Ok(())
    }

    pub(super) fn spoil(&mut self) {
        self.spoiled = true;
        self.requests = Vec::new();
        self.bytes = 0;
        self.held.set(0);
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }
}

impl Items for Queue {
    fn item(&self, place: usize) -> Option<Item<'_>> {
        self.requests.get(place).map(|request| Item::Request(request.request()))
    }
}

/// Whether a command is executed at once although others are being queued.
pub(super) fn bypasses(id: CommandId) -> bool {
    matches!(
        id,
        CommandId::Exec
            | CommandId::Discard
            | CommandId::Multi
            | CommandId::Quit
            | CommandId::Reset
    )
}

impl Exec<'_> {
    /// Queues a request, or refuses it.
    pub(super) fn enqueue(&mut self, request: &Request<'_>) {
        let Some(queue) = &mut self.session.queue else { return };
        if !queue.spoiled
            && let Err(refused) = queue.push(request)
        {
            queue.spoil();
            self.reply().error(refused);
            return;
        }
        self.reply().simple("QUEUED");
    }

    /// EXEC.
    pub(super) async fn execute_queue(&mut self) {
        let Some(queue) = self.session.queue.take() else {
            self.reply().error("ERR EXEC without MULTI");
            return;
        };
        if queue.spoiled {
            let text = "EXECABORT Transaction discarded because of previous errors.";
            self.reply().error(text);
            return;
        }
        self.reply().array(queue.len());
        let mut place = 0;
        while let Some(Item::Request(request)) = queue.item(place) {
            if self.check_answer().is_err() {
                // Not executed: one result each is owed, and this one says so.
                self.reply().error(NOT_EXECUTED);
                place += 1;
                continue;
            }
            place = match table::resolve(&request) {
                Ok(command) => self.run(&queue, place, command, request).await,
                Err(refusal) => {
                    self.reply().error(refusal);
                    place + 1
                }
            };
        }
    }

    /// MULTI, DISCARD, UNWATCH.
    pub(super) fn transactions(&mut self, id: CommandId) -> Executed {
        match (id, self.session.queue.is_some()) {
            (CommandId::Multi, true) => {
                return Err(Failure::Text("ERR MULTI calls can not be nested"));
            }
            (CommandId::Multi, false) => {
                self.session.queue = Some(Queue::new(self.shared));
            }
            (CommandId::Discard, false) => {
                return Err(Failure::Text("ERR DISCARD without MULTI"));
            }
            (CommandId::Discard, true) => self.session.queue = None,
            _ => {}
        }
        self.reply().ok();
        Ok(())
    }
}
