//! What of movers' duties survives a restart besides drains: quarantines, and limits that operators set.
//!
//! A quarantine is kept by wall clock, with how many there were in a row. Its note is written in the step that changes it.

use std::time::Duration;

use super::Coordinator;
use super::duty::MOST_NAMED;
use super::effect::{Effects, StoreOp};
use super::feed::MoverChange;
use super::index::NIL;
use super::quarantine::Quarantine;
use super::time::{Mono, Wall};

const QUARANTINE: &str = "quarantine/";
const LIMIT: &str = "limit/";

/// After a restart, movers have so much time to come before one in quarantine is let go because nobody else is there.
const COMING_BACK: Duration = Duration::from_secs(60);

/// A quarantine as it is noted: `until=NANOSECONDS times=N`, or `trial times=N`.
fn to_note(quarantine: Quarantine, times: u32, wall: impl Fn(Mono) -> Wall) -> String {
    match quarantine {
        Quarantine::Until(at) => format!("until={} times={times}", wall(at).0),
        Quarantine::Trial(_) => format!("trial times={times}"),
    }
}

/// When it ends (`None` for one that is over but for the trial), and how many there were in a row.
fn from_note(value: &str) -> Option<(Option<Wall>, u32)> {
    let (state, times) = value.split_once(" times=")?;
    let until = match state.strip_prefix("until=") {
        Some(until) => Some(Wall(until.parse().ok()?)),
        None if state == "trial" => None,
        None => return None,
    };
    Some((until, times.parse().ok()?))
}

impl Coordinator {
    /// Notes what has become of quarantines in this step.
    pub(super) fn note_quarantines(&mut self, effects: &mut Effects) {
        for name in std::mem::take(&mut self.duties.changed) {
            let duty = self.duties.get(&name);
            let wall = |at| self.now.wall_at(at);
            let value = duty.and_then(|duty| Some(to_note(duty.quarantine?, duty.times, wall)));
            effects.store.push(StoreOp::Note { name: format!("{QUARANTINE}{name}"), value });
        }
    }

    /// A note of an earlier run. Returns whether it was about a quarantine.
    pub(super) fn recovered_quarantine(&mut self, note: &str, value: &str) -> bool {
        let Some(name) = note.strip_prefix(QUARANTINE).filter(|name| !name.is_empty()) else {
            return false;
        };
        let Some((until, times)) = from_note(value) else {
            tracing::error!(note, value, "cannot read a note on a quarantine");
            return true;
        };
        if self.config.quarantine.errors == 0 {
            tracing::info!(mover = name, "there are no quarantines any more: this one is over");
            self.duties.changed.insert(name.into());
            return true;
        }
        let left =
            until.map_or(0, |until| u64::try_from(until.0.saturating_sub(self.now.wall.0)).unwrap_or(0));
        // A clock that was wrong must not keep a mover out for longer than any quarantine lasts.
        let left = Duration::from_nanos(left).min(self.longest_quarantine());
        let (until, now) = (self.now.mono + left, self.now.mono);
        let duty = self.duties.get_mut(name);
        duty.times = times;
        duty.quarantine =
            Some(if left.is_zero() { Quarantine::Trial(NIL) } else { Quarantine::Until(until) });
        tracing::warn!(
            mover = name,
            seconds = left.as_secs(),
            "this mover is in quarantine since before the restart"
        );
        self.duties.quarantined.insert(name.into());
        if !left.is_zero() {
            self.wake_mover_at(until, name);
        }
        self.duties.review_at = Some(now + COMING_BACK);
        self.wake_mover_at(now + COMING_BACK, name);
        if let Some(mover) = self.mover_named(name) {
            self.review_mover(mover);
        }
        true
    }

    /// Movers have had time to come back: a quarantine that leaves nobody to do the work ends.
    pub(super) fn review_recovered(&mut self) {
        if self.duties.review_at.is_some_and(|at| at <= self.now.mono) {
            self.duties.review_at = None;
            self.review_quarantines();
        }
    }

    /// An operator limits how many requests a mover runs at the same time, or ends that. Returns why not.
    pub(super) fn limit_by_order(
        &mut self,
        name: &str,
        most: Option<u32>,
        effects: &mut Effects,
    ) -> Result<(), String> {
        if name.is_empty() {
            return Err("a mover without an id cannot be limited".to_owned());
        }
        if self.duties.get(name).and_then(|duty| duty.most) == most {
            return Ok(());
        }
        if most.is_some() && self.duties.named() >= MOST_NAMED {
            return Err(format!("{MOST_NAMED} movers are drained or limited already"));
        }
        self.duties.get_mut(name).most = most;
        self.tell_mover(name, MoverChange::Limited(most));
        let value = most.map(|most| format!("max={most}"));
        effects.store.push(StoreOp::Note { name: format!("{LIMIT}{name}"), value });
        if let Some(mover) = self.mover_named(name) {
            self.review_mover(mover);
        }
        Ok(())
    }

    /// A note of an earlier run. Returns whether it was about a limit of an operator.
    pub(super) fn recovered_limit(&mut self, note: &str, value: &str) -> bool {
        let Some(name) = note.strip_prefix(LIMIT).filter(|name| !name.is_empty()) else {
            return false;
        };
        let Some(most) = value.strip_prefix("max=").and_then(|most| most.parse().ok()) else {
            tracing::error!(note, value, "cannot read a note on a limit");
            return true;
        };
        tracing::warn!(mover = name, most, "an operator limited what this mover runs at the same time");
        self.duties.get_mut(name).most = Some(most);
        if let Some(mover) = self.mover_named(name) {
            self.review_mover(mover);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_they_were_written() {
        let wall = |at: Mono| Wall(at.0 as i64 + 5);
        let until = to_note(Quarantine::Until(Mono(10)), 3, wall);
        assert_eq!((&*until, from_note(&until)), ("until=15 times=3", Some((Some(Wall(15)), 3))));
        let trial = to_note(Quarantine::Trial(7), 1, wall);
        assert_eq!((&*trial, from_note(&trial)), ("trial times=1", Some((None, 1))));
        for wrong in ["", "until= times=1", "until=1", "trial", "trial times=x", "other times=1"] {
            assert_eq!(from_note(wrong), None, "{wrong}");
        }
    }
}
