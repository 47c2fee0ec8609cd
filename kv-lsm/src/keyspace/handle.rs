//! A keyspace as its users hold it: reads, walks and deletions in one, and reads at a snapshot.
//!
//! Writes go through batches, which may name several ([`Batch::put_in`]). Invariant: what is read
//! through a handle are keys of its keyspace; when that is dropped, nothing is.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use super::{Id, Registry};
use crate::commit::{Batch, Durability};
use crate::engine::Engine;
use crate::erase::Erased;
use crate::error::Error;
use crate::explain::{self, Explanation};
use crate::snapshot::{Iter, Snapshot, end_of_prefix};
use crate::view::{Found, Resident, View};

/// One keyspace of an open engine, which stays open as long as somebody has this. Clones are the
/// same. Those of another engine, also of the same directory, are refused.
#[derive(Clone, Debug)]
pub struct Keyspace {
    engine: Engine,
    token: Token,
}

/// By what a batch knows a keyspace: holding it keeps no engine open.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// Of the engine that gave it.
    pub(crate) engine: u64,
    pub(crate) id: Id,
    pub(crate) name: Arc<str>,
}

impl Token {
    /// That there is no such keyspace.
    pub(crate) fn gone(&self) -> Error {
        Error::Keyspace { name: Arc::clone(&self.name), what: "there is no such keyspace" }
    }

    /// # Errors
    /// It was dropped, or is another engine's.
    pub(crate) fn check(&self, registry: &Registry) -> Result<(), Error> {
        let is_there = registry.has(self.engine, self.id);
        if is_there { Ok(()) } else { Err(self.gone()) }
    }
}

impl Keyspace {
    pub(super) fn new(engine: Engine, id: Id, name: Arc<str>) -> Self {
        let token = Token { engine: engine.shared().view().spaces.engine, id, name };
        Self { engine, token }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.token.name
    }

    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    /// As [`Engine::get`], in this keyspace.
    ///
    /// # Errors
    /// As [`Engine::get`]; [`Error::Keyspace`] when it was dropped.
    pub fn get(&self, key: &[u8]) -> Result<Option<Found>, Error> {
        let view = self.view()?;
        view.get_newest(&view.spaces.stored(self.token.id, key))
    }

    /// As [`Engine::get_resident`], in this keyspace.
    ///
    /// # Errors
    /// As [`Engine::get_resident`]; [`Error::Keyspace`] when it was dropped.
    pub fn get_resident(&self, key: &[u8]) -> Result<Resident, Error> {
        let view = self.view()?;
        view.get_resident(&view.spaces.stored(self.token.id, key))
    }

    /// A walk over the keys of a range of this keyspace, from either end, as of now.
    ///
    /// # Errors
    /// [`Error::Keyspace`] when it was dropped.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Iter, Error> {
        self.engine.snapshot().scan_in(self, range)
    }

    /// A walk over the keys of this keyspace that begin with `prefix`, from either end, as of now.
    ///
    /// # Errors
    /// [`Error::Keyspace`] when it was dropped.
    pub fn scan_prefix(&self, prefix: &[u8]) -> Result<Iter, Error> {
        self.engine.snapshot().scan_prefix_in(self, prefix)
    }

    /// As [`Engine::delete_range`], in this keyspace. To be rid of all its keys, drop it.
    ///
    /// # Errors
    /// As [`Engine::delete_range`]; [`Error::Keyspace`] when it was dropped.
    pub fn delete_range<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
        durability: Durability,
    ) -> Result<Erased, Error> {
        let pairs = self.scan(range)?;
        self.engine.erase(pairs, durability, |batch, key| self.enter_deletion(batch, key))
    }

    /// As [`Engine::delete_prefix`], in this keyspace.
    ///
    /// # Errors
    /// As [`Keyspace::delete_range`].
    pub fn delete_prefix(&self, prefix: &[u8], durability: Durability) -> Result<Erased, Error> {
        let pairs = self.scan_prefix(prefix)?;
        self.engine.erase(pairs, durability, |batch, key| self.enter_deletion(batch, key))
    }

    /// As [`Engine::explain`], in this keyspace.
    ///
    /// # Errors
    /// As [`Engine::explain`]; [`Error::Keyspace`] when it was dropped.
    pub fn explain(&self, key: &[u8]) -> Result<Explanation, Error> {
        let view = self.view()?;
        explain::explain(&view, &view.spaces.stored(self.token.id, key))
    }

    /// As [`Engine::approximate_bytes`], in this keyspace.
    ///
    /// # Errors
    /// As [`Engine::approximate_bytes`]; [`Error::Keyspace`] when it was dropped.
    pub fn approximate_bytes<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
    ) -> Result<u64, Error> {
        self.view()?.approximate_bytes(self.token.id, &range)
    }

    fn enter_deletion(&self, batch: &mut Batch, key: &[u8]) {
        batch.delete_in(self, key);
    }

    fn view(&self) -> Result<Arc<View>, Error> {
        let view = self.engine.shared().view();
        self.token.check(&view.spaces)?;
        Ok(view)
    }
}

impl Snapshot {
    /// The value of a key of a keyspace.
    ///
    /// # Errors
    /// As [`Engine::get`]; [`Error::Keyspace`] when the keyspace was not there at this moment.
    pub fn get_in(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Found>, Error> {
        let view = self.view_with(keyspace)?;
        view.get(&view.spaces.stored(keyspace.token.id, key), self.ticket().seq())
    }

    /// A walk over the keys of a range of a keyspace, from either end.
    ///
    /// # Errors
    /// [`Error::Keyspace`] when the keyspace was not there at this moment.
    pub fn scan_in<K: AsRef<[u8]>>(
        &self,
        keyspace: &Keyspace,
        range: impl RangeBounds<K>,
    ) -> Result<Iter, Error> {
        self.view_with(keyspace)?;
        Ok(self.walk(keyspace.token.id, &range))
    }

    /// A walk over the keys of a keyspace that begin with `prefix`, from either end.
    ///
    /// # Errors
    /// [`Error::Keyspace`] when the keyspace was not there at this moment.
    pub fn scan_prefix_in(&self, keyspace: &Keyspace, prefix: &[u8]) -> Result<Iter, Error> {
        let range = (Bound::Included(prefix.to_vec()), end_of_prefix(prefix));
        self.scan_in::<Vec<u8>>(keyspace, range)
    }

    fn view_with(&self, keyspace: &Keyspace) -> Result<&View, Error> {
        let view = self.view();
        keyspace.token.check(&view.spaces)?;
        Ok(view)
    }
}
