//! The contract of `StorageEngine`, as one suite that every engine passes.
//!
//! An engine of somebody else's calls `suite` from a test with a way to make an empty engine. Each
//! check says in its panic what was broken.

use bytes::Bytes;

use super::storage::{PageRequest, Resident, StorageEngine, StorageError, Ticket, WriteBatch};
use crate::keys::{KeyRef, slot_end};

/// Runs every check, each on an engine that `fresh` makes.
///
/// # Panics
/// When the engine breaks the contract.
pub async fn suite<E: StorageEngine>(mut fresh: impl AsyncFnMut() -> E) {
    reads_what_it_took(&fresh().await).await;
    the_last_put_wins(&fresh().await).await;
    a_removed_row_is_absent(&fresh().await).await;
    scans_in_order_by_pages(&fresh().await).await;
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
        from = Bytes::from([&last[..], &[0]].concat());
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
    assert_eq!(page.rows.len(), 1, "one row comes whatever its size, then the byte bound holds");
}

async fn closes(engine: &impl StorageEngine) {
    let key = storage_key("a");
    write(engine, &[(&key, Some(b"value"))]).await;
    engine.close().await.expect("a clean close");
    let mut batch = WriteBatch::default();
    batch.put(&key, b"late");
    let late = engine.append(&batch.freeze());
    assert!(matches!(late, Err(StorageError::Closed)), "a closed engine takes nothing: {late:?}");
    assert!(Ticket::DURABLE.is_durable());
}
