//! Where work runs: tasks, and work that blocks on a disk.
//!
//! In production blocking work goes to a bounded pool; in the simulation it runs inline, so that
//! no thread of its own can make two runs of one seed differ.

use std::future::Future;
use std::pin::Pin;

use async_trait::async_trait;

/// A boxed task.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a node starts tasks and runs what blocks.
#[async_trait]
pub trait Exec: Send + Sync + 'static {
    /// Starts a task that nobody waits for. It ends with the runtime at the latest.
    fn spawn(&self, task: Task);

    /// Runs work that may block on a disk, and returns when it is done.
    async fn blocking(&self, work: Box<dyn FnOnce() + Send>);
}

/// Runs work that may block on a disk and gives its result; `None` if it ended early.
pub(crate) async fn blocking<T: Send + 'static>(
    exec: &dyn Exec,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (give, take) = tokio::sync::oneshot::channel();
    exec.blocking(Box::new(move || drop(give.send(work())))).await;
    take.await.ok()
}

/// Tasks on the tokio runtime that calls it, blocking work on tokio's pool.
#[derive(Debug, Default)]
pub struct TokioExec;

#[async_trait]
impl Exec for TokioExec {
    fn spawn(&self, task: Task) {
        drop(tokio::spawn(task));
    }

    async fn blocking(&self, work: Box<dyn FnOnce() + Send>) {
        // A panic in the work has already poisoned whatever it was working on.
        if let Err(error) = tokio::task::spawn_blocking(work).await {
            tracing::error!(%error, "blocking work ended early");
        }
    }
}

/// Tasks on the tokio runtime that calls it, blocking work inline: for the simulation.
#[derive(Debug, Default)]
pub struct InlineExec;

#[async_trait]
impl Exec for InlineExec {
    fn spawn(&self, task: Task) {
        drop(tokio::spawn(task));
    }

    async fn blocking(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}
