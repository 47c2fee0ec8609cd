//! The `kv-tui` command: asks a node each second, and draws what it said.
//!
//! A question that is not answered leaves the last answer on the screen, with its age. Questions
//! never overlap: the next one is asked a second after the last was answered or given up.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use kv_client::Admin;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::args::{Connect, complain, runtime};
use crate::error::{Error, Exit};
use crate::model::{Health, Snapshot};
use crate::source;
use crate::terminal::{Input, Inputs, Taken};
use crate::view::{self, Screen};

/// Time between an answer and the next question.
const REFRESH: Duration = Duration::from_secs(1);

/// Columns or rows of a printed frame at most.
const SIDE_MAX: u16 = 1_000;

/// Shows a kv cluster live: its ring and its nodes, as one node sees them. Changes nothing.
#[derive(Debug, Parser)]
#[command(name = "kv-tui", version)]
struct KvTui {
    #[command(flatten)]
    connect: Connect,
    /// Print one frame of a screen as text and exit, with the exit codes of `kv status`.
    #[arg(long, value_name = "SCREEN")]
    once: Option<Which>,
    /// The size of that frame.
    #[arg(long, value_name = "COLUMNSxROWS", default_value = "120x40", value_parser = size)]
    size: (u16, u16),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    /// The ring and the nodes.
    Ring,
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
                Some(Which::Ring) => asked.once().await,
                None => asked.live().await,
            }
        })
    });
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            complain("kv-tui", &error);
            error.exit().into()
        }
    }
}

impl KvTui {
    fn address(&self) -> String {
        self.connect.addresses.join(",")
    }

    async fn once(&self) -> Result<Exit, Error> {
        let snapshot = source::snapshot(&self.connect.admin().await?).await?;
        let health = snapshot.health();
        let screen =
            Screen { address: self.address(), snapshot: Some(snapshot), ..Screen::default() };
        let (width, height) = self.size;
        io::stdout().write_all(view::print(&screen, width, height).as_bytes())?;
        Ok(match health {
            Health::Healthy => Exit::Ok,
            Health::Degraded => Exit::Degraded,
            Health::NoQuorum => Exit::NoQuorum,
        })
    }

    async fn live(&self) -> Result<Exit, Error> {
        if !io::stdout().is_terminal() {
            return Err(Error::Input("standard output is no terminal: use --once ring".to_owned()));
        }
        // A mistyped address is an error before the screen is taken.
        let admin = self.connect.admin().await?;
        let (give, mut answers) = watch::channel(Answer::Waiting);
        let asking = tokio::spawn(ask(admin, give));
        let mut ends = [
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ];
        let [term, int, hup] = &mut ends;
        let mut taken = Taken::new()?;
        let mut inputs = Inputs::read()?;
        let mut seen = Seen { address: self.address(), last: None, problem: None };
        loop {
            taken.terminal.draw(|frame| view::draw(frame, &seen.screen()))?;
            tokio::select! {
                input = inputs.events.recv() => {
                    if input != Some(Input::Redraw) {
                        break;
                    }
                }
                changed = answers.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    seen.take(answers.borrow_and_update().clone());
                }
                // What is shown grows older while nobody answers.
                () = tokio::time::sleep(REFRESH) => {}
                _ = term.recv() => break,
                _ = int.recv() => break,
                _ = hup.recv() => break,
            }
        }
        asking.abort();
        Ok(Exit::Ok)
    }
}

#[derive(Clone, Debug)]
enum Answer {
    Waiting,
    Heard(Box<Snapshot>),
    Silent(String),
}

async fn ask(admin: Admin, give: watch::Sender<Answer>) {
    loop {
        let answer = match source::snapshot(&admin).await {
            Ok(snapshot) => Answer::Heard(Box::new(snapshot)),
            Err(error) => Answer::Silent(error.to_string()),
        };
        if give.send(answer).is_err() {
            return;
        }
        tokio::time::sleep(REFRESH).await;
    }
}

/// The last answer and what came after it.
struct Seen {
    address: String,
    last: Option<(Snapshot, Instant)>,
    problem: Option<String>,
}

impl Seen {
    fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Waiting => {}
            Answer::Heard(snapshot) => {
                self.last = Some((*snapshot, Instant::now()));
                self.problem = None;
            }
            Answer::Silent(why) => self.problem = Some(why),
        }
    }

    fn screen(&self) -> Screen {
        let age = self.last.as_ref().map_or(Duration::ZERO, |(_, heard)| heard.elapsed());
        Screen {
            address: self.address.clone(),
            snapshot: self.last.as_ref().map(|(snapshot, _)| snapshot.clone()),
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            problem: self.problem.clone(),
        }
    }
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
    fn an_answer_ends_a_problem_and_silence_keeps_the_answer() {
        let mut seen = Seen { address: "a".into(), last: None, problem: None };
        seen.take(Answer::Silent("refused".into()));
        assert_eq!(seen.screen().problem.as_deref(), Some("refused"));
        seen.take(Answer::Heard(Box::default()));
        assert!(seen.screen().problem.is_none() && seen.screen().snapshot.is_some());
        seen.take(Answer::Silent("refused".into()));
        assert!(seen.screen().problem.is_some() && seen.screen().snapshot.is_some());
    }
}
