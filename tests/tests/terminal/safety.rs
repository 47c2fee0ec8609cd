//! The terminal is as it was, however the program ends or stops: by a key, by a signal, by ctrl-z,
//! by a panic.

use std::thread;
use std::time::{Duration, Instant};

use kv_client::{MemoryNode, Secret};

use crate::pty::{PATIENCE, Terminal, alone};

/// A node in memory that lives as long as this, served by a thread of its own.
struct Node {
    address: String,
    _runtime: tokio::runtime::Runtime,
    _served: MemoryNode,
}

fn node() -> Node {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
    let node = runtime.block_on(MemoryNode::start(Secret::default())).expect("a port");
    Node { address: node.address().to_owned(), _runtime: runtime, _served: node }
}

impl Node {
    fn attach(&self, variables: &[(&str, &str)]) -> Terminal {
        let addresses = [self.address.clone()];
        let terminal = Terminal::attach(&addresses, "", variables).expect("a terminal");
        terminal.shows("LIVE");
        assert!(terminal.is_taken(), "a test that can fail: it has the screen");
        terminal
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what} never comes");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_key_and_signals_give_the_terminal_back() {
    let Some(_alone) = alone("a_key_and_signals_give_the_terminal_back") else { return };
    let node = node();
    let mut terminal = node.attach(&[]);
    assert!(!terminal.program().expect("it runs").has_cooked_terminal(), "keys come one by one");
    terminal.press("q");
    terminal.ends_well(0);
    for signal in ["-TERM", "-HUP", "-INT"] {
        let mut terminal = node.attach(&[]);
        terminal.program().expect("it runs").signal(signal);
        terminal.ends_well(0);
    }
}

#[test]
fn ctrl_z_gives_the_terminal_back_until_it_goes_on() {
    let Some(_alone) = alone("ctrl_z_gives_the_terminal_back_until_it_goes_on") else { return };
    let node = node();
    let mut terminal = node.attach(&[]);
    for _ in 0..2 {
        let program = terminal.program().expect("it runs");
        terminal.press("\x1a");
        until("a stop", || program.is_stopped());
        until("the screen that scrolls", || !terminal.is_taken());
        assert!(!terminal.is_odd() && program.has_cooked_terminal(), "{}", terminal.text());
        program.signal("-CONT");
        until("its own screen", || terminal.is_taken());
        terminal.shows("LIVE");
        // Drawn anew, which asks nothing of a terminal that does not answer.
        terminal.press("\x0c");
        terminal.shows("LIVE");
        assert!(!program.is_stopped() && !program.has_cooked_terminal());
    }
    terminal.press("q");
    terminal.ends_well(0);
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_read_on_it() {
    let Some(_alone) = alone("a_panic_gives_the_terminal_back_and_is_read_on_it") else { return };
    let node = node();
    let mut terminal = node.attach(&[("KV_TEST_TUI_PANICS_AFTER_MS", "2000")]);
    terminal.ends_well(1);
    assert!(terminal.text().contains("a panic that was asked for"), "{}", terminal.text());
}
