//! What the embedded store finds on its disk.

use coordinatool::hsm::effect::StoreOp;
use coordinatool::store::journal::{Journal, JournalOptions};
use coordinatool::store::memory_disk::{Crash, MemoryDisk};
use coordinatool::store::record::{FIRST_FRAME, Kind, SegmentHead, decode, push_frame, push_payload, scan};
use coordinatool::store::redis::resp::read_all;
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

/// Values as they may stand in redis, after their field and a newline: what is taken is written back so that it is read as the
/// same, and where C would look only if C can read it.
pub fn redis_value(data: &[u8]) {
    use coordinatool::store::redis::values::{Place, item_text, place_of, read_item, read_mover};

    let cut = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (field, text) = (&data[..cut], data.get(cut + 1..).unwrap_or_default());
    if let Ok(mover) = read_mover(text) {
        assert!(!mover.is_empty() && mover.len() <= 1024);
    }
    if let Some((cookie, fid)) = coordinatool::store::redis::names::parse_field(field) {
        assert_eq!(coordinatool::store::redis::names::field(cookie, fid).as_bytes(), field);
    }
    for own in [false, true] {
        let Ok(item) = read_item(own, field, text) else { continue };
        let place = place_of(&item);
        let again = item_text(&item);
        let field = place.field(&item.key());
        assert_eq!(read_item(place == Place::Own, field.as_bytes(), &again).as_ref(), Ok(&item));
        if let Place::Shared(_) = place {
            // C reads the whole of it, and finds an archive.
            let value: serde_json::Value = serde_json::from_slice(&again).unwrap();
            assert!(value["hal_archive_id"].as_i64().is_some_and(|id| id != 0));
            assert_eq!(value["hai_data"].as_str().map(str::as_bytes), Some(&*item.data));
        }
    }
}

/// What an earlier run may have left beside redis: reading ends, and each operation is one that is written as the same.
pub fn redis_spill(data: &[u8]) {
    use coordinatool::store::redis::spill::SpillFile;

    let mut bytes = HEAD.encode();
    bytes.extend_from_slice(data);
    let length = bytes.len();
    let file = SpillFile::parse(HEAD.id, bytes).unwrap();
    assert!(file.damaged.iter().all(|(start, end)| start < end && *end <= length));
    for op in (0..file.len()).filter_map(|frame| file.op(frame)) {
        if let StoreOp::Note { .. } = op {
            continue;
        }
        let mut payload = Vec::new();
        let kind = push_payload(&op, 0, &mut payload);
        assert_eq!(decode(kind, &payload).unwrap().op, op);
    }
}

/// The stamp of a commit in redis, which whoever has access to it may have changed.
pub fn redis_stamp(data: &[u8]) {
    use coordinatool::store::redis::meta::Stamp;
    use coordinatool::store::redis::names::check_namespace;

    let text = String::from_utf8_lossy(data);
    if let Some(stamp) = Stamp::parse(&text) {
        assert_eq!(Stamp::parse(&stamp.to_string()), Some(stamp));
    }
    if check_namespace(&text).is_ok() {
        assert!(!text.contains(['\n', '\r', '\0']));
    }
}

const KINDS: [Kind; 10] = [
    Kind::Put,
    Kind::Assign,
    Kind::Unassign,
    Kind::Remove,
    Kind::Commit,
    Kind::Seal,
    Kind::CleanStop,
    Kind::Spill,
    Kind::Snapshot,
    Kind::SnapshotEnd,
];

/// Frames with good checksums around anything: a byte for the kind, two for the length, and the payload. Other kinds than there are
/// stand for bytes that are no frame.
fn frames(mut data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [kind, low, high, rest @ ..] = data {
        let length = usize::from(u16::from_le_bytes([*low, *high & 0x0f])).min(rest.len());
        let (payload, after) = rest.split_at(length);
        data = after;
        match KINDS.get(usize::from(*kind)) {
            Some(kind) => push_frame(&HEAD, (FIRST_FRAME + out.len()) as u32, *kind, payload, &mut out),
            None => {
                out.extend_from_slice(payload);
                out.resize(out.len().next_multiple_of(8), 0);
            }
        }
    }
    out
}

/// [`segment`], behind the checksums.
pub fn store_frames(data: &[u8]) {
    segment(&frames(data));
}

/// [`redis_spill`], behind the checksums.
pub fn spill_frames(data: &[u8]) {
    redis_spill(&frames(data));
}

/// What a server answers: the same values, however it comes.
pub fn redis_answers(data: &[u8]) {
    /// Gives a few bytes at a time.
    struct Parts<'a>(&'a [u8], usize);

    impl std::io::Read for Parts<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    let whole = read_all(data);
    // Each takes a byte at least, and what is in one as well.
    assert!(whole.len() <= data.len());
    let part = 1 + data.len() % 7;
    assert_eq!(read_all(Parts(data, part)), whole);
}
