//! Requests by the FID of their file.
//!
//! The first request of a file is in an index, others of the same file are in an ordered set beside it, so that a file with
//! very many requests makes no long chains.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use lustreapi_sys::Fid;
use rustc_hash::FxHasher;

use super::index::{Chained, Index};
use super::requests::{Handle, Slab};

/// The index.
#[derive(Debug)]
pub(super) struct ByFile {
    first: Index,
    others: BTreeSet<(Fid, Handle)>,
}

/// The slab, chained by file.
struct Files<'a>(&'a mut Slab);

fn hash_fid(fid: Fid) -> u64 {
    let mut hasher = FxHasher::default();
    fid.hash(&mut hasher);
    let hash = hasher.finish();
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Chained for Files<'_> {
    fn hash_of(&self, handle: Handle) -> u64 {
        hash_fid(self.0.at(handle).fid)
    }

    fn chain(&self, handle: Handle) -> Handle {
        self.0.at(handle).file_chain
    }

    fn set_chain(&mut self, handle: Handle, next: Handle) {
        self.0.at_mut(handle).file_chain = next;
    }
}

/// The same for looking only.
struct Look<'a>(&'a Slab);

impl Chained for Look<'_> {
    fn hash_of(&self, handle: Handle) -> u64 {
        hash_fid(self.0.at(handle).fid)
    }

    fn chain(&self, handle: Handle) -> Handle {
        self.0.at(handle).file_chain
    }

    fn set_chain(&mut self, _: Handle, _: Handle) {}
}

impl ByFile {
    pub(super) fn new() -> Self {
        Self { first: Index::new(), others: BTreeSet::new() }
    }

    fn first(&self, slab: &Slab, fid: Fid) -> Option<Handle> {
        self.first.find(&Look(slab), hash_fid(fid), |at| slab.at(at).fid == fid)
    }

    /// Adds a request that is not there.
    pub(super) fn insert(&mut self, slab: &mut Slab, handle: Handle) {
        let fid = slab.at(handle).fid;
        if self.first(slab, fid).is_some() {
            self.others.insert((fid, handle));
        } else {
            self.first.insert(&mut Files(slab), hash_fid(fid), handle);
        }
    }

    /// Removes a request that is there.
    pub(super) fn remove(&mut self, slab: &mut Slab, handle: Handle) {
        let fid = slab.at(handle).fid;
        if self.first(slab, fid) != Some(handle) {
            self.others.remove(&(fid, handle));
            return;
        }
        self.first.remove(&mut Files(slab), hash_fid(fid), handle);
        let next = self.others.range((fid, 0)..=(fid, Handle::MAX)).next().copied();
        if let Some((fid, next)) = next {
            self.others.remove(&(fid, next));
            self.first.insert(&mut Files(slab), hash_fid(fid), next);
        }
    }

    /// Requests of a file, at most so many.
    pub(super) fn all(&self, slab: &Slab, fid: Fid, most: usize) -> Vec<Handle> {
        let others = self.others.range((fid, 0)..=(fid, Handle::MAX)).map(|&(_, handle)| handle);
        self.first(slab, fid).into_iter().chain(others).take(most).collect()
    }

    /// Whether nothing is left in it beside the index.
    #[cfg(test)]
    pub(super) fn others(&self) -> usize {
        self.others.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::requests::{Kind, Requests};
    use super::super::time::Mono;
    use super::super::{Action, ActionItem};
    use super::*;

    fn item(oid: u32, cookie: u64) -> ActionItem {
        let fid = Fid::new(0x2_0000_0401, oid, 0);
        ActionItem {
            action: Action::Archive,
            fid,
            dfid: fid,
            extent_offset: 0,
            extent_length: u64::MAX,
            cookie,
            gid: 0,
            archive_id: 1,
            flags: 0,
            data: Box::default(),
            timestamp: 1,
            extra: Box::default(),
        }
    }

    #[test]
    fn a_file_has_all_its_requests_and_no_others() {
        let mut requests = Requests::new();
        let mut known = Vec::new();
        for oid in 1..=50 {
            for cookie in 0..u64::from(oid % 4) {
                let handle = requests.add(&item(oid, cookie), Kind::Archive, Mono(0), 0, 0);
                known.push((oid, handle));
            }
        }
        while !known.is_empty() {
            for oid in 1..=50 {
                let mut want: Vec<_> = known.iter().filter(|k| k.0 == oid).map(|k| k.1).collect();
                let mut got = requests.of_file(Fid::new(0x2_0000_0401, oid, 0), 10);
                want.sort_unstable();
                got.sort_unstable();
                assert_eq!(got, want, "{oid}");
            }
            // The first, the last or one between, in turn.
            let at = [0, known.len() - 1, known.len() / 2][known.len() % 3];
            let (_, handle) = known.remove(at);
            requests.remove(handle);
        }
        assert_eq!(requests.by_file.others(), 0);
    }
}
