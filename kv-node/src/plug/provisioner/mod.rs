//! Who starts nodes and ends them, when there should be more of them or fewer.
//!
//! A provisioner starts processes on machines, and nothing else: that a new node becomes a member,
//! and that a member hands over before it goes, is the cluster's. It is asked one thing at a time,
//! and may be asked the same again when the node that asked went away meanwhile, so each request
//! has a name that stays the same.
//!
//! ```text
//! add     an empty node that has seeds in the cluster and bootstrap_expect = 0; it is joined when
//!         it is seen
//! remove  a node that has left, and holds nothing any more
//! ```
//! `none` does nothing: how many nodes there should be is then a recommendation
//! (`kv_desired_nodes`), for people and for autoscalers of others. `command` runs an operator's
//! program. Nodes on a developer's machine come by `command` too, with a program that xtask brings:
//! where their directories and ports are is not for kv-node to know, and what developers use is
//! what operators use.

mod command;
pub mod contract;

use std::fmt;

use async_trait::async_trait;
use kv_client::NodeId;
use parking_lot::Mutex;

use super::transport::PeerAddress;

pub use command::CommandProvisioner;

/// What is asked for, beside the node that it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// The request's name: asked again under it, it is the same request.
    pub request: String,
    /// The cluster's name.
    pub cluster: String,
    /// Where a new node finds the cluster, some of its members; at most `SEEDS_MAX`.
    pub seeds: Vec<PeerAddress>,
    /// Members now.
    pub nodes: usize,
    /// Members that there should be.
    pub desired: usize,
    /// Why, in plain words.
    pub reason: String,
}

/// A node that has left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// Its id.
    pub node: NodeId,
    /// Where peers reached it.
    pub rpc: PeerAddress,
    /// Where clients reached it.
    pub resp: String,
    /// Its zone.
    pub zone: String,
}

/// Why something was not provided; it is not known how far it got.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProvisionError {
    /// The program can't be started.
    NotStarted(String),
    /// It did not end in time, and was ended.
    TimedOut {
        /// The limit in milliseconds.
        ms_max: u64,
        /// What it had said by then.
        said: String,
    },
    /// It ended with a failure.
    Failed {
        /// Its exit code; none if a signal ended it.
        code: Option<i32>,
        /// What it said last.
        said: String,
    },
}

impl fmt::Display for ProvisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(why) => write!(f, "the program can't be started: {why}"),
            Self::TimedOut { ms_max, said } => {
                write!(f, "the program did not end within {ms_max} ms: {said}")
            }
            Self::Failed { code: Some(code), said } => {
                write!(f, "the program ended with code {code}: {said}")
            }
            Self::Failed { code: None, said } => {
                write!(f, "the program was ended by a signal: {said}")
            }
        }
    }
}

impl std::error::Error for ProvisionError {}

/// Starts and ends nodes.
#[async_trait]
pub trait Provisioner: Send + Sync + 'static {
    /// Its name, for operators.
    fn name(&self) -> &'static str;

    /// Whether it does what it is asked for. One that does not makes every decision a
    /// recommendation: no member is then told to leave either.
    fn acts(&self) -> bool;

    /// Starts one empty node. It need not be up on return. A request that was done is done.
    ///
    /// # Errors
    /// It can't be said that it will come up.
    async fn add(&self, ask: &Ask) -> Result<(), ProvisionError>;

    /// Ends a node that has left, its data included. One that is not there is gone.
    ///
    /// # Errors
    /// It can't be said that it is gone.
    async fn remove(&self, ask: &Ask, gone: &Gone) -> Result<(), ProvisionError>;
}

/// Does nothing: what is asked for is a recommendation.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProvisioner;

#[async_trait]
impl Provisioner for NoProvisioner {
    fn name(&self) -> &'static str {
        "none"
    }

    fn acts(&self) -> bool {
        false
    }

    async fn add(&self, _: &Ask) -> Result<(), ProvisionError> {
        Ok(())
    }

    async fn remove(&self, _: &Ask, _: &Gone) -> Result<(), ProvisionError> {
        Ok(())
    }
}

/// Requests that a `MemoryProvisioner` remembers at most; the oldest go first.
const REQUESTS_MAX: usize = 1_024;

/// Remembers what it was asked for, for whoever starts nodes in the same process: tests, and
/// programs that embed several.
#[derive(Debug, Default)]
pub struct MemoryProvisioner {
    added: Mutex<Vec<Ask>>,
    removed: Mutex<Vec<Gone>>,
    failure: Mutex<Option<ProvisionError>>,
}

impl MemoryProvisioner {
    /// Requests for nodes, each once, in order.
    pub fn added(&self) -> Vec<Ask> {
        self.added.lock().clone()
    }

    /// Nodes that were to be ended, each once, in order.
    pub fn removed(&self) -> Vec<Gone> {
        self.removed.lock().clone()
    }

    /// From now on everything fails so, or nothing.
    pub fn fail_with(&self, failure: Option<ProvisionError>) {
        *self.failure.lock() = failure;
    }

    fn fails(&self) -> Result<(), ProvisionError> {
        self.failure.lock().clone().map_or(Ok(()), Err)
    }
}

fn remember<T: Clone + PartialEq>(list: &mut Vec<T>, same: impl Fn(&T) -> bool, new: &T) {
    if list.iter().any(same) {
        return;
    }
    if list.len() >= REQUESTS_MAX {
        list.remove(0);
    }
    list.push(new.clone());
}

#[async_trait]
impl Provisioner for MemoryProvisioner {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn acts(&self) -> bool {
        true
    }

    async fn add(&self, ask: &Ask) -> Result<(), ProvisionError> {
        self.fails()?;
        remember(&mut self.added.lock(), |known| known.request == ask.request, ask);
        Ok(())
    }

    async fn remove(&self, _: &Ask, gone: &Gone) -> Result<(), ProvisionError> {
        self.fails()?;
        remember(&mut self.removed.lock(), |known| known.node == gone.node, gone);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn they_keep_the_contract() {
        contract::suite(&NoProvisioner, || 0).await;
        let memory = MemoryProvisioner::default();
        contract::suite(&memory, || memory.added().len()).await;
        memory.fail_with(Some(ProvisionError::NotStarted("not there".into())));
        let failed = memory.add(&Ask::default()).await.expect_err("it was told to fail");
        assert_eq!(failed.to_string(), "the program can't be started: not there");
    }
}
