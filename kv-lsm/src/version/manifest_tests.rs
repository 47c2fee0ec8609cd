//! Tests of the manifest: what was acknowledged is there after a crash, damage is told from a tail.

use proptest::prelude::*;

use super::*;
use crate::fs::MemFs;

const DIR: &str = "db";

fn disk() -> MemFs {
    let fs = MemFs::new();
    fs.create_dir(Path::new(DIR)).unwrap();
    fs.sync_dir(Path::new("")).ok();
    fs
}

fn open(fs: &MemFs) -> Result<(Manifest, Recovered), Error> {
    open_bounded(fs, 1 << 20)
}

fn open_bounded(fs: &MemFs, bytes_max: u64) -> Result<(Manifest, Recovered), Error> {
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    Manifest::open(&fs, Path::new(DIR), bytes_max)
}

fn table(file_id: u64) -> TableMeta {
    let key = format!("key{file_id:04}").into_bytes();
    TableMeta {
        file_id,
        smallest: key.clone().into(),
        largest: key.into(),
        entries: 1,
        tombstones: 0,
        max_seq: file_id,
        bytes: 100,
        checksum: 7,
    }
}

/// The `step`-th edit of a history: tables come, move down, and go.
fn edit(step: u64) -> Edit {
    let mut edit = Edit { added: vec![(0, table(step))], ..Edit::default() };
    edit.flushed_seq = Some(step * 10);
    if let Some(moved) = step.checked_sub(3) {
        edit.removed.push((0, moved));
        edit.added.push((6, table(moved)));
        edit.cursors.push((6, table(moved).largest));
    }
    if let Some(gone) = step.checked_sub(9) {
        edit.removed.push((6, gone));
    }
    edit
}

/// What the first `steps` edits lead to.
fn expected(steps: u64) -> State {
    let mut state = State::default();
    for step in 0..steps {
        state.apply(&edit(step)).unwrap();
    }
    state
}

fn assert_is(recovered: &Recovered, manifest: &Manifest, steps: u64) {
    let want = expected(steps);
    assert_eq!(manifest.state.tables, want.tables);
    assert_eq!(recovered.next_file_id, want.next_file_id);
    assert_eq!(recovered.flushed_seq, want.flushed_seq);
    assert_eq!(recovered.version.tables().count(), want.tables.len());
    let cursor = want.cursors.get(&6).map_or(&[][..], |key| key);
    assert_eq!(recovered.version.cursor(6), cursor);
}

#[test]
fn what_was_appended_is_found_again_across_rolls() {
    for bytes_max in [0, 600, 1 << 20] {
        let fs = disk();
        for step in 0..60 {
            let (mut manifest, recovered) = open_bounded(&fs, bytes_max).unwrap();
            assert_is(&recovered, &manifest, step);
            manifest.append(&edit(step)).unwrap();
        }
        let (manifest, _) = open_bounded(&fs, bytes_max).unwrap();
        assert!(manifest.len < 10_000, "{} bytes", manifest.len);
        if bytes_max == 600 {
            assert!(manifest.generation > 2, "never rolled");
        }
    }
}

#[test]
fn a_missing_manifest_beside_tables_is_an_error() {
    let fs = disk();
    let path = crate::sstable::table_path(Path::new(DIR), 3);
    fs.open(&path, OpenMode::CreateNew).unwrap();
    assert!(matches!(open(&fs), Err(Error::Corrupt { .. })));
}

#[test]
fn damage_is_seen_with_the_whole_file_on_the_disk() {
    let fs = disk();
    let (mut manifest, _) = open(&fs).unwrap();
    for step in 0..12 {
        manifest.append(&edit(step)).unwrap();
    }
    let path = Path::new(DIR).join(NAME);
    let mut damaged = 0;
    for byte in 0..manifest.len {
        fs.flip_bit(&path, byte, 2).unwrap();
        let whole = read_all(fs.open(&path, OpenMode::Read).unwrap().as_ref(), &path).unwrap();
        match open(&fs) {
            Err(Error::Corrupt { offset, .. }) => {
                assert!(offset <= byte);
                damaged += 1;
                fs.flip_bit(&path, byte, 2).unwrap();
            }
            Ok((cut, recovered)) => {
                assert!(byte >= manifest.synced, "byte {byte} was cut as a tail");
                assert_is(&recovered, &cut, 12);
                let file = fs.open(&path, OpenMode::Write).unwrap();
                file.write_at(0, &whole).unwrap();
                fs.flip_bit(&path, byte, 2).unwrap();
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(damaged, manifest.synced);
}

#[test]
fn after_a_failed_sync_nothing_more_is_written() {
    let fs = disk();
    let (mut manifest, _) = open(&fs).unwrap();
    manifest.append(&edit(0)).unwrap();
    fs.fail_sync_after(0);
    assert!(matches!(manifest.append(&edit(1)), Err(Error::Io { .. })));
    assert!(matches!(manifest.append(&edit(1)), Err(Error::Poisoned { .. })));
    assert!(matches!(manifest.append(&edit(2)), Err(Error::Poisoned { .. })));
    let (_, recovered) = open(&fs.crash(1)).unwrap();
    assert!(recovered.version.tables().count() >= 1);
}

#[test]
fn an_edit_that_does_not_fit_is_damage() {
    let fs = disk();
    let (mut manifest, _) = open(&fs).unwrap();
    manifest.append(&edit(0)).unwrap();
    // A good frame that removes what is not there.
    let mut payload = Vec::new();
    Edit { removed: vec![(1, 99)], ..Edit::default() }.encode(&mut payload);
    let bad = frame(manifest.generation, manifest.len, manifest.synced, &payload);
    manifest.file.write_at(manifest.len, &bad).unwrap();
    let offset = manifest.len;
    assert!(matches!(open(&fs), Err(Error::Corrupt { offset: at, .. }) if at == offset));
}

#[test]
fn the_format_is_that_of_the_committed_file() {
    let fixture = include_bytes!("../../testdata/manifest_v1.bin");
    let fs = disk();
    let (mut manifest, _) = open(&fs).unwrap();
    for step in 0..12 {
        manifest.append(&edit(step)).unwrap();
    }
    let path = Path::new(DIR).join(NAME);
    let written = read_all(manifest.file.as_ref(), &path).unwrap();
    if std::env::var_os("KV_LSM_WRITE_FIXTURES").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/manifest_v1.bin");
        std::fs::write(path, &written).unwrap();
    }
    assert!(written == fixture, "the manifest format changed: raise its version, keep reading v1");
}

/// Keyspaces come and go among the tables, before and after the file is written anew.
fn with_keyspaces(fs: &MemFs) -> Manifest {
    let (mut manifest, _) = open(fs).unwrap();
    manifest.append(&edit(0)).unwrap();
    for (id, name) in [(1, "users"), (2, "sessions"), (3, "\u{e4}")] {
        let keyspaces_added = vec![(id, name.to_owned())];
        manifest.append(&Edit { keyspaces_added, ..Edit::default() }).unwrap();
        manifest.append(&edit(u64::from(id))).unwrap();
    }
    manifest.append(&Edit { keyspaces_removed: vec![3], ..Edit::default() }).unwrap();
    manifest
}

#[test]
fn keyspaces_are_found_again_and_their_numbers_stay_used() {
    let fs = disk();
    drop(with_keyspaces(&fs));
    let names = BTreeMap::from([(1, "users".to_owned()), (2, "sessions".to_owned())]);
    for _ in 0..3 {
        let (manifest, recovered) = open(&fs).unwrap();
        assert_is(&recovered, &manifest, 4);
        assert_eq!((recovered.keyspaces, recovered.next_keyspace), (names.clone(), 4));
    }
    let mut state = State::default();
    for bad in [
        Edit { keyspaces_removed: vec![1], ..Edit::default() },
        Edit { keyspaces_added: vec![(0, "the default".to_owned())], ..Edit::default() },
        Edit { keyspaces_added: vec![(u32::MAX, "too many".to_owned())], ..Edit::default() },
    ] {
        assert!(state.apply(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn the_format_with_keyspaces_is_that_of_the_committed_file() {
    let fixture = include_bytes!("../../testdata/manifest_v2.bin");
    let manifest = with_keyspaces(&disk());
    let written = read_all(manifest.file.as_ref(), &Path::new(DIR).join(NAME)).unwrap();
    if std::env::var_os("KV_LSM_WRITE_FIXTURES").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/manifest_v2.bin");
        std::fs::write(path, &written).unwrap();
        return;
    }
    assert!(written == fixture, "the manifest format changed: raise its version, keep reading v2");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_crash_keeps_what_was_acknowledged(
        seed: u64, steps in 1_u64..30, bytes_max in prop::sample::select(vec![0_u64, 500, 1 << 20]),
        fail_at in proptest::option::of(0_u64..30), again: u64,
    ) {
        let fs = disk();
        let (mut manifest, _) = open_bounded(&fs, bytes_max).unwrap();
        if let Some(nth) = fail_at {
            fs.fail_sync_after(nth);
        }
        let mut acknowledged = 0;
        for step in 0..steps {
            if manifest.append(&edit(step)).is_err() {
                break;
            }
            acknowledged += 1;
        }
        // The power fails; and again right after the restart has cut the tail.
        let crashed = fs.crash(seed);
        let (manifest, recovered) = open_bounded(&crashed, bytes_max).unwrap();
        let found = recovered.flushed_seq / 10 + u64::from(!manifest.state.tables.is_empty());
        prop_assert!(found == acknowledged || found == acknowledged + 1, "{found} {acknowledged}");
        assert_is(&recovered, &manifest, found);
        let crashed = crashed.crash(again);
        let (mut manifest, recovered) = open_bounded(&crashed, bytes_max).unwrap();
        assert_is(&recovered, &manifest, found);
        manifest.append(&edit(found)).unwrap();
        let (manifest, recovered) = open_bounded(&crashed.crash(again), bytes_max).unwrap();
        assert_is(&recovered, &manifest, found + 1);
    }
}
