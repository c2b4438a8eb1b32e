//! Calls on the MDTs: each goes to the threads of its MDT, so that one that is away holds up nobody else.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lustreapi_sys::Fid;

use super::call::Call;
use super::lane::{Lane, Make};
use super::link::{CurrentMount, Tell};
use super::mount::Mount;
use super::sys;
use crate::hsm::{ActionItem, LustreCall};

/// Sequences remembered with their MDT. One sequence is some 100,000 files of one client.
const MAX_CACHED: usize = 100_000;
/// Calls that wait until it is known which MDT they are for.
const MOST_UNROUTED: usize = 8_192;
/// Stands for files whose MDT cannot be told: the kernel finds the way, but they share threads.
const ANY_MDT: u32 = u32::MAX;

/// Makes calls on the MDTs. Nothing here blocks.
pub struct Calls {
    shared: Arc<Shared>,
    unrouted: SyncSender<Call>,
}

struct Shared {
    mount: CurrentMount,
    tell: Tell,
    make: Make,
    routes: Mutex<Routes>,
}

struct Routes {
    /// What the sequences were found out with.
    mount: Arc<Mount>,
    /// MDT of each sequence.
    known: BTreeMap<u64, u32>,
    lanes: BTreeMap<u32, Lane>,
}

impl Routes {
    fn lane(&mut self, mdt: u32, make: &Make) -> io::Result<&Lane> {
        Ok(match self.lanes.entry(mdt) {
            Entry::Occupied(lane) => lane.into_mut(),
            Entry::Vacant(place) => place.insert(Lane::start(make)?),
        })
    }
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

impl Calls {
    /// Starts the first thread, which finds out which MDT files are on, since that may wait as well; the others start when
    /// they are needed.
    pub fn start(mount: CurrentMount, tell: Tell) -> io::Result<Self> {
        let make: Make = {
            let (mount, tell) = (mount.clone(), Arc::clone(&tell));
            Arc::new(move |call: &Call| tell(call.make(&mount.get())))
        };
        let routes = Routes { mount: mount.get(), known: BTreeMap::new(), lanes: BTreeMap::new() };
        let shared = Arc::new(Shared { mount, tell, make, routes: Mutex::new(routes) });
        let (unrouted, queue) = sync_channel(MOST_UNROUTED);
        let router = Arc::clone(&shared);
        std::thread::Builder::new().name("mdt-find".into()).spawn(move || router.run(&queue))?;
        Ok(Self { shared, unrouted })
    }

    /// Ends a request with a positive errno. [`super::link::FromLustre::Ended`] follows, with EAGAIN if too much waits for
    /// that MDT already.
    pub fn end(&self, item: ActionItem, errno: i32) {
        self.route(Call::End(Box::new(item), errno));
    }

    /// Begins a call. [`super::link::FromLustre::Answered`] follows, with EAGAIN if too much waits for that MDT already.
    pub fn ask(&self, call: LustreCall) {
        self.route(Call::Ask(call));
    }

    fn route(&self, call: Call) {
        if let Some(mdt) = self.shared.known(call.fid()) {
            return self.shared.send(mdt, call);
        }
        match self.unrouted.try_send(call) {
            Ok(()) => {}
            Err(TrySendError::Full(call) | TrySendError::Disconnected(call)) => {
                (self.shared.tell)(call.failed(libc::EAGAIN));
            }
        }
    }
}

impl Shared {
    fn run(&self, queue: &Receiver<Call>) {
        while let Ok(call) = queue.recv() {
            let fid = call.fid();
            let mdt = self.known(fid).unwrap_or_else(|| self.find(fid));
            self.send(mdt, call);
        }
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The MDT of a sequence, if it was found out on this mount.
    fn known(&self, fid: Fid) -> Option<u32> {
        let mount = self.mount.get();
        let mut routes = self.routes();
        if !Arc::ptr_eq(&routes.mount, &mount) {
            // Mounted anew: perhaps even made anew.
            routes.known.clear();
            routes.mount = mount;
        }
        routes.known.get(&fid.seq).copied()
    }

    /// Asks the kernel, which may have to ask an MDT.
    fn find(&self, fid: Fid) -> u32 {
        let mount = self.mount.get();
        match sys::mdt_index(mount.root(), fid) {
            Ok(mdt) => {
                let mut routes = self.routes();
                if routes.known.len() >= MAX_CACHED {
                    routes.known.clear();
                }
                if Arc::ptr_eq(&routes.mount, &mount) {
                    routes.known.insert(fid.seq, mdt);
                }
                mdt
            }
            Err(error) => {
                tracing::debug!(%fid, "no MDT index: {error}");
                ANY_MDT
            }
        }
    }

    fn send(&self, mdt: u32, call: Call) {
        let refused = {
            let mut routes = self.routes();
            match routes.lane(mdt, &self.make) {
                Ok(lane) => lane.push(call).err(),
                Err(error) => {
                    tracing::error!("cannot start threads for MDT {mdt}: {error}");
                    Some(call)
                }
            }
        };
        if let Some(call) = refused {
            tracing::debug!(fid = %call.fid(), mdt, "too much waits for this MDT");
            (self.tell)(call.failed(libc::EAGAIN));
        }
    }
}
