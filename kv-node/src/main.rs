//! The node as a process.

fn main() {}
