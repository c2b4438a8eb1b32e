//! What was noted last: so many keys, each with the latest value noted for it.

use std::collections::VecDeque;

use super::index::{Index, Near};

/// How many are remembered.
pub(super) const MOST: usize = 65_536;

/// The keys, in the order in which they were noted.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    ring: VecDeque<(K, V)>,
    /// The number of the first in the ring; numbers count on from there, and wrap.
    first: u32,
    /// The numbers under which keys were noted last.
    index: Index,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { ring: VecDeque::new(), first: 0, index: Index::new() }
    }
}

impl<K: Near + Eq, V: Copy> Recent<K, V> {
    fn number(&self, key: &K) -> Option<u32> {
        let at = |number: u32| &self.ring[number.wrapping_sub(self.first) as usize];
        self.index.find(key.near(), |number| at(number).0 == *key)
    }

    /// Notes a key. Returns what was noted before all others when that is forgotten for it.
    pub(super) fn add(&mut self, key: K, value: V) -> Option<V> {
        let hash = key.near();
        if let Some(old) = self.number(&key) {
            self.index.remove(hash, old);
        }
        self.index.insert(hash, self.first.wrapping_add(self.ring.len() as u32));
        self.ring.push_back((key, value));
        if self.ring.len() <= MOST {
            return None;
        }
        let (key, value) = self.ring.pop_front()?;
        // Unless it was noted again, or taken out.
        self.index.remove(key.near(), self.first);
        self.first = self.first.wrapping_add(1);
        Some(value)
    }

    /// Takes a key out. Returns whether it was there.
    pub(super) fn remove(&mut self, key: &K) -> bool {
        let found = self.number(key);
        if let Some(number) = found {
            self.index.remove(key.near(), number);
        }
        found.is_some()
    }

    /// What was noted last for a key.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let number = self.number(key)?;
        Some(self.ring[number.wrapping_sub(self.first) as usize].1)
    }
}

#[cfg(test)]
mod tests {
    use lustreapi_sys::Fid;

    use super::*;

    fn fid(oid: u32) -> Fid {
        Fid::new(0x2_0000_0401, oid, 0)
    }

    #[test]
    fn the_last_are_known_with_their_last_value() {
        // Numbers wrap on the way.
        let mut recent = Recent { first: u32::MAX - 10, ..Recent::<Fid, u32>::default() };
        let most = MOST as u32;
        for oid in 0..most {
            assert_eq!(recent.add(fid(oid), oid), None);
        }
        assert_eq!(recent.get(&fid(0)), Some(0));
        assert_eq!(recent.add(fid(1), 77), Some(0));
        assert_eq!((recent.get(&fid(0)), recent.get(&fid(1))), (None, Some(77)));
        assert!(recent.remove(&fid(3)) && !recent.remove(&fid(3)));
        // The first note of 1 goes, its last one stays; so does what is noted again after it was taken out.
        assert_eq!(recent.add(fid(3), 88), Some(1));
        for oid in most..most + 2 {
            recent.add(fid(oid), oid);
        }
        let values = [1, 2, 3, 4, most + 1].map(|oid| recent.get(&fid(oid)));
        assert_eq!(values, [Some(77), None, Some(88), Some(4), Some(most + 1)]);
    }
}
