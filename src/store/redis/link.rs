//! The connection to a redis server.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::{Duration, Instant};

use redis::{RedisError, Value};
use rustix::net::sockopt::{self, Timeout};

use super::resp::Reader;
use super::scan::Scanner;
use super::transaction::Transaction;
use crate::store::StoreError;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an answer may take. A server that is busy saving its data, or with a slow command of somebody else, is not away.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// How long a server may take at our start to read its data.
const LOAD: Duration = Duration::from_secs(60);
/// How often it is asked meanwhile.
const LOAD_PAUSE: Duration = Duration::from_millis(100);

/// A connection of bytes.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects to a host and a port, or to the absolute path of a unix socket.
    fn connect(host: &str, port: u16) -> io::Result<Self> {
        let socket = if host.starts_with('/') {
            Self::Unix(UnixStream::connect(host)?)
        } else {
            Self::Tcp(connect_tcp(host, port)?)
        };
        for direction in [Timeout::Recv, Timeout::Send] {
            sockopt::set_socket_timeout(&socket, direction, Some(ANSWER))?;
        }
        Ok(socket)
    }
}

fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = None;
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other(format!("{host} has no address"))))
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// Where a server is, and who we are there.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Name or address, or the absolute path of a unix socket.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// ACL user, if any.
    pub user: Option<String>,
    /// Password, if any.
    pub password: Option<String>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("password", &self.password.is_some())
            .finish()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.starts_with('/') {
            write!(f, "redis at {}", self.host)
        } else {
            write!(f, "redis at {}:{}", self.host, self.port)
        }
    }
}

impl Server {
    /// Connects, within a few seconds.
    ///
    /// # Errors
    /// Whatever keeps it from it.
    pub fn connect(&self) -> Result<Link, RedisError> {
        let mut link = Link { input: Reader::new(Socket::connect(&self.host, self.port)?) };
        if let Some(password) = &self.password {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = &self.user {
                auth.arg(user);
            }
            link.ask::<()>(auth.arg(password))?;
        }
        Ok(link)
    }

    /// Another connection, to read hashes.
    ///
    /// # Errors
    /// Whatever keeps it from it.
    pub(super) fn scanner(&self) -> Result<Scanner<Socket>, RedisError> {
        Ok(Scanner::new(self.connect()?.input))
    }

    /// Connects on a thread of its own, so that nothing waits for it.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn connect_beside(&self) -> io::Result<Connecting> {
        let (send, result) = mpsc::channel();
        let server = self.clone();
        std::thread::Builder::new().name("redis-connect".into()).spawn(move || {
            // Whoever asked may be gone.
            let _ = send.send(server.connect());
        })?;
        Ok(Connecting { result })
    }

    /// The error of the store for one of redis.
    pub fn error(&self, context: &str, error: RedisError) -> StoreError {
        StoreError::Io {
            store: self.to_string(),
            context: context.to_owned(),
            source: io::Error::other(error.to_string()),
        }
    }
}

/// Whether an error of [`Server::connect`] says that nobody listens there, rather than that somebody refuses us.
pub fn nobody_listens(error: &RedisError) -> bool {
    error.is_connection_refusal()
}

/// Whether an error says that the server answers but takes nothing now: its memory or its disk is full, or it is a replica.
/// (`redis.conf`: `maxmemory`, `stop-writes-on-bgsave-error`, `replica-read-only`, `min-replicas-to-write`)
pub fn takes_nothing(error: &RedisError) -> bool {
    matches!(error.code(), Some("OOM" | "MISCONF" | "READONLY" | "NOREPLICAS"))
}

/// Asks again, for a while, as long as the server is still reading its data from its disk.
///
/// # Errors
/// The last one.
pub fn once_loaded<T>(mut ask: impl FnMut() -> Result<T, RedisError>) -> Result<T, RedisError> {
    let until = Instant::now() + LOAD;
    loop {
        match ask() {
            Err(error) if error.code() == Some("LOADING") && Instant::now() < until => {
                tracing::debug!("redis is loading its data");
                std::thread::sleep(LOAD_PAUSE);
            }
            result => return result,
        }
    }
}

/// A connection in the making.
#[derive(Debug)]
pub struct Connecting {
    result: Receiver<Result<Link, RedisError>>,
}

impl Connecting {
    /// What came of it, if that is known yet.
    pub fn poll(&self) -> Option<Result<Link, RedisError>> {
        match self.result.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                Some(Err(io::Error::other("the thread that connects has died").into()))
            }
        }
    }
}

/// What was answered to some commands.
#[derive(Debug)]
pub(super) struct Answer {
    /// Values that have not come.
    left: usize,
    results: Vec<Value>,
    refused: Option<RedisError>,
    transaction: bool,
}

impl Answer {
    /// Nothing yet, of so many commands.
    fn of(commands: usize) -> Self {
        Self { left: commands, results: Vec::new(), refused: None, transaction: false }
    }

    /// Nothing yet, of a transaction with so many commands in it.
    pub fn of_transaction(commands: usize) -> Self {
        Self { left: commands + 2, results: Vec::new(), refused: None, transaction: true }
    }

    /// Values that have not come.
    pub fn left(&self) -> usize {
        self.left
    }

    fn take(&mut self, value: Value) {
        self.left -= 1;
        match value {
            Value::ServerError(error) => drop(self.refused.get_or_insert(RedisError::from(error))),
            // What comes before the last one only says that the commands were taken.
            value if self.transaction => self.results = vec![value],
            value => self.results.push(value),
        }
    }

    /// The results of the commands.
    fn results(&mut self) -> Result<Vec<Value>, RedisError> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        let mut results = std::mem::take(&mut self.results);
        if self.transaction {
            results = match results.pop() {
                Some(Value::Array(results)) => results,
                other => {
                    return Err(io::Error::other(format!("no result of a transaction: {other:?}")).into());
                }
            };
        }
        results.into_iter().map(Value::extract_error).collect()
    }
}

/// An open connection. After an error of input or output it is of no more use.
pub struct Link {
    input: Reader<Socket>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl Link {
    /// Sends commands and gives their results, one for each.
    ///
    /// # Errors
    /// Of the connection, or the first one of the commands; in a transaction none of them was carried out then, unless one
    /// met a key of another type.
    pub fn send(&mut self, pipe: &redis::Pipeline) -> Result<Vec<Value>, RedisError> {
        self.write(&pipe.get_packed_pipeline())?;
        let commands = pipe.len();
        self.answer(if pipe.is_transaction() {
            Answer::of_transaction(commands)
        } else {
            Answer::of(commands)
        })
    }

    /// Sends a transaction and gives the results of its commands.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn transact(&mut self, transaction: &Transaction) -> Result<Vec<Value>, RedisError> {
        self.write(transaction.bytes())?;
        self.answer(Answer::of_transaction(transaction.commands()))
    }

    /// Sends a transaction without waiting for its answer, [`Answer::of_transaction`].
    ///
    /// # Errors
    /// Of the connection.
    pub(super) fn begin(&mut self, transaction: &Transaction) -> io::Result<()> {
        self.write(transaction.bytes())
    }

    /// What becomes readable when there is an answer.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.input.descriptor()
    }

    /// Reads what has come, without waiting. Returns whether there was something.
    ///
    /// # Errors
    /// Of the connection.
    pub(super) fn read_what_is_there(&mut self) -> io::Result<bool> {
        self.input.fill_with_what_is_there()
    }

    /// Waits until more has come.
    ///
    /// # Errors
    /// Of the connection.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        self.input.fill()
    }

    /// What was sent and is not answered is not wanted any more: it must not come to the server after what the next
    /// connection sends.
    pub(super) fn abandon(mut self) {
        // The system throws away what it has not sent, and tells the server.
        let _ = rustix::net::sockopt::set_socket_linger(self.input.stream().as_fd(), Some(Duration::ZERO));
    }

    /// Takes what was read of an answer. Gives the results when it is complete.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub(super) fn next_of(&mut self, answer: &mut Answer) -> Result<Option<Vec<Value>>, RedisError> {
        while answer.left > 0 {
            let Some(value) = self.input.next()? else { return Ok(None) };
            answer.take(value);
        }
        answer.results().map(Some)
    }

    fn answer(&mut self, mut answer: Answer) -> Result<Vec<Value>, RedisError> {
        while answer.left > 0 {
            let value = self.input.value()?;
            answer.take(value);
        }
        answer.results()
    }

    /// Sends one command and reads its answer.
    ///
    /// # Errors
    /// Of the connection or of the command.
    pub fn ask<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> Result<T, RedisError> {
        self.write(&command.get_packed_command())?;
        Ok(redis::from_redis_value(self.input.value()?.extract_error()?)?)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.input.stream().write_all(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "it does not read"),
            _ => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use redis::{ErrorKind, ServerErrorKind};

    use super::*;

    #[test]
    fn a_server_that_loads_is_asked_again_and_others_are_not() {
        let loading = || RedisError::from((ErrorKind::Server(ServerErrorKind::BusyLoading), "loading"));
        let mut asked = 0;
        let answer = once_loaded(|| {
            asked += 1;
            if asked < 3 { Err(loading()) } else { Ok(asked) }
        });
        assert_eq!(answer.ok(), Some(3));
        let mut asked = 0;
        let refused: Result<(), _> = once_loaded(|| {
            asked += 1;
            Err(RedisError::from((ErrorKind::AuthenticationFailed, "no")))
        });
        assert!(refused.is_err() && asked == 1);
    }

    #[test]
    fn passwords_are_not_shown() {
        let password = Some("secret".to_owned());
        let server = Server { host: "h".into(), port: 1, user: None, password };
        assert!(!format!("{server} {server:?}").contains("secret"));
    }
}
