//! Reading a journal at start: each segment's frames in order, then the requests that have not ended.

use tracing::{error, info};

use super::index::Location;
use super::room::SPARES;
use super::{Journal, Segment};
use crate::hsm::effect::StoreOp;
use crate::hsm::{ActionItem, RequestKey};
use crate::store::record::{self, FIRST_FRAME, FRAME_HEAD, FrameAt, HeadFound, Kind, SegmentHead};
use crate::store::segments::Segments;
use crate::store::{Recovery, StoreError};

/// Bytes read at once when requests are handed out at start.
const WINDOW: usize = 256 << 10;

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

impl<S: Segments> Journal<S> {
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
    pub(super) fn set_aside(
        &mut self,
        id: u32,
        offset: usize,
        bytes: &[u8],
        recovery: &mut Recovery,
    ) -> bool {
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
    pub(super) fn read_segment(&mut self, id: u32) -> Result<(Vec<u8>, bool), StoreError> {
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
}
