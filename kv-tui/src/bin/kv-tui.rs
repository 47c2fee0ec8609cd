//! The `kv-tui` command: see `kv-tui --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kv_tui::kv_tui(std::env::args_os())
}
