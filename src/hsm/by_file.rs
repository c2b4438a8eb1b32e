//! Requests by file and cookie.
//!
//! The first request of a file is in an index, others of the same file are in an ordered map beside it, so that a file with
//! very many requests costs no more than any other. As most files have one request, this finds a request by its identity
//! with one look at the index.

use std::collections::BTreeMap;

use lustreapi_sys::Fid;

use super::index::{Index, Near};
use super::requests::{Handle, Slab};

/// The index.
#[derive(Debug)]
pub(super) struct ByFile {
    first: Index,
    others: BTreeMap<(Fid, u64), Handle>,
}

impl ByFile {
    pub(super) fn new() -> Self {
        Self { first: Index::new(), others: BTreeMap::new() }
    }

    fn first(&self, slab: &Slab, fid: Fid) -> Option<Handle> {
        self.first.find(fid.near(), |at| slab.at(at).fid == fid)
    }

    /// The request with this identity.
    pub(super) fn find(&self, slab: &Slab, fid: Fid, cookie: u64) -> Option<Handle> {
        let first = self.first(slab, fid)?;
        if slab.at(first).cookie == cookie {
            return Some(first);
        }
        self.others.get(&(fid, cookie)).copied()
    }

    /// Adds a request that is not there.
    pub(super) fn insert(&mut self, slab: &Slab, handle: Handle) {
        let request = slab.at(handle);
        if self.first(slab, request.fid).is_some() {
            self.others.insert((request.fid, request.cookie), handle);
        } else {
            self.first.insert(request.fid.near(), handle);
        }
    }

    /// Removes a request that is there.
    pub(super) fn remove(&mut self, slab: &Slab, handle: Handle) {
        let (fid, cookie) = (slab.at(handle).fid, slab.at(handle).cookie);
        if !self.first.remove(fid.near(), handle) {
            self.others.remove(&(fid, cookie));
            return;
        }
        let next = self.others.range((fid, 0)..=(fid, u64::MAX)).next().map(|(&key, &next)| (key, next));
        if let Some((key, next)) = next {
            self.others.remove(&key);
            self.first.insert(fid.near(), next);
        }
    }

    /// Requests of a file, at most so many.
    pub(super) fn all(&self, slab: &Slab, fid: Fid, most: usize) -> Vec<Handle> {
        let others = self.others.range((fid, 0)..=(fid, u64::MAX)).map(|(_, &handle)| handle);
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
        ActionItem { timestamp: 1, ..ActionItem::new(Action::Archive, fid, cookie, 1) }
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
