//! A host without power: nothing answers at its address, not even a kernel that refuses.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// The port of an agent that is gone, as if its whole host was: who dials it hears nothing.
#[derive(Debug)]
pub struct Dark {
    _listener: TcpListener,
    _filling: TcpStream,
}

impl Dark {
    /// A listener that nobody accepts from: once its queue is full, Linux drops what arrives (`tcp_abort_on_overflow` 0).
    ///
    /// # Errors
    /// When the agent still listens.
    pub fn at(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(0)?;
        // A queue of length 0 holds one connection.
        let filling = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        Ok(Self { _listener: socket.into(), _filling: filling })
    }
}
