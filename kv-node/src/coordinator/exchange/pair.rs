//! The exchange of two nodes: one comparison over all that both hold, then what differs of it.

use futures::future::join_all;
use kv_client::NodeId;
use kv_merkle::{Digest, Leaves, Shape, Tree};
use kv_quorum::HybridTime;
use kv_ring::{Partition, PartitionCount};
use twox_hash::XxHash3_64;

use super::ExchangeError;
use super::talk::{Rate, Talk, Walked};
use super::wire::{ExchangeOp, ExchangeOut, RepairTally};
use crate::coordinator::{Coordinator, Scope};
use crate::plug::storage::Ticket;

/// Partitions of one pair that are exchanged at once: they share the pause before a second look.
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
        let mut except = Vec::new();
        let mut failure = None;
        if !differing.is_empty() {
            talk.settle().await;
        }
        let mut without_tree = 0;
        for some in differing.chunks(PARTITIONS_AT_ONCE) {
            if without_tree > WITHOUT_TREE_MAX {
                except.extend_from_slice(some);
                continue;
            }
            let peer = talk.peer;
            let talks = join_all(some.iter().copied().map(|partition| async move {
                let mut part = Talk::new(self, peer, self.exchange_rate());
                let ended = part.exchange(partition).await;
                (partition, part.tally, ended)
            }));
            for (partition, tally, ended) in talks.await {
                talk.tally.add(&RepairTally { peers: 0, ..tally });
                if let Err(error) = ended {
                    without_tree += usize::from(matches!(error, ExchangeError::NoTree));
                    except.push(partition);
                    failure = Some(error);
                }
            }
        }
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
            except: except.iter().map(|partition| partition.index()).collect(),
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
                    let index = |leaf: &u32| u16::try_from(*leaf).ok().map(Partition::new);
                    return Ok(leaves.iter().filter_map(index).collect());
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
