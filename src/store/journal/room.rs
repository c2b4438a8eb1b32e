//! Room for what is to be written: segments that are made beforehand, and what is done when the disk is full.

use std::io;

use tracing::{info, warn};

use super::cleaning::CLEAN_STEP;
use super::{END_ROOM, Journal, Segment};
use crate::store::StoreError;
use crate::store::record::{FIRST_FRAME, FRAME_HEAD, Kind, SegmentHead};
use crate::store::segments::Segments;

/// Empty segments that are kept ready while new requests are taken.
pub(super) const SPARES: usize = 2;
/// Steps of cleaning in which room is looked for at once: what ends meanwhile waits for them.
const ROOM_STEPS: usize = 8;

impl<S: Segments> Journal<S> {
    /// Bytes that records may still take in the last segment.
    pub(super) fn free(&self) -> usize {
        self.segments.back().map_or(0, |s| ((s.size - s.end) as usize).saturating_sub(END_ROOM))
    }

    pub(super) fn make_room(&mut self, bytes: usize, new_requests: bool) -> Result<(), StoreError> {
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
    pub(super) fn rotate(&mut self) -> Result<(), StoreError> {
        if self.segments.back().is_some_and(|s| (s.size - s.end) as usize >= FRAME_HEAD) {
            self.flush(Kind::Seal)?;
        }
        debug_assert!(self.pending.is_empty() && !self.spares.is_empty());
        self.segments.extend(self.spares.pop_front());
        self.refill();
        Ok(())
    }

    /// Makes spare segments if there is room; says so once when there is none, and once when there is again.
    pub(super) fn refill(&mut self) {
        let full = self.make_spares(SPARES).is_err();
        if full != std::mem::replace(&mut self.is_full, full) {
            let store = self.describe();
            if full {
                let needs = self.options.segment_bytes;
                warn!(
                    store,
                    needs, "no room for another segment of so many bytes: new requests cannot be stored"
                );
            } else {
                info!(store, "there is room again");
            }
        }
    }

    pub(super) fn make_spares(&mut self, count: usize) -> Result<(), StoreError> {
        while self.spares.len() < count {
            let spare = self.create(self.options.segment_bytes)?;
            self.spares.push_back(spare);
        }
        Ok(())
    }

    pub(super) fn create(&mut self, size: u32) -> Result<Segment, StoreError> {
        let id = self.next_id;
        // Neighbouring numbers give unrelated nonces.
        let nonce = (self.options.seed ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let head = SegmentHead { id, nonce };
        self.disk.create(id, size, &head.encode()).map_err(self.io("cannot make a segment"))?;
        self.next_id = id.saturating_add(1);
        Ok(Segment { head, size, end: FIRST_FRAME as u32, live: 0, live_bytes: 0 })
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
}
