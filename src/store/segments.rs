//! What the journal needs of a disk.

use std::io;

/// Numbered files of fixed size that are written from front to back.
///
/// The real one is [`super::disk::DirSegments`]; [`super::memory_disk::MemoryDisk`] models what a crash may leave.
pub trait Segments {
    /// Numbers of the segments there are, ascending.
    fn list(&mut self) -> io::Result<Vec<u32>>;

    /// Makes a segment of `size` bytes that starts with `head` and is zero behind it, with all its room reserved. It is
    /// there completely and durably, or not at all.
    fn create(&mut self, id: u32, size: u32, head: &[u8]) -> io::Result<()>;

    /// Size of a segment in bytes.
    fn size(&mut self, id: u32) -> io::Result<u32>;

    /// Reads from a segment; fewer bytes than asked for only at its end.
    fn read(&mut self, id: u32, offset: u32, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes within the size of a segment. Durable after the next [`Segments::sync`] of it.
    fn write(&mut self, id: u32, offset: u32, bytes: &[u8]) -> io::Result<()>;

    /// Makes all writes to a segment durable.
    fn sync(&mut self, id: u32) -> io::Result<()>;

    /// Deletes a segment, durably.
    fn remove(&mut self, id: u32) -> io::Result<()>;

    /// Keeps a damaged piece for people to look at. Returns whether it was not known before.
    fn quarantine(&mut self, name: &str, bytes: &[u8]) -> io::Result<bool>;

    /// For logs.
    fn describe(&self) -> String;
}

/// Whether an error says that there is no room.
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
