//! The `kv-tui` command: messages in, frames out.
//!
//! One loop takes what comes (signals, keys, answers, time), gives it to `update`, hands the
//! effects on, and draws when something changed, at most some times a second.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use tokio::sync::mpsc;

use crate::app::{App, Effect, Message, Options, Tab, is_loopback, update};
use crate::args::{Connect, complain, runtime};
use crate::clock::unix_ms;
use crate::error::{Error, Exit};
use crate::local::LocalProgram;
use crate::model::Health;
use crate::runner::Runner;
use crate::source;
use crate::terminal::{Inputs, Signals, Taken, Told, panicked};
use crate::view;

/// Time that goes by between two frames at least.
const FRAME: Duration = Duration::from_millis(50);
/// Time that goes by without a message at most.
const TICK: Duration = Duration::from_millis(500);
/// Messages that are taken between two frames at most.
const BURST_MAX: usize = 64;

/// Columns or rows of a printed frame at most.
const SIDE_MAX: u16 = 1_000;

/// Shows a kv cluster live, as one node sees it: ring, nodes, keys and their siblings, repair.
#[derive(Debug, Parser)]
#[command(name = "kv-tui", version)]
pub(crate) struct KvTui {
    #[command(flatten)]
    connect: Connect,
    /// Refuse every write; the default, unless all members are on this machine.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    readonly: Option<bool>,
    /// Draw with ASCII only; the default where the locale is not UTF-8.
    #[arg(long)]
    ascii: bool,
    /// The program that runs a local cluster, and its arguments up to `;`. Keys of the Nodes tab
    /// have it kill, pause, cut and start nodes: `{}` stands for the verb and the node's number, as
    /// in `cargo xtask cluster kill 3 -9`.
    #[arg(
        long,
        value_name = "PROGRAM",
        num_args = 1..,
        allow_hyphen_values = true,
        value_terminator = ";",
        requires = "local_base_port"
    )]
    local: Vec<OsString>,
    /// Node 1 of that cluster serves Redis clients at the port after this one, node 2 at the next.
    #[arg(long, value_name = "PORT", requires = "local")]
    local_base_port: Option<u16>,
    /// The tab to begin with.
    #[arg(long, value_name = "TAB", default_value = "ring")]
    tab: Which,
    /// Look this key up at once.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Print one frame of a tab as text and exit, with the exit codes of `kv status`.
    #[arg(long, value_name = "TAB")]
    once: Option<Which>,
    /// Print that frame as an SVG picture.
    #[arg(long, requires = "once")]
    svg: bool,
    /// The size of that frame.
    #[arg(long, value_name = "COLUMNSxROWS", default_value = "120x40", value_parser = size)]
    size: (u16, u16),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    /// Who owns which part of the ring.
    Ring,
    /// The members.
    Nodes,
    /// One key, replica by replica.
    Keys,
    /// Keys with siblings.
    Conflicts,
    /// Hints and anti-entropy.
    Repair,
    /// What happened.
    Events,
    /// Whether there is enough of everything.
    Scale,
}

impl From<Which> for Tab {
    fn from(which: Which) -> Self {
        match which {
            Which::Ring => Self::Ring,
            Which::Nodes => Self::Nodes,
            Which::Keys => Self::Keys,
            Which::Conflicts => Self::Conflicts,
            Which::Repair => Self::Repair,
            Which::Events => Self::Events,
            Which::Scale => Self::Scale,
        }
    }
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let sides = text.split_once('x').and_then(|(columns, rows)| {
        let side = |text: &str| text.parse().ok().filter(|side| (1..=SIDE_MAX).contains(side));
        Some((side(columns)?, side(rows)?))
    });
    sides.ok_or_else(|| format!("columns x rows, 1 to {SIDE_MAX} each, such as 120x40"))
}

/// Runs the `kv-tui` command. `arguments` are those of a process, its name first.
pub fn kv_tui(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let asked = match KvTui::try_parse_from(arguments) {
        Ok(asked) => asked,
        Err(told) => {
            let _unwritable = told.print();
            return if told.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let ended = runtime().map_err(Error::from).and_then(|runtime| {
        runtime.block_on(async {
            match asked.once {
                Some(which) => asked.once(which.into()).await,
                None => asked.live().await,
            }
        })
    });
    match ended {
        Ok(exit) => exit.into(),
        // Who reads our output has enough of it, as `head` does.
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok.into(),
        Err(error) => {
            complain("kv-tui", &error);
            error.exit().into()
        }
    }
}

impl KvTui {
    fn app(&self, tab: Tab, size: (u16, u16), ascii: bool) -> App {
        let addresses = &self.connect.addresses;
        let options = Options {
            address: addresses.join(","),
            readonly: self.readonly,
            local: addresses.iter().all(|address| is_loopback(address)),
            local_base_port: self.local_base_port,
            ascii: self.ascii || ascii,
            plain: std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty()),
        };
        App { tab, ..App::new(options, size) }
    }

    fn runner(&self) -> (Runner, mpsc::Receiver<Message>) {
        Runner::new(self.connect.clone(), LocalProgram(self.local.clone()))
    }

    async fn once(&self, tab: Tab) -> Result<Exit, Error> {
        let admin = self.connect.admin().await?;
        let snapshot = source::Feed::default().next(&admin, &admin).await?;
        let health = snapshot.health();
        let mut app = self.app(tab, self.size, false);
        let unix_ms = unix_ms();
        update(&mut app, Message::Tick { now_ms: 0, unix_ms });
        update(&mut app, Message::Heard(Box::new(snapshot)));
        if let Some(key) = &self.key {
            let (runner, _told) = self.runner();
            let look = runner.look(key.clone().into()).await;
            update(&mut app, Message::Looked(Box::new(look)));
        }
        let (width, height) = self.size;
        let drawn = if self.svg { view::picture } else { view::print };
        io::stdout().write_all(drawn(&app, width, height).as_bytes())?;
        Ok(match health {
            Health::Healthy => Exit::Ok,
            Health::Degraded => Exit::Degraded,
            Health::NoQuorum => Exit::NoQuorum,
        })
    }

    async fn live(&self) -> Result<Exit, Error> {
        if !io::stdout().is_terminal() {
            return Err(Error::Input("standard output is no terminal: use --once TAB".to_owned()));
        }
        // A mistyped address is an error before the screen is taken.
        drop(self.connect.admin().await?);
        let (runner, told) = self.runner();
        let mut signals = Signals::listen()?;
        let mut taken = Taken::new()?;
        let mut inputs = Inputs::read()?;
        let area = taken.terminal.size()?;
        let mut app = self.app(self.tab.into(), (area.width, area.height), !is_utf8());
        if let Some(key) = &self.key {
            let key = bytes::Bytes::from(key.clone());
            app.looking = Some(key.clone());
            runner.run(Effect::Look(key));
        }
        let watching = tokio::spawn(runner.clone().watch());
        let screen = Screen { app, runner, told, began: Instant::now() };
        let ended = screen.run(&mut taken, &mut inputs, &mut signals).await;
        watching.abort();
        ended
    }
}

struct Screen {
    app: App,
    runner: Runner,
    told: mpsc::Receiver<Message>,
    began: Instant,
}

impl Screen {
    async fn run(
        mut self,
        taken: &mut Taken,
        inputs: &mut Inputs,
        signals: &mut Signals,
    ) -> Result<Exit, Error> {
        loop {
            if panicked() {
                return Ok(Exit::Error);
            }
            taken.terminal.draw(|frame| view::draw(frame, &self.app))?;
            let drawn = Instant::now();
            let message = tokio::select! {
                biased;
                signal = signals.next() => match signal {
                    Told::End => return Ok(Exit::Ok),
                    Told::Stop => {
                        taken.suspend()?;
                        Some(Message::Continued)
                    }
                    Told::Continued => {
                        taken.enter()?;
                        Some(Message::Continued)
                    }
                },
                input = inputs.events.recv() => match input {
                    Some(message) => Some(message),
                    // The terminal is gone.
                    None => return Ok(Exit::Ok),
                },
                told = self.told.recv() => told,
                () = tokio::time::sleep(TICK) => None,
            };
            self.tick();
            if self.take(message, taken)? {
                return Ok(Exit::Ok);
            }
            // Keys that are held down and answers that come together make one frame.
            for _ in 0..BURST_MAX {
                let more = inputs.events.try_recv().ok().or_else(|| self.told.try_recv().ok());
                let Some(message) = more else { break };
                if self.take(Some(message), taken)? {
                    return Ok(Exit::Ok);
                }
            }
            tokio::time::sleep(FRAME.saturating_sub(drawn.elapsed())).await;
        }
    }

    fn tick(&mut self) {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let effects = update(&mut self.app, Message::Tick { now_ms, unix_ms: unix_ms() });
        for effect in effects {
            self.runner.run(effect);
        }
    }

    /// Whether the program ends.
    fn take(&mut self, message: Option<Message>, taken: &mut Taken) -> Result<bool, Error> {
        let Some(message) = message else { return Ok(false) };
        for effect in update(&mut self.app, message) {
            match effect {
                Effect::Quit => return Ok(true),
                Effect::Suspend => Taken::ask_to_stop(),
                Effect::Redraw => taken.redraw()?,
                effect => self.runner.run(effect),
            }
        }
        Ok(false)
    }
}

/// Whether the locale says that other characters than ASCII can be shown. One that says nothing is
/// taken for a modern one.
fn is_utf8() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
    locale.is_none_or(|locale| {
        let locale = locale.to_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn sizes_are_two_bounded_sides() {
        assert_eq!(size("120x40"), Ok((120, 40)));
        for wrong in ["", "120", "0x40", "120x", "9999x40", "-1x4", "1x2x3"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        KvTui::command().debug_assert();
    }

    #[test]
    fn a_local_program_has_arguments_of_its_own() {
        let words = ["kv-tui", "--local-base-port", "7000", "--local", "/x/xtask", "cluster", "{}"];
        let end = ["--name", "-n", ";", "--ascii", "--tab", "nodes"];
        let asked = KvTui::try_parse_from(words.iter().chain(&end)).expect("it is understood");
        assert_eq!(asked.local, ["/x/xtask", "cluster", "{}", "--name", "-n"]);
        assert!(asked.ascii && asked.local_base_port == Some(7_000));
        let last = KvTui::try_parse_from(words).expect("it needs no end");
        assert_eq!(last.local, ["/x/xtask", "cluster", "{}"]);
        assert!(KvTui::try_parse_from(["kv-tui", "--local", "xtask"]).is_err(), "no ports");
        assert!(KvTui::try_parse_from(["kv-tui", "--local-base-port", "7000"]).is_err());
    }

    #[test]
    fn readonly_is_a_choice_of_three() {
        let readonly = |arguments: &[&str]| {
            KvTui::try_parse_from(arguments).expect("it is understood").readonly
        };
        assert_eq!(readonly(&["kv-tui"]), None);
        assert_eq!(readonly(&["kv-tui", "--readonly"]), Some(true));
        assert_eq!(readonly(&["kv-tui", "--readonly=false"]), Some(false));
    }
}
