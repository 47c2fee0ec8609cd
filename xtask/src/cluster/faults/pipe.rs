//! One direction of one connection, through a link that may be cut, slow or lossy.
//!
//! A reader stamps what it read with the time at which it is due, a writer writes it then, so that
//! a slow link delays and does not narrow. What a packet's loss looks like over TCP is what is
//! done: everything behind it waits for its retransmission, 200 ms and twice as long each time.
//! While the link is cut this way nothing is written, not even that the other end has closed; it
//! goes on when the link is whole again, as TCP would.
//!
//! Bounds: `CHUNKS_MAX` chunks of `CHUNK_BYTES` wait in each direction, then nothing more is read.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::model::Fault;

const CHUNK_BYTES: usize = 16 * 1_024;
const CHUNKS_MAX: usize = 64;
/// Bytes of a packet: what is lost is one of these.
const PACKET_BYTES: usize = 1_460;
/// What Linux waits before it sends a packet again, the first time.
const RETRANSMIT_MS: u64 = 200;
/// A packet is lost so often at most.
const LOSSES_MAX: u32 = 6;
/// How often a cut link is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What the link does now.
pub(super) type Link = Arc<dyn Fn() -> Fault + Send + Sync>;

/// How many of a connection's two ends have closed.
pub(super) type Ended = Arc<AtomicU8>;

struct Chunk {
    due: Instant,
    /// Nothing is the end.
    bytes: Vec<u8>,
}

/// Carries what `from` says to `to`, until either is gone. Returns when all is written.
pub(super) fn carry(from: TcpStream, to: TcpStream, link: &Link, ended: &Ended, seed: u64) {
    let (give, take) = sync_channel(CHUNKS_MAX);
    let reader = {
        let (link, ended) = (Arc::clone(link), Arc::clone(ended));
        thread::Builder::new().spawn(move || read(from, &give, &link, &ended, seed))
    };
    write(to, &take, link, ended);
    drop(take);
    if let Ok(reader) = reader {
        drop(reader.join());
    }
}

fn read(mut from: TcpStream, give: &SyncSender<Chunk>, link: &Link, ended: &Ended, seed: u64) {
    let mut random = seed | 1;
    let mut due = Instant::now();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        // A connection that broke has ended, too.
        let count = from.read(&mut buffer).unwrap_or(0);
        let bytes = buffer.get(..count).unwrap_or_default().to_vec();
        // Order is kept: nothing is due before what was read before it.
        due = due.max(Instant::now() + late(link(), bytes.len(), &mut random));
        let end = bytes.is_empty();
        if end {
            ended.fetch_add(1, Ordering::Release);
        }
        if give.send(Chunk { due, bytes }).is_err() || end {
            return;
        }
    }
}

fn write(mut to: TcpStream, take: &Receiver<Chunk>, link: &Link, ended: &Ended) {
    while let Ok(chunk) = take.recv() {
        thread::sleep(chunk.due.saturating_duration_since(Instant::now()));
        while link().cut_there {
            // Nobody is left who could be told.
            if ended.load(Ordering::Acquire) >= 2 {
                return;
            }
            thread::sleep(LOOK);
        }
        if chunk.bytes.is_empty() {
            break;
        }
        if to.write_all(&chunk.bytes).is_err() {
            // The reader of the other direction ends by this, and ours with its connection.
            let _gone = to.shutdown(Shutdown::Both);
            return;
        }
    }
    let _gone = to.shutdown(Shutdown::Write);
}

/// How late so many bytes come.
fn late(fault: Fault, bytes: usize, random: &mut u64) -> Duration {
    let spread = u64::from(fault.jitter_ms) * 2 + 1;
    let ms = u64::from(fault.delay_ms) + next(random) % spread;
    let mut ms = ms.saturating_sub(u64::from(fault.jitter_ms));
    if fault.lost_per_mille > 0 {
        let worst = (0..bytes.div_ceil(PACKET_BYTES))
            .map(|_| {
                let lost = |_: &u32| next(random) % 1_000 < u64::from(fault.lost_per_mille);
                (0..LOSSES_MAX).take_while(lost).count() as u32
            })
            .max();
        // 200, 200 + 400, 200 + 400 + 800 ...
        ms += RETRANSMIT_MS * ((1 << worst.unwrap_or(0)) - 1);
    }
    Duration::from_millis(ms)
}

/// Marsaglia's xorshift.
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_within_what_was_asked_for() {
        let mut random = 7;
        let mut ms = |fault: Fault, bytes: usize| late(fault, bytes, &mut random).as_millis();
        assert_eq!(ms(Fault::default(), 100_000), 0);
        let slow = Fault { delay_ms: 50, jitter_ms: 10, ..Fault::default() };
        let all: Vec<u128> = (0..1_000).map(|_| ms(slow, 10)).collect();
        assert_eq!((all.iter().min(), all.iter().max()), (Some(&40), Some(&60)));
        let lossy = Fault { lost_per_mille: 100, ..Fault::default() };
        let hit = (0..10_000).filter(|_| ms(lossy, 10) >= 200).count();
        assert!((800..1_200).contains(&hit), "one packet in ten: {hit}");
        let twice = (0..10_000).filter(|_| ms(lossy, 10) >= 600).count();
        assert!((50..200).contains(&twice), "one in a hundred is lost again: {twice}");
        let many = (0..1_000).filter(|_| ms(lossy, 10 * PACKET_BYTES) >= 200).count();
        assert!((550..750).contains(&many), "ten packets are hit more often: {many}");
    }
}
