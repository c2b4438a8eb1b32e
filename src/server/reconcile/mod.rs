//! Compares what is known here with what the MDTs list.
//!
//! A listing goes to the core in steps, whoever hands it in: a command that is run at intervals ([`periodic`]), or an
//! administrator, perhaps from another thread. [`Intake::begin`] says what it is; [`super::shell::Shell::reconcile`] begins;
//! [`Feed`] makes steps of its bytes, which go to [`super::shell::Shell::reconcile_step`].

pub mod command;
pub mod periodic;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::hsm::reconcile::{Adopt, Listing};
pub use crate::lustre::feed::Feed;
use crate::lustre::link::CurrentMount;
use crate::lustre::mount::Mount;

/// What lists the requests of the MDTs, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The command's words; none for no command.
    pub command: Vec<String>,
    /// From one run to the next; zero for one run only, at the start.
    pub interval: Duration,
    /// How long it may take.
    pub timeout: Duration,
    /// What may be adopted.
    pub adopt: Whose,
}

/// Whose requests may be adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Nobody's.
    None,
    /// Those that were given to this client mount.
    Own,
    /// Everybody's: there is no other copytool on this file system.
    All,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            interval: Duration::from_secs(3600),
            timeout: Duration::from_secs(300),
            adopt: Whose::Own,
        }
    }
}

impl Whose {
    /// What that means on this mount.
    pub fn on(self, mount: Option<&Mount>) -> Adopt {
        match (self, mount) {
            (Self::None, _) | (_, None) => Adopt::Nothing,
            (Self::All, Some(_)) => Adopt::All,
            (Self::Own, Some(mount)) => match mount.uuid() {
                Ok(uuid) => Adopt::Agent(uuid.into()),
                Err(error) => {
                    tracing::warn!(
                        "the uuid of this client cannot be read, so requests that only the MDT knows are not adopted: \
                         {error} (`reconcile_adopt all` adopts them, where no other copytool is registered)"
                    );
                    Adopt::Nothing
                }
            },
        }
    }
}

/// What whoever hands in a listing needs.
#[derive(Debug, Clone)]
pub struct Intake {
    fsname: Arc<str>,
    mount: Option<CurrentMount>,
    settings: watch::Receiver<Settings>,
}

impl Intake {
    /// For this file system.
    pub fn new(fsname: &str, mount: Option<CurrentMount>, settings: watch::Receiver<Settings>) -> Self {
        Self { fsname: fsname.into(), mount, settings }
    }

    /// Begins a listing: of some MDTs, whose requests may be adopted as configured. Asks the kernel for a name and reads a
    /// file, but waits for no MDT.
    pub fn begin(&self, source: &str) -> (Listing, Feed) {
        let adopt = self.settings.borrow().adopt;
        let mount = self.mount.as_ref().map(CurrentMount::get);
        let listing =
            Listing { source: source.to_owned(), all_mdts: false, adopt: adopt.on(mount.as_deref()) };
        (listing, Feed::new(&self.fsname))
    }

    /// What may be adopted where somebody says so for one listing. Asks and reads as [`Intake::begin`] does.
    pub fn adopt(&self, whose: Whose) -> Adopt {
        whose.on(self.mount.as_ref().map(CurrentMount::get).as_deref())
    }

    /// Name of the file system.
    pub fn fsname(&self) -> &str {
        &self.fsname
    }
}
