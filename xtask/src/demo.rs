//! `cargo xtask demo`: the first minute with a cluster, as a person would spend it.
//!
//! Three nodes, load on two of them, and the terminal; while it is looked at, a node is killed and
//! comes back, its links are cut and both sides write one key, which leaves siblings when the links
//! are whole again; the person then resolves them. Where there is no terminal to draw on, each step
//! is a line, what the cluster says of itself follows it, and the siblings are resolved by rule.
//!
//! Nothing is staged: nodes, load and steps are the verbs that anybody would type.

pub(crate) mod autoscale;

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::{self, Reach, Shape, Verb};
use crate::cmd;
use crate::error::{Error, Result};
use crate::resp::{Connection, Reply};
use crate::{term, tui};

const NAME: &str = "demo";
/// The node that dies. Load goes to the others, so that no client loses its connection.
const VICTIM: &str = "3";
const KEY: &str = "cart:9001";
const ONE: &str = r#"{"items":["tea","cup"],"n":2}"#;
const OTHER: &str = r#"{"items":["tea","spoon"],"n":3}"#;
/// Requests a second: enough to see, little enough for any machine.
const RATE: &str = "300";
/// A node has so long for an answer: the one that is cut off gives up on the others first.
const ANSWER: Duration = Duration::from_secs(10);
/// Longer than anybody looks.
const LOAD_S: &str = "3600";

/// Something that happens to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Kill,
    Restart,
    Diverge,
}

/// When it happens, and what a person is told of it.
const STEPS: [(Duration, What, &str); 3] = [
    (
        Duration::from_secs(10),
        What::Kill,
        "node 3 is killed (-9): it goes suspect and down, hints for it grow, no request fails",
    ),
    (
        Duration::from_secs(25),
        What::Restart,
        "node 3 comes back: the others hand over their hints, and they drain to 0",
    ),
    (
        Duration::from_secs(40),
        What::Diverge,
        "node 3 is cut off, both sides write cart:9001, it is healed: 4 shows, m merges, a applies",
    ),
];

/// What the demo works with.
#[derive(Debug)]
struct Stage {
    kv: PathBuf,
    xtask: PathBuf,
    reach: Reach,
}

/// The load, which ends with this.
struct Load {
    process: Child,
    log: PathBuf,
}

impl Drop for Load {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// Shows it.
pub(crate) fn run() -> Result<()> {
    let watched = io::stdin().is_terminal() && io::stdout().is_terminal();
    if !cluster::is_running(NAME)? {
        cluster::run(NAME, Verb::Down { purge: true })?;
        let base_port = cluster::free_block()?;
        cluster::run(NAME, Verb::Up(Shape { base_port, faults: true, ..Shape::default() }))?;
    }
    let terminal = cmd::built("kv-tui", "kv-tui", &["--release"])?;
    let stage = Stage {
        kv: cmd::built("kv-tui", "kv", &["--release"])?,
        xtask: std::env::current_exe().map_err(Error::io(Path::new("xtask")))?,
        reach: cluster::reach(NAME)?,
    };
    term::out("");
    for (at, _, told) in STEPS {
        term::out(format_args!("{:>3} s  {told}", at.as_secs()));
    }
    let load = stage.load()?;
    let (stop, stopped) = mpsc::channel();
    let mut failed = None;
    if watched {
        term::out("press Enter; q leaves the terminal, ? shows its keys");
        let mut line = String::new();
        io::stdin().read_line(&mut line).map_err(Error::io(Path::new("standard input")))?;
        thread::scope(|scope| {
            // The screen belongs to the terminal: what failed meanwhile is told when it ends.
            let played = &stage;
            let script = scope.spawn(move || played.play(&stopped, |_, _| Ok(())));
            let mut screen = stage.attached(&terminal);
            tui::hand_over(&mut screen, &stage.xtask, NAME, &stage.reach);
            let shown = cmd::run(&mut screen);
            drop(stop);
            failed = match script.join() {
                Ok(played) => played.err(),
                Err(_) => Some(Error::Failed("the script of the demo panicked".into())),
            };
            shown
        })?;
        // If it was left while the node was down.
        stage.step(What::Restart)?;
    } else {
        stage.play(&stopped, |what, told| stage.tell(what, told))?;
        drop(stop);
        cmd::run(stage.attached(&stage.kv).args(["conflicts", "resolve", KEY]))?;
        cmd::run(stage.attached(&stage.kv).args(["get", KEY]))?;
    }
    term::out(format_args!("load: {}", load.last_words()));
    term::out("the cluster is still running:");
    for next in ["tui", "cluster status", "cluster down --purge"] {
        term::out(format_args!("  cargo xtask {next} --name {NAME}"));
    }
    failed.map_or(Ok(()), Err)
}

impl Stage {
    /// A program that asks the cluster.
    fn attached(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.args(["--connect", &self.reach.connect]).arg("--secret-file");
        command.arg(&self.reach.secret_file);
        command
    }

    /// Starts requests to all nodes but the victim.
    fn load(&self) -> Result<Load> {
        let log = self.reach.secret_file.with_file_name("load.log");
        let all = self.reach.resp.len();
        self.bench(self.reach.resp.get(..all.saturating_sub(1)).unwrap_or_default(), RATE, log)
    }

    /// Starts so many requests a second to these ports.
    fn bench(&self, ports: &[u16], rate: &str, log: PathBuf) -> Result<Load> {
        let targets: Vec<String> =
            ports.iter().map(|port| format!("redis://127.0.0.1:{port}")).collect();
        let mut bench = Command::new(&self.kv);
        bench.args(["bench", "--target", &targets.join(","), "--rate", rate, "--keys", "1000"]);
        bench.args(["--clients", "8", "--warm-up-s", "0", "--seconds", LOAD_S]);
        let file = File::create(&log).map_err(Error::io(&log))?;
        bench.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let program = self.kv.to_string_lossy().into_owned();
        let process = bench.spawn().map_err(|source| Error::Spawn { program, source })?;
        Ok(Load { process, log })
    }

    /// Does one step after the other, each at its time, until told to stop.
    fn play(
        &self,
        stopped: &Receiver<()>,
        mut tell: impl FnMut(What, &str) -> Result<()>,
    ) -> Result<()> {
        let began = Instant::now();
        for (at, what, told) in STEPS {
            let left = at.saturating_sub(began.elapsed());
            if stopped.recv_timeout(left) != Err(RecvTimeoutError::Timeout) {
                return Ok(());
            }
            let failed = |error| Error::Failed(format!("a step of the demo, {told:?}: {error}"));
            self.step(what).map_err(failed)?;
            tell(what, told)?;
        }
        Ok(())
    }

    fn step(&self, what: What) -> Result<()> {
        match what {
            What::Kill => self.on_cluster(&["kill", VICTIM, "-9"]),
            What::Restart => self.on_cluster(&["start", VICTIM]),
            What::Diverge => {
                self.on_cluster(&["partition", VICTIM])?;
                let wrote = self.write_on_both_sides();
                // Also where a write failed: what was cut for it must not stay cut.
                self.on_cluster(&["heal"])?;
                wrote
            }
        }
    }

    /// One key through the first node and through the one that is cut off. A quorum is on one side
    /// only, so both ask for one copy.
    fn write_on_both_sides(&self) -> Result<()> {
        let sides = [self.reach.resp.first(), self.reach.resp.last()];
        for (port, value) in sides.into_iter().flatten().zip([ONE, OTHER]) {
            let failed = |told: &dyn std::fmt::Display| {
                Error::Failed(format!("{KEY} was not written through port {port}: {told}"))
            };
            let mut node = Connection::open(*port, ANSWER).map_err(|error| failed(&error))?;
            for words in [&["KV.CONSISTENCY", "W", "ONE"][..], &["SET", KEY, value]] {
                if let Reply::Error(told) = node.call(words).map_err(|error| failed(&error))? {
                    return Err(failed(&told));
                }
            }
        }
        Ok(())
    }

    /// `cargo xtask cluster`, without its words.
    fn on_cluster(&self, words: &[&str]) -> Result<()> {
        let mut verb = Command::new(&self.xtask);
        verb.arg("cluster").args(words).args(["--name", NAME]);
        quietly(&mut verb)
    }

    /// Says what happened, and lets the cluster say how it is when it has noticed.
    fn tell(&self, what: What, told: &str) -> Result<()> {
        term::title(told);
        thread::sleep(Duration::from_secs(5));
        let verbs: &[&str] = match what {
            What::Kill | What::Restart => &["nodes", "hints"],
            What::Diverge => &["conflicts"],
        };
        for verb in verbs {
            let told = cmd::read(self.attached(&self.kv).arg(verb))?;
            term::out(told.trim_end());
        }
        Ok(())
    }
}

impl Load {
    /// What it said last: how many, how fast, how many failed.
    fn last_words(&self) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        said.lines().last().unwrap_or("it has said nothing yet").to_owned()
    }
}

/// Runs to the end without a word, but for the last one of what fails.
fn quietly(command: &mut Command) -> Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let ended = command.output().map_err(|source| {
        let program = command.get_program().to_string_lossy().into_owned();
        Error::Spawn { program, source }
    })?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Err(Error::Failed(format!("`{}` failed: {last}", cmd::words(command))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_in_order_and_leave_time_to_look() {
        let apart = STEPS.windows(2).all(|pair| match pair {
            [(one, ..), (next, ..)] => *next >= *one + Duration::from_secs(10),
            _ => false,
        });
        assert!(apart);
        assert!(STEPS.iter().all(|(at, _, told)| at.as_secs() < 60 && told.len() < 100));
        let whats = STEPS.map(|(_, what, _)| what);
        assert_eq!(whats, [What::Kill, What::Restart, What::Diverge]);
    }

    #[test]
    fn a_step_that_fails_says_why() {
        let mut fails = Command::new("sh");
        fails.args(["-c", "echo one >&2; echo 'n3 is not running' >&2; exit 1"]);
        let told = quietly(&mut fails).unwrap_err().to_string();
        assert!(told.contains("`sh -c ") && told.ends_with(" failed: n3 is not running"), "{told}");
        assert!(quietly(&mut Command::new("true")).is_ok());
        let scratch = cluster::tests::scratch("demo-fails");
        let stage = Stage {
            kv: "kv".into(),
            xtask: "false".into(),
            reach: Reach {
                connect: String::new(),
                base_port: 7_000,
                resp: Vec::new(),
                secret_file: scratch.0.secret_file(),
            },
        };
        let told = stage.on_cluster(&["kill", VICTIM]).unwrap_err().to_string();
        assert!(told.contains("cluster kill 3 --name demo` failed"), "{told}");
    }

    #[test]
    fn the_loads_last_line_is_what_it_came_to() {
        let scratch = cluster::tests::scratch("demo");
        std::fs::create_dir_all(scratch.0.dir()).unwrap();
        let log = scratch.0.dir().join("load.log");
        std::fs::write(&log, "1000 of 1000 keys loaded\n5 of 9 s  300 op/s  errors 0\n").unwrap();
        let process = Command::new("true").spawn().unwrap();
        assert_eq!(Load { process, log }.last_words(), "5 of 9 s  300 op/s  errors 0");
    }
}
