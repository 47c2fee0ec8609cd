//! To be written by its owner.
// What the engine needs of an edit besides tables: `flushed_seq: Option<u64>`, the sequence up to
// which the log is no longer needed, kept by the manifest and given back at open (0 when new).
