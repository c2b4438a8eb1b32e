//! Connections to agents.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::names;

use crate::ha::engine::{ConnectError, Event};
use crate::ha::ids::{HostId, LinkId};
use crate::ha::protocol::FromAgent;
use crate::system::framed::{self, Stream};
use crate::tls::{self, Endpoint};

/// Messages that wait for a slow agent, before its connection is closed.
const MAX_WAITING: usize = 4096;

/// How long one address is tried alone, before the next of the same name is tried as well.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Whom to call.
#[derive(Debug, Clone)]
pub struct Call {
    /// How the engine calls the connection.
    pub link: LinkId,
    /// Whom to expect.
    pub host: HostId,
    /// Name or address.
    pub address: String,
    /// Port.
    pub port: u16,
    /// How long it may take until it stands.
    pub timeout: Duration,
}

/// Our end of a connection. Dropping it closes the connection after what was sent before.
#[derive(Debug)]
pub struct Link {
    frames: mpsc::Sender<Vec<u8>>,
    closed: Rc<Notify>,
}

impl Link {
    /// Calls an agent, and tells what happens until the connection is gone. Without an endpoint only loopback addresses are
    /// called, and nobody has to prove anything.
    pub fn open(call: Call, endpoint: Option<Endpoint>, events: mpsc::Sender<Event>) -> Self {
        let (frames, outgoing) = mpsc::channel(MAX_WAITING);
        let closed = Rc::new(Notify::new());
        let stop = Rc::clone(&closed);
        tokio::task::spawn_local(async move {
            let link = call.link;
            let stream = tokio::select! {
                () = stop.notified() => return,
                connected = connect(&call, endpoint) => match connected {
                    Ok(stream) => stream,
                    Err(error) => {
                        tracing::debug!(host = %call.host, ?error, "no connection");
                        let _ = events.send(Event::ConnectFailed { link, error }).await;
                        return;
                    }
                },
            };
            if events.send(Event::Connected { link }).await.is_err() {
                return;
            }
            if let Some(error) = carry(stream, link, outgoing, &events, &stop).await {
                tracing::debug!(host = %call.host, ?error, "disconnected");
                let _ = events.send(Event::Disconnected { link, error }).await;
            }
        });
        Self { frames, closed }
    }

    /// Sends a frame; false when the agent does not read.
    pub fn send(&self, frame: Vec<u8>) -> bool {
        self.frames.try_send(frame).is_ok()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.closed.notify_one();
    }
}

/// Carries messages until the connection is gone; `None` when we ended it.
async fn carry(
    stream: Box<dyn Stream>,
    link: LinkId,
    outgoing: mpsc::Receiver<Vec<u8>>,
    events: &mpsc::Sender<Event>,
    stop: &Notify,
) -> Option<ConnectError> {
    let (reader, writer) = tokio::io::split(stream);
    let write = framed::write(writer, outgoing);
    let read = framed::read(reader, async |message: FromAgent| {
        events.send(Event::Received { link, message }).await.is_ok()
    });
    tokio::pin!(write);
    let ended = tokio::select! {
        ended = read => ended,
        ended = &mut write => ended,
        () = stop.notified() => {
            let _ = write.await;
            return None;
        }
    };
    Some(match ended {
        Ok(()) => ConnectError::Refused("the agent hung up".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            ConnectError::Untrusted(error.to_string())
        }
        Err(error) => connect_error(&error),
    })
}

/// Calls all addresses, one a little after the other: one that does not answer must not hide the next.
async fn connect(call: &Call, endpoint: Option<Endpoint>) -> Result<Box<dyn Stream>, ConnectError> {
    let until = Instant::now() + call.timeout;
    let found = tokio::time::timeout_at(until, names::addresses(&call.address, call.port)).await;
    let addresses =
        found.map_err(|_| ConnectError::Local(format!("{}: the name service hangs", call.address)))?;
    let addresses = addresses.map_err(|error| ConnectError::Local(format!("{}: {error}", call.address)))?;
    let mut failed = ConnectError::Local(format!("{} has no address", call.address));
    let mut attempts = JoinSet::new();
    for (place, address) in (0..).zip(addresses) {
        let (call, endpoint) = (call.clone(), endpoint.clone());
        attempts.spawn_local(async move {
            tokio::time::sleep(NEXT_ADDRESS * place).await;
            let attempt = connect_to(address, &call, endpoint);
            tokio::time::timeout_at(until, attempt).await.unwrap_or(Err(ConnectError::TimedOut))
        });
    }
    let mut first = true;
    while let Some(ended) = attempts.join_next().await {
        match ended.unwrap_or_else(|error| Err(ConnectError::Local(error.to_string()))) {
            Ok(stream) => return Ok(stream),
            Err(error) if std::mem::take(&mut first) || tells(&error) > tells(&failed) => failed = error,
            Err(_) => {}
        }
    }
    Err(failed)
}

/// How much an error tells about the host: of several addresses the one counts that tells most.
fn tells(error: &ConnectError) -> u8 {
    match error {
        ConnectError::Local(_) => 0,
        ConnectError::TimedOut => 1,
        ConnectError::Unreachable(_) => 2,
        ConnectError::Refused(_) => 3,
        ConnectError::Untrusted(_) => 4,
    }
}

async fn connect_to(
    address: SocketAddr,
    call: &Call,
    endpoint: Option<Endpoint>,
) -> Result<Box<dyn Stream>, ConnectError> {
    if endpoint.is_none() && !address.ip().is_loopback() {
        let error = format!("{address} is not a loopback address (--insecure-loopback)");
        return Err(ConnectError::Local(error));
    }
    let stream = TcpStream::connect(address).await.map_err(|error| connect_error(&error))?;
    let _ = stream.set_nodelay(true);
    let Some(endpoint) = &endpoint else { return Ok(Box::new(stream)) };
    match endpoint.connect(&[call.host.as_str(), &call.address], stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(connect_error(&error)),
    }
}

/// What an error says about the other side: whether its kernel is alive is what matters.
fn connect_error(error: &io::Error) -> ConnectError {
    use io::ErrorKind as Kind;

    let text = error.to_string();
    if tls::is_distrust(error) {
        return ConnectError::Untrusted(text);
    }
    match error.kind() {
        Kind::ConnectionRefused
        | Kind::ConnectionReset
        | Kind::BrokenPipe
        | Kind::UnexpectedEof
        | Kind::ConnectionAborted => ConnectError::Refused(text),
        Kind::TimedOut => ConnectError::TimedOut,
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => {
            ConnectError::Unreachable(text)
        }
        _ => ConnectError::Local(text),
    }
}
