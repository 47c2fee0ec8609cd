//! Developers verbs.

fn main() {}
