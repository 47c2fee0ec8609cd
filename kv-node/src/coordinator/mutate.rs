//! Writes of one key that are more than a blind overwrite.
//!
//! DEL and EXPIRE first read R replicas and act on what those hold, under the key's lock and over
//! the join of what was read and what is stored, so nothing that was shown is lost and nothing that
//! was not shown is deleted. Promise commands do the same and keep the key's decision lock from the
//! read to the mint.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use kv_quorum::{Context, Dot, Draft, Expiry, Mark, Record};

use super::decide::{Act, Decided, Done};
use super::follow::Followed;
use super::promise::with_answer;
use super::write::{WriteJob, draft_of};
use super::{Coordinator, Levels, Scope};
use crate::cluster::record::{Mode, Rmw};
use crate::error::RequestError;
use crate::keys::KeyRef;
use crate::mutation::{Answer, ExpireIf, ExpiryRule, Mutation, MutationOut};
use crate::scale::load::Touched;
use crate::teeth::{Bug, planted};

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
        self.mutate_followed(key, mutation, levels).await.0
    }

    /// `mutate`, with what it left behind for WAIT: also when W was not reached.
    pub(crate) async fn mutate_followed(
        &self,
        key: KeyRef<'_>,
        mutation: Mutation,
        levels: Levels,
    ) -> (Result<MutationOut, RequestError>, Option<Followed>) {
        self.parts.figures.coordinator_sets.one();
        let written = Some(mutation.value_bytes());
        self.load.note(1, |_| Some(Touched { key, written }));
        let scope = self.scope_until(levels.until_ms).and_then(|scope| {
            Self::check_mutation(&scope, key, &mutation)?;
            Ok(scope)
        });
        let scope = match scope {
            Ok(scope) => scope,
            Err(error) => return (Err(error), None),
        };
        if scope.minter(scope.partition(key)) == Some(scope.view.me) {
            let (done, job) = self.mutate_here(&scope, key, mutation, levels, None).await;
            return (done, job.map(Followed::Here));
        }
        match self.forward(&scope, vec![(key, mutation)], levels).await.pop() {
            Some(away) => {
                let followed = away.followed(&scope);
                (away.outcome, followed)
            }
            None => (Err(RequestError::Stopping), None),
        }
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

    /// Executes one write here; this node holds the key. The job goes on counting, whatever the
    /// outcome.
    pub(crate) async fn mutate_here(
        &self,
        scope: &Scope,
        key: KeyRef<'_>,
        mutation: Mutation,
        levels: Levels,
        operation: Option<u64>,
    ) -> (Result<MutationOut, RequestError>, Option<Arc<WriteJob>>) {
        let _decides = match self.decision_lock(scope, key).await {
            Ok(lock) => lock,
            Err(error) => return (Err(error), None),
        };
        // What is read to decide by ends with the request, too.
        let levels = Levels { until_ms: Some(scope.deadline_ms), ..levels };
        let act = Act { scope, key, levels, operation, job: OnceLock::new() };
        let done = self.perform(&act, mutation).await;
        (done, act.job.into_inner())
    }

    async fn perform(
        &self,
        act: &Act<'_>,
        mutation: Mutation,
    ) -> Result<MutationOut, RequestError> {
        match mutation {
            Mutation::Set { value, expiry: ExpiryRule::Keep } => {
                let record = self.read_one(act.key, act.levels).await?;
                let now_ms = self.now_ms();
                let kept = record.winner().filter(|winner| winner.value_at(now_ms).is_some());
                let expiry = kept
                    .and_then(|winner| winner.expiry.expires_at_ms)
                    .map_or(ExpiryRule::Never, ExpiryRule::At);
                self.set_one(act, value, expiry).await
            }
            Mutation::Set { value, expiry } => self.set_one(act, value, expiry).await,
            Mutation::Put { value, context, expiry } => {
                self.put_one(act, value, context, expiry).await
            }
            Mutation::Delete => self.delete_one(act).await,
            Mutation::DeleteSeen { context } => {
                let seen = Self::open(act.scope, act.key, &context)?;
                self.delete_over(act, seen).await
            }
            Mutation::Expire { expires_at_ms, condition } => {
                self.expire_one(act, expires_at_ms, condition).await
            }
            Mutation::ReadAndExpire { expires_at_ms } => {
                self.read_and_expire(act, expires_at_ms).await
            }
            Mutation::Promise(promise) => self.promise_one(act, promise).await,
        }
    }

    /// In a keyspace where one node decides, writes of one key are decided one after the other.
    ///
    /// # Errors
    /// `Busy`: others were deciding until the deadline. Nothing was written.
    async fn decision_lock(
        &self,
        scope: &Scope,
        key: KeyRef<'_>,
    ) -> Result<Option<tokio::sync::MutexGuard<'_, ()>>, RequestError> {
        if scope.keyspace.rmw != Rmw::BestEffort {
            return Ok(None);
        }
        let at = key.token.value() as usize % self.deciding.len().max(1);
        let Some(lock) = self.deciding.get(at) else { return Ok(None) };
        match self.in_time(scope, lock.lock()).await {
            Some(lock) => Ok(Some(lock)),
            None => Err(RequestError::Busy("other writes of this key were being decided".into())),
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
        let draft = draft_of(value, expiry, self.parts.dots.time(self.now_ms()))
            .by_operation(act.operation);
        Ok(self.mint_blind_one(act, &draft).await?.out(Answer::Ok))
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

    async fn delete_one(&self, act: &Act<'_>) -> Result<MutationOut, RequestError> {
        let mut levels = act.levels;
        if planted(Bug::DeleteOwnOnly) {
            levels.read = Some(crate::cluster::record::LevelSetting::One);
        }
        let record = self.read_one(act.key, levels).await?;
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
        Ok(with_answer(changed, Answer::Value(Some(value))))
    }

    /// Puts a register on the versions that were read.
    async fn change_register(
        &self,
        act: &Act<'_>,
        read: &Record<Bytes>,
        expires_at_ms: Option<u64>,
    ) -> Result<MutationOut, RequestError> {
        if planted(Bug::RemintOnExpire)
            && let Some(value) = read.shown(self.now_ms()).cloned()
        {
            let rule = expires_at_ms.map_or(ExpiryRule::Never, ExpiryRule::At);
            return self.set_one(act, value, rule).await;
        }
        let mark = self.parts.replica.mark_at(act.key.slot);
        let seen: Vec<Dot> = read.live().iter().map(|version| version.dot).collect();
        let done = self
            .decide(act, false, &mut |mut record| {
                // What this node's mark knows to be dead does not come back with what was read.
                record.join_under(mark, read, Mark::NONE);
                let now_ms = self.now_ms();
                let stamp = record.stamp_above(self.parts.dots.time(now_ms));
                let expiry = Expiry { stamp, expires_at_ms };
                if record.expire(&seen, expiry, now_ms) == 0 {
                    return Ok(Decided::Unchanged);
                }
                Ok(Decided::Stamped(record, stamp))
            })
            .await?;
        Ok(done.out(Answer::Integer(1)))
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
        Some(ExpireIf::EarlierThanExpiry) => {
            present.is_some() && endless(wanted) < endless(present)
        }
    }
}
