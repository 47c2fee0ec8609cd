//! A segment of kv-lsm's log: whatever stands in it, reading gives frames without gaps, or damage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kv_lsm::fuzzing::wal(bytes));
