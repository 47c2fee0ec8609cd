//! Blind puts of one batch of a program: together through the coordinator, as a pipeline of SETs.
//!
//! A put belongs here if it overwrites blindly and is its key's only operation in the batch. The
//! others go one by one, in their key's order.

use bytes::Bytes;
use futures::future::join_all;
use kv_client::NodeId;
use kv_client::wire::{BatchOp, BatchOut, Coverage, DotName, WriteOptions, WriteOut};
use kv_quorum::{Actor, Context, Dot, HybridTime};

use super::client::{check_keyspace, expiry_of, until};
use super::doors::level;
use crate::cluster::record::{LevelSetting, Mode};
use crate::coordinator::{Coordinator, Levels, Scope, SetItem, seal};
use crate::keys::{DEFAULT_KEYSPACE, KeyRef};
use crate::mutation::ExpiryRule;

/// Puts that are minted together at most, so that locks are held for a short time.
const PUTS_AT_ONCE: usize = 256;

/// A put that overwrites blindly.
pub(super) struct BlindPut {
    place: usize,
    key: Bytes,
    value: Bytes,
    expiry: ExpiryRule,
    level: Option<LevelSetting>,
    budget_ms: u32,
}

impl BlindPut {
    /// An operation that is one and can be carried out.
    pub(super) fn of(mode: Mode, place: usize, op: &BatchOp) -> Option<Self> {
        let BatchOp::Put { key, value, coverage, options } = op else { return None };
        if mode != Mode::Lww && *coverage != Coverage::Blind {
            return None;
        }
        let (expiry, level) = Self::terms(options)?;
        let (key, value, budget_ms) = (key.clone(), value.clone(), options.budget_ms);
        Some(Self { place, key, value, expiry, level, budget_ms })
    }

    fn terms(options: &WriteOptions) -> Option<(ExpiryRule, Option<LevelSetting>)> {
        check_keyspace(options.keyspace).ok()?;
        Some((expiry_of(options.expiry).ok()?, level(options.level).ok()?))
    }

    fn same_terms(&self, other: &Self) -> bool {
        self.level == other.level && self.budget_ms == other.budget_ms
    }
}

/// Carries out blind puts of different keys; each with its place.
pub(super) async fn put_all(
    coordinator: &Coordinator,
    scope: &Scope,
    puts: Vec<BlindPut>,
) -> Vec<(usize, BatchOut)> {
    let mut groups: Vec<Vec<BlindPut>> = Vec::new();
    for put in puts {
        let fits = |group: &&mut Vec<BlindPut>| {
            group.len() < PUTS_AT_ONCE && group.first().is_some_and(|first| first.same_terms(&put))
        };
        match groups.iter_mut().find(fits) {
            Some(group) => group.push(put),
            None => groups.push(vec![put]),
        }
    }
    let done = join_all(groups.iter().map(|puts| put_alike(coordinator, scope, puts))).await;
    done.into_iter().flatten().collect()
}

async fn put_alike(
    coordinator: &Coordinator,
    scope: &Scope,
    puts: &[BlindPut],
) -> Vec<(usize, BatchOut)> {
    let Some(first) = puts.first() else { return Vec::new() };
    let until_ms = until(coordinator, first.budget_ms);
    let levels = Levels { write: first.level, until_ms, ..Levels::default() };
    let items: Vec<SetItem<'_>> = puts
        .iter()
        .map(|put| SetItem {
            key: KeyRef::place(DEFAULT_KEYSPACE, &put.key),
            value: &put.value,
            expiry: put.expiry,
        })
        .collect();
    let (ends, trail) = coordinator.set_batch(&items, levels).await;
    let outs = ends.into_iter().zip(&items).zip(puts).enumerate();
    outs.map(|(at, ((end, item), put))| {
        let written = end.map_err(Into::into).map(|()| {
            let dot = trail.dot_of(at);
            WriteOut {
                dot: dot.map(dot_name),
                context: dot.map_or_else(Bytes::new, |dot| seal_blind(scope, item.key, dot)),
            }
        });
        (put.place, BatchOut::Written(written))
    })
    .collect()
}

fn dot_name(dot: Dot) -> DotName {
    let Actor { node, tenure } = dot.actor;
    DotName { time: dot.time.to_bits(), node: NodeId(node), tenure }
}

/// The sealed context of a blind writer: its write and everything that its actor wrote before, all
/// of which was replaced when it was minted.
pub(super) fn seal_blind(scope: &Scope, key: KeyRef<'_>, dot: Dot) -> Bytes {
    let mut context = Context::new();
    context.insert(dot);
    seal::seal(&scope.record.context_key, &key.to_storage(), &context)
}

/// A dot from its parts.
pub(super) fn dot_of((time, node, tenure): (u64, u64, u64)) -> Dot {
    Dot::new(Actor::new(node, tenure), HybridTime::from_bits(time))
}
