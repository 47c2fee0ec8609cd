//! What stands behind the checksums of kv-lsm's files: index, filters, properties, footer, edits,
//! operations, compressed blocks.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kv_lsm::fuzzing::parts(bytes));
