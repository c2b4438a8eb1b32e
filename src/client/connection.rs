//! The connection to a server: finding it, greeting it, messages in both directions.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::stream::{Stream, distrust};
use crate::hsm::event::Ehlo;
use crate::wire::client::{ServerMessage, parse_reply, write_ehlo};
use crate::wire::decoder::{DecodeError, Decoder, Limits};

/// After the first failed attempt to reach a server; doubles with each.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// Between attempts at most. C always waits so long.
const RETRY: Duration = Duration::from_secs(5);
/// For one address to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// For the answer to `ehlo`, unless `--timeout` is longer.
const GREETING: Duration = Duration::from_secs(10);
/// For the next byte of an answer that is due, and for a server to take what is sent, unless `--timeout` says otherwise.
const ANSWER: Duration = Duration::from_secs(60);
/// Bytes of one answer at most: the status of a server that shows ten million requests.
const MAX_ANSWER: usize = 1 << 30;
const READ: usize = 64 << 10;

/// Why there is no connection, or no longer one.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The name of the server or of its port is unknown.
    #[error("cannot find `{host}` port `{port}`: {reason}")]
    Unknown {
        /// As configured.
        host: String,
        /// As configured.
        port: String,
        /// What the resolver said.
        reason: String,
    },
    /// `--timeout` is over.
    #[error("gave up after {seconds} s: {reason}")]
    GaveUp {
        /// The limit.
        seconds: u64,
        /// What the last attempt said.
        reason: String,
    },
    /// The server does not want us, and will not next time.
    #[error("{server} refused the connection: {reason}")]
    Refused {
        /// Which server.
        server: Peer,
        /// What it said.
        reason: String,
    },
    /// The server closed the connection while an answer was due.
    #[error("{0} closed the connection")]
    Closed(Peer),
    /// The server stopped in the middle of an answer.
    #[error("{0} closed the connection in the middle of an answer")]
    Torn(Peer),
    /// No answer.
    #[error("no answer from {server} for {seconds} s")]
    Silent {
        /// Which server.
        server: Peer,
        /// The limit.
        seconds: u64,
    },
    /// The system says that the connection is broken.
    #[error("connection to {server}: {error}")]
    Io {
        /// Which server.
        server: Peer,
        /// What the system said.
        error: io::Error,
    },
    /// One end does not trust the other.
    #[error("{server}: {reason}")]
    Distrust {
        /// Which server.
        server: Peer,
        /// What is wrong.
        reason: String,
    },
    /// What came is no answer of a coordinatool.
    #[error("{server} does not speak our protocol: {reason}")]
    Nonsense {
        /// Which server.
        server: Peer,
        /// What is wrong.
        reason: String,
    },
}

/// A server as shown in messages: name and address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    name: String,
    address: Option<SocketAddr>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{} ({address})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Where to connect to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name or address.
    pub host: String,
    /// Number or name.
    pub port: String,
    /// How to get there.
    pub way: Way,
    /// How long to try; `None` for ever.
    pub timeout: Option<Duration>,
}

/// How to reach a server.
#[derive(Debug, Clone)]
pub enum Way {
    /// In the clear.
    Plain,
    /// With TLS.
    Tls {
        /// What to show and whom to believe.
        config: Arc<ClientConfig>,
        /// The name in its certificate.
        name: ServerName<'static>,
    },
    /// By a socket of this host.
    Local(PathBuf),
}

/// An open connection, greeted.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    peer: Peer,
    decoder: Decoder,
    buffer: Vec<u8>,
    answer: Duration,
}

/// What one attempt came to.
enum Attempt {
    /// It may work later.
    Later(String),
    /// It never will.
    Never(ConnectionError),
}

impl Target {
    /// Connects to the first address that accepts and greets it. Tries again until the timeout, or for ever as C does:
    /// while a server starts, while another client still holds our id.
    ///
    /// # Errors
    /// Fails at once where trying again is no use.
    pub fn connect(&self, ehlo: &Ehlo) -> Result<Connection, ConnectionError> {
        let begin = Instant::now();
        let mut pause = FIRST_RETRY;
        loop {
            let reason = match self.attempt(ehlo) {
                Ok(connection) => return Ok(connection),
                Err(Attempt::Never(error)) => return Err(error),
                Err(Attempt::Later(reason)) => reason,
            };
            let wait = match self.timeout {
                None => pause,
                Some(timeout) => match timeout.checked_sub(begin.elapsed()) {
                    Some(left) if !left.is_zero() => left.min(pause),
                    _ => return Err(ConnectionError::GaveUp { seconds: timeout.as_secs(), reason }),
                },
            };
            tracing::warn!("{reason}; trying again");
            thread::sleep(wait);
            pause = RETRY.min(pause * 2);
        }
    }

    fn attempt(&self, ehlo: &Ehlo) -> Result<Connection, Attempt> {
        let answer = self.timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(ANSWER);
        if let Way::Local(path) = &self.way {
            let stream = UnixStream::connect(path)
                .map_err(|error| Attempt::Later(format!("cannot connect to {}: {error}", path.display())))?;
            let peer = Peer { name: path.display().to_string(), address: None };
            return Connection::greet(Stream::Unix(stream), peer, answer, ehlo);
        }
        let mut failures = Vec::new();
        for address in self.addresses()? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => {
                    tracing::info!("connected to {} ({address})", self.host);
                    let peer = Peer { name: self.host.clone(), address: Some(address) };
                    let stream = self.secure(stream, &peer, answer)?;
                    return Connection::greet(stream, peer, answer, ehlo);
                }
                Err(error) => failures.push(format!("{address}: {error}")),
            }
        }
        Err(Attempt::Later(format!(
            "cannot connect to `{}` port `{}` ({})",
            self.host,
            self.port,
            failures.join("; ")
        )))
    }

    fn secure(&self, stream: TcpStream, peer: &Peer, answer: Duration) -> Result<Stream, Attempt> {
        let Way::Tls { config, name } = &self.way else { return Ok(Stream::Tcp(stream)) };
        let secured = Stream::tls(stream, Arc::clone(config), name.clone(), answer.max(GREETING));
        secured.map_err(|error| match distrust(&error) {
            Some(reason) => Attempt::Never(ConnectionError::Distrust { server: peer.clone(), reason }),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Attempt::Later(format!(
                "{peer} closed the connection instead of speaking TLS: is this its port for TLS?"
            )),
            None => Attempt::Later(format!("TLS with {peer}: {error}")),
        })
    }

    fn addresses(&self) -> Result<Vec<SocketAddr>, Attempt> {
        let hints =
            dns_lookup::AddrInfoHints { socktype: dns_lookup::SockType::Stream.into(), ..Default::default() };
        let unknown = |reason: String| ConnectionError::Unknown {
            host: self.host.clone(),
            port: self.port.clone(),
            reason,
        };
        let found = dns_lookup::getaddrinfo(Some(&self.host), Some(&self.port), Some(hints));
        let found = found.map_err(|error| {
            let again = matches!(error.kind(), dns_lookup::LookupErrorKind::Again);
            let error = unknown(io::Error::from(error).to_string());
            if again { Attempt::Later(error.to_string()) } else { Attempt::Never(error) }
        })?;
        let addresses: Vec<SocketAddr> = found.filter_map(Result::ok).map(|info| info.sockaddr).collect();
        if addresses.is_empty() {
            return Err(Attempt::Never(unknown("no address".to_owned())));
        }
        Ok(addresses)
    }
}

impl Connection {
    fn greet(stream: Stream, peer: Peer, answer: Duration, ehlo: &Ehlo) -> Result<Self, Attempt> {
        let limits = Limits { message_bytes: MAX_ANSWER, ..Limits::default() };
        let mut connection =
            Self { stream, peer, decoder: Decoder::new(limits), buffer: vec![0; READ], answer };
        connection
            .stream
            .prepare(answer)
            .map_err(|error| Attempt::Later(connection.io(error).to_string()))?;
        let mut message = Vec::new();
        write_ehlo(ehlo, &mut message);
        let patience = Some(answer.max(GREETING));
        let reply = connection.send(&message).and_then(|()| connection.receive(patience));
        let reply = reply.map_err(|error| match error {
            ConnectionError::Nonsense { .. } | ConnectionError::Distrust { .. } => Attempt::Never(error),
            error => Attempt::Later(error.to_string()),
        })?;
        let refused = |reason: String| {
            Attempt::Never(ConnectionError::Refused { server: connection.peer.clone(), reason })
        };
        match parse_reply(&reply) {
            Ok(ServerMessage::Ehlo(Ok(_))) => Ok(connection),
            // Another client has our id; it may go.
            Ok(ServerMessage::Ehlo(Err(failure))) if failure.status == 17 => {
                Err(Attempt::Later(format!("{} refused the connection: {failure}", connection.peer)))
            }
            // C answers bad archive ids with the wrong command, and its clients try again for ever.
            Ok(ServerMessage::Ehlo(Err(failure)) | ServerMessage::Done(Err(failure))) => {
                Err(refused(failure.to_string()))
            }
            Ok(other) => Err(refused(format!("unexpected answer to ehlo: {other:?}"))),
            Err(error) => Err(Attempt::Never(connection.nonsense(error.to_string()))),
        }
    }

    /// How long to wait for an answer that is due.
    pub fn patience(&self) -> Duration {
        self.answer
    }

    fn io(&self, error: io::Error) -> ConnectionError {
        let server = self.peer.clone();
        if let Some(reason) = distrust(&error) {
            return ConnectionError::Distrust { server, reason };
        }
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                ConnectionError::Silent { server, seconds: self.answer.as_secs() }
            }
            _ => ConnectionError::Io { server, error },
        }
    }

    fn nonsense(&self, reason: String) -> ConnectionError {
        ConnectionError::Nonsense { server: self.peer.clone(), reason }
    }

    /// Sends one message, without anything around it: a single blank between two messages blocks the C server.
    ///
    /// # Errors
    /// Fails when the connection is broken or the server does not take it.
    pub fn send(&mut self, message: &[u8]) -> Result<(), ConnectionError> {
        debug(message, "to", &self.peer);
        self.stream.write_all(message).map_err(|error| self.io(error))
    }

    /// The next answer as it came, for which no more than `patience` goes by without a byte; `None` waits for ever.
    ///
    /// # Errors
    /// Fails when the connection ends, when the server is silent, and when what comes is not JSON.
    pub fn receive(&mut self, patience: Option<Duration>) -> Result<Vec<u8>, ConnectionError> {
        self.stream.set_read_timeout(patience).map_err(|error| self.io(error))?;
        loop {
            match self.decoder.next_object() {
                Ok(Some(object)) => {
                    debug(object, "from", &self.peer);
                    return Ok(object.to_vec());
                }
                Ok(None) => {}
                Err(error) => {
                    let limit = matches!(error, DecodeError::TooLong { .. });
                    let what = if limit { "answer too long: " } else { "" };
                    return Err(self.nonsense(format!("{what}{error}")));
                }
            }
            match self.stream.read(&mut self.buffer) {
                Ok(0) if self.decoder.pending_bytes() > 0 => {
                    return Err(ConnectionError::Torn(self.peer.clone()));
                }
                Ok(0) => return Err(ConnectionError::Closed(self.peer.clone())),
                Ok(length) => self.decoder.push(&self.buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let silent = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                    return Err(match patience {
                        Some(patience) if silent => {
                            ConnectionError::Silent { server: self.peer.clone(), seconds: patience.as_secs() }
                        }
                        _ => self.io(error),
                    });
                }
            }
        }
    }
}

/// Shows the beginning of a message.
fn debug(message: &[u8], direction: &str, peer: &Peer) {
    const SHOWN: usize = 2000;
    if tracing::enabled!(tracing::Level::DEBUG) {
        let shown = String::from_utf8_lossy(&message[..message.len().min(SHOWN)]);
        let rest = message.len().saturating_sub(SHOWN);
        let rest = if rest > 0 { format!(" and {rest} bytes more") } else { String::new() };
        tracing::debug!("{direction} {peer}: {shown}{rest}");
    }
}
