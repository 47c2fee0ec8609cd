//! The exchange of two nodes: one comparison over all that both hold, then what differs of it.

use futures::future::join_all;
use kv_client::NodeId;
use kv_merkle::{Digest, Leaves, Shape, Tree};
use kv_quorum::HybridTime;
use kv_ring::{Partition, PartitionCount};
use twox_hash::XxHash3_64;

use super::ExchangeError;
use super::partition::Look;
use super::talk::{Rate, Talk, Walked};
use super::wire::{ExchangeOp, ExchangeOut, RepairTally};
use crate::coordinator::{Coordinator, Scope};
use crate::plug::storage::Ticket;

/// Partitions of one pair that are looked at or mended at once.
const PARTITIONS_AT_ONCE: usize = 16;
/// So many partitions without a tree, and the rest is left to a later exchange.
const WITHOUT_TREE_MAX: usize = 16;

/// Whether `node` begins the exchanges with `peer`: one of the two does, and every node begins
/// about half of its own.
pub(crate) fn begins(node: NodeId, peer: NodeId) -> bool {
    let lower_begins = (node.0 ^ peer.0) & 1 == 0;
    (node < peer) == lower_begins
}

/// What a pair's exchange begins with.
struct Beginning {
    /// This node's time: nothing was looked at before.
    here: HybridTime,
    /// The peer's, and its life.
    there: (u64, u64),
    /// Each partition's losses here.
    losses: Vec<u64>,
}

impl Coordinator {
    /// Exchanges everything that this node and a peer both hold.
    ///
    /// # Errors
    /// What was mended until then is mended; the partitions that were finished are noted.
    pub(crate) async fn exchange_with(&self, peer: NodeId) -> Result<RepairTally, ExchangeError> {
        let mut talk = Talk::new(self, peer, self.exchange_rate());
        let ended = self.run_exchange(&mut talk).await;
        let failure = ended.as_ref().err().map(ToString::to_string);
        let figures = &self.parts.figures;
        match &failure {
            None => figures.aae_exchanges.one(),
            Some(_) => figures.aae_exchanges_failed.one(),
        }
        self.exchanges.note(peer, self.parts.clock.steady_ms(), &talk.tally, failure);
        ended.map(|()| talk.tally)
    }

    async fn run_exchange(&self, talk: &mut Talk<'_>) -> Result<(), ExchangeError> {
        let scope = self.scope().map_err(|_| ExchangeError::NoReplicas)?;
        let shared = shared_with(&scope, talk.peer);
        if shared.is_empty() {
            return Err(ExchangeError::NoReplicas);
        }
        let begun = self.begin(talk, &scope).await?;
        let differing = self.compare_roots(talk, &scope, &shared).await?;
        let mut round = Round::new(self, talk.peer);
        let looks = round.look(&differing).await;
        if !looks.is_empty() {
            talk.settle().await;
        }
        round.mend(looks).await;
        let Round { tally, mut except, failure, .. } = round;
        talk.tally.add(&tally);
        except.extend(shared.iter().filter(|at| self.lost_since(&begun, **at)));
        except.sort_unstable();
        except.dedup();
        for partition in shared.iter().filter(|at| except.binary_search(at).is_err()) {
            self.parts.replica.exchanged().note(*partition, talk.peer, begun.here);
        }
        let ended = ExchangeOp::Ended {
            layouts: layouts_digest(&scope),
            begun: begun.there.0,
            life: begun.there.1,
            except: except.iter().map(|partition| partition.code()).collect(),
            tally: talk.tally,
        };
        talk.ask_one(ended).await?;
        failure.map_or(Ok(()), Err)
    }

    /// Asks the peer for a stamp before anything is looked at, here or there, so that each side can
    /// note a beginning by its own log, whose stamps never go back.
    async fn begin(&self, talk: &mut Talk<'_>, scope: &Scope) -> Result<Beginning, ExchangeError> {
        let ExchangeOut::Begun { begun, life } = talk.ask_one(ExchangeOp::Begin).await? else {
            return Err(ExchangeError::Confused);
        };
        let standings = self.parts.replica.standings();
        let partitions = scope.layouts.newest().partitions();
        Ok(Beginning {
            here: self.exchange_stamp(),
            there: (begun, life),
            losses: partitions.iter().map(|partition| standings.losses(partition)).collect(),
        })
    }

    fn lost_since(&self, begun: &Beginning, partition: Partition) -> bool {
        let now = self.parts.replica.standings().losses(partition);
        begun.losses.get(usize::from(partition.index())) != Some(&now)
    }

    /// Which of the shared partitions may differ.
    async fn compare_roots(
        &self,
        talk: &mut Talk<'_>,
        scope: &Scope,
        shared: &[Partition],
    ) -> Result<Vec<Partition>, ExchangeError> {
        let layouts = layouts_digest(scope);
        let count = scope.layouts.newest().partitions();
        let mut shape = self.parts.replica.trees().shape();
        for _ in 0..2 {
            let (tree, ticket) = self.roots(count, shared, shape).await;
            self.parts.replica.durable(ticket).await?;
            let depth = shape.depth();
            let roots = |request| ExchangeOp::Roots { layouts, depth, request };
            match talk.walk(&tree, roots).await? {
                Walked::Leaves(leaves) => {
                    let of = |leaf: &u32| count.nth(u16::try_from(*leaf).ok()?);
                    return Ok(leaves.iter().filter_map(of).collect());
                }
                Walked::Flatter(theirs) => shape = Shape::new(theirs)?,
                Walked::NoTree => return Err(ExchangeError::NoTree),
                Walked::OtherShape(_) => return Err(ExchangeError::Confused),
            }
        }
        Err(ExchangeError::Confused)
    }

    /// The tree over the roots of the shared partitions' trees. One that is not built stands as
    /// zero, and so differs.
    pub(super) async fn roots(
        &self,
        count: PartitionCount,
        shared: &[Partition],
        shape: Shape,
    ) -> (Tree, Ticket) {
        let depth = count.count().trailing_zeros().max(1);
        let pair = Shape::new(depth as u8).expect("at most 2^14 partitions");
        let mut leaves = Leaves::new(pair);
        let mut ticket = Ticket::DURABLE;
        for (place, partition) in shared.iter().enumerate() {
            let root = self.parts.replica.trees().root(*partition, shape);
            let (root, wait) = root.unwrap_or((Digest::ZERO, Ticket::DURABLE));
            ticket = ticket.max(wait);
            let set = leaves.set(u32::from(partition.index()), root);
            set.expect("there is a leaf for each partition");
            // A root that has to be built takes microseconds, a thousand of them milliseconds.
            if place % 16 == 15 {
                tokio::task::yield_now().await;
            }
        }
        (Tree::build(&leaves), ticket)
    }

    /// The beginning of an exchange: later than that of every earlier one, and than that of every
    /// climb that began before.
    pub(in crate::coordinator) fn exchange_stamp(&self) -> HybridTime {
        let now = self.parts.dots.time(self.parts.clock.wall_ms());
        self.parts.replica.exchanged().stamp(now)
    }

    pub(super) fn exchange_rate(&self) -> Rate {
        let bytes_per_second = self.parts.antientropy.bytes_per_second;
        Rate { bytes_per_second, per_mille: self.background.per_mille() }
    }
}

/// The partitions of one exchange that may differ: all are looked at before any is looked at
/// again, so that they share one pause, and what was only on its way is not taken for a difference.
struct Round<'c> {
    coordinator: &'c Coordinator,
    peer: NodeId,
    tally: RepairTally,
    /// Partitions that may still differ.
    except: Vec<Partition>,
    failure: Option<ExchangeError>,
    without_tree: usize,
}

impl<'c> Round<'c> {
    fn new(coordinator: &'c Coordinator, peer: NodeId) -> Self {
        let tally = RepairTally::default();
        Self { coordinator, peer, tally, except: Vec::new(), failure: None, without_tree: 0 }
    }

    /// Looks at each partition's trees once. Those that differ, and in which leaves.
    async fn look(&mut self, partitions: &[Partition]) -> Vec<(Partition, Look)> {
        let mut looks = Vec::new();
        for some in partitions.chunks(PARTITIONS_AT_ONCE) {
            if self.without_tree > WITHOUT_TREE_MAX {
                self.except.extend_from_slice(some);
                continue;
            }
            let some = some.iter().map(|at| (*at, None));
            for (partition, look) in self.each(some).await {
                match look {
                    Look::Leaves(..) if look.differs() => looks.push((partition, look)),
                    Look::Leaves(..) => {}
                    Look::NoTree => self.failed(partition, ExchangeError::NoTree),
                }
            }
        }
        looks
    }

    /// Looks at what differed once more, and mends what still does.
    async fn mend(&mut self, looks: Vec<(Partition, Look)>) {
        let mut looks = looks.into_iter().map(|(at, first)| (at, Some(first)));
        loop {
            let some: Vec<_> = looks.by_ref().take(PARTITIONS_AT_ONCE).collect();
            if some.is_empty() {
                return;
            }
            self.each(some.into_iter()).await;
        }
    }

    /// Looks at some partitions, or mends what a first look found in them, all at once. Answers
    /// what the looks found; what failed is noted.
    async fn each(
        &mut self,
        some: impl Iterator<Item = (Partition, Option<Look>)>,
    ) -> Vec<(Partition, Look)> {
        let (coordinator, peer) = (self.coordinator, self.peer);
        let parts = join_all(some.map(|(partition, first)| async move {
            let mut part = Talk::new(coordinator, peer, coordinator.exchange_rate());
            let ended = match first {
                None => part.look(partition).await.map(Some),
                Some(first) => part.exchange_seen(partition, first).await.map(|()| None),
            };
            (partition, part.tally, ended)
        }));
        let mut found = Vec::new();
        for (partition, tally, ended) in parts.await {
            self.tally.add(&RepairTally { peers: 0, ..tally });
            match ended {
                Ok(look) => found.extend(look.map(|look| (partition, look))),
                Err(error) => self.failed(partition, error),
            }
        }
        found
    }

    fn failed(&mut self, partition: Partition, error: ExchangeError) {
        self.without_tree += usize::from(matches!(error, ExchangeError::NoTree));
        self.except.push(partition);
        self.failure = Some(error);
    }
}

/// Partitions that this node and the peer both hold, in whichever live layouts, ascending.
pub(super) fn shared_with(scope: &Scope, peer: NodeId) -> Vec<Partition> {
    let both =
        |partition: &Partition| scope.holds(*partition) && scope.is_held_by(*partition, peer);
    scope.layouts.newest().partitions().iter().filter(both).collect()
}

/// Names the live layouts: two nodes with the same ones agree on what they share.
pub(super) fn layouts_digest(scope: &Scope) -> u64 {
    let names = scope.view.layout_names();
    let bytes: Vec<u8> = names
        .iter()
        .flat_map(|name| [name.epoch.to_le_bytes(), name.digest.to_le_bytes()])
        .flatten()
        .collect();
    XxHash3_64::oneshot(&bytes)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn one_of_each_pair_begins() {
        let mut own = 0;
        for one in 1..40 {
            for other in (1..40).filter(|other| *other != one) {
                let (one, other) = (NodeId(one * 77), NodeId(other * 77));
                assert_ne!(begins(one, other), begins(other, one));
                own += usize::from(one == NodeId(77 * 5) && begins(one, other));
            }
        }
        assert!((10..30).contains(&own), "{own} of 38");
    }
}
