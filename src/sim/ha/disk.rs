//! A file that lines are appended to: what is not synced may be torn or gone after a crash.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ha::records;
use crate::sim::rng::Rng;

/// One file.
#[derive(Debug, Clone, Default)]
pub struct File {
    bytes: Vec<u8>,
    /// How much of it is certain.
    durable: usize,
}

/// What was found when a file was read.
#[derive(Debug)]
pub struct Found<T> {
    /// What could be read.
    pub records: Vec<T>,
    /// What was damaged, in words.
    pub damaged: Option<String>,
}

impl File {
    /// Appends a record. It is certain only after a sync.
    pub fn append<T: Serialize>(&mut self, record: &T) {
        if let Ok(line) = records::line(record) {
            self.bytes.extend(line);
        }
    }

    /// Appends lines as they are.
    pub fn append_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Another file takes its place, as by a rename: at once, and durably.
    pub fn replace(&mut self, bytes: Vec<u8>) {
        self.durable = bytes.len();
        self.bytes = bytes;
    }

    /// How long it is, for [`File::synced`].
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Everything up to here is certain.
    pub fn synced(&mut self, length: usize) {
        self.durable = self.durable.max(length.min(self.bytes.len()));
    }

    /// How much of it is certain.
    pub fn durable(&self) -> usize {
        self.durable
    }

    /// The writer died: of what was not synced, a part is there, and the last bytes of that may be wrong. True if anything
    /// was lost.
    pub fn crash(&mut self, rng: &mut Rng) -> bool {
        let open = self.bytes.len() - self.durable;
        if open == 0 {
            return false;
        }
        let kept = rng.below(open as u64 + 1) as usize;
        self.bytes.truncate(self.durable + kept);
        if kept > 0 && rng.one_in(4) {
            let wrong = self.durable + kept - 1 - rng.below(kept.min(8) as u64) as usize;
            for byte in &mut self.bytes[wrong..] {
                *byte ^= 0x55;
            }
        }
        self.durable = self.bytes.len();
        true
    }

    /// One byte goes bad.
    pub fn damage(&mut self, rng: &mut Rng) {
        if !self.bytes.is_empty() {
            let at = rng.below(self.bytes.len() as u64) as usize;
            self.bytes[at] ^= 0x10;
        }
    }

    /// Reads it at a start, and cuts a torn end off.
    pub fn read<T: DeserializeOwned>(&mut self) -> Found<T> {
        let read = records::read::<T>(&self.bytes);
        if read.torn {
            self.bytes.truncate(usize::try_from(read.good).unwrap_or(0));
        }
        self.durable = self.bytes.len();
        let damaged = (!read.damaged.is_empty()).then(|| read.damaged.join("; "));
        Found { records: read.records, damaged }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_and_nothing_is_made_up() {
        let mut rng = Rng::stream(1, "disk");
        for synced in 0..4_u32 {
            let mut file = File::default();
            for number in 0..4_u32 {
                file.append(&number);
                if number + 1 == synced {
                    file.synced(file.length());
                }
            }
            file.crash(&mut rng);
            let found = file.read::<u32>();
            assert!(found.records.len() >= synced as usize && found.damaged.is_none());
            assert!(found.records.iter().enumerate().all(|(at, number)| *number == at as u32));
            file.append(&9_u32);
            assert_eq!(file.read::<u32>().records.last(), Some(&9));
        }
    }
}
