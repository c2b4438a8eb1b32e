//! What the threads that talk to Lustre share, and what they tell the daemon's loop.

use std::sync::{Arc, Mutex, PoisonError};

use super::mount::Mount;
use crate::hsm::{LustreAnswer, RequestKey};

/// What threads that talk to Lustre tell the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromLustre {
    /// An action list, as bytes: [`super::list::read`] reads it.
    List(Vec<u8>),
    /// A request was ended: the answer to [`crate::hsm::Effect::EndAtLustre`].
    Ended {
        /// Which.
        key: RequestKey,
        /// 0 or a positive errno.
        errno: i32,
    },
    /// The answer to [`crate::hsm::Effect::AskLustre`].
    Answered(LustreAnswer),
    /// The registration has ended as it was told to, and everything that was in the pipe has been handed over.
    Stopped,
}

/// Takes what threads tell the loop. Never blocks.
pub type Tell = Arc<dyn Fn(FromLustre) + Send + Sync>;

/// The mount as it is now: it is opened anew when the file system was mounted anew.
#[derive(Debug, Clone)]
pub struct CurrentMount(Arc<Mutex<Arc<Mount>>>);

impl CurrentMount {
    /// Begins with this one.
    pub fn new(mount: Mount) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(mount))))
    }

    /// The mount to use now.
    pub fn get(&self) -> Arc<Mount> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace(&self, mount: Mount) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(mount);
    }
}
