//! One connection to each address, dialled when needed, and the rule of where to go next.
//!
//! Calls stay with the address that answered last. A read that failed goes on to the next address
//! while its deadline lasts. A write goes on only when it certainly had no effect: it was never
//! sent, or the node said so. Anything else could make one write two.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tarpc::client::RpcError;
use tarpc::context::Context;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::client::Config;
use crate::dial::{DialError, DialOptions, dial};
use crate::error::{Error, Result};
use crate::handshake::Role;
use crate::wire::ServiceError;

/// A tarpc stub that can be put over a connection.
pub(crate) trait Stub: Clone + Send + Sync + 'static {
    const ROLE: Role;

    /// The stub, and the future that moves its bytes until the connection ends.
    fn over(
        stream: TcpStream,
        frame_bytes_max: u32,
    ) -> (Self, impl Future<Output = ()> + Send + 'static);
}

/// Whether a call may be made twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

pub(crate) struct Pool<S> {
    config: Config,
    entries: Vec<Entry<S>>,
    preferred: AtomicUsize,
}

struct Entry<S> {
    address: String,
    live: Mutex<Option<Live<S>>>,
}

#[derive(Clone)]
struct Live<S> {
    stub: S,
    open: Arc<AtomicBool>,
}

enum Turn<T> {
    Done(T),
    /// Another address may do better, and asking it can't make one write two.
    Elsewhere(Error),
    Final(Error),
}

impl<S: Stub> Pool<S> {
    /// Dials until one address answers.
    pub(crate) async fn connect<A: AsRef<str>>(addresses: &[A], config: Config) -> Result<Self> {
        if addresses.is_empty() {
            return Err(Error::Config("no address to connect to"));
        }
        let entries = addresses
            .iter()
            .map(|address| Entry { address: address.as_ref().to_owned(), live: Mutex::new(None) })
            .collect();
        let pool = Self { config, entries, preferred: AtomicUsize::new(0) };
        let mut tried = Vec::new();
        for (at, entry) in pool.entries.iter().enumerate() {
            match pool.live(entry).await {
                Ok(_) => {
                    pool.preferred.store(at, Ordering::Relaxed);
                    return Ok(pool);
                }
                Err(error) => tried.push((entry.address.clone(), error)),
            }
        }
        Err(unreachable(tried))
    }

    /// Makes a call, at most `deadline_ms` of the configuration.
    pub(crate) async fn call<T, F>(
        &self,
        kind: Kind,
        call: impl Fn(S, Context, u32) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<Result<T, ServiceError>, RpcError>>,
    {
        let end = Instant::now() + Duration::from_millis(u64::from(self.config.deadline_ms));
        let first = self.preferred.load(Ordering::Relaxed);
        let mut tried = Vec::new();
        let mut last = None;
        let count = self.entries.len();
        let in_turn = (0..count).filter_map(|turn| {
            let at = (first + turn) % count;
            Some((turn, at, self.entries.get(at)?))
        });
        for (turn, at, entry) in in_turn {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // A read leaves half of its time to the addresses that follow.
            let others_follow = kind == Kind::Read && turn + 1 < count;
            let budget = if others_follow { left / 2 } else { left };
            let dialled = tokio::time::timeout(budget, self.live(entry)).await;
            let live = match dialled.unwrap_or(Err(DialError::TimedOut)) {
                Ok(live) => live,
                Err(error) => {
                    tried.push((entry.address.clone(), error));
                    continue;
                }
            };
            match self.turn(kind, entry, live, budget, &call).await {
                Turn::Done(answer) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Turn::Final(error) => return Err(error),
                Turn::Elsewhere(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| unreachable(tried)))
    }

    async fn turn<T, F>(
        &self,
        kind: Kind,
        entry: &Entry<S>,
        live: Live<S>,
        budget: Duration,
        call: impl Fn(S, Context, u32) -> F,
    ) -> Turn<T>
    where
        F: Future<Output = Result<Result<T, ServiceError>, RpcError>>,
    {
        let mut context = tarpc::context::current();
        context.deadline = Instant::now() + budget;
        let budget_ms = u32::try_from(budget.as_millis()).unwrap_or(u32::MAX);
        let answer = call(live.stub.clone(), context, budget_ms);
        let failure = match tokio::time::timeout(budget, answer).await {
            Ok(Ok(Ok(answer))) => return Turn::Done(answer),
            Ok(Ok(Err(error))) => {
                let elsewhere = match kind {
                    Kind::Read => error.worth_another_node(),
                    Kind::Write => matches!(error, ServiceError::NotServing(_)),
                };
                let error = Error::from(error);
                return if elsewhere { Turn::Elsewhere(error) } else { Turn::Final(error) };
            }
            Ok(Err(RpcError::Send(_))) => {
                let bytes_max = self.config.frame_bytes_max;
                return Turn::Final(Error::TooLarge { frame_bytes_max: bytes_max });
            }
            Ok(Err(RpcError::DeadlineExceeded)) | Err(_) => Error::TimedOut,
            Ok(Err(error)) => Error::Lost(error.to_string()),
        };
        // Whatever is wrong with this connection, the next call dials anew.
        let mut slot = entry.live.lock().await;
        if slot.as_ref().is_some_and(|now| Arc::ptr_eq(&now.open, &live.open)) {
            *slot = None;
        }
        match kind {
            Kind::Read => Turn::Elsewhere(failure),
            Kind::Write => Turn::Final(failure),
        }
    }

    async fn live(&self, entry: &Entry<S>) -> Result<Live<S>, DialError> {
        let mut slot = entry.live.lock().await;
        if let Some(live) = slot.as_ref().filter(|live| live.open.load(Ordering::Acquire)) {
            return Ok(live.clone());
        }
        let options = DialOptions {
            secret: self.config.secret.clone(),
            role: S::ROLE,
            bind_source: self.config.bind_source,
            dial_ms_max: u64::from(self.config.dial_ms_max),
        };
        let stream = dial(&entry.address, &options).await?;
        let (stub, work) = S::over(stream, self.config.frame_bytes_max);
        let open = Arc::new(AtomicBool::new(true));
        let flag = Arc::clone(&open);
        tokio::spawn(async move {
            work.await;
            flag.store(false, Ordering::Release);
        });
        let live = Live { stub, open };
        *slot = Some(live.clone());
        Ok(live)
    }
}

/// A refused handshake says more than that nobody could be reached, if it was the only answer.
fn unreachable(mut tried: Vec<(String, DialError)>) -> Error {
    let refused = tried.iter().position(|(_, why)| matches!(why, DialError::Handshake(_)));
    if let Some(at) = refused.filter(|_| tried.len() == 1)
        && let (address, DialError::Handshake(error)) = tried.swap_remove(at)
    {
        return Error::Handshake { address, error };
    }
    let tried = tried.into_iter().map(|(address, why)| (address, why.to_string())).collect();
    Error::Unreachable { tried }
}
