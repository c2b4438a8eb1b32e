//! The journal of the embedded store: what happened, in order, in segments of fixed size.
//!
//! A record is written once at the end of the newest segment. Of each request the index keeps only where its records are.
//! Segments are cleaned strictly from the oldest on: what still counts in it is written again at the end, a slice at each
//! sync, and once that is durable the segment is deleted. As nothing older is left then, a deleted segment's removals are
//! not missed by anything.
//!
//! The next segment is always made beforehand, and one more that cleaning needs to go on. When that fails the disk is full:
//! new requests are refused, and what becomes of the known ones goes into the room that there still is.

use std::collections::VecDeque;
use std::io;

use tracing::{error, info, warn};

use super::index::{Location, Requests};
use super::record::{self, FIRST_FRAME, FRAME_HEAD, FrameAt, HeadFound, Kind, SegmentHead, frame_len};
use super::segments::{Segments, is_full};
use super::{Recovery, StoreError};
use crate::hsm::effect::StoreOp;
use crate::hsm::{ActionItem, RequestKey};

/// Room that each segment keeps for the frames that end it.
const END_ROOM: usize = 4 * FRAME_HEAD;
/// Unsynced bytes kept in memory; beyond, they are synced without being asked for.
const PENDING_BYTES: usize = 8 << 20;
/// Bytes that one step of cleaning handles at least and at most.
const CLEAN_STEP: (usize, usize) = (64 << 10, 4 << 20);
/// Empty segments that are kept ready while new requests are taken.
const SPARES: usize = 2;
/// Steps of cleaning in which room is looked for at once: what ends meanwhile waits for them.
const ROOM_STEPS: usize = 8;
/// Bytes read at once when requests are handed out at start.
const WINDOW: usize = 256 << 10;

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

/// A segment being cleaned: the oldest one.
#[derive(Debug)]
struct Cleaner {
    bytes: Vec<u8>,
    frames: Vec<FrameAt>,
    next: usize,
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

    // Recovery.

    /// Reads everything and hands out the requests that have not ended, in the order of their admission.
    pub fn recover(
        &mut self,
        found: &mut dyn FnMut(ActionItem, Option<String>),
    ) -> Result<Recovery, StoreError> {
        let mut recovery = Recovery::default();
        let mut replay = Replay::default();
        let ids = self.disk.list().map_err(self.io("cannot list segments"))?;
        for id in ids {
            self.next_id = id.saturating_add(1);
            self.replay(id, &mut replay, &mut recovery)?;
        }
        for key in &replay.orphans {
            // The request itself was in a damaged place.
            if self.index.get(key).is_some_and(|entry| entry.put.is_none()) {
                self.forget(key);
            }
        }
        self.settle_segments(&replay.rests)?;
        replay.puts.sort_unstable();
        self.hand_out(&replay.puts, &mut recovery, found)?;
        let store = self.describe();
        let clean_stop = replay.last.is_none_or(|kind| kind == Kind::CleanStop);
        info!(store, requests = recovery.requests, clean_stop, "journal read");
        self.refill();
        Ok(recovery)
    }

    /// Reads one segment.
    fn replay(&mut self, id: u32, replay: &mut Replay, recovery: &mut Recovery) -> Result<(), StoreError> {
        let (bytes, readable) = self.read_segment(id)?;
        let head = match SegmentHead::decode(id, &bytes) {
            HeadFound::Good(head) => head,
            HeadFound::Newer(version) => {
                return Err(StoreError::Incompatible {
                    store: self.describe(),
                    reason: format!(
                        "segment {id} has version {version}, this program knows up to {}; use the newer program, or \
                         move the directory away",
                        record::VERSION
                    ),
                });
            }
            HeadFound::Bad => {
                if self.set_aside(id, 0, &bytes, recovery) {
                    self.disk.remove(id).map_err(self.io("cannot remove a damaged segment"))?;
                }
                return Ok(());
            }
        };
        let scan = record::scan(&head, &bytes);
        for (start, end) in &scan.damaged {
            self.set_aside(id, *start, &bytes[*start..*end], recovery);
        }
        let size = bytes.len() as u32;
        self.segments.push_back(Segment { head, size, end: scan.end as u32, live: 0, live_bytes: 0 });
        replay.rests.push(match (readable, scan.clean_rest) {
            (false, _) => Rest::Unreadable,
            (true, false) => Rest::Unfinished,
            (true, true) => Rest::Empty,
        });
        for frame in &scan.frames {
            let start = frame.offset as usize + FRAME_HEAD;
            self.apply(id, frame, &bytes[start..start + frame.payload as usize], replay);
            replay.last = Some(frame.kind);
        }
        if !scan.clean_rest {
            info!(store = self.describe(), id, at = scan.end, "an unfinished write ends this segment");
        }
        Ok(())
    }

    /// Brings the index up to date with one frame that was read.
    fn apply(&mut self, id: u32, frame: &FrameAt, payload: &[u8], replay: &mut Replay) {
        let Some(key) = record::key_of(payload) else { return };
        let location = Location::of(id, frame);
        match frame.kind {
            Kind::Put => {
                let Some(sequence) = record::sequence_of(payload) else { return };
                // A new admission starts anew; otherwise the record was only moved, or replaced.
                if self.index.get(&key).is_some_and(|e| e.put.is_some() && e.sequence != sequence) {
                    self.forget(&key);
                }
                self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
                self.note_put(key, sequence, location);
                replay.puts.push((sequence, location));
            }
            Kind::Assign => {
                if self.index.add_unknown(key) {
                    replay.orphans.push(key);
                }
                self.note_assign(&key, Some(location));
            }
            Kind::Unassign => self.note_assign(&key, None),
            Kind::Remove => self.forget(&key),
            _ => {}
        }
    }

    /// Keeps a damaged piece and reports it, once. Returns whether it is kept.
    fn set_aside(&mut self, id: u32, offset: usize, bytes: &[u8], recovery: &mut Recovery) -> bool {
        let name = format!("quarantine-{id:08x}-{offset:08x}");
        let end = offset + bytes.len();
        let what = if offset == 0 { "its head is damaged" } else { "a record is damaged" };
        let place = format!("segment {id}, bytes {offset} to {end}: {what}");
        let (report, kept) = match self.disk.quarantine(&name, bytes) {
            Ok(false) => return true,
            Ok(true) => (format!("{place}; kept in {name}"), true),
            Err(error) => (format!("{place}; cannot be kept: {error}"), false),
        };
        error!(store = self.describe(), "{report}");
        recovery.quarantined.push(report);
        kept
    }

    /// Decides which segment is written to next: the last one with frames, unless something is left behind them, which
    /// must never be taken for written later. `rests` says so of each segment.
    fn settle_segments(&mut self, rests: &[Rest]) -> Result<(), StoreError> {
        while self.segments.back().is_some_and(|s| s.end as usize == FIRST_FRAME)
            && rests.get(self.segments.len() - 1) == Some(&Rest::Empty)
        {
            self.spares.extend(self.segments.pop_back());
        }
        self.spares.make_contiguous().reverse();
        let rest = self.segments.len().checked_sub(1).and_then(|last| rests.get(last));
        if rest == Some(&Rest::Empty) {
            return Ok(());
        }
        match self.make_spares(SPARES + 1) {
            Ok(()) | Err(StoreError::Full { .. }) => {}
            Err(error) => return Err(error),
        }
        // Where there is no room for another one, none is given up for a write that was cut.
        if self.spares.len() <= SPARES && rest == Some(&Rest::Unfinished) && self.wipe_rest().is_ok() {
            return Ok(());
        }
        match self.spares.pop_front() {
            Some(spare) => self.segments.push_back(spare),
            // Nothing can be written until there is room.
            None => self.segments.back_mut().into_iter().for_each(|last| last.size = last.end),
        }
        Ok(())
    }

    /// Makes the last segment as if nothing had ever been behind its frames. None of that counts now, nor does any part of it
    /// if this is cut: what is there begins with something that is no frame, and ends no batch.
    fn wipe_rest(&mut self) -> Result<(), StoreError> {
        let Some(last) = self.segments.back().copied() else { return Ok(()) };
        let zeros = vec![0; (last.size - last.end) as usize];
        let id = last.head.id;
        let wiped = self.disk.write(id, last.end, &zeros).and_then(|()| self.disk.sync(id));
        wiped.map_err(self.io(&format!("cannot write segment {id}")))
    }

    fn hand_out(
        &mut self,
        puts: &[(u64, Location)],
        recovery: &mut Recovery,
        found: &mut dyn FnMut(ActionItem, Option<String>),
    ) -> Result<(), StoreError> {
        let (mut put_window, mut assign_window) = (Window::default(), Window::default());
        for (_, location) in puts {
            let put = self.fetch(location, &mut put_window)?;
            let Some(key) = put.and_then(record::key_of) else { continue };
            let Some(entry) = self.index.get(&key).filter(|entry| entry.put == Some(*location)) else {
                continue;
            };
            let put = self.fetch(location, &mut put_window)?.unwrap_or_default();
            let item = match record::decode(Kind::Put, put) {
                Ok(record::Record { op: StoreOp::Put(item), .. }) => item,
                _ => {
                    let bytes = put.to_vec();
                    self.set_aside(location.segment, location.offset as usize, &bytes, recovery);
                    self.forget(&key);
                    continue;
                }
            };
            let mut mover = None;
            if let Some(assign) = entry.assign {
                let payload = self.fetch(&assign, &mut assign_window)?.unwrap_or_default();
                match record::decode(Kind::Assign, payload) {
                    Ok(record::Record { op: StoreOp::Assign { mover: name, .. }, .. }) => mover = Some(name),
                    _ => {
                        let bytes = payload.to_vec();
                        self.set_aside(assign.segment, assign.offset as usize, &bytes, recovery);
                        self.note_assign(&key, None);
                    }
                }
            }
            recovery.requests += 1;
            found(item, mover);
        }
        Ok(())
    }

    /// The payload at a location.
    fn fetch<'w>(
        &mut self,
        location: &Location,
        window: &'w mut Window,
    ) -> Result<Option<&'w [u8]>, StoreError> {
        let len = FRAME_HEAD + location.payload as usize;
        if window.get(location, len).is_none() {
            let context = format!("cannot read segment {}", location.segment);
            window.bytes = vec![0; len.max(WINDOW)];
            let mut read = self.disk.read(location.segment, location.offset, &mut window.bytes);
            if read.is_err() {
                // Something behind it may be on a bad sector: the frame itself could be read before.
                window.bytes.truncate(len);
                read = self.disk.read(location.segment, location.offset, &mut window.bytes);
            }
            let count = read.map_err(self.io(&context))?;
            window.bytes.truncate(count);
            (window.segment, window.start) = (location.segment, location.offset);
        }
        Ok(window.get(location, len).and_then(|frame| frame.get(FRAME_HEAD..)))
    }

    /// All bytes of a segment, and whether all could be read. Those that could not are zero, so that what they held is
    /// found damaged and the rest is not lost with it.
    fn read_segment(&mut self, id: u32) -> Result<(Vec<u8>, bool), StoreError> {
        const PAGE: usize = 4096;
        let size = self.disk.size(id).map_err(self.io(&format!("cannot look at segment {id}")))?;
        let mut bytes = vec![0; size as usize];
        match self.disk.read(id, 0, &mut bytes) {
            Ok(count) => {
                bytes.truncate(count);
                return Ok((bytes, true));
            }
            Err(error) => error!(store = self.describe(), id, %error, "a segment cannot be read as a whole"),
        }
        for (i, page) in bytes.chunks_mut(PAGE).enumerate() {
            if self.disk.read(id, (i * PAGE) as u32, page).is_err() {
                page.fill(0);
            }
        }
        Ok((bytes, false))
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
        if !self.index.contains(key) {
            return;
        }
        let old = self.index.set_assign(key, assign);
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

    /// Bytes that records may still take in the last segment.
    fn free(&self) -> usize {
        self.segments.back().map_or(0, |s| ((s.size - s.end) as usize).saturating_sub(END_ROOM))
    }

    fn make_room(&mut self, bytes: usize, new_requests: bool) -> Result<(), StoreError> {
        if new_requests {
            self.make_spares(SPARES)?;
        }
        if self.free() >= bytes {
            return Ok(());
        }
        let size = FIRST_FRAME + bytes + END_ROOM;
        let size = u32::try_from(size).map_err(|_| StoreError::Io {
            store: self.describe(),
            context: "cannot store so much at once".to_owned(),
            source: io::ErrorKind::InvalidInput.into(),
        })?;
        while let Some(spare) = self.spares.front().filter(|spare| spare.size < size) {
            // Its number is lower than that of the larger one to come.
            let id = spare.head.id;
            self.disk.remove(id).map_err(self.io("cannot remove an empty segment"))?;
            self.spares.pop_front();
        }
        if self.spares.is_empty() {
            let larger = self.create(size.max(self.options.segment_bytes))?;
            self.spares.push_back(larger);
        }
        self.rotate()
    }

    /// Ends the last segment and goes on in a spare one, which must be there.
    fn rotate(&mut self) -> Result<(), StoreError> {
        if self.segments.back().is_some_and(|s| (s.size - s.end) as usize >= FRAME_HEAD) {
            self.flush(Kind::Seal)?;
        }
        debug_assert!(self.pending.is_empty() && !self.spares.is_empty());
        self.segments.extend(self.spares.pop_front());
        self.refill();
        Ok(())
    }

    /// Makes spare segments if there is room; says so once when there is none, and once when there is again.
    fn refill(&mut self) {
        let full = self.make_spares(SPARES).is_err();
        if full != std::mem::replace(&mut self.is_full, full) {
            let store = self.describe();
            if full {
                let needs = self.options.segment_bytes;
                warn!(store, needs, "no room for another segment of so many bytes: new requests cannot be stored");
            } else {
                info!(store, "there is room again");
            }
        }
    }

    fn make_spares(&mut self, count: usize) -> Result<(), StoreError> {
        while self.spares.len() < count {
            let spare = self.create(self.options.segment_bytes)?;
            self.spares.push_back(spare);
        }
        Ok(())
    }

    fn create(&mut self, size: u32) -> Result<Segment, StoreError> {
        let id = self.next_id;
        // Neighbouring numbers give unrelated nonces.
        let nonce = (self.options.seed ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let head = SegmentHead { id, nonce };
        self.disk.create(id, size, &head.encode()).map_err(self.io("cannot make a segment"))?;
        self.next_id = id.saturating_add(1);
        Ok(Segment { head, size, end: FIRST_FRAME as u32, live: 0, live_bytes: 0 })
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

    /// Whether new requests can be stored. Tries to make room where there is none.
    pub fn has_room(&mut self) -> bool {
        for _ in 0..ROOM_STEPS {
            self.refill();
            if !self.is_full {
                return true;
            }
            let idle = self.cleaner.is_none() && !self.wants_cleaning();
            if idle || self.flush_pending().is_err() || self.clean_step(CLEAN_STEP.1).is_err() {
                return false;
            }
        }
        false
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

    // Cleaning.

    /// One step of cleaning, after everything was synced.
    fn clean(&mut self) {
        let budget = (4 * std::mem::take(&mut self.appended)).clamp(CLEAN_STEP.0, CLEAN_STEP.1);
        if let Err(error) = self.clean_step(budget) {
            warn!(store = self.describe(), %error, "cannot clean the oldest segment now");
        }
    }

    fn clean_step(&mut self, budget: usize) -> Result<(), StoreError> {
        let mut cleaner = match self.cleaner.take() {
            Some(cleaner) => cleaner,
            None if self.wants_cleaning() => match self.start_cleaning()? {
                Some(cleaner) => cleaner,
                None => return Ok(()),
            },
            None => return Ok(()),
        };
        if cleaner.next == cleaner.frames.len() {
            // The last step's records have been synced since.
            return self.drop_oldest();
        }
        let moved = self.move_records(&mut cleaner, budget);
        self.cleaner = Some(cleaner);
        moved
    }

    fn wants_cleaning(&self) -> bool {
        let Some(oldest) = self.segments.front().filter(|_| self.segments.len() > 1) else { return false };
        if oldest.live == 0 {
            return true;
        }
        let live: u64 = self.segments.iter().map(|s| s.live_bytes).sum();
        let used: u64 = self.segments.iter().map(|s| u64::from(s.size) - FIRST_FRAME as u64).sum();
        let segment = u64::from(self.options.segment_bytes) - FIRST_FRAME as u64;
        if self.spares.len() < SPARES {
            // Full: worth it if all that counts certainly needs a segment less, and if there is room to move to. Anything
            // weaker would move the same records round and round. What ends batches takes a little.
            let room = !self.spares.is_empty() || oldest.live_bytes <= self.free() as u64;
            let lost = self.segments.len() * (END_ROOM + self.longest) + used as usize / 64;
            return room && used >= live + segment + lost as u64;
        }
        used > 2 * live + 3 * segment
    }

    fn start_cleaning(&mut self) -> Result<Option<Cleaner>, StoreError> {
        let Some(oldest) = self.segments.front().copied() else { return Ok(None) };
        if oldest.live == 0 {
            return self.drop_oldest().map(|()| None);
        }
        let (bytes, _) = self.read_segment(oldest.head.id)?;
        let frames = record::scan(&oldest.head, &bytes).frames;
        Ok(Some(Cleaner { bytes, frames, next: 0 }))
    }

    /// Writes again what still counts, about `budget` bytes of it.
    fn move_records(&mut self, cleaner: &mut Cleaner, budget: usize) -> Result<(), StoreError> {
        let Some(oldest) = self.segments.front().copied() else { return Ok(()) };
        let mut done = 0;
        while let Some(frame) = cleaner.frames.get(cleaner.next).filter(|_| done < budget) {
            // Looking at a record that is dead costs something too.
            done += FRAME_HEAD;
            let start = frame.offset as usize + FRAME_HEAD;
            let payload = &cleaner.bytes[start..start + frame.payload as usize];
            let location = Location::of(oldest.head.id, frame);
            let entry = record::key_of(payload).and_then(|key| Some((key, self.index.get(&key)?)));
            let alive = entry.filter(|(_, entry)| match frame.kind {
                Kind::Put => entry.put == Some(location),
                Kind::Assign => entry.assign == Some(location),
                _ => false,
            });
            if let Some((key, entry)) = alive {
                if self.free() < frame_len(payload.len()) {
                    self.make_spares(1)?;
                    self.rotate()?;
                    if self.free() < frame_len(payload.len()) {
                        // A record larger than a usual segment.
                        self.make_room(frame_len(payload.len()), false)?;
                    }
                }
                let moved = self.push(frame.kind, payload);
                match frame.kind {
                    Kind::Put => self.note_put(key, entry.sequence, moved),
                    _ => self.note_assign(&key, Some(moved)),
                }
                done += payload.len();
            }
            cleaner.next += 1;
        }
        Ok(())
    }

    fn drop_oldest(&mut self) -> Result<(), StoreError> {
        let Some(oldest) = self.segments.front().copied() else { return Ok(()) };
        if oldest.live > 0 {
            // It was good when it was read at start, and is not now.
            error!(
                store = self.describe(),
                segment = oldest.head.id,
                records = oldest.live,
                "records became unreadable; their requests are still known until the next restart"
            );
        }
        self.disk.remove(oldest.head.id).map_err(self.io("cannot remove a segment"))?;
        self.segments.pop_front();
        self.refill();
        Ok(())
    }
}

/// What reading found so far.
#[derive(Default)]
struct Replay {
    /// All admissions seen, those of ended requests among them.
    puts: Vec<(u64, Location)>,
    /// Requests of which an assignment came first.
    orphans: Vec<RequestKey>,
    /// Of each segment: what is behind its frames.
    rests: Vec<Rest>,
    /// The last frame of all.
    last: Option<Kind>,
}

/// What is behind the frames of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Zeros only.
    Empty,
    /// A write that a crash cut.
    Unfinished,
    /// Nobody knows: a part of the segment cannot be read.
    Unreadable,
}

/// Bytes read ahead.
#[derive(Default)]
struct Window {
    segment: u32,
    start: u32,
    bytes: Vec<u8>,
}

impl Window {
    fn get(&self, location: &Location, len: usize) -> Option<&[u8]> {
        if self.segment != location.segment {
            return None;
        }
        let at = location.offset.checked_sub(self.start)? as usize;
        self.bytes.get(at..at.checked_add(len)?)
    }
}

fn op_key(op: &StoreOp) -> RequestKey {
    match op {
        StoreOp::Put(item) => item.key(),
        StoreOp::Assign { key, .. } | StoreOp::Unassign { key } | StoreOp::Remove { key } => *key,
        StoreOp::Note { name, .. } => super::notes::key(name),
    }
}
