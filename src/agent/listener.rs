//! Managers that connect: who they are is proven before a byte of theirs is looked at.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
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
const MAX_STRANGERS: usize = 64;
/// The same from one address: who knocks all the time must not keep managers out.
const MAX_FROM_ONE: usize = 8;
/// After this time without a word the other machine is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(20);
/// Time to prove it.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Time for the first message.
const GREETING: Duration = Duration::from_secs(30);
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
    numbers: Rc<Cell<u64>>,
    links: Arc<Semaphore>,
    inputs: mpsc::Sender<Input>,
) {
    let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
    let sources = Sources::default();
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
        let Some(source) = sources.enter(from.ip()) else {
            tracing::debug!(%from, "refused: {MAX_FROM_ONE} others from there have not proven who they are");
            continue;
        };
        if let Err(error) = notice_the_end(&stream) {
            tracing::debug!(%from, "no keepalives: {error}");
        }
        let (endpoint, inputs) = (endpoint.clone(), inputs.clone());
        let (numbers, links) = (Rc::clone(&numbers), Arc::clone(&links));
        tokio::task::spawn_local(async move {
            let stream = prove(endpoint, stream, from).await;
            drop((stranger, source));
            let Some(stream) = stream else { return };
            let Ok(_permit) = links.try_acquire_owned() else {
                tracing::warn!(%from, "refused: {MAX_LINKS} connections are enough");
                return;
            };
            numbers.set(numbers.get() + 1);
            serve(stream, from, LinkId(numbers.get()), inputs).await;
        });
    }
}

/// A manager whose machine is gone ends nothing, and one that has sealed nothing is sent nothing: such connections would
/// stay for ever.
fn notice_the_end(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let ask = TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE / 4).with_retries(4);
    socket.set_tcp_keepalive(&ask)?;
    socket.set_tcp_user_timeout(Some(SILENCE * 2))
}

/// Addresses that strangers come from.
#[derive(Debug, Clone, Default)]
struct Sources(Rc<RefCell<HashMap<IpAddr, usize>>>);

impl Sources {
    /// One more from there; `None` when there are too many.
    fn enter(&self, from: IpAddr) -> Option<Source> {
        let mut all = self.0.borrow_mut();
        let count = all.entry(from).or_default();
        if *count >= MAX_FROM_ONE {
            return None;
        }
        *count += 1;
        Some(Source { all: self.clone(), from })
    }
}

/// A stranger, until this is dropped.
#[derive(Debug)]
struct Source {
    all: Sources,
    from: IpAddr,
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut all = self.all.0.borrow_mut();
        if let Some(count) = all.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.from);
            }
        }
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
    let heard = Cell::new(false);
    let read = framed::read(reader, async |message: ToAgent| {
        heard.set(true);
        inputs.send(Input::Received { link, message }).await.is_ok()
    });
    let mute = async {
        tokio::time::sleep(GREETING).await;
        if heard.get() {
            std::future::pending::<()>().await;
        }
    };
    tokio::pin!(write);
    let ended = tokio::select! {
        ended = read => ended,
        ended = &mut write => ended,
        () = mute => Err(io::ErrorKind::TimedOut.into()),
        // What was sent before still goes out, but nothing more is listened to.
        () = closed.notified() => write.await,
    };
    tracing::debug!(%from, %link, ?ended, "a connection is gone");
    let _ = inputs.send(Input::Disconnected { link }).await;
}
