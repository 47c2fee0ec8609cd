//! The `kv` command: verbs for scripts.

fn main() {}
