//! The other side of an exchange: each question is answered from what is there now, and forgotten.

use bytes::Bytes;
use kv_client::NodeId;
use kv_merkle::{Answer, Request, Shape};
use kv_quorum::HybridTime;
use kv_ring::Partition;

use super::wire::{ExchangeOp, ExchangeOut};
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
            ExchangeOp::Partition { partition, request } => {
                self.answer_partition(Partition::new(partition), &request).await
            }
            ExchangeOp::List { partition, from, to } => {
                self.list(from, to).await.map(|listing| ExchangeOut::Listed {
                    rows: listing.rows,
                    until: listing.until.unwrap_or_default(),
                    complete: self.is_complete(Partition::new(partition)),
                })
            }
            ExchangeOp::Ended { layouts, begun, except } => {
                self.note_ended(from, layouts, HybridTime::from_bits(begun), &except)
            }
            ExchangeOp::Doubt { partition } => {
                self.parts.replica.trees().doubt(Partition::new(partition));
                Ok(ExchangeOut::Noted)
            }
            ExchangeOp::Repair { partition, key } => {
                let key = (!key.is_empty()).then_some(key);
                let repaired = self.repair_here(Partition::new(partition), key).await;
                repaired.map(ExchangeOut::Repaired)
            }
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
        Ok(ExchangeOut::Compared { answer: answer.encode().into(), complete: true })
    }

    async fn answer_partition(
        &self,
        partition: Partition,
        request: &[u8],
    ) -> Result<ExchangeOut, ExchangeError> {
        let complete = self.is_complete(partition);
        let request = Request::decode(request)?;
        let (Request::Open { shape, .. } | Request::Compare { shape, .. }) = &request;
        let trees = self.parts.replica.trees();
        let compared = |answer: &Answer| ExchangeOut::Compared {
            answer: Bytes::from(answer.encode()),
            complete,
        };
        if *shape > trees.shape() {
            return Ok(compared(&Answer::OtherShape { shape: trees.shape() }));
        }
        let Some((tree, ticket)) = trees.tree(partition, *shape) else {
            return Ok(ExchangeOut::NoTree { complete });
        };
        self.parts.replica.durable(ticket).await?;
        Ok(compared(&kv_merkle::answer(&tree, &request)?))
    }

    /// The asker saw this node's and its own copies equal, or mended them, since `begun` on this
    /// node's clock.
    fn note_ended(
        &self,
        from: NodeId,
        layouts: u64,
        begun: HybridTime,
        except: &[u16],
    ) -> Result<ExchangeOut, ExchangeError> {
        let scope = self.scope().map_err(|_| ExchangeError::NoReplicas)?;
        // Under other layouts they may share other partitions than the asker thinks of.
        if layouts != pair::layouts_digest(&scope) || !except.is_sorted() {
            return Err(ExchangeError::NoReplicas);
        }
        self.exchanges.ended_by(from, self.parts.clock.steady_ms());
        for partition in pair::shared_with(&scope, from) {
            let excepted = except.binary_search(&partition.index()).is_ok();
            if !excepted && self.is_complete(partition) {
                self.parts.replica.exchanged().note(partition, from, begun);
            }
        }
        Ok(ExchangeOut::Noted)
    }

    fn is_complete(&self, partition: Partition) -> bool {
        self.parts.replica.standings().is_complete(partition)
    }
}
