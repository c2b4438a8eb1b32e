//! What goes through the socket: the protocol itself, or TLS with the protocol in it.

use std::sync::Arc;

use coordinatool::security::{self, Session};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::clock;

/// How to speak with a server that is being connected to.
#[derive(Debug, Clone)]
pub struct Secure {
    /// What to show and whom to believe.
    pub config: Arc<ClientConfig>,
    /// The name in the server's certificate.
    pub name: ServerName<'static>,
}

/// One connection's bytes, before the socket and behind it.
#[derive(Debug)]
pub struct Channel {
    tls: Option<Tls>,
    /// For the socket, not sent yet.
    pub out: Vec<u8>,
}

#[derive(Debug)]
struct Tls {
    session: Session,
    /// The process that it belongs to.
    pid: i32,
}

/// What came of some bytes.
#[derive(Debug, Default)]
pub struct Came {
    /// The server is known now: the protocol can begin.
    pub stands: bool,
    /// Bytes of the protocol.
    pub plain: Vec<u8>,
    /// The connection is of no use any more.
    pub failure: Option<String>,
}

impl Channel {
    /// For a connection that stands as far as TCP is concerned. In the clear the protocol can begin at once.
    pub fn new(secure: Option<Secure>) -> Result<Self, String> {
        let Some(Secure { config, name }) = secure else { return Ok(Self { tls: None, out: Vec::new() }) };
        let session = Session::new(config, name).map_err(|error| security::explain(&error))?;
        let mut channel = Self { tls: Some(Tls { session, pid: clock::pid() }), out: Vec::new() };
        channel.encrypted();
        Ok(channel)
    }

    /// Whether the protocol can begin.
    pub fn stands(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.session.is_handshaking())
    }

    /// Whether this process was forked from the one that it belongs to. Two processes must not encrypt with the same keys
    /// and counters.
    pub fn is_anothers(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.pid != clock::pid())
    }

    /// Whether bytes of the socket are those of the protocol.
    pub fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Takes bytes of the socket, with TLS.
    pub fn received(&mut self, bytes: &[u8]) -> Came {
        let mut came = Came::default();
        let Some(tls) = &mut self.tls else { return came };
        let handshaking = tls.session.is_handshaking();
        came.failure = match tls.session.received(bytes, &mut came.plain) {
            Ok(()) => None,
            Err(error) => Some(security::explain(&error)),
        };
        came.stands = handshaking && !tls.session.is_handshaking();
        self.encrypted();
        came
    }

    /// Takes bytes of the protocol.
    pub fn send(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            None => self.out.extend_from_slice(bytes),
            Some(tls) => {
                // Its buffers have no limit.
                let _ = tls.session.send(bytes);
                self.encrypted();
            }
        }
    }

    /// Says goodbye to a server that knows TLS.
    pub fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.session.close();
        }
        self.encrypted();
    }

    fn encrypted(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.session.outgoing(&mut self.out);
        }
    }
}
