//! The service for programs: reads that show siblings, writes that say what they have seen.
//!
//! A handler is dropped when its caller goes away or its deadline passes. A read may end there; a
//! write goes on as a task of its own, or it could be minted and reach fewer copies than it would
//! have. The number of such tasks is bounded.
//!
//! An empty context is what a read of a key that never was hands out: it covers nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use kv_client::NodeId;
use kv_client::service::ClientService;
use kv_client::wire::{
    BATCH_OPS_MAX, BatchOp, BatchOut, Bounded, Coverage, DotName, Expiry, Explanation, ReadOptions,
    ReadOut, ServiceError, Sibling, WriteOptions, WriteOut,
};
use tarpc::context::Context;
use tokio::sync::oneshot;

use super::admin::explain;
use super::blind::{BlindPut, dot_of, put_all, seal_blind};
use super::doors::{Lobby, level};
use crate::cluster::record::Mode;
use crate::coordinator::{Coordinator, Levels};
use crate::keys::{DEFAULT_KEYSPACE, KeyRef};
use crate::mutation::{Answer, ExpiryRule, Mutation, MutationOut};
use crate::node::AtWork;

#[derive(Clone)]
pub(super) struct ClientServer(pub(super) Arc<Lobby>);

/// A write as it was asked for.
struct Write {
    key: Bytes,
    /// `None` deletes.
    value: Option<Bytes>,
    coverage: Coverage,
    options: WriteOptions,
}

impl ClientServer {
    /// The coordinator, and what keeps the node from being drained before it has answered.
    fn coordinator(&self) -> Result<(Arc<Coordinator>, AtWork), ServiceError> {
        let (node, _) = self.0.node()?;
        let at_work = node.at_work();
        if !node.takes_clients() {
            let why = "the node is being drained: ask another";
            return Err(ServiceError::NotServing(why.into()));
        }
        let coordinator = node.coordinator();
        let none = || ServiceError::NotServing("the node has no layout yet".into());
        Ok((coordinator.ok_or_else(none)?, at_work))
    }

    /// Runs writes to their end, whatever becomes of the caller.
    async fn to_the_end<T: Send + 'static>(
        &self,
        writes: usize,
        coordinator: &Coordinator,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let wanted = u32::try_from(writes).unwrap_or(u32::MAX);
        let Ok(places) = Arc::clone(&self.0.writes).try_acquire_many_owned(wanted) else {
            return Err(ServiceError::Busy("too many writes in flight".into()));
        };
        let (give, take) = oneshot::channel();
        coordinator.parts().exec.spawn(Box::pin(async move {
            let done = work.await;
            drop(places);
            drop(give.send(done));
        }));
        take.await.map_err(|_| ServiceError::Failed("the node stopped meanwhile".into()))
    }

    async fn write(self, write: Write) -> Result<WriteOut, ServiceError> {
        let (coordinator, at_work) = self.coordinator()?;
        let own = Arc::clone(&coordinator);
        let work = async move {
            let _at_work = at_work;
            write.perform(&own).await
        };
        self.to_the_end(1, &coordinator, work).await?
    }
}

impl ClientService for ClientServer {
    async fn get(
        self,
        _: Context,
        key: Bytes,
        options: ReadOptions,
    ) -> Result<ReadOut, ServiceError> {
        let (coordinator, _at_work) = self.coordinator()?;
        read(&coordinator, &key, options).await
    }

    async fn put(
        self,
        _: Context,
        key: Bytes,
        value: Bytes,
        coverage: Coverage,
        options: WriteOptions,
    ) -> Result<WriteOut, ServiceError> {
        self.write(Write { key, value: Some(value), coverage, options }).await
    }

    async fn delete(
        self,
        _: Context,
        key: Bytes,
        coverage: Coverage,
        options: WriteOptions,
    ) -> Result<WriteOut, ServiceError> {
        self.write(Write { key, value: None, coverage, options }).await
    }

    async fn batch(self, _: Context, ops: Bounded<BatchOp, BATCH_OPS_MAX>) -> Vec<BatchOut> {
        let ops = ops.into_vec();
        let reads: Vec<bool> = ops.iter().map(|op| matches!(op, BatchOp::Get { .. })).collect();
        let done = match self.coordinator() {
            Ok((coordinator, at_work)) => {
                let writes = reads.iter().filter(|read| !**read).count();
                let own = Arc::clone(&coordinator);
                let work = async move {
                    let _at_work = at_work;
                    all(&own, ops).await
                };
                self.to_the_end(writes, &coordinator, work).await
            }
            Err(error) => Err(error),
        };
        done.unwrap_or_else(|error| {
            let refused = |read: &bool| {
                let error = error.clone();
                if *read { BatchOut::Read(Err(error)) } else { BatchOut::Written(Err(error)) }
            };
            reads.iter().map(refused).collect()
        })
    }

    async fn explain(self, _: Context, key: Bytes) -> Result<Explanation, ServiceError> {
        let (coordinator, _at_work) = self.coordinator()?;
        explain(&coordinator, key).await
    }
}

/// Performs a batch: what is of one key in its order, keys side by side, blind puts together.
async fn all(coordinator: &Coordinator, ops: Vec<BatchOp>) -> Vec<BatchOut> {
    let mut by_key: BTreeMap<Bytes, Vec<(usize, BatchOp)>> = BTreeMap::new();
    for (place, op) in ops.into_iter().enumerate() {
        by_key.entry(key_of(&op)).or_default().push((place, op));
    }
    let scope = coordinator.scope();
    let (mut blind, mut others) = (Vec::new(), Vec::new());
    for ops in by_key.into_values() {
        let put = match (&ops[..], &scope) {
            ([(place, op)], Ok(scope)) => BlindPut::of(scope.keyspace.mode, *place, op),
            _ => None,
        };
        match put {
            Some(put) => blind.push(put),
            None => others.push(ops),
        }
    }
    let of_one_key = others.into_iter().map(|ops| async move {
        let mut outs = Vec::with_capacity(ops.len());
        for (place, op) in ops {
            outs.push((place, perform(coordinator, op).await));
        }
        outs
    });
    let together = async {
        match &scope {
            Ok(scope) => put_all(coordinator, scope, blind).await,
            Err(_) => Vec::new(),
        }
    };
    let (mut outs, rest) = futures::join!(together, join_all(of_one_key));
    outs.extend(rest.into_iter().flatten());
    outs.sort_by_key(|(place, _)| *place);
    outs.into_iter().map(|(_, out)| out).collect()
}

fn key_of(op: &BatchOp) -> Bytes {
    match op {
        BatchOp::Get { key, .. } | BatchOp::Put { key, .. } | BatchOp::Delete { key, .. } => {
            key.clone()
        }
        _ => Bytes::new(),
    }
}

async fn perform(coordinator: &Coordinator, op: BatchOp) -> BatchOut {
    let write = match op {
        BatchOp::Get { key, options } => {
            return BatchOut::Read(read(coordinator, &key, options).await);
        }
        BatchOp::Put { key, value, coverage, options } => {
            Write { key, value: Some(value), coverage, options }
        }
        BatchOp::Delete { key, coverage, options } => Write { key, value: None, coverage, options },
        _ => return BatchOut::Written(Err(unknown("operation"))),
    };
    BatchOut::Written(write.perform(coordinator).await)
}

async fn read(
    coordinator: &Coordinator,
    key: &[u8],
    options: ReadOptions,
) -> Result<ReadOut, ServiceError> {
    check_keyspace(options.keyspace)?;
    let until_ms = until(coordinator, options.budget_ms);
    let levels = Levels { read: level(options.level)?, until_ms, ..Levels::default() };
    let key = KeyRef::place(DEFAULT_KEYSPACE, key);
    let (context, values) = coordinator.get_siblings(key, levels).await?;
    let shown = values.into_iter().map(|sibling| Sibling {
        dot: dot_name(sibling.dot),
        value: sibling.value,
        expires_at_ms: sibling.expires_at_ms,
    });
    Ok(ReadOut { siblings: shown.collect(), context: context.unwrap_or_default() })
}

impl Write {
    async fn perform(self, coordinator: &Coordinator) -> Result<WriteOut, ServiceError> {
        check_keyspace(self.options.keyspace)?;
        let until_ms = until(coordinator, self.options.budget_ms);
        let levels = Levels { write: level(self.options.level)?, until_ms, ..Levels::default() };
        let key = KeyRef::place(DEFAULT_KEYSPACE, &self.key);
        let scope = coordinator.scope()?;
        // In an lww keyspace every write is blind, whatever its writer has seen.
        let coverage = match (scope.keyspace.mode, self.coverage) {
            (Mode::Lww, _) => Coverage::Blind,
            (Mode::Siblings, Coverage::Seen(context)) if context.is_empty() => Coverage::Nothing,
            (Mode::Siblings, coverage) => coverage,
        };
        let mutation = match (self.value, coverage) {
            (Some(value), coverage) => put(value, coverage, self.options.expiry)?,
            // Nothing was seen: there is nothing to delete.
            (None, Coverage::Nothing) => return Ok(WriteOut::default()),
            (None, Coverage::Seen(context)) => Mutation::DeleteSeen { context },
            (None, Coverage::Blind) => Mutation::Delete,
            (None, _) => return Err(unknown("coverage")),
        };
        let blind = matches!(mutation, Mutation::Set { .. });
        match coordinator.mutate(key, mutation, levels).await? {
            MutationOut::Nothing(_) => Ok(WriteOut::default()),
            MutationOut::Written { dot, context, answer, .. } => {
                let context = match answer {
                    Answer::Value(Some(context)) => context,
                    _ if blind => seal_blind(&scope, key, dot_of(dot)),
                    _ => context,
                };
                Ok(WriteOut { dot: Some(dot_name(dot)), context })
            }
        }
    }
}

/// When a caller that still waits so long stops waiting, on the node's clock; 0 says nothing.
pub(super) fn until(coordinator: &Coordinator, budget_ms: u32) -> Option<u64> {
    let now_ms = coordinator.parts().clock.steady_ms();
    (budget_ms > 0).then(|| now_ms.saturating_add(u64::from(budget_ms)))
}

pub(super) fn expiry_of(expiry: Expiry) -> Result<ExpiryRule, ServiceError> {
    match expiry {
        Expiry::Never => Ok(ExpiryRule::Never),
        Expiry::AtMs(at) => Ok(ExpiryRule::At(at)),
        _ => Err(unknown("expiry")),
    }
}

fn put(value: Bytes, coverage: Coverage, expiry: Expiry) -> Result<Mutation, ServiceError> {
    let expiry = expiry_of(expiry)?;
    Ok(match coverage {
        Coverage::Blind => Mutation::Set { value, expiry },
        Coverage::Seen(context) => Mutation::Put { value, context: Some(context), expiry },
        Coverage::Nothing => Mutation::Put { value, context: None, expiry },
        _ => return Err(unknown("coverage")),
    })
}

fn dot_name((time, node, tenure): (u64, u64, u64)) -> DotName {
    DotName { time, node: NodeId(node), tenure }
}

pub(super) fn check_keyspace(keyspace: u32) -> Result<(), ServiceError> {
    if keyspace == DEFAULT_KEYSPACE {
        Ok(())
    } else {
        Err(ServiceError::Refused(format!("there is no keyspace {keyspace}")))
    }
}

fn unknown(what: &str) -> ServiceError {
    ServiceError::Refused(format!("this node does not know that {what}"))
}
