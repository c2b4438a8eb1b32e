//! A disk in memory that can be crashed: for tests and for the simulator.
//!
//! Writes are seen at once by reads, and are certain only after a sync. A crash keeps what was synced and, of each sector
//! written since, the new bytes, the old ones, or the first part of the new ones. Creating and deleting segments is
//! durable at once, as it is on the real disk, which syncs the directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::segments::Segments;

/// Smallest unit that a disk writes.
const SECTOR: usize = 512;

/// How a crash treats what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process died: the system still has all writes.
    Process,
    /// The machine died before anything was written back.
    Nothing,
    /// The machine died while writing back: each sector by chance, drawn from this seed.
    Torn(u64),
}

#[derive(Debug, Clone, Default)]
struct File {
    /// What a read sees.
    current: Vec<u8>,
    /// What is certain.
    durable: Vec<u8>,
    /// Sectors in which the two may differ.
    dirty: BTreeSet<usize>,
}

/// The disk.
#[derive(Debug, Clone)]
pub struct MemoryDisk {
    files: BTreeMap<u32, File>,
    /// Pieces that were set aside.
    quarantine: BTreeMap<String, Vec<u8>>,
    /// Bytes that all segments together may have.
    capacity: u64,
    /// Bytes that may still be written before the power goes.
    power: Option<u64>,
    /// Syncs that fail from now on.
    failing_syncs: u32,
    /// Bytes written so far, for [`MemoryDisk::cut_power_after`].
    written: u64,
    /// Places that cannot be read: segment and offset.
    unreadable: BTreeSet<(u32, u32)>,
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::with_capacity(u64::MAX)
    }
}

fn power_lost() -> io::Error {
    io::Error::other("the power is gone")
}

impl MemoryDisk {
    /// An empty disk on which segments of this many bytes together find room.
    pub fn with_capacity(capacity: u64) -> Self {
        Self {
            files: BTreeMap::new(),
            quarantine: BTreeMap::new(),
            capacity,
            power: None,
            failing_syncs: 0,
            written: 0,
            unreadable: BTreeSet::new(),
        }
    }

    /// Gives the disk another size.
    pub fn set_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
    }

    /// Lets everything fail once this many more bytes were written; the write in which that happens is done up to there.
    pub fn cut_power_after(&mut self, bytes: u64) {
        self.power = Some(bytes);
    }

    /// Lets the next syncs fail, without writing anything back.
    pub fn fail_syncs(&mut self, count: u32) {
        self.failing_syncs = count;
    }

    /// Lets all reads of this byte fail from now on, as on a bad sector.
    pub fn make_unreadable(&mut self, id: u32, offset: u32) {
        self.unreadable.insert((id, offset));
    }

    /// Bytes written since the disk was made.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Pieces that were set aside, by name.
    pub fn quarantined(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.quarantine
    }

    /// Changes a stored byte behind everyone's back. Returns whether there is such a byte.
    pub fn flip(&mut self, id: u32, offset: usize, mask: u8) -> bool {
        let Some(file) = self.files.get_mut(&id) else { return false };
        let Some(byte) = file.current.get_mut(offset) else { return false };
        *byte ^= mask;
        file.durable[offset] = *byte;
        true
    }

    /// Sizes of all segments, by number.
    pub fn sizes(&self) -> BTreeMap<u32, usize> {
        self.files.iter().map(|(id, file)| (*id, file.current.len())).collect()
    }

    /// Stops everything and starts again on what is left.
    pub fn crash(&mut self, how: Crash) {
        self.power = None;
        self.failing_syncs = 0;
        let mut random = match how {
            Crash::Torn(seed) => seed ^ 0x9e37_79b9_7f4a_7c15,
            Crash::Process | Crash::Nothing => 0,
        };
        for file in self.files.values_mut() {
            for sector in std::mem::take(&mut file.dirty) {
                let start = sector * SECTOR;
                let end = (start + SECTOR).min(file.current.len());
                let keep = match how {
                    Crash::Process => end - start,
                    Crash::Nothing => 0,
                    Crash::Torn(_) => match next(&mut random) % 3 {
                        0 => 0,
                        1 => end - start,
                        _ => next(&mut random) as usize % (end - start + 1),
                    },
                };
                let (durable, current) = (&mut file.durable, &file.current);
                durable[start..start + keep].copy_from_slice(&current[start..start + keep]);
            }
            file.current.clone_from(&file.durable);
        }
    }

    fn powered(&self) -> io::Result<()> {
        if self.power == Some(0) { Err(power_lost()) } else { Ok(()) }
    }

    /// Takes bytes from what may still be written. Returns how many of `wanted` are left.
    fn spend(&mut self, wanted: usize) -> usize {
        let granted =
            self.power.map_or(wanted, |left| usize::try_from(left).map_or(wanted, |l| l.min(wanted)));
        if let Some(left) = &mut self.power {
            *left -= granted as u64;
        }
        self.written += granted as u64;
        granted
    }

    fn file(&mut self, id: u32) -> io::Result<&mut File> {
        self.files.get_mut(&id).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

/// splitmix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Segments for MemoryDisk {
    fn list(&mut self) -> io::Result<Vec<u32>> {
        self.powered()?;
        Ok(self.files.keys().copied().collect())
    }

    fn create(&mut self, id: u32, size: u32, head: &[u8]) -> io::Result<()> {
        self.powered()?;
        let used: u64 = self.files.values().map(|file| file.current.len() as u64).sum();
        if used + u64::from(size) > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if self.spend(head.len()) < head.len() {
            return Err(power_lost());
        }
        let mut bytes = head.to_vec();
        bytes.resize((size as usize).max(head.len()), 0);
        let file = File { current: bytes.clone(), durable: bytes, dirty: BTreeSet::new() };
        match self.files.insert(id, file) {
            None => Ok(()),
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    fn size(&mut self, id: u32) -> io::Result<u32> {
        self.powered()?;
        Ok(self.file(id)?.current.len() as u32)
    }

    fn read(&mut self, id: u32, offset: u32, buffer: &mut [u8]) -> io::Result<usize> {
        self.powered()?;
        let end = offset.saturating_add(u32::try_from(buffer.len()).unwrap_or(u32::MAX));
        if self.unreadable.range((id, offset)..(id, end)).next().is_some() {
            return Err(io::Error::other("injected failure of read"));
        }
        let rest = self.file(id)?.current.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write(&mut self, id: u32, offset: u32, bytes: &[u8]) -> io::Result<()> {
        self.powered()?;
        let granted = self.spend(bytes.len());
        let start = offset as usize;
        let file = self.file(id)?;
        let Some(place) = file.current.get_mut(start..start + bytes.len()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "write beyond the segment"));
        };
        place[..granted].copy_from_slice(&bytes[..granted]);
        if granted > 0 {
            file.dirty.extend(start / SECTOR..=(start + granted - 1) / SECTOR);
        }
        if granted < bytes.len() { Err(power_lost()) } else { Ok(()) }
    }

    fn sync(&mut self, id: u32) -> io::Result<()> {
        self.powered()?;
        if self.failing_syncs > 0 {
            self.failing_syncs -= 1;
            return Err(io::Error::other("injected failure of sync"));
        }
        let file = self.file(id)?;
        for sector in std::mem::take(&mut file.dirty) {
            let start = sector * SECTOR;
            let end = (start + SECTOR).min(file.current.len());
            file.durable[start..end].copy_from_slice(&file.current[start..end]);
        }
        Ok(())
    }

    fn remove(&mut self, id: u32) -> io::Result<()> {
        self.powered()?;
        self.files.remove(&id).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn quarantine(&mut self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        self.powered()?;
        Ok(self.quarantine.insert(name.to_owned(), bytes.to_vec()).is_none())
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}
