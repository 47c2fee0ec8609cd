//! `kill -9` of a process that writes, again and again on one directory.

use std::time::Duration;

use super::writer::{THREADS, Writer, check};
use super::{Scratch, rounds};

/// After so many rounds it begins anew, as each round looks at everything.
const ROUNDS_OF_ONE: u32 = 20;

#[test]
fn twenty_times_kill_minus_nine_loses_nothing() {
    let rounds = rounds(ROUNDS_OF_ONE, 200);
    let (mut batches, mut at_least) = (0, [0; THREADS as usize]);
    let mut scratch = Scratch::new("kill");
    for round in 0..rounds {
        if round % ROUNDS_OF_ONE == 0 {
            (scratch, at_least) = (Scratch::new("kill"), [0; THREADS as usize]);
        }
        let dir = scratch.0.join("db");
        // From the first acknowledgement on, so that some come while it has hardly begun.
        let time = Duration::from_millis(u64::from(round * 37 % 160));
        let acked = Writer::start(&dir, true).end_after(time, || {});
        let before: u64 = at_least.iter().sum();
        for (all, acked) in at_least.iter_mut().zip(acked) {
            *all = acked.max(*all);
        }
        let held = check(&dir, &at_least);
        assert_eq!(held.lost, 0, "round {round}: {acked:?} acknowledged, {held:?}");
        // What is there now was shown, and stays.
        at_least = held.counts;
        batches += at_least.iter().sum::<u64>() - before;
    }
    println!(
        "figure: {rounds} rounds of kill -9, {batches} batches with Sync, 0 acknowledged lost"
    );
    assert!(batches > u64::from(rounds) * 10, "only {batches} batches: this proves little");
}
