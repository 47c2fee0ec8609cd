//! Batches, as front doors make them of what one read brought: SETs or GETs of different keys in
//! one call of the coordinator, each of which ends by itself and is judged by itself.

use std::collections::BTreeSet;

use bytes::Bytes;
use kv_node::RequestError;

use super::{Client, ask, distinct_key, own_key, value_of};
use crate::sim::history::{Action, Outcome};
use crate::sim::world::{Door, World};

/// Keys of a batch.
const KEYS: std::ops::RangeInclusive<u64> = 2..=8;

impl Client {
    /// SETs of new keys, this client's own, contested and shared ones.
    pub(super) async fn set_batch(&mut self, world: &World) {
        let keys = self.some_keys(|client| match client.random.below(6) {
            0 => own_key(client.id),
            1 => client.contested(),
            2 => client.shared_key(),
            _ => {
                client.distinct += 1;
                distinct_key(client.id, client.distinct - 1)
            }
        });
        let Some((node, mut door)) = self.door(world) else { return };
        let mut pairs: Vec<(&[u8], Bytes)> = Vec::with_capacity(keys.len());
        let mut begun = Vec::with_capacity(keys.len());
        for key in &keys {
            // Each has a value of its own.
            self.done += 1;
            let value = self.value();
            pairs.push((key.as_bytes(), self.bytes(key, &value)));
            begun.push(self.begin(world, node, key, Action::Set(value)));
        }
        let pairs: Vec<(&[u8], &[u8])> =
            pairs.iter().map(|(key, value)| (*key, &value[..])).collect();
        let set = async |door: &Door| Ok(door.coordinator.set_many(&pairs).await);
        let ends = ask(&mut door, set).await;
        self.end_each(world, &begun, ends, |()| Outcome::Acknowledged);
    }

    /// GETs of keys that clients write again and again, and of some that this one wrote once.
    pub(super) async fn get_batch(&mut self, world: &World) {
        let keys = self.some_keys(|client| match client.random.below(3) {
            0 => own_key(client.random.below(client.clients as u64) as usize),
            1 => client.contested(),
            _ => distinct_key(client.id, client.random.below(client.distinct.max(1))),
        });
        let Some((node, mut door)) = self.door(world) else { return };
        let begun: Vec<usize> =
            keys.iter().map(|key| self.begin(world, node, key, Action::Get)).collect();
        let names: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        let get = async |door: &Door| Ok(door.coordinator.get_many(&names).await);
        let ends = ask(&mut door, get).await;
        self.end_each(world, &begun, ends, |value| Outcome::Shown(value.as_deref().map(value_of)));
    }

    /// So many different keys as a batch has, or a few less where some are drawn twice.
    fn some_keys(&mut self, draw: impl Fn(&mut Self) -> String) -> Vec<String> {
        let count = self.random.between(*KEYS.start(), *KEYS.end());
        let keys: BTreeSet<String> = (0..count).map(|_| draw(self)).collect();
        keys.into_iter().collect()
    }

    fn end_each<T>(
        &self,
        world: &World,
        begun: &[usize],
        ends: Result<Vec<Result<T, RequestError>>, Outcome>,
        told: impl Fn(T) -> Outcome,
    ) {
        match ends {
            Ok(ends) => {
                for (begun, end) in begun.iter().zip(ends) {
                    let outcome = end.map_or_else(|error| Outcome::of(&error), &told);
                    self.end(world, *begun, outcome);
                }
            }
            Err(outcome) => begun.iter().for_each(|one| self.end(world, *one, outcome.clone())),
        }
    }
}
