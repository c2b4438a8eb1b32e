//! What all rows share.

use std::time::Duration;

use harness::TestDirectory;

use crate::machine::Watched;
use crate::server::{Redis, Server, Store};
use crate::table::Line;

/// Settings, a place for files, and what was measured so far.
#[derive(Debug)]
pub struct Bench {
    /// Only correctness matters.
    pub quick: bool,
    /// How often each thing is measured.
    pub runs: usize,
    /// How many requests there are.
    pub requests: u32,
    /// Where files go.
    pub directory: TestDirectory,
    stores: Vec<Store>,
    redis: Option<Redis>,
    lines: Vec<Line>,
}

impl Bench {
    /// Nothing is measured yet. Where only correctness matters, little is done.
    pub fn new(quick: bool, runs: usize, requests: u32, stores: &[Store]) -> Self {
        let directory = TestDirectory::new("bench");
        let (runs, requests) = if quick { (1, 5000) } else { (runs, requests) };
        Self { quick, runs, requests, directory, stores: stores.to_vec(), redis: None, lines: Vec::new() }
    }

    /// Stores that are measured, the quickest first.
    pub fn stores(&self) -> Vec<Store> {
        let wanted = |store: &Store| self.stores.is_empty() || self.stores.contains(store);
        [Store::None, Store::Embedded, Store::Redis].into_iter().filter(wanted).collect()
    }

    /// An empty redis.
    pub fn redis(&mut self) -> &Redis {
        let redis = self.redis.get_or_insert_with(|| Redis::start(self.directory.path()));
        redis.flush();
        redis
    }

    /// The redis as it is.
    pub fn kept_redis(&self) -> &Redis {
        self.redis.as_ref().expect("a daemon uses it")
    }

    /// A daemon that knows nothing yet, with the store in question.
    pub fn server(&mut self, store: Store, config: &str) -> Server {
        if store == Store::Redis {
            self.redis();
        }
        Server::start(&self.directory, store, self.redis.as_ref(), config)
    }

    /// Adds what was measured, and shows it.
    pub fn add(&mut self, line: Line) {
        println!("  {line}");
        self.lines.push(line);
    }

    /// All that was measured.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
}

/// CPU time of a process while something is done.
#[derive(Debug)]
pub struct Cpu {
    process: Watched,
    before: Duration,
}

impl Cpu {
    /// From now on.
    pub fn of(process: Watched) -> Self {
        Self { process, before: process.cpu() }
    }

    /// Microseconds for each of so many things.
    pub fn each(&self, count: u32) -> f64 {
        (self.process.cpu() - self.before).as_secs_f64() * 1e6 / f64::from(count)
    }
}

/// So many things in a second.
pub fn rate(count: u32, wall: Duration) -> f64 {
    f64::from(count) / wall.as_secs_f64()
}
