//! What happens, for those who follow it: collected only while somebody does.
//!
//! Nothing here decides anything, and nothing is kept: the shell takes what there is after each event.

use std::sync::Arc;

use super::Coordinator;
use super::action::{Action, RequestKey};
use super::index::NIL;
use super::requests::Handle;
use super::time::Wall;
use super::views::Outcome;

/// What happened to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestChange {
    /// It came, and is queued or set aside.
    Admitted,
    /// It was given to a mover.
    Sent,
    /// A mover says that it has been running it.
    Claimed,
    /// It went back to its queue from a mover.
    Requeued,
    /// It ended.
    Ended {
        /// How.
        outcome: Outcome,
        /// 0 or a positive errno.
        status: i32,
    },
}

/// What happened to a mover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoverChange {
    /// It came, for the first time or again.
    Connected,
    /// Its connection is gone; what it runs is still its own.
    Away,
    /// It is forgotten: it did not come back in time, or had nothing left.
    Gone,
    /// An operator lets it have nothing new (`true`), or lets it work again.
    Drained(bool),
    /// An operator limits what it runs at the same time, or ends that.
    Limited(Option<u32>),
    /// It failed too often and gets nothing until then.
    Quarantined(Wall),
    /// After a quarantine it gets one request, which decides.
    Trial,
    /// Its quarantine is over.
    Released,
}

/// To whom it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A request.
    Request {
        /// Its identity.
        key: RequestKey,
        /// What is to be done.
        action: Action,
        /// Archive id.
        archive_id: u32,
        /// The mover that has it, or had it last in this step.
        mover: Option<Arc<str>>,
        /// What happened.
        change: RequestChange,
    },
    /// A mover.
    Mover {
        /// Its id.
        id: Arc<str>,
        /// What happened.
        change: MoverChange,
    },
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// When.
    pub at: Wall,
    /// What, to whom.
    pub subject: Subject,
}

/// What happened in this step.
#[derive(Debug, Default)]
pub(super) struct Feed {
    on: bool,
    happened: Vec<Happening>,
}

impl Coordinator {
    /// Whether what happens is to be collected; [`Self::take_happened`] must follow each event then.
    pub fn watch(&mut self, on: bool) {
        self.feed.on = on;
        if !on {
            self.feed.happened = Vec::new();
        }
    }

    /// What has happened since this was last asked.
    pub fn take_happened(&mut self) -> std::vec::Drain<'_, Happening> {
        self.feed.happened.drain(..)
    }

    /// Something happened to a request.
    pub(super) fn tell_request(&mut self, handle: Handle, mover: Option<&Arc<str>>, change: RequestChange) {
        if !self.feed.on {
            return;
        }
        let request = self.requests.at(handle);
        let owner = (request.owner != NIL).then(|| self.movers.at(request.owner).id.clone());
        let subject = Subject::Request {
            key: request.key(),
            action: request.kind.action(),
            archive_id: self.classes.at(request.class).key.archive_id,
            mover: mover.cloned().or(owner),
            change,
        };
        self.feed.happened.push(Happening { at: self.now.wall, subject });
    }

    /// Something happened to a mover.
    pub(super) fn tell_mover(&mut self, id: &str, change: MoverChange) {
        if self.feed.on {
            let subject = Subject::Mover { id: id.into(), change };
            self.feed.happened.push(Happening { at: self.now.wall, subject });
        }
    }
}
