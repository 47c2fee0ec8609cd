//! The readers of everything that lies on a disk, each as a function of bytes that must not panic,
//! take memory on the word of a file, or answer wrongly: targets for a fuzzer, and run as plain
//! tests on mutations of good files.
//!
//! Only there with the feature `__fuzz` and in tests.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::cache::BlockCache;
use crate::config::Config;
use crate::fs::{Fs, MemFs, OpenMode};
use crate::sstable::block::Block;
use crate::sstable::footer::{Footer, decode_properties};
use crate::sstable::index::Index;
use crate::sstable::seal::{Handle, checksum, unseal};
use crate::sstable::{Builder, FilterPolicy, Table, TableMeta, table_path};
use crate::version::{Edit, Manifest};
use crate::wal::frame::Ops;
use crate::wal::reader;
use crate::wal::recycle::Segment;

const DIR: &str = "fuzz";
/// The number that a segment of the log is read as.
const LOG_NUMBER: u64 = 7;
const TABLE_ID: u64 = 7;

/// A segment of the log.
pub fn wal(bytes: &[u8]) {
    let fs = disk_with("7.log", bytes);
    let path = Path::new(DIR).join("7.log");
    let segment = Segment { number: LOG_NUMBER, first_seq: 1, path };
    for end_seq in [None, Some(50)] {
        let Ok(scan) = reader::scan(&fs, &segment, end_seq) else { continue };
        let mut next_seq = 1;
        for frame in &scan.frames {
            assert!(frame.first_seq >= next_seq, "frames go back");
            assert!(scan.damage.is_some() || frame.first_seq == next_seq, "a silent gap");
            next_seq = frame.first_seq + u64::from(frame.ops);
        }
    }
}

/// A block behind its checksum: search, and walks from both ends.
pub fn block(bytes: &[u8]) {
    let Ok(block) = Block::parse(Bytes::copy_from_slice(bytes)) else { return };
    let key = bytes.get(..bytes.len().min(9)).unwrap_or_default();
    let _ = block.find(key, u64::MAX);
    let bounds = [Bound::Unbounded, Bound::Included(key), Bound::Excluded(key)];
    for lower in bounds {
        for upper in bounds {
            if let Ok(walk) = block.range(lower, upper) {
                let entries = walk.take(bytes.len() + 1).flatten().count();
                assert!(entries <= bytes.len(), "a walk without an end");
            }
            if let Ok(walk) = block.range(lower, upper) {
                let _ = walk.rev().take(bytes.len() + 1).count();
            }
        }
    }
}

/// A table, read as the one that [`good_table`] is: it gives its entries or errors.
pub fn table(bytes: &[u8]) {
    let (good, meta) = good_table();
    let fs = disk_with("0000000000000007.table", bytes);
    let config = Config::tiny();
    let policies: [&dyn FilterPolicy; 2] = [&*config.filter, &*config.filter_upper];
    let cache = Arc::new(BlockCache::new(1 << 16, 256));
    let path = table_path(Path::new(DIR), TABLE_ID);
    let Ok(table) = Table::open(&fs, &path, meta, cache, &policies) else { return };
    let table = Arc::new(table);
    for (entry, n) in table.scan().zip(0..) {
        let Ok(entry) = entry else { break };
        assert_eq!(entry.key, key(n), "a wrong key");
        assert_eq!(entry.value.as_deref(), Some(value(n).as_slice()), "a wrong value");
    }
    assert!(table.verify().is_err() || bytes == good, "verify has missed something");
}

/// A manifest.
pub fn manifest(bytes: &[u8]) {
    let fs: Arc<dyn Fs> = Arc::new(disk_with("MANIFEST", bytes));
    let _ = Manifest::open(&fs, Path::new(DIR), 1 << 20);
}

/// What stands behind checksums, which a changed file hardly ever gets past: the first byte says
/// what the others are read as.
pub fn parts(bytes: &[u8]) {
    let Some((part, bytes)) = bytes.split_first() else { return };
    match part % PARTS {
        0 => index(bytes),
        1 => drop(decode_properties(TABLE_ID, bytes.len().is_multiple_of(2), bytes)),
        2 => filters(bytes),
        3 => {
            if let Some(edit) = Edit::decode(bytes) {
                let mut again = Vec::new();
                edit.encode(&mut again);
                assert_eq!(Edit::decode(&again), Some(edit), "an edit reads back as another");
            }
        }
        4 => {
            let ops = Ops::new(Bytes::copy_from_slice(bytes));
            let read: usize = ops.flatten().map(|op| op.key().len()).sum();
            assert!(read <= bytes.len(), "operations out of nothing");
        }
        5 => {
            // With the checksum that belongs to it.
            let mut sealed = bytes.to_vec();
            sealed.extend_from_slice(&checksum(TABLE_ID, 0, bytes).to_le_bytes());
            let _ = unseal(TABLE_ID, 0, sealed, None);
        }
        _ => {
            let mut footer = good_footer();
            let changed = bytes.len().min(CHECKED_BYTES);
            drop(footer.splice(..changed, bytes.iter().copied().take(changed)));
            let sum = checksum(TABLE_ID, 0, footer.get(..CHECKED_BYTES).unwrap_or_default());
            drop(footer.splice(CHECKED_BYTES..CHECKED_BYTES + 8, sum.to_le_bytes()));
            let _ = Footer::decode(TABLE_ID, 0, &footer);
        }
    }
}

/// Parts that [`parts`] tells apart.
const PARTS: u8 = 7;
/// So much of a footer its checksum covers; the checksum follows.
const CHECKED_BYTES: usize = 48;

/// The block of an index behind its checksum, after four bytes that say where its data end.
fn index(bytes: &[u8]) {
    let Some((end, bytes)) = bytes.split_first_chunk::<4>() else { return };
    let end = u64::from(u32::from_le_bytes(*end));
    let Ok(index) = Index::parse(Bytes::copy_from_slice(bytes), end) else { return };
    let mut before = 0;
    for at in 0..index.len() {
        let Ok(handle) = index.handle(at) else { continue };
        assert_eq!(handle.offset, before, "blocks that are not one behind the other");
        before = handle.offset + u64::from(handle.len);
        let _ = index.span_of(handle.offset);
    }
    assert_eq!(before, end, "blocks that don't end with the data");
    for key in [&b""[..], b"key/00100", b"z", bytes.get(..9).unwrap_or_default()] {
        for seq in [0, 7, u64::MAX] {
            let found = index.seek(key, seq);
            assert!(found.is_err() || found.is_ok_and(|at| at <= index.len()), "a block too far");
        }
    }
}

/// What one of the filters may have written.
fn filters(bytes: &[u8]) {
    let config = Config::tiny();
    for policy in [&config.filter, &config.filter_upper] {
        if let Some(filter) = policy.load(bytes.to_vec()) {
            for hash in [0, 1, u64::MAX, 0x9E37_79B9_7F4A_7C15, bytes.len() as u64] {
                let _ = filter.may_contain(hash);
            }
            assert!(filter.size_bytes() <= bytes.len(), "a filter that grew");
        }
    }
}

/// A footer to stand at 0.
fn good_footer() -> Vec<u8> {
    let parts = [0, 20, 60].map(|offset| Handle { offset, len: 20 });
    let [filter, index, properties] = parts;
    Footer { filter, index, properties, file_id: TABLE_ID, zstd: false }.encode(0)
}

/// A file in a file system in memory.
fn disk_with(name: &str, bytes: &[u8]) -> MemFs {
    let fs = MemFs::new();
    let written = fs.create_dir(Path::new(DIR)).and_then(|()| {
        fs.open(&Path::new(DIR).join(name), OpenMode::CreateNew)?.write_at(0, bytes)
    });
    assert!(written.is_ok(), "memory takes everything");
    fs
}

fn key(n: u32) -> Bytes {
    Bytes::from(format!("key/{n:05}"))
}

fn value(n: u32) -> Vec<u8> {
    vec![n as u8; n as usize % 60]
}

/// The bytes of a table, and what a manifest would say of it.
#[must_use]
fn good_table() -> (Vec<u8>, TableMeta) {
    let fs = disk_with("nothing", b"");
    let (path, config) = (table_path(Path::new(DIR), TABLE_ID), Config::tiny());
    let built =
        Builder::new(&fs, &path, TABLE_ID, &config, &config.filter).and_then(|mut builder| {
            for n in 0..200 {
                builder.add(&key(n), u64::from(n) + 1, Some(&value(n)))?;
            }
            builder.finish()
        });
    match built {
        Ok(meta) => (contents(&fs, &path), meta),
        Err(error) => panic!("memory takes everything: {error}"),
    }
}

fn contents(fs: &MemFs, path: &Path) -> Vec<u8> {
    let read = || {
        let file = fs.open(path, OpenMode::Read)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
        file.read_at(0, &mut bytes).map(|read| {
            bytes.truncate(read);
            bytes
        })
    };
    let read: std::io::Result<Vec<u8>> = read();
    read.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::compression::Compressor;
    use crate::config::Compression;
    use crate::sstable::block::BlockBuilder;
    use crate::sstable::footer::encode_properties;
    use crate::sstable::index::IndexBuilder;
    use crate::sstable::key_hash;
    use crate::sstable::seal::seal;
    use crate::wal::frame::push_op;
    use crate::{Batch, Engine};

    /// How long each target is run on mutations; `KV_LSM_FUZZ_SECONDS` says otherwise.
    fn time() -> Duration {
        let seconds = std::env::var("KV_LSM_FUZZ_SECONDS").ok().and_then(|word| word.parse().ok());
        Duration::from_secs(seconds.unwrap_or(2))
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) as usize % bound.max(1)
        }
    }

    fn mutate(good: &[u8], target: fn(&[u8])) {
        mutate_for(time(), good, target);
    }

    /// Runs a target on good bytes that were changed here and there, for a while.
    fn mutate_for(time: Duration, good: &[u8], target: fn(&[u8])) {
        target(good);
        let mut random = Random(good.len() as u64);
        let (began, mut runs) = (Instant::now(), 0);
        while began.elapsed() < time || runs < 50 {
            let mut bytes = good.to_vec();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                match random.below(5) {
                    0 => bytes.truncate(at),
                    1 => bytes.extend_from_within(at..),
                    2 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
                    3 => bytes[at] = random.below(256) as u8,
                    _ => bytes[at] ^= 1 << random.below(8),
                }
                if bytes.is_empty() {
                    break;
                }
            }
            target(&bytes);
            runs += 1;
        }
        println!("figure: {} bytes, changed {runs} times and read: no panic", good.len());
    }

    /// A small database on a disk in memory.
    fn database() -> MemFs {
        let fs = MemFs::new();
        let engine = Engine::open(Arc::new(fs.clone()), Path::new("/db"), Config::tiny()).unwrap();
        for n in 0..300_u32 {
            let ticket = engine.append(Batch::new().put(&key(n), &value(n))).unwrap();
            if n % 3 == 0 {
                engine.wait_durable(ticket).unwrap();
            }
            if n % 50 == 0 {
                engine.flush().unwrap();
            }
        }
        fs
    }

    #[test]
    fn wal_for_a_while() {
        let fs = database();
        let log = Path::new("/db/log");
        let name = fs.list(log).unwrap().into_iter().find(|name| name.contains('-')).unwrap();
        let (number, _) = name.split_once('-').unwrap();
        let number = u64::from_str_radix(number, 16).unwrap();
        // As the target reads it: the frames get the number, and the first the first sequence.
        let bytes = contents(&fs, &log.join(&name));
        let mut segment = Vec::new();
        let mut next_seq = 1;
        let mut at = 0;
        while let Some((mut header, payload)) = crate::wal::frame::open(&bytes[at..], number) {
            let mut frame = vec![0; crate::wal::frame::HEADER_BYTES];
            frame.extend_from_slice(payload);
            at = (at + frame.len()).next_multiple_of(512);
            (header.log_number, header.first_seq) = (LOG_NUMBER, next_seq);
            header.synced_offset = segment.len() as u64;
            next_seq += u64::from(header.ops);
            crate::wal::frame::seal(&mut frame, &header);
            frame.resize(frame.len().next_multiple_of(512), 0);
            segment.extend_from_slice(&frame);
        }
        assert!(next_seq > 20, "{next_seq} operations");
        mutate(&segment, wal);
    }

    #[test]
    fn block_for_a_while() {
        let mut builder = BlockBuilder::new(4);
        for n in 0..40 {
            builder.add(&key(n), u64::from(n), (n % 7 > 0).then(|| value(n)).as_deref());
        }
        mutate(&builder.finish(<[u8]>::to_vec), block);
    }

    #[test]
    fn table_for_a_while() {
        mutate(&good_table().0, table);
    }

    /// A good one of each part, as [`parts`] takes it.
    fn good_parts() -> Vec<Vec<u8>> {
        let (table, meta) = good_table();
        let mut index = IndexBuilder::new();
        for n in 0..40 {
            let next = (n < 39).then(|| key(n + 1));
            let handle = Handle { offset: 100 * u64::from(n), len: 100 };
            index.add((&key(n), 7), next.as_deref(), handle);
        }
        let index = index.finish(|bytes| [&4_000_u32.to_le_bytes()[..], bytes].concat());
        let hashes: Vec<u64> = (0..200).map(|n| key_hash(&key(n))).collect();
        let config = Config::tiny();
        let mut edit = Vec::new();
        let added = vec![(1, meta.clone())];
        Edit { added, flushed_seq: Some(9), ..Edit::default() }.encode(&mut edit);
        let (mut ops, mut sealed) = (Vec::new(), Vec::new());
        (0..9).for_each(|n| push_op(&mut ops, &key(n), (n > 3).then(|| value(n)).as_deref()));
        seal(
            &mut Compressor::new(Compression::Lz4),
            TABLE_ID,
            0,
            &table[..500].repeat(3),
            &mut sealed,
        );
        sealed.truncate(sealed.len() - 8);
        let good = [
            (0, index),
            (1, encode_properties(&meta, None)),
            (2, config.filter.build(&hashes, 1)),
            (2, config.filter_upper.build(&hashes, 1)),
            (3, edit),
            (4, ops),
            (5, sealed),
            (6, good_footer()),
        ];
        good.into_iter().map(|(part, bytes)| [vec![part], bytes].concat()).collect()
    }

    #[test]
    fn parts_for_a_while() {
        let good = good_parts();
        let each = time() / good.len() as u32;
        for part in &good {
            mutate_for(each, part, parts);
        }
    }

    #[test]
    fn manifest_for_a_while() {
        mutate(&contents(&database(), Path::new("/db/MANIFEST")), manifest);
    }
}
