//! Bytes of the embedded store: the head of a segment, the frames in it, the records in the frames. Pure.
//!
//! All numbers are little-endian. A segment starts with its head, twice, in sectors of their own, then come frames at
//! multiples of 8, then zeros. The checksums of a frame cover the segment's nonce and the frame's own place, so that neither
//! what an earlier file left on the disk nor bytes that a user passed as `hai_data` can ever be taken for a frame.

use lustreapi_sys::Fid;

use super::notes;
use crate::hsm::effect::StoreOp;
use crate::hsm::{Action, ActionItem, RequestKey};

/// Version of this layout.
pub const VERSION: u32 = 1;
/// Where the first frame is.
pub const FIRST_FRAME: usize = 1024;
/// Where the second copy of the head is: in another sector.
const SECOND_HEAD: usize = 512;
const HEAD_LEN: usize = 40;
const HEAD_MAGIC: [u8; 8] = *b"coordtJ\n";
/// Bytes of a frame before its payload.
pub const FRAME_HEAD: usize = 24;
const FRAME_MAGIC: [u8; 4] = [0xc7, b'R', b'e', 0x9c];
/// Payloads are not longer, which is more than one message of the mover protocol can hold.
pub const MAX_PAYLOAD: usize = 256 << 20;

/// What identifies a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHead {
    /// Its number. Segments are read in the order of their numbers.
    pub id: u32,
    /// A random number that is mixed into all checksums.
    pub nonce: u64,
}

/// What the head of a segment turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadFound {
    /// Good, in both copies or in one of them.
    Good(SegmentHead),
    /// Written by something newer.
    Newer(u32),
    /// Both copies are damaged.
    Bad,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

impl SegmentHead {
    /// The bytes before the first frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(FIRST_FRAME);
        head.extend_from_slice(&HEAD_MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&self.id.to_le_bytes());
        head.extend_from_slice(&self.nonce.to_le_bytes());
        head.resize(HEAD_LEN - 4, 0);
        let crc = crc32fast::hash(&head);
        head.extend_from_slice(&crc.to_le_bytes());
        let copy = head.clone();
        head.resize(SECOND_HEAD, 0);
        head.extend_from_slice(&copy);
        head.resize(FIRST_FRAME, 0);
        head
    }

    /// Reads the head of segment `id` from its first bytes.
    pub fn decode(id: u32, bytes: &[u8]) -> HeadFound {
        for start in [0, SECOND_HEAD] {
            let Some(head) = bytes.get(start..start + HEAD_LEN) else { continue };
            let good = head.starts_with(&HEAD_MAGIC)
                && u32_at(head, HEAD_LEN - 4) == Some(crc32fast::hash(&head[..HEAD_LEN - 4]));
            if !good {
                continue;
            }
            match (u32_at(head, 8), u32_at(head, 12), u64_at(head, 16)) {
                (Some(VERSION), Some(found), Some(nonce)) if found == id => {
                    return HeadFound::Good(Self { id, nonce });
                }
                (Some(version), ..) if version > VERSION => return HeadFound::Newer(version),
                _ => {}
            }
        }
        HeadFound::Bad
    }

    /// What the checksums of this segment start from.
    fn salt(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.nonce.to_le_bytes());
        hasher.update(&self.id.to_le_bytes());
        hasher.finalize()
    }
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`StoreOp::Put`], with the number of its admission.
    Put = 1,
    /// [`StoreOp::Assign`].
    Assign = 2,
    /// [`StoreOp::Unassign`].
    Unassign = 3,
    /// [`StoreOp::Remove`].
    Remove = 4,
    /// The end of what one sync made durable. No payload.
    Commit = 5,
    /// The segment is full; the next one goes on. Also ends what was made durable.
    Seal = 6,
    /// A clean stop. Also ends what was made durable.
    CleanStop = 7,
    /// What a spill was written for. Not in journals.
    Spill = 8,
    /// All requests follow that there are, between changes. Not in journals.
    Snapshot = 9,
    /// All of them were there. Not in journals.
    SnapshotEnd = 10,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Put,
            2 => Self::Assign,
            3 => Self::Unassign,
            4 => Self::Remove,
            5 => Self::Commit,
            6 => Self::Seal,
            7 => Self::CleanStop,
            8 => Self::Spill,
            9 => Self::Snapshot,
            10 => Self::SnapshotEnd,
            _ => return None,
        })
    }

    /// Whether everything before this frame in its segment was meant to be durable.
    pub fn ends_batch(self) -> bool {
        matches!(self, Self::Commit | Self::Seal | Self::CleanStop)
    }
}

/// Bytes that a frame with this payload takes.
pub fn frame_len(payload: usize) -> usize {
    (FRAME_HEAD + payload).next_multiple_of(8)
}

/// Appends a frame that will stand at `offset` of the segment.
pub fn push_frame(head: &SegmentHead, offset: u32, kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(payload.len() <= MAX_PAYLOAD && offset.is_multiple_of(8));
    let start = out.len();
    out.extend_from_slice(&FRAME_MAGIC);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&[kind as u8, 0, 0, 0]);
    out.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    let crc = head_crc(head.salt(), offset, &out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out.resize(start + frame_len(payload.len()), 0);
}

fn head_crc(salt: u32, offset: u32, head: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(&offset.to_le_bytes());
    hasher.update(&head[..16]);
    hasher.finalize()
}

/// A frame found in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameAt {
    /// Where it starts.
    pub offset: u32,
    /// Bytes of its payload.
    pub payload: u32,
    /// What it holds.
    pub kind: Kind,
}

impl FrameAt {
    /// Where the frame ends.
    pub fn end(&self) -> usize {
        self.offset as usize + frame_len(self.payload as usize)
    }
}

/// Reads the frame at `offset`, where `bytes` begin with it. Returns its description and payload if it is whole and good.
pub fn read_frame<'a>(head: &SegmentHead, offset: u32, bytes: &'a [u8]) -> Option<(FrameAt, &'a [u8])> {
    match probe(head.salt(), offset, bytes) {
        Probe::Good(frame) => Some((frame, bytes.get(FRAME_HEAD..FRAME_HEAD + frame.payload as usize)?)),
        Probe::BadPayload(_) | Probe::Nothing => None,
    }
}

enum Probe {
    Good(FrameAt),
    /// The head is good, so the end is known; the payload is not.
    BadPayload(FrameAt),
    Nothing,
}

fn probe(salt: u32, offset: u32, bytes: &[u8]) -> Probe {
    let Some(head) = bytes.get(..FRAME_HEAD) else { return Probe::Nothing };
    let (Some(payload), Some(body_crc), Some(crc)) = (u32_at(head, 4), u32_at(head, 12), u32_at(head, 16))
    else {
        return Probe::Nothing;
    };
    if !head.starts_with(&FRAME_MAGIC) || crc != head_crc(salt, offset, head) {
        return Probe::Nothing;
    }
    let Some(kind) = Kind::from_byte(head[8]) else { return Probe::Nothing };
    let frame = FrameAt { offset, payload, kind };
    match bytes.get(FRAME_HEAD..FRAME_HEAD + payload as usize) {
        Some(body) if crc32fast::hash(body) == body_crc => Probe::Good(frame),
        Some(_) => Probe::BadPayload(frame),
        None => Probe::Nothing,
    }
}

/// What a whole segment holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scan {
    /// The frames that count, in order.
    pub frames: Vec<FrameAt>,
    /// Places that are damaged though what follows shows that they were written: `(start, end)`.
    pub damaged: Vec<(usize, usize)>,
    /// Where the frames that count end.
    pub end: usize,
    /// Whether only zeros follow, so that the segment can be written further.
    pub clean_rest: bool,
}

/// Reads a segment from its first byte.
///
/// A frame that is not good is damage if a later one ends a batch (it had been made durable, or was about to be), and the
/// rest is read on. Otherwise it is where a crash cut an unfinished write: nothing from there on counts.
pub fn scan(head: &SegmentHead, bytes: &[u8]) -> Scan {
    let salt = head.salt();
    let mut frames = Vec::new();
    let mut gaps: Vec<(usize, usize)> = Vec::new();
    let mut at = FIRST_FRAME;
    while at + FRAME_HEAD <= bytes.len() {
        match probe(salt, at as u32, &bytes[at..]) {
            Probe::Good(frame) => {
                frames.push(frame);
                at = frame.end();
                continue;
            }
            Probe::BadPayload(frame) => {
                gaps.push((at, frame.end().min(bytes.len())));
                at = frame.end();
                continue;
            }
            Probe::Nothing => {}
        }
        let Some(next) = next_frame(salt, bytes, at + 8) else { break };
        gaps.push((at, next));
        at = next;
    }
    let last_end = frames.iter().rposition(|f| f.kind.ends_batch());
    let durable = last_end.map_or(FIRST_FRAME, |i| frames[i].end());
    // After the last batch that was ended only an unbroken run of frames counts.
    let cut = gaps.iter().map(|gap| gap.0).find(|start| *start >= durable).unwrap_or(usize::MAX);
    frames.retain(|f| (f.offset as usize) < cut);
    let damaged: Vec<_> = gaps.into_iter().filter(|gap| gap.0 < durable).collect();
    let end = frames.last().map_or(FIRST_FRAME, FrameAt::end).max(durable);
    let rest = bytes.get(end..).unwrap_or_default();
    Scan { frames, damaged, end, clean_rest: rest.iter().all(|b| *b == 0) }
}

/// The next place at or after `from` where the head of a frame is good.
fn next_frame(salt: u32, bytes: &[u8], from: usize) -> Option<usize> {
    let mut from = from;
    loop {
        let found = from + memchr::memmem::find(bytes.get(from..)?, &FRAME_MAGIC)?;
        if found.is_multiple_of(8) && !matches!(probe(salt, found as u32, &bytes[found..]), Probe::Nothing) {
            return Some(found);
        }
        from = found + 1;
    }
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The change.
    pub op: StoreOp,
    /// Number of the admission, for [`StoreOp::Put`]; 0 otherwise.
    pub sequence: u64,
}

/// Why a payload is not a record: it was written by something newer, or wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record of {len} bytes does not hold what its kind {kind:?} must")]
pub struct RecordError {
    kind: Kind,
    len: usize,
}

/// Bytes of a request's identity at the start of each payload.
const KEY_LEN: usize = 24;

fn push_fid(fid: Fid, out: &mut Vec<u8>) {
    out.extend_from_slice(&fid.seq.to_le_bytes());
    out.extend_from_slice(&fid.oid.to_le_bytes());
    out.extend_from_slice(&fid.ver.to_le_bytes());
}

fn fid_at(bytes: &[u8], at: usize) -> Option<Fid> {
    Some(Fid::new(u64_at(bytes, at)?, u32_at(bytes, at + 8)?, u32_at(bytes, at + 12)?))
}

/// The request that a payload is about.
pub fn key_of(payload: &[u8]) -> Option<RequestKey> {
    Some(RequestKey { cookie: u64_at(payload, 0)?, fid: fid_at(payload, 8)? })
}

/// The number of the admission in the payload of a [`Kind::Put`].
pub fn sequence_of(payload: &[u8]) -> Option<u64> {
    u64_at(payload, KEY_LEN)
}

/// Appends the payload of a change and returns its kind.
pub fn push_payload(op: &StoreOp, sequence: u64, out: &mut Vec<u8>) -> Kind {
    let mut key = |key: &RequestKey| {
        out.extend_from_slice(&key.cookie.to_le_bytes());
        push_fid(key.fid, out);
    };
    match op {
        StoreOp::Put(item) => {
            key(&item.key());
            out.extend_from_slice(&sequence.to_le_bytes());
            push_fid(item.dfid, out);
            for word in [item.extent_offset, item.extent_length, item.gid, item.flags, item.timestamp as u64]
            {
                out.extend_from_slice(&word.to_le_bytes());
            }
            for word in [item.action.hsma(), item.archive_id, item.data.len() as u32, item.extra.len() as u32]
            {
                out.extend_from_slice(&word.to_le_bytes());
            }
            out.extend_from_slice(&item.data);
            out.extend_from_slice(item.extra.as_bytes());
            Kind::Put
        }
        StoreOp::Assign { key: of, mover } => {
            key(of);
            out.extend_from_slice(mover.as_bytes());
            Kind::Assign
        }
        StoreOp::Unassign { key: of } => {
            key(of);
            Kind::Unassign
        }
        StoreOp::Note { name, value } => push_payload(&notes::to_op(name, value.as_deref()), sequence, out),
        StoreOp::Remove { key: of } => {
            key(of);
            Kind::Remove
        }
    }
}

/// Upper bound of the payload of a change.
pub fn payload_len(op: &StoreOp) -> usize {
    match op {
        StoreOp::Put(item) => KEY_LEN + 8 + 16 + 5 * 8 + 4 * 4 + item.data.len() + item.extra.len(),
        StoreOp::Assign { mover, .. } => KEY_LEN + mover.len(),
        StoreOp::Unassign { .. } | StoreOp::Remove { .. } => KEY_LEN,
        StoreOp::Note { name, value } => payload_len(&notes::to_op(name, value.as_deref())),
    }
}

/// Reads a payload. Kinds without one are errors.
pub fn decode(kind: Kind, payload: &[u8]) -> Result<Record, RecordError> {
    parse(kind, payload).ok_or(RecordError { kind, len: payload.len() })
}

fn parse(kind: Kind, payload: &[u8]) -> Option<Record> {
    let key = key_of(payload)?;
    let rest = payload.get(KEY_LEN..)?;
    let op = match kind {
        Kind::Put => return parse_put(key, rest),
        Kind::Assign => StoreOp::Assign { key, mover: std::str::from_utf8(rest).ok()?.to_owned() },
        Kind::Unassign if rest.is_empty() => StoreOp::Unassign { key },
        Kind::Remove if rest.is_empty() => StoreOp::Remove { key },
        _ => return None,
    };
    Some(Record { op, sequence: 0 })
}

fn parse_put(key: RequestKey, rest: &[u8]) -> Option<Record> {
    const FIXED: usize = 8 + 16 + 5 * 8 + 4 * 4;
    let data_len = u32_at(rest, 72)? as usize;
    let extra_len = u32_at(rest, 76)? as usize;
    let data_end = FIXED.checked_add(data_len)?;
    let data = rest.get(FIXED..data_end)?;
    let extra = rest.get(data_end..)?;
    if extra.len() != extra_len {
        return None;
    }
    let item = ActionItem {
        action: Action::from_hsma(u32_at(rest, 64)?)?,
        fid: key.fid,
        dfid: fid_at(rest, 8)?,
        extent_offset: u64_at(rest, 24)?,
        extent_length: u64_at(rest, 32)?,
        cookie: key.cookie,
        gid: u64_at(rest, 40)?,
        archive_id: u32_at(rest, 68)?,
        flags: u64_at(rest, 48)?,
        data: data.into(),
        timestamp: u64_at(rest, 56)? as i64,
        extra: std::str::from_utf8(extra).ok()?.into(),
    };
    Some(Record { op: StoreOp::Put(item), sequence: u64_at(rest, 0)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(data: &[u8]) -> ActionItem {
        ActionItem {
            action: Action::Restore,
            fid: Fid::new(u64::MAX, 2, 3),
            dfid: Fid::new(4, 5, u32::MAX),
            extent_offset: 6,
            extent_length: u64::MAX,
            cookie: 7,
            gid: 8,
            archive_id: 9,
            flags: 10,
            data: data.into(),
            timestamp: i64::MAX,
            extra: "\"x\":1".into(),
        }
    }

    fn ops() -> Vec<StoreOp> {
        let key = item(b"").key();
        vec![
            StoreOp::Put(item(b"\xfftag=\0")),
            StoreOp::Assign { key, mover: "m\u{e9}".into() },
            StoreOp::Unassign { key },
            StoreOp::Remove { key },
        ]
    }

    #[test]
    fn records_round_trip_and_no_cut_one_is_taken() {
        for op in ops() {
            let mut payload = Vec::new();
            let kind = push_payload(&op, 77, &mut payload);
            assert_eq!(payload.len(), payload_len(&op));
            let record = decode(kind, &payload).unwrap();
            assert_eq!(record.op, op);
            assert_eq!(key_of(&payload), Some(item(b"").key()));
            if kind == Kind::Put {
                assert_eq!((record.sequence, sequence_of(&payload)), (77, Some(77)));
            }
            for cut in 0..payload.len() {
                let short = decode(kind, &payload[..cut]);
                // A mover's id is all that may be shorter.
                assert_eq!(
                    short.is_ok(),
                    kind == Kind::Assign && (cut == 24 || cut == 25),
                    "{kind:?} cut at {cut}"
                );
            }
        }
        assert!(decode(Kind::Commit, &[0; 24]).is_err());
    }

    #[test]
    fn heads_survive_one_damaged_copy() {
        let head = SegmentHead { id: 5, nonce: 99 };
        let bytes = head.encode();
        assert_eq!(bytes.len(), FIRST_FRAME);
        for at in 0..FIRST_FRAME {
            let mut bad = bytes.clone();
            bad[at] ^= 0x40;
            assert_eq!(SegmentHead::decode(5, &bad), HeadFound::Good(head), "byte {at}");
        }
        assert_eq!(SegmentHead::decode(6, &bytes), HeadFound::Bad);
        assert_eq!(SegmentHead::decode(5, &bytes[..20]), HeadFound::Bad);
        assert_eq!(SegmentHead::decode(5, &[0; FIRST_FRAME]), HeadFound::Bad);
        let mut newer = bytes;
        for start in [0, SECOND_HEAD] {
            newer[start + 8] = 2;
            let crc = crc32fast::hash(&newer[start..start + HEAD_LEN - 4]);
            newer[start + HEAD_LEN - 4..start + HEAD_LEN].copy_from_slice(&crc.to_le_bytes());
        }
        assert_eq!(SegmentHead::decode(5, &newer), HeadFound::Newer(2));
    }

    /// A segment with all records, each batch ended, and room behind.
    fn segment(head: &SegmentHead) -> (Vec<u8>, usize) {
        let mut bytes = head.encode();
        for op in ops() {
            let mut payload = Vec::new();
            let kind = push_payload(&op, 1, &mut payload);
            let at = bytes.len() as u32;
            push_frame(head, at, kind, &payload, &mut bytes);
            let at = bytes.len() as u32;
            push_frame(head, at, Kind::Commit, b"", &mut bytes);
        }
        let end = bytes.len();
        bytes.resize(end + 256, 0);
        (bytes, end)
    }

    #[test]
    fn a_damaged_byte_costs_at_most_one_frame() {
        let head = SegmentHead { id: 1, nonce: 2 };
        let (bytes, end) = segment(&head);
        let whole = scan(&head, &bytes);
        assert_eq!((whole.frames.len(), whole.end, whole.clean_rest), (8, end, true));
        assert!(whole.damaged.is_empty());
        for at in FIRST_FRAME..end {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let found = scan(&head, &bad);
            let lost = whole.frames.iter().filter(|f| !found.frames.contains(f)).count();
            assert!(lost <= 1 && found.frames.len() + lost == 8, "byte {at}: {found:?}");
            // All but the last frame were followed by the end of a batch.
            let in_last = at >= whole.frames[7].offset as usize;
            assert_eq!(found.damaged.len(), usize::from(lost == 1 && !in_last), "byte {at}");
        }
    }

    #[test]
    fn an_unfinished_write_ends_the_segment() {
        let head = SegmentHead { id: 1, nonce: 2 };
        let (bytes, end) = segment(&head);
        let whole = scan(&head, &bytes);
        for cut in FIRST_FRAME..end {
            let mut torn = bytes.clone();
            torn[cut..].fill(0);
            let found = scan(&head, &torn);
            assert!(found.damaged.is_empty(), "cut at {cut}");
            assert!(whole.frames.starts_with(&found.frames), "cut at {cut}");
            // Zeros at the end of a payload may be missing and equal what was there.
            assert!(found.frames.iter().all(|f| torn[..f.end()] == bytes[..f.end()]));
        }
    }

    /// `hai_data` that looks like frames, inside of a damaged record.
    #[test]
    fn data_is_never_taken_for_a_frame() {
        let head = SegmentHead { id: 1, nonce: 2 };
        let mut fake = Vec::new();
        for offset in (FIRST_FRAME as u32..FIRST_FRAME as u32 + 512).step_by(8) {
            // The attacker knows all but the nonce.
            push_frame(&SegmentHead { id: 1, nonce: 3 }, offset, Kind::Commit, b"", &mut fake);
        }
        let mut payload = Vec::new();
        let kind = push_payload(&StoreOp::Put(item(&fake)), 1, &mut payload);
        let mut bytes = head.encode();
        push_frame(&head, FIRST_FRAME as u32, kind, &payload, &mut bytes);
        let at = bytes.len() as u32;
        push_frame(&head, at, Kind::Commit, b"", &mut bytes);
        for damaged in [FIRST_FRAME + 5, FIRST_FRAME + 40] {
            let mut bad = bytes.clone();
            bad[damaged] ^= 0xff;
            let found = scan(&head, &bad);
            assert_eq!(found.frames.len(), 1, "only the real end of the batch");
            assert_eq!(found.damaged, [(FIRST_FRAME, at as usize)]);
        }
    }
}
