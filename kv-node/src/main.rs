//! The node as a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    kv_node::main_with(std::env::args_os(), kv_node::MainParts::default())
}
