//! The other side of an exchange: each question is answered from what is there now, and forgotten.

use bytes::Bytes;
use kv_client::NodeId;
use kv_merkle::{Answer, Request, Shape};
use kv_quorum::{HybridTime, Mark};
use kv_ring::Partition;

use super::wire::{ExchangeOp, ExchangeOut, RepairTally};
use super::{ExchangeError, pair};
use crate::coordinator::Coordinator;
use crate::wire::{OpFailure, PeerOut};

impl Coordinator {
    /// Answers a peer's step of an exchange.
    pub(crate) async fn answer_exchange(&self, from: NodeId, op: ExchangeOp) -> PeerOut {
        let answered = match op {
            ExchangeOp::Roots { layouts, depth, request } => {
                self.answer_roots(from, layouts, depth, &request).await
            }
            ExchangeOp::Partition { partition, request } => match of_code(partition) {
                Ok(partition) => self.answer_partition(partition, &request).await,
                Err(error) => Err(error),
            },
            ExchangeOp::Begin => Ok(ExchangeOut::Begun {
                begun: self.exchange_stamp().to_bits(),
                life: self.parts.dots.life(),
            }),
            ExchangeOp::List { partition, from, to } => match of_code(partition) {
                Ok(partition) => self.answer_list(partition, from, to).await,
                Err(error) => Err(error),
            },
            ExchangeOp::Ended { life, .. } if life != self.parts.dots.life() => {
                // It began in another life of this node, whose stamps are not of this log.
                Err(ExchangeError::Confused)
            }
            ExchangeOp::Ended { layouts, begun, except, tally, .. } => {
                self.note_ended(from, layouts, HybridTime::from_bits(begun), &except, &tally)
            }
            ExchangeOp::Doubt { partition } => of_code(partition).map(|partition| {
                self.parts.replica.trees().doubt(partition);
                ExchangeOut::Noted
            }),
            ExchangeOp::Repair { partition, key } => match of_code(partition) {
                Ok(partition) => {
                    let key = (!key.is_empty()).then_some(key);
                    self.repair_here(partition, key).await.map(ExchangeOut::Repaired)
                }
                Err(error) => Err(error),
            },
        };
        match answered {
            Ok(out) => PeerOut::Exchange(out),
            Err(ExchangeError::Storage(error)) => {
                PeerOut::Failed(OpFailure::Storage(error.to_string()))
            }
            Err(error) => PeerOut::Failed(OpFailure::Refused(error.to_string())),
        }
    }

    async fn answer_roots(
        &self,
        from: NodeId,
        layouts: u64,
        depth: u8,
        request: &[u8],
    ) -> Result<ExchangeOut, ExchangeError> {
        let scope = self.scope().map_err(|_| ExchangeError::NoReplicas)?;
        if layouts != pair::layouts_digest(&scope) {
            return Err(ExchangeError::NoReplicas);
        }
        let own = self.parts.replica.trees().shape();
        if depth > own.depth() {
            return Ok(ExchangeOut::Flatter { depth: own.depth() });
        }
        let shared = pair::shared_with(&scope, from);
        let count = scope.layouts.newest().partitions();
        let (tree, ticket) = self.roots(count, &shared, Shape::new(depth)?).await;
        self.parts.replica.durable(ticket).await?;
        let answer = kv_merkle::answer(&tree, &Request::decode(request)?)?;
        // Of many partitions at once: no mark speaks for them.
        Ok(ExchangeOut::Compared { answer: answer.encode().into(), complete: true, mark: 0 })
    }

    async fn answer_list(
        &self,
        partition: Partition,
        from: Bytes,
        to: Bytes,
    ) -> Result<ExchangeOut, ExchangeError> {
        let before = self.parts.replica.mark(partition);
        let listing = self.list(from, to).await?;
        Ok(ExchangeOut::Listed {
            rows: listing.rows,
            until: listing.until.unwrap_or_default(),
            complete: self.is_complete(partition),
            mark: self.mark_since(partition, before),
        })
    }

    async fn answer_partition(
        &self,
        partition: Partition,
        request: &[u8],
    ) -> Result<ExchangeOut, ExchangeError> {
        let complete = self.is_complete(partition);
        let before = self.parts.replica.mark(partition);
        let request = Request::decode(request)?;
        let (Request::Open { shape, .. } | Request::Compare { shape, .. }) = &request;
        let trees = self.parts.replica.trees();
        let compared = |answer: &Answer| ExchangeOut::Compared {
            answer: Bytes::from(answer.encode()),
            complete,
            mark: self.mark_since(partition, before),
        };
        if *shape > trees.shape() {
            return Ok(compared(&Answer::OtherShape { shape: trees.shape() }));
        }
        let Some((tree, ticket)) = trees.tree(partition, *shape) else {
            let mark = self.mark_since(partition, before);
            return Ok(ExchangeOut::NoTree { complete, mark });
        };
        self.parts.replica.durable(ticket).await?;
        Ok(compared(&kv_merkle::answer(&tree, &request)?))
    }

    /// The asker saw this node's and its own copies equal, or mended them, since `begun`, a stamp
    /// of this node's log.
    fn note_ended(
        &self,
        from: NodeId,
        layouts: u64,
        begun: HybridTime,
        except: &[u16],
        tally: &RepairTally,
    ) -> Result<ExchangeOut, ExchangeError> {
        let scope = self.scope().map_err(|_| ExchangeError::NoReplicas)?;
        // Under other layouts they may share other partitions than the asker thinks of.
        if layouts != pair::layouts_digest(&scope) || !except.is_sorted() {
            return Err(ExchangeError::NoReplicas);
        }
        self.exchanges.ended_by(from, self.parts.clock.steady_ms(), tally);
        for partition in pair::shared_with(&scope, from) {
            let excepted = except.binary_search(&partition.code()).is_ok();
            if !excepted && self.is_complete(partition) {
                self.parts.replica.exchanged().note(partition, from, begun);
            }
        }
        Ok(ExchangeOut::Noted)
    }

    /// The mark that speaks for what was read since it was `before`: none if something was lost
    /// meanwhile, and not the higher one if it rose.
    fn mark_since(&self, partition: Partition, before: Mark) -> u64 {
        before.min(self.parts.replica.mark(partition)).time().to_bits()
    }

    fn is_complete(&self, partition: Partition) -> bool {
        self.parts.replica.standings().is_complete(partition)
    }
}

/// The partition that a peer names.
fn of_code(code: u16) -> Result<Partition, ExchangeError> {
    Partition::from_code(code).ok_or(ExchangeError::Confused)
}
