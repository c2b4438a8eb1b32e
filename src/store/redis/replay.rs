//! What an earlier run could not give to redis any more, at the next start.

use redis::RedisError;

use super::link::takes_nothing;
use super::meta::Meta;
use super::names::Hash;
use super::recovery::not_connected;
use super::spill::{SpillFile, SpillHead};
use super::store::{BATCH_BYTES, RedisStore};
use crate::hsm::effect::StoreOp;
use crate::store::{Recovery, StoreError};

/// What became of an earlier run's changes.
#[derive(Debug)]
pub(super) enum Earlier {
    /// There were none.
    Nothing,
    /// Redis has them now; the generation of that run.
    Written(u64),
    /// Redis takes nothing: they stay where they are.
    Refused(Refused),
}

/// Changes of an earlier run that redis does not take.
#[derive(Debug)]
pub(super) struct Refused {
    /// What they belong to.
    pub about: SpillHead,
    /// The files they are in.
    pub numbers: Vec<u32>,
    /// What was to be done with them.
    pub plan: Plan,
    /// What redis says.
    pub reason: String,
}

/// What becomes of an earlier run's changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// Redis has them.
    Nothing,
    /// Redis lacks just these.
    Changes,
    /// They begin, at this file, with all that there is: redis is emptied first.
    Anew(usize),
    /// Redis is older than they are: the best that can be done.
    Incomplete,
    /// Another run has written since.
    Merge,
}

impl Plan {
    /// Files that are of no more use.
    pub fn skip(self) -> usize {
        if let Self::Anew(begin) = self { begin } else { 0 }
    }
}

impl RedisStore {
    /// Gives redis what an earlier run could not.
    pub(super) fn replay_earlier(
        &mut self,
        meta: &Meta,
        recovery: &mut Recovery,
    ) -> Result<Earlier, StoreError> {
        let numbers = self.spill.files();
        let mut files = Vec::new();
        let mut about = None;
        for number in &numbers {
            let file = self.spill.read(*number).map_err(|error| self.spill_error(error))?;
            if !file.damaged.is_empty() {
                self.spill.set_aside(*number);
            }
            about = file.about.clone().or(about);
            files.push((file.snapshot, file.snapshot_end));
        }
        let Some(about) = about else {
            if !numbers.is_empty() {
                self.spill.clear();
            }
            return Ok(Earlier::Nothing);
        };
        if about.namespace != self.names.namespace() || about.fsname != self.fsname {
            return Err(StoreError::Incompatible {
                store: self.server.to_string(),
                reason: format!(
                    "{} has changes for the keys `{}_...` of the file system `{}`: start with these settings once, or \
                     move it away",
                    self.spill.path().display(),
                    about.namespace,
                    about.fsname
                ),
            });
        }
        // The last snapshot that is complete.
        let end = files.iter().rposition(|(_, end)| *end);
        let begin = end.and_then(|end| files[..=end].iter().rposition(|(begin, _)| *begin));
        let plan = match (begin, meta.stamp_of_all()) {
            // Redis went on without us after all.
            (_, Some(stamp))
                if stamp.at(0) == about.confirmed.at(0) && stamp.sequence > about.attempted + 1 =>
            {
                tracing::warn!("{} holds nothing that redis does not have", self.spill.path().display());
                Plan::Nothing
            }
            (_, Some(stamp)) if stamp.generation > about.confirmed.generation => Plan::Merge,
            (Some(begin), _) => Plan::Anew(begin),
            (None, stamp) if about.follows(stamp) => Plan::Changes,
            (None, _) => Plan::Incomplete,
        };
        if matches!(plan, Plan::Merge | Plan::Incomplete) {
            tracing::error!(
                "{}: not what it was when {} was written: what is there is merged with what it holds",
                self.server,
                self.spill.path().display()
            );
        }
        if let Some(reason) = self.replay_files(&numbers, plan, recovery)? {
            return Ok(Earlier::Refused(Refused { about, numbers, plan, reason }));
        }
        if !self.spill.clear() {
            tracing::warn!("cannot sync {}", self.spill.path().display());
        }
        Ok(Earlier::Written(about.confirmed.generation))
    }

    /// Returns why redis takes nothing, if that can be lived with.
    fn replay_files(
        &mut self,
        numbers: &[u32],
        plan: Plan,
        recovery: &mut Recovery,
    ) -> Result<Option<String>, StoreError> {
        if plan == Plan::Nothing {
            return Ok(None);
        }
        let written = self.replay_all(&numbers[plan.skip()..], plan, recovery)?;
        self.places.clear();
        match written {
            Ok(count) => {
                tracing::warn!("{}: {count} changes of an earlier run written", self.server);
                Ok(None)
            }
            // What is merged with the changes of another run is not known without redis.
            Err(error) if takes_nothing(&error) && plan != Plan::Merge => Ok(Some(error.to_string())),
            Err(error) => Err(self.error("changes of an earlier run cannot be written", error)),
        }
    }

    fn replay_all(
        &mut self,
        numbers: &[u32],
        plan: Plan,
        recovery: &mut Recovery,
    ) -> Result<Result<u64, RedisError>, StoreError> {
        let prepared = match plan {
            Plan::Anew(_) => self.unlink_all(),
            _ => self.learn_places(recovery),
        };
        if let Err(error) = prepared {
            return Ok(Err(error));
        }
        let mut count = 0_u64;
        for number in numbers {
            let file = self.spill.read(*number).map_err(|error| self.spill_error(error))?;
            match self.replay_file(&file, plan) {
                Ok(changes) => count += changes,
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(count))
    }

    fn replay_file(&mut self, file: &SpillFile, plan: Plan) -> Result<u64, RedisError> {
        let mut batch = self.batch(false);
        let mut count = 0;
        for frame in 0..file.len() {
            let Some(op) = file.op(frame) else { continue };
            // Somebody else knows better who runs what.
            if plan == Plan::Merge && matches!(op, StoreOp::Assign { .. } | StoreOp::Unassign { .. }) {
                continue;
            }
            batch.add(&op, &mut self.places);
            count += 1;
            if batch.bytes() >= BATCH_BYTES {
                self.write(&mut batch)?;
            }
        }
        self.write(&mut batch)?;
        Ok(count)
    }

    fn unlink_all(&mut self) -> Result<(), RedisError> {
        let mut unlink = redis::cmd("UNLINK");
        for hash in Hash::ALL {
            unlink.arg(self.names.hash(hash));
        }
        match &mut self.link {
            Some(link) => link.ask(&unlink),
            None => Err(not_connected()),
        }
    }
}
