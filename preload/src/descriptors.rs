//! The descriptors of a copytool: opened at once, mended when the copytool closes them behind our back.

use std::ffi::CStr;
use std::io;

use crate::descriptor::Descriptor;

/// Descriptors, each none once it is closed.
#[derive(Debug)]
pub struct Descriptors {
    /// The root of the file system.
    pub mnt: Descriptor,
    /// `.lustre/fid`.
    pub by_fid: Descriptor,
    /// All that recv waits for; the descriptor of get_fd.
    pub epoll: Descriptor,
    /// Deadlines of the state machine.
    pub timer: Descriptor,
    /// Wakes recv: there is work, or something that only recv may do.
    pub wake: Descriptor,
    /// Where the records of ends are read.
    pub records: Descriptor,
    /// Where they are written.
    pub tell: Descriptor,
    /// The connection.
    pub socket: Descriptor,
}

/// Room in the pipe of records, in bytes: what children tell while their parent, in a wait for them, reads nothing.
const PIPE_BYTES: i32 = 1 << 20;

/// What cannot be opened, and why.
pub type Failure = (String, io::Error);

fn because(what: &str) -> impl FnOnce(io::Error) -> Failure {
    let what = what.to_owned();
    move |error| (what, error)
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Descriptors {
    /// Opens everything but the connection.
    pub fn open(mnt: &CStr, nonblocking: bool) -> Result<Self, Failure> {
        let none = Descriptor::none;
        let all = Self {
            mnt: none(),
            by_fid: none(),
            epoll: none(),
            timer: none(),
            wake: none(),
            records: none(),
            tell: none(),
            socket: none(),
        };
        let opened = (|| {
            all.open_root(mnt)?;
            all.open_epoll(nonblocking)?;
            all.open_timer()?;
            all.open_wake()?;
            all.open_pipe()?;
            [&all.timer, &all.wake, &all.records].into_iter().try_for_each(|one| all.watch_for_input(one))
        })();
        opened.inspect_err(|_| all.close())?;
        Ok(all)
    }

    /// Closes all of them. Safe in signal handlers, and when called twice.
    pub fn close(&self) {
        let Self { mnt, by_fid, epoll, timer, wake, records, tell, socket } = self;
        for descriptor in [socket, timer, epoll, wake, tell, records, mnt, by_fid] {
            descriptor.close();
        }
    }

    fn open_root(&self, mnt: &CStr) -> Result<(), Failure> {
        let root = format!("cannot open the file system's root {}", mnt.to_string_lossy());
        let readable = libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: mnt is a NUL-terminated string.
        let mnt = self.mnt.keep(unsafe { libc::open(mnt.as_ptr(), readable) }).map_err(because(&root))?;
        // SAFETY: the name is NUL-terminated.
        let by_fid = unsafe { libc::openat(mnt, c".lustre/fid".as_ptr(), readable) };
        self.by_fid.keep(by_fid).map_err(because("cannot open .lustre/fid"))?;
        Ok(())
    }

    fn open_pipe(&self) -> Result<(), Failure> {
        let mut pipe = [-1; 2];
        // SAFETY: there is room for the two descriptors.
        let made = check(unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) });
        made.map_err(because("cannot make a pipe"))?;
        self.records.set(pipe[0]);
        self.tell.set(pipe[1]);
        // Only the reading end: who writes waits for room.
        // SAFETY: F_SETFL takes an int.
        let flagged = check(unsafe { libc::fcntl(pipe[0], libc::F_SETFL, libc::O_NONBLOCK) });
        flagged.map_err(because("cannot set up the pipe"))?;
        // SAFETY: F_SETPIPE_SZ takes an int. With less room it works as well.
        unsafe { libc::fcntl(pipe[0], libc::F_SETPIPE_SZ, PIPE_BYTES) };
        Ok(())
    }

    fn open_epoll(&self, nonblocking: bool) -> Result<(), Failure> {
        // SAFETY: no pointers.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        let epoll = self.epoll.keep(epoll).map_err(because("cannot make an epoll"))?;
        if nonblocking {
            // SAFETY: F_SETFL takes an int.
            let flagged = check(unsafe { libc::fcntl(epoll, libc::F_SETFL, libc::O_NONBLOCK) });
            flagged.map_err(because("cannot make the descriptor non-blocking"))?;
        }
        Ok(())
    }

    fn open_timer(&self) -> Result<(), Failure> {
        // SAFETY: no pointers.
        let timer =
            unsafe { libc::timerfd_create(libc::CLOCK_BOOTTIME, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        self.timer.keep(timer).map_err(because("cannot make a timer"))?;
        Ok(())
    }

    fn open_wake(&self) -> Result<(), Failure> {
        // SAFETY: no pointers.
        let wake = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        self.wake.keep(wake).map_err(because("cannot make an eventfd"))?;
        Ok(())
    }

    fn watch_for_input(&self, descriptor: &Descriptor) -> Result<(), Failure> {
        watch(self.epoll.get(), libc::EPOLL_CTL_ADD, descriptor.get(), libc::EPOLLIN)
            .map_err(because("cannot set up the epoll"))
    }

    /// Whether the epoll is ours and watches this descriptor of ours: an epoll knows what it watches by more than the number.
    fn watches(&self, descriptor: &Descriptor) -> bool {
        watch(self.epoll.get(), libc::EPOLL_CTL_MOD, descriptor.get(), libc::EPOLLIN).is_ok()
    }

    /// Whether recv can wait. A copytool that closes descriptors closes these among them.
    pub fn can_wait(&self) -> bool {
        self.watches(&self.wake)
    }

    /// Replaces what the copytool has closed, but for the connection. Returns whether the epoll is a new one, in which the
    /// connection is to be watched again.
    pub fn mend(&self, mnt: &CStr, nonblocking: bool) -> Result<bool, Failure> {
        if !self.mnt.is_ours() || !self.by_fid.is_ours() {
            self.mnt.close();
            self.by_fid.close();
            self.open_root(mnt)?;
        }
        let new_pipe = !self.records.is_ours() || !self.tell.is_ours();
        if new_pipe {
            self.records.close();
            self.tell.close();
            self.open_pipe()?;
        }
        let same_epoll = [&self.timer, &self.wake, &self.records].into_iter().any(|one| self.watches(one));
        if !same_epoll {
            self.epoll.forget();
            for (descriptor, kind) in [(&self.timer, "timerfd"), (&self.wake, "eventfd")] {
                if !descriptor.is_still(kind) {
                    descriptor.forget();
                }
            }
        }
        self.mend_waiting(nonblocking, same_epoll).inspect_err(|_| {
            if !same_epoll {
                // So that the next attempt begins with nothing again.
                self.epoll.close();
            }
        })?;
        Ok(!same_epoll)
    }

    fn mend_waiting(&self, nonblocking: bool, same_epoll: bool) -> Result<(), Failure> {
        if !same_epoll {
            self.open_epoll(nonblocking)?;
        }
        if self.timer.get() < 0 || (same_epoll && !self.watches(&self.timer)) {
            self.timer.forget();
            self.open_timer()?;
        }
        if self.wake.get() < 0 || (same_epoll && !self.watches(&self.wake)) {
            self.wake.forget();
            self.open_wake()?;
        }
        for descriptor in [&self.timer, &self.wake] {
            if !self.watches(descriptor) {
                self.watch_for_input(descriptor)?;
            }
        }
        if !self.watches(&self.records) {
            self.watch_for_input(&self.records)?;
        }
        Ok(())
    }
}

/// Adds, changes or removes what an epoll watches.
pub fn watch(epoll: i32, operation: i32, fd: i32, events: i32) -> io::Result<()> {
    let mut event = libc::epoll_event { events: events as u32, u64: 0 };
    // SAFETY: the event is valid for the call.
    check(unsafe { libc::epoll_ctl(epoll, operation, fd, &mut event) })
}
