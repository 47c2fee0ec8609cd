//! Processes that outlive the verb that started them, named by pid *and* start time.
//!
//! A pid alone is used again by the kernel; together with the start time of `/proc/<pid>/stat`
//! (clock ticks since boot) it names one process for ever. Nothing here, and nothing that uses it,
//! ever looks for a process by its name. Linux only, as `/proc` is.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process};

pub(crate) use rustix::process::Signal;

use crate::error::{Error, Result};

/// One process, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// Clock ticks since boot.
    pub(crate) started: u64,
}

/// How a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Running,
    /// Stopped by a signal.
    Paused,
    Gone,
}

/// What `/proc/<pid>/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    state: char,
    started: u64,
    /// User and system time in clock ticks, all threads.
    cpu_ticks: u64,
}

impl Identity {
    /// How the process is now.
    pub(crate) fn life(self) -> Life {
        match read_stat(self.pid) {
            Some(stat) if stat.started == self.started => match stat.state {
                'Z' | 'X' => Life::Gone,
                'T' | 't' => Life::Paused,
                _ => Life::Running,
            },
            _ => Life::Gone,
        }
    }

    /// CPU time that it has used so far, user and system; none when it is gone.
    pub(crate) fn cpu_time(self) -> Option<Duration> {
        let stat = read_stat(self.pid).filter(|stat| stat.started == self.started)?;
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Some(Duration::from_secs_f64(stat.cpu_ticks as f64 / per_second as f64))
    }

    /// Sends a signal; false when the process is already gone.
    pub(crate) fn signal(self, signal: Signal) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        match pid {
            Some(pid) if self.life() != Life::Gone => kill_process(pid, signal).is_ok(),
            _ => false,
        }
    }

    /// Waits until the process is gone; false when it still is there after `limit`.
    pub(crate) fn wait_gone(self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while self.life() != Life::Gone {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// Asks it to end, then ends it; true when it went by itself within `limit`.
    pub(crate) fn stop(self, limit: Duration) -> bool {
        self.signal(Signal::TERM);
        // A paused process takes no signal but this and SIGKILL.
        self.signal(Signal::CONT);
        if self.wait_gone(limit) {
            return true;
        }
        self.signal(Signal::KILL);
        self.wait_gone(Duration::from_secs(5));
        false
    }
}

/// Starts a program that goes on when we end, its words appended to the file `log`.
///
/// It gets a process group of its own, so that Ctrl-C in our terminal isn't for it.
pub(crate) fn start_detached(command: &mut Command, log: &Path) -> Result<Identity> {
    start(command.process_group(0), log)
}

/// Starts a program, its words appended to the file `log`. Ctrl-C in our terminal ends it with us.
pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Identity> {
    let open = || OpenOptions::new().create(true).append(true).open(log);
    let out: File = open().map_err(Error::io(log))?;
    let err = out.try_clone().map_err(Error::io(log))?;
    let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().map_err(|source| {
        let program = command.get_program().to_string_lossy().into_owned();
        Error::Spawn { program, source }
    })?;
    let pid = child.id();
    // Unwaited, so it is at least a zombie: its start time can be read even if it has ended.
    let stat = read_stat(pid).ok_or_else(|| {
        Error::Failed("cannot read /proc: cluster and bench need Linux".to_owned())
    })?;
    Ok(Identity { pid, started: stat.started })
}

fn read_stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The program's name stands in parentheses and may hold anything, so the fields begin after the
/// last.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_whitespace().collect();
    // proc(5) counts from 1 and begins with pid and name: its field n is at n - 3 here.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        started: number(22)?,
        cpu_ticks: number(14)? + number(15)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> (Identity, std::path::PathBuf) {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let log = std::env::temp_dir().join(format!("kv-x-{}-{number}", std::process::id()));
        let started = start_detached(Command::new("sleep").arg("60"), &log).unwrap();
        (started, log)
    }

    #[test]
    fn a_stat_line_with_a_hostile_name_is_read() {
        let line = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 9 0 12345 1 2 3";
        assert_eq!(parse_stat(line), Some(Stat { state: 'S', started: 12345, cpu_ticks: 12 }));
        assert_eq!(parse_stat("42 (a"), None);
        assert_eq!(parse_stat("42 (a) S 1"), None);
    }

    #[test]
    fn a_process_is_paused_resumed_and_stopped() {
        let (process, log) = sleeper();
        assert_eq!(process.life(), Life::Running);
        assert!(process.signal(Signal::STOP));
        while process.life() == Life::Running {
            std::thread::yield_now();
        }
        assert_eq!(process.life(), Life::Paused);
        assert!(process.stop(Duration::from_secs(5)), "a paused process is woken to end");
        assert_eq!(process.life(), Life::Gone);
        assert!(!process.signal(Signal::TERM), "what is gone gets no signal");
        fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_pid_with_another_start_time_is_another_process() {
        let (process, log) = sleeper();
        let stranger = Identity { started: process.started + 1, ..process };
        assert_eq!(stranger.life(), Life::Gone);
        assert!(!stranger.signal(Signal::KILL));
        assert_eq!(stranger.cpu_time(), None);
        assert_eq!(process.life(), Life::Running, "and the real one is untouched");
        assert!(process.cpu_time().is_some());
        process.stop(Duration::from_secs(5));
        fs::remove_file(log).unwrap();
    }
}
