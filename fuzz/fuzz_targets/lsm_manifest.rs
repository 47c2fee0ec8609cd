//! A manifest of kv-lsm: whatever stands in it, reading gives what was written, or an error.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kv_lsm::fuzzing::manifest(bytes));
