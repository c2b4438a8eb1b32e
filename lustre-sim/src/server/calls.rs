//! Ioctls: from the kernel's structures to the model's calls and back.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lustreapi_sys::Fid;
use lustreapi_sys::abi::{
    HSS_ARCHIVE_ID, HSS_CLEARMASK, HSS_SETMASK, HUA_RELEASE, LK_FLG_STOP, hsm_user_import, lu_fid,
};
use lustreapi_sys::ioctl as num;

use super::state::{Pending, Shared, errno};
use super::tree;
use crate::control::CallRecord;
use crate::mdt::{
    Action, Answer, Call, ClientId, CopyEnd, CopyStart, Cred, Errno, Extent, NewFile, Progress, StateSet,
    UserRequest, mdt_index_of,
};
use crate::protocol::{self, Request};

/// Longest request, in bytes, that Lustre takes (`MDS_MAXREQSIZE / 3`).
const MAX_HSM_REQUEST: usize = 5 * 1024 / 3;
const ENOTTY: Errno = Errno(libc::ENOTTY as u16);
const FAULT: Errno = Errno(libc::EFAULT as u16);

/// A call's answer: a result of 0 or more and a body, or an error.
pub type Reply = Result<(i32, Vec<u8>), Errno>;

/// One request being served.
pub struct Server<'a> {
    shared: &'a Shared,
    cred: &'a Cred,
    socket: BorrowedFd<'a>,
}

/// Reads words out of an argument.
struct Argument<'a>(&'a [u8]);

impl Argument<'_> {
    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], Errno> {
        at.checked_add(N).and_then(|end| self.0.get(at..end)).and_then(|b| b.try_into().ok()).ok_or(FAULT)
    }
    fn u16(&self, at: usize) -> Result<u16, Errno> {
        self.array(at).map(u16::from_ne_bytes)
    }
    fn u32(&self, at: usize) -> Result<u32, Errno> {
        self.array(at).map(u32::from_ne_bytes)
    }
    fn u64(&self, at: usize) -> Result<u64, Errno> {
        self.array(at).map(u64::from_ne_bytes)
    }
    fn fid(&self, at: usize) -> Result<Fid, Errno> {
        Ok(Fid::new(self.u64(at)?, self.u32(at + 8)?, self.u32(at + 12)?))
    }
    fn extent(&self, at: usize) -> Result<Extent, Errno> {
        Ok(Extent { offset: self.u64(at)?, length: self.u64(at + 8)? })
    }
}

fn fid_bytes(fid: Fid) -> Vec<u8> {
    let fid = lu_fid::from(fid);
    let mut out = Vec::with_capacity(16);
    out.extend_from_slice(&{ fid.f_seq }.to_ne_bytes());
    out.extend_from_slice(&{ fid.f_oid }.to_ne_bytes());
    out.extend_from_slice(&{ fid.f_ver }.to_ne_bytes());
    out
}

fn action_of_hsma(hsma: u32) -> Result<Action, Errno> {
    [Action::Archive, Action::Restore, Action::Remove, Action::Cancel]
        .into_iter()
        .find(|action| action.hsma() == hsma)
        .ok_or(Errno::INVAL)
}

impl<'a> Server<'a> {
    /// For the requests of one connection.
    pub fn new(shared: &'a Shared, cred: &'a Cred, socket: BorrowedFd<'a>) -> Self {
        Self { shared, cred, socket }
    }

    /// Serves a request and notes it.
    pub fn serve(&self, mut request: Request) -> Reply {
        let name = name(request.op, &request.body);
        let argument = Argument(&request.body);
        let (fid, cookie) = match request.op {
            num::HSM_PROGRESS => (argument.fid(0).ok(), argument.u64(16).ok()),
            num::HSM_COPY_START | num::HSM_COPY_END => (argument.fid(24).ok(), argument.u64(72).ok()),
            num::FID2PATH | num::FID2MDTIDX | protocol::OP_GETATTR => (argument.fid(0).ok(), None),
            _ => (None, None),
        };
        let fds = std::mem::take(&mut request.fds);
        let result = self.dispatch(&request, fds);
        let code = match &result {
            Ok((code, _)) => *code,
            Err(error) => error.negative(),
        };
        self.shared.lock().record(CallRecord {
            pid: request.pid,
            name,
            fid: fid.map(|fid| fid.to_string()),
            cookie,
            result: code,
        });
        result
    }

    fn dispatch(&self, request: &Request, fds: Vec<OwnedFd>) -> Reply {
        let body = Argument(&request.body);
        let mut fds = fds.into_iter();
        let target = fds.next().ok_or(Errno(libc::EBADF as u16))?;
        let fd = target.as_fd();
        let client = self.shared.lock().client_of(request.client, Some(fd));
        match request.op {
            num::HSM_CT_START => self.copytool(client, fd, &body, fds.next()),
            num::HSM_COPY_START => self.copy_start(client, request),
            num::HSM_COPY_END => self.copy_end(client, &body),
            num::HSM_PROGRESS => self.progress(client, &body),
            num::HSM_REQUEST => self.request(client, request),
            num::HSM_STATE_GET => {
                let fid = self.file(fd)?;
                match self.call(client, Call::StateGet { fid })? {
                    Answer::State(state) => {
                        let (action, running, location) = self.action(client, fid)?;
                        let progress = match (action, running) {
                            (0, _) => 0,
                            (_, false) => 1,
                            (_, true) => 2,
                        };
                        let words = [state.flags, state.archive_id, progress, action];
                        Ok((0, words_and_extent(&words, location)))
                    }
                    _ => Err(Errno::PROTO),
                }
            }
            num::HSM_STATE_SET => {
                let fid = self.file(fd)?;
                let valid = body.u32(0)?;
                let has = |bit, value| if valid & bit != 0 { value } else { 0 };
                let set = StateSet {
                    set: has(HSS_SETMASK, body.u64(8)?),
                    clear: has(HSS_CLEARMASK, body.u64(16)?),
                    archive_id: (valid & HSS_ARCHIVE_ID != 0).then_some(body.u32(4)?),
                };
                self.done(client, Call::StateSet { fid, set })
            }
            num::HSM_ACTION => {
                let fid = self.file(fd)?;
                let (action, running, location) = self.action(client, fid)?;
                let state = match (action, running) {
                    (0, _) => 0,
                    (_, false) => 1,
                    (_, true) => 2,
                };
                Ok((0, words_and_extent(&[state, if action == 0 { 1 } else { action }], location)))
            }
            num::HSM_IMPORT => self.import(client, fd, &body),
            num::FID2PATH => self.fid2path(&body, fd),
            num::FID2MDTIDX => {
                let fid = body.fid(0)?;
                let mut state = self.shared.lock();
                state.refresh(fid);
                let index = mdt_index_of(fid)
                    .filter(|i| (*i as usize) < state.fs.mdts().len())
                    .ok_or(Errno::INVAL)?;
                // The index comes from the FID location database: the file need not exist.
                Ok((i32::try_from(index).unwrap_or(0), Vec::new()))
            }
            num::FUTIMES_3 => {
                let seconds = |at| body.u64(at).map(|s| s as i64);
                let atime = (seconds(0)?, seconds(8)?);
                let mtime = (seconds(16)?, seconds(24)?);
                tree::set_times(fd, atime, mtime).map_err(errno)?;
                Ok((0, Vec::new()))
            }
            protocol::ioctl::PATH2FID => Ok((0, fid_bytes(self.shared.lock().fid_of(fd, None)?))),
            protocol::ioctl::GET_MDTIDX => {
                let fid = self.file(fd)?;
                Ok((0, mdt_index_of(fid).unwrap_or(0).to_ne_bytes().to_vec()))
            }
            protocol::ioctl::GETMDNAME => {
                let state = self.shared.lock();
                let name = state.fs.mdts().first().map(|mdt| mdt.config().fsname.clone()).unwrap_or_default();
                let mut out = format!("{name}-clilmv-ffff8880{:08x}", 0x1000 + client.0).into_bytes();
                out.resize(128, 0);
                Ok((0, out))
            }
            protocol::ioctl::DATA_VERSION => {
                let fid = self.file(fd)?;
                match self.call(client, Call::DataVersion { fid })? {
                    Answer::DataVersion(version) => {
                        let mut out = version.to_ne_bytes().to_vec();
                        out.extend_from_slice(&body.array::<8>(8)?);
                        Ok((0, out))
                    }
                    _ => Err(Errno::PROTO),
                }
            }
            protocol::ioctl::DATA_VERSION_SET => {
                let fid = self.file(fd)?;
                self.done(client, Call::SetArchivedVersion { fid, version: body.u64(0)? })
            }
            protocol::OP_VOLATILE => self.volatile(client, fd, &body),
            protocol::OP_CLIENT_UUID => {
                let state = self.shared.lock();
                let uuid = state.clients.get(&client).map(|c| c.uuid.clone()).ok_or(Errno::NOENT)?;
                Ok((0, uuid.into_bytes()))
            }
            protocol::OP_GET_LAYOUT => {
                let mut state = self.shared.lock();
                let fid = state.fid_of(fd, None)?;
                let released = state.fs.file(fid).is_some_and(crate::mdt::File::released);
                let set = state.tree.known(fid).and_then(|known| known.layout.clone());
                Ok((0, set.unwrap_or_else(|| default_layout(fid, released))))
            }
            protocol::OP_SET_LAYOUT => {
                /// `LOV_USER_MAGIC_V1`, `_V3`, `_COMP_V1`, `_SPECIFIC`.
                const MAGICS: [u32; 4] = [0x0bd1_0bd0, 0x0bd3_0bd0, 0x0bd6_0bd0, 0x0bd5_0bd0];
                if !MAGICS.contains(&body.u32(0)?) {
                    return Err(Errno::INVAL);
                }
                let mut state = self.shared.lock();
                let fid = state.fid_of(fd, None)?;
                if let Some(known) = state.tree.known_mut(fid) {
                    known.layout = Some(request.body.clone());
                }
                Ok((0, Vec::new()))
            }
            protocol::OP_GETATTR => {
                let fid = body.fid(0)?;
                let mut state = self.shared.lock();
                state.refresh(fid);
                let statx = state.tree.statx(fid).map_err(errno)?;
                Ok((0, statx_bytes(&statx)))
            }
            _ => Err(ENOTTY),
        }
    }

    /// Makes a call and waits for its answer, or until the caller is gone.
    fn call(&self, client: ClientId, call: Call) -> Result<Answer, Errno> {
        let pending = self.shared.lock().begin_call(client, self.cred, call);
        self.finish(pending)
    }

    /// Waits for an answer.
    pub fn finish(&self, pending: Pending) -> Result<Answer, Errno> {
        let (id, receiver) = match pending {
            Pending::Now(answer) => return answer,
            Pending::Later(id, receiver) => (id, receiver),
        };
        loop {
            use std::sync::mpsc::RecvTimeoutError;
            match receiver.recv_timeout(Duration::from_millis(50)) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => return Err(Errno::NOTCONN),
                Err(RecvTimeoutError::Timeout) => {
                    if hung_up(self.socket) {
                        self.shared.lock().abandon(id);
                        return Err(Errno(libc::EINTR as u16));
                    }
                }
            }
        }
    }

    fn done(&self, client: ClientId, call: Call) -> Reply {
        self.call(client, call).map(|_| (0, Vec::new()))
    }

    /// The FID of a regular file.
    fn file(&self, fd: BorrowedFd<'_>) -> Result<Fid, Errno> {
        self.shared.lock().fid_of(fd, None)
    }

    /// `HUA_*` of what is being done to a file (0: nothing), whether it runs, and where.
    fn action(&self, client: ClientId, fid: Fid) -> Result<(u32, bool, Extent), Errno> {
        match self.call(client, Call::CurrentAction { fid })? {
            Answer::Action(current) => {
                Ok((current.action.map_or(0, Action::hua), current.running, current.location))
            }
            _ => Err(Errno::PROTO),
        }
    }

    fn copytool(
        &self,
        client: ClientId,
        root: BorrowedFd<'_>,
        body: &Argument<'_>,
        pipe: Option<OwnedFd>,
    ) -> Reply {
        let flags = body.u32(20)?;
        if flags & LK_FLG_STOP != 0 {
            // The pipe goes first, so that a list that waits in it cannot hold up the answer.
            self.shared.lock().detach(client, Some(root));
            return self.done(client, Call::Unregister);
        }
        const DATANR: u32 = lustreapi_sys::abi::LK_FLG_DATANR;
        let mut archives = Vec::new();
        if flags & DATANR != 0 {
            let count = body.u32(16)? as usize;
            if count > lustreapi_sys::abi::LL_HSM_MAX_ARCHIVES_PER_AGENT {
                return Err(Errno::INVAL);
            }
            for i in 0..count {
                archives.push(body.u32(24 + 4 * i)?);
            }
        } else {
            // The old form: a mask of 32 archives.
            let mask = body.u32(16)?;
            archives.extend((0..32).filter(|bit| mask & (1 << bit) != 0).map(|bit| bit + 1));
        }
        let pipe = pipe.ok_or(Errno(libc::EBADF as u16))?;
        // A copytool that has just died is not registered any more, however soon the next one comes.
        self.shared.lock().sync();
        let before = self.shared.lock().attach(client, root, pipe).map_err(errno)?;
        let result = self.call(client, Call::Register { archives });
        self.shared.lock().attached(client, root, before, result.is_ok());
        result.map(|_| (0, Vec::new()))
    }

    fn copy_start(&self, client: ClientId, request: &Request) -> Reply {
        let body = Argument(&request.body);
        let fid = body.fid(24)?;
        let start = CopyStart {
            action: action_of_hsma(body.u32(20)?)?,
            fid,
            cookie: body.u64(72)?,
            extent: body.extent(56)?,
        };
        self.refresh(&[fid, body.fid(40)?]);
        match self.call(client, Call::CopyStart(start))? {
            Answer::DataVersion(version) => {
                let mut out = request.body.clone();
                out.get_mut(..8).ok_or(FAULT)?.copy_from_slice(&version.to_ne_bytes());
                Ok((0, out))
            }
            _ => Err(Errno::PROTO),
        }
    }

    fn copy_end(&self, client: ClientId, body: &Argument<'_>) -> Reply {
        let fid = body.fid(24)?;
        let end = CopyEnd {
            action: action_of_hsma(body.u32(20)?)?,
            fid,
            cookie: body.u64(72)?,
            extent: body.extent(56)?,
            flags: body.u16(8)?,
            errval: body.u16(10)?,
            data_version: body.u64(0)?,
        };
        self.refresh(&[fid, body.fid(40)?]);
        self.done(client, Call::CopyEnd(end))
    }

    fn refresh(&self, fids: &[Fid]) {
        let mut state = self.shared.lock();
        for fid in fids {
            state.refresh(*fid);
        }
    }

    fn progress(&self, client: ClientId, body: &Argument<'_>) -> Reply {
        let progress = Progress {
            fid: body.fid(0)?,
            cookie: body.u64(16)?,
            extent: body.extent(24)?,
            flags: body.u16(40)?,
            errval: body.u16(42)?,
            data_version: 0,
        };
        self.done(client, Call::Progress(progress))
    }

    fn request(&self, client: ClientId, request: &Request) -> Reply {
        let body = Argument(&request.body);
        let (hua, count, data_len) = (body.u32(0)?, body.u32(16)? as usize, body.u32(20)? as usize);
        let total =
            count.checked_mul(32).and_then(|n| n.checked_add(data_len)).and_then(|n| n.checked_add(24));
        if total.is_none_or(|total| total >= MAX_HSM_REQUEST && hua != HUA_RELEASE) {
            return Err(Errno::TOO_BIG);
        }
        let mut items = Vec::with_capacity(count.min(1 << 16));
        for i in 0..count {
            items.push((body.fid(24 + 32 * i)?, body.extent(24 + 32 * i + 16)?));
        }
        self.refresh(&items.iter().map(|(fid, _)| *fid).collect::<Vec<_>>());
        if hua == HUA_RELEASE {
            // One by one; the first error is the answer.
            for (fid, _) in items {
                self.wait_for_close(fid)?;
                self.call(client, Call::Release { fid })?;
            }
            return Ok((0, Vec::new()));
        }
        let at = 24 + 32 * count;
        let data = request.body.get(at..at + data_len).ok_or(FAULT)?.to_vec();
        let action = Action::from_hua(hua).ok_or(Errno::INVAL)?;
        let call = UserRequest { action, archive_id: body.u32(4)?, flags: body.u64(8)?, items, data };
        self.done(client, Call::Request(call))
    }

    /// A file that is open cannot be released. The copytool that has just archived it closes it a moment after its end was
    /// accepted, when the user may already know: that moment is waited for.
    fn wait_for_close(&self, fid: Fid) -> Result<(), Errno> {
        const MOMENT: Duration = Duration::from_secs(1);
        let start = Instant::now();
        while self.shared.lock().tree.is_open(fid) {
            if start.elapsed() > MOMENT {
                return Err(Errno::BUSY);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn import(&self, client: ClientId, fd: BorrowedFd<'_>, body: &Argument<'_>) -> Reply {
        let import = hsm_user_import {
            hui_size: body.u64(0)?,
            hui_atime: body.u64(8)?,
            hui_mtime: body.u64(16)?,
            hui_atime_ns: body.u32(24)?,
            hui_mtime_ns: body.u32(28)?,
            hui_uid: body.u32(32)?,
            hui_gid: body.u32(36)?,
            hui_mode: body.u32(40)?,
            hui_archive_id: body.u32(44)?,
        };
        if import.hui_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(Errno::INVAL);
        }
        let fid = self.file(fd)?;
        let (archive_id, uid, gid) = (import.hui_archive_id, import.hui_uid, import.hui_gid);
        self.call(client, Call::Import { fid, archive_id, uid, gid })?;
        self.shared.lock().tree.import(fid, &import).map_err(errno)?;
        Ok((0, Vec::new()))
    }

    fn fid2path(&self, body: &Argument<'_>, fd: BorrowedFd<'_>) -> Reply {
        let fid = body.fid(0)?;
        let recno = body.u64(16)?;
        let link = body.u32(24)?;
        let room = body.u32(28)? as usize;
        // Anything in the file system will do for the descriptor.
        let _ = fd;
        let mut state = self.shared.lock();
        state.refresh(fid);
        let (path, more) = state.tree.path_of(fid, link as usize).ok_or(Errno::NOENT)?;
        let path = path.as_os_str().as_bytes();
        if path.len() + 1 > room {
            return Err(Errno(libc::EOVERFLOW as u16));
        }
        let mut out = fid_bytes(fid);
        out.extend_from_slice(&recno.to_ne_bytes());
        out.extend_from_slice(&if more { link + 1 } else { link }.to_ne_bytes());
        out.extend_from_slice(&(room as u32).to_ne_bytes());
        out.extend_from_slice(path);
        out.push(0);
        Ok((0, out))
    }

    fn volatile(&self, client: ClientId, fd: BorrowedFd<'_>, body: &Argument<'_>) -> Reply {
        use std::os::unix::fs::MetadataExt;
        let wanted = i32::from_ne_bytes(body.array(0)?);
        let mut state = self.shared.lock();
        let path: PathBuf = state.tree.relative_path(fd).ok_or(Errno::NOENT)?;
        let mdt = u32::try_from(wanted).unwrap_or_else(|_| state.tree.mdt_of_path(&path));
        if mdt as usize >= state.fs.mdts().len() {
            return Err(Errno::INVAL);
        }
        let metadata = tree::metadata_of(fd).map_err(errno)?;
        let file = NewFile { uid: metadata.uid(), gid: metadata.gid(), volatile: true, fid: None };
        let fid = state.create(client, mdt, file, path, fd)?;
        Ok((0, fid_bytes(fid)))
    }
}

/// Whether the other end of a connection is closed.
fn hung_up(socket: BorrowedFd<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut wait = [PollFd::new(&socket, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut wait, Some(&now)).is_ok_and(|n| n > 0)
}

fn words_and_extent(words: &[u32], extent: Extent) -> Vec<u8> {
    let mut out: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    out.extend_from_slice(&extent.offset.to_ne_bytes());
    out.extend_from_slice(&extent.length.to_ne_bytes());
    out
}

/// One stripe on one OST, as a small Lustre gives; no object for a released file.
fn default_layout(fid: Fid, released: bool) -> Vec<u8> {
    const V1: u32 = 0x0bd1_0bd0;
    const RAID0: u32 = 1;
    const RELEASED: u32 = 0x8000_0000;
    let mut out = Vec::with_capacity(56);
    out.extend_from_slice(&V1.to_ne_bytes());
    out.extend_from_slice(&(RAID0 | if released { RELEASED } else { 0 }).to_ne_bytes());
    out.extend_from_slice(&u64::from(fid.oid).to_ne_bytes());
    out.extend_from_slice(&fid.seq.to_ne_bytes());
    out.extend_from_slice(&0x0040_0000u32.to_ne_bytes());
    out.extend_from_slice(&1u16.to_ne_bytes());
    out.extend_from_slice(&0u16.to_ne_bytes());
    if !released {
        out.extend_from_slice(&0x2_8000_0401u64.to_ne_bytes());
        out.extend_from_slice(&u64::from(fid.oid).to_ne_bytes());
        out.extend_from_slice(&[0; 8]);
    }
    out
}

/// The kernel's `struct statx`, byte by byte.
fn statx_bytes(statx: &rustix::fs::Statx) -> Vec<u8> {
    super::lease::bytes_of_statx(statx).to_vec()
}

/// The name of a call in the record of calls.
fn name(op: u64, body: &[u8]) -> String {
    let stop = || Argument(body).u32(20).is_ok_and(|flags| flags & LK_FLG_STOP != 0);
    match op {
        num::HSM_CT_START if stop() => "CT_STOP",
        num::HSM_CT_START => "CT_START",
        num::HSM_COPY_START => "COPY_START",
        num::HSM_COPY_END => "COPY_END",
        num::HSM_PROGRESS => "PROGRESS",
        num::HSM_REQUEST => "REQUEST",
        num::HSM_STATE_GET => "STATE_GET",
        num::HSM_STATE_SET => "STATE_SET",
        num::HSM_ACTION => "ACTION",
        num::HSM_IMPORT => "IMPORT",
        num::FID2PATH => "FID2PATH",
        num::FID2MDTIDX => "FID2MDTIDX",
        num::FUTIMES_3 => "FUTIMES_3",
        protocol::ioctl::PATH2FID => "PATH2FID",
        protocol::ioctl::GETMDNAME => "GETMDNAME",
        protocol::ioctl::GET_MDTIDX => "GET_MDTIDX",
        protocol::ioctl::DATA_VERSION => "DATA_VERSION",
        protocol::ioctl::DATA_VERSION_SET => "DATA_VERSION_SET",
        protocol::OP_VOLATILE => "CREATE_VOLATILE",
        protocol::OP_CLIENT_UUID => "CLIENT_UUID",
        protocol::OP_GET_LAYOUT => "GET_LAYOUT",
        protocol::OP_SET_LAYOUT => "SET_LAYOUT",
        protocol::OP_GETATTR => "GETFILEINFO",
        _ => return format!("{op:#x}"),
    }
    .to_owned()
}
