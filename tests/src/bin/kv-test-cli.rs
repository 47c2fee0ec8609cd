//! The `kv` command, for tests that run it as a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    kv_tui::kv(std::env::args_os())
}
