//! What took long: the slow log, and the spikes that LATENCY shows.
//!
//! A step of a connection (a command, or a run of GETs or SETs that is executed as one) is timed
//! as a whole, from its first look to its answer: here, unlike in Redis, that holds the waits for
//! other replicas and for the disk, since they are what a client waits for. A run is named by its
//! first command. Both lists are bounded; the oldest go first.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::request::Request;

/// Microseconds from which a step is noted in the slow log: Redis's default.
pub(super) const SLOWER_THAN_US: u64 = 10_000;
/// Steps that the slow log keeps: Redis's default.
pub(super) const SLOWLOG_LEN_MAX: usize = 128;
/// Milliseconds from which a step is a spike.
pub(super) const SPIKE_MS: u64 = 100;
/// Seconds with a spike that are kept: Redis's number.
const SPIKES_MAX: usize = 160;
/// Arguments that are kept of a slow command, and bytes of each: Redis's numbers.
const ARGS_MAX: usize = 32;
const ARG_BYTES_MAX: usize = 128;

/// A slow step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slow {
    pub(super) id: u64,
    /// When it began, seconds since 1970.
    pub(super) unix_s: u64,
    pub(super) us: u64,
    pub(super) args: Vec<Vec<u8>>,
    /// Where the client is.
    pub(super) peer: String,
    pub(super) name: Vec<u8>,
}

/// The slowest step of one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spike {
    pub(super) unix_s: u64,
    pub(super) ms: u64,
}

/// Both lists.
#[derive(Debug, Default)]
pub(super) struct Slowness {
    slow: Mutex<VecDeque<Slow>>,
    next_id: AtomicU64,
    spikes: Mutex<Spikes>,
}

#[derive(Debug, Default)]
struct Spikes {
    list: VecDeque<Spike>,
    /// The worst since the last reset.
    max_ms: u64,
}

/// Who was slow.
pub(super) struct Who<'a> {
    pub(super) request: Request<'a>,
    /// Commands of its run behind it.
    pub(super) more: usize,
    pub(super) peer: String,
    pub(super) name: Vec<u8>,
}

impl Slowness {
    /// A step took so long; `who` is asked only if that is worth noting.
    #[inline]
    pub(super) fn took<'a>(&self, took: Duration, who: impl FnOnce() -> Option<Who<'a>>) {
        if took >= Duration::from_micros(SLOWER_THAN_US) {
            self.note(took, unix_s(), who());
        }
    }

    #[cold]
    fn note(&self, took: Duration, unix_s: u64, who: Option<Who<'_>>) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if us / 1_000 >= SPIKE_MS {
            self.spikes.lock().add(Spike { unix_s, ms: us / 1_000 });
        }
        let Some(who) = who else { return };
        let args = args_of(&who);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut slow = self.slow.lock();
        if slow.len() >= SLOWLOG_LEN_MAX {
            slow.pop_front();
        }
        slow.push_back(Slow { id, unix_s, us, args, peer: who.peer, name: who.name });
    }

    /// The newest slow steps first.
    pub(super) fn slowest(&self, count: usize) -> Vec<Slow> {
        self.slow.lock().iter().rev().take(count).cloned().collect()
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.slow.lock().len()
    }

    /// Forgets the slow steps.
    pub(super) fn reset(&self) {
        self.slow.lock().clear();
    }

    /// Seconds with a spike, the oldest first, and the worst spike of all.
    pub(super) fn spikes(&self) -> (Vec<Spike>, u64) {
        let spikes = self.spikes.lock();
        (spikes.list.iter().copied().collect(), spikes.max_ms)
    }

    /// Forgets the spikes. Says whether there were any.
    pub(super) fn reset_spikes(&self) -> bool {
        let was = std::mem::take(&mut *self.spikes.lock());
        !was.list.is_empty()
    }
}

impl Spikes {
    fn add(&mut self, spike: Spike) {
        self.max_ms = self.max_ms.max(spike.ms);
        if let Some(last) = self.list.back_mut().filter(|last| last.unix_s == spike.unix_s) {
            last.ms = last.ms.max(spike.ms);
            return;
        }
        if self.list.len() >= SPIKES_MAX {
            self.list.pop_front();
        }
        self.list.push_back(spike);
    }
}

/// What is kept of a command: as Redis shows it.
fn args_of(who: &Who<'_>) -> Vec<Vec<u8>> {
    let count = who.request.count();
    let cut = |arg: &[u8]| match arg.get(..ARG_BYTES_MAX) {
        Some(head) if arg.len() > ARG_BYTES_MAX => {
            let more = format!("... ({} more bytes)", arg.len() - ARG_BYTES_MAX);
            [head, more.as_bytes()].concat()
        }
        _ => arg.to_vec(),
    };
    let shown = if count > ARGS_MAX { ARGS_MAX - 1 } else { count };
    let mut args: Vec<Vec<u8>> = who.request.args_from(0).take(shown).map(cut).collect();
    if shown < count {
        args.push(format!("... ({} more arguments)", count - shown).into_bytes());
    }
    if who.more > 0 {
        args.push(format!("... ({} more commands of its run)", who.more).into_bytes());
    }
    args
}

fn unix_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::request::OwnedRequest;

    fn note(slowness: &Slowness, ms: u64, unix_s: u64, args: &[&[u8]], more: usize) {
        let owned = OwnedRequest::new(args.iter().copied());
        let who = Who { request: owned.request(), more, peer: "p:1".into(), name: Vec::new() };
        slowness.note(Duration::from_millis(ms), unix_s, Some(who));
    }

    #[test]
    fn the_newest_slow_steps_are_kept_and_cut() {
        let slowness = Slowness::default();
        slowness.took(Duration::from_micros(SLOWER_THAN_US - 1), || panic!("it is quick"));
        for n in 0..SLOWLOG_LEN_MAX + 3 {
            note(&slowness, 20, 7, &[b"GET", n.to_string().as_bytes()], 0);
        }
        assert_eq!(slowness.len(), SLOWLOG_LEN_MAX);
        let newest = slowness.slowest(2);
        assert_eq!(newest[0].args, [b"GET".to_vec(), b"130".to_vec()]);
        assert_eq!((newest[0].id, newest[0].us), (130, 20_000));
        let long = [b'x'; ARG_BYTES_MAX + 5];
        let many: Vec<&[u8]> = std::iter::repeat_n(&long[..], ARGS_MAX + 1).collect();
        note(&slowness, 20, 7, &many, 9);
        let args = &slowness.slowest(1)[0].args;
        assert_eq!(args.len(), ARGS_MAX + 1);
        assert!(args[0].ends_with(b"... (5 more bytes)"));
        assert_eq!(args[ARGS_MAX - 1], b"... (2 more arguments)");
        assert_eq!(args[ARGS_MAX], b"... (9 more commands of its run)");
        slowness.reset();
        assert_eq!(slowness.len(), 0);
    }

    #[test]
    fn of_each_second_the_worst_spike_is_kept() {
        let slowness = Slowness::default();
        for (ms, unix_s) in [(SPIKE_MS - 1, 1), (150, 2), (120, 2), (300, 3)] {
            note(&slowness, ms, unix_s, &[b"GET"], 0);
        }
        let (spikes, max_ms) = slowness.spikes();
        assert_eq!(spikes, [Spike { unix_s: 2, ms: 150 }, Spike { unix_s: 3, ms: 300 }]);
        assert_eq!(max_ms, 300);
        (10..10 + 2 * SPIKES_MAX as u64).for_each(|s| note(&slowness, 101, s, &[b"GET"], 0));
        assert_eq!(slowness.spikes().0.len(), SPIKES_MAX);
        assert_eq!(slowness.spikes().1, 300);
        assert!(slowness.reset_spikes());
        assert!(!slowness.reset_spikes());
    }
}
