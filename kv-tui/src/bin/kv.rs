//! The `kv` command: see `kv --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kv_tui::kv(std::env::args_os())
}
