//! Carries out what the state machine says: sockets, the timer, the pipe of records.

use std::io;
use std::time::Duration;

use coordinatool::hsm::{ActionItem, Mono, RequestKey};
use coordinatool::security::{FileError, Keys, server_name};
use coordinatool::shim::{Effect, End, Event, Level, Shim};
use lustreapi_sys::abi::{hsm_action_list, lu_fid};
use lustreapi_sys::{Fid, abi, ioctl};

use crate::channel::{Came, Channel, Secure};
use crate::descriptors::watch;
use crate::handle::Handle;
use crate::net::{self, Address, Server};
use crate::record::{self, Kind, Record};
use crate::{attempts, clock, log};

const CLOSED: &str = "the server closed the connection";
const CLOSED_EARLY: &str =
    "the server closed the connection instead of speaking TLS: is this its port for TLS?";

/// The connection.
#[derive(Debug)]
struct Socket {
    conn: u64,
    fd: i32,
    connecting: bool,
    /// How to speak, once connected.
    secure: Option<Secure>,
    channel: Option<Channel>,
    /// Whether the epoll watches for room to send.
    watching_room: bool,
}

/// Something that may block, done by recv without the lock.
#[derive(Debug)]
pub enum Chore {
    /// Does the file still exist?
    Probe(RequestKey),
    /// Tell the MDT that a request failed.
    End(Box<ActionItem>, i32),
}

/// How to prove to servers who we are.
#[derive(Debug)]
pub struct Security {
    /// Certificate or key, read again when the files change.
    pub keys: Keys,
    /// The name in the certificate, if it is not the host's.
    pub server_name: Option<String>,
}

/// Everything behind the lock.
#[derive(Debug)]
pub struct Engine {
    shim: Shim,
    servers: Vec<Server>,
    /// The addresses, and for each the name in the certificate of whoever is there.
    addresses: Vec<(Address, String)>,
    security: Option<Security>,
    /// All names are unknown, for good.
    hopeless: bool,
    /// Names are to be resolved by somebody who may block.
    resolve: bool,
    socket: Option<Socket>,
    effects: Vec<Effect>,
    /// The list that the copytool is reading, in words so that it is aligned.
    list: Vec<u64>,
    armed: Option<Mono>,
    chores: Vec<Chore>,
    buffer: Vec<u8>,
}

impl Engine {
    /// An engine that has done nothing yet.
    pub fn new(shim: Shim, servers: Vec<Server>, security: Option<Security>) -> Self {
        Self {
            shim,
            servers,
            addresses: Vec::new(),
            security,
            hopeless: false,
            resolve: false,
            socket: None,
            effects: Vec::new(),
            list: Vec::new(),
            armed: None,
            chores: Vec::new(),
            buffer: vec![0; 64 << 10],
        }
    }

    /// Whether no server has an address, and none ever will without another configuration.
    pub fn hopeless(&self) -> bool {
        self.hopeless
    }

    /// Whether a server knows us.
    pub fn is_ready(&self) -> bool {
        self.shim.is_ready()
    }

    /// From now on work is fetched even while the copytool is not in recv.
    pub fn set_eager(&mut self) {
        self.shim.set_eager();
    }

    /// Does all that can be done without waiting: names are resolved only where that may block.
    pub fn run(&mut self, handle: &'static Handle, may_resolve: bool) {
        if self.socket.as_ref().and_then(|socket| socket.channel.as_ref()).is_some_and(Channel::is_anothers) {
            self.lost(handle, "this process was forked: it makes a connection of its own");
        }
        if !handle.fds().can_wait() {
            self.mend(handle);
        }
        // A busy peer must not keep us here for ever: what is left makes the epoll ready at once.
        for _ in 0..16 {
            let mut busy = self.read_records(handle);
            busy |= self.read_socket(handle);
            self.feed(Event::Tick);
            busy |= self.carry_out(handle, may_resolve);
            self.flush(handle);
            if !busy {
                break;
            }
        }
        self.settle(handle);
    }

    /// Replaces descriptors that the copytool has closed.
    pub fn mend(&mut self, handle: &'static Handle) {
        if handle.is_dead() {
            return;
        }
        let new_epoll = handle.mend();
        // A new timer is not set.
        self.armed = None;
        let Some(socket) = &mut self.socket else { return };
        if !handle.fds().socket.is_ours() {
            handle.fds().socket.forget();
            self.lost(handle, "the copytool closed it");
        } else if new_epoll {
            socket.watching_room = true;
            let events = libc::EPOLLIN | libc::EPOLLOUT;
            if let Err(error) = watch(handle.fds().epoll.get(), libc::EPOLL_CTL_ADD, socket.fd, events) {
                self.lost(handle, &error.to_string());
            }
        }
    }

    /// The copytool waits for work.
    pub fn want_work(&mut self, handle: &'static Handle, may_resolve: bool) {
        self.feed(Event::WorkWanted);
        self.carry_out(handle, may_resolve);
        self.flush(handle);
        self.settle(handle);
    }

    /// What may block and has to be done; afterwards [`Self::probed`] takes the answers.
    pub fn chores(&mut self) -> Vec<Chore> {
        std::mem::take(&mut self.chores)
    }

    /// The answer to a probe.
    pub fn probed(&mut self, handle: &'static Handle, key: RequestKey, gone: bool) {
        self.feed(Event::Probed { key, gone });
        self.carry_out(handle, false);
        self.flush(handle);
        self.settle(handle);
    }

    /// The next list, valid until this is called again, and its length.
    pub fn next_list(&mut self) -> Option<(*mut hsm_action_list, usize)> {
        let bytes = self.shim.take_list(clock::now())?;
        self.list.clear();
        self.list.resize(bytes.len().div_ceil(8), 0);
        for (word, chunk) in self.list.iter_mut().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_ne_bytes(padded);
        }
        Some((self.list.as_mut_ptr().cast(), bytes.len()))
    }

    /// Forgets that recv was woken. To be called before looking, so that nothing is missed.
    pub fn clear_wake(&mut self, handle: &Handle) {
        drain_counter(handle.fds().wake.get());
    }

    fn feed(&mut self, event: Event<'_>) {
        self.shim.handle(clock::now(), event, &mut self.effects);
    }

    /// Reads what threads and children wrote.
    fn read_records(&mut self, handle: &'static Handle) -> bool {
        let mut any = false;
        loop {
            let mut bytes = [0; record::LEN];
            let pipe = handle.fds().records.get();
            // SAFETY: there is room for the record. Records are written and read in one piece.
            let n = unsafe { libc::read(pipe, bytes.as_mut_ptr().cast(), bytes.len()) };
            if n <= 0 {
                return any;
            }
            any = true;
            match Record::decode(&bytes) {
                Some(record) if n as usize == record::LEN => self.record(handle, &record),
                _ => log::line(Level::Error, "skipping something in our pipe that is not ours"),
            }
        }
    }

    fn record(&mut self, handle: &'static Handle, record: &Record) {
        let Record { key, dfid, status, unheard, cancel, .. } = *record;
        if record.kind != Kind::Begun && record.pid != clock::pid() {
            attempts::ended_elsewhere(handle, &key, cancel);
        }
        let event = match record.kind {
            Kind::Begun => Event::Begun { key },
            Kind::Ended => Event::Ended(End { key, dfid, status, unheard, cancel }),
            Kind::Abandoned => Event::Abandoned { key },
        };
        self.feed(event);
    }

    /// Reads what the daemon sent, up to a megabyte at a time.
    fn read_socket(&mut self, handle: &'static Handle) -> bool {
        let Some(socket) = &mut self.socket else { return false };
        let conn = socket.conn;
        if socket.connecting {
            match net::connected(socket.fd) {
                None => return false,
                Some(Ok(())) => {
                    socket.connecting = false;
                    match Channel::new(socket.secure.take()) {
                        Ok(channel) => {
                            let stands = channel.stands();
                            socket.channel = Some(channel);
                            if stands {
                                self.feed(Event::Connected { conn });
                            }
                        }
                        Err(reason) => self.lost(handle, &reason),
                    }
                }
                Some(Err(error)) => self.lost(handle, &error.to_string()),
            }
            return true;
        }
        let fd = socket.fd;
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut any = false;
        for _ in 0..16 {
            match net::receive(fd, &mut buffer) {
                Ok(0) => {
                    let channel = self.socket.as_ref().and_then(|socket| socket.channel.as_ref());
                    let stands = channel.is_none_or(Channel::stands);
                    self.lost(handle, if stands { CLOSED } else { CLOSED_EARLY });
                }
                Ok(n) => {
                    any = true;
                    self.came(handle, conn, &buffer[..n]);
                    if self.socket.as_ref().is_none_or(|socket| socket.conn != conn) {
                        break;
                    }
                    // Whatever it was, it may have ended the connection.
                    if !self.effects.iter().any(|effect| matches!(effect, Effect::Close { .. })) {
                        continue;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => self.lost(handle, &error.to_string()),
            }
            break;
        }
        self.buffer = buffer;
        any
    }

    /// Takes bytes of the socket.
    fn came(&mut self, handle: &'static Handle, conn: u64, bytes: &[u8]) {
        let Some(channel) = self.socket.as_mut().and_then(|socket| socket.channel.as_mut()) else { return };
        if channel.is_plain() {
            return self.feed(Event::Received { conn, bytes });
        }
        let Came { stands, plain, failure } = channel.received(bytes);
        if stands {
            self.feed(Event::Connected { conn });
        }
        if !plain.is_empty() {
            self.feed(Event::Received { conn, bytes: &plain });
        }
        if let Some(failure) = failure {
            self.lost(handle, &failure);
        }
    }

    /// The connection is gone.
    fn lost(&mut self, handle: &'static Handle, reason: &str) {
        if let Some(conn) = self.close(handle) {
            self.feed(Event::Disconnected { conn, reason });
        }
    }

    fn close(&mut self, handle: &Handle) -> Option<u64> {
        let mut socket = self.socket.take()?;
        if let Some(channel) =
            socket.channel.as_mut().filter(|channel| !channel.is_anothers() && !channel.is_plain())
        {
            channel.close();
            let _ = net::send(socket.fd, &channel.out);
        }
        // Nothing can be done about an error; closing would remove it too, were it not for forked children.
        let _ = watch(handle.fds().epoll.get(), libc::EPOLL_CTL_DEL, socket.fd, 0);
        if handle.fds().socket.is_ours() {
            net::shutdown(socket.fd);
        }
        handle.fds().socket.close();
        Some(socket.conn)
    }

    /// Carries out what the state machine asked for. Returns whether there was anything.
    fn carry_out(&mut self, handle: &'static Handle, may_resolve: bool) -> bool {
        let mut any = false;
        if self.resolve && may_resolve {
            any = true;
            self.resolve = false;
            self.resolve_names();
        }
        while !self.effects.is_empty() {
            any = true;
            let effects = std::mem::take(&mut self.effects);
            for effect in effects {
                self.one(handle, effect, may_resolve);
            }
        }
        any
    }

    fn one(&mut self, handle: &'static Handle, effect: Effect, may_resolve: bool) {
        match effect {
            Effect::Resolve if may_resolve => self.resolve_names(),
            Effect::Resolve => self.resolve = true,
            Effect::Connect { conn, server } => self.connect(handle, conn, server),
            Effect::Send { conn, bytes } => {
                let socket = self.socket.as_mut().filter(|socket| socket.conn == conn);
                if let Some(channel) = socket.and_then(|socket| socket.channel.as_mut()) {
                    channel.send(&bytes);
                    log_bytes("sending", &bytes);
                }
            }
            Effect::Close { conn } => {
                if self.socket.as_ref().is_some_and(|socket| socket.conn == conn) {
                    self.close(handle);
                }
            }
            Effect::Refused { key } => handle.shared.refuse(&key),
            Effect::Revived { key } => handle.shared.revive(&key),
            Effect::Probe { key } => self.chores.push(Chore::Probe(key)),
            Effect::EndAtLustre { item, errno } => self.chores.push(Chore::End(item, errno)),
            Effect::Log { level, text } => log::line(level, &text),
        }
    }

    fn resolve_names(&mut self) {
        let mut found = Vec::new();
        let mut transient = false;
        for server in &self.servers {
            match net::resolve(server) {
                Ok(addresses) => {
                    let told = self.security.as_ref().and_then(|security| security.server_name.as_ref());
                    let name = told.unwrap_or(&server.host);
                    found.extend(addresses.into_iter().map(|address| (address, name.clone())));
                }
                Err(error) => {
                    transient |= error.transient;
                    log::line(Level::Warn, &error.to_string());
                }
            }
        }
        self.hopeless = found.is_empty() && !transient;
        let servers = found.len();
        if servers > 0 {
            self.addresses = found;
        }
        self.feed(Event::Resolved { servers });
    }

    /// What to begin TLS with, if that is to be spoken. Reads the files again if they have changed.
    fn secure(&mut self, server: usize) -> Result<Option<Secure>, String> {
        let Some(security) = &mut self.security else { return Ok(None) };
        let Some((_, name)) = self.addresses.get(server) else { return Ok(None) };
        let name = server_name(name)?;
        let complain = |error: &FileError| {
            log::line(Level::Warn, &format!("TLS: what was read before stays in use: {error}"));
        };
        let config = security.keys.fresh(complain).map_err(|error| format!("TLS: {error}"))?;
        Ok(Some(Secure { config, name }))
    }

    fn connect(&mut self, handle: &'static Handle, conn: u64, server: usize) {
        let secure = match self.secure(server) {
            Ok(secure) => secure,
            Err(reason) => return self.feed(Event::Disconnected { conn, reason: &reason }),
        };
        let Some((address, _)) = self.addresses.get(server) else { return };
        let attempt = net::connect(address).and_then(|fd| {
            // Writable means connected or failed.
            let epoll = handle.fds().epoll.get();
            watch(epoll, libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN | libc::EPOLLOUT)
                .inspect_err(|_| net::close(fd))?;
            Ok(fd)
        });
        match attempt {
            Ok(fd) => {
                handle.fds().socket.set(fd);
                self.socket =
                    Some(Socket { conn, fd, connecting: true, secure, channel: None, watching_room: true });
            }
            Err(error) => self.feed(Event::Disconnected { conn, reason: &error.to_string() }),
        }
    }

    /// Sends what can be sent, and watches for room if that is not all.
    fn flush(&mut self, handle: &'static Handle) {
        let Some(socket) = &mut self.socket else { return };
        if socket.connecting {
            return;
        }
        let Some(channel) = &mut socket.channel else { return };
        let mut sent = 0;
        let mut failure = None;
        while sent < channel.out.len() {
            match net::send(socket.fd, &channel.out[sent..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    failure = Some(error.to_string());
                    break;
                }
            }
        }
        channel.out.drain(..sent);
        let want_room = !channel.out.is_empty();
        if want_room != socket.watching_room {
            let events = if want_room { libc::EPOLLIN | libc::EPOLLOUT } else { libc::EPOLLIN };
            let epoll = handle.fds().epoll.get();
            match watch(epoll, libc::EPOLL_CTL_MOD, socket.fd, events) {
                Ok(()) => socket.watching_room = want_room,
                Err(error) => failure = Some(error.to_string()),
            }
        }
        if let Some(failure) = failure {
            self.lost(handle, &failure);
            self.carry_out(handle, false);
        }
    }

    /// Leaves everything so that whoever waits is woken when there is something to do.
    fn settle(&mut self, handle: &'static Handle) {
        let now = clock::now();
        handle.shared.pumped(now, self.shim.lease_until());
        self.arm(handle, now);
        if self.shim.has_list() || self.resolve || !self.chores.is_empty() {
            handle.wake();
        }
    }

    fn arm(&mut self, handle: &Handle, now: Mono) {
        let timer = handle.fds().timer.get();
        let fired = drain_counter(timer);
        let deadline = self.shim.next_deadline();
        if deadline == self.armed && !fired {
            return;
        }
        self.armed = deadline;
        // Zero would disarm it; a deadline that has passed fires at once.
        let delay = deadline.map_or(Duration::ZERO, |at| at.since(now).max(Duration::from_micros(100)));
        let value = libc::timespec {
            tv_sec: libc::time_t::try_from(delay.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(delay.subsec_nanos()),
        };
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = libc::itimerspec { it_interval: zero, it_value: value };
        // SAFETY: the setting is valid for the call, the old one is not asked for.
        unsafe { libc::timerfd_settime(timer, 0, &setting, std::ptr::null_mut()) };
    }
}

/// Reads a timer's or eventfd's counter. Returns whether it had counted.
fn drain_counter(fd: i32) -> bool {
    let mut count = 0u64;
    // SAFETY: there is room for the eight bytes; these descriptors do not block.
    unsafe { libc::read(fd, std::ptr::from_mut(&mut count).cast(), 8) == 8 }
}

fn log_bytes(what: &str, bytes: &[u8]) {
    if log::enabled(Level::Debug) {
        log::line(Level::Debug, &format!("{what} {}", String::from_utf8_lossy(bytes)));
    }
}

/// Whether the file of this FID is gone.
pub fn is_gone(handle: &Handle, fid: &Fid) -> bool {
    let Ok(name) = std::ffi::CString::new(fid.file_name()) else { return false };
    // SAFETY: all zero is a valid stat buffer, which the call fills.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the name is NUL-terminated and the buffer valid.
    let rc =
        unsafe { libc::fstatat(handle.by_fid_fd(), name.as_ptr(), &mut stat, libc::AT_SYMLINK_NOFOLLOW) };
    rc < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT)
}

/// Ends a request at the MDT with an error, without an attempt.
pub fn end_at_lustre(handle: &Handle, item: &ActionItem, errno: i32) {
    let fid = lu_fid::from(item.fid);
    let copy = abi::hsm_copy {
        hc_errval: u16::try_from(errno).unwrap_or(libc::EIO as u16),
        hc_hai: abi::hsm_action_item {
            hai_len: size_of::<abi::hsm_action_item>() as u32,
            hai_action: item.action.hsma(),
            hai_fid: fid,
            hai_dfid: fid,
            hai_extent: abi::hsm_extent { offset: item.extent_offset, length: item.extent_length },
            hai_cookie: item.cookie,
            hai_gid: item.gid,
        },
        ..abi::hsm_copy::default()
    };
    // SAFETY: the argument of this request is a struct hsm_copy.
    let rc = unsafe { libc::ioctl(handle.mnt_fd(), ioctl::HSM_COPY_END, &copy) };
    if rc < 0 {
        let error = io::Error::last_os_error();
        log::line(Level::Warn, &format!("cannot end {} at the MDT: {error}", item.fid));
    }
}
