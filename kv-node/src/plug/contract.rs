//! The contract of `StorageEngine`, as one suite that every engine passes.
//!
//! An engine of somebody else's calls `suite` from a test with a way to make an empty engine. Each
//! check says in its panic what was broken.

#![expect(
    clippy::indexing_slicing,
    reason = "places in lists that the checks made themselves; a panic is the suite's answer"
)]

use bytes::Bytes;

use super::storage::{PageRequest, Resident, StorageEngine, StorageError, Ticket, WriteBatch};
use crate::keys::{KeyRef, after, slot_end};

/// Runs every check, each on an engine that `fresh` makes.
///
/// # Panics
/// When the engine breaks the contract.
pub async fn suite<E: StorageEngine>(mut fresh: impl AsyncFnMut() -> E) {
    reads_what_it_took(&fresh().await).await;
    the_last_put_wins(&fresh().await).await;
    a_removed_row_is_absent(&fresh().await).await;
    a_row_is_readable_before_it_is_durable(&fresh().await).await;
    scans_in_order_by_pages(&fresh().await).await;
    scans_between_its_bounds(&fresh().await).await;
    many_wait_at_once(&fresh().await).await;
    closes(&fresh().await).await;
}

fn storage_key(name: &str) -> Bytes {
    KeyRef::place(0, name.as_bytes()).to_storage()
}

/// Appends and waits until the batch is durable.
async fn write(engine: &impl StorageEngine, rows: &[(&Bytes, Option<&[u8]>)]) {
    let mut batch = WriteBatch::default();
    for (key, value) in rows {
        match value {
            Some(value) => batch.put(key, value),
            None => batch.delete(key),
        }
    }
    let ticket = engine.append(&batch.freeze()).expect("an empty engine takes a small batch");
    engine.durable(ticket).await.expect("what was taken becomes durable");
}

/// What `visit_resident` or, where it needs the disk, `read` finds.
async fn find(engine: &impl StorageEngine, key: &Bytes) -> Option<Vec<u8>> {
    let mut seen = None;
    engine
        .visit_resident(&[key], &mut |place, resident| {
            assert_eq!(place, 0, "one key was asked for");
            seen = Some(match resident {
                Resident::Found { bytes, .. } => Ok(Some(bytes.to_vec())),
                Resident::Absent => Ok(None),
                Resident::NeedsIo => Err(()),
            });
        })
        .expect("an open engine serves reads");
    let read = engine.read(std::slice::from_ref(key)).await.expect("an open engine serves reads");
    assert_eq!(read.len(), 1, "read answers each key");
    let read = read.into_iter().flatten().next().map(|row| row.bytes.to_vec());
    match seen.expect("every key is shown to the visitor") {
        Ok(resident) => {
            assert_eq!(resident, read, "memory and disk agree");
            resident
        }
        Err(()) => read,
    }
}

async fn reads_what_it_took(engine: &impl StorageEngine) {
    let (key, other) = (storage_key("a"), storage_key("b"));
    assert_eq!(find(engine, &key).await, None, "an empty engine has no rows");
    write(engine, &[(&key, Some(b"one")), (&other, Some(b""))]).await;
    assert_eq!(find(engine, &key).await.as_deref(), Some(&b"one"[..]));
    assert_eq!(find(engine, &other).await.as_deref(), Some(&b""[..]), "an empty value is a value");
    let mut places = Vec::new();
    engine
        .visit_resident(&[&other, &key, &storage_key("c")], &mut |place, _| places.push(place))
        .expect("an open engine serves reads");
    assert_eq!(places, [0, 1, 2], "keys are shown in the order asked for");
}

async fn the_last_put_wins(engine: &impl StorageEngine) {
    let key = storage_key("a");
    write(engine, &[(&key, Some(b"first")), (&key, Some(b"second"))]).await;
    assert_eq!(find(engine, &key).await.as_deref(), Some(&b"second"[..]), "order within a batch");
    let long = vec![7; 5_000];
    for value in [&b"x"[..], &long, b"short again"] {
        write(engine, &[(&key, Some(value))]).await;
        assert_eq!(find(engine, &key).await.as_deref(), Some(value), "order between batches");
    }
}

async fn a_removed_row_is_absent(engine: &impl StorageEngine) {
    let key = storage_key("a");
    write(engine, &[(&key, Some(b"value"))]).await;
    write(engine, &[(&key, None)]).await;
    assert_eq!(find(engine, &key).await, None);
    let all =
        PageRequest { from: Bytes::new(), to: Bytes::new(), rows_max: 10, bytes_max: 1 << 20 };
    assert!(engine.scan(all).await.expect("a scan").rows.is_empty(), "nor does a scan show it");
}

async fn a_row_is_readable_before_it_is_durable(engine: &impl StorageEngine) {
    let key = storage_key("a");
    let mut batch = WriteBatch::default();
    batch.put(&key, b"value");
    let ticket = engine.append(&batch.freeze()).expect("an empty engine takes a small batch");
    let mut shown = None;
    engine
        .visit_resident(&[&key], &mut |_, resident| {
            if let Resident::Found { bytes, ticket } = resident {
                shown = Some((bytes.to_vec(), ticket));
            }
        })
        .expect("an open engine serves reads");
    let (bytes, waits_for) = shown.expect("what was just appended is in memory");
    assert_eq!(bytes, b"value", "a row is readable as soon as append returns");
    assert!(waits_for <= ticket, "a row waits for its own append and for nothing later");
    engine.durable(waits_for).await.expect("what was taken becomes durable");
    engine.durable(ticket).await.expect("and a ticket can be waited for again");
    engine.durable(Ticket::DURABLE).await.expect("nothing to wait for");
    let row = engine.read(std::slice::from_ref(&key)).await.expect("an open engine serves reads");
    let row = row.into_iter().flatten().next().expect("the row is there");
    assert!(row.ticket.is_durable(), "a row that is durable says so");
}

async fn scans_between_its_bounds(engine: &impl StorageEngine) {
    let mut keys: Vec<Bytes> = (0..20).map(|n| storage_key(&format!("key{n}"))).collect();
    keys.sort();
    for key in &keys {
        write(engine, &[(key, Some(b"v"))]).await;
    }
    let (from, to) = (keys[5].clone(), keys[9].clone());
    let page = PageRequest { from, to, rows_max: 100, bytes_max: 1 << 20 };
    let found = engine.scan(page).await.expect("a scan");
    assert!(found.end, "a page that took everything says that it is the last");
    let found: Vec<Bytes> = found.rows.into_iter().map(|(key, _)| key).collect();
    assert_eq!(found, keys[5..9], "`from` is in the range, `to` is not");
    let (from, to) = (keys[9].clone(), keys[5].clone());
    let page = PageRequest { from, to, rows_max: 100, bytes_max: 1 << 20 };
    let none = engine.scan(page).await.expect("an empty range is no error");
    assert!(none.rows.is_empty() && none.end, "nothing lies between bounds the wrong way round");
}

async fn many_wait_at_once(engine: &impl StorageEngine) {
    let keys: Vec<Bytes> = (0..50).map(|n| storage_key(&format!("key{n}"))).collect();
    let waits = keys.iter().map(|key| {
        let mut batch = WriteBatch::default();
        batch.put(key, key);
        let ticket = engine.append(&batch.freeze()).expect("room for small batches");
        engine.durable(ticket)
    });
    let waits: Vec<_> = waits.collect();
    // The last first: tickets may be waited for in any order.
    for wait in waits.into_iter().rev() {
        wait.await.expect("what was taken becomes durable");
    }
    let rows = engine.read(&keys).await.expect("an open engine serves reads");
    assert_eq!(rows.len(), keys.len(), "read answers each key");
    for (row, key) in rows.iter().zip(&keys) {
        assert_eq!(row.as_ref().map(|row| &row.bytes), Some(key), "each key with its own value");
    }
}

async fn scans_in_order_by_pages(engine: &impl StorageEngine) {
    let mut keys: Vec<Bytes> = (0..200).map(|n| storage_key(&format!("key{n}"))).collect();
    for key in &keys {
        write(engine, &[(key, Some(key))]).await;
    }
    keys.sort();
    let mut found = Vec::new();
    let mut from = Bytes::new();
    loop {
        let page = PageRequest { from, to: Bytes::new(), rows_max: 7, bytes_max: 1 << 20 };
        let page = engine.scan(page).await.expect("a scan");
        assert!(page.rows.len() <= 7, "a page keeps its bound");
        let Some((last, _)) = page.rows.last() else { break };
        from = after(last);
        found.extend(page.rows.into_iter().map(|(key, value)| {
            assert_eq!(key, value, "each key with its own value");
            key
        }));
        if page.end {
            break;
        }
    }
    assert_eq!(found, keys, "every row once, in key order");
    let slot = KeyRef::parse(&keys[100]).expect("a storage key").slot.index();
    let of_slot = PageRequest {
        from: crate::keys::position(0, slot, 0),
        to: slot_end(0, slot),
        rows_max: 1_000,
        bytes_max: 1,
    };
    let page = engine.scan(of_slot).await.expect("a scan");
    assert_eq!(page.rows.len(), 1, "one row comes whatever its size");
    let all = PageRequest { from: Bytes::new(), to: Bytes::new(), rows_max: 1_000, bytes_max: 1 };
    let page = engine.scan(all).await.expect("a scan");
    assert_eq!(page.rows.len(), 1, "after it the byte bound holds");
    assert!(!page.end, "and the page says that there is more");
}

async fn closes(engine: &impl StorageEngine) {
    let key = storage_key("a");
    write(engine, &[(&key, Some(b"value"))]).await;
    engine.close().await.expect("a clean close");
    let mut batch = WriteBatch::default();
    batch.put(&key, b"late");
    let late = engine.append(&batch.freeze());
    assert!(matches!(late, Err(StorageError::Closed)), "a closed engine takes nothing: {late:?}");
    let read = engine.read(std::slice::from_ref(&key)).await;
    assert!(matches!(read, Err(StorageError::Closed)), "nor answers: {read:?}");
    engine.close().await.expect("closing again is no error");
}

#[cfg(test)]
mod tests;
