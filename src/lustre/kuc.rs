//! The reader of the kernel's pipe: a thread that does nothing else.
//!
//! While the pipe is full the kernel waits with a global semaphore held, which stops every MDT; so nothing here may wait
//! for anything but the pipe itself. When the file system goes away (unmounted, or the embedded Lustre stopped), the
//! thread registers again as soon as it is back. It also does so when an earlier registration is in the way at start.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lustreapi_sys::abi::{KUC_MAGIC, KUC_TRANSPORT_GENERIC, KUC_TRANSPORT_HSM};
use lustreapi_sys::kuc::{Frame, HEADER_LEN, next_frame};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::link::{CurrentMount, FromLustre, Tell};
use super::mount::{Mount, MountError};

/// Pauses between attempts to register. The first is short: the kernel needs a moment to notice that an earlier daemon died.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(30);

const RUN: u8 = 0;
/// The registration is being ended: the end of the pipe is expected.
const LEAVE: u8 = 1;
/// No longer registered: read what is left, then end.
const DRAIN: u8 = 2;
/// Another process goes on reading: end where a frame ends.
const HAND_OVER: u8 = 3;

/// A registered copytool.
#[derive(Debug)]
pub struct Copytool {
    mount: CurrentMount,
    control: Arc<Control>,
    /// Ends with the pipe, if it was to be handed over.
    thread: Option<JoinHandle<Option<OwnedFd>>>,
}

#[derive(Debug)]
struct Control {
    state: AtomicU8,
    /// Whether the registration of this mount is ours. Ending it when it is not would end that of another daemon.
    registered: AtomicBool,
    wake: OwnedFd,
}

impl Control {
    fn enter(&self, state: u8) {
        self.state.store(state, Ordering::Release);
        // A full counter wakes as well.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn state(&self) -> u8 {
        self.state.load(Ordering::Acquire)
    }
}

/// How reading the pipe ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// As it was told to.
    Drained,
    /// Nothing of what was read is left: another process may go on.
    BetweenFrames,
    /// The file system is gone.
    Lost(String),
}

impl Copytool {
    /// Registers and starts the reader. Where another registration is in the way, most likely that of an earlier daemon
    /// that was killed just now, the reader goes on trying.
    ///
    /// # Errors
    /// When the file system refuses the registration for another reason.
    pub fn start(mount: CurrentMount, archive_ids: Vec<u32>, tell: Tell) -> Result<Self, MountError> {
        let pipe = match mount.get().register(&archive_ids) {
            Ok(pipe) => {
                tracing::info!("Registered lustre copytool");
                Ok(pipe)
            }
            Err(error) if error.is_registered_twice() => {
                let why = error.to_string();
                tracing::warn!("{why}; no requests come from lustre until it is gone; trying again");
                Err(why)
            }
            Err(error) => return Err(error),
        };
        Self::read(mount, archive_ids, tell, pipe)
    }

    /// Goes on reading for an earlier run, which left its registration, through the root of `mount`, and the pipe.
    pub fn adopt(
        mount: CurrentMount,
        archive_ids: Vec<u32>,
        tell: Tell,
        pipe: OwnedFd,
    ) -> Result<Self, MountError> {
        tracing::info!("took over the registration of the lustre copytool");
        Self::read(mount, archive_ids, tell, Ok(pipe))
    }

    fn read(
        mount: CurrentMount,
        archive_ids: Vec<u32>,
        tell: Tell,
        pipe: Result<OwnedFd, String>,
    ) -> Result<Self, MountError> {
        let current = mount.get();
        let failed = |source: io::Error| MountError::Register { path: current.path().to_owned(), source };
        let wake =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| failed(e.into()))?;
        let registered = AtomicBool::new(pipe.is_ok());
        let control = Arc::new(Control { state: AtomicU8::new(RUN), registered, wake });
        let keeper = Keeper { mount: mount.clone(), archive_ids, control: Arc::clone(&control), tell };
        let thread = std::thread::Builder::new().name("kuc".into()).spawn(move || keeper.run(pipe));
        let thread = thread.map_err(failed)?;
        Ok(Self { mount, control, thread: Some(thread) })
    }

    /// Unregisters without losing what the kernel has written already: the reader goes on while the kernel is told, then
    /// empties the pipe. [`FromLustre::Stopped`] follows, later or never if an MDT is away.
    pub fn stop(&mut self) {
        let mount = self.mount.get();
        self.control.enter(LEAVE);
        if !self.control.registered.load(Ordering::Acquire) {
            return self.control.enter(DRAIN);
        }
        let control = Arc::clone(&self.control);
        let unregister = move || {
            if let Err(error) = mount.unregister() {
                tracing::warn!("cannot unregister the lustre copytool: {error}");
            }
            control.enter(DRAIN);
        };
        if let Err(error) = std::thread::Builder::new().name("unregister".into()).spawn(unregister) {
            tracing::warn!("cannot unregister the lustre copytool: {error}");
            self.control.enter(DRAIN);
        }
    }

    /// Ends the reader where a frame ends, without a word to the kernel. [`FromLustre::Stopped`] follows, then
    /// [`Copytool::take_registration`].
    pub fn hand_over(&self) {
        self.control.enter(HAND_OVER);
    }

    /// What another process needs to go on, after [`Copytool::hand_over`]: the pipe and the root of the mount. `None` when
    /// the file system was lost meanwhile.
    pub fn take_registration(&mut self) -> Option<(OwnedFd, OwnedFd)> {
        let pipe = self.thread.take()?.join().ok()??;
        match self.mount.get().clone_root() {
            Ok(root) => Some((pipe, root)),
            Err(error) => {
                tracing::warn!("the registration cannot be handed over: {error}");
                None
            }
        }
    }

    /// Whether the reader has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

struct Keeper {
    mount: CurrentMount,
    archive_ids: Vec<u32>,
    control: Arc<Control>,
    tell: Tell,
}

impl Keeper {
    fn run(self, pipe: Result<OwnedFd, String>) -> Option<OwnedFd> {
        let pipe = self.keep_reading(pipe);
        (self.tell)(FromLustre::Stopped);
        pipe
    }

    /// Reads until told to stop; without a pipe, registers first, and does not say again why there is none. Returns the pipe
    /// if it is to be handed over.
    fn keep_reading(&self, pipe: Result<OwnedFd, String>) -> Option<OwnedFd> {
        let mut pipe = match pipe {
            Ok(pipe) => pipe,
            Err(said) => self.register_again(said)?,
        };
        loop {
            match read_frames(&pipe, &self.control, &mut |list| (self.tell)(FromLustre::List(list))) {
                End::Drained => return None,
                End::BetweenFrames => return Some(pipe),
                End::Lost(why) => {
                    self.control.registered.store(false, Ordering::Release);
                    let mount = self.mount.get();
                    tracing::error!(
                        "{}: {why}: no more requests come from lustre; movers are served, and the copytool registers \
                         again when the file system is back",
                        mount.path().display()
                    );
                }
            }
            pipe = self.register_again(String::new())?;
        }
    }

    /// Tries until it works or it is told to stop. What was said last is not said again.
    fn register_again(&self, mut said: String) -> Option<OwnedFd> {
        let mut backoff = FIRST_BACKOFF;
        loop {
            self.wait(backoff);
            if self.control.state() != RUN {
                return None;
            }
            let old = self.mount.get();
            let opened = Mount::open(old.path(), Some(old.fsname()));
            match opened.and_then(|mount| mount.register(&self.archive_ids).map(|pipe| (mount, pipe))) {
                Ok((mount, pipe)) => {
                    self.mount.replace(mount);
                    self.control.registered.store(true, Ordering::Release);
                    tracing::warn!("Registered lustre copytool again");
                    return Some(pipe);
                }
                Err(error) => {
                    let text = error.to_string();
                    if text != said {
                        tracing::warn!("{text}; trying again");
                        said = text;
                    }
                }
            }
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
    }

    fn wait(&self, time: Duration) {
        let timeout = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
        let mut fds = [PollFd::from_borrowed_fd(self.control.wake.as_fd(), PollFlags::IN)];
        let _ = poll(&mut fds, Some(&timeout));
    }
}

/// Reads frames until the pipe ends, or until it is empty when draining, or until a frame ends when handing over.
fn read_frames(pipe: &OwnedFd, control: &Control, list: &mut dyn FnMut(Vec<u8>)) -> End {
    let mut frames = Frames::default();
    let mut chunk = vec![0u8; 1 << 20];
    loop {
        let state = control.state();
        if state == HAND_OVER && frames.bytes.is_empty() {
            return End::BetweenFrames;
        }
        match rustix::io::read(pipe, &mut chunk) {
            Ok(0) if state != RUN => return End::Drained,
            Ok(0) => return End::Lost("the pipe of the kernel was closed".to_owned()),
            Ok(len) => {
                if frames.push(&chunk[..len], list) && state == RUN {
                    return End::Lost("the file system is being unmounted".to_owned());
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if state == DRAIN => return End::Drained,
            Err(Errno::AGAIN) => {
                let mut fds = [
                    PollFd::new(pipe, PollFlags::IN),
                    PollFd::from_borrowed_fd(control.wake.as_fd(), PollFlags::IN),
                ];
                match poll(&mut fds, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return End::Lost(format!("poll: {errno}")),
                }
                // The state is read again in any case; a counter left alone would wake us for ever.
                let _ = rustix::io::read(&control.wake, &mut [0; 8]);
            }
            Err(errno) => return End::Lost(format!("cannot read the pipe of the kernel: {errno}")),
        }
    }
}

/// Bytes of the pipe that are not a whole frame yet.
#[derive(Debug, Default)]
struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// Takes bytes as they come and hands over each list that is complete. Returns whether the kernel says that the file
    /// system is being unmounted.
    fn push(&mut self, more: &[u8], list: &mut dyn FnMut(Vec<u8>)) -> bool {
        self.bytes.extend_from_slice(more);
        let mut at = 0;
        let mut shutdown = false;
        loop {
            match next_frame(&self.bytes[at..]) {
                Ok(Some((frame, len))) => {
                    match frame {
                        Frame::ActionList(payload) => list(payload.to_vec()),
                        Frame::Shutdown => shutdown = true,
                        Frame::Other { transport, msgtype } => {
                            tracing::debug!("skipping kernel message {msgtype} of transport {transport}");
                        }
                    }
                    at += len;
                }
                Ok(None) => break,
                Err(error) => {
                    let rest = &self.bytes[at..];
                    let skip = (1..rest.len()).find(|skip| may_begin(&rest[*skip..])).unwrap_or(rest.len());
                    tracing::error!("{error}: skipping {skip} bytes of the pipe");
                    at += skip;
                }
            }
        }
        self.bytes.drain(..at);
        shutdown
    }
}

/// Whether a frame may begin here, as far as there are bytes to tell.
fn may_begin(bytes: &[u8]) -> bool {
    let magic = KUC_MAGIC.to_ne_bytes();
    let known = bytes.len().min(magic.len());
    bytes[..known] == magic[..known]
        && bytes.get(2).is_none_or(|t| [KUC_TRANSPORT_GENERIC, KUC_TRANSPORT_HSM].contains(t))
        && bytes.get(6..8).is_none_or(|len| usize::from(u16::from_ne_bytes([len[0], len[1]])) >= HEADER_LEN)
}

#[cfg(test)]
mod tests {
    use lustreapi_sys::abi::{HMT_ACTION_LIST, KUC_MSG_SHUTDOWN};
    use lustreapi_sys::kuc::frame;
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    fn hal(payload: &[u8]) -> Vec<u8> {
        frame(KUC_TRANSPORT_HSM, HMT_ACTION_LIST, payload).unwrap()
    }

    fn control() -> Control {
        let registered = AtomicBool::new(true);
        Control { state: AtomicU8::new(RUN), registered, wake: eventfd(0, EventfdFlags::NONBLOCK).unwrap() }
    }

    /// liblustreapi up to 2.17 loses a message that is read in two parts (LU-20183).
    #[test]
    fn frames_may_come_in_any_parts() {
        let bytes = [hal(&[1; 5000]), hal(b""), frame(9, 1, b"?").unwrap(), hal(&[2; 3])].concat();
        for part in [1, 7, 4096, bytes.len()] {
            let mut lists = Vec::new();
            let mut frames = Frames::default();
            for chunk in bytes.chunks(part) {
                assert!(!frames.push(chunk, &mut |list| lists.push(list)));
            }
            assert_eq!(lists, [vec![1; 5000], vec![], vec![2; 3]], "parts of {part}");
            assert!(frames.bytes.is_empty());
        }
    }

    #[test]
    fn bytes_that_are_no_frame_cost_only_themselves() {
        let bytes = [hal(b"one"), b"rubbish\x1crubbish\x1c".to_vec(), hal(b"two")].concat();
        for part in [1, 3, bytes.len()] {
            let mut lists = Vec::new();
            let mut frames = Frames::default();
            for chunk in bytes.chunks(part) {
                frames.push(chunk, &mut |list| lists.push(list));
            }
            assert_eq!(lists, [b"one".to_vec(), b"two".to_vec()], "parts of {part}");
        }
    }

    /// C treats the end of the file system as success and spins on the closed pipe.
    #[test]
    fn the_end_of_the_pipe_ends_the_reader() {
        let (read_end, write_end) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        rustix::io::write(&write_end, &hal(b"last")).unwrap();
        drop(write_end);
        let mut lists = Vec::new();
        let end = read_frames(&read_end, &control(), &mut |list| lists.push(list));
        assert_eq!(end, End::Lost("the pipe of the kernel was closed".to_owned()));
        assert_eq!(lists, [b"last"]);

        let (read_end, write_end) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        rustix::io::write(&write_end, &frame(KUC_TRANSPORT_GENERIC, KUC_MSG_SHUTDOWN, b"").unwrap()).unwrap();
        let end = read_frames(&read_end, &control(), &mut |_| ());
        assert_eq!(end, End::Lost("the file system is being unmounted".to_owned()));
    }

    #[test]
    fn draining_reads_what_is_there_and_ends() {
        let (read_end, write_end) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        rustix::io::write(&write_end, &[hal(b"a"), hal(b"b")].concat()).unwrap();
        let control = control();
        control.enter(DRAIN);
        let mut lists = Vec::new();
        assert_eq!(read_frames(&read_end, &control, &mut |list| lists.push(list)), End::Drained);
        assert_eq!(lists, [b"a", b"b"]);
    }
}
