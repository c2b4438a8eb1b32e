//! One TLS connection without its socket: bytes in, bytes out.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// A client's end of a TLS connection. Never blocks, knows no descriptors.
///
/// It must not be used in two processes: after a fork both would go on with the same keys and counters.
#[derive(Debug)]
pub struct Session {
    tls: Box<ClientConnection>,
}

impl Session {
    /// Begins; the first bytes to send are there at once. The name is that in the daemon's certificate; with a pre-shared
    /// key it does not matter.
    ///
    /// # Errors
    /// Fails when there is no memory or no randomness.
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, rustls::Error> {
        let mut tls = ClientConnection::new(config, name)?;
        // What is handed in is what a caller holds anyway.
        tls.set_buffer_limit(None);
        Ok(Self { tls: Box::new(tls) })
    }

    /// Whether the other end is not known yet.
    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Takes bytes of the socket and appends to `plain` what they say. After an error [`Session::outgoing`] may still have
    /// an alert for the other end.
    ///
    /// # Errors
    /// The connection is of no use any more; see [`super::explain`].
    pub fn received(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), rustls::Error> {
        while !bytes.is_empty() {
            let before = bytes.len();
            if let Err(error) = self.tls.read_tls(&mut bytes) {
                return Err(rustls::Error::General(error.to_string()));
            }
            let state = self.tls.process_new_packets()?;
            let room = plain.len() + state.plaintext_bytes_to_read();
            plain.reserve(room - plain.len());
            match self.tls.reader().read_to_end(plain) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(rustls::Error::General(error.to_string())),
            }
            if bytes.len() == before {
                // Nothing is read after the other end has said goodbye.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Encrypts what is to be sent.
    ///
    /// # Errors
    /// None that is known: there is no limit.
    pub fn send(&mut self, plain: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(plain)
    }

    /// Appends what is to go out on the socket.
    pub fn outgoing(&mut self, out: &mut Vec<u8>) {
        while self.tls.wants_write() {
            // Writing to memory does not fail.
            if self.tls.write_tls(out).is_err() {
                return;
            }
        }
    }

    /// Says goodbye: the other end knows that nothing was cut off.
    pub fn close(&mut self) {
        self.tls.send_close_notify();
    }
}
