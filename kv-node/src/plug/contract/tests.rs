//! The suite passes for a right engine and fails for each of many wrong ones.

use std::panic::{AssertUnwindSafe, catch_unwind};

use async_trait::async_trait;

use super::*;
use crate::plug::memory::{MemoryConfig, MemoryEngine};
use crate::plug::storage::{DamagedRange, EngineStatus, FrozenBatch, Page, Quarantine, Row};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    DropsRemovals,
    EmptyIsAbsent,
    FirstOfABatchWins,
    ReadForgets,
    VisitsBackwards,
    ScanUnordered,
    ScanTakesItsEnd,
    ScanDropsItsStart,
    ScanWithoutRowBound,
    ScanWithoutByteBound,
    ScanNeverEnds,
    DurableFails,
    NotReadableAtOnce,
    OpenForEver,
}

/// A right engine with one thing wrong.
struct Wrong {
    inner: MemoryEngine,
    fault: Fault,
    held_back: parking_lot::Mutex<Vec<FrozenBatch>>,
}

impl Wrong {
    fn new(fault: Fault) -> Self {
        let inner = MemoryEngine::new(MemoryConfig::default());
        Self { inner, fault, held_back: parking_lot::Mutex::default() }
    }

    fn release(&self) -> Result<(), StorageError> {
        for batch in self.held_back.lock().drain(..) {
            self.inner.append(&batch)?;
        }
        Ok(())
    }
}

impl Quarantine for Wrong {
    fn damaged(&self) -> Vec<DamagedRange> {
        self.inner.damaged()
    }

    fn give_up(&self, range: &DamagedRange) {
        self.inner.give_up(range);
    }
}

#[async_trait]
impl StorageEngine for Wrong {
    fn visit_resident(
        &self,
        keys: &[&[u8]],
        visit: &mut dyn FnMut(usize, Resident<'_>),
    ) -> Result<(), StorageError> {
        if self.fault == Fault::VisitsBackwards {
            for (place, key) in keys.iter().enumerate().rev() {
                self.inner.visit_resident(&[key], &mut |_, resident| visit(place, resident))?;
            }
            return Ok(());
        }
        let empty_is_absent = self.fault == Fault::EmptyIsAbsent;
        self.inner.visit_resident(keys, &mut |place, resident| match resident {
            Resident::Found { bytes: [], .. } if empty_is_absent => visit(place, Resident::Absent),
            other => visit(place, other),
        })
    }

    fn append(&self, batch: &FrozenBatch) -> Result<Ticket, StorageError> {
        match self.fault {
            Fault::DropsRemovals | Fault::FirstOfABatchWins => {
                let mut kept = WriteBatch::default();
                let mut rows: Vec<_> = batch.slices().collect();
                if self.fault == Fault::FirstOfABatchWins {
                    rows.reverse();
                }
                for (key, value) in rows {
                    match value {
                        Some(value) => kept.put(key, value),
                        None if self.fault == Fault::DropsRemovals => {}
                        None => kept.delete(key),
                    }
                }
                self.inner.append(&kept.freeze())
            }
            Fault::NotReadableAtOnce => {
                self.held_back.lock().push(batch.clone());
                Ok(Ticket(1))
            }
            Fault::OpenForEver => match self.inner.append(batch) {
                Err(StorageError::Closed) => Ok(Ticket::DURABLE),
                other => other,
            },
            _ => self.inner.append(batch),
        }
    }

    async fn durable(&self, ticket: Ticket) -> Result<(), StorageError> {
        self.release()?;
        if self.fault == Fault::DurableFails {
            return Err(StorageError::Poisoned("planted".into()));
        }
        self.inner.durable(ticket).await
    }

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Row>>, StorageError> {
        let rows = self.inner.read(keys).await?;
        let empty = |row: &Row| self.fault == Fault::EmptyIsAbsent && row.bytes.is_empty();
        Ok(match self.fault {
            Fault::ReadForgets => rows.into_iter().map(|_| None).collect(),
            _ => rows.into_iter().map(|row| row.filter(|row| !empty(row))).collect(),
        })
    }

    async fn scan(&self, mut page: PageRequest) -> Result<Page, StorageError> {
        match self.fault {
            Fault::ScanTakesItsEnd if !page.to.is_empty() => {
                page.to = Bytes::from([&page.to[..], &[0]].concat());
            }
            Fault::ScanDropsItsStart => page.from = Bytes::from([&page.from[..], &[0]].concat()),
            Fault::ScanWithoutRowBound => page.rows_max = usize::MAX,
            Fault::ScanWithoutByteBound => page.bytes_max = usize::MAX,
            _ => {}
        }
        let mut found = self.inner.scan(page).await?;
        match self.fault {
            Fault::ScanUnordered => found.rows.reverse(),
            Fault::ScanNeverEnds => found.end = false,
            _ => {}
        }
        Ok(found)
    }

    fn status(&self, explain: Option<&[u8]>) -> (EngineStatus, Option<String>) {
        self.inner.status(explain)
    }

    async fn close(&self) -> Result<(), StorageError> {
        self.inner.close().await
    }
}

fn passes(fault: Fault) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(suite(async || Wrong::new(fault))))).is_ok()
}

#[test]
fn a_right_engine_passes_and_each_wrong_one_fails() {
    assert!(passes(Fault::None));
    // What the wrong ones panic with is what the suite is for; here it would only be noise.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let passed: Vec<Fault> = [
        Fault::DropsRemovals,
        Fault::EmptyIsAbsent,
        Fault::FirstOfABatchWins,
        Fault::ReadForgets,
        Fault::VisitsBackwards,
        Fault::ScanUnordered,
        Fault::ScanTakesItsEnd,
        Fault::ScanDropsItsStart,
        Fault::ScanWithoutRowBound,
        Fault::ScanWithoutByteBound,
        Fault::ScanNeverEnds,
        Fault::DurableFails,
        Fault::NotReadableAtOnce,
        Fault::OpenForEver,
    ]
    .into_iter()
    .filter(|fault| passes(*fault))
    .collect();
    std::panic::set_hook(hook);
    assert_eq!(passed, [], "each fault is noticed");
}

#[tokio::test]
async fn the_memory_engine_keeps_the_contract_compressed_and_not() {
    suite(async || MemoryEngine::new(MemoryConfig::default())).await;
    let packed = MemoryConfig { compress_bytes_min: Some(64), ..MemoryConfig::default() };
    suite(async || MemoryEngine::new(packed)).await;
}
