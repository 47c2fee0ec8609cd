//! What a write leaves behind: who holds it so far, and how to learn who else does later.
//!
//! A write that was minted here has a job, which goes on counting the answers of its replicas. One
//! that was minted at another node comes back with its name and its holders at that time; whoever
//! wants to know more asks the other replicas whether they hold what the name says. Hints don't
//! count as holders.

use std::sync::Arc;

use bytes::Bytes;
use kv_client::NodeId;
use kv_quorum::{Actor, Dot, HybridTime};

use super::Scope;
use super::forward::Away;
use super::write::{WriteJob, dot_of};
use crate::mutation::MutationOut;

/// A write whose holders can still grow in number.
pub(crate) enum Followed {
    /// Minted here.
    Here(Arc<WriteJob>),
    /// Minted at another node.
    There(Remote),
    /// It may have been minted at another node, which did not say.
    Unknown,
}

/// A write that another node minted.
pub(crate) struct Remote {
    /// The storage key.
    pub(super) key: Bytes,
    /// Who minted it: like this node for its own mints, it is not among the other replicas.
    pub(super) minter: NodeId,
    /// The dot that was minted, or whose register was changed.
    pub(super) dot: Dot,
    /// The register's stamp; zero for a mint.
    pub(super) stamp: HybridTime,
    /// Who else holds it, as far as is known.
    pub(super) holders: Vec<NodeId>,
    /// How many others could.
    pub(super) others: usize,
}

impl Followed {
    /// How many other replicas hold it, and whether all of them do.
    pub(super) fn holders(&self) -> (usize, bool) {
        match self {
            Self::Here(job) => job.holders_min(),
            Self::There(remote) => (remote.holders.len(), remote.holders.len() >= remote.others),
            Self::Unknown => (0, true),
        }
    }

    /// Whether fewer than `wanted` others hold it and more may come to.
    pub(super) fn is_short_of(&self, wanted: usize) -> bool {
        let (holders, everywhere) = self.holders();
        holders < wanted && !everywhere
    }

    /// What remembering it costs.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Here(job) => job.bytes(),
            Self::There(remote) => remote.key.len(),
            Self::Unknown => 0,
        }
    }
}

impl Away {
    /// What this forwarded write left behind; `None` if certainly nothing.
    pub(super) fn followed(&self, scope: &Scope) -> Option<Followed> {
        match (&self.outcome, self.minter) {
            (Ok(MutationOut::Written { holders, dot, stamp, .. }), Some(minter)) => {
                let (time, node, tenure) = *dot;
                Some(Followed::There(Remote {
                    key: self.key.clone(),
                    minter,
                    dot: Dot::new(Actor::new(node, tenure), HybridTime::from_bits(time)),
                    stamp: HybridTime::from_bits(*stamp),
                    holders: holders.clone(),
                    others: usize::from(scope.keyspace.n).saturating_sub(1),
                }))
            }
            (Err(error), _) if error.is_unsure() => Some(Followed::Unknown),
            _ => None,
        }
    }
}

/// What a batch of writes left behind.
#[derive(Default)]
pub(crate) struct Trail {
    /// Minted here together, with the place of each of the job's items.
    here: Option<(Vec<usize>, Arc<WriteJob>)>,
    /// Minted one by one, by place.
    single: Vec<(usize, Followed)>,
    /// Minted where this node is the whole cluster, by place: nobody else holds them.
    alone: Vec<Option<Bytes>>,
}

impl Trail {
    pub(super) fn here(here: Option<(Vec<usize>, Arc<WriteJob>)>) -> Self {
        Self { here, ..Self::default() }
    }

    pub(super) fn alone(alone: Vec<Option<Bytes>>) -> Self {
        Self { alone, ..Self::default() }
    }

    pub(super) fn add(&mut self, place: usize, followed: Option<Followed>) {
        self.single.extend(followed.map(|followed| (place, followed)));
    }

    /// The dot of the write at a place.
    pub(crate) fn dot_of(&self, place: usize) -> Option<Dot> {
        if let Some((places, job)) = &self.here
            && let Some(item) = places.iter().position(|at| *at == place)
        {
            return job.dot(item);
        }
        if let Some(record) = self.alone.get(place) {
            return record.as_deref().and_then(dot_of);
        }
        match self.single.iter().find(|(at, _)| *at == place)? {
            (_, Followed::Here(job)) => job.dot(0),
            (_, Followed::There(remote)) => Some(remote.dot),
            (_, Followed::Unknown) => None,
        }
    }

    /// All that it left.
    pub(super) fn into_followed(self) -> impl Iterator<Item = Followed> {
        let here = self.here.map(|(_, job)| Followed::Here(job));
        here.into_iter().chain(self.single.into_iter().map(|(_, followed)| followed))
    }
}

impl From<Option<Followed>> for Trail {
    fn from(followed: Option<Followed>) -> Self {
        let mut trail = Self::default();
        trail.add(0, followed);
        trail
    }
}
