//! The event FIFO: one JSON line for every registration, action, progress and message, for who monitors a copytool.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use lustreapi_sys::Fid;
use lustreapi_sys::abi::{
    HSMA_ARCHIVE, HSMA_REMOVE, HSMA_RESTORE, hsm_copyaction_private, hsm_copytool_private,
};

use crate::bridge::{errno, set_errno};
use crate::json::{object, quoted};
use crate::{files, messages, mounts};

static FIFO: AtomicI32 = AtomicI32::new(-1);
static CREATED: AtomicBool = AtomicBool::new(false);

/// How far an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Begun.
    Start,
    /// Progress.
    Running,
    /// Ended.
    Finish,
}

fn open_fifo() -> Option<c_int> {
    let fd = FIFO.load(Ordering::Acquire);
    (fd >= 0).then_some(fd)
}

/// Opens a FIFO for events, made if need be; SIGPIPE is ignored from then on.
///
/// # Safety
/// `path` must be a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_register_event_fifo(path: *const c_char) -> c_int {
    // SAFETY: the caller vouches for the string; the rest are plain calls.
    unsafe {
        if libc::mkfifo(path, 0o644) == 0 {
            CREATED.store(true, Ordering::Release);
        } else if errno() != libc::EEXIST {
            return -errno();
        } else {
            let mut stat: libc::stat = std::mem::zeroed();
            if libc::stat(path, &mut stat) < 0 {
                return -errno();
            }
            if stat.st_mode & libc::S_IFMT != libc::S_IFIFO || stat.st_mode & 0o777 != 0o644 {
                messages::error_text("the event path exists and is not a FIFO of mode 0644");
                return -libc::EEXIST;
            }
        }
        // Without a reader, opening for writing fails: be one for a moment.
        let reader = libc::open(path, libc::O_RDONLY | libc::O_NONBLOCK);
        if reader < 0 {
            return -errno();
        }
        let writer = libc::open(path, libc::O_WRONLY | libc::O_NONBLOCK);
        let rc = -errno();
        libc::close(reader);
        if writer < 0 {
            return rc;
        }
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        FIFO.store(writer, Ordering::Release);
    }
    0
}

/// Closes the FIFO and removes it if it was made here.
///
/// # Safety
/// `path` must be a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn llapi_hsm_unregister_event_fifo(path: *const c_char) -> c_int {
    let fd = FIFO.swap(-1, Ordering::AcqRel);
    if fd < 0 {
        return 0;
    }
    // SAFETY: the descriptor is ours, the caller vouches for the string.
    unsafe {
        if libc::close(fd) < 0 {
            return -errno();
        }
        if CREATED.swap(false, Ordering::AcqRel) {
            libc::unlink(path);
        }
    }
    0
}

/// Writes an event. Nobody reading, or a full FIFO, loses it.
fn write(mut members: Vec<(String, String)>) {
    let Some(fd) = open_fifo() else { return };
    // SAFETY: plain calls with buffers of the given lengths.
    unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut parts: libc::tm = std::mem::zeroed();
        libc::localtime_r(&now, &mut parts);
        let mut text = [0u8; 40];
        let n = libc::strftime(text.as_mut_ptr().cast(), text.len(), c"%Y-%m-%d %T %z".as_ptr(), &parts);
        members.insert(0, ("event_time".to_owned(), quoted(&String::from_utf8_lossy(&text[..n]))));
        let line = object(&members);
        let saved = errno();
        libc::write(fd, line.as_ptr().cast(), line.len());
        set_errno(saved);
    }
}

fn member(key: &str, value: String) -> (String, String) {
    (key.to_owned(), value)
}

/// A copytool was registered, or is being unregistered.
pub fn registration(ct: &hsm_copytool_private, register: bool) {
    if open_fifo().is_none() {
        return;
    }
    // SAFETY: a registered handle's mount point is a C string, its block is allocated.
    let (mnt, archives) = unsafe { (CStr::from_ptr(ct.mnt), (*ct.kuc).lk_data_count) };
    let uuid = mounts::agent_uuid(Path::new(OsStr::from_bytes(mnt.to_bytes()))).unwrap_or_default();
    write(vec![
        member("event_type", quoted(if register { "REGISTER" } else { "UNREGISTER" })),
        member("archive", archives.to_string()),
        member("mount_point", quoted(&mnt.to_string_lossy())),
        member("uuid", quoted(&uuid)),
    ]);
}

/// An action has come to a stage.
pub fn progress(action: &hsm_copyaction_private, stage: Stage, total: u64, current: u64) {
    if open_fifo().is_none() {
        return;
    }
    let item = action.copy.hc_hai;
    let kind = match item.hai_action {
        HSMA_ARCHIVE => "ARCHIVE",
        HSMA_RESTORE => "RESTORE",
        HSMA_REMOVE => "REMOVE",
        _ => return,
    };
    let error = i32::from(action.copy.hc_errval);
    let end = match (error, stage) {
        (libc::ECANCELED, _) => "CANCEL",
        (0, Stage::Start) => "START",
        (0, Stage::Running) => "RUNNING",
        (0, Stage::Finish) => "FINISH",
        _ => "ERROR",
    };
    let mut members = vec![member("event_type", quoted(&format!("{kind}_{end}")))];
    if error != 0 && error != libc::ECANCELED {
        members.push(member("error", quoted(&text_of(error))));
        members.push(member("errno", error.to_string()));
    }
    if error == 0 {
        if stage == Stage::Running {
            members.push(member("current_bytes", current.to_string()));
        }
        if stage != Stage::Finish {
            // SAFETY: the handle outlives its actions.
            let root = unsafe { (*action.ct_priv).mnt_fd };
            let path = files::fid_to_path(root, item.hai_fid).unwrap_or_default();
            members.push(member("total_bytes", total.to_string()));
            members.push(member("lustre_path", quoted(&String::from_utf8_lossy(&path))));
        }
    }
    members.push(member("source_fid", quoted(&Fid::from(item.hai_fid).file_name())));
    members.push(member("data_fid", quoted(&Fid::from(item.hai_dfid).file_name())));
    write(members);
}

fn text_of(error: c_int) -> String {
    // SAFETY: strerror returns a C string, copied at once.
    unsafe { CStr::from_ptr(libc::strerror(error)) }.to_string_lossy().into_owned()
}

/// Whether there is a FIFO.
#[unsafe(no_mangle)]
extern "C" fn lustre_sim_events_open() -> c_int {
    c_int::from(open_fifo().is_some())
}

/// A message as an event; called from C.
///
/// # Safety
/// `text` must be a C string.
#[unsafe(no_mangle)]
unsafe extern "C" fn lustre_sim_event_log(level: c_int, err: c_int, text: *const c_char) {
    const LEVELS: [&str; 7] = ["OFF", "FATAL", "ERROR", "WARN", "NORMAL", "INFO", "DEBUG"];
    let name = usize::try_from(level & 7).ok().and_then(|i| LEVELS.get(i)).copied().unwrap_or("UNKNOWN");
    // SAFETY: the caller vouches for the string.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let mut members = vec![
        member("event_type", quoted("LOGGED_MESSAGE")),
        member("level", quoted(name)),
        member("message", quoted(&text)),
    ];
    if level & messages::NO_ERRNO == 0 {
        members.push(member("error", quoted(&text_of(err.abs()))));
        members.push(member("errno", err.to_string()));
    }
    write(members);
}
