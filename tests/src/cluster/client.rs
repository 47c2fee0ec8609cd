//! A Redis client of a test, whose every operation goes into the history.
//!
//! It is the `redis` crate's ordinary synchronous client. A connection that broke is dialled anew
//! at the next operation; what was under way on it may have happened or not.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{Connection, RedisError, RedisResult, Value};

use crate::sim::history::{Action, History, Outcome};

/// The system's number for a wait that was interrupted.
const EINTR: i32 = 4;
/// A node that says nothing for so long counts as gone.
const ANSWER_MS_MAX: u64 = 10_000;
/// A node on this machine is connected to in this time, or not at all.
const CONNECT_MS_MAX: u64 = 2_000;

/// One client, with a connection to each node that it talks to.
pub struct Client<'h> {
    id: usize,
    addresses: Vec<SocketAddr>,
    connections: Vec<Option<Connection>>,
    history: &'h Mutex<History>,
    /// The slowest answer so far.
    pub slowest: Duration,
    /// What went wrong so far, as text.
    pub errors: Vec<String>,
}

impl std::fmt::Debug for Client<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<'h> Client<'h> {
    /// Client `id` of the nodes at these addresses.
    #[must_use]
    pub fn new(id: usize, addresses: Vec<SocketAddr>, history: &'h Mutex<History>) -> Self {
        let connections = addresses.iter().map(|_| None).collect();
        let slowest = Duration::ZERO;
        Self { id, addresses, connections, history, slowest, errors: Vec::new() }
    }

    /// How many nodes it talks to.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.addresses.len()
    }

    /// SET through a node; whether it was acknowledged.
    pub fn set(&mut self, node: usize, key: &str, value: &str) -> bool {
        let begun = self.begin(node, key, Action::Set(value.into()));
        let told = self.ask::<String>(node, redis::cmd("SET").arg(key).arg(value));
        let outcome = match told {
            Ok(_) => Outcome::Acknowledged,
            Err(error) => self.failed(&error),
        };
        let acknowledged = outcome == Outcome::Acknowledged;
        self.end(begun, outcome);
        acknowledged
    }

    /// GET through a node.
    pub fn get(&mut self, node: usize, key: &str) -> Option<String> {
        let begun = self.begin(node, key, Action::Get);
        let told = self.ask::<Option<String>>(node, redis::cmd("GET").arg(key));
        let outcome = match told {
            Ok(value) => Outcome::Shown(value),
            Err(error) => self.failed(&error),
        };
        let shown = if let Outcome::Shown(value) = &outcome { value.clone() } else { None };
        self.end(begun, outcome);
        shown
    }

    /// MGET through a node, as one GET each in the history.
    pub fn get_all(&mut self, node: usize, keys: &[&str]) {
        let begun: Vec<usize> = keys.iter().map(|key| self.begin(node, key, Action::Get)).collect();
        let told = self.ask::<Vec<Option<String>>>(node, redis::cmd("MGET").arg(keys));
        match told {
            Ok(values) => {
                for (begun, value) in begun.into_iter().zip(values) {
                    self.end(begun, Outcome::Shown(value));
                }
            }
            Err(error) => {
                let outcome = self.failed(&error);
                for begun in begun {
                    self.end(begun, outcome.clone());
                }
            }
        }
    }

    /// Any command through a node, outside the history.
    ///
    /// # Errors
    /// What the node or the connection said.
    pub fn ask<T: redis::FromRedisValue>(
        &mut self,
        node: usize,
        command: &redis::Cmd,
    ) -> RedisResult<T> {
        let asked = Instant::now();
        let told = self.connection(node).and_then(|connection| command.query(connection));
        self.slowest = self.slowest.max(asked.elapsed());
        if let Err(error) = &told
            && is_broken(error)
            && let Some(slot) = self.connections.get_mut(node)
        {
            *slot = None;
        }
        told
    }

    fn connection(&mut self, node: usize) -> RedisResult<&mut Connection> {
        let nowhere = || RedisError::from((redis::ErrorKind::InvalidClientConfig, "no such node"));
        let address = *self.addresses.get(node).ok_or_else(nowhere)?;
        let slot = self.connections.get_mut(node).ok_or_else(nowhere)?;
        match slot {
            Some(connection) => Ok(connection),
            None => Ok(slot.insert(connect(address)?)),
        }
    }

    fn begin(&self, node: usize, key: &str, action: Action) -> usize {
        self.history.lock().begin(self.id, node, key, action)
    }

    fn end(&self, begun: usize, outcome: Outcome) {
        self.history.lock().end(begun, outcome, 0);
    }

    fn failed(&mut self, error: &RedisError) -> Outcome {
        // The system ends a wait with a time limit when the machine was stopped meanwhile: nobody
        // told this client anything.
        if !is_interrupted(error) {
            self.errors.push(error.to_string());
        }
        outcome_of(error.code(), error.to_string())
    }
}

/// What an error says of the data: a node that answers one has written nothing, unless it says
/// that it may have; without a code no node said anything.
fn outcome_of(code: Option<&str>, text: String) -> Outcome {
    match code {
        None | Some("INDETERMINATE") => Outcome::Unknown(text),
        Some(_) => Outcome::Failed(text),
    }
}

fn is_interrupted(error: &RedisError) -> bool {
    // The crate shows the system's error as text only.
    let text = io::Error::from_raw_os_error(EINTR).to_string();
    error.is_io_error() && error.to_string().contains(&text)
}

fn is_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_timeout()
}

pub(super) fn connect(address: SocketAddr) -> RedisResult<Connection> {
    let client = redis::Client::open(format!("redis://{address}/"))?;
    let connection = client.get_connection_with_timeout(Duration::from_millis(CONNECT_MS_MAX))?;
    connection.set_read_timeout(Some(Duration::from_millis(ANSWER_MS_MAX)))?;
    Ok(connection)
}

/// Whether an answer, or anything in it, is these bytes.
#[must_use]
pub fn shows(answer: &Value, wanted: &[u8]) -> bool {
    match answer {
        Value::BulkString(bytes) => bytes == wanted,
        Value::Array(values) | Value::Set(values) => {
            values.iter().any(|value| shows(value, wanted))
        }
        Value::Map(pairs) => {
            pairs.iter().any(|(key, value)| shows(key, wanted) || shows(value, wanted))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_answers_an_error_has_written_nothing_unless_it_says_otherwise() {
        let of = |code| outcome_of(code, String::new());
        for code in ["ERR", "MISCONF", "OOM", "BUSY", "NOREPLICAS", "UNAVAILABLE", "LOADING"] {
            assert_eq!(of(Some(code)), Outcome::Failed(String::new()), "{code}");
        }
        assert_eq!(of(Some("INDETERMINATE")), Outcome::Unknown(String::new()));
        assert_eq!(of(None), Outcome::Unknown(String::new()), "the connection broke");
    }
}
