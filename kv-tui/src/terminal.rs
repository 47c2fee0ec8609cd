//! The terminal: taken for the screen, and given back however the program ends or stops.
//!
//! Invariant: whoever ends the program by return, error, panic or a signal that can be caught, or
//! stops it with ctrl-z, finds echo, cursor, mouse and scroll-back as they were.

use std::io::{self, Stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use crossterm::event::{
    self, DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
    Event, KeyEventKind, MouseButton, MouseEventKind,
};
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use rustix::process::{self, Signal as Raw};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::app::{Message, Pressed, Wheel};

/// Input events that wait for the screen, at most; more are dropped, as keys held down are.
const INPUTS_MAX: usize = 256;
/// Turns of the wheel come no faster than this.
const WHEEL: Duration = Duration::from_millis(20);

static PANICKED: AtomicBool = AtomicBool::new(false);
/// Whether the terminal is ours now.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether any thread or task of the program panicked: the terminal is given back already.
pub(crate) fn panicked() -> bool {
    PANICKED.load(Ordering::Acquire)
}

/// A terminal in raw mode on its alternate screen, until it is dropped.
pub(crate) struct Taken {
    pub(crate) terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Taken {
    pub(crate) fn new() -> io::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICKED.store(true, Ordering::Release);
            // First, so that the report is read on the screen that stays.
            restore();
            before(panic);
        }));
        let entered = enter();
        let terminal = entered.and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        match terminal {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                restore();
                Err(error)
            }
        }
    }

    /// Takes the terminal again, after it was given back or after somebody else had it.
    pub(crate) fn enter(&mut self) -> io::Result<()> {
        enter()?;
        self.redraw()
    }

    /// Draws everything anew at the next frame. `Terminal::clear` would ask the terminal where the
    /// cursor is, and fail where it does not answer in time.
    pub(crate) fn redraw(&mut self) -> io::Result<()> {
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::new(0, 0, size.width, size.height))
    }

    /// What ctrl-z does where it is no key: every process of the job is asked to stop, this one
    /// among them, which then comes to `suspend`.
    pub(crate) fn ask_to_stop() {
        let _not_ours = process::kill_current_process_group(Raw::TSTP);
    }

    /// Gives the terminal back and stops, until somebody lets the program go on.
    pub(crate) fn suspend(&mut self) -> io::Result<()> {
        // Without a shell there is nobody to let it go on.
        if process::getsid(None).is_ok_and(|leader| leader == process::getpid()) {
            return Ok(());
        }
        restore();
        process::kill_process(process::getpid(), Raw::STOP)?;
        self.enter()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        restore();
    }
}

fn enter() -> io::Result<()> {
    TAKEN.store(true, Ordering::Release);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture, EnableBracketedPaste)
}

/// Once for each time that it was taken: whoever leaves the alternate screen a second time moves
/// the cursor back over what was written since, such as the report of a panic. A terminal that is
/// gone can't be restored.
fn restore() {
    if !TAKEN.swap(false, Ordering::AcqRel) {
        return;
    }
    let _gone = execute!(
        io::stdout(),
        DisableBracketedPaste,
        DisableMouseCapture,
        LeaveAlternateScreen,
        cursor::Show
    );
    let _gone = disable_raw_mode();
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    End,
    Stop,
    Continued,
}

/// The signals that the program answers to.
pub(crate) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    stop: Signal,
    go_on: Signal,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        let of = |raw: Raw| signal(SignalKind::from_raw(raw.as_raw()));
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            stop: of(Raw::TSTP)?,
            go_on: of(Raw::CONT)?,
        })
    }

    pub(crate) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.term.recv() => Told::End,
            _ = self.int.recv() => Told::End,
            _ = self.hup.recv() => Told::End,
            _ = self.stop.recv() => Told::Stop,
            _ = self.go_on.recv() => Told::Continued,
        }
    }
}

/// A thread that reads the terminal until it is dropped.
pub(crate) struct Inputs {
    pub(crate) events: mpsc::Receiver<Message>,
    _stop: std::sync::mpsc::Sender<()>,
}

impl Inputs {
    pub(crate) fn read() -> io::Result<Self> {
        let (give, events) = mpsc::channel(INPUTS_MAX);
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        std::thread::Builder::new().name("keys".into()).spawn(move || {
            let mut turned: Option<Instant> = None;
            while stopped.recv_timeout(Duration::ZERO) == Err(RecvTimeoutError::Timeout) {
                let input = match event::poll(Duration::from_millis(100)) {
                    Ok(false) => continue,
                    Ok(true) => event::read().map(message_of),
                    Err(error) => Err(error),
                };
                match input {
                    Ok(Some(Message::Mouse(Wheel::Up | Wheel::Down)))
                        if turned.is_some_and(|last| last.elapsed() < WHEEL) => {}
                    Ok(Some(message)) => {
                        if matches!(message, Message::Mouse(Wheel::Up | Wheel::Down)) {
                            turned = Some(Instant::now());
                        }
                        let _full = give.try_send(message);
                    }
                    Ok(None) => {}
                    // The terminal is gone: so is the sender, which says it.
                    Err(_) => return,
                }
            }
        })?;
        Ok(Self { events, _stop: stop })
    }
}

fn message_of(event: Event) -> Option<Message> {
    match event {
        Event::Resize(columns, rows) => Some(Message::Resize(columns, rows)),
        Event::Paste(text) => Some(Message::Paste(text)),
        Event::Key(key) if key.kind != KeyEventKind::Release => {
            Some(Message::Key(Pressed { code: key.code, modifiers: key.modifiers }))
        }
        Event::Mouse(mouse) => match mouse.kind {
            MouseEventKind::Down(MouseButton::Left) => {
                Some(Message::Mouse(Wheel::Click(mouse.column, mouse.row)))
            }
            MouseEventKind::ScrollDown => Some(Message::Mouse(Wheel::Down)),
            MouseEventKind::ScrollUp => Some(Message::Mouse(Wheel::Up)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseEvent};

    #[test]
    fn events_become_messages() {
        let key = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
        let pressed = Pressed::char('q');
        assert!(matches!(message_of(Event::Key(key)), Some(Message::Key(it)) if it == pressed));
        let release = KeyEvent { kind: KeyEventKind::Release, ..key };
        assert!(message_of(Event::Key(release)).is_none());
        assert!(matches!(message_of(Event::Resize(3, 4)), Some(Message::Resize(3, 4))));
        let mouse = |kind| {
            let modifiers = KeyModifiers::NONE;
            message_of(Event::Mouse(MouseEvent { kind, column: 5, row: 6, modifiers }))
        };
        let click = mouse(MouseEventKind::Down(MouseButton::Left));
        assert!(matches!(click, Some(Message::Mouse(Wheel::Click(5, 6)))));
        assert!(mouse(MouseEventKind::Moved).is_none());
    }
}
