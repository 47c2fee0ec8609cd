//! A storage engine of one's own, in under 100 lines: a sorted map under a lock. A node takes it
//! as `NodeParts::engine`. Run with `cargo run -p kv-node --example own_engine`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use kv_node::plug::contract;
use kv_node::plug::storage::{
    EngineStatus, FrozenBatch, Page, PageRequest, Quarantine, Resident, Row, StorageEngine,
    StorageError, Ticket,
};
use parking_lot::Mutex;

/// Rows in order; `None` once it is closed.
struct SortedMap(Mutex<Option<Rows>>);
type Rows = BTreeMap<Bytes, Bytes>;

impl SortedMap {
    fn with<T>(&self, work: impl FnOnce(&mut Rows) -> T) -> Result<T, StorageError> {
        self.0.lock().as_mut().map(work).ok_or(StorageError::Closed)
    }
}

impl Quarantine for SortedMap {}

#[async_trait]
impl StorageEngine for SortedMap {
    fn visit_resident(
        &self,
        keys: &[&[u8]],
        visit: &mut dyn FnMut(usize, Resident<'_>),
    ) -> Result<(), StorageError> {
        self.with(|rows| {
            for (place, key) in keys.iter().enumerate() {
                let ticket = Ticket::DURABLE;
                let found = rows.get(*key).map(|bytes| Resident::Found { bytes, ticket });
                visit(place, found.unwrap_or(Resident::Absent));
            }
        })
    }

    fn append(&self, batch: &FrozenBatch) -> Result<Ticket, StorageError> {
        self.with(|rows| {
            for (key, value) in batch.rows() {
                match value {
                    Some(value) => rows.insert(key, value),
                    None => rows.remove(&key),
                };
            }
            Ticket::DURABLE
        })
    }

    async fn durable(&self, _ticket: Ticket) -> Result<(), StorageError> {
        self.with(|_| ())
    }

    async fn read(&self, keys: &[Bytes]) -> Result<Vec<Option<Row>>, StorageError> {
        let row = |bytes: &Bytes| Row { bytes: bytes.clone(), ticket: Ticket::DURABLE };
        self.with(|rows| keys.iter().map(|key| rows.get(key).map(row)).collect())
    }

    async fn scan(&self, page: PageRequest) -> Result<Page, StorageError> {
        let mut found = Page { end: true, ..Page::default() };
        let mut bytes = 0;
        self.with(|rows| {
            let inside = |key: &Bytes| page.to.is_empty() || *key < page.to;
            for (key, value) in rows.range(page.from.clone()..).take_while(|(key, _)| inside(key)) {
                let full = found.rows.len() >= page.rows_max || bytes >= page.bytes_max;
                if full && !found.rows.is_empty() {
                    found.end = false;
                    break;
                }
                bytes += key.len() + value.len();
                found.rows.push((key.clone(), value.clone()));
            }
        })?;
        Ok(found)
    }

    fn status(&self, _explain: Option<&[u8]>) -> (EngineStatus, Option<String>) {
        (EngineStatus { name: "sorted map", volatile: true, ..EngineStatus::default() }, None)
    }

    async fn close(&self) -> Result<(), StorageError> {
        *self.0.lock() = None;
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    contract::suite(async || SortedMap(Mutex::new(Some(Rows::new())))).await;
    println!("the sorted map keeps the contract");
}
