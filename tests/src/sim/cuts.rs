//! Power cuts of everything at once, again and again, while clients write keys of their own.
//!
//! This is the test that killing processes can't be, because a killed process's writes are safe
//! in the page cache. Each round arms the cut for a drawn change of a file, so that it falls
//! between any write and its sync, on any of the disks; then all nodes start on what is left.
//!
//! Invariant: what was acknowledged before a cut is there after it.

use std::rc::Rc;
use std::time::Duration;

use parking_lot::Mutex;

use super::checkers::{self, Violation};
use super::history::{History, Op};
use super::nemesis::calm;
use super::random::Random;
use super::run::{all, audit, in_paused_time, keys_of};
use super::workload::{Client, Mix};
use super::world::{World, WorldConfig};

/// A cut falls on one of so many changes after the clients began.
const CUT_CHANGES_MAX: u64 = 250;
/// It falls anyway after so long.
const CUT_MS_MAX: u64 = 5_000;

/// What came of the rounds.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Cuts that fell on their change, and not because nothing happened any more.
    pub on_a_change: usize,
    /// What must not be.
    pub violations: Vec<Violation>,
}

/// Cuts the power of a world so many times.
///
/// # Errors
/// A node could not start on what a cut left, or the nodes did not meet.
pub fn cut_all(seed: u64, rounds: usize, config: &WorldConfig) -> Result<Cuts, String> {
    in_paused_time(async {
        let world = World::begin(seed, config.clone()).await?;
        world.network.set_all(calm());
        let random = Random::of(seed, "cuts");
        let history = Rc::new(Mutex::new(History::default()));
        let mix = Rc::new(Mix::usual());
        let mut clients: Vec<Client> =
            (0..6).map(|id| Client::new(seed, id, 6, &mix, &history)).collect();
        let mut cuts = Cuts::default();
        for _ in 0..rounds {
            let from = history.lock().ops().len();
            let (after, chance) = (random.below(CUT_CHANGES_MAX), random.next());
            cuts.on_a_change += usize::from(round(&world, &mut clients, after, chance).await?);
            let keys = keys_of(history.lock().ops().get(from..).unwrap_or_default());
            audit(&world, &history, &keys, false).await;
        }
        // What outlived one cut must outlive the others too.
        let keys = keys_of(history.lock().ops());
        audit(&world, &history, &keys, false).await;
        if world.panics() > 0 {
            return Err("a node's task panicked".into());
        }
        let history = history.lock();
        cuts.acknowledged = history.ops().iter().filter(|op| Op::is_acknowledged(op)).count();
        cuts.violations = checkers::check_all(history.ops());
        Ok(cuts)
    })
}

/// One cut; whether it fell on its change.
async fn round(
    world: &World,
    clients: &mut [Client],
    after: u64,
    chance: u64,
) -> Result<bool, String> {
    let victims: Vec<usize> = (0..world.nodes()).collect();
    world.power.arm(&victims, after, chance);
    let on_a_change = tokio::select! {
        biased;
        () = world.power.fallen() => true,
        () = all(clients.iter_mut().map(|client| client.write_for_ever(world))) => false,
        () = tokio::time::sleep(Duration::from_millis(CUT_MS_MAX)) => false,
    };
    world.power.trip();
    for victim in &victims {
        world.fall(*victim).await;
    }
    world.heal().await?;
    Ok(on_a_change)
}
