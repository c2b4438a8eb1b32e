//! Requests in memory, what `hsm/active_requests` prints.

use std::collections::BTreeMap;

use super::{ClientId, Extent, Record};

/// A request that was handed to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its record as the coordinator keeps it: the data FID of a restore is bound here first, and `changed` is the time of
    /// the last progress.
    pub record: Record,
    /// Who has it.
    pub client: ClientId,
    /// The uuid of who has it, kept when the agent is gone.
    pub uuid: String,
    /// The cancel that was sent for it, if any.
    pub cancel: Option<Record>,
    /// Bytes that progress has covered.
    pub progress: Coverage,
}

/// Requests in memory, in the order in which they were handed out.
#[derive(Debug, Clone, Default)]
pub(super) struct RunningSet {
    /// By order number.
    ordered: BTreeMap<u64, Running>,
    by_cookie: BTreeMap<u64, u64>,
    next: u64,
}

impl RunningSet {
    /// How many.
    pub fn len(&self) -> usize {
        self.ordered.len()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &Running> {
        self.ordered.values()
    }

    /// By cookie.
    pub fn get(&self, cookie: u64) -> Option<&Running> {
        self.ordered.get(self.by_cookie.get(&cookie)?)
    }

    /// By cookie.
    pub fn get_mut(&mut self, cookie: u64) -> Option<&mut Running> {
        self.ordered.get_mut(self.by_cookie.get(&cookie)?)
    }

    /// Adds one; false if its cookie is taken.
    pub fn add(&mut self, running: Running) -> bool {
        let cookie = running.record.cookie;
        if self.by_cookie.contains_key(&cookie) {
            return false;
        }
        self.by_cookie.insert(cookie, self.next);
        self.ordered.insert(self.next, running);
        self.next += 1;
        true
    }

    /// Takes one out.
    pub fn remove(&mut self, cookie: u64) -> Option<Running> {
        let number = self.by_cookie.remove(&cookie)?;
        self.ordered.remove(&number)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.ordered.clear();
        self.by_cookie.clear();
    }
}

/// The bytes that progress reports have covered: overlapping and adjacent reports are merged (since 2.14).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Coverage {
    /// First to last byte, both included.
    ranges: BTreeMap<u64, u64>,
    total: u64,
}

impl Coverage {
    /// Adds a range; false if it is longer than offsets allow, as a whole-file extent past offset 0 is.
    pub(super) fn add(&mut self, extent: Extent) -> bool {
        let mut first = extent.offset;
        let mut last = extent.offset.wrapping_add(extent.length).wrapping_sub(1);
        if last < first {
            return false;
        }
        while let Some((&start, &end)) = self.ranges.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            self.ranges.remove(&start);
            self.total = self.total.wrapping_sub(end - start).wrapping_sub(1);
            first = first.min(start);
            last = last.max(end);
        }
        self.ranges.insert(first, last);
        self.total = self.total.wrapping_add(last - first).wrapping_add(1);
        true
    }

    /// How many bytes are covered.
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_merge_when_they_touch() {
        type Case = (&'static [(u64, u64)], u64, usize);
        let cases: &[Case] = &[
            (&[(0, 10), (10, 10)], 20, 1),
            (&[(10, 10), (0, 10)], 20, 1),
            (&[(0, 10), (11, 10)], 20, 2),
            (&[(0, 10), (20, 10), (5, 20)], 30, 1),
            (&[(0, 1), (2, 1), (4, 1), (1, 3)], 5, 1),
            (&[(u64::MAX, 1), (u64::MAX - 1, 1)], 2, 1),
            (&[(0, u64::MAX), (5, 7)], u64::MAX, 1),
        ];
        for (ranges, total, pieces) in cases {
            let mut coverage = Coverage::default();
            for (offset, length) in *ranges {
                assert!(coverage.add(Extent { offset: *offset, length: *length }));
            }
            assert_eq!((coverage.total(), coverage.ranges.len()), (*total, *pieces), "{ranges:?}");
        }
        assert!(!Coverage::default().add(Extent { offset: u64::MAX, length: 2 }));
    }

    proptest! {
        #[test]
        fn as_many_bytes_as_were_marked(ranges in prop::collection::vec((0u64..60, 1u64..20), 0..20)) {
            let mut coverage = Coverage::default();
            let mut bytes = [false; 80];
            for (offset, length) in ranges {
                coverage.add(Extent { offset, length });
                bytes[offset as usize..][..length as usize].fill(true);
                prop_assert_eq!(coverage.total(), bytes.iter().filter(|byte| **byte).count() as u64);
            }
        }
    }
}
