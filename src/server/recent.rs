//! What was found out about files lately.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use lustreapi_sys::Fid;

/// Answers about files, each remembered for the same time, the oldest forgotten when there are too many.
#[derive(Debug)]
pub struct Recent<T> {
    most: usize,
    lifetime: Duration,
    files: BTreeMap<Fid, (Instant, T)>,
    order: VecDeque<(Instant, Fid)>,
}

impl<T: Clone> Recent<T> {
    /// Remembers at most this many; with a lifetime of zero nothing.
    pub fn new(most: usize, lifetime: Duration) -> Self {
        Self { most, lifetime, files: BTreeMap::new(), order: VecDeque::new() }
    }

    /// What is known of a file.
    pub fn get(&self, fid: Fid, now: Instant) -> Option<T> {
        let (at, answer) = self.files.get(&fid)?;
        (now.duration_since(*at) < self.lifetime).then(|| answer.clone())
    }

    /// Remembers an answer.
    pub fn add(&mut self, fid: Fid, answer: T, now: Instant) {
        if self.lifetime.is_zero() {
            return;
        }
        self.files.insert(fid, (now, answer));
        self.order.push_back((now, fid));
        while self.order.len() > self.most
            || self.order.front().is_some_and(|(at, _)| now.duration_since(*at) >= self.lifetime)
        {
            let Some((at, fid)) = self.order.pop_front() else { break };
            // Unless it was found out anew since.
            if self.files.get(&fid).is_some_and(|(of, _)| *of == at) {
                self.files.remove(&fid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_age_and_the_oldest_go_first() {
        let (fid, start) = (|oid| Fid::new(1, oid, 0), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut recent = Recent::new(2, Duration::from_secs(10));
        recent.add(fid(1), "a", at(0));
        recent.add(fid(2), "b", at(1));
        recent.add(fid(1), "c", at(2));
        // What was noted first of file 1 has gone, not what is known now.
        assert_eq!([recent.get(fid(1), at(3)), recent.get(fid(2), at(3))], [Some("c"), Some("b")]);
        recent.add(fid(3), "d", at(4));
        assert_eq!([recent.get(fid(1), at(4)), recent.get(fid(2), at(4))], [Some("c"), None]);
        assert_eq!(recent.get(fid(1), at(12)), None, "too old");
        let mut none = Recent::new(2, Duration::ZERO);
        none.add(fid(1), "a", at(0));
        assert_eq!(none.get(fid(1), at(0)), None);
    }
}
