//! The terminal: taken for the screen, and given back however the program ends.
//!
//! Invariant: whoever ends the program by return, error, panic or a signal that can be caught finds
//! echo, cursor and scroll-back as they were.

use std::io::{self, Stdout};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use tokio::sync::mpsc;

/// Input events that wait for the screen, at most; more are dropped, as keys held down are.
const INPUTS_MAX: usize = 32;

/// A terminal in raw mode on its alternate screen, until it is dropped.
pub(crate) struct Taken {
    pub(crate) terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Taken {
    pub(crate) fn new() -> io::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // First, so that the report is read on the screen that stays.
            restore();
            before(panic);
        }));
        enable_raw_mode()?;
        let entered = execute!(io::stdout(), EnterAlternateScreen);
        let terminal = entered.and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        match terminal {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                restore();
                Err(error)
            }
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        restore();
    }
}

/// Doing it twice does no harm; a terminal that is gone can't be restored.
fn restore() {
    let _gone = disable_raw_mode();
    let _gone = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
}

/// What a person did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Quit,
    /// The screen must be drawn anew.
    Redraw,
}

/// A thread that reads the terminal until it is dropped.
pub(crate) struct Inputs {
    pub(crate) events: mpsc::Receiver<Input>,
    _stop: std::sync::mpsc::Sender<()>,
}

impl Inputs {
    pub(crate) fn read() -> io::Result<Self> {
        let (give, events) = mpsc::channel(INPUTS_MAX);
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        std::thread::Builder::new().name("keys".into()).spawn(move || {
            while stopped.recv_timeout(Duration::ZERO) == Err(RecvTimeoutError::Timeout) {
                let input = match event::poll(Duration::from_millis(100)) {
                    Ok(false) => continue,
                    Ok(true) => event::read().map(|event| input_of(&event)),
                    Err(error) => Err(error),
                };
                match input {
                    Ok(Some(input)) => {
                        let _full = give.try_send(input);
                    }
                    Ok(None) => {}
                    // The terminal is gone, and who looked at it.
                    Err(_) => {
                        let _gone = give.blocking_send(Input::Quit);
                        return;
                    }
                }
            }
        })?;
        Ok(Self { events, _stop: stop })
    }
}

fn input_of(event: &Event) -> Option<Input> {
    match event {
        Event::Resize(..) => Some(Input::Redraw),
        Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Some(Input::Quit),
            // In raw mode this is a key and no signal.
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                Some(Input::Quit)
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossterm::event::KeyEvent;

    #[test]
    fn q_escape_and_control_c_quit() {
        let press = |code, modifiers| input_of(&Event::Key(KeyEvent::new(code, modifiers)));
        let none = KeyModifiers::NONE;
        assert_eq!(press(KeyCode::Char('q'), none), Some(Input::Quit));
        assert_eq!(press(KeyCode::Esc, none), Some(Input::Quit));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Input::Quit));
        assert_eq!(press(KeyCode::Char('c'), none), None);
        assert_eq!(input_of(&Event::Resize(3, 4)), Some(Input::Redraw));
    }
}
