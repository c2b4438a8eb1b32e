//! The ioctls, and all that is unsafe about them.
//!
//! They go through libc's `ioctl` on purpose: the embedded Lustre interposes that function.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use lustreapi_sys::Fid;
use lustreapi_sys::abi::{self, hsm_copy, hsm_progress, hsm_user_state, lu_fid};
use lustreapi_sys::ioctl;

/// Longest name of a device, its NUL included (`MAX_OBD_NAME`).
const MAX_OBD_NAME: usize = 128;
/// Reads the name of the metadata device: `_IOR('f', 131, char[128])`.
const OBD_IOC_GETMDNAME: u64 = 0x8080_6683;

/// What the kernel never writes to or reads behind: the length of the argument is the caller's business.
fn call<T>(fd: BorrowedFd<'_>, request: u64, argument: *mut T) -> io::Result<i32> {
    // SAFETY: `fd` is open for the length of the call. Every caller in this module passes a pointer to memory that it
    // owns and that has the size and layout that the kernel reads and writes for this request (asserted in
    // `lustreapi_sys::abi`).
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request as libc::Ioctl, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Name of the metadata device of a mount: `testfs0-clilmv-ffff8800deadbeef`.
pub(super) fn metadata_device(root: BorrowedFd<'_>) -> io::Result<String> {
    let mut name = [0u8; MAX_OBD_NAME];
    call(root, OBD_IOC_GETMDNAME, name.as_mut_ptr())?;
    let len = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..len]).into_owned())
}

/// Registers a copytool that writes to `write_end`. No archive ids: all of them.
pub(super) fn register(
    root: BorrowedFd<'_>,
    read_end: BorrowedFd<'_>,
    write_end: BorrowedFd<'_>,
    archive_ids: &[u32],
) -> io::Result<()> {
    let fds = [write_end.as_raw_fd() as u32, read_end.as_raw_fd() as u32];
    let mut words = kernelcomm(fds, abi::LK_FLG_DATANR, archive_ids)?;
    call(root, ioctl::HSM_CT_START, words.as_mut_ptr()).map(|_| ())
}

/// Ends the registration of this process.
pub(super) fn unregister(root: BorrowedFd<'_>) -> io::Result<()> {
    let mut words = kernelcomm([abi::LK_NOFD; 2], abi::LK_FLG_STOP, &[])?;
    call(root, ioctl::HSM_CT_START, words.as_mut_ptr()).map(|_| ())
}

/// `struct lustre_kernelcomm` with its archive ids, which are all 32-bit words.
fn kernelcomm(fds: [u32; 2], flags: u32, archive_ids: &[u32]) -> io::Result<Vec<u32>> {
    let count = u32::try_from(archive_ids.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let mut words = vec![fds[0], fds[1], std::process::id(), abi::KUC_GRP_HSM, count, flags];
    words.extend_from_slice(archive_ids);
    Ok(words)
}

/// Ends an action.
pub(super) fn copy_end(root: BorrowedFd<'_>, copy: &mut hsm_copy) -> io::Result<()> {
    call(root, ioctl::HSM_COPY_END, std::ptr::from_mut(copy)).map(|_| ())
}

/// Reports progress.
pub(super) fn progress(root: BorrowedFd<'_>, progress: &mut hsm_progress) -> io::Result<()> {
    call(root, ioctl::HSM_PROGRESS, std::ptr::from_mut(progress)).map(|_| ())
}

/// HSM state of an open file.
pub(super) fn state_get(file: BorrowedFd<'_>) -> io::Result<hsm_user_state> {
    let mut state = hsm_user_state::default();
    call(file, ioctl::HSM_STATE_GET, std::ptr::from_mut(&mut state))?;
    Ok(state)
}

/// Hands in a `struct hsm_user_request` with its items and data. EINVAL if it is not as long as its head says, which is how
/// much the kernel reads.
pub(super) fn request(root: BorrowedFd<'_>, request: &mut [u8]) -> io::Result<()> {
    if lustreapi_sys::request::len_by_head(request) != Some(request.len()) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    call(root, ioctl::HSM_REQUEST, request.as_mut_ptr()).map(|_| ())
}

/// Index of the MDT that holds a file.
pub(super) fn mdt_index(root: BorrowedFd<'_>, fid: Fid) -> io::Result<u32> {
    let mut fid = lu_fid::from(fid);
    call(root, ioctl::FID2MDTIDX, std::ptr::from_mut(&mut fid)).map(|index| index as u32)
}

/// FID of an open file.
pub(super) fn fid_of(file: BorrowedFd<'_>) -> io::Result<Fid> {
    let mut fid = lu_fid::default();
    call(file, ioctl::PATH2FID, std::ptr::from_mut(&mut fid))?;
    Ok(Fid::from(fid))
}

/// `struct fsxattr` of the kernel.
#[repr(C)]
#[derive(Default)]
struct Fsxattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    project: u32,
    cowextsize: u32,
    padding: [u8; 8],
}

const _: () = assert!(size_of::<Fsxattr>() == 28);

/// `FS_IOC_FSGETXATTR`: `_IOR('X', 31, struct fsxattr)`.
const FSGETXATTR: u64 = 0x801c_581f;

/// The project of an open file.
pub(crate) fn project_of(file: BorrowedFd<'_>) -> io::Result<u32> {
    let mut attributes = Fsxattr::default();
    call(file, FSGETXATTR, std::ptr::from_mut(&mut attributes))?;
    Ok(attributes.project)
}
