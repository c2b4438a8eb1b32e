//! Calls on the MDTs: each goes to the threads of its MDT, so that one that is away holds up nobody else.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::call::Call;
use super::lane::Make;
use super::link::{CurrentMount, Tell};
use super::mount::Mount;
use super::router::{Find, Router};
use super::sys;
use crate::hsm::{ActionItem, LustreCall};

/// Makes calls on the MDTs. Nothing here blocks.
pub struct Calls {
    mount: CurrentMount,
    /// What the router knows the MDTs of. It must not keep a file system busy that was unmounted.
    known: Mutex<Weak<Mount>>,
    router: Router,
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

impl Calls {
    /// Starts the threads that find out which MDT files are on, since that may wait as well; the others start when they are
    /// needed.
    pub fn start(mount: CurrentMount, tell: Tell) -> io::Result<Self> {
        let make: Make = {
            let (mount, tell) = (mount.clone(), Arc::clone(&tell));
            Arc::new(move |call: &Call| tell(call.make(&mount.get())))
        };
        let find: Find = {
            let mount = mount.clone();
            Arc::new(move |fid| {
                let found = sys::mdt_index(mount.get().root(), fid);
                found.inspect_err(|error| tracing::debug!(%fid, "no MDT index: {error}")).ok()
            })
        };
        let known = Mutex::new(Arc::downgrade(&mount.get()));
        Ok(Self { mount, known, router: Router::start(find, make, tell)? })
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
        let mount = Arc::downgrade(&self.mount.get());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.ptr_eq(&mount) {
            self.router.forget();
            *known = mount;
        }
        drop(known);
        self.router.route(call);
    }
}
