//! What the embedded store finds on its disk.

use coordinatool::hsm::effect::StoreOp;
use coordinatool::store::journal::{Journal, JournalOptions};
use coordinatool::store::memory_disk::{Crash, MemoryDisk};
use coordinatool::store::record::{FIRST_FRAME, Kind, SegmentHead, decode, push_payload, scan};
use coordinatool::store::segments::Segments;

/// The head of the segment that the examples were written for.
pub const HEAD: SegmentHead = SegmentHead { id: 1, nonce: 7 };

/// A payload that is understood says the same when it is written again. The first byte is the kind.
pub fn record(data: &[u8]) {
    let Some((kind, payload)) = data.split_first() else { return };
    let kind = [Kind::Put, Kind::Assign, Kind::Unassign, Kind::Remove][usize::from(*kind % 4)];
    let Ok(record) = decode(kind, payload) else { return };
    let mut again = Vec::new();
    assert_eq!(push_payload(&record.op, record.sequence, &mut again), kind);
    assert_eq!(again, payload);
}

/// Whatever stands behind a segment's head: reading ends, twice the same way, and writing goes on.
pub fn segment(data: &[u8]) {
    let mut bytes = HEAD.encode();
    bytes.extend_from_slice(data);
    let found = scan(&HEAD, &bytes);
    let mut at = FIRST_FRAME;
    for frame in &found.frames {
        assert!(frame.offset as usize >= at && frame.end() <= bytes.len().next_multiple_of(8));
        at = frame.end();
    }
    assert!(found.damaged.iter().all(|(start, end)| start < end && *end <= bytes.len()));

    let mut disk = MemoryDisk::default();
    disk.create(HEAD.id, bytes.len() as u32 + 512, &bytes).unwrap();
    let mut first = Vec::new();
    let mut journal = Journal::new(disk, JournalOptions { segment_bytes: 2048, seed: 1 });
    let recovery = journal.recover(&mut |item, mover| first.push((item, mover))).unwrap();
    assert_eq!(recovery.requests as usize, first.len());
    // Taking all of them out again must reach each of them.
    for (item, _) in &first {
        journal.append(&[StoreOp::Remove { key: item.key() }]).unwrap();
    }
    journal.sync().unwrap();
    let mut disk = journal.into_disk();
    disk.crash(Crash::Nothing);
    let mut journal = Journal::new(disk, JournalOptions { segment_bytes: 2048, seed: 1 });
    let recovery = journal.recover(&mut |item, _| panic!("{item:?} came back")).unwrap();
    assert!(recovery.quarantined.is_empty(), "reported twice");
}
