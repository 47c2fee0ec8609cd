//! The executor: what each command does, in files by group.
//!
//! ```text
//! requests in order -> step -> a run of GETs  -> one Coordinator::get_batch
//!                           -> a run of SETs  -> one Coordinator::set_batch
//!                           -> anything else  -> its group, one by one
//! ```
//! Order is kept: a run ends where another command begins, and its answers are written before that
//! command is looked at. A command writes its whole answer or one error; on an error nothing of an
//! answer begun before is left in the output.
//!
//! Invariant: every request gets exactly one reply, whatever it holds.

mod admin;
mod clients;
mod cluster;
mod config;
mod connection;
mod expiry;
mod info;
mod keys;
mod kv;
mod multi;
mod observe;
mod room;
mod runs;
mod session;
mod strings;
mod waiting;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::args::ArgError;
use super::held::{Held, KEEP_BYTES};
use super::reply::Reply;
use super::request::{Batch, Item, Request};
use super::table::{self, Class, Command, CommandId, Rejection, flag};
use crate::cluster::record::LevelSetting;
use crate::coordinator::{Coordinator, Levels};
use crate::error::RequestError;
use crate::keys::{DEFAULT_KEYSPACE, KeyRef};
pub(super) use clients::Replies;
pub(super) use session::{Session, Shared};
pub(super) use waiting::Later;
use waiting::Waiting;

/// Requests in order: a batch from the wire, or MULTI's queue.
pub(super) trait Items: Sync {
    /// The request at `place`.
    fn item(&self, place: usize) -> Option<Item<'_>>;
}

impl Items for Batch<'_> {
    fn item(&self, place: usize) -> Option<Item<'_>> {
        Batch::item(self, place)
    }
}

/// Why a command has no ordinary answer. Displays the error reply without its `-`.
#[derive(Debug)]
enum Failure {
    Argument(ArgError),
    Request(RequestError),
    /// One write of several failed; the text says what became of the others.
    Partly(RequestError, String),
    /// The same, and some of the others are stored: a word that promises that nothing was written
    /// must not be the first.
    Some(RequestError, String),
    Text(&'static str),
    Owned(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(error) => error.fmt(f),
            Self::Request(error) => error.fmt(f),
            Self::Some(error, others) if error.is_refusal() => {
                write!(f, "INDETERMINATE {others}; of another: {error}")
            }
            Self::Partly(error, others) | Self::Some(error, others) => {
                write!(f, "{error}; {others}")
            }
            Self::Text(text) => f.write_str(text),
            Self::Owned(text) => f.write_str(text),
        }
    }
}

impl Failure {
    /// Of several writes one failed, and so many others are stored, as the text says.
    fn partly(error: RequestError, stored: i64, others: String) -> Self {
        if stored > 0 { Self::Some(error, others) } else { Self::Partly(error, others) }
    }
}

impl From<ArgError> for Failure {
    fn from(error: ArgError) -> Self {
        Self::Argument(error)
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

type Executed = Result<(), Failure>;

const TOO_LONG: &str = "ERR the answer would be over resp.output_bytes_max: ask for less at once";
const TOO_MANY: &str = "BUSY answers to all clients together take too much memory \
                        (resp.outputs_bytes_max): ask again, or for less at once";
const NO_AUTH: &str = "NOAUTH Authentication required.";

/// What a step came to.
pub(super) enum Step {
    /// Go on at this place.
    Next(usize),
    /// Let the session wait, then go on at this place.
    Wait(Waiting, usize),
}

/// One connection's executor for the time of one batch.
pub(super) struct Exec<'c> {
    /// What all connections share.
    pub(super) shared: &'c Shared,
    /// What is this connection's.
    pub(super) session: &'c mut Session,
    /// Answers, in order.
    pub(super) out: &'c mut Vec<u8>,
    /// What `out` grew by, in the sum over all connections.
    grown: Held<&'c AtomicUsize>,
    before_bytes: usize,
}

impl<'c> Exec<'c> {
    /// An executor that answers into `out`.
    pub(super) fn new(shared: &'c Shared, session: &'c mut Session, out: &'c mut Vec<u8>) -> Self {
        let grown = Held::new(&shared.outputs_bytes, shared.resp.outputs_bytes_max);
        let before_bytes = out.capacity();
        Self { shared, session, out, grown, before_bytes }
    }
}

impl Exec<'_> {
    /// In the midst of a long answer: counts it, and ends it where all clients' answers together
    /// are over their bound.
    fn check_answer(&mut self) -> Executed {
        if self.out.len() > self.shared.resp.output_bytes_max {
            return Err(Failure::Text(TOO_LONG));
        }
        self.grown.set(self.out.capacity().saturating_sub(self.before_bytes));
        if self.grown.is_too_much() { Err(Failure::Text(TOO_MANY)) } else { Ok(()) }
    }

    /// Takes back what was answered since `before`, and the memory that it took; room for an error
    /// in its place stays, so that the next answers do not double the whole.
    fn take_back(&mut self, before: usize) {
        self.out.truncate(before);
        self.out.shrink_to(self.before_bytes.max(before + KEEP_BYTES));
        self.grown.set(0);
    }

    /// Executes the request at `place` and those of its run behind it.
    pub(super) async fn step(&mut self, items: &impl Items, place: usize) -> Step {
        let request = match items.item(place) {
            Some(Item::Request(request)) => request,
            Some(Item::Oversize(over)) => {
                self.session.spoil_queue();
                self.reply().error(over);
                return Step::Next(place + 1);
            }
            None => return Step::Next(place + 1),
        };
        let command = match self.admit(&request) {
            Ok(command) => command,
            Err(refusal) => {
                self.session.spoil_queue();
                self.reply().error(refusal);
                return Step::Next(place + 1);
            }
        };
        if self.session.queue.is_some() && !multi::bypasses(command.id) {
            self.enqueue(&request);
            return Step::Next(place + 1);
        }
        match command.id {
            CommandId::Exec => {
                self.execute_queue().await;
                Step::Next(place + 1)
            }
            CommandId::Wait => self.begin_wait(&request, place),
            _ => Step::Next(self.run(items, place, command, request).await),
        }
    }

    /// Executes a request that is neither queued nor EXEC, with its run.
    async fn run(
        &mut self,
        items: &impl Items,
        place: usize,
        command: &'static Command,
        request: Request<'_>,
    ) -> usize {
        match command.id {
            CommandId::Get => self.gets(items, place).await,
            CommandId::Set | CommandId::Setex | CommandId::Psetex => self.sets(items, place).await,
            _ => {
                self.one(command, &request).await;
                place + 1
            }
        }
    }

    /// The command, if it exists, has the right number of arguments, and may be sent now.
    fn admit(&mut self, request: &Request<'_>) -> Result<&'static Command, Failure> {
        let command = table::resolve(request).map_err(|refusal| match refusal {
            Rejection::Arity(command) => Failure::Argument(ArgError::Arity(command.name)),
            other => Failure::Owned(other.to_string()),
        })?;
        if !self.session.authenticated && !command.has(flag::NO_AUTH) {
            return Err(Failure::Text(NO_AUTH));
        }
        self.session.command = Some(command);
        Ok(command)
    }

    /// One command by itself, answered or refused.
    async fn one(&mut self, command: &'static Command, request: &Request<'_>) {
        let before = self.out.len();
        let done = match command.class {
            Class::Connection => self.connection(command, request),
            Class::Admin => self.admin(command, request).await,
            Class::Natural | Class::Promise => match self.coordinator() {
                Ok(coordinator) => self.data(&coordinator, command, request).await,
                Err(error) => Err(error.into()),
            },
        };
        if let Err(failure) = done {
            self.take_back(before);
            self.reply().error(failure);
        }
    }

    async fn data(
        &mut self,
        node: &Arc<Coordinator>,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Executed {
        use table::Group;
        match command.group {
            Group::Kv => self.kv(node, command, request).await,
            Group::String => self.strings(node, command, request).await,
            Group::Generic | Group::Server => match command.id {
                CommandId::Expire
                | CommandId::Pexpire
                | CommandId::Expireat
                | CommandId::Pexpireat
                | CommandId::Ttl
                | CommandId::Pttl
                | CommandId::Expiretime
                | CommandId::Pexpiretime
                | CommandId::Persist => self.expiry(node, command, request).await,
                _ => self.keys(node, command, request).await,
            },
            Group::Connection | Group::Cluster | Group::Transactions => Err(not_here(command)),
        }
    }

    fn reply(&mut self) -> Reply<'_> {
        Reply::new(self.out, self.session.protocol).counted(&self.shared.node.figures().errors)
    }

    /// The coordinator, as soon as there is a layout.
    fn coordinator(&mut self) -> Result<Arc<Coordinator>, RequestError> {
        if let Some(coordinator) = &self.session.coordinator {
            return Ok(Arc::clone(coordinator));
        }
        let coordinator = self.shared.node.coordinator().ok_or(RequestError::Loading)?;
        self.session.coordinator = Some(Arc::clone(&coordinator));
        Ok(coordinator)
    }
}

/// For a row of the table that no group knows: a mistake of ours, told instead of hidden.
fn not_here(command: &Command) -> Failure {
    Failure::Owned(format!("ERR '{}' is listed but has no executor", command.name))
}

/// The key in its place.
#[inline]
fn place(key: &[u8]) -> KeyRef<'_> {
    KeyRef::place(DEFAULT_KEYSPACE, key)
}

/// The argument at `place`; the table's arity check makes sure that it is there.
fn arg<'a>(request: &Request<'a>, place: usize) -> Result<&'a [u8], Failure> {
    request.arg(place).ok_or(Failure::Argument(ArgError::Syntax))
}

fn setting(level: super::args::Level) -> LevelSetting {
    use super::args::Level;
    match level {
        Level::One => LevelSetting::One,
        Level::Quorum => LevelSetting::Quorum,
        Level::All => LevelSetting::All,
        Level::Count(copies) => LevelSetting::Copies(copies),
        Level::LocalQuorum => LevelSetting::LocalQuorum,
        Level::EachQuorum => LevelSetting::EachQuorum,
    }
}

/// The connection's levels, where a request does not say its own.
fn levels(
    of: Levels,
    read: Option<super::args::Level>,
    write: Option<super::args::Level>,
) -> Levels {
    Levels { read: read.map(setting).or(of.read), write: write.map(setting).or(of.write), ..of }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_promises_that_nothing_was_written_does_not_come_first_where_something_was() {
        let none = || RequestError::NoReplicas { wanted: 2, down: Vec::new() };
        let told = |error, stored| Failure::partly(error, stored, "1 of 2".into()).to_string();
        assert!(told(none(), 0).starts_with("NOREPLICAS"), "{}", told(none(), 0));
        assert!(told(none(), 1).starts_with("INDETERMINATE 1 of 2"), "{}", told(none(), 1));
        let busy = || RequestError::Busy("a queue is full".into());
        assert!(told(busy(), 1).starts_with("INDETERMINATE"), "{}", told(busy(), 1));
        assert!(told(RequestError::ClockSkew, 1).starts_with("ERR"));
        assert!(told(RequestError::Unknown("x".into()), 1).starts_with("INDETERMINATE"));
    }
}
