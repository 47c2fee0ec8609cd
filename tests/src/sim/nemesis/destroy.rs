//! The destruction of a disk, once in a run: it is lost, or is what it was some time before.
//!
//! What a disk is put back to was put aside before: all disks at a drawn moment of the first third
//! of the run, or the last one seen that kept hints for others. The destruction itself comes in
//! the second third, so that there is something to lose and time to see it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use kv_client::NodeId;
use kv_lsm::fs::{Fs, MemFs};
use parking_lot::Mutex;

use super::power::{CUT_CHANGES_MAX, power_cut, restart};
use super::{Destroy, Faults};
use crate::sim::random::Random;
use crate::sim::world::{ENGINE_DIRS, Taken, World};

/// Between two looks for a node that keeps hints.
const LOOK_MS: u64 = 50;

/// What was put aside of the disks, by place.
#[derive(Default)]
pub(super) struct Aside(Mutex<BTreeMap<usize, MemFs>>);

/// Puts aside what the destruction of this run needs.
pub(super) async fn put_aside(
    world: &World,
    seed: u64,
    faults: &Faults,
    until_us: u64,
    aside: &Aside,
) {
    let random = Random::of(seed, "backups");
    let third_us = (until_us - world.now_us()) / 3;
    match faults.power.destroy {
        Some(Destroy::Suffix | Destroy::Restore) => {
            tokio::time::sleep(Duration::from_micros(random.below(third_us))).await;
            let backup = |place| (place, world.power.backup(place, random.next()));
            *aside.0.lock() = (0..world.nodes()).map(backup).collect();
        }
        Some(Destroy::OldHints) => {
            let end_us = world.now_us() + third_us;
            while world.now_us() < end_us {
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
                let keeper = keeper(world).filter(|_| random.percent(30));
                if let Some(place) = keeper {
                    let backup = world.power.backup(place, random.next());
                    *aside.0.lock() = BTreeMap::from([(place, backup)]);
                }
            }
        }
        None | Some(Destroy::Rows { .. } | Destroy::Keeper | Destroy::Wipe | Destroy::Leave) => {}
    }
}

/// The node that keeps the most hints for others, if any keeps one.
fn keeper(world: &World) -> Option<usize> {
    let keeps = |place: &usize| world.hint_bytes(*place) > 0;
    (0..world.nodes()).filter(keeps).max_by_key(|place| world.hint_bytes(*place))
}

/// The destruction of a run, until it has come.
pub(super) struct Destruction {
    how: Destroy,
    from_us: u64,
    /// One that waits for something comes now at the latest.
    last_us: u64,
}

impl Destruction {
    pub(super) fn of(how: Destroy, now_us: u64, until_us: u64) -> Self {
        let third_us = (until_us - now_us) / 3;
        // What old hints say must have been collected by the others before it comes back.
        let thirds = if how == Destroy::OldHints { 2 } else { 1 };
        let from_us = now_us + thirds * third_us;
        Self { how, from_us, last_us: now_us + 2 * third_us }
    }

    pub(super) fn is_due(&self, world: &World) -> bool {
        let now_us = world.now_us();
        let waits = self.how == Destroy::Keeper && now_us < self.last_us;
        now_us >= self.from_us && !(waits && keeper(world).is_none())
    }

    /// Destroys, and starts again what it ended.
    pub(super) async fn strike(
        self,
        world: &World,
        random: &Random,
        aside: &Aside,
        down_ms_max: u64,
    ) -> Result<(), String> {
        let aside = std::mem::take(&mut *aside.0.lock());
        let drawn = random.below(world.nodes() as u64) as usize;
        let first = match self.how {
            Destroy::Keeper => keeper(world).unwrap_or(drawn),
            Destroy::OldHints => {
                let Some(place) = aside.keys().next() else {
                    world.note("nobody was seen to keep a hint".into());
                    return Ok(());
                };
                *place
            }
            _ => drawn,
        };
        let count = if let Destroy::Rows { nodes } = self.how { nodes } else { 1 };
        let victims: Vec<usize> = (0..count).map(|step| (first + step) % world.nodes()).collect();
        world.note(format!("{:?} of {victims:?}", self.how));
        let old = world.id(first);
        if self.how == Destroy::Leave {
            world.leave(first).await?;
            world.kill(first).await;
            world.power.lose(first);
            restart(world, random, &[first], down_ms_max).await?;
            return world.join(first).await;
        }
        power_cut(world, &victims, random.below(CUT_CHANGES_MAX), random.next()).await;
        match (self.how, old) {
            (Destroy::Wipe, Some(old)) => {
                return start_anew(world, random, first, old, down_ms_max).await;
            }
            (Destroy::Restore, Some(old)) => {
                world.power.put_back(first, aside.get(&first).cloned().unwrap_or_default());
                restart(world, random, &victims, down_ms_max).await?;
                let taken = world.taken(first).await?;
                world.note(format!("old copy of node {first}: {taken:?}"));
                if taken == Taken::Refused {
                    world.kill(first).await;
                    return start_anew(world, random, first, old, down_ms_max).await;
                }
                return Ok(());
            }
            _ => {}
        }
        let empty = MemFs::new();
        for dir in ENGINE_DIRS {
            Fs::create_dir(&empty, Path::new(dir)).map_err(|error| error.to_string())?;
            for victim in &victims {
                let left = match self.how {
                    Destroy::Suffix | Destroy::OldHints => aside.get(victim).unwrap_or(&empty),
                    _ => &empty,
                };
                let put_back = world.power.put_back_dir(*victim, left, Path::new(dir));
                put_back.map_err(|error| format!("disk {victim}: {error}"))?;
            }
        }
        restart(world, random, &victims, down_ms_max).await
    }
}

/// A node that is down comes back on an empty disk, and replaces who it was.
async fn start_anew(
    world: &World,
    random: &Random,
    place: usize,
    old: NodeId,
    down_ms_max: u64,
) -> Result<(), String> {
    world.power.lose(place);
    restart(world, random, &[place], down_ms_max).await?;
    world.replace(place, old).await
}
