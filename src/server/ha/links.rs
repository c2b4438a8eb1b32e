//! Connections to agents.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

use crate::ha::engine::{ConnectError, Event};
use crate::ha::ids::{HostId, LinkId};
use crate::ha::protocol::FromAgent;
use crate::system::framed::{self, Stream};
use crate::tls::{self, Endpoint};

/// Messages that wait for a slow agent, before its connection is closed.
const MAX_WAITING: usize = 4096;

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
            let connecting = tokio::time::timeout(call.timeout, connect(&call, endpoint));
            let stream = tokio::select! {
                () = stop.notified() => return,
                connected = connecting => match connected {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => {
                        tracing::debug!(host = %call.host, ?error, "no connection");
                        let _ = events.send(Event::ConnectFailed { link, error }).await;
                        return;
                    }
                    Err(_) => {
                        let _ = events.send(Event::ConnectFailed { link, error: ConnectError::TimedOut }).await;
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

async fn connect(call: &Call, endpoint: Option<Endpoint>) -> Result<Box<dyn Stream>, ConnectError> {
    let found = tokio::net::lookup_host((call.address.as_str(), call.port)).await;
    let addresses: Vec<SocketAddr> = match found {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Err(ConnectError::Local(format!("{}: {error}", call.address))),
    };
    let mut failed = ConnectError::Local(format!("{} has no address", call.address));
    for address in addresses {
        if endpoint.is_none() && !address.ip().is_loopback() {
            failed =
                ConnectError::Local(format!("{address} is not a loopback address (--insecure-loopback)"));
            continue;
        }
        let stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            Err(error) => {
                failed = connect_error(&error);
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let Some(endpoint) = &endpoint else { return Ok(Box::new(stream)) };
        match endpoint.connect(&[call.host.as_str(), &call.address], stream).await {
            Ok(stream) => return Ok(Box::new(stream)),
            Err(error) => failed = connect_error(&error),
        }
    }
    Err(failed)
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
