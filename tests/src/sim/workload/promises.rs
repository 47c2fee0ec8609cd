//! Commands that promise something of the value that was there, in a keyspace in which one node
//! decides every write (`rmw = best-effort`).
//!
//! What they promise holds while membership is stable, and here it is not; so their answers are not
//! judged as of one decision maker. They are reads of R replicas and writes like others: nothing
//! acknowledged is lost, nothing is shown that nobody wrote, and each ends in time.

use bytes::Bytes;
use kv_node::mutation::{Answer, Existence, ExpiryRule, Promise};

use super::{Client, ask, distinct_key, own_key, value_of};
use crate::sim::history::{Action, Outcome};
use crate::sim::world::{Door, World};

/// Keys that clients count in.
const COUNTERS: u64 = 3;

impl Client {
    /// SET NX of a new key.
    pub(super) async fn set_absent(&mut self, world: &World) {
        let key = distinct_key(self.id, self.distinct);
        self.distinct += 1;
        let value = self.value();
        let set = set_if(self.bytes(&key, &value), Some(Existence::Absent), false);
        let Some((node, mut door)) = self.door(world) else { return };
        let begun = self.begin(world, node, &key, Action::Set(value));
        let outcome = match promise(&mut door, &key, set).await {
            Ok(Answer::Ok) => Outcome::Acknowledged,
            Ok(_) => Outcome::Nothing,
            Err(outcome) => outcome,
        };
        self.end(world, begun, outcome);
    }

    /// SET GET of an own or contested key: a read, and a write over what it shows.
    pub(super) async fn swap(&self, world: &World) {
        let (key, value) = (self.some_key(), self.value());
        let set = set_if(self.bytes(&key, &value), None, true);
        self.take(world, &key, Action::Set(value), set).await;
    }

    /// GETDEL of an own or contested key.
    pub(super) async fn take_out(&self, world: &World) {
        let key = self.some_key();
        self.take(world, &key, Action::Delete, Promise::TakeOut).await;
    }

    /// INCR.
    pub(super) async fn count(&self, world: &World) {
        let key = format!("n:{}", self.random.below(COUNTERS));
        let Some((node, mut door)) = self.door(world) else { return };
        let begun = self.begin(world, node, &key, Action::Increment);
        let outcome = match promise(&mut door, &key, Promise::Add(1)).await {
            Ok(_) => Outcome::Acknowledged,
            Err(outcome) => outcome,
        };
        self.end(world, begun, outcome);
    }

    fn some_key(&self) -> String {
        if self.random.percent(50) { self.contested() } else { own_key(self.id) }
    }

    /// A write that answers what was there before: a read and a write in the history.
    async fn take(&self, world: &World, key: &str, action: Action, what: Promise) {
        let Some((node, mut door)) = self.door(world) else { return };
        let read = self.begin(world, node, key, Action::Get);
        let deletes = action == Action::Delete;
        let write = self.begin(world, node, key, action);
        let (shown, written) = match promise(&mut door, key, what).await {
            Ok(answer) => {
                let old = if let Answer::Value(Some(old)) = answer { Some(old) } else { None };
                let nothing = deletes && old.is_none();
                let written = if nothing { Outcome::Nothing } else { Outcome::Acknowledged };
                (Outcome::Shown(old.as_deref().map(value_of)), written)
            }
            // Whatever it read, nobody was told.
            Err(outcome) => (Outcome::Failed("no answer".into()), outcome),
        };
        self.end(world, read, shown);
        self.end(world, write, written);
    }
}

fn set_if(value: Bytes, only: Option<Existence>, answer_old: bool) -> Promise {
    Promise::SetIf { value, expiry: ExpiryRule::Never, only, answer_old }
}

async fn promise(door: &mut Door, key: &str, promise: Promise) -> Result<Answer, Outcome> {
    let name = key.as_bytes();
    ask(door, async |door: &Door| door.coordinator.promise(name, promise).await).await
}
