//! The `kv-tui` command, for tests that drive it in a terminal.
//!
//! `KV_TEST_TUI_PANICS_AFTER_MS` lets a thread of it panic then: the terminal must be given back.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

fn main() -> ExitCode {
    let after_ms = std::env::var("KV_TEST_TUI_PANICS_AFTER_MS").ok();
    if let Some(after_ms) = after_ms.and_then(|text| text.parse().ok()) {
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(after_ms));
            panic!("a panic that was asked for");
        });
    }
    kv_tui::kv_tui(std::env::args_os())
}
