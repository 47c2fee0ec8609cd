//! The request parser on any bytes, beside redis-protocol: the check that the unit tests of
//! kv-node run for some seconds, here for as long as one likes.

#![no_main]

use kv_node::resp::parse;
use libfuzzer_sys::fuzz_target;

#[path = "../../kv-node/src/resp/oracle.rs"]
mod oracle;

fuzz_target!(|bytes: &[u8]| oracle::check(bytes));
