//! The listening socket.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use dns_lookup::{AddrInfoHints, LookupErrorKind, getaddrinfo};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc::Receiver;

use super::config::Limits;
use super::connection::{self, Address, Badge, Connection};
use super::inputs::Inputs;
use super::names::Names;
use super::security::door::Arrival;
use super::security::{Credentials, Principal};
use super::shell::Shell;
use super::transport::Transport;
use crate::hsm::ConnId;
use crate::system::handover::Inherited;

const BACKLOG: i32 = 1024;
/// Descriptors kept for files, Lustre and the store.
const RESERVED_FILES: u64 = 64;
/// How often the same complaint is logged.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Binds the first address of `host` that can be bound and listens. `host` may be several names, separated by commas. `what` is
/// said in the log: nothing, or "for TLS ".
pub fn bind(host: &str, port: &str, what: &str) -> io::Result<std::net::TcpListener> {
    let mut last = None;
    for host in host.split(',').map(str::trim).filter(|host| !host.is_empty()) {
        for address in resolve(host, port)? {
            match listen(address) {
                Ok(listener) => {
                    let port = listener.local_addr()?.port();
                    tracing::info!("Listening {what}on {host}:{port}");
                    return Ok(listener);
                }
                Err(error) => {
                    tracing::debug!("cannot listen on {address}: {error}");
                    last = Some(io::Error::new(error.kind(), format!("{address}: {error}")));
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("`{host}` is no host"))))
}

/// Goes on with a socket that an earlier run listened on, if it is the one that is configured; else binds. `what` is as for
/// [`bind`].
pub fn adopt_or_bind(
    inherited: &mut Inherited,
    host: &str,
    port: &str,
    what: &str,
) -> io::Result<std::net::TcpListener> {
    let mut others = Vec::new();
    let mut found = None;
    while let Some(fd) = inherited.listener() {
        let listener = std::net::TcpListener::from(fd);
        let address = listener.local_addr()?;
        let mut configured = Vec::new();
        for host in host.split(',').map(str::trim).filter(|host| !host.is_empty()) {
            configured.extend(resolve(host, port)?);
        }
        // Any port will do where none is named.
        let is_it =
            |of: &SocketAddr| of.ip() == address.ip() && (of.port() == address.port() || of.port() == 0);
        if configured.iter().any(is_it) {
            listener.set_nonblocking(true)?;
            tracing::info!("Listening {what}on {address} as the last run did");
            found = Some(listener);
            break;
        }
        others.push(listener);
    }
    others.into_iter().for_each(|other| inherited.put_back(other.into()));
    found.map_or_else(|| bind(host, port, what), Ok)
}

/// Closes the sockets of an earlier run that nobody went on with.
pub fn close_others(inherited: &mut Inherited) {
    while let Some(fd) = inherited.listener() {
        if let Ok(address) = std::net::TcpListener::from(fd).local_addr() {
            tracing::info!("the last run listened on {address}, which is not configured any more");
        }
    }
}

fn resolve(host: &str, port: &str) -> io::Result<Vec<SocketAddr>> {
    let mut tries = 0;
    loop {
        let hints =
            AddrInfoHints { socktype: libc::SOCK_STREAM, flags: libc::AI_PASSIVE, ..Default::default() };
        let error = match getaddrinfo(Some(host), Some(port), Some(hints)) {
            Ok(found) => return Ok(found.filter_map(|info| info.ok().map(|info| info.sockaddr)).collect()),
            Err(error) => error,
        };
        tries += 1;
        if !matches!(error.kind(), LookupErrorKind::Again) || tries >= 30 {
            let text = format!("cannot resolve {host}:{port}: {}", io::Error::from(error));
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        if tries == 1 {
            tracing::warn!("the name server does not answer for {host}:{port}, trying again");
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Raises the limit of open files as far as it goes and returns how many connections it allows.
pub fn raise_file_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let files = files.unwrap_or(u64::MAX);
    let room = if files > 4 * RESERVED_FILES { files - RESERVED_FILES } else { files };
    usize::try_from(room).unwrap_or(usize::MAX)
}

/// Complains, but not each time.
#[derive(Debug)]
pub struct Complaint {
    /// Lines in each [`COMPLAIN_EVERY`].
    most: u32,
    said: Cell<u32>,
    since: Cell<Option<Instant>>,
    silent: Cell<u64>,
}

impl Default for Complaint {
    fn default() -> Self {
        Self::up_to(1)
    }
}

impl Complaint {
    /// At most so many lines in ten seconds.
    pub fn up_to(most: u32) -> Self {
        Self { most, said: Cell::new(0), since: Cell::new(None), silent: Cell::new(0) }
    }

    /// Logs a line, or counts it.
    pub fn log(&self, text: std::fmt::Arguments<'_>) {
        if self.since.get().is_none_or(|since| since.elapsed() >= COMPLAIN_EVERY) {
            self.since.set(Some(Instant::now()));
            self.said.set(0);
        }
        if self.said.get() >= self.most {
            self.silent.set(self.silent.get() + 1);
            return;
        }
        self.said.set(self.said.get() + 1);
        match self.silent.take() {
            0 => tracing::warn!("{text}"),
            silent => tracing::warn!("{text} ({silent} more since the last time)"),
        }
    }
}

/// Accepts peers for ever. `welcome` says why it does not want one.
pub async fn accept(
    listener: TcpListener,
    mut welcome: impl FnMut(TcpStream, SocketAddr) -> Result<(), String>,
) {
    let mut reserve = File::open("/dev/null").ok();
    let complaint = Complaint::default();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Err(why) = welcome(stream, peer) {
                    complaint.log(format_args!("Clients: {peer} refused: {why}"));
                }
            }
            Err(error) if is_out_of_files(&error) => {
                // The peer would stay in the backlog and wake us again and again: accept it with the descriptor
                // that was kept for this, and send it away.
                drop(reserve.take());
                let refused = tokio::time::timeout(Duration::from_millis(10), listener.accept()).await;
                let who = refused
                    .ok()
                    .and_then(Result::ok)
                    .map_or_else(String::new, |(_, peer)| format!("{peer} "));
                complaint.log(format_args!("Clients: {who}refused: Could not accept connection: {error}"));
                reserve = File::open("/dev/null").ok();
                if reserve.is_none() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                complaint.log(format_args!("Clients: Could not accept connection: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Where peers are taken in, whichever way they came.
#[derive(Debug)]
pub struct Hall {
    shell: Rc<Shell>,
    names: Names,
    limits: Limits,
    max_connections: usize,
    credentials: Credentials,
    inputs: Rc<Inputs>,
    last_id: Cell<u64>,
}

impl Hall {
    /// Nobody is in yet.
    pub fn new(
        shell: Rc<Shell>,
        names: Names,
        limits: Limits,
        max_connections: usize,
        credentials: Credentials,
    ) -> Self {
        let inputs = Rc::new(Inputs::new(limits.inputs));
        Self { shell, names, limits, max_connections, credentials, inputs, last_id: Cell::new(0) }
    }

    /// Takes in a peer of the plain port.
    ///
    /// # Errors
    /// Says why not.
    pub fn plain(&self, stream: TcpStream, address: SocketAddr) -> Result<(), String> {
        self.begin(Transport::plain(stream), Principal::Plain, Address::Inet(address))
    }

    /// Takes in a local peer.
    ///
    /// # Errors
    /// Says why not.
    pub fn local(&self, stream: UnixStream, name: String) -> Result<(), String> {
        self.begin(Transport::local(stream), Principal::Local, Address::Local(name))
    }

    /// Takes in whoever has come through the door, for ever.
    pub async fn arrivals(&self, mut arrivals: Receiver<Arrival>) {
        let complaint = Complaint::default();
        while let Some(Arrival { stream, session, address, principal }) = arrivals.recv().await {
            let stream = match TcpStream::from_std(stream) {
                Ok(stream) => stream,
                Err(error) => {
                    complaint.log(format_args!("Clients: {address} refused: {error}"));
                    continue;
                }
            };
            tracing::debug!("Clients: {address} has shown itself: {principal}");
            let transport = Transport::tls(stream, session);
            if let Err(why) = self.begin(transport, principal, Address::Inet(address)) {
                complaint.log(format_args!("Clients: {address} refused: {why}"));
            }
        }
    }

    fn begin(&self, transport: Transport, principal: Principal, address: Address) -> Result<(), String> {
        if self.shell.connections() >= self.max_connections {
            return Err(format!(
                "{} connections are open (max_connections, or the limit of open files)",
                self.max_connections
            ));
        }
        let policy = self.credentials.policy();
        let access = policy.access(&principal)?;
        let id = ConnId(self.last_id.get() + 1);
        self.last_id.set(id.0);
        let label = address.to_string();
        let badge = Badge::new(principal, access, policy);
        let connection = Rc::new(Connection::new(id, transport, label.clone(), badge));
        self.shell.connected(Rc::clone(&connection), label);
        let Limits { message_bytes, depth, handshake, .. } = self.limits;
        let wire = crate::wire::Limits { message_bytes, depth };
        let shell = Rc::clone(&self.shell);
        let inputs = Rc::clone(&self.inputs);
        let task = connection::serve(shell, connection, address, self.names.clone(), wire, handshake, inputs);
        tokio::task::spawn_local(task);
        Ok(())
    }
}
