//! Room in memory for the values that reads bring together.
//!
//! How large the values of a read are is known when they are there, and then they are in memory:
//! as many connections as there are would each hold a run of the largest values. So a read takes
//! room first, by what a key brought lately on this node, whoever read it; where there is no room
//! it waits for others to end. Reads that need little (`KEEP_BYTES`, by the same guess) take none,
//! so that small values cost one load and a multiplication.
//!
//! The guess begins with the largest pair that there can be, rises at once with what is seen, and
//! falls by a sixteenth with each read.
//!
//! **Invariant**: values under way stay within `reads_bytes_max`, times the copies that are asked;
//! when values grow suddenly, each connection may be over by the run that it had begun.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::RequestError;
use crate::resp::held::KEEP_BYTES;

/// How long a read waits for room.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of one permit.
const PERMIT_BYTES: usize = 1024;
/// Below this the guess is kept as it is: no room is taken then, and nothing is written.
const GUESS_BYTES_MIN: usize = 128;

/// The room, and what a key is thought to bring.
#[derive(Debug)]
pub(super) struct ReadRoom {
    room: Semaphore,
    permits_max: u32,
    guess_bytes: AtomicUsize,
}

/// Room that one read has.
pub(super) struct Room<'r> {
    of: &'r ReadRoom,
    keys: usize,
    _permit: Option<SemaphorePermit<'r>>,
}

impl ReadRoom {
    /// Room for `bytes_max`, where nothing larger than `pair_bytes_max` is read at first.
    pub(super) fn new(bytes_max: usize, pair_bytes_max: usize) -> Self {
        let permits = (bytes_max / PERMIT_BYTES).clamp(1, Semaphore::MAX_PERMITS.min(1 << 30));
        Self {
            room: Semaphore::new(permits),
            permits_max: permits as u32,
            guess_bytes: AtomicUsize::new(pair_bytes_max),
        }
    }

    /// Room for so many keys. A read that needs more than there is at all gets all of it.
    pub(super) async fn take(&self, keys: usize) -> Result<Room<'_>, RequestError> {
        let bytes = keys.saturating_mul(self.guess_bytes.load(Relaxed));
        if bytes <= KEEP_BYTES {
            return Ok(Room { of: self, keys, _permit: None });
        }
        let permits = u32::try_from(bytes / PERMIT_BYTES).unwrap_or(u32::MAX);
        let room = self.room.acquire_many(permits.min(self.permits_max));
        if let Ok(Ok(permit)) = tokio::time::timeout(PATIENCE, room).await {
            return Ok(Room { of: self, keys, _permit: Some(permit) });
        }
        let what = "reads of all clients together take too much (resp.reads_bytes_max)";
        Err(RequestError::Busy(what.into()))
    }
}

impl Room<'_> {
    /// The read ended, and brought so many bytes.
    pub(super) fn used(self, bytes: usize) {
        let brought = bytes / self.keys.max(1);
        let guess = self.of.guess_bytes.load(Relaxed);
        let next = brought.max(guess - guess / 16).max(GUESS_BYTES_MIN);
        if next != guess {
            self.of.guess_bytes.store(next, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn small_values_take_no_room_and_large_ones_wait_for_it() {
        let room = ReadRoom::new(4 << 20, 1 << 20);
        let first = room.take(2).await.expect("half of it");
        let second = room.take(2).await.expect("the other half");
        assert!(room.take(1).await.is_err(), "nothing is left, for five seconds");
        drop(second);
        let all_there_is = room.take(1000);
        tokio::pin!(all_there_is);
        assert!(futures::poll!(&mut all_there_is).is_pending());
        first.used(2 * 100);
        all_there_is.await.expect("more than there is gets all of it").used(1000 * 100);
        for _ in 0..150 {
            room.take(1).await.expect("room").used(100);
        }
        assert_eq!(room.guess_bytes.load(Relaxed), GUESS_BYTES_MIN);
        let mut small = Vec::new();
        for _ in 0..1000 {
            small.push(room.take(256).await.expect("takes none"));
        }
        assert_eq!(room.room.available_permits(), 4096);
        room.take(1).await.expect("room").used(1 << 20);
        assert!(room.take(4).await.is_ok());
        assert_eq!(room.guess_bytes.load(Relaxed), 1 << 20, "one large value is enough");
    }
}
