//! The operators face of the kv store: the kv command and the kv-tui terminal.
