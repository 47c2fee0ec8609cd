//! Power cuts of a real file system under a process that writes, and the control that shows that
//! the cuts cut: the same without syncs must lose what it acknowledged.

use std::path::Path;
use std::time::Duration;

use super::device::Device;
use super::writer::{THREADS, Writer, check};
use super::{Scratch, rounds};

/// Cuts the power once; how many batches were acknowledged since, and how many of all were lost.
fn round(device: &Device, dir: &Path, number: u32, sync: bool, at_least: &mut Acked) -> (u64, u64) {
    let time = Duration::from_millis(u64::from(number * 53 % 170));
    let acked = Writer::start(dir, sync).end_after(time, || device.cut());
    device.restart();
    let before: u64 = at_least.iter().sum();
    for (all, acked) in at_least.iter_mut().zip(acked) {
        *all = acked.max(*all);
    }
    let acknowledged = at_least.iter().sum::<u64>() - before;
    let held = check(dir, at_least);
    *at_least = held.counts;
    (acknowledged, held.lost)
}

type Acked = [u64; THREADS as usize];

/// A directory on the device for each so many rounds, as each round looks at everything in it.
const ROUNDS_OF_ONE: u32 = 20;

#[test]
fn twenty_power_cuts_lose_nothing_that_was_synced_and_without_syncs_they_do() {
    let scratch = Scratch::new("power");
    let device = match Device::make(&scratch.0) {
        Ok(device) => device,
        Err(why) => {
            println!("SKIPPED: power cuts of a real file system: {why}");
            return;
        }
    };
    let rounds = rounds(20, 200);
    let (mut acknowledged, mut lost) = (0, 0);
    for series in 0..rounds.div_ceil(ROUNDS_OF_ONE) {
        let (dir, mut at_least) = (device.root().join(format!("db{series}")), Acked::default());
        for number in 0..ROUNDS_OF_ONE {
            let (acked, gone) = round(&device, &dir, number, true, &mut at_least);
            acknowledged += acked;
            lost += gone;
            assert_eq!(gone, 0, "cut {number} of series {series}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
    println!(
        "figure: {rounds} power cuts of ext4 by {}: {acknowledged} batches acknowledged with Sync, \
         {lost} lost",
        device.cut.text()
    );
    assert!(acknowledged > u64::from(rounds) * 10, "only {acknowledged}: this proves little");

    let (mut acknowledged, mut lost) = (0, 0);
    for number in 0..5 {
        // Anew for each, as a name that is not synced is lost as well.
        let dir = device.root().join(format!("control{number}"));
        let (acked, gone) = round(&device, &dir, number, false, &mut Acked::default());
        acknowledged += acked;
        lost += gone;
    }
    println!("figure: control, 5 power cuts without syncs: {lost} of {acknowledged} lost");
    assert!(lost > 0, "cuts that lose nothing prove nothing");
}
