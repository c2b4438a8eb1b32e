//! A peer's socket, with TLS around it or not, that never waits.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::time::Duration;

use rustls::ServerConnection;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// Bytes that are encrypted at a time: what is encrypted and not sent costs memory.
const SLICE: usize = 64 << 10;

/// What carries a connection.
#[derive(Debug)]
pub struct Transport {
    socket: Socket,
    tls: Option<RefCell<Tls>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

#[derive(Debug)]
struct Tls {
    session: Box<ServerConnection>,
    /// The session may hold bytes that came and were not read.
    holds: bool,
    /// The peer has said goodbye: what follows the bytes that came is the end, and the socket need not tell it.
    ended: bool,
}

impl Socket {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Unix(stream) => stream.try_read(buffer),
        };
        if matches!(result, Ok(count) if count > 0 && count < buffer.len()) {
            // All is read: whatever comes, and the end, is told anew, so that nobody has to look in vain before waiting.
            let nothing_left = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = match self {
                Self::Tcp(stream) => stream.try_io(Interest::READABLE, nothing_left),
                Self::Unix(stream) => stream.try_io(Interest::READABLE, nothing_left),
            };
        }
        result
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }
}

impl Read for &Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_read(buffer)
    }
}

impl Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport {
    /// In the clear.
    pub fn plain(stream: TcpStream) -> Self {
        Self { socket: Socket::Tcp(stream), tls: None }
    }

    /// On this host.
    pub fn local(stream: UnixStream) -> Self {
        Self { socket: Socket::Unix(stream), tls: None }
    }

    /// After the handshake. The peer's first message may have come with its end.
    pub fn tls(stream: TcpStream, session: Box<ServerConnection>) -> Self {
        Self {
            socket: Socket::Tcp(stream),
            tls: Some(RefCell::new(Tls { session, holds: true, ended: false })),
        }
    }

    /// Waits until something came.
    pub async fn readable(&self) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(stream) => stream.readable().await,
            Socket::Unix(stream) => stream.readable().await,
        }
    }

    /// Waits until something can be sent.
    pub async fn writable(&self) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(stream) => stream.writable().await,
            Socket::Unix(stream) => stream.writable().await,
        }
    }

    /// Whether there may be something to read that came before, so that waiting for more is wrong.
    pub fn holds_input(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.borrow().holds)
    }

    /// Whether something that was taken is not sent yet.
    pub fn holds_output(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.borrow().session.wants_write())
    }

    /// Reads what is there; `WouldBlock` when that is nothing, 0 at the end.
    ///
    /// # Errors
    /// As the socket's; `InvalidData` for what is no TLS.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.socket.try_read(buffer) };
        let mut tls = tls.borrow_mut();
        loop {
            match tls.session.reader().read(buffer) {
                Ok(length) => {
                    tls.holds = tls.ended || length == buffer.len();
                    return Ok(length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tls.holds = false,
                // The peer went without a goodbye, as all do that are killed. Messages have their own ends.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) => return Err(error),
            }
            tls.session.read_tls(&mut &self.socket)?;
            match tls.session.process_new_packets() {
                Ok(state) => tls.ended = state.peer_has_closed(),
                Err(error) => {
                    // Tell the peer why, if it listens.
                    let _ = tls.session.write_tls(&mut &self.socket);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
    }

    /// Takes some bytes to send; `WouldBlock` when there is no room.
    ///
    /// # Errors
    /// As the socket's.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.socket.try_write(bytes) };
        if self.flush()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let written = tls.borrow_mut().session.writer().write(&bytes[..bytes.len().min(SLICE)])?;
        self.flush()?;
        Ok(written)
    }

    /// Sends what was taken before. Returns whether some of it is left.
    ///
    /// # Errors
    /// As the socket's.
    pub fn flush(&self) -> io::Result<bool> {
        let Some(tls) = &self.tls else { return Ok(false) };
        let mut tls = tls.borrow_mut();
        while tls.session.wants_write() {
            match tls.session.write_tls(&mut &self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Says goodbye, as far as there is room.
    pub fn close(&self) {
        if let Some(tls) = &self.tls {
            tls.borrow_mut().session.send_close_notify();
            // The connection ends either way.
            let _ = self.flush();
        }
    }

    /// Sets how soon a peer that is silent below TCP counts as dead.
    ///
    /// # Errors
    /// As setting the options.
    pub fn tune(&self, dead_after: Duration, idle: Duration, interval: Duration) -> io::Result<()> {
        let Socket::Tcp(stream) = &self.socket else { return Ok(()) };
        let socket = SockRef::from(stream);
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(dead_after))?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(3))
    }
}
