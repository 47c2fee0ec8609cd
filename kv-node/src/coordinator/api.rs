//! Reads and writes of one key, or of a few, for programs that embed a node.
//!
//! The front doors cross the coordinator once for a batch; a program that has one key at hand
//! should not have to know how. Keys are of the default keyspace, copies are as many as it says.

use bytes::Bytes;

use super::{Coordinator, Levels, SetItem, SiblingValue};
use crate::error::RequestError;
use crate::keys::{DEFAULT_KEYSPACE, KeyRef};
use crate::mutation::{Answer, ExpiryRule, Mutation, MutationOut, Promise};

impl Coordinator {
    /// The value of a key: of concurrent ones that with the highest dot, as Redis's GET shows it.
    ///
    /// # Errors
    /// `Unavailable` and the others that say that nothing is known of the value.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RequestError> {
        let mut shown = Err(RequestError::Stopping);
        self.get_batch(
            &[KeyRef::place(DEFAULT_KEYSPACE, key)],
            Levels::default(),
            &mut |_, value| {
                shown = value.map(|value| value.map(Bytes::copy_from_slice));
            },
        )
        .await;
        shown
    }

    /// Stores a value over whatever there is: durable on W copies when this returns.
    ///
    /// # Errors
    /// `Indeterminate` when it may have been stored, others when nothing was written.
    pub async fn set(&self, key: &[u8], value: &[u8]) -> Result<(), RequestError> {
        let key = KeyRef::place(DEFAULT_KEYSPACE, key);
        let item = SetItem { key, value, expiry: ExpiryRule::Never };
        let (mut ends, _) = self.set_batch(&[item], Levels::default()).await;
        ends.pop().unwrap_or(Err(RequestError::Stopping))
    }

    /// The values of several keys as one batch, in their order; each is there, or not, by itself.
    pub async fn get_many(&self, keys: &[&[u8]]) -> Vec<Result<Option<Bytes>, RequestError>> {
        let placed: Vec<KeyRef<'_>> =
            keys.iter().map(|key| KeyRef::place(DEFAULT_KEYSPACE, key)).collect();
        let mut shown = vec![Err(RequestError::Stopping); keys.len()];
        self.get_batch(&placed, Levels::default(), &mut |place, value| {
            if let Some(slot) = shown.get_mut(place) {
                *slot = value.map(|value| value.map(Bytes::copy_from_slice));
            }
        })
        .await;
        shown
    }

    /// Stores values over whatever there is in different keys, as one batch; what became of each,
    /// in their order, as of a `set`.
    pub async fn set_many(&self, pairs: &[(&[u8], &[u8])]) -> Vec<Result<(), RequestError>> {
        let items: Vec<SetItem<'_>> = pairs
            .iter()
            .map(|(key, value)| SetItem {
                key: KeyRef::place(DEFAULT_KEYSPACE, key),
                value,
                expiry: ExpiryRule::Never,
            })
            .collect();
        self.set_batch(&items, Levels::default()).await.0
    }

    /// A command that promises something of the value that was there, where one node decides every
    /// write of a key.
    ///
    /// # Errors
    /// `NeedsRmw` in other keyspaces, `WrongValue`, `Unavailable`: nothing was written; others as
    /// `set`.
    pub async fn promise(&self, key: &[u8], promise: Promise) -> Result<Answer, RequestError> {
        let key = KeyRef::place(DEFAULT_KEYSPACE, key);
        let out = self.mutate(key, Mutation::Promise(promise), Levels::default()).await?;
        let (MutationOut::Written { answer, .. } | MutationOut::Nothing(answer)) = out;
        Ok(answer)
    }

    /// Stores a value over whatever there is, until `expires_at_ms` since 1970.
    ///
    /// # Errors
    /// As `set`.
    pub async fn set_until(
        &self,
        key: &[u8],
        value: &[u8],
        expires_at_ms: u64,
    ) -> Result<(), RequestError> {
        let key = KeyRef::place(DEFAULT_KEYSPACE, key);
        let item = SetItem { key, value, expiry: ExpiryRule::At(expires_at_ms) };
        let (mut ends, _) = self.set_batch(&[item], Levels::default()).await;
        ends.pop().unwrap_or(Err(RequestError::Stopping))
    }

    /// Sets when a key's value ends (`None`: never), and says whether there was one to be changed.
    ///
    /// # Errors
    /// As `set`.
    pub async fn expire(
        &self,
        key: &[u8],
        expires_at_ms: Option<u64>,
    ) -> Result<bool, RequestError> {
        let key = KeyRef::place(DEFAULT_KEYSPACE, key);
        let expire = Mutation::Expire { expires_at_ms, condition: None };
        let out = self.mutate(key, expire, Levels::default()).await?;
        let (MutationOut::Written { answer, .. } | MutationOut::Nothing(answer)) = out;
        Ok(answer == Answer::Integer(1))
    }

    /// The value of a key, and sets when it ends (`None`: never).
    ///
    /// # Errors
    /// `Unavailable`: nothing was written; others as `set`.
    pub async fn get_and_expire(
        &self,
        key: &[u8],
        expires_at_ms: Option<u64>,
    ) -> Result<Option<Bytes>, RequestError> {
        let key = KeyRef::place(DEFAULT_KEYSPACE, key);
        let mutation = Mutation::ReadAndExpire { expires_at_ms };
        let out = self.mutate(key, mutation, Levels::default()).await?;
        let (MutationOut::Written { answer, .. } | MutationOut::Nothing(answer)) = out;
        Ok(if let Answer::Value(value) = answer { value } else { None })
    }

    /// Deletes what R replicas hold of a key, and says whether there was a value.
    ///
    /// # Errors
    /// As `set`.
    pub async fn delete(&self, key: &[u8]) -> Result<bool, RequestError> {
        let key = KeyRef::place(DEFAULT_KEYSPACE, key);
        let out = self.mutate(key, Mutation::Delete, Levels::default()).await?;
        let (MutationOut::Written { answer, .. } | MutationOut::Nothing(answer)) = out;
        Ok(match answer {
            Answer::Integer(deleted) => deleted > 0,
            Answer::Value(value) => value.is_some(),
            Answer::Ok => true,
        })
    }

    /// All live values of a key with their dots, and the sealed context that covers them; no
    /// context where nothing was ever stored.
    ///
    /// # Errors
    /// As `get`.
    pub async fn siblings(
        &self,
        key: &[u8],
    ) -> Result<(Option<Bytes>, Vec<SiblingValue>), RequestError> {
        self.get_siblings(KeyRef::place(DEFAULT_KEYSPACE, key), Levels::default()).await
    }

    /// Stores a value beside those that the context does not cover; without one it replaces
    /// nothing. Answers the sealed context of who now knows of this write too; it is empty in a
    /// keyspace without siblings.
    ///
    /// # Errors
    /// `BadContext` when the context is not one of this key, nothing was written; others as `set`.
    pub async fn put(
        &self,
        key: &[u8],
        value: Bytes,
        context: Option<Bytes>,
    ) -> Result<Bytes, RequestError> {
        let key = KeyRef::place(DEFAULT_KEYSPACE, key);
        let put = Mutation::Put { value, context, expiry: ExpiryRule::Never };
        let out = self.mutate(key, put, Levels::default()).await?;
        let (MutationOut::Written { answer, .. } | MutationOut::Nothing(answer)) = out;
        Ok(if let Answer::Value(Some(context)) = answer { context } else { Bytes::new() })
    }

    /// Deletes the values that the context covers, and no others.
    ///
    /// # Errors
    /// As `put`.
    pub async fn delete_seen(&self, key: &[u8], context: Bytes) -> Result<(), RequestError> {
        let key = KeyRef::place(DEFAULT_KEYSPACE, key);
        self.mutate(key, Mutation::DeleteSeen { context }, Levels::default()).await.map(drop)
    }
}
