//! A sharded hash index whose chains run through the entries themselves.
//!
//! It holds handles only, four bytes per bucket, and each shard grows on its own, so that no insertion has to move more
//! than a 256th of all entries.

/// No handle.
pub(super) const NIL: u32 = u32::MAX;

const SHARDS: usize = 256;
const FIRST_BUCKETS: usize = 4;

/// What an index needs to know about the entries it refers to.
pub(super) trait Chained {
    /// The entry's hash, always the same.
    fn hash_of(&self, handle: u32) -> u64;
    /// The next entry of its chain.
    fn chain(&self, handle: u32) -> u32;
    /// Changes the next entry of its chain.
    fn set_chain(&mut self, handle: u32, next: u32);
}

/// The index.
#[derive(Debug)]
pub(super) struct Index {
    shards: Vec<Shard>,
}

#[derive(Debug, Default, Clone)]
struct Shard {
    buckets: Vec<u32>,
    len: usize,
}

impl Index {
    pub(super) fn new() -> Self {
        Self { shards: vec![Shard::default(); SHARDS] }
    }

    fn shard(hash: u64) -> usize {
        (hash >> 56) as usize % SHARDS
    }

    fn bucket(hash: u64, buckets: usize) -> usize {
        // The low bits of the hash are its worst; `buckets` is a power of two.
        (hash >> 20) as usize & (buckets - 1)
    }

    /// The entry with this hash for which `same` holds.
    pub(super) fn find<T: Chained>(
        &self,
        entries: &T,
        hash: u64,
        mut same: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let shard = &self.shards[Self::shard(hash)];
        if shard.buckets.is_empty() {
            return None;
        }
        let mut at = shard.buckets[Self::bucket(hash, shard.buckets.len())];
        while at != NIL {
            if same(at) {
                return Some(at);
            }
            at = entries.chain(at);
        }
        None
    }

    /// Adds an entry that is not there yet.
    pub(super) fn insert<T: Chained>(&mut self, entries: &mut T, hash: u64, handle: u32) {
        let shard = &mut self.shards[Self::shard(hash)];
        if shard.len >= shard.buckets.len() {
            let size = (shard.buckets.len() * 2).max(FIRST_BUCKETS);
            let old = std::mem::replace(&mut shard.buckets, vec![NIL; size]);
            for mut at in old {
                while at != NIL {
                    let next = entries.chain(at);
                    let to = Self::bucket(entries.hash_of(at), size);
                    entries.set_chain(at, shard.buckets[to]);
                    shard.buckets[to] = at;
                    at = next;
                }
            }
        }
        let to = Self::bucket(hash, shard.buckets.len());
        entries.set_chain(handle, shard.buckets[to]);
        shard.buckets[to] = handle;
        shard.len += 1;
    }

    /// Removes an entry.
    pub(super) fn remove<T: Chained>(&mut self, entries: &mut T, hash: u64, handle: u32) {
        let shard = &mut self.shards[Self::shard(hash)];
        if shard.buckets.is_empty() {
            return;
        }
        let bucket = Self::bucket(hash, shard.buckets.len());
        let mut at = shard.buckets[bucket];
        let mut before = NIL;
        while at != NIL {
            let next = entries.chain(at);
            if at == handle {
                match before {
                    NIL => shard.buckets[bucket] = next,
                    before => entries.set_chain(before, next),
                }
                shard.len -= 1;
                return;
            }
            before = at;
            at = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbers(Vec<(u64, u32)>);

    impl Chained for Numbers {
        fn hash_of(&self, handle: u32) -> u64 {
            self.0[handle as usize].0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        }

        fn chain(&self, handle: u32) -> u32 {
            self.0[handle as usize].1
        }

        fn set_chain(&mut self, handle: u32, next: u32) {
            self.0[handle as usize].1 = next;
        }
    }

    #[test]
    fn finds_what_was_put_in_and_not_what_was_taken_out() {
        let mut entries = Numbers((0..20_000).map(|n| (n * 3, NIL)).collect());
        let mut index = Index::new();
        for handle in 0..20_000 {
            let hash = entries.hash_of(handle);
            index.insert(&mut entries, hash, handle);
        }
        for handle in (0..20_000).step_by(2) {
            let hash = entries.hash_of(handle);
            index.remove(&mut entries, hash, handle);
        }
        for handle in 0..20_000 {
            let hash = entries.hash_of(handle);
            let found = index.find(&entries, hash, |at| at == handle);
            assert_eq!(found, (handle % 2 == 1).then_some(handle));
        }
    }
}
