//! What kills hit.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

/// What was going on when somebody was killed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moment {
    /// Requests that the MDTs had handed over and no mover had.
    pub queued: usize,
    /// Requests that a mover had: the killed one, or any if it was no mover.
    pub running: usize,
    /// Requests that were acknowledged and had never been given to a mover.
    pub unsent: usize,
}

/// How many kills hit what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hits {
    /// All kills.
    pub kills: usize,
    /// Those with something queued.
    pub queued: usize,
    /// Those with something running.
    pub running: usize,
    /// Those with something acknowledged and unsent.
    pub unsent: usize,
}

impl AddAssign<Moment> for Hits {
    fn add_assign(&mut self, moment: Moment) {
        self.kills += 1;
        self.queued += usize::from(moment.queued > 0);
        self.running += usize::from(moment.running > 0);
        self.unsent += usize::from(moment.unsent > 0);
    }
}

/// Over a run.
#[derive(Debug, Default)]
pub struct Tally {
    /// By who was killed.
    pub hits: BTreeMap<&'static str, Hits>,
    /// Requests that the MDTs had in all.
    pub requests: usize,
    /// Files that were archived, restored and removed.
    pub files: usize,
    /// Requests begun more than once.
    pub begun_again: usize,
    /// Requests that ended with an error, since a mover was killed at an unlucky moment.
    pub unlucky: usize,
    /// Acknowledged requests that a new daemon did not know.
    pub forgotten: usize,
    /// Ends that the MDTs refused.
    pub strays: usize,
    /// Most requests of one action that a mover had at the same time.
    pub most_at_once: usize,
}

impl Tally {
    /// Somebody was killed.
    pub fn killed(&mut self, who: &'static str, moment: Moment) {
        *self.hits.entry(who).or_default() += moment;
    }

    /// Of those with this name.
    pub fn hits(&self, who: &str) -> Hits {
        self.hits.get(who).copied().unwrap_or_default()
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Tally) {
        for (who, hits) in &other.hits {
            let sum = self.hits.entry(who).or_default();
            sum.kills += hits.kills;
            sum.queued += hits.queued;
            sum.running += hits.running;
            sum.unsent += hits.unsent;
        }
        self.requests += other.requests;
        self.files += other.files;
        self.begun_again += other.begun_again;
        self.unlucky += other.unlucky;
        self.forgotten += other.forgotten;
        self.strays += other.strays;
        self.most_at_once = self.most_at_once.max(other.most_at_once);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<8} {:>6} {:>10} {:>10} {:>22}",
            "killed", "times", "hit queued", "running", "acknowledged, unsent"
        )?;
        for (who, hits) in &self.hits {
            let Hits { kills, queued, running, unsent } = hits;
            writeln!(f, "{who:<8} {kills:>6} {queued:>10} {running:>10} {unsent:>22}")?;
        }
        writeln!(
            f,
            "{} files, {} requests: {} begun more than once, {} ended with an error and were done all the same, {} refused \
             ends, at most {} of an action on a mover, {} acknowledged ones unknown to a new daemon",
            self.files,
            self.requests,
            self.begun_again,
            self.unlucky,
            self.strays,
            self.most_at_once,
            self.forgotten
        )
    }
}
