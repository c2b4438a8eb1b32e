//! A sharded hash index of handles.
//!
//! The entries themselves are elsewhere: the index holds a handle and half of the hash of each, so that only entries that are
//! looked for are looked at. (An entry is anywhere in memory: a look at it takes longer than all the rest.) Each shard grows
//! on its own, so that no insertion has to move more than a 256th of all handles.

use std::hash::{Hash, Hasher};

use hashbrown::HashTable;
use lustreapi_sys::Fid;
use rustc_hash::FxHasher;

use super::action::RequestKey;

/// No handle.
pub(super) const NIL: u32 = u32::MAX;

const SHARDS: usize = 256;

/// A hash of which all bits are good.
pub(super) fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    value.hash(&mut hasher);
    let hash = hasher.finish();
    // FxHash's upper bits are weak when only low bits of the input differ, and those of a product are weak below.
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 32)
}

/// What has a hash by which it lies beside what came before and after it: files and requests come in sequence and are looked
/// for in sequence, and then most of the index that is needed is in the cache already.
pub(crate) trait Near {
    /// The hash.
    fn near(&self) -> u64;
}

/// A hash for an entry in a run of up to 16 that lie side by side.
pub(super) fn near(run: impl Hash, number: u8) -> u64 {
    let number = u64::from(number & 15);
    // Also where hashes that share a place are told apart at first look.
    (hash_of(run) & !15 | number) ^ number << 27
}

impl Near for Fid {
    fn near(&self) -> u64 {
        near((self.seq, self.oid >> 4, self.ver), self.oid as u8)
    }
}

impl Near for RequestKey {
    /// Cookies count on as well. Requests of one file are anywhere.
    fn near(&self) -> u64 {
        let Fid { seq, oid, ver } = self.fid;
        near((seq, oid >> 4, ver, self.cookie.wrapping_sub(u64::from(oid))), oid as u8)
    }
}

/// A handle, and half of its hash.
#[derive(Debug, Clone, Copy)]
struct Slot {
    handle: u32,
    hash: u32,
}

impl Slot {
    fn new(handle: u32, hash: u64) -> Self {
        Self { handle, hash: hash as u32 }
    }

    /// The hash by which it lies in its shard, which needs the lowest bits for the place and the highest for a first look.
    fn place(&self) -> u64 {
        u64::from(self.hash) << 32 | u64::from(self.hash)
    }
}

/// The index.
#[derive(Debug)]
pub(crate) struct Index {
    shards: Vec<HashTable<Slot>>,
}

impl Index {
    pub(crate) fn new() -> Self {
        Self { shards: vec![HashTable::new(); SHARDS] }
    }

    fn shard(hash: u64) -> usize {
        (hash >> 40) as usize % SHARDS
    }

    /// The entry with this hash for which `same` holds.
    pub(crate) fn find(&self, hash: u64, mut same: impl FnMut(u32) -> bool) -> Option<u32> {
        let wanted = Slot::new(NIL, hash);
        let found = self.shards[Self::shard(hash)]
            .find(wanted.place(), |slot| slot.hash == wanted.hash && same(slot.handle));
        found.map(|slot| slot.handle)
    }

    /// Adds an entry that is not there yet.
    pub(crate) fn insert(&mut self, hash: u64, handle: u32) {
        let slot = Slot::new(handle, hash);
        self.shards[Self::shard(hash)].insert_unique(slot.place(), slot, Slot::place);
    }

    /// Removes an entry. Returns whether it was there.
    pub(crate) fn remove(&mut self, hash: u64, handle: u32) -> bool {
        let slot = Slot::new(handle, hash);
        let found = self.shards[Self::shard(hash)].find_entry(slot.place(), |other| other.handle == handle);
        found.is_ok_and(|entry| {
            entry.remove();
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_put_in_and_not_what_was_taken_out() {
        let hash = |handle: u32| hash_of(u64::from(handle) * 3);
        let mut index = Index::new();
        for handle in 0..20_000 {
            index.insert(hash(handle), handle);
        }
        for handle in (0..20_000).step_by(2) {
            index.remove(hash(handle), handle);
        }
        for handle in 0..20_000 {
            let found = index.find(hash(handle), |at| at == handle);
            assert_eq!(found, (handle % 2 == 1).then_some(handle));
        }
    }

    #[test]
    fn what_comes_in_sequence_lies_side_by_side() {
        let fid = |oid| Fid::new(0x2_0000_0401, oid, 0);
        let key = |oid| RequestKey { cookie: 1_795_270_000 + u64::from(oid), fid: fid(oid) };
        let place = |hash: u64| Slot::new(0, hash).place();
        for run in (0..100_000).step_by(16) {
            let first = fid(run).near();
            for oid in run..run + 16 {
                for (hash, first) in [(fid(oid).near(), first), (key(oid).near(), key(run).near())] {
                    assert_eq!(Index::shard(hash), Index::shard(first));
                    assert_eq!(place(hash) % 4096, place(first) % 4096 + u64::from(oid - run));
                    assert!(oid == run || place(hash) >> 57 != place(first) >> 57);
                }
            }
        }
    }

    #[test]
    fn runs_are_spread_evenly() {
        let mut shards = [0u32; SHARDS];
        let mut places = [0u32; 256];
        for oid in 0..65_536_u32 {
            let hash = Fid::new(0x2_0000_0401, oid, 0).near();
            shards[Index::shard(hash)] += 1;
            places[(Slot::new(0, hash).place() & 255) as usize] += 1;
        }
        for parts in [&shards[..], &places[..]] {
            assert!(parts.iter().all(|&part| part > 0 && part < 1024), "{parts:?}");
        }
    }

    /// Cookies and FIDs come in sequence.
    #[test]
    fn what_comes_in_sequence_is_spread_evenly() {
        let mut shards = [0u32; SHARDS];
        let mut low = [0u32; 256];
        let mut high = [0u32; 128];
        for number in 0..65_536_u32 {
            let hash = hash_of((1_795_270_000 + u64::from(number), 0x2_0000_0401_u64, number, 0_u32));
            shards[Index::shard(hash)] += 1;
            low[(hash & 255) as usize] += 1;
            high[(Slot::new(0, hash).place() >> 57) as usize] += 1;
        }
        for (parts, mean) in [(&shards[..], 256), (&low[..], 256), (&high[..], 512)] {
            assert!(parts.iter().all(|&part| part > mean / 2 && part < mean * 2), "{parts:?}");
        }
    }
}
