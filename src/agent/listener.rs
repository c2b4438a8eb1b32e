//! Managers that connect: who they are is proven before a byte of theirs is looked at.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

use super::shell::Input;
use crate::ha::ids::LinkId;
use crate::ha::protocol::ToAgent;
use crate::system::framed::{self, Stream};
use crate::tls::Endpoint;

/// Connections at the same time.
const MAX_LINKS: usize = 16;
/// Connections that have not proven who they are.
const MAX_STRANGERS: usize = 4;
/// Time to prove it.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Messages that wait for a slow manager, before its connection is closed.
pub const MAX_WAITING: usize = 4096;

/// Listens; without addresses on all of the machine.
///
/// # Errors
/// When an address cannot be listened on.
pub fn listen(addresses: &[SocketAddr], port: u16) -> Result<Vec<std::net::TcpListener>, String> {
    let bind = |address: SocketAddr| {
        bind(address).map_err(|error| format!("cannot listen on {address}: {error} (--listen, --port)"))
    };
    if addresses.is_empty() {
        // One socket for both families, where there is IPv6 at all.
        let both = bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port));
        return both
            .or_else(|_| bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)))
            .map(|one| vec![one]);
    }
    addresses.iter().copied().map(bind).collect()
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(64)?;
    Ok(socket.into())
}

/// Accepts connections for as long as the agent runs. Without an endpoint nobody has to prove anything.
pub async fn accept(
    listener: TcpListener,
    endpoint: Option<Endpoint>,
    numbers: Rc<std::cell::Cell<u64>>,
    links: Arc<Semaphore>,
    inputs: mpsc::Sender<Input>,
) {
    let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
    loop {
        let Ok(stranger) = Arc::clone(&strangers).acquire_owned().await else { return };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                // Out of descriptors, for instance: it will not be better at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&links).try_acquire_owned() else {
            tracing::warn!(%from, "refused: {MAX_LINKS} connections are enough");
            continue;
        };
        let _ = stream.set_nodelay(true);
        numbers.set(numbers.get() + 1);
        let link = LinkId(numbers.get());
        let (endpoint, inputs) = (endpoint.clone(), inputs.clone());
        tokio::task::spawn_local(async move {
            let stream = prove(endpoint, stream, from).await;
            drop(stranger);
            if let Some(stream) = stream {
                serve(stream, from, link, inputs).await;
            }
            drop(permit);
        });
    }
}

/// How many connections there may be, over all listeners.
pub fn limit() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_LINKS))
}

async fn prove(endpoint: Option<Endpoint>, stream: TcpStream, from: SocketAddr) -> Option<Box<dyn Stream>> {
    let Some(endpoint) = endpoint else { return Some(Box::new(stream)) };
    match tokio::time::timeout(HANDSHAKE, endpoint.accept(stream)).await {
        Ok(Ok((stream, peer))) => {
            tracing::debug!(%from, ?peer, "a manager connected");
            Some(Box::new(stream))
        }
        Ok(Err(error)) => {
            tracing::warn!(%from, "refused: {error}");
            None
        }
        Err(_) => {
            tracing::warn!(%from, "refused: no handshake within {HANDSHAKE:?}");
            None
        }
    }
}

async fn serve(stream: Box<dyn Stream>, from: SocketAddr, link: LinkId, inputs: mpsc::Sender<Input>) {
    let (reader, writer) = tokio::io::split(stream);
    let (outgoing, frames) = mpsc::channel(MAX_WAITING);
    let closed = Rc::new(tokio::sync::Notify::new());
    if inputs.send(Input::Connected { link, outgoing, closed: Rc::clone(&closed) }).await.is_err() {
        return;
    }
    let write = framed::write(writer, frames);
    let read = framed::read(reader, async |message: ToAgent| {
        inputs.send(Input::Received { link, message }).await.is_ok()
    });
    tokio::pin!(write);
    let ended = tokio::select! {
        ended = read => ended,
        ended = &mut write => ended,
        // What was sent before still goes out, but nothing more is listened to.
        () = closed.notified() => write.await,
    };
    tracing::debug!(%from, %link, ?ended, "a connection is gone");
    let _ = inputs.send(Input::Disconnected { link }).await;
}
