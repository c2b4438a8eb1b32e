//! The journal of the embedded store: what happened, in order, in segments of fixed size.
//!
//! A record is written once at the end of the newest segment. Of each request the index keeps only where its records are.
//! Segments are cleaned strictly from the oldest on: what still counts in it is written again at the end, a slice at each
//! sync, and once that is durable the segment is deleted. As nothing older is left then, a deleted segment's removals are
//! not missed by anything.
//!
//! The next segment is always made beforehand, and one more that cleaning needs to go on. When that fails the disk is full:
//! new requests are refused, and what becomes of the known ones goes into the room that there still is.

mod cleaning;
mod index;
mod recovery;
mod room;

use std::collections::VecDeque;
use std::io;

use self::cleaning::Cleaner;
use self::index::{Location, Requests};
use super::StoreError;
use super::record::{self, FIRST_FRAME, FRAME_HEAD, FrameAt, Kind, SegmentHead, frame_len};
use super::segments::{Segments, is_full};
use crate::hsm::RequestKey;
use crate::hsm::effect::StoreOp;

/// Room that each segment keeps for the frames that end it.
const END_ROOM: usize = 4 * FRAME_HEAD;
/// Unsynced bytes kept in memory; beyond, they are synced without being asked for.
const PENDING_BYTES: usize = 8 << 20;

/// What can be chosen.
#[derive(Debug, Clone, Copy)]
pub struct JournalOptions {
    /// Bytes of a segment; more for one that must hold a larger record.
    pub segment_bytes: u32,
    /// Random bits for the nonces of segments.
    pub seed: u64,
}

impl Location {
    fn of(segment: u32, frame: &FrameAt) -> Self {
        Self { segment, offset: frame.offset, payload: frame.payload }
    }

    fn bytes(&self) -> u64 {
        frame_len(self.payload as usize) as u64
    }
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    head: SegmentHead,
    size: u32,
    /// Where its frames end.
    end: u32,
    /// Frames that count, and their bytes.
    live: u32,
    live_bytes: u64,
}

/// The journal on some disk.
#[derive(Debug)]
pub struct Journal<S> {
    disk: S,
    options: JournalOptions,
    index: Requests,
    /// Oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    /// Made beforehand, empty, with higher numbers than all others, in their order.
    spares: VecDeque<Segment>,
    /// Frames of the last segment that are not durable yet, up to its end.
    pending: Vec<u8>,
    next_sequence: u64,
    next_id: u32,
    cleaner: Option<Cleaner>,
    /// Bytes appended since the last step of cleaning.
    appended: usize,
    /// The longest frame of a record that was seen: so much may be lost at the end of a segment.
    longest: usize,
    /// Whether the want of room was logged.
    is_full: bool,
    payload: Vec<u8>,
}

impl<S: Segments> Journal<S> {
    /// A journal that has not been read yet: [`Journal::recover`] comes first.
    pub fn new(disk: S, options: JournalOptions) -> Self {
        let least = (FIRST_FRAME + END_ROOM + 256) as u32;
        let options = JournalOptions { segment_bytes: options.segment_bytes.max(least), ..options };
        Self {
            disk,
            options,
            index: Requests::new(),
            segments: VecDeque::new(),
            spares: VecDeque::new(),
            pending: Vec::new(),
            next_sequence: 1,
            next_id: 1,
            cleaner: None,
            appended: 0,
            longest: 0,
            is_full: false,
            payload: Vec::new(),
        }
    }

    /// The disk below.
    pub fn disk(&self) -> &S {
        &self.disk
    }

    /// The disk below, to inject faults.
    pub fn disk_mut(&mut self) -> &mut S {
        &mut self.disk
    }

    /// Takes the disk out.
    pub fn into_disk(self) -> S {
        self.disk
    }

    /// Requests that are stored.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no request is stored.
    pub fn is_empty(&self) -> bool {
        self.index.len() == 0
    }

    /// Whether a request is stored, or will be by the next sync.
    pub fn holds(&self, key: &RequestKey) -> bool {
        self.index.contains(key)
    }

    /// For logs.
    pub fn describe(&self) -> String {
        format!("embedded store {}", self.disk.describe())
    }

    fn io(&self, context: &str) -> impl FnOnce(io::Error) -> StoreError + use<S> {
        let (store, context) = (self.describe(), context.to_owned());
        move |source| {
            if is_full(&source) {
                StoreError::Full { store, source }
            } else {
                StoreError::Io { store, context, source }
            }
        }
    }

    // The index and what counts in each segment.

    fn account(&mut self, location: &Location, alive: bool) {
        let Ok(at) = self.segments.binary_search_by_key(&location.segment, |s| s.head.id) else { return };
        let segment = &mut self.segments[at];
        if alive {
            self.longest = self.longest.max(location.bytes() as usize);
            segment.live += 1;
            segment.live_bytes += location.bytes();
        } else {
            segment.live -= 1;
            segment.live_bytes -= location.bytes();
        }
    }

    fn note_put(&mut self, key: RequestKey, sequence: u64, put: Location) {
        self.account(&put, true);
        if let Some(old) = self.index.set_put(key, sequence, put) {
            self.account(&old, false);
        }
    }

    fn note_assign(&mut self, key: &RequestKey, assign: Option<Location>) {
        let Some(old) = self.index.set_assign(key, assign) else { return };
        if let Some(location) = &assign {
            self.account(location, true);
        }
        if let Some(location) = &old {
            self.account(location, false);
        }
    }

    fn forget(&mut self, key: &RequestKey) {
        let Some(entry) = self.index.remove(key) else { return };
        for location in [entry.put, entry.assign].iter().flatten() {
            self.account(location, false);
        }
    }

    // Appending.

    /// Takes operations, all or none. What concerns a request that is not stored (it was refused for want of room) is
    /// passed over.
    pub fn append(&mut self, ops: &[StoreOp]) -> Result<(), StoreError> {
        let new_requests = ops.iter().any(|op| matches!(op, StoreOp::Put(_)));
        let mut needed = 0;
        for op in ops {
            let key = op_key(op);
            let payload = record::payload_len(op);
            if payload > record::MAX_PAYLOAD {
                let reason = format!("its record of {payload} bytes is too long");
                return Err(StoreError::Unstorable { store: self.describe(), key, reason });
            }
            if new_requests || self.index.contains(&key) {
                needed += frame_len(payload);
            }
        }
        if needed == 0 {
            return Ok(());
        }
        self.make_room(needed, new_requests)?;
        for op in ops {
            self.write_op(op);
        }
        self.appended += needed;
        if self.pending.len() > PENDING_BYTES {
            // The operations are taken all the same: a later sync tries again.
            let _ = self.flush(Kind::Commit);
        }
        Ok(())
    }

    fn write_op(&mut self, op: &StoreOp) {
        let key = op_key(op);
        let known = self.index.get(&key);
        if known.is_none() && !matches!(op, StoreOp::Put(_)) {
            return;
        }
        if matches!(op, StoreOp::Unassign { .. }) && known.is_some_and(|entry| entry.assign.is_none()) {
            return;
        }
        let sequence = known.map_or(self.next_sequence, |entry| entry.sequence);
        self.next_sequence = self.next_sequence.max(sequence + 1);
        let mut payload = std::mem::take(&mut self.payload);
        payload.clear();
        let kind = record::push_payload(op, sequence, &mut payload);
        let location = self.push(kind, &payload);
        self.payload = payload;
        match kind {
            Kind::Put => self.note_put(key, sequence, location),
            Kind::Assign => self.note_assign(&key, Some(location)),
            Kind::Unassign => self.note_assign(&key, None),
            _ => self.forget(&key),
        }
    }

    /// Appends a frame to the last segment, for which there must be room.
    fn push(&mut self, kind: Kind, payload: &[u8]) -> Location {
        let Some(segment) = self.segments.back_mut() else { unreachable!("room was made before") };
        let offset = segment.end;
        record::push_frame(&segment.head, offset, kind, payload, &mut self.pending);
        segment.end += frame_len(payload.len()) as u32;
        assert!(segment.end <= segment.size, "room was made before");
        Location { segment: segment.head.id, offset, payload: payload.len() as u32 }
    }

    /// Makes everything appended so far durable. After a failure everything is still there, and is written again by the
    /// next call: nothing is assumed of what a failed sync left on the disk.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if !self.pending.is_empty() {
            self.flush(Kind::Commit)?;
        }
        self.clean();
        Ok(())
    }

    fn flush(&mut self, end: Kind) -> Result<(), StoreError> {
        let Some(before) = self.segments.back().copied() else { return Ok(()) };
        let kept = self.pending.len();
        self.push(end, &[]);
        let start = before.end - kept as u32;
        let id = before.head.id;
        let written = self.disk.write(id, start, &self.pending).and_then(|()| self.disk.sync(id));
        if let Err(error) = written {
            self.pending.truncate(kept);
            if let Some(segment) = self.segments.back_mut() {
                segment.end = before.end;
            }
            return Err(self.io(&format!("cannot write segment {id}"))(error));
        }
        self.pending.clear();
        self.pending.shrink_to(1 << 20);
        Ok(())
    }

    fn flush_pending(&mut self) -> Result<(), StoreError> {
        if self.pending.is_empty() { Ok(()) } else { self.flush(Kind::Commit) }
    }

    /// Makes everything durable and notes a clean stop.
    pub fn close(&mut self) -> Result<(), StoreError> {
        if self.segments.back().is_some_and(|s| (s.size - s.end) as usize >= FRAME_HEAD) {
            self.flush(Kind::CleanStop)?;
        }
        Ok(())
    }
}

fn op_key(op: &StoreOp) -> RequestKey {
    match op {
        StoreOp::Put(item) => item.key(),
        StoreOp::Assign { key, .. } | StoreOp::Unassign { key } | StoreOp::Remove { key } => *key,
        StoreOp::Note { name, .. } => super::notes::key(name),
    }
}
