//! The Redis door: runs each connection as one task (`accept` has who comes).
//!
//! ```text
//! read what is there -> parse all of it -> execute runs -> one write -> drop what was consumed
//! ```
//! A connection owns two buffers and its parser; nothing else is allocated for a command but what
//! the engine keeps. While answers wait for a client that does not read, the connection goes on
//! reading and executing until `output_bytes_max` of them wait, then it is cut: a client that
//! first sends a long pipeline and then reads must not block itself.
//!
//! Measured beside redis-server: at one request per round trip the time is in two system calls, so
//! there is no timer, channel or other task on that path.
//!
//! While the node takes no clients (`node/drain.rs`) a connection ends when what came in is
//! answered, between two requests and outside of MULTI. It is closed as a
//! person would: what the client sent before it saw that is read and dropped for a moment, as a
//! system that closes on unread bytes resets the connection, and the last answer may go with it.
//!
//! **Invariants.** Bytes held for a connection are bounded by the parser's limits, one read and
//! `output_bytes_max` with one run's answers. Beyond what every connection may keep, those of all
//! together are bounded by `queries_bytes_max` with one read each and `outputs_bytes_max` with one
//! run's answers each, and what reads bring together from the replicas by `reads_bytes_max`.
//! Answers leave in the order of their requests.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::accept::accept;
use super::exec::{Exec, Later, Session, Shared, Step};
use super::held::{Held, KEEP_BYTES, Output};
use super::parse::{Batch, Item, Limits, Parser, ProtocolError};
use super::reply::{Protocol, Reply};
use super::table;
use super::turn::{Listed, Turn};
use crate::config::{CompatConfig, RespConfig};
use crate::node::Node;

/// Spare room of the read buffer before each read.
const READ_BYTES: usize = 16 * 1024;
/// Answers of one batch that are written before the batch has ended.
const WRITE_EARLY_BYTES: usize = 256 * 1024;
/// How long a stop waits for what is being executed.
const STOP_MS: u64 = 2_000;
/// A client that is sent away and never pauses is served so many batches more, and four times as
/// many if they never end with a whole request.
const LAST_BATCHES_MAX: u32 = 64;
/// How long a client that is sent away may take to see it.
const LINGER: Duration = Duration::from_millis(250);

/// The door, open.
#[derive(Debug)]
pub struct RespDoor {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl RespDoor {
    /// Lets what is being executed end and be answered, for at most 2 s, then closes everything.
    pub async fn stop(self) {
        self.shared.stopping.store(true, Release);
        let mut waited_ms = 0;
        while self.shared.busy.load(Acquire) > 0 && waited_ms < STOP_MS {
            tokio::time::sleep(Duration::from_millis(5)).await;
            waited_ms += 5;
        }
        self.task.abort();
        let _aborted = self.task.await;
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("resp", &self.resp).finish_non_exhaustive()
    }
}

/// Serves Redis clients of `listener` until the door is stopped.
pub fn serve(
    listener: TcpListener,
    node: Arc<Node>,
    resp: RespConfig,
    compat: CompatConfig,
) -> RespDoor {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let shared = Arc::new(Shared::new(node, resp, compat, port));
    let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
    RespDoor { shared, task }
}

/// Counts a batch in execution, so that a stop can wait for it.
struct Busy<'s>(&'s Shared);

impl<'s> Busy<'s> {
    fn new(shared: &'s Shared) -> Self {
        shared.busy.fetch_add(1, AcqRel);
        Self(shared)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, AcqRel);
    }
}

/// What waiting for the client came to.
enum Heard {
    /// Bytes arrived.
    Bytes,
    /// It closed its side.
    End,
}

/// One connection, from its first byte to its last.
pub(super) async fn converse(
    shared: &Shared,
    session: Session,
    reader: impl AsyncRead + Unpin,
    writer: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let _listed = Listed::new(shared, &session);
    if shared.closing.load(Acquire) {
        session.card.leave();
    }
    let (mut limits, mut may_change) = session.limits(shared);
    let mut parser = Parser::new(limits);
    let mut input = Vec::with_capacity(READ_BYTES);
    let resp = &shared.resp;
    let output = Output::new(Held::new(&shared.outputs_bytes, resp.outputs_bytes_max));
    let queries = || Held::new(&*shared.queries_bytes, resp.queries_bytes_max);
    let (later, quiet) = (Later::new(queries()), Vec::new());
    let mut talk = Talk { session, output, later, quiet, last: 0, reader, writer };
    let mut held = queries();
    loop {
        let in_the_midst = talk.is_in_the_midst(&input);
        let heard = tokio::select! {
            biased;
            heard = hear(
                shared, &mut input, &mut talk.output, &mut talk.reader, &mut talk.writer,
            ) => heard?,
            () = talk.session.card.over(in_the_midst) => Heard::End,
        };
        if matches!(heard, Heard::End) {
            break;
        }
        let busy = Busy::new(shared);
        held.set(input.capacity());
        loop {
            if may_change {
                (limits, may_change) = talk.session.limits(shared);
                parser.set_limits(limits);
            }
            let batch = parser.parse(&input);
            let later_max = limits.buffered_bytes_max();
            if !talk.execute(shared, &batch, later_max).await? {
                return Ok(());
            }
            shared.node.figures().commands.add(batch.len() as u64);
            let (consumed, full, error) = (batch.consumed(), batch.is_full(), batch.error());
            if let Some(error) = error {
                refuse_framing(&mut talk.session, &mut talk.output, error);
            }
            input.drain(..consumed);
            if talk.session.closing || (!full && talk.later.bytes.is_empty()) {
                break;
            }
            if !full {
                talk.later.move_to(&mut input);
            }
        }
        talk.output.write_ready(&mut talk.writer).await?;
        drop(busy);
        if talk.ends(shared, &input) {
            break;
        }
        talk.session.seen(talk.output.waiting().len());
        keep_small(&mut input, &limits);
        held.set(input.capacity() + parser.bytes_held());
        if held.is_too_much() {
            refuse_more(shared, &mut talk.output);
            break;
        }
    }
    finish(&mut talk.output, &mut talk.writer).await?;
    if talk.session.card.is_leaving() {
        linger(&mut talk.reader).await;
    }
    Ok(())
}

/// What a connection goes on with from batch to batch.
struct Talk<'s, R, W> {
    session: Session,
    output: Output<'s>,
    later: Later<'s>,
    /// What CLIENT REPLY keeps from the client.
    quiet: Vec<u8>,
    /// Batches that were executed since it is to go.
    last: u32,
    reader: R,
    writer: W,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Talk<'_, R, W> {
    /// Whether something of the client's is begun and not ended: a request, or a MULTI.
    fn is_in_the_midst(&self, input: &[u8]) -> bool {
        !input.is_empty() || self.session.queue.is_some()
    }

    /// Whether the connection ends after a batch.
    fn ends(&mut self, shared: &Shared, input: &[u8]) -> bool {
        self.last += u32::from(self.session.card.is_leaving());
        let most =
            if self.is_in_the_midst(input) { 4 * LAST_BATCHES_MAX } else { LAST_BATCHES_MAX };
        let sent_away = self.last >= most;
        let ended = self.session.closing || self.session.card.is_ended();
        ended || sent_away || shared.stopping.load(Acquire)
    }

    /// Executes a batch of requests; false if it is no Redis client that sent it.
    async fn execute(
        &mut self,
        shared: &Shared,
        batch: &Batch<'_>,
        later_max: usize,
    ) -> io::Result<bool> {
        let Self { session, output, later, quiet, reader, writer, .. } = self;
        let mut place = 0;
        while place < batch.len() && !session.closing && !session.card.is_ended() {
            if is_http(batch.item(place)) {
                tracing::warn!("an HTTP request came to the Redis port: closed");
                return Ok(false);
            }
            let turn = Turn::begin(session, place);
            let out = turn.out(&mut output.bytes, quiet);
            let mut exec = Exec::new(shared, session, out);
            let step = exec.step(&turn.items(batch), place).await;
            drop(exec);
            place = match step {
                Step::Next(next) => {
                    turn.took(shared, session, batch, next);
                    next
                }
                Step::Wait(waiting, next) => {
                    output.write_ready(writer).await?;
                    let out = turn.out(&mut output.bytes, quiet);
                    session.wait(waiting, reader, later, later_max, out).await;
                    next
                }
            };
            turn.settle(session, &mut output.bytes, quiet);
            if output.waiting().len() > WRITE_EARLY_BYTES {
                output.write_ready(writer).await?;
                output.check_sum()?;
                output.make_room(shared.resp.output_bytes_max / 2, writer).await?;
            }
        }
        Ok(true)
    }
}

/// Answers a request of which no more can be held.
fn refuse_more(shared: &Shared, output: &mut Output<'_>) {
    let why = "the rest of a request; nothing of it was done (resp.queries_bytes_max)";
    let busy = format_args!("BUSY all clients together send too much before {why}");
    let errors = &shared.node.figures().errors;
    Reply::new(&mut output.bytes, Protocol::Resp2).counted(errors).error(busy);
}

/// Reads what a client sends that has not seen yet that it was sent away, and drops it.
async fn linger(reader: &mut (impl AsyncRead + Unpin)) {
    let mut dropped = [0; 1_024];
    let read_all = async { while reader.read(&mut dropped).await.is_ok_and(|count| count > 0) {} };
    let _over = tokio::time::timeout(LINGER, read_all).await;
}

/// Answers bytes that are no request, and closes.
fn refuse_framing(session: &mut Session, output: &mut Output<'_>, error: ProtocolError) {
    if !session.closing {
        Reply::new(&mut output.bytes, Protocol::Resp2).error(error);
    }
    session.closing = true;
}

fn keep_small(input: &mut Vec<u8>, limits: &Limits) {
    if input.is_empty() && input.capacity() > KEEP_BYTES {
        input.shrink_to(KEEP_BYTES);
    }
    assert!(input.len() <= limits.buffered_bytes_max(), "the parser keeps its bound");
}

/// Waits for bytes, and meanwhile writes what waits.
async fn hear(
    shared: &Shared,
    input: &mut Vec<u8>,
    output: &mut Output<'_>,
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> io::Result<Heard> {
    if input.capacity() - input.len() < READ_BYTES / 4 {
        input.reserve(READ_BYTES);
    }
    loop {
        let count = if output.is_empty() {
            match shared.resp.idle_ms_max {
                0 => reader.read_buf(input).await?,
                idle_ms => {
                    let idle = Duration::from_millis(idle_ms);
                    match tokio::time::timeout(idle, reader.read_buf(input)).await {
                        Ok(count) => count?,
                        Err(_) => return Ok(Heard::End),
                    }
                }
            }
        } else {
            check_output(shared, output)?;
            tokio::select! {
                biased;
                wrote = writer.write(output.waiting()) => {
                    match wrote? {
                        0 => return Err(io::ErrorKind::WriteZero.into()),
                        count => output.wrote(count),
                    }
                    continue;
                }
                count = reader.read_buf(input) => count?,
            }
        };
        return Ok(if count == 0 { Heard::End } else { Heard::Bytes });
    }
}

/// Cuts a client that does not read its answers.
fn check_output(shared: &Shared, output: &mut Output<'_>) -> io::Result<()> {
    output.check_sum()?;
    let waiting = output.waiting().len();
    if waiting <= shared.resp.output_bytes_max {
        return Ok(());
    }
    tracing::warn!(bytes = waiting, "a client does not read its answers: closed");
    Err(io::Error::other("output_bytes_max is exceeded"))
}

/// Writes the last answers and closes.
async fn finish(output: &mut Output<'_>, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let patience = Duration::from_millis(STOP_MS);
    let written = tokio::time::timeout(patience, writer.write_all(output.waiting())).await;
    written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    writer.shutdown().await
}

fn is_http(item: Option<Item<'_>>) -> bool {
    matches!(item, Some(Item::Request(request)) if table::is_http(request.name()))
}
