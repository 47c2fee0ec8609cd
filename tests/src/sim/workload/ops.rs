//! One operation of a client each: what it asks for, and what it makes of the answer.

use bytes::Bytes;

use super::{CONTESTED_KEYS, Client, Kind, SHARED_KEYS, ask, distinct_key, own_key};
use super::{all_shown, shown, stored};
use crate::sim::history::{Action, EVERY_KEY, Outcome};
use crate::sim::watch::SHARED;
use crate::sim::world::{Door, World};

/// An end that no run reaches, in milliseconds from now.
const FAR_MS: u64 = 1_000_000_000;
/// A sibling is so long, at most: a record with many must fit the small engines.
const SIBLING_BYTES_MAX: u64 = 128;

impl Client {
    pub(super) async fn act(&mut self, world: &World, kind: Kind) {
        match kind {
            Kind::SetDistinct => {
                let key = distinct_key(self.id, self.distinct);
                self.distinct += 1;
                self.set(world, &key).await;
            }
            Kind::GetDistinct => {
                let n = self.random.below(self.distinct.max(1));
                self.get(world, &distinct_key(self.id, n)).await;
            }
            Kind::SetOwn => self.set(world, &own_key(self.id)).await,
            Kind::DeleteOwn => self.delete(world, &own_key(self.id)).await,
            Kind::GetOwn => {
                let other = self.random.below(self.clients as u64) as usize;
                self.get(world, &own_key(other)).await;
            }
            Kind::SetContested => self.set(world, &self.contested()).await,
            Kind::DeleteContested => self.delete(world, &self.contested()).await,
            Kind::GetContested => self.get(world, &self.contested()).await,
            Kind::Touch => self.touch(world).await,
            Kind::Put => self.put(world).await,
            Kind::SetShared => {
                let key = self.shared_key();
                self.set(world, &key).await;
            }
            Kind::DeleteSeen => self.delete_seen(world).await,
            Kind::Look => self.look(world).await,
            Kind::SetUntil => self.set_until(world).await,
            Kind::ChangeEnd => self.change_end(world).await,
            Kind::GetExpiring => {
                let key = self.expiring_key();
                self.get(world, &key).await;
            }
            Kind::Flush => self.flush(world).await,
            Kind::SetBatch => self.set_batch(world).await,
            Kind::GetBatch => self.get_batch(world).await,
            Kind::SetAbsent => self.set_absent(world).await,
            Kind::Swap => self.swap(world).await,
            Kind::TakeOut => self.take_out(world).await,
            Kind::Count => self.count(world).await,
        }
    }

    pub(super) fn contested(&self) -> String {
        format!("c:{}", self.random.below(CONTESTED_KEYS))
    }

    /// The number of a shared key.
    fn shared(&self) -> u64 {
        if self.mix.cold_keys > 0 && self.random.percent(50) {
            return SHARED_KEYS + self.random.below(self.mix.cold_keys);
        }
        self.random.below(SHARED_KEYS)
    }

    pub(super) fn shared_key(&self) -> String {
        format!("{SHARED}{}", self.shared())
    }

    /// The last of this client's keys with an end.
    fn expiring_key(&self) -> String {
        format!("e:{}:{}", self.id, self.expiring)
    }

    pub(super) fn bytes(&self, key: &str, value: &str) -> Bytes {
        let shared = key.starts_with(SHARED);
        let bytes_max = if shared { SIBLING_BYTES_MAX } else { self.mix.value_bytes_max };
        stored(value, self.random.below(bytes_max + 1))
    }

    async fn set(&self, world: &World, key: &str) {
        let (value, name) = (self.value(), key.as_bytes());
        let bytes = self.bytes(key, &value);
        let set = async |door: &Door| door.coordinator.set(name, &bytes).await;
        self.write(world, key, Action::Set(value), set).await;
    }

    async fn delete(&self, world: &World, key: &str) {
        let name = key.as_bytes();
        let delete = async |door: &Door| door.coordinator.delete(name).await;
        self.change(world, key, Action::Delete, delete).await;
    }

    async fn get(&self, world: &World, key: &str) {
        let Some((node, mut door)) = self.door(world) else { return };
        let begun = self.begin(world, node, key, Action::Get);
        let outcome = shown(&mut door, key).await;
        self.end(world, begun, outcome);
    }

    /// EXPIRE far away, or PERSIST.
    async fn touch(&self, world: &World) {
        let own = own_key(self.random.below(self.clients as u64) as usize);
        let key = if self.random.percent(60) { self.contested() } else { own };
        let end = self.random.percent(70).then(|| world.true_ms() + FAR_MS);
        self.expire(world, &key, end).await;
    }

    async fn expire(&self, world: &World, key: &str, end: Option<u64>) {
        let name = key.as_bytes();
        let expire = async |door: &Door| door.coordinator.expire(name, end).await;
        self.change(world, key, Action::Expire(end), expire).await;
    }

    /// KV.GET of a shared key.
    async fn look(&mut self, world: &World) {
        let n = self.shared();
        let Some((node, mut door)) = self.door(world) else { return };
        let key = format!("m:{n}");
        let begun = self.begin(world, node, &key, Action::Siblings);
        let (context, outcome) = all_shown(&mut door, &key).await;
        if let Outcome::AllShown(values) = &outcome {
            self.seen.insert(n, (context, values.clone()));
        }
        self.end(world, begun, outcome);
    }

    /// KV.PUT to a shared key, mostly with what was seen last, sometimes with nothing. Its answer
    /// is a context too, and covers nothing new but the write itself.
    async fn put(&mut self, world: &World) {
        let n = self.shared();
        let blind = self.random.percent(20);
        let (context, mut seen) = match self.seen.get(&n) {
            Some(seen) if !blind => seen.clone(),
            _ => (None, Vec::new()),
        };
        let key = format!("m:{n}");
        let value = self.value();
        let bytes = self.bytes(&key, &value);
        let Some((node, mut door)) = self.door(world) else { return };
        let action = Action::Put { value: value.clone(), seen: seen.clone() };
        let begun = self.begin(world, node, &key, action);
        let answer =
            ask(&mut door, async |door| door.coordinator.put(key.as_bytes(), bytes, context).await);
        let outcome = match answer.await {
            Err(outcome) => outcome,
            Ok(context) => {
                seen.push(value);
                self.seen.insert(n, (Some(context), seen));
                Outcome::Acknowledged
            }
        };
        self.end(world, begun, outcome);
    }

    /// KV.DEL of a shared key, if anything of it was seen.
    async fn delete_seen(&mut self, world: &World) {
        let n = self.shared();
        let Some((Some(context), seen)) = self.seen.get(&n).cloned() else { return };
        let key = format!("m:{n}");
        let name = key.as_bytes();
        let delete = async |door: &Door| door.coordinator.delete_seen(name, context).await;
        self.write(world, &key, Action::DeleteSeen { seen }, delete).await;
    }

    /// A new key with an end.
    async fn set_until(&mut self, world: &World) {
        self.expiring += 1;
        let key = self.expiring_key();
        let until_ms = world.true_ms() + self.random.between(100, self.mix.ttl_ms_max);
        let (value, name) = (self.value(), key.as_bytes());
        let bytes = self.bytes(&key, &value);
        let set = async |door: &Door| door.coordinator.set_until(name, &bytes, until_ms).await;
        self.write(world, &key, Action::SetUntil { value, until_ms }, set).await;
    }

    /// EXPIRE, PERSIST or GETEX of this client's last key with an end.
    async fn change_end(&mut self, world: &World) {
        let key = self.expiring_key();
        let until_ms = world.true_ms() + self.random.between(100, self.mix.ttl_ms_max);
        match self.random.below(3) {
            0 => self.expire(world, &key, None).await,
            1 => self.expire(world, &key, Some(until_ms)).await,
            _ => {
                let Some((node, mut door)) = self.door(world) else { return };
                let begun = self.begin(world, node, &key, Action::GetEx(until_ms));
                let name = key.as_bytes();
                let answer = ask(&mut door, async |door| {
                    door.coordinator.get_and_expire(name, Some(until_ms)).await
                });
                let outcome = match answer.await {
                    Ok(value) => Outcome::Shown(value.as_deref().map(super::value_of)),
                    Err(outcome) => outcome,
                };
                self.end(world, begun, outcome);
            }
        }
    }

    async fn flush(&self, world: &World) {
        let flush = async |door: &Door| door.coordinator.flush().await;
        self.write(world, EVERY_KEY, Action::Flush, flush).await;
    }

    /// A write that answers nothing but OK.
    async fn write(
        &self,
        world: &World,
        key: &str,
        action: Action,
        work: impl AsyncFnOnce(&Door) -> Result<(), kv_node::RequestError>,
    ) {
        self.change(world, key, action, async |door| work(door).await.map(|()| true)).await;
    }

    /// A write that answers whether there was anything to do.
    async fn change(
        &self,
        world: &World,
        key: &str,
        action: Action,
        work: impl AsyncFnOnce(&Door) -> Result<bool, kv_node::RequestError>,
    ) {
        let Some((node, mut door)) = self.door(world) else { return };
        let begun = self.begin(world, node, key, action);
        let outcome = match ask(&mut door, work).await {
            Ok(true) => Outcome::Acknowledged,
            Ok(false) => Outcome::Nothing,
            Err(outcome) => outcome,
        };
        self.end(world, begun, outcome);
    }
}
