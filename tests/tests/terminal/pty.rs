//! The terminal program in a pseudo terminal: `script` gives it one, vt100 reads what it draws, and
//! `stty` tells in which mode the terminal is.
//!
//! A shell is between the two, as it is where people work: it tells with which code the program
//! ended, and in which mode it left the terminal.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

const ROWS: NonZeroU16 = NonZeroU16::new(40).unwrap();
const COLUMNS: NonZeroU16 = NonZeroU16::new(120).unwrap();
/// For whatever a cluster does by itself: it takes a few seconds, and a busy machine stalls it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// The program, as the system names its process.
const NAME: &str = "kv-test-tui";
/// How long the program may take to end.
const END_WITHIN: Duration = Duration::from_secs(10);

/// The program in its terminal.
pub(crate) struct Terminal {
    process: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<vt100::Parser>>,
    reader: Option<JoinHandle<()>>,
}

/// One test at a time: ports are asked of the system before their nodes listen, and what is
/// measured is to be measured of one cluster.
static ALONE: Mutex<()> = Mutex::new(());

/// Waits for the other tests. `None` where there is no `script`: the test is over, which is
/// printed.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
pub(crate) fn alone(test: &str) -> Option<MutexGuard<'static, ()>> {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("SKIPPED {test}: there is no `script`");
        return None;
    }
    Some(ALONE.lock())
}

impl Terminal {
    /// Asks these addresses, with further arguments and variables.
    pub(crate) fn attach(
        addresses: &[String],
        arguments: &str,
        variables: &[(&str, &str)],
    ) -> io::Result<Self> {
        let program = env!("CARGO_BIN_EXE_kv-test-tui");
        let line = format!(
            "stty rows {ROWS} cols {COLUMNS}; '{program}' --connect {} {arguments}; code=$?; \
             echo \"it ended with $code\"; stty -a; exit $code",
            addresses.join(",")
        );
        let mut process = Command::new("script")
            .args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"])
            .env("TERM", "xterm-256color")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("KV_CONNECT")
            .env_remove("KV_SECRET_FILE")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let gone = || io::Error::other("a pipe is missing");
        let keys = process.stdin.take().ok_or_else(gone)?;
        let mut drawn = process.stdout.take().ok_or_else(gone)?;
        let screen = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)));
        let shared = Arc::clone(&screen);
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(count) = drawn.read(&mut bytes) {
                match bytes.get(..count) {
                    Some(some) if !some.is_empty() => shared.lock().process(some),
                    _ => break,
                }
            }
        });
        Ok(Self { process, keys, screen, reader: Some(reader) })
    }

    pub(crate) fn text(&self) -> String {
        self.screen.lock().screen().contents()
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).expect("pressed");
    }

    /// Waits until something is on the screen, and tells what `find` made of it.
    #[expect(clippy::print_stdout, reason = "figures, for whoever runs it with --nocapture")]
    pub(crate) fn until<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            let text = self.text();
            if let Some(found) = find(&text) {
                println!("{what} after {:.1} s", began.elapsed().as_secs_f64());
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "{what} is not on the screen:\n{text}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn shows(&self, what: &str) {
        self.until(what, |text| text.contains(what).then_some(()));
    }

    /// The program's process, which is a child of a child of ours.
    pub(crate) fn program(&self) -> Option<Program> {
        let mut pids = vec![self.process.id()];
        while let Some(pid) = pids.pop() {
            if fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end() == NAME {
                return Some(Program(pid));
            }
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            pids.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        }
        None
    }

    /// Whether the screen that scrolls is hidden.
    pub(crate) fn is_taken(&self) -> bool {
        self.screen.lock().screen().alternate_screen()
    }

    /// Whether a mouse, or a paste in brackets, would be told as keys, or the cursor can't be seen.
    pub(crate) fn is_odd(&self) -> bool {
        let parser = self.screen.lock();
        let screen = parser.screen();
        let mouse = screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None;
        mouse || screen.bracketed_paste() || screen.hide_cursor()
    }

    /// Waits for its end; its exit code.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let until = Instant::now() + END_WITHIN;
        while Instant::now() < until {
            if let Ok(Some(status)) = self.process.try_wait() {
                if let Some(reader) = self.reader.take() {
                    reader.join().expect("it read all");
                }
                return status.code();
            }
            thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// Asserts that it ended with this code, and that the terminal is as it was before: the screen
    /// that scrolls is shown, the mouse is nobody's, keys are shown and taken by the line.
    pub(crate) fn ends_well(&mut self, code: i32) {
        let ended = self.end();
        let text = self.text();
        assert_eq!(ended, Some(code), "{text}");
        assert!(!self.is_taken() && !self.is_odd(), "{text}");
        assert!(text.contains(&format!("it ended with {code}")), "{text}");
        assert!(is_cooked(&text), "{text}");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None))
            && let Some(program) = self.program()
        {
            program.signal("-KILL");
        }
        let _gone = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// Whether what `stty -a` says is the mode of a line that is typed, and not that of a program.
fn is_cooked(stty: &str) -> bool {
    let has = |word: &str| stty.split_whitespace().any(|of| of.trim_end_matches(';') == word);
    has("icanon") && has("echo") && has("isig") && !has("-icanon") && !has("-echo")
}

/// A process of the program.
pub(crate) struct Program(u32);

impl Program {
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.to_string()]).status();
        assert!(sent.is_ok_and(|sent| sent.success()), "kill {signal} {}", self.0);
    }

    /// Whether it was stopped, as by ctrl-z.
    pub(crate) fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Whether its terminal takes lines, as it does for a shell.
    pub(crate) fn has_cooked_terminal(&self) -> bool {
        let terminal: PathBuf =
            fs::read_link(format!("/proc/{}/fd/0", self.0)).expect("it has one");
        let told = Command::new("stty").arg("-a").arg("-F").arg(terminal).output().expect("stty");
        is_cooked(&String::from_utf8_lossy(&told.stdout))
    }
}
