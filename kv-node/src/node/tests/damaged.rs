//! Stored bytes that are no record: told, never skipped.

use super::*;
use crate::plug::storage::WriteBatch;

#[tokio::test(start_paused = true)]
async fn a_scan_names_the_record_that_it_cannot_read() {
    let world = World::of(3, Rmw::Refuse).await;
    world.set(0, "sound", "value").await.expect("a quorum");
    let node = world.node(1);
    let mut batch = WriteBatch::default();
    batch.put(&KeyRef::place(0, b"broken").to_storage(), b"no record");
    node.engine().append(&batch.freeze()).expect("in memory");
    let coordinator = node.coordinator().expect("a layout");
    let scanned = coordinator.scan(ScanCursor::default(), 1_000, false).await;
    let told = scanned.expect_err("'broken' may be live").to_string();
    assert!(told.contains("'broken'") && told.contains(&node.id().to_string()), "{told}");
    assert_eq!(node.figures().damaged_records.value(), 1);
    let key = KeyRef::place(0, b"broken");
    let read = coordinator.get_siblings(key, Levels::default()).await;
    assert!(read.is_ok(), "two sound replicas have nothing there: {read:?}");
}
