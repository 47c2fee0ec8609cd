//! Background loops: each a name, a status and one step, so that they can be listed and stopped.
//!
//! (Garage's `util/background/worker.rs` is the model.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::plug::clock::Clock;
use crate::plug::exec::Exec;

/// A background loop.
#[async_trait]
pub trait Worker: Send + Sync + 'static {
    /// Its name, for operators.
    fn name(&self) -> &'static str;

    /// What it is doing, in a few words.
    fn status(&self) -> String;

    /// Does one step, and says how long to rest before the next; `None` ends the loop.
    async fn step(&self) -> Option<Duration>;
}

/// Runs workers until they end or are stopped.
pub struct Workers {
    clock: Arc<dyn Clock>,
    exec: Arc<dyn Exec>,
    stopped: Arc<AtomicBool>,
    list: Mutex<Vec<Arc<dyn Worker>>>,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").field("list", &self.statuses()).finish_non_exhaustive()
    }
}

impl Workers {
    /// No workers yet.
    pub fn new(clock: Arc<dyn Clock>, exec: Arc<dyn Exec>) -> Self {
        Self { clock, exec, stopped: Arc::default(), list: Mutex::default() }
    }

    /// Starts a worker.
    pub fn start(&self, worker: Arc<dyn Worker>) {
        self.list.lock().push(Arc::clone(&worker));
        let (clock, stopped) = (Arc::clone(&self.clock), Arc::clone(&self.stopped));
        self.exec.spawn(Box::pin(async move {
            while !stopped.load(Ordering::Acquire) {
                match worker.step().await {
                    Some(rest) => clock.sleep(rest).await,
                    None => break,
                }
            }
        }));
    }

    /// Ends every loop after its present step.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Name and status of each worker.
    pub fn statuses(&self) -> Vec<(&'static str, String)> {
        self.list.lock().iter().map(|worker| (worker.name(), worker.status())).collect()
    }
}
