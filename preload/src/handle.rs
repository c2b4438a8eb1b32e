//! The object that a copytool holds in place of liblustreapi's.

use std::cell::UnsafeCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::time::Duration;

use coordinatool::security::Keys;
use coordinatool::shim::{Level, Shim};
use lustreapi_sys::abi::{LL_HSM_MAX_ARCHIVES_PER_AGENT, hsm_copytool_private};

use crate::config::Config;
use crate::descriptors::Descriptors;
use crate::engine::{Engine, Security};
use crate::lock::{Guard, PidLock};
use crate::record::Record;
use crate::shared::Shared;
use crate::{attempts, clock, log, net, real};

/// Neither liblustreapi's magic nor that of the C library: a call that we do not stand in for answers EINVAL.
const MAGIC: u32 = 0xC0BE_5123;

/// How long register waits for a server. After that the copytool starts all the same, and recv goes on trying.
const REGISTER_PATIENCE: Duration = Duration::from_secs(5);
/// Milliseconds between two attempts at opening descriptors again.
const MEND_PAUSE: u64 = 100;
/// How often a tenth of a second is waited for room in the pipe of records before one is given up.
const TELL_WAITS: u32 = 600;

/// A copytool. It is made by register and never freed: unregister is called in signal handlers, and other threads may be
/// using it.
///
/// The head is what the real begin and end look at; everything else is ours.
#[derive(Debug)]
#[repr(C)]
pub struct Handle {
    head: UnsafeCell<hsm_copytool_private>,
    /// Set by unregister.
    dead: AtomicBool,
    /// What threads and children have in common.
    pub shared: &'static Shared,
    lock: PidLock,
    engine: UnsafeCell<Engine>,
    fds: Descriptors,
    /// How many calls are under way: as long as there are any, nothing is closed under their feet.
    inside: AtomicUsize,
    /// Whether recv does not block, as was last seen.
    nonblocking: AtomicBool,
    /// The copytool registered before.
    before: AtomicPtr<Self>,
}

/// The copytool registered last; each knows the one before. For finding out whether a file system has one already.
static LAST: AtomicPtr<Handle> = AtomicPtr::new(ptr::null_mut());

/// A call that is under way.
#[derive(Debug)]
pub struct Inside(&'static Handle);

impl Drop for Inside {
    fn drop(&mut self) {
        if self.0.inside.fetch_sub(1, Ordering::SeqCst) == 1 && self.0.is_dead() {
            self.0.close();
        }
    }
}

// SAFETY: everything but head and engine is atomic. The engine is reached only under the lock; head's descriptors are
// written when they are closed or replaced only, where liblustreapi itself makes no stronger promise to threads that still
// use them.
unsafe impl Sync for Handle {}
// SAFETY: nothing in it belongs to one thread.
unsafe impl Send for Handle {}

fn errno(error: &io::Error) -> c_int {
    -error.raw_os_error().unwrap_or(libc::EIO)
}

impl Handle {
    /// The handle behind a copytool's pointer, if it is one of ours.
    ///
    /// # Safety
    ///
    /// `ct` is null, or points to what register made, ours or liblustreapi's.
    pub unsafe fn of(ct: *const hsm_copytool_private) -> Option<&'static Self> {
        // SAFETY: every kind of copytool begins with its magic.
        let magic = unsafe { ct.cast::<u32>().as_ref() }?;
        if *magic != MAGIC {
            return None;
        }
        // SAFETY: with our magic it is a handle, which is never freed.
        unsafe { ct.cast::<Self>().as_ref() }
    }

    /// What stands for this handle in the copytool.
    pub fn as_ct(&'static self) -> *mut hsm_copytool_private {
        self.head.get()
    }

    /// Registers: opens the file system, reads the configuration, and tries to reach a server for a short while.
    pub fn register(mnt: &CStr, archives: &[c_int], flags: c_int) -> Result<&'static Self, c_int> {
        let archive_ids = archive_ids(archives)?;
        let config =
            Config::load(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
                .map_err(|problem| {
                    log::line(Level::Error, &problem.to_string());
                    -libc::EINVAL
                })?;
        let security = security(&config)?;
        let fsname = fsname(mnt)?;
        let nonblocking = flags & libc::O_NONBLOCK != 0;
        let fds = Descriptors::open(mnt, nonblocking).map_err(|(what, error)| {
            log::line(Level::Error, &format!("{what}: {error}"));
            errno(&error)
        })?;
        if Self::is_registered(fds.mnt.opened_as()) {
            fds.close();
            let mnt = mnt.to_string_lossy();
            log::line(Level::Error, &format!("a copytool is registered for {mnt} already"));
            return Err(-libc::EEXIST);
        }
        let shared = Shared::new().map_err(|error| {
            fds.close();
            errno(&error)
        })?;
        shared.set_owner(clock::pid());
        let head = hsm_copytool_private {
            magic: MAGIC as c_int,
            mnt: CString::from(mnt).into_raw(),
            kuch: ptr::null_mut(),
            mnt_fd: fds.mnt.get(),
            open_by_fid_fd: fds.by_fid.get(),
            kuc: ptr::null_mut(),
        };
        let shim = Shim::new(config.shim(fsname, archive_ids, nonblocking));
        let engine = Engine::new(shim, config.servers(), security);
        let handle: &'static Self = Box::leak(Box::new(Self {
            head: UnsafeCell::new(head),
            dead: AtomicBool::new(false),
            shared,
            lock: PidLock::default(),
            engine: UnsafeCell::new(engine),
            fds,
            inside: AtomicUsize::new(0),
            nonblocking: AtomicBool::new(nonblocking),
            before: AtomicPtr::new(ptr::null_mut()),
        }));
        match handle.first_connection() {
            Ok(()) => {
                handle.remember();
                Ok(handle)
            }
            Err(error) => {
                handle.unregister();
                Err(error)
            }
        }
    }

    /// Whether a file system, told by its root, has a copytool already: the kernel refuses a second one with EEXIST.
    fn is_registered(root: (u64, u64)) -> bool {
        let mut next = LAST.load(Ordering::Acquire);
        // SAFETY: only handles, which are never freed, are in the list.
        while let Some(handle) = unsafe { next.as_ref() } {
            if !handle.is_dead() && handle.fds.mnt.opened_as() == root && handle.owner_lives() {
                return true;
            }
            next = handle.before.load(Ordering::Acquire);
        }
        false
    }

    fn remember(&'static self) {
        let me = ptr::from_ref(self).cast_mut();
        let mut last = LAST.load(Ordering::Acquire);
        loop {
            self.before.store(last, Ordering::Release);
            match LAST.compare_exchange_weak(last, me, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(seen) => last = seen,
            }
        }
    }

    /// To be held during a call.
    pub fn enter(&'static self) -> Inside {
        self.inside.fetch_add(1, Ordering::SeqCst);
        Inside(self)
    }

    /// Tries to reach a server. Only a name that does not exist is an error: it is a mistake in the configuration.
    fn first_connection(&'static self) -> Result<(), c_int> {
        let deadline = clock::now() + REGISTER_PATIENCE;
        loop {
            let ready = self.with_engine(|engine| {
                engine.run(self, true);
                if engine.hopeless() { Err(-libc::EIO) } else { Ok(engine.is_ready()) }
            })?;
            if ready {
                return Ok(());
            }
            let left = deadline.since(clock::now());
            if left.is_zero() {
                log::line(Level::Warn, "no server answers yet: starting all the same");
                return Ok(());
            }
            self.wait(left);
        }
    }

    /// Does something with the engine, waiting for whoever has it.
    pub fn with_engine<T>(&'static self, use_it: impl FnOnce(&mut Engine) -> T) -> T {
        let guard = self.lock.lock();
        self.locked(guard, use_it)
    }

    fn locked<T>(&'static self, guard: Guard<'_>, use_it: impl FnOnce(&mut Engine) -> T) -> T {
        // SAFETY: the guard shows that nobody else in this process has the engine, and it is released only afterwards.
        let engine = unsafe { &mut *self.engine.get() };
        let result = use_it(engine);
        drop(guard);
        result
    }

    /// Lets the connection make progress if nobody else is at it and this is the process it belongs to.
    pub fn pump(&'static self, may_resolve: bool) {
        if self.is_dead() || self.shared.owner() != clock::pid() {
            return;
        }
        if let Some(guard) = self.lock.try_lock() {
            self.locked(guard, |engine| engine.run(self, may_resolve));
        }
    }

    /// Waits until there may be something to do, or this long.
    pub fn wait(&self, at_most: Duration) {
        let millis = c_int::try_from(at_most.as_millis()).unwrap_or(c_int::MAX).max(1);
        self.wait_millis(millis);
    }

    /// Waits until there may be something to do.
    pub fn wait_for_ever(&self) {
        self.wait_millis(-1);
    }

    fn wait_millis(&self, millis: c_int) {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: there is room for the one event asked for. Errors and signals count as an event.
        let n = unsafe { libc::epoll_wait(self.fds.epoll.get(), &mut event, 1, millis) };
        if n < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            // The copytool closed it. It is mended at the next turn; where that fails, this is what keeps us from spinning.
            let nap = u64::try_from(millis).unwrap_or(MEND_PAUSE).min(MEND_PAUSE);
            std::thread::sleep(Duration::from_millis(nap));
        }
    }

    /// Whether recv may block: the descriptor's own flag, which copytools may change.
    pub fn nonblocking(&self) -> bool {
        if self.fds.can_wait() {
            // SAFETY: F_GETFL takes no argument and changes nothing.
            let flags = unsafe { libc::fcntl(self.fds.epoll.get(), libc::F_GETFL) };
            self.nonblocking.store(flags >= 0 && flags & libc::O_NONBLOCK != 0, Ordering::Release);
        }
        self.nonblocking.load(Ordering::Acquire)
    }

    /// Replaces descriptors that the copytool has closed. Returns whether the epoll is a new one. Needs the lock.
    pub fn mend(&self) -> bool {
        log::line(Level::Warn, "descriptors of ours were closed by the copytool: opening them again");
        // SAFETY: the head is valid for as long as the process lives, and its string is never freed.
        let mnt = unsafe { CStr::from_ptr((*self.head.get()).mnt) };
        match self.fds.mend(mnt, self.nonblocking.load(Ordering::Acquire)) {
            Ok(new) => {
                self.show_descriptors();
                new
            }
            Err((what, error)) => {
                log::line(Level::Error, &format!("{what}: {error}"));
                false
            }
        }
    }

    /// Puts into the head what the real begin, progress and end use.
    fn show_descriptors(&self) {
        // SAFETY: head is valid for as long as the process lives. The real library changes nothing in it either while
        // others may read it; they find descriptors that are closed, as there.
        unsafe {
            (*self.head.get()).mnt_fd = self.mnt_fd();
            (*self.head.get()).open_by_fid_fd = self.by_fid_fd();
        }
    }

    /// Whether unregister was called.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// Descriptors.
    pub fn fds(&self) -> &Descriptors {
        &self.fds
    }

    /// The root of the file system; -1 after unregister.
    pub fn mnt_fd(&self) -> c_int {
        self.fds.mnt.get()
    }

    /// `.lustre/fid`; -1 after unregister.
    pub fn by_fid_fd(&self) -> c_int {
        self.fds.by_fid.get()
    }

    /// Hands a record to the process that talks to the daemon.
    pub fn tell(&'static self, record: &Record) {
        let bytes = record.encode();
        let mut waits = 0u32;
        loop {
            // Not into a file of the copytool's that has the number now.
            if !self.fds.tell.is_ours() {
                if self.is_dead() || self.shared.owner() != clock::pid() || waits >= TELL_WAITS {
                    return self.cannot_tell(record, "the copytool closed our descriptor");
                }
                waits += 1;
                self.mend_soon();
                continue;
            }
            let pipe = self.fds.tell.get();
            let mut poll = libc::pollfd { fd: pipe, events: libc::POLLOUT, revents: 0 };
            // SAFETY: one pollfd is given, and its count.
            let ready = unsafe { libc::poll(&mut poll, 1, 100) };
            if ready > 0 {
                // SAFETY: the pointer and length are those of the record, which is written in one piece or not at all.
                let n = unsafe { libc::write(pipe, bytes.as_ptr().cast(), bytes.len()) };
                let error = io::Error::last_os_error();
                if n >= 0 {
                    return;
                }
                if error.kind() != io::ErrorKind::Interrupted {
                    return self.cannot_tell(record, &error.to_string());
                }
            } else if self.is_dead() || !self.owner_lives() || self.shared.is_closed() {
                return self.cannot_tell(record, "nobody is left");
            } else if waits >= TELL_WAITS {
                // A parent that waits for its child and reads nothing: both would wait for ever.
                return self.cannot_tell(record, "nobody reads what we say");
            }
            waits += 1;
            // The pipe is full: in a copytool of one thread nobody else empties it.
            self.pump(false);
        }
    }

    fn cannot_tell(&self, record: &Record, why: &str) {
        log::line(Level::Error, &format!("cannot tell the server of {}: {why}", record.key));
    }

    /// Mends descriptors, or waits a little for whoever has the lock.
    fn mend_soon(&'static self) {
        match self.lock.try_lock() {
            Some(guard) => self.locked(guard, |engine| engine.mend(self)),
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }

    /// Whether the process that talks to the daemon exists.
    fn owner_lives(&self) -> bool {
        let owner = self.shared.owner();
        if owner == clock::pid() {
            return true;
        }
        // SAFETY: signal 0 is not sent, only the process's existence is checked.
        let result = unsafe { libc::kill(owner, 0) };
        result == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
    }

    /// Whether work must stop because the daemon may have given it to another mover.
    ///
    /// A forked child cannot renew the lease, nor can a parent that waits for its child: as long as the parent lives but
    /// has not looked at its connection of late, a child goes on as if the lease held.
    ///
    /// A child whose parent is gone has no lease any more, however long that would hold: the next process with the mover's
    /// name does not claim what it does not know, and the daemon then gives it out again at once. Where the daemon grants no
    /// leases a child goes on, as with the C version's library.
    pub fn lapsed(&self) -> bool {
        let now = clock::now();
        if self.shared.has_lease() && !self.owner_lives() {
            return true;
        }
        if !self.shared.lapsed(now) {
            return false;
        }
        const RECENT: Duration = Duration::from_secs(10);
        self.shared.owner() == clock::pid() || now.since(self.shared.pumped_at()) < RECENT
    }

    /// Waits for the lease to be renewed, and helps. Returns whether it holds.
    pub fn await_lease(&'static self, at_most: Duration) -> bool {
        let deadline = clock::now() + at_most;
        while self.lapsed() {
            self.pump(true);
            if !self.lapsed() {
                break;
            }
            let left = deadline.since(clock::now());
            if left.is_zero() || self.is_dead() || !self.owner_lives() {
                return false;
            }
            let nap = left.min(Duration::from_millis(100));
            if self.shared.owner() == clock::pid() { self.wait(nap) } else { std::thread::sleep(nap) }
        }
        true
    }

    /// Unregisters. Callable from a signal handler: no allocation, nothing that waits.
    pub fn unregister(&'static self) {
        if self.dead.swap(true, Ordering::SeqCst) {
            return;
        }
        // A child that inherited the handler must not cut its parent's connection.
        if self.shared.owner() == clock::pid() {
            self.shared.close();
            if self.fds.socket.is_ours() {
                net::shutdown(self.fds.socket.get());
            }
        }
        self.wake();
        // Calls that are under way use the descriptors: the last of them closes.
        if self.inside.load(Ordering::SeqCst) == 0 {
            self.close();
        }
    }

    /// Closes everything. In a child the pipe stays while attempts may still end: its parent reads it.
    fn close(&'static self) {
        let Descriptors { mnt, by_fid, epoll, timer, wake, records, tell, socket } = &self.fds;
        for descriptor in [socket, timer, epoll, wake, mnt, by_fid] {
            descriptor.close();
        }
        self.show_descriptors();
        if self.shared.owner() == clock::pid() || !attempts::any(self) {
            tell.close();
            records.close();
        }
    }

    /// Makes recv look again.
    pub fn wake(&self) {
        if !self.fds.wake.is_ours() {
            return;
        }
        let one = 1u64;
        // SAFETY: eight bytes, as an eventfd wants them; it does not block before it has counted to 2^64.
        unsafe { libc::write(self.fds.wake.get(), ptr::from_ref(&one).cast(), 8) };
    }
}

/// How to prove to servers who we are. Files that cannot be used are a mistake in the configuration.
fn security(config: &Config) -> Result<Option<Security>, c_int> {
    let wrong = |message: String| {
        log::line(Level::Error, &format!("tls: {message}"));
        -libc::EINVAL
    };
    let Some(credentials) = config.credentials().map_err(wrong)? else { return Ok(None) };
    let mut keys = Keys::new(credentials);
    keys.fresh(|_| ()).map_err(|error| wrong(error.to_string()))?;
    Ok(Some(Security { keys, server_name: config.server_name() }))
}

/// The ids that a copytool registers for, as liblustreapi takes them: 0 anywhere means all.
fn archive_ids(archives: &[c_int]) -> Result<Vec<u32>, c_int> {
    if archives.contains(&0) {
        return Ok(Vec::new());
    }
    if archives.len() > LL_HSM_MAX_ARCHIVES_PER_AGENT {
        log::line(Level::Error, &format!("more than {LL_HSM_MAX_ARCHIVES_PER_AGENT} archive ids"));
        return Err(-libc::EINVAL);
    }
    archives
        .iter()
        .map(|id| {
            u32::try_from(*id).map_err(|_| {
                log::line(Level::Error, &format!("archive id {id} is negative"));
                -libc::EINVAL
            })
        })
        .collect()
}

/// The name of the file system mounted at `mnt`, from liblustreapi.
fn fsname(mnt: &CStr) -> Result<String, c_int> {
    let Some(search) = real::search_fsname() else {
        log::line(Level::Error, "liblustreapi has no llapi_search_fsname");
        return Err(-libc::EIO);
    };
    // The longest name has 8 characters; the rest is caution.
    let mut name = [0u8; 256];
    // SAFETY: mnt is NUL-terminated and the buffer longer than any name.
    let rc = unsafe { search(mnt.as_ptr(), name.as_mut_ptr().cast::<c_char>()) };
    if rc != 0 {
        let error = io::Error::from_raw_os_error(-rc);
        log::line(Level::Error, &format!("no Lustre at {}: {error}", mnt.to_string_lossy()));
        return Err(rc);
    }
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_ids_are_taken_as_liblustreapi_does() {
        assert_eq!(archive_ids(&[]), Ok(Vec::new()));
        assert_eq!(archive_ids(&[1, 7]), Ok(vec![1, 7]));
        assert_eq!(archive_ids(&[1, 0, -2]), Ok(Vec::new()));
        assert_eq!(archive_ids(&[1, -2]), Err(-libc::EINVAL));
        assert_eq!(archive_ids(&[1; 1025]), Err(-libc::EINVAL));
    }

    #[test]
    fn the_head_is_where_liblustreapi_looks() {
        assert_eq!(std::mem::offset_of!(Handle, head), 0);
        assert!(std::mem::offset_of!(Handle, dead) >= 40);
    }
}
