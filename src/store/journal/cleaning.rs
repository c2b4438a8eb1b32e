//! Cleaning: what still counts in the oldest segment is written again at the end, then the segment is deleted.

use tracing::{error, warn};

use super::index::Location;
use super::room::SPARES;
use super::{END_ROOM, Journal};
use crate::store::StoreError;
use crate::store::record::{self, FIRST_FRAME, FRAME_HEAD, FrameAt, Kind, frame_len};
use crate::store::segments::Segments;

/// Bytes that one step of cleaning handles at least and at most.
pub(super) const CLEAN_STEP: (usize, usize) = (64 << 10, 4 << 20);

/// A segment being cleaned: the oldest one.
#[derive(Debug)]
pub(super) struct Cleaner {
    bytes: Vec<u8>,
    frames: Vec<FrameAt>,
    next: usize,
}

impl<S: Segments> Journal<S> {
    /// One step of cleaning, after everything was synced.
    pub(super) fn clean(&mut self) {
        let budget = (4 * std::mem::take(&mut self.appended)).clamp(CLEAN_STEP.0, CLEAN_STEP.1);
        if let Err(error) = self.clean_step(budget) {
            warn!(store = self.describe(), %error, "cannot clean the oldest segment now");
        }
    }

    pub(super) fn clean_step(&mut self, budget: usize) -> Result<(), StoreError> {
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

    pub(super) fn wants_cleaning(&self) -> bool {
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
