//! Flipped bits: below the synced offset an error, above it a cut, never a wrong byte.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::script::{Mix, Model, Random, open, run};
use crate::fs::{Fs, MemFs, OpenMode};
use crate::wal::frame::FRAME_ALIGN_BYTES;
use crate::{Batch, Config, Durability, Engine, Error, StepOutcome, Ticket};

fn put(engine: &Engine, n: usize) -> Ticket {
    let mut batch = Batch::new();
    batch.put(format!("{n}").as_bytes(), &[7; 700]);
    engine.append(&batch).unwrap()
}

fn live_segments(disk: &MemFs) -> Vec<PathBuf> {
    let dir = Path::new("/db/log");
    let paths = disk.list(dir).unwrap().into_iter().map(|name| dir.join(name));
    paths.filter(|path| path.extension().is_some_and(|e| e == "log")).collect()
}

/// Four frames of two sectors each, all synced, the first at offset 0.
fn four_frames(close: bool) -> MemFs {
    let disk = MemFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let engine = open(&fs, &Config::tiny()).unwrap();
    for n in 0..4 {
        engine.wait_durable(put(&engine, n)).unwrap();
    }
    if close {
        engine.close().unwrap();
    }
    disk
}

fn keys_after_flip(disk: &MemFs, byte: u64) -> Result<usize, Error> {
    let path = live_segments(disk).pop().unwrap();
    disk.flip_bit(&path, byte, (byte % 8) as u8).unwrap();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    Ok(open(&fs, &Config::tiny())?.scan::<&[u8]>(..).count())
}

#[test]
fn a_flipped_bit_in_a_synced_frame_is_an_error_and_in_the_last_one_a_cut() {
    let frame = 2 * FRAME_ALIGN_BYTES;
    for byte in (0..4 * frame).filter(|byte| byte % frame < 740).step_by(13) {
        let result = keys_after_flip(&four_frames(false), byte);
        let bad_frame = byte / frame;
        if bad_frame == 3 {
            // Nothing says that the last frame had been synced.
            assert_eq!(result.unwrap(), 3, "byte {byte}");
        } else {
            let Err(Error::Corrupt { offset, path, .. }) = result else {
                panic!("byte {byte}: {result:?}");
            };
            assert_eq!(offset, bad_frame * frame, "byte {byte}");
            assert!(path.starts_with("/db/log"), "{path:?}");
        }
    }
}

#[test]
fn after_a_clean_close_damage_to_the_last_frame_is_seen_too() {
    let last = 3 * 2 * FRAME_ALIGN_BYTES;
    for byte in (last..last + 740).step_by(37) {
        let result = keys_after_flip(&four_frames(true), byte);
        assert!(matches!(result, Err(Error::Corrupt { .. })), "byte {byte}: {result:?}");
    }
}

#[test]
fn an_earlier_segment_must_be_complete() {
    let disk = MemFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let config = Config { memtable_bytes_max: 1 << 20, log_bytes_max: 1 << 20, ..Config::tiny() };
    let engine = open(&fs, &config).unwrap();
    let mut n = 0;
    while live_segments(&disk).len() < 2 {
        engine.wait_durable(put(&engine, n)).unwrap();
        n += 1;
    }
    let first = live_segments(&disk).remove(0);
    // The last frame of the first segment: only the name of the second proves it.
    let offset = (n as u64 - 2) * 2 * FRAME_ALIGN_BYTES;
    drop(engine);
    disk.flip_bit(&first, offset + 100, 3).unwrap();
    let result = open(&fs, &config);
    assert!(
        matches!(&result, Err(Error::Corrupt { path, offset: at, .. })
        if *path == first && *at == offset),
        "{result:?}"
    );
}

#[test]
fn a_recycled_segment_never_replays_its_older_lives() {
    let disk = MemFs::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let config = Config::tiny();
    // Many small lives: segments are recycled with stale frames at the same offsets, and with
    // sequences that would continue the new ones, were they taken for theirs.
    let mut written = 0;
    for life in 0..40 {
        let engine = open(&fs, &config).unwrap();
        assert_eq!(engine.scan::<&[u8]>(..).count(), written, "life {life}");
        for _ in 0..6 {
            engine.wait_durable(put(&engine, written)).unwrap();
            written += 1;
        }
    }
}

/// Random damage to the files of a directory that had crashed: opening and reading answer with
/// an error, or with the state of a prefix; never with a panic or with something else.
#[test]
fn random_damage_never_panics_nor_invents() {
    let config = Config::tiny();
    let (mut refused, mut cut) = (0, 0);
    for seed in 0..1_000 {
        let mut random = Random(seed);
        let disk = MemFs::new();
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        let mix = Mix {
            reopens: seed % 3 == 0,
            weak: true,
            value_bytes_max: 900,
            keys: 30,
            ..Mix::PLAIN
        };
        let mut model = Model::default();
        run(&fs, &config, mix, seed, 60, &mut model).unwrap();
        let disk = disk.crash(seed);
        let dirs = [Path::new("/db/log"), Path::new("/db")];
        let files: Vec<PathBuf> = dirs
            .iter()
            .flat_map(|dir| disk.list(dir).unwrap().into_iter().map(|name| dir.join(name)))
            .filter(|path| path.extension().is_none_or(|e| e != "spare"))
            .collect();
        let path = &files[random.below(files.len() as u64) as usize];
        let len = disk.open(path, OpenMode::Read).unwrap().len().unwrap();
        for _ in 0..=random.below(3) {
            // Most of a segment is zeros behind the frames: aim at the front.
            let byte = random.below(len.clamp(1, 6 << 10));
            if byte < len {
                disk.flip_bit(path, byte, random.below(8) as u8).unwrap();
            }
        }
        let fs: Arc<dyn Fs> = Arc::new(disk);
        match open(&fs, &config) {
            Err(Error::Corrupt { .. } | Error::UnknownFormat { .. }) => refused += 1,
            Err(e) => panic!("seed {seed}, {}: {e}", path.display()),
            Ok(engine) => {
                let before = model.appended();
                match model.adopt_damaged(&engine) {
                    Ok(()) => cut += u64::from(model.appended() < before),
                    Err(e) => assert!(e.contains("damage"), "seed {seed}, {}: {e}", path.display()),
                }
            }
        }
    }
    assert!(refused > 20 && cut > 20, "{refused} refused, {cut} cut");
}

#[test]
fn a_log_of_an_unknown_version_is_refused() {
    let disk = four_frames(false);
    let path = live_segments(&disk).pop().unwrap();
    disk.flip_bit(&path, 3, 0).unwrap();
    let fs: Arc<dyn Fs> = Arc::new(disk);
    assert!(matches!(open(&fs, &Config::tiny()), Err(Error::UnknownFormat { version: 3, .. })));
}

/// A log number is used once, even when all that it ever named was lost. Two frames are written and
/// not synced; the power cut takes the first and leaves the second. The next life overwrites the
/// first with a frame of the same size: the second must not look like its successor.
#[test]
fn a_frame_that_was_cut_never_comes_back() {
    let mut came_close = 0;
    for seed in 0..300 {
        let disk = MemFs::new();
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        let engine = open(&fs, &Config::tiny()).unwrap();
        let mut batch = Batch::new();
        batch.set_durability(Durability::Os);
        for key in [b"a", b"b"] {
            batch.clear();
            batch.put(key, &[7; 300]);
            engine.append(&batch).unwrap();
            assert_eq!(engine.step().unwrap(), StepOutcome::Logged);
        }
        let disk = disk.crash(seed);
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        // A life that writes nothing: only the manifest remembers the number after it.
        drop(open(&fs, &Config::tiny()).unwrap());
        let engine = open(&fs, &Config::tiny()).unwrap();
        if engine.get(b"a").unwrap().is_some() {
            continue;
        }
        came_close += 1;
        batch.clear();
        batch.set_durability(Durability::Sync).put(b"c", &[7; 300]);
        engine.wait_durable(engine.append(&batch).unwrap()).unwrap();
        drop(engine);
        let engine = open(&fs, &Config::tiny()).unwrap();
        let keys: Vec<_> = engine.scan::<&[u8]>(..).map(|pair| pair.unwrap().0).collect();
        assert_eq!(keys, ["c"], "seed {seed}");
    }
    assert!(came_close > 50, "{came_close}");
}

/// A write that went to the wrong place: every checksum holds, and still it is damage.
#[test]
fn a_frame_in_the_place_of_another_is_an_error() {
    let disk = four_frames(false);
    let path = live_segments(&disk).pop().unwrap();
    let file = disk.open(&path, OpenMode::Write).unwrap();
    let frame = 2 * FRAME_ALIGN_BYTES;
    let mut bytes = vec![0; frame as usize];
    file.read_at(2 * frame, &mut bytes).unwrap();
    file.write_at(frame, &bytes).unwrap();
    let fs: Arc<dyn Fs> = Arc::new(disk);
    let result = open(&fs, &Config::tiny());
    assert!(matches!(result, Err(Error::Corrupt { offset, .. }) if offset == frame), "{result:?}");
}

#[test]
fn log_damage_that_its_owner_accepts_costs_only_what_is_damaged() {
    let frame = 2 * FRAME_ALIGN_BYTES;
    for bad in 0..3 {
        let disk = four_frames(true);
        let path = live_segments(&disk).pop().unwrap();
        disk.flip_bit(&path, bad * frame + 300, 3).unwrap();
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        assert!(matches!(open(&fs, &Config::tiny()), Err(Error::Corrupt { .. })));
        let accepting = Config { accept_log_damage: true, ..Config::tiny() };
        let engine = open(&fs, &accepting).unwrap();
        assert_eq!(engine.stats().log_damage, 1, "frame {bad}");
        let keys: Vec<_> = engine.scan::<&[u8]>(..).map(|row| row.unwrap().0).collect();
        let left: Vec<_> = (0..4).filter(|n| *n != bad).map(|n| format!("{n}")).collect();
        assert_eq!(keys, left);
        engine.wait_durable(put(&engine, 9)).unwrap();
        drop(engine);
        assert_eq!(open(&fs, &Config::tiny()).unwrap().scan::<&[u8]>(..).count(), 4);
    }
}
