//! The embedded store keeps what it promised, wherever a crash, a damaged byte or a full disk hits it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use coordinatool::hsm::effect::StoreOp;
use coordinatool::hsm::{Action, ActionItem, RequestKey};
use coordinatool::store::journal::{Journal, JournalOptions};
use coordinatool::store::memory_disk::{Crash, MemoryDisk};
use coordinatool::store::{Recovery, StoreError};
use lustreapi_sys::Fid;

/// What is stored, in the order of admission.
type State = Vec<(ActionItem, Option<String>)>;

fn item(n: u64, data: &str) -> ActionItem {
    let fid = Fid::new(0x2_0000_0401, n as u32, 0);
    ActionItem {
        data: data.as_bytes().into(),
        timestamp: n as i64,
        ..ActionItem::new(Action::Archive, fid, 1000 + n, 1)
    }
}

fn key(n: u64) -> RequestKey {
    item(n, "").key()
}

/// What the store should hold after these operations.
fn model(ops: &[StoreOp]) -> State {
    let mut state: State = Vec::new();
    for op in ops {
        let find = |state: &State, key: &RequestKey| state.iter().position(|(item, _)| item.key() == *key);
        match op {
            StoreOp::Put(item) => match find(&state, &item.key()) {
                Some(at) => state[at].0 = item.clone(),
                None => state.push((item.clone(), None)),
            },
            StoreOp::Assign { key, mover } => {
                if let Some(at) = find(&state, key) {
                    state[at].1 = Some(mover.clone());
                }
            }
            StoreOp::Unassign { key } => {
                if let Some(at) = find(&state, key) {
                    state[at].1 = None;
                }
            }
            StoreOp::Remove { key } => state.retain(|(item, _)| item.key() != *key),
            StoreOp::Note { .. } => unreachable!("there are none in these tests"),
        }
    }
    state
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Operations in batches, with requests that come, move, end and come back.
fn batches(seed: u64, count: usize, keys: u64) -> Vec<Vec<StoreOp>> {
    let mut rng = seed;
    (0..count)
        .map(|_| {
            (0..1 + random(&mut rng) % 3)
                .map(|_| {
                    let n = random(&mut rng) % keys;
                    match random(&mut rng) % 6 {
                        0 | 1 => StoreOp::Put(item(n, &"x".repeat((random(&mut rng) % 40) as usize))),
                        2 | 3 => StoreOp::Assign { key: key(n), mover: format!("m{}", random(&mut rng) % 3) },
                        4 => StoreOp::Unassign { key: key(n) },
                        _ => StoreOp::Remove { key: key(n) },
                    }
                })
                .collect()
        })
        .collect()
}

const SMALL: JournalOptions = JournalOptions { segment_bytes: 2048, seed: 42 };

fn recover(disk: MemoryDisk) -> (Journal<MemoryDisk>, State, Recovery) {
    recover_with(disk, SMALL)
}

fn recover_with(disk: MemoryDisk, options: JournalOptions) -> (Journal<MemoryDisk>, State, Recovery) {
    let mut journal = Journal::new(disk, options);
    let mut state = State::new();
    let recovery = journal.recover(&mut |item, mover| state.push((item, mover))).unwrap();
    assert_eq!(recovery.requests as usize, state.len());
    (journal, state, recovery)
}

fn fresh(disk: MemoryDisk) -> Journal<MemoryDisk> {
    let (journal, state, recovery) = recover(disk);
    assert!(state.is_empty() && recovery.quarantined.is_empty());
    journal
}

/// Runs batches, each followed by a sync, until the power goes. Returns the operations that were certainly durable, and
/// all that were tried.
fn run(journal: &mut Journal<MemoryDisk>, batches: &[Vec<StoreOp>]) -> (usize, Vec<StoreOp>) {
    let mut tried: Vec<StoreOp> = Vec::new();
    let mut durable = 0;
    for batch in batches {
        tried.extend(batch.iter().cloned());
        if journal.append(batch).and_then(|()| journal.sync()).is_err() {
            return (durable, tried);
        }
        durable = tried.len();
    }
    (durable, tried)
}

#[test]
fn what_was_synced_is_read_back_in_order() {
    for seed in 0..20 {
        let mut journal = fresh(MemoryDisk::default());
        let (durable, ops) = run(&mut journal, &batches(seed, 200, 12));
        assert_eq!(durable, ops.len());
        let mut disk = journal.into_disk();
        disk.crash(Crash::Nothing);
        let (mut journal, state, recovery) = recover(disk);
        assert_eq!(state, model(&ops), "seed {seed}");
        assert!(recovery.quarantined.is_empty());
        // A clean stop changes nothing of it, nor does doing it again.
        for _ in 0..8 {
            journal.close().unwrap();
            let (again, state, _) = recover(journal.into_disk());
            assert_eq!(state, model(&ops), "seed {seed}");
            journal = again;
        }
    }
}

#[test]
fn a_crash_at_any_byte_loses_nothing_that_was_synced() {
    let batches = batches(7, 24, 6);
    let mut journal = fresh(MemoryDisk::default());
    let start = journal.disk().written();
    run(&mut journal, &batches);
    let bytes = journal.disk().written() - start;
    let segments = journal.disk().sizes();
    assert!(*segments.keys().last().unwrap() > 3, "the sequence must fill segments: {segments:?}");
    for cut in 0..=bytes {
        let mut journal = fresh(MemoryDisk::default());
        journal.disk_mut().cut_power_after(cut);
        let (durable, tried) = run(&mut journal, &batches);
        let disk = journal.into_disk();
        for crash in [Crash::Process, Crash::Nothing, Crash::Torn(cut), Crash::Torn(!cut)] {
            let mut disk = disk.clone();
            disk.crash(crash);
            let (journal, state, recovery) = recover(disk);
            let possible: Vec<State> = (durable..=tried.len()).map(|n| model(&tried[..n])).collect();
            let place = format!("cut at {cut} of {bytes}, {crash:?}");
            if matches!(crash, Crash::Torn(_)) {
                // An unfinished batch may have come through in part, but each request is as it was at some time.
                let all = |key: &RequestKey| {
                    possible
                        .iter()
                        .map(|s| s.iter().find(|(i, _)| i.key() == *key).cloned())
                        .collect::<Vec<_>>()
                };
                for n in 0..6 {
                    let found = state.iter().find(|(item, _)| item.key() == key(n)).cloned();
                    let known = all(&key(n));
                    let item_known = known.iter().any(|k| match (k, &found) {
                        (Some((a, _)), Some((b, _))) => a == b,
                        (None, None) => true,
                        _ => false,
                    });
                    assert!(item_known, "{place}: {found:?} is none of {known:?}");
                    if durable == tried.len() {
                        assert_eq!(found, known[0], "{place}");
                    }
                }
            } else {
                assert!(possible.contains(&state), "{place}: {state:?}");
                assert!(recovery.quarantined.is_empty(), "{place}: {:?}", recovery.quarantined);
            }
            // Life goes on, and what is read next time is what was read now and what came since.
            let mut journal = journal;
            let more = StoreOp::Put(item(99, "later"));
            journal.append(std::slice::from_ref(&more)).unwrap();
            journal.sync().unwrap();
            let mut disk = journal.into_disk();
            disk.crash(Crash::Nothing);
            let (_, again, _) = recover(disk);
            let mut want = state;
            want.push((item(99, "later"), None));
            assert_eq!(again, want, "{place}, after going on");
        }
    }
}

/// A sector that cannot be read costs what was in it, and does not keep the daemon from starting.
#[test]
fn a_bad_sector_costs_what_was_in_it() {
    let options = JournalOptions { segment_bytes: 64 << 10, seed: 1 };
    let mut journal = Journal::new(MemoryDisk::default(), options);
    journal.recover(&mut |_, _| ()).unwrap();
    let ops: Vec<StoreOp> = (0..200).map(|n| StoreOp::Put(item(n, "tag=a"))).collect();
    journal.append(&ops).unwrap();
    journal.sync().unwrap();
    let mut disk = journal.into_disk();
    let first = *disk.sizes().keys().next().unwrap();
    disk.make_unreadable(first, 9000);
    let (_, state, recovery) = recover(disk);
    let lost = model(&ops).iter().filter(|want| !state.contains(want)).count();
    assert!(lost > 0 && lost < 100, "{lost} of 200 lost");
    assert_eq!(state.len() + lost, 200);
    assert!(!recovery.quarantined.is_empty());
}

#[test]
fn a_damaged_byte_costs_at_most_one_record() {
    let mut journal = fresh(MemoryDisk::default());
    let ops: Vec<StoreOp> = (0..24).map(|n| StoreOp::Put(item(n, "tag=a"))).collect();
    for batch in ops.chunks(5) {
        journal.append(batch).unwrap();
        journal.sync().unwrap();
    }
    let disk = journal.into_disk();
    let want = model(&ops);
    let mut quarantined = 0;
    for (id, size) in disk.sizes() {
        for offset in 0..size {
            let mut disk = disk.clone();
            assert!(disk.flip(id, offset, 0x10));
            let (journal, state, recovery) = recover(disk);
            let place = format!("segment {id}, byte {offset}");
            let lost = want.iter().filter(|w| !state.contains(w)).count();
            assert!(lost <= 1 && state.len() + lost == want.len(), "{place}: lost {lost}");
            assert!(recovery.quarantined.len() <= 1, "{place}: {:?}", recovery.quarantined);
            assert!(lost == 0 || recovery.quarantined.len() == 1, "{place}: lost without a word");
            let mut order: Vec<u64> = state.iter().map(|(item, _)| item.cookie).collect();
            order.sort_unstable();
            assert!(state.iter().map(|(item, _)| item.cookie).eq(order), "{place}: order");
            if let Some(report) = recovery.quarantined.first() {
                quarantined += 1;
                assert!(report.starts_with(&format!("segment {id}, bytes ")), "{report}");
                assert_eq!(journal.disk().quarantined().len(), 1);
                // It is reported once.
                let (_, again, recovery) = recover(journal.into_disk());
                assert!(recovery.quarantined.is_empty() && again == state, "{place}");
            }
        }
    }
    assert!(quarantined > 24 * 100, "only {quarantined} bytes mattered");
}

#[test]
fn a_segment_without_a_head_is_set_aside_and_the_rest_is_read() {
    let mut journal = fresh(MemoryDisk::default());
    let ops: Vec<StoreOp> = (0..24).map(|n| StoreOp::Put(item(n, ""))).collect();
    ops.iter().for_each(|op| journal.append(std::slice::from_ref(op)).unwrap());
    journal.sync().unwrap();
    let mut disk = journal.into_disk();
    let id = *disk.sizes().keys().next().unwrap();
    for offset in [3, 512 + 3] {
        disk.flip(id, offset, 1);
    }
    let (journal, state, recovery) = recover(disk);
    assert!(!state.is_empty() && state.len() < 24, "{}", state.len());
    assert_eq!(recovery.quarantined.len(), 1);
    assert!(!journal.disk().sizes().contains_key(&id));
}

#[test]
fn cleaning_keeps_the_disk_small_and_forgets_nothing() {
    for seed in 0..4 {
        let mut journal = fresh(MemoryDisk::default());
        // Some requests stay all the time, so that they have to be moved again and again.
        let stay: Vec<StoreOp> = (1000..1005).map(|n| StoreOp::Put(item(n, "stays"))).collect();
        let hold = StoreOp::Assign { key: key(1002), mover: "keeper".into() };
        let mut all = vec![stay, vec![hold]];
        all.extend(batches(seed, 3000, 10));
        let mut most = 0;
        let mut ops = Vec::new();
        for (i, batch) in all.iter().enumerate() {
            journal.append(batch).unwrap();
            journal.sync().unwrap();
            ops.extend(batch.iter().cloned());
            most = most.max(journal.disk().sizes().len());
            if i % 500 == 499 {
                let mut disk = journal.into_disk();
                disk.crash(Crash::Nothing);
                let (again, state, _) = recover(disk);
                assert_eq!(state, model(&ops), "seed {seed}, batch {i}");
                journal = again;
            }
        }
        let last = *journal.disk().sizes().keys().last().unwrap();
        assert!(last > 100, "{last} segments were needed");
        assert!(most <= 12, "{most} segments at a time");
    }
}

#[test]
fn a_full_disk_refuses_new_requests_and_lets_known_ones_end() {
    let options = JournalOptions { segment_bytes: 16 << 10, seed: 1 };
    let mut journal = recover_with(MemoryDisk::with_capacity(6 * (16 << 10)), options).0;
    let mut ops = Vec::new();
    let mut stored = 0;
    let error = loop {
        let op = StoreOp::Put(item(stored, "tag=a"));
        match journal.append(std::slice::from_ref(&op)) {
            Ok(()) => {
                ops.push(op);
                stored += 1;
            }
            // Cleaning may still find some room in what the ends of batches take.
            Err(error) if !journal.has_room() => break error,
            Err(error) => assert!(matches!(error, StoreError::Full { .. }), "{error}"),
        }
        journal.sync().unwrap();
        assert!(stored < 1000);
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    // What was refused is not there, and what concerns it later is passed over.
    let refused =
        [StoreOp::Assign { key: key(stored), mover: "m0".into() }, StoreOp::Remove { key: key(stored) }];
    journal.append(&refused).unwrap();
    // The known ones are assigned and end.
    for n in 0..stored - 3 {
        let batch = [StoreOp::Assign { key: key(n), mover: "m0".into() }, StoreOp::Remove { key: key(n) }];
        journal.append(&batch).unwrap();
        journal.sync().unwrap();
        ops.extend(batch);
    }
    assert!(journal.has_room(), "cleaning must have made room");
    let op = StoreOp::Put(item(5000, "new"));
    journal.append(std::slice::from_ref(&op)).unwrap();
    journal.sync().unwrap();
    ops.push(op);
    let mut disk = journal.into_disk();
    disk.crash(Crash::Nothing);
    assert_eq!(recover_with(disk, options).1, model(&ops));
}

/// A disk with room for so many segments, in which so many requests with this much data were stored until it was full.
fn filled(segments: u64, options: JournalOptions, data: usize) -> (Journal<MemoryDisk>, u64) {
    let disk = MemoryDisk::with_capacity(segments * u64::from(options.segment_bytes));
    let mut journal = recover_with(disk, options).0;
    let mut stored = 0;
    while journal.append(&[StoreOp::Put(item(stored, &"x".repeat(data)))]).is_ok() {
        journal.sync().unwrap();
        stored += 1;
    }
    (journal, stored)
}

/// What is dead, or never used, is most of a segment, but less: cleaning everything would free none.
#[test]
fn a_full_disk_is_not_cleaned_in_circles() {
    let options = JournalOptions { segment_bytes: 64 << 10, seed: 1 };
    for ended in 0..20 {
        let (mut journal, stored) = filled(4, options, 2000);
        assert!(stored > 40, "{stored}");
        for n in 0..ended {
            journal.append(&[StoreOp::Remove { key: key(2 * n) }]).unwrap();
            journal.sync().unwrap();
        }
        let before = journal.disk().written();
        for _ in 0..200 {
            journal.has_room();
            journal.sync().unwrap();
        }
        let written = journal.disk().written() - before;
        assert!(written < 5 * u64::from(options.segment_bytes), "{ended} ended: {written} bytes for nothing");
        let mut disk = journal.into_disk();
        disk.crash(Crash::Process);
        let state = recover_with(disk, options).1;
        assert_eq!(state.len() as u64, stored - ended, "{ended} ended");
    }
}

/// Killed in the middle of a write, again and again, without room for another segment: each start goes on in the one that
/// there is, as long as anything fits into it.
#[test]
fn on_a_full_disk_a_write_that_was_cut_costs_no_segment() {
    let options = JournalOptions { segment_bytes: 64 << 10, seed: 1 };
    for crash in [Crash::Process, Crash::Torn(1), Crash::Torn(2)] {
        let (journal, stored) = filled(4, options, 2000);
        let mut disk = journal.into_disk();
        for n in 0..stored {
            let (mut journal, state, recovery) = recover_with(disk, options);
            assert_eq!(state.len() as u64, stored - n, "{crash:?}, {:?}", recovery.quarantined);
            // Wiping may be cut as well.
            let batch = [
                StoreOp::Assign { key: key(n), mover: "m".repeat(300) },
                StoreOp::Unassign { key: key(n) },
                StoreOp::Assign { key: key(n), mover: "n".repeat(300) },
            ];
            journal.append(&batch).unwrap();
            journal.disk_mut().cut_power_after(100 + n * 10);
            assert!(journal.sync().is_err());
            disk = journal.into_disk();
            disk.crash(crash);
            if n % 3 == 0 {
                let mut journal = Journal::new(disk, options);
                journal.disk_mut().cut_power_after(n * 50);
                let _ = journal.recover(&mut |_, _| ());
                disk = journal.into_disk();
                disk.crash(crash);
            }
            let (mut journal, state, _) = recover_with(disk, options);
            assert_eq!(state.len() as u64, stored - n, "{crash:?}");
            journal.append(&[StoreOp::Remove { key: key(n) }]).unwrap();
            journal.sync().unwrap();
            disk = journal.into_disk();
            disk.crash(Crash::Nothing);
        }
        let mut journal = recover_with(disk, options).0;
        assert!(journal.is_empty() && journal.has_room());
    }
}

#[test]
fn a_full_disk_gets_larger() {
    let mut journal = fresh(MemoryDisk::with_capacity(3 * 2048));
    let mut n = 0;
    while journal.append(&[StoreOp::Put(item(n, ""))]).is_ok() {
        n += 1;
    }
    assert!(!journal.has_room());
    journal.disk_mut().set_capacity(100 * 2048);
    assert!(journal.has_room());
    journal.append(&[StoreOp::Put(item(n, ""))]).unwrap();
    journal.sync().unwrap();
    assert_eq!(recover(journal.into_disk()).1.len() as u64, n + 1);
}

#[test]
fn a_start_on_a_full_disk_reads_what_is_there() {
    let mut journal = fresh(MemoryDisk::default());
    journal.append(&[StoreOp::Put(item(1, ""))]).unwrap();
    journal.sync().unwrap();
    let mut disk = journal.into_disk();
    disk.set_capacity(0);
    let (mut journal, state, _) = recover(disk);
    assert_eq!(state.len(), 1);
    // The room in the last segments is still there.
    journal.append(&[StoreOp::Assign { key: key(1), mover: "m0".into() }]).unwrap();
    journal.sync().unwrap();
    let (mut journal, state, _) = recover(MemoryDisk::with_capacity(0));
    assert!(state.is_empty());
    let error = journal.append(&[StoreOp::Put(item(1, ""))]).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    journal.sync().unwrap();
    journal.close().unwrap();
}

/// After a failed fdatasync the system may have dropped what it could not write, and say success next time.
#[test]
fn a_failed_sync_is_written_again() {
    let mut journal = fresh(MemoryDisk::default());
    journal.append(&[StoreOp::Put(item(1, "a"))]).unwrap();
    journal.disk_mut().fail_syncs(2);
    assert!(matches!(journal.sync(), Err(StoreError::Io { .. })));
    journal.append(&[StoreOp::Put(item(2, "b"))]).unwrap();
    assert!(journal.sync().is_err());
    // What was written before is gone from the cache.
    journal.disk_mut().crash(Crash::Nothing);
    journal.sync().unwrap();
    let mut disk = journal.into_disk();
    disk.crash(Crash::Nothing);
    let (_, state, recovery) = recover(disk);
    assert_eq!(state, [(item(1, "a"), None), (item(2, "b"), None)]);
    assert!(recovery.quarantined.is_empty());
}

#[test]
fn records_larger_than_a_segment_have_one_of_their_own() {
    let mut journal = fresh(MemoryDisk::default());
    let big = "x".repeat(10_000);
    let ops = [StoreOp::Put(item(1, "a")), StoreOp::Put(item(2, &big)), StoreOp::Put(item(3, "c"))];
    for op in &ops {
        journal.append(std::slice::from_ref(op)).unwrap();
        journal.sync().unwrap();
    }
    // It must also survive being moved.
    for n in 0..300 {
        journal.append(&[StoreOp::Put(item(50 + n, "")), StoreOp::Remove { key: key(50 + n) }]).unwrap();
        journal.sync().unwrap();
    }
    let mut disk = journal.into_disk();
    disk.crash(Crash::Nothing);
    assert_eq!(recover(disk).1, model(&ops));
}

#[test]
fn what_something_newer_wrote_is_left_alone() {
    let mut journal = fresh(MemoryDisk::default());
    journal.append(&[StoreOp::Put(item(1, ""))]).unwrap();
    journal.sync().unwrap();
    let mut disk = journal.into_disk();
    let id = *disk.sizes().keys().next().unwrap();
    // Only the version and what guards it differ.
    let head = coordinatool::store::record::SegmentHead { id, nonce: 0 }.encode();
    let mut newer = head[..40].to_vec();
    newer[8] = 2;
    let crc = crc32fast::hash(&newer[..36]).to_le_bytes();
    newer[36..].copy_from_slice(&crc);
    use coordinatool::store::segments::Segments;
    for start in [0, 512] {
        disk.write(id, start, &newer).unwrap();
    }
    let before: BTreeMap<u32, usize> = disk.sizes();
    let mut journal = Journal::new(disk, SMALL);
    let error = journal.recover(&mut |_, _| ()).unwrap_err();
    assert!(error.to_string().contains("has version 2, this program knows up to 1"), "{error}");
    assert_eq!(journal.disk().sizes(), before);
}
