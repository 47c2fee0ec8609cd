//! The RESP front door: what a Redis client sends, and what it is answered.
//!
//! ```text
//! bytes -> parse (batch of requests) -> table (which command) -> args (typed) -> executor -> reply
//! ```
//! Everything in this list but the executor is pure: no clock, no socket, no node. `parse` never
//! trusts a length, `table` is the one list of commands (lookup, arity, COMMAND, reasons for what
//! is not served), `args` speaks Redis's error texts, `reply` writes RESP2 and RESP3 straight into
//! the output buffer, `glob` matches patterns.

mod accept;
pub mod args;
mod clients;
mod exec;
pub mod glob;
mod held;
mod inline;
#[cfg(test)]
mod oracle;
pub mod parse;
pub mod reply;
mod request;
pub mod server;
mod slow;
pub mod table;
#[cfg(test)]
mod tests;
mod turn;
