//! A node's tasks, so that its death is theirs: a process that was killed goes on with nothing.
//! A task that panics is counted, since the runtime only ends it. A node that is paused stands
//! behind its gate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use kv_node::plug::exec::{Exec, Task};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::gate::Gate;

/// So many finished tasks are kept before they are looked through.
const TASKS_KEPT: usize = 256;

/// Runs a node's tasks and its blocking work on the one thread, until it is killed.
#[derive(Debug, Default)]
pub struct LifeExec {
    tasks: Mutex<Tasks>,
    panics: Arc<AtomicU64>,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Tasks {
    dead: bool,
    running: Vec<AbortHandle>,
}

impl LifeExec {
    /// Counts panics in `panics`.
    #[must_use]
    pub fn new(panics: Arc<AtomicU64>) -> Self {
        Self { tasks: Mutex::default(), panics, gate: Arc::default() }
    }

    /// What the node's tasks stand behind.
    #[must_use]
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Ends every task where it stands; later ones do not begin.
    pub fn kill(&self) {
        let mut tasks = self.tasks.lock();
        tasks.dead = true;
        tasks.running.drain(..).for_each(|task| task.abort());
    }
}

#[async_trait]
impl Exec for LifeExec {
    fn spawn(&self, task: Task) {
        let mut tasks = self.tasks.lock();
        if tasks.dead {
            return;
        }
        if tasks.running.len() >= TASKS_KEPT {
            tasks.running.retain(|task| !task.is_finished());
        }
        let watch = Watch(Arc::clone(&self.panics));
        let gate = Arc::clone(&self.gate);
        let watched = async move {
            let _watch = watch;
            gate.through(task).await;
        };
        tasks.running.push(tokio::spawn(watched).abort_handle());
    }

    async fn blocking(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}

/// Dropped with its task, by whatever ends that.
struct Watch(Arc<AtomicU64>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
