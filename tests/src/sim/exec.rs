//! A node's tasks, so that its death is theirs: a process that was killed goes on with nothing.

use async_trait::async_trait;
use kv_node::plug::exec::{Exec, Task};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

/// So many finished tasks are kept before they are looked through.
const TASKS_KEPT: usize = 256;

/// Runs a node's tasks and its blocking work on the one thread, until it is killed.
#[derive(Debug, Default)]
pub struct LifeExec(Mutex<Tasks>);

#[derive(Debug, Default)]
struct Tasks {
    dead: bool,
    running: Vec<AbortHandle>,
}

impl LifeExec {
    /// Ends every task where it stands; later ones do not begin.
    pub fn kill(&self) {
        let mut tasks = self.0.lock();
        tasks.dead = true;
        tasks.running.drain(..).for_each(|task| task.abort());
    }
}

#[async_trait]
impl Exec for LifeExec {
    fn spawn(&self, task: Task) {
        let mut tasks = self.0.lock();
        if tasks.dead {
            return;
        }
        if tasks.running.len() >= TASKS_KEPT {
            tasks.running.retain(|task| !task.is_finished());
        }
        tasks.running.push(tokio::spawn(task).abort_handle());
    }

    async fn blocking(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}
