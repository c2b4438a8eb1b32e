//! What looks at files for the core: whose they are, where their data lies, and how full the file system is.

use std::io;
use std::sync::Arc;

use super::attributes::Lookups;
use super::locator::Locator;
use super::locator::settings::LocatorSettings;
use super::shell::FileCalls;
use super::space;
use crate::hsm::{Event, Located, RequestKey, Sought, Wanted};
use crate::lustre::link::CurrentMount;

type Tell = Arc<dyn Fn(Event) + Send + Sync>;

/// Everything that looks at files.
pub struct Files {
    /// `None` without a Lustre: there is no file to look at.
    lookups: Option<Lookups>,
    locator: Option<Locator>,
    tell: Tell,
}

impl Files {
    /// Starts the threads that are needed. `space` says whether the core wants to know how full the file system is.
    pub fn start(
        mount: Option<CurrentMount>,
        locator: Option<LocatorSettings>,
        space: bool,
        tell: impl Fn(Event) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let tell: Tell = Arc::new(tell);
        let of = |event: fn(_) -> Event| {
            let tell = Arc::clone(&tell);
            move |found| tell(event(found))
        };
        let lookups = mount.clone().map(|mount| Lookups::start(mount, of(Event::LookedUp))).transpose()?;
        if let Some(mount) = mount.clone().filter(|_| space) {
            let tell = Arc::clone(&tell);
            space::watch(mount, move |percent| tell(Event::SpaceUsed(percent)))?;
        }
        let found = Arc::clone(&tell);
        let locator = locator
            .map(|settings| Locator::start(settings, mount, move |located| found(Event::Located(located))))
            .transpose()?;
        Ok(Self { lookups, locator, tell })
    }
}

impl FileCalls for Files {
    fn look_up(&self, keys: Vec<RequestKey>, wanted: Wanted) {
        match &self.lookups {
            Some(lookups) => lookups.look_up(keys, wanted),
            None => (self.tell)(Event::LookedUp(keys.into_iter().map(|key| (key, None)).collect())),
        }
    }

    fn locate(&self, sought: Vec<Sought>) {
        match &self.locator {
            Some(locator) => locator.locate(sought),
            None => {
                let failed = sought.into_iter().map(|sought| (sought.key, Located::Failed)).collect();
                (self.tell)(Event::Located(failed));
            }
        }
    }
}
