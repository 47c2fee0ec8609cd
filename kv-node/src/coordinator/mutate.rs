//! Writes of one key that are more than a blind overwrite.
//!
//! DEL and EXPIRE first read R replicas and act on what those hold, under the key's lock and over
//! the join of what was read and what is stored, so nothing that was shown is lost and nothing that
//! was not shown is deleted. Promise commands do the same and keep the key's decision lock from the
//! read to the mint.

use bytes::Bytes;
use kv_quorum::{Context, Dot, Draft, Expiry, Record, Room};
use kv_ring::Partition;

use super::write::{Minted, WriteJob, decode, draft_of, storage_error};
use super::{Coordinator, Levels, Scope, resolve};
use crate::cluster::record::{Mode, Rmw};
use crate::error::RequestError;
use crate::keys::KeyRef;
use crate::mutation::{Answer, ExpireIf, ExpiryRule, Mutation, MutationOut};
use crate::replica::Verdict;

/// What a decision under the key's lock made of the record.
pub(super) enum Decided {
    /// A new record, and the dot that was minted, if one was.
    Changed(Record<Bytes>, Option<Dot>),
    /// Nothing to write.
    Unchanged,
}

/// A new record, and the dot that was minted for it, if one was.
type NewRecord = (Record<Bytes>, Option<Dot>);

type Decision<'d> =
    dyn FnMut(Record<Bytes>, &Coordinator) -> Result<Decided, RequestError> + Send + 'd;

impl Coordinator {
    /// Executes one write wherever it may be minted.
    ///
    /// # Errors
    /// As `RequestError` says of the data.
    pub(crate) async fn mutate(
        &self,
        key: KeyRef<'_>,
        mutation: Mutation,
        levels: Levels,
    ) -> Result<MutationOut, RequestError> {
        self.parts.figures.coordinator_sets.one();
        let scope = self.scope()?;
        Self::check_mutation(&scope, key, &mutation)?;
        if scope.minter(scope.partition(key)) == Some(scope.view.me) {
            return self.mutate_here(&scope, key, mutation, levels, None).await;
        }
        let mut outcomes = self.forward(&scope, vec![(key, mutation)], levels).await;
        outcomes.pop().unwrap_or(Err(RequestError::Stopping))
    }

    fn check_mutation(
        scope: &Scope,
        key: KeyRef<'_>,
        mutation: &Mutation,
    ) -> Result<(), RequestError> {
        match mutation {
            Mutation::Set { value, .. } | Mutation::Put { value, .. } => {
                Self::check_size(scope, key.key, value.len())
            }
            Mutation::Promise(promise) => {
                Self::check_size(scope, key.key, promise.value_bytes())?;
                Self::check_rmw(scope, promise.command())
            }
            Mutation::Expire { condition: Some(_), .. } => {
                Self::check_rmw(scope, "expire nx xx gt lt")
            }
            _ => Ok(()),
        }
    }

    /// Refuses a promise command unless the keyspace's `rmw` allows it.
    ///
    /// # Errors
    /// `NeedsRmw`: nothing was written.
    pub(crate) fn check_rmw(scope: &Scope, command: &str) -> Result<(), RequestError> {
        if scope.keyspace.rmw == Rmw::BestEffort {
            Ok(())
        } else {
            Err(RequestError::NeedsRmw(command.into()))
        }
    }

    /// Executes one write here; this node holds the key.
    ///
    /// # Errors
    /// As `RequestError` says of the data.
    pub(crate) async fn mutate_here(
        &self,
        scope: &Scope,
        key: KeyRef<'_>,
        mutation: Mutation,
        levels: Levels,
        operation: Option<u64>,
    ) -> Result<MutationOut, RequestError> {
        let _decides = self.decision_lock(scope, key).await;
        let act = Act { scope, key, levels, operation };
        match mutation {
            Mutation::Set { value, expiry: ExpiryRule::Keep } => {
                let record = self.read_one(key, levels).await?;
                let now_ms = self.now_ms();
                let kept = record.winner().filter(|winner| winner.value_at(now_ms).is_some());
                let expiry = kept
                    .and_then(|winner| winner.expiry.expires_at_ms)
                    .map_or(ExpiryRule::Never, ExpiryRule::At);
                self.set_one(&act, value, expiry).await
            }
            Mutation::Set { value, expiry } => self.set_one(&act, value, expiry).await,
            Mutation::Put { value, context, expiry } => {
                self.put_one(&act, value, context, expiry).await
            }
            Mutation::Delete => self.delete_one(&act).await,
            Mutation::DeleteSeen { context } => {
                let seen = Self::open(scope, key, &context)?;
                self.delete_over(&act, seen).await
            }
            Mutation::Expire { expires_at_ms, condition } => {
                self.expire_one(&act, expires_at_ms, condition).await
            }
            Mutation::ReadAndExpire { expires_at_ms } => {
                self.read_and_expire(&act, expires_at_ms).await
            }
            Mutation::Promise(promise) => self.promise_one(&act, promise).await,
        }
    }

    /// In a keyspace where one node decides, writes of one key are decided one after the other.
    pub(super) async fn decision_lock(
        &self,
        scope: &Scope,
        key: KeyRef<'_>,
    ) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        if scope.keyspace.rmw != Rmw::BestEffort {
            return None;
        }
        let at = key.token.value() as usize % self.deciding.len().max(1);
        match self.deciding.get(at) {
            Some(lock) => Some(lock.lock().await),
            None => None,
        }
    }

    fn open(scope: &Scope, key: KeyRef<'_>, sealed: &[u8]) -> Result<Context, RequestError> {
        super::seal::open(&scope.record.context_key, &key.to_storage(), sealed)
    }

    async fn set_one(
        &self,
        act: &Act<'_>,
        value: Bytes,
        expiry: ExpiryRule,
    ) -> Result<MutationOut, RequestError> {
        let partition = act.scope.partition(act.key);
        let draft = draft_of(value, expiry, self.parts.dots.time(self.now_ms()))
            .by_operation(act.operation);
        self.decide(act, true, &mut |record, node| {
            let (dot, record) = node.mint_new(
                partition,
                &record,
                &Context::new(),
                |record, dot| record.mint_blind(dot, draft.clone()).map(|()| Room::Ample),
                &mut None,
            )?;
            Ok(Decided::Changed(record, Some(dot)))
        })
        .await
        .map(|done| done.out(Answer::Ok))
    }

    async fn put_one(
        &self,
        act: &Act<'_>,
        value: Bytes,
        context: Option<Bytes>,
        expiry: ExpiryRule,
    ) -> Result<MutationOut, RequestError> {
        if act.scope.keyspace.mode == Mode::Lww {
            let done = self.set_one(act, value, expiry).await?;
            return Ok(done);
        }
        let sent = match context {
            Some(sealed) => Self::open(act.scope, act.key, &sealed)?,
            None => Context::new(),
        };
        let draft = draft_of(value, expiry, self.parts.dots.time(self.now_ms()))
            .by_operation(act.operation);
        let done = self.mint_with(act, &sent, &draft).await?;
        let context = Self::seal_after(act, &done, &sent);
        Ok(done.out(Answer::Value(Some(context))))
    }

    /// The context for a writer who had seen `sent` and now knows of its own write too.
    fn seal_after(act: &Act<'_>, done: &Done, sent: &Context) -> Bytes {
        let Some(dot) = done.minted else { return Bytes::new() };
        Self::seal(act.scope, act.key, &done.record.context_after_put(sent, dot))
    }

    /// Mints a draft over what `seen` covers, here, and replicates it.
    pub(super) async fn mint_with(
        &self,
        act: &Act<'_>,
        seen: &Context,
        draft: &Draft<Bytes>,
    ) -> Result<Done, RequestError> {
        let partition = act.scope.partition(act.key);
        let mut warned = None;
        let done = self
            .decide(act, false, &mut |record, node| {
                let (dot, record) = node.mint_new(
                    partition,
                    &record,
                    seen,
                    |record, dot| record.mint(dot, seen, draft.clone(), &node.limits),
                    &mut warned,
                )?;
                Ok(Decided::Changed(record, Some(dot)))
            })
            .await?;
        if let Some(Room::Scarce { siblings }) = warned {
            self.parts.figures.sibling_warnings.one();
            tracing::warn!(siblings, slot = act.key.slot.index(), "a key has many siblings");
        }
        Ok(done)
    }

    /// Mints under a new dot; begins a new tenure if this node turns out to have forgotten dots.
    fn mint_new(
        &self,
        partition: Partition,
        record: &Record<Bytes>,
        seen: &Context,
        mint: impl Fn(&mut Record<Bytes>, Dot) -> Result<Room, kv_quorum::Error>,
        room: &mut Option<Room>,
    ) -> Result<(Dot, Record<Bytes>), RequestError> {
        let above = record.coverage().vector().latest().max(seen.vector().latest());
        for _ in 0..2 {
            let dot = self.mint_dot(partition, self.now_ms(), above)?;
            let mut next = record.clone();
            match mint(&mut next, dot) {
                Ok(left) => {
                    *room = Some(left);
                    return Ok((dot, next));
                }
                Err(kv_quorum::Error::DotNotNew) => self.alarm(partition)?,
                Err(kv_quorum::Error::TooManySiblings { siblings, .. }) => {
                    return Err(RequestError::TooManySiblings { siblings: siblings as u32 });
                }
                Err(kv_quorum::Error::RecordTooLarge { record_bytes, record_bytes_max }) => {
                    return Err(RequestError::TooLarge {
                        bytes: record_bytes as u64,
                        bytes_max: record_bytes_max as u64,
                    });
                }
                Err(error) => return Err(RequestError::Storage(error.to_string())),
            }
        }
        Err(RequestError::Storage("no new dot could be minted".into()))
    }

    async fn delete_one(&self, act: &Act<'_>) -> Result<MutationOut, RequestError> {
        let record = self.read_one(act.key, act.levels).await?;
        if !record.exists(self.now_ms()) {
            return Ok(MutationOut::Nothing(Answer::Integer(0)));
        }
        self.delete_over(act, record.context().clone()).await
    }

    pub(super) async fn delete_over(
        &self,
        act: &Act<'_>,
        seen: Context,
    ) -> Result<MutationOut, RequestError> {
        let draft = Draft::tombstone().by_operation(act.operation);
        let done = self.mint_with(act, &seen, &draft).await?;
        let mut out = done.out(Answer::Integer(1));
        if let MutationOut::Written { context, .. } = &mut out {
            *context = Self::seal_after(act, &done, &seen);
        }
        Ok(out)
    }

    async fn expire_one(
        &self,
        act: &Act<'_>,
        expires_at_ms: Option<u64>,
        condition: Option<ExpireIf>,
    ) -> Result<MutationOut, RequestError> {
        let record = self.read_one(act.key, act.levels).await?;
        let now_ms = self.now_ms();
        let Some(winner) = record.winner().filter(|winner| winner.value_at(now_ms).is_some())
        else {
            return Ok(MutationOut::Nothing(Answer::Integer(0)));
        };
        let present = winner.expiry.expires_at_ms;
        let persists_nothing = expires_at_ms.is_none() && present.is_none();
        if persists_nothing || !allows(condition, present, expires_at_ms) {
            return Ok(MutationOut::Nothing(Answer::Integer(0)));
        }
        self.change_register(act, &record, expires_at_ms).await
    }

    async fn read_and_expire(
        &self,
        act: &Act<'_>,
        expires_at_ms: Option<u64>,
    ) -> Result<MutationOut, RequestError> {
        let record = self.read_one(act.key, act.levels).await?;
        let Some(value) = record.shown(self.now_ms()).cloned() else {
            return Ok(MutationOut::Nothing(Answer::Value(None)));
        };
        let changed = self.change_register(act, &record, expires_at_ms).await?;
        let answer = Answer::Value(Some(value));
        Ok(match changed {
            MutationOut::Written { holders, dot, context, .. } => {
                MutationOut::Written { holders, dot, context, answer }
            }
            MutationOut::Nothing(_) => MutationOut::Nothing(answer),
        })
    }

    /// Puts a register on the versions that were read.
    async fn change_register(
        &self,
        act: &Act<'_>,
        read: &Record<Bytes>,
        expires_at_ms: Option<u64>,
    ) -> Result<MutationOut, RequestError> {
        let seen: Vec<Dot> = read.live().iter().map(|version| version.dot).collect();
        let done = self
            .decide(act, false, &mut |mut record, node| {
                record.join(read);
                let now_ms = node.now_ms();
                let stamp = record.stamp_above(node.parts.dots.time(now_ms));
                let expiry = Expiry { stamp, expires_at_ms };
                if record.expire(&seen, expiry, now_ms) == 0 {
                    return Ok(Decided::Unchanged);
                }
                Ok(Decided::Changed(record, None))
            })
            .await?;
        Ok(done.out(Answer::Integer(1)))
    }

    /// Reads, decides and appends under the key's lock, then replicates.
    pub(super) async fn decide(
        &self,
        act: &Act<'_>,
        blind: bool,
        decision: &mut Decision<'_>,
    ) -> Result<Done, RequestError> {
        let scope = act.scope;
        let partition = scope.partition(act.key);
        let wanted = resolve(act.levels.write, scope.keyspace.write, scope.keyspace.n)?;
        let tracker = self.begin_write(scope, partition, wanted, blind)?;
        let storage_key = act.key.to_storage();
        let mut decided: Result<Option<NewRecord>, RequestError> = Ok(None);
        let update = self
            .parts
            .replica
            .update(&[&storage_key], &mut |_, stored, out| match decode(stored)
                .and_then(|record| decision(record, self))
            {
                Ok(Decided::Changed(record, dot)) => {
                    record.encode_into(out);
                    decided = Ok(Some((record, dot)));
                    Verdict::Write
                }
                Ok(Decided::Unchanged) => Verdict::Keep,
                Err(error) => {
                    decided = Err(error);
                    Verdict::Keep
                }
            })
            .await
            .map_err(storage_error)?;
        let (Some((record, minted)), Some(bytes)) =
            (decided?, update.records.into_iter().next().flatten())
        else {
            return Ok(Done { record: Record::new(), minted: None, written: None });
        };
        self.parts.figures.replica_applies.one();
        let job =
            WriteJob::new(vec![Minted { key: storage_key, record: bytes, partition, tracker }]);
        let ends = self.replicate(scope, &job, update.ticket, true).await;
        ends.into_iter().next().unwrap_or(Err(RequestError::Stopping))?;
        Ok(Done { record, minted, written: Some(job.holders(0)) })
    }
}

/// One write in execution.
pub(super) struct Act<'a> {
    pub(super) scope: &'a Scope,
    pub(super) key: KeyRef<'a>,
    pub(super) levels: Levels,
    pub(super) operation: Option<u64>,
}

/// A write that was acknowledged, or found nothing to write.
pub(super) struct Done {
    pub(super) record: Record<Bytes>,
    pub(super) minted: Option<Dot>,
    /// Who else holds it; `None` if nothing was written.
    pub(super) written: Option<Vec<kv_client::NodeId>>,
}

impl Done {
    pub(super) fn out(&self, answer: Answer) -> MutationOut {
        let Some(holders) = &self.written else { return MutationOut::Nothing(answer) };
        let dot = self
            .minted
            .map_or((0, 0, 0), |dot| (dot.time.to_bits(), dot.actor.node, dot.actor.tenure));
        MutationOut::Written { holders: holders.clone(), dot, context: Bytes::new(), answer }
    }
}

/// Whether EXPIRE's condition holds; no expiry counts as endless.
fn allows(condition: Option<ExpireIf>, present: Option<u64>, wanted: Option<u64>) -> bool {
    let endless = |at: Option<u64>| at.unwrap_or(u64::MAX);
    match condition {
        None => true,
        Some(ExpireIf::NoExpiry) => present.is_none(),
        Some(ExpireIf::HasExpiry) => present.is_some(),
        Some(ExpireIf::Later) => endless(wanted) > endless(present),
        Some(ExpireIf::Earlier) => endless(wanted) < endless(present),
    }
}
