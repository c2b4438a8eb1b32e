//! Many seeds on all processors.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Which seeds to run, and how.
#[derive(Debug, Clone, Copy)]
pub struct Seeds {
    /// The first seed.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// How many at the same time, at least 1.
    pub jobs: u64,
    /// Go on after a failure.
    pub all: bool,
}

impl Seeds {
    /// Runs `check` for each seed. Returns what came of those that were run, in order: all of them, or at least all up to
    /// the first that failed.
    pub fn run<R: Send>(
        &self,
        check: impl Fn(u64) -> Result<R, String> + Sync,
    ) -> Vec<(u64, Result<R, String>)> {
        let next = AtomicU64::new(self.first);
        let stop = AtomicBool::new(false);
        let end = self.first.saturating_add(self.count);
        let part = || {
            let mut results = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    break;
                }
                let result = check(seed);
                if result.is_err() && !self.all {
                    stop.store(true, Ordering::Relaxed);
                }
                results.push((seed, result));
            }
            results
        };
        let mut results: Vec<_> = std::thread::scope(|scope| {
            let jobs: Vec<_> = (0..self.jobs.max(1)).map(|_| scope.spawn(part)).collect();
            jobs.into_iter().flat_map(|job| job.join().unwrap_or_default()).collect()
        });
        results.sort_by_key(|(seed, _)| *seed);
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_run_once_and_the_first_failure_is_there() {
        let seeds = Seeds { first: 5, count: 40, jobs: 3, all: true };
        let odd = |seed: u64| if seed % 2 == 1 { Ok(seed) } else { Err(format!("{seed}")) };
        let results = seeds.run(odd);
        assert!(results.iter().map(|(seed, _)| *seed).eq(5..45));
        assert_eq!(results.iter().filter(|(_, r)| r.is_err()).count(), 20);
        let results = Seeds { all: false, ..seeds }.run(odd);
        assert!(results.iter().any(|(seed, r)| *seed <= 8 && r.is_err()), "{results:?}");
    }
}
