//! The `kv-tui` command, for tests that drive it in a terminal.

use std::process::ExitCode;

fn main() -> ExitCode {
    kv_tui::kv_tui(std::env::args_os())
}
