//! Addresses and sockets that never block, but for name resolution.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::ptr;

/// A server as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Name or address.
    pub host: String,
    /// Number or service name.
    pub port: String,
}

/// The servers of `host`, which may be a list: `a`, `a,b:5124`, `[::1]:5124, 10.0.0.1`.
pub fn servers(hosts: &str, port: &str) -> Vec<Server> {
    hosts
        .split([',', ' ', '\t'])
        .filter(|host| !host.is_empty())
        .map(|host| {
            let bracketed = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
            let (host, own_port) = match (bracketed, host.split_once(':')) {
                (Some((host, rest)), _) => (host, rest.strip_prefix(':')),
                // More than one colon: an IPv6 address without a port.
                (None, Some((name, own))) if !own.contains(':') => (name, Some(own)),
                (None, _) => (host, None),
            };
            Server { host: host.to_owned(), port: own_port.unwrap_or(port).to_owned() }
        })
        .collect()
}

/// An address to connect to.
#[derive(Clone, Copy)]
pub struct Address {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "address of family {}", self.storage.ss_family)
    }
}

/// Why a name has no address.
#[derive(Debug)]
pub struct ResolveError {
    host: String,
    port: String,
    reason: String,
    /// Whether it makes sense to try again.
    pub transient: bool,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, reason, .. } = self;
        write!(f, "cannot resolve {host} port {port}: {reason}")
    }
}

/// All addresses of a server, in the resolver's order.
pub fn resolve(server: &Server) -> Result<Vec<Address>, ResolveError> {
    let error = |reason: String, transient| ResolveError {
        host: server.host.clone(),
        port: server.port.clone(),
        reason,
        transient,
    };
    let (Ok(host), Ok(port)) = (CString::new(server.host.as_str()), CString::new(server.port.as_str()))
    else {
        return Err(error("the name holds a NUL".to_owned(), false));
    };
    // SAFETY: all zero is a valid addrinfo: unspecified family, no flags, null pointers.
    let mut hints: libc::addrinfo = unsafe { std::mem::zeroed() };
    hints.ai_socktype = libc::SOCK_STREAM;
    let mut found = ptr::null_mut();
    // SAFETY: both strings are NUL-terminated, hints is initialised, and found receives a list or stays null.
    let code = unsafe { libc::getaddrinfo(host.as_ptr(), port.as_ptr(), &hints, &mut found) };
    if code != 0 {
        let system = io::Error::last_os_error();
        // SAFETY: gai_strerror returns a static string for every code.
        let text = unsafe { std::ffi::CStr::from_ptr(libc::gai_strerror(code)) };
        let text =
            if code == libc::EAI_SYSTEM { system.to_string() } else { text.to_string_lossy().into_owned() };
        let transient = !matches!(code, libc::EAI_NONAME | libc::EAI_SERVICE | libc::EAI_FAIL);
        return Err(error(text, transient));
    }
    let mut addresses = Vec::new();
    let mut next = found;
    // SAFETY: the list of getaddrinfo is linked by ai_next and ends in null; it lives until freeaddrinfo below.
    while let Some(info) = unsafe { next.as_ref() } {
        let len = info.ai_addrlen as usize;
        if !info.ai_addr.is_null() && len <= size_of::<libc::sockaddr_storage>() {
            // SAFETY: all zero is a valid sockaddr_storage (family unspecified).
            let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
            // SAFETY: ai_addr points to ai_addrlen bytes, which fit into storage as was just checked.
            unsafe {
                ptr::copy_nonoverlapping(info.ai_addr.cast::<u8>(), ptr::from_mut(&mut storage).cast(), len)
            };
            addresses.push(Address { storage, len: info.ai_addrlen });
        }
        next = info.ai_next;
    }
    // SAFETY: found is the list that getaddrinfo made, freed once.
    unsafe { libc::freeaddrinfo(found) };
    Ok(addresses)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn set_option(fd: i32, level: i32, name: i32, value: i32) {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: value is an int of the length given. An option that cannot be set changes only how soon a dead peer shows.
    unsafe { libc::setsockopt(fd, level, name, ptr::from_ref(&value).cast(), len) };
}

/// Starts a connection. The descriptor becomes writable when it stands or has failed.
pub fn connect(address: &Address) -> io::Result<i32> {
    let family = libc::c_int::from(address.storage.ss_family);
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket has no preconditions.
    let fd = check(unsafe { libc::socket(family, kind, 0) })?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
    set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 30);
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 10);
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 3);
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 60_000);
    // SAFETY: the address has len valid bytes.
    let result = unsafe { libc::connect(fd, ptr::from_ref(&address.storage).cast(), address.len) };
    match check(result) {
        Ok(_) => Ok(fd),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(fd),
        Err(error) => {
            close(fd);
            Err(error)
        }
    }
}

/// Whether a connection that was started stands: `None` while that is not known.
pub fn connected(fd: i32) -> Option<io::Result<()>> {
    let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd is given, and its count.
    let ready = unsafe { libc::poll(&mut poll, 1, 0) };
    if ready <= 0 {
        return None;
    }
    let mut error: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: error is an int of the length given.
    let result = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, ptr::from_mut(&mut error).cast(), &mut len)
    };
    Some(match check(result) {
        Ok(_) if error == 0 => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(error)),
        Err(error) => Err(error),
    })
}

/// Reads what is there. `WouldBlock` when that is nothing, 0 at the end.
pub fn receive(fd: i32, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is as long as said.
    let n = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Sends what fits, without SIGPIPE.
pub fn send(fd: i32, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the slice is as long as said.
    let n = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Ends a connection for the peer as well when a forked child still holds the descriptor.
pub fn shutdown(fd: i32) {
    // SAFETY: any number may be given; on anything but a socket this does nothing.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

/// Closes a descriptor of ours.
pub fn close(fd: i32) {
    // SAFETY: called with descriptors that were opened here, once each.
    unsafe { libc::close(fd) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_be_a_list_with_ports() {
        let cases: [(&str, &[(&str, &str)]); 6] = [
            ("coordinatool", &[("coordinatool", "5123")]),
            ("a,b", &[("a", "5123"), ("b", "5123")]),
            ("a:1, b", &[("a", "1"), ("b", "5123")]),
            ("::1,[fe80::1]:7,[::2]", &[("::1", "5123"), ("fe80::1", "7"), ("::2", "5123")]),
            ("10.0.0.1:http", &[("10.0.0.1", "http")]),
            (" , ", &[]),
        ];
        for (text, want) in cases {
            let got = servers(text, "5123");
            let got: Vec<_> = got.iter().map(|s| (s.host.as_str(), s.port.as_str())).collect();
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn a_name_that_does_not_exist_is_told_apart_from_a_resolver_that_is_away() {
        let server = Server { host: "127.0.0.1".into(), port: "no-such-service".into() };
        let error = resolve(&server).err().unwrap();
        assert!(!error.transient, "{error}");
        let server = Server { host: "127.0.0.1".into(), port: "5123".into() };
        assert_eq!(resolve(&server).unwrap().len(), 1);
    }
}
