//! `libcoordinatool_client.so`: preloaded into an unmodified copytool, it stands in for the copytool half of liblustreapi,
//! so that work comes from coordinatool instead of the kernel.
//!
//! The functions here are the C interface. Actions themselves are the real library's business: begin, progress and end
//! are only watched, and stopped where another mover has taken over. Programs that never register, and handles that are
//! not ours, pass through untouched.
//!
//! There are no threads here. Whoever calls recv carries the connection; progress and end lend a hand, so that the lease
//! and the ends of actions do not depend on a copytool of one thread coming back to recv.

mod attempts;
mod channel;
mod clock;
mod config;
mod descriptor;
mod descriptors;
mod engine;
mod handle;
mod lock;
mod log;
mod memory;
mod net;
mod real;
mod record;
mod shared;

use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use coordinatool::hsm::RequestKey;
use coordinatool::shim::Level;
use lustreapi_sys::abi::{self, hsm_action_item, hsm_action_list, hsm_extent, hsm_progress, lu_fid};
use lustreapi_sys::ioctl;

use attempts::Attempt;
use engine::Chore;
use handle::Handle;
use real::{Ct, Hcp};
use record::{Kind, Record};

/// How long begin and progress wait for a lapsed lease before they give an action up.
const LEASE_PATIENCE: Duration = Duration::from_secs(3);
/// How long the end of an action that succeeded waits: it would be a pity.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// A cookie that no MDT hands out: they count up from the seconds of the epoch.
const NO_COOKIE: u64 = u64::MAX;

/// Runs what may panic (a bug of ours) without taking the copytool down.
fn guarded(on_panic: c_int, body: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        log::line(Level::Error, "internal error; please report it with the lines above");
        on_panic
    })
}

/// Registers with coordinatool in place of the MDTs.
///
/// Waits a few seconds for a server and then succeeds without one. Errors are those of opening the file system, EINVAL for
/// a bad configuration or archive id, EIO when the server's name does not exist.
///
/// # Safety
///
/// As for liblustreapi: `priv_` is writable, `mnt` a string, `archives` holds `archive_count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_copytool_register(
    priv_: *mut *mut Ct,
    mnt: *const c_char,
    archive_count: c_int,
    archives: *mut c_int,
    rfd_flags: c_int,
) -> c_int {
    guarded(-libc::EIO, || {
        if priv_.is_null() || mnt.is_null() || (archive_count > 0 && archives.is_null()) {
            return -libc::EINVAL;
        }
        if real::begin().is_none() || real::end().is_none() || real::progress().is_none() {
            log::line(Level::Error, "liblustreapi is not loaded");
            return -libc::EIO;
        }
        let archives = match usize::try_from(archive_count) {
            // SAFETY: the caller says that there are so many, and the pointer is not null then.
            Ok(count) if count > 0 => unsafe { std::slice::from_raw_parts(archives, count) },
            _ => &[],
        };
        // SAFETY: the caller passes a NUL-terminated string.
        let mnt = unsafe { CStr::from_ptr(mnt) };
        match Handle::register(mnt, archives, rfd_flags) {
            Ok(handle) => {
                // SAFETY: the caller passes a place for the pointer.
                unsafe { *priv_ = handle.as_ct() };
                0
            }
            Err(rc) => rc,
        }
    })
}

/// Unregisters. Safe in signal handlers.
///
/// # Safety
///
/// As for liblustreapi: `priv_` is null or points to a copytool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_copytool_unregister(priv_: *mut *mut Ct) -> c_int {
    if priv_.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: the caller passes a copytool, or null.
    let Some(handle) = (unsafe { Handle::of(*priv_) }) else {
        return match real::unregister() {
            // SAFETY: the arguments are the caller's own.
            Some(real) if !unsafe { *priv_ }.is_null() => unsafe { real(priv_) },
            _ => -libc::EINVAL,
        };
    };
    if handle.is_dead() {
        return -libc::EINVAL;
    }
    handle.unregister();
    // SAFETY: the caller passes a place for the pointer; liblustreapi clears it as well.
    unsafe { *priv_ = std::ptr::null_mut() };
    0
}

/// A descriptor that becomes readable when recv has something to do; recv may then still answer EAGAIN.
///
/// # Safety
///
/// As for liblustreapi: `ct` is null or a copytool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_copytool_get_fd(ct: *mut Ct) -> c_int {
    guarded(-libc::EINVAL, || {
        // SAFETY: the caller passes a copytool, or null.
        let Some(handle) = (unsafe { Handle::of(ct) }) else {
            return match real::get_fd() {
                // SAFETY: the argument is the caller's own.
                Some(real) if !ct.is_null() => unsafe { real(ct) },
                _ => -libc::EINVAL,
            };
        };
        if handle.is_dead() {
            return -libc::EINVAL;
        }
        let _inside = handle.enter();
        // Whoever waits for the descriptor is not in recv, so work is to be fetched without being asked for. A child has no
        // business with its parent's connection.
        if handle.shared.owner() == clock::pid() {
            handle.with_engine(|engine| {
                engine.set_eager();
                engine.run(handle, false);
            });
        }
        handle.fds().epoll.get()
    })
}

/// The next list of actions, valid until the next call.
///
/// Blocks until there is one, whatever happens to the server; a non-blocking copytool gets EAGAIN. ESHUTDOWN after
/// unregister.
///
/// # Safety
///
/// As for liblustreapi: `ct` is null or a copytool, the other two are null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_copytool_recv(
    ct: *mut Ct,
    halh: *mut *mut hsm_action_list,
    msgsize: *mut c_int,
) -> c_int {
    // A copytool that got another error would call again at once, for ever.
    guarded(-libc::ESHUTDOWN, || {
        // SAFETY: the caller passes a copytool, or null.
        let Some(handle) = (unsafe { Handle::of(ct) }) else {
            return match real::recv() {
                // SAFETY: the arguments are the caller's own.
                Some(real) if !ct.is_null() => unsafe { real(ct, halh, msgsize) },
                _ => -libc::EINVAL,
            };
        };
        if halh.is_null() || msgsize.is_null() {
            return -libc::EINVAL;
        }
        match recv(handle) {
            Ok((list, len)) => {
                // SAFETY: the caller passes places for both.
                unsafe {
                    *halh = list;
                    *msgsize = c_int::try_from(len).unwrap_or(c_int::MAX);
                }
                0
            }
            Err(rc) => rc,
        }
    })
}

fn recv(handle: &'static Handle) -> Result<(*mut hsm_action_list, usize), c_int> {
    let _inside = handle.enter();
    // A copytool may have become a daemon since it registered.
    handle.shared.set_owner(clock::pid());
    loop {
        if handle.is_dead() {
            return Err(-libc::ESHUTDOWN);
        }
        let (list, chores) = handle.with_engine(|engine| {
            engine.clear_wake(handle);
            if handle.is_dead() {
                // What woke us is for every thread that waits here.
                handle.wake();
                return (None, Vec::new());
            }
            engine.run(handle, true);
            let list = engine.next_list();
            if list.is_some() {
                // Fetches the next one where the copytool polls, and leaves the descriptor as it should be.
                engine.run(handle, false);
            } else {
                engine.want_work(handle, true);
            }
            (list, engine.chores())
        });
        for chore in chores {
            match chore {
                Chore::Probe(key) => {
                    let gone = engine::is_gone(handle, &key.fid);
                    handle.with_engine(|engine| engine.probed(handle, key, gone));
                }
                Chore::End(item, errno) => engine::end_at_lustre(handle, &item, errno),
            }
        }
        match list {
            Some(list) => return Ok(list),
            None if handle.is_dead() => return Err(-libc::ESHUTDOWN),
            None if handle.nonblocking() => return Err(-libc::EAGAIN),
            // A signal only makes us look again, as read does under SA_RESTART.
            None => handle.wait_for_ever(),
        }
    }
}

/// Begins an action through the real library, if it is still ours.
///
/// ECANCELED when it is not, also for the begin after an error: the MDT is not to hear of it.
///
/// # Safety
///
/// As for liblustreapi.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_action_begin(
    phcp: *mut *mut Hcp,
    ct: *const Ct,
    hai: *const hsm_action_item,
    restore_mdt_index: c_int,
    restore_open_flags: c_int,
    is_error: bool,
) -> c_int {
    let Some(real) = real::begin() else { return -libc::EIO };
    guarded(-libc::EIO, || {
        if phcp.is_null() || ct.is_null() || hai.is_null() {
            return -libc::EINVAL;
        }
        // SAFETY: the arguments are the caller's own.
        let call = || unsafe { real(phcp, ct, hai, restore_mdt_index, restore_open_flags, is_error) };
        // SAFETY: the caller passes a copytool.
        let Some(handle) = (unsafe { Handle::of(ct) }) else { return call() };
        let _inside = handle.enter();
        if handle.is_dead() {
            return call();
        }
        // SAFETY: the caller passes an item; its fixed part is always there.
        let hai = unsafe { hai.read_unaligned() };
        let attempt = Attempt {
            key: RequestKey { cookie: hai.hai_cookie, fid: hai.hai_fid.into() },
            dfid: hai.hai_dfid.into(),
            action: hai.hai_action,
            generation: handle.shared.generation(),
            handle,
        };
        if let Err(rc) = admit(&attempt) {
            return rc;
        }
        let rc = call();
        if rc == 0 {
            // SAFETY: begin succeeded, so there is a handle.
            attempts::insert(unsafe { *phcp } as usize, &attempt);
            if attempt.action != abi::HSMA_CANCEL {
                handle.tell(&record(&attempt, Kind::Begun, 0));
            }
            handle.pump(false);
        }
        rc
    })
}

/// Whether an attempt may begin.
fn admit(attempt: &Attempt) -> Result<(), c_int> {
    let Attempt { key, handle, .. } = attempt;
    if attempt.action == abi::HSMA_CANCEL {
        return Ok(());
    }
    if !handle.shared.may_begin(key) {
        return Err(-libc::ECANCELED);
    }
    if let Some(other) = attempts::under_way(handle, key) {
        log::line(Level::Warn, &format!("{key} is being worked on already: not begun again"));
        if handle.shared.is_stopped(key, other.generation) {
            // The first one is stopping and will not end it: the server gets it back for later.
            handle.shared.refuse(key);
            handle.tell(&record(attempt, Kind::Abandoned, 0));
        }
        return Err(-libc::EALREADY);
    }
    if !handle.await_lease(LEASE_PATIENCE) {
        log::line(
            Level::Warn,
            &format!("{key} is not begun: the server is out of reach and the lease has lapsed"),
        );
        handle.shared.refuse(key);
        handle.tell(&record(attempt, Kind::Abandoned, 0));
        return Err(-libc::ECANCELED);
    }
    Ok(())
}

fn record(attempt: &Attempt, kind: Kind, status: c_int) -> Record {
    Record {
        kind,
        key: attempt.key,
        dfid: attempt.dfid,
        status,
        unheard: false,
        cancel: attempt.action == abi::HSMA_CANCEL,
        pid: clock::pid(),
    }
}

/// Reports progress, and learns whether the action is to go on: ECANCELED when the MDT cancelled it, when the server gave
/// it to another mover, or when the lease has lapsed.
///
/// # Safety
///
/// As for liblustreapi.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_action_progress(
    hcp: *mut Hcp,
    he: *const hsm_extent,
    total: u64,
    hp_flags: c_int,
) -> c_int {
    let Some(real) = real::progress() else { return -libc::EIO };
    guarded(-libc::EIO, || {
        // SAFETY: the arguments are the caller's own.
        let call = || unsafe { real(hcp, he, total, hp_flags) };
        let Some(attempt) = attempts::get(hcp as usize).filter(|attempt| !attempt.handle.is_dead()) else {
            return call();
        };
        if he.is_null() {
            return -libc::EINVAL;
        }
        let Attempt { key, handle, .. } = attempt;
        let _inside = handle.enter();
        handle.pump(false);
        if attempt.action != abi::HSMA_CANCEL {
            if handle.shared.is_stopped(&key, attempt.generation) {
                return -libc::ECANCELED;
            }
            if !handle.await_lease(LEASE_PATIENCE) {
                let text = format!("{key} is stopped: the server is out of reach and the lease has lapsed");
                log::line(Level::Warn, &text);
                handle.shared.refuse(&key);
                return -libc::ECANCELED;
            }
            if handle.shared.is_stopped(&key, attempt.generation) {
                return -libc::ECANCELED;
            }
        }
        if attempt.action != abi::HSMA_RESTORE {
            return call();
        }
        // The first progress under the volatile file's FID would bind the restore to this mover for ever (Lustre
        // mdt_coordinator.c): another could never finish it. The file's own FID does not.
        let progress = hsm_progress {
            hp_fid: lu_fid::from(key.fid),
            hp_cookie: key.cookie,
            // SAFETY: not null, and the caller passes an extent.
            hp_extent: unsafe { he.read_unaligned() },
            hp_flags: hp_flags as u16,
            ..hsm_progress::default()
        };
        // SAFETY: the argument of this request is a struct hsm_progress.
        let rc = unsafe { libc::ioctl(handle.mnt_fd(), ioctl::HSM_PROGRESS, &progress) };
        if rc < 0 { -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) } else { rc }
    })
}

/// Ends an action at the MDT through the real library, and at the server.
///
/// The end of an attempt that was stopped frees everything but does not reach the request: it may be another mover's.
///
/// # Safety
///
/// As for liblustreapi.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_action_end(
    phcp: *mut *mut Hcp,
    he: *const hsm_extent,
    hp_flags: c_int,
    errval: c_int,
) -> c_int {
    let Some(real) = real::end() else { return -libc::EIO };
    guarded(-libc::EIO, || {
        // SAFETY: the first and second argument are the caller's own.
        let call = |flags, errval| unsafe { real(phcp, he, flags, errval) };
        if phcp.is_null() || he.is_null() {
            return call(hp_flags, errval);
        }
        // SAFETY: the caller passes the place of a handle.
        let hcp = unsafe { *phcp };
        // Before the real end frees it: another begin may get the same address at once.
        let Some(attempt) = attempts::take(hcp as usize) else { return call(hp_flags, errval) };
        let Attempt { key, handle, .. } = attempt;
        let _inside = handle.enter();
        // That the cancel succeeded, the MDT would take for the success of what was cancelled (it knows one cookie for both):
        // a file would be called archived without a copy.
        let errval = if attempt.action == abi::HSMA_CANCEL && errval == 0 { libc::ECANCELED } else { errval };
        if attempt.action != abi::HSMA_CANCEL && !handle.is_dead() && must_withhold(&attempt, errval) {
            // SAFETY: the real begin made it and nobody else uses it during end.
            unsafe { withhold(hcp) };
            let rc = call(0, if errval == 0 { libc::ESTALE } else { errval });
            if !handle.shared.may_begin(&key) {
                handle.tell(&record(&attempt, Kind::Abandoned, 0));
            }
            handle.pump(false);
            return rc;
        }
        let rc = call(hp_flags, errval);
        // SAFETY: as above; end clears the place when it frees the handle.
        if rc == -libc::EINVAL && unsafe { *phcp } == hcp && !hcp.is_null() {
            attempts::insert(hcp as usize, &attempt);
            return rc;
        }
        let status = if errval == 0 { rc.saturating_neg() } else { errval.saturating_abs() };
        let unheard = errval == 0 && status != 0 && attempt.action != abi::HSMA_CANCEL;
        handle.tell(&Record { unheard, ..record(&attempt, Kind::Ended, status) });
        handle.pump(false);
        rc
    })
}

/// Whether the MDT must not hear of this end.
///
/// A success that cannot be reported in time is reported all the same: the work is complete, and the MDT accepts one end.
/// A failure would kill the attempt of whoever works on the request now.
fn must_withhold(attempt: &Attempt, errval: c_int) -> bool {
    let Attempt { key, handle, generation, .. } = *attempt;
    handle.pump(false);
    if handle.shared.is_stopped(&key, generation) {
        return true;
    }
    let patience = if errval == 0 { END_PATIENCE } else { LEASE_PATIENCE };
    let lapsed = !handle.await_lease(patience);
    if handle.shared.is_stopped(&key, generation) {
        return true;
    }
    if lapsed && errval != 0 {
        handle.shared.refuse(&key);
        return true;
    }
    false
}

/// Makes the coming end of an action meet no request at the MDT.
///
/// # Safety
///
/// `hcp` is an action that the real begin made and that nobody else is using.
unsafe fn withhold(hcp: *mut Hcp) {
    // SAFETY: an action begins with its magic.
    let magic = unsafe { (*hcp).magic };
    if magic != abi::CP_PRIV_MAGIC {
        return;
    }
    // SAFETY: with this magic it has liblustreapi's layout, whose head has been the same since Lustre 2.10.
    unsafe { (*hcp).copy.hc_hai.hai_cookie = NO_COOKIE };
}
