//! The embedded store in a real directory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use coordinatool::hsm::effect::StoreOp;
use coordinatool::hsm::{Action, ActionItem};
use coordinatool::store::disk::DirSegments;
use coordinatool::store::journal::{Journal, JournalOptions};
use coordinatool::store::{EmbeddedStore, NoStore, Store, StoreError};
use lustreapi_sys::Fid;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn item(n: u64) -> ActionItem {
    let fid = Fid::new(0x2_0000_0401, n as u32, 0);
    ActionItem {
        flags: 4,
        data: (*b"\xff\0").into(),
        timestamp: 9,
        extra: "\"x\":1".into(),
        ..ActionItem::new(Action::Restore, fid, n, 1)
    }
}

fn read(store: &mut dyn Store) -> Vec<(ActionItem, Option<String>)> {
    let mut found = Vec::new();
    let recovery = store.recover(&mut |item, mover| found.push((item, mover))).unwrap();
    assert!(recovery.quarantined.is_empty() && !recovery.suspect);
    found
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn requests_and_assignments_survive_a_restart_and_nobody_else_may_look() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("state/hsm");
    let mut store = EmbeddedStore::open(&path).unwrap();
    assert!(read(&mut store).is_empty());
    let ops = [
        StoreOp::Put(item(1)),
        StoreOp::Put(item(2)),
        StoreOp::Assign { key: item(2).key(), mover: "m0".into() },
    ];
    store.append(&ops).unwrap();
    store.sync().unwrap();
    assert!(store.has_room());
    assert_eq!(store.describe(), format!("embedded store {}", path.display()));
    assert_eq!(mode(&path), 0o700);
    for entry in std::fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    // Two daemons never share it.
    let error = EmbeddedStore::open(&path).unwrap_err();
    let holder = format!("in use by process {}", std::process::id());
    assert!(
        matches!(&error, StoreError::Io { source, .. } if source.to_string().contains(&holder)),
        "{error}"
    );
    for clean in [false, true] {
        if clean {
            store.close().unwrap();
        }
        drop(store);
        std::fs::write(path.join("unfinished"), b"left by a crash").unwrap();
        store = EmbeddedStore::open(&path).unwrap();
        assert_eq!(read(&mut store), [(item(1), None), (item(2), Some("m0".to_owned()))]);
    }
}

#[test]
fn no_store_keeps_nothing() {
    let mut store = NoStore;
    store.append(&[StoreOp::Put(item(1))]).unwrap();
    store.sync().unwrap();
    store.close().unwrap();
    assert!(read(&mut store).is_empty() && store.has_room());
}

/// The size of files is limited, which the system reports like a full disk. The limit is one of the process, and comes with
/// a signal that only a shell can turn off without unsafe code: the test runs itself again under one.
#[test]
fn a_full_disk_is_reported_as_such_and_nothing_is_half_written() {
    const CHILD: &str = "COORDINATOOL_TEST_FULL_DISK";
    if std::env::var_os(CHILD).is_none() {
        let status = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" --exact \"$1\" --nocapture"])
            .arg(std::env::current_exe().unwrap())
            .arg("a_full_disk_is_reported_as_such_and_nothing_is_half_written")
            .env(CHILD, "1")
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let options = JournalOptions { segment_bytes: 16 << 10, seed: 1 };
    let open = || Journal::new(DirSegments::open(scratch.path()).unwrap(), options);
    let mut journal = open();
    journal.recover(&mut |_, _| panic!("nothing was stored yet")).unwrap();
    journal.append(&[StoreOp::Put(item(1))]).unwrap();
    journal.sync().unwrap();

    let before = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(512), maximum: before.maximum }).unwrap();
    // The room was reserved, but this limit also stops writes into it.
    journal.append(&[StoreOp::Put(item(2))]).unwrap();
    let error = journal.sync().unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    let mut n = 3;
    let error = loop {
        match journal.append(&[StoreOp::Put(item(n))]) {
            Ok(()) => n += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    setrlimit(Resource::Fsize, before).unwrap();

    assert!(journal.has_room());
    journal.append(&[StoreOp::Put(item(n))]).unwrap();
    journal.sync().unwrap();
    drop(journal);
    let mut found = Vec::new();
    let recovery = open().recover(&mut |item, _| found.push(item.cookie)).unwrap();
    assert!(recovery.quarantined.is_empty());
    assert!(found.iter().copied().eq(1..=n), "{found:?}");
    assert!(!scratch.path().join("unfinished").exists());
}
