//! The node as a process: flags in, exit code out.
//!
//! ```text
//! settings -> logs -> ports of clients and HTTP -> engine -> node
//!   -> front doors -> a signal, or drained by an operator -> drain -> stop
//! ```
//! Ports that only this process needs are taken first, so that a second start on the same machine
//! ends before it touches data. What is started in order is stopped in the opposite one. Before
//! that the node is drained (`node/drain.rs`), so that its clients and the others hardly notice; a
//! second signal ends the process at once, as kill -9 would, which the engine survives.
//!
//! Exit codes: 0 stopped as asked, 1 could not stop cleanly, 2 flags or settings, 3 could not
//! start, 4 refused by the cluster (its directory is an old copy, or runs twice), 130 ended by a
//! second signal.

mod cpu;
mod files;
mod start;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use kv_lsm::fs::{Fs, OsFs};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::start::Running;
use crate::config::{Checked, Config, Flags, ignored_variables, load};
use crate::log;
use crate::plug::clock::{Clock, SystemClock};
use crate::plug::rng::{OsRng, Rng};

const EXIT_DIRTY: u8 = 1;
const EXIT_SETTINGS: u8 = 2;
const EXIT_NO_START: u8 = 3;
const EXIT_REFUSED: u8 = 4;
const EXIT_SECOND_SIGNAL: i32 = 130;

/// What a process is made of where it is not the operating system's: for binaries of tests, which
/// skew the clock or break the disk of an otherwise ordinary node.
pub struct MainParts {
    /// The disk.
    pub fs: Arc<dyn Fs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
}

impl Default for MainParts {
    fn default() -> Self {
        Self {
            fs: Arc::new(OsFs::new()),
            clock: Arc::new(SystemClock::new()),
            rng: Arc::new(OsRng),
        }
    }
}

impl fmt::Debug for MainParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MainParts").finish_non_exhaustive()
    }
}

/// Runs a node until it is told to stop. `arguments` are those of a process, its name first;
/// settings also come from the file that they name and from `KV_*` variables.
pub fn main_with(arguments: impl IntoIterator<Item = OsString>, parts: MainParts) -> ExitCode {
    let began = Instant::now();
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(told) => {
            // Help and version come this way too.
            let _unwritable = told.print();
            return if told.use_stderr() { EXIT_SETTINGS.into() } else { ExitCode::SUCCESS };
        }
    };
    let variables = std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    let checked = load(&flags, variables).and_then(|config| {
        let mut checked = config.check(flags.insecure)?;
        checked.lsm.accept_log_damage = flags.accept_log_damage;
        Ok((config, checked))
    });
    let (mut config, checked) = match checked {
        Ok(sound) => sound,
        Err(error) => {
            complain(&error);
            return EXIT_SETTINGS.into();
        }
    };
    if flags.print_config || flags.check_config {
        let text =
            if flags.print_config { config.to_toml() } else { "the settings are sound\n".into() };
        let written = io::stdout().write_all(text.as_bytes());
        return if written.is_ok() { ExitCode::SUCCESS } else { EXIT_DIRTY.into() };
    }
    if let Err(error) = log::begin(&config.log) {
        complain(&error);
        return EXIT_SETTINGS.into();
    }
    for name in
        ignored_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))
    {
        tracing::warn!(%name, "this variable is no setting of a node, and does nothing");
    }
    let clients_max = files::clients_max(config.resp.clients_max);
    if clients_max < config.resp.clients_max {
        tracing::warn!(
            configured = config.resp.clients_max,
            clients_max,
            "fewer clients than resp.clients_max: half of the files that this process may open"
        );
        config.resp.clients_max = clients_max;
    }
    let runtime = match runtime(config.threads) {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("the runtime can't be started: {error}"));
            return EXIT_NO_START.into();
        }
    };
    let code = runtime.block_on(run(config, checked, parts, began));
    // What still blocks (a disk that hangs) must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(500));
    code
}

fn complain(error: &dyn fmt::Display) {
    let _unwritable = writeln!(io::stderr(), "kv-node: {error}");
}

fn runtime(threads: usize) -> io::Result<tokio::runtime::Runtime> {
    let mut builder = if threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().max_blocking_threads(32).thread_name("kv-node").build()
}

async fn run(config: Config, checked: Checked, parts: MainParts, began: Instant) -> ExitCode {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!("signals can't be listened for: {error}"));
            return EXIT_NO_START.into();
        }
    };
    let running = tokio::select! {
        started = Running::start(&config, &checked, parts) => started,
        name = signals.next() => {
            tracing::info!(signal = name, "stopped while starting");
            return ExitCode::SUCCESS;
        }
    };
    let running = match running {
        Ok(running) => running,
        Err(error) => {
            tracing::error!("{error}");
            return EXIT_NO_START.into();
        }
    };
    tracing::info!(took_ms = began.elapsed().as_millis() as u64, "started");
    let refused = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "stopping; a second signal ends the process at once");
            running.drain();
            false
        }
        () = running.drained() => {
            tracing::info!("stopping: drained by an operator");
            false
        }
        why = running.refused() => {
            complain(&why);
            true
        }
    };
    let ended = async {
        if !refused {
            running.drained().await;
        }
        running.stop().await
    };
    tokio::select! {
        stopped = ended => match stopped {
            Ok(()) if refused => EXIT_REFUSED.into(),
            Ok(()) => {
                tracing::info!("stopped");
                ExitCode::SUCCESS
            }
            Err(error) => {
                tracing::error!("not stopped cleanly: {error}");
                EXIT_DIRTY.into()
            }
        },
        _ = signals.next() => {
            tracing::warn!("ended at once");
            std::process::exit(EXIT_SECOND_SIGNAL);
        }
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}
