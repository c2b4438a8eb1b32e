//! The port for TLS, on a thread of its own: whoever shakes hands, slowly or a thousand times a second, delays nobody who
//! is inside.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::server::Acceptor;
use rustls::{CertificateError, ServerConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio_rustls::LazyConfigAcceptor;

use super::credentials::Credentials;
use super::policy::Principal;
use crate::server::listener::{Complaint, accept};

/// Handshakes under way at most, or fewer where few files may be open. When there is another, the one that has lasted longest ends: those of honest peers last
/// milliseconds.
pub const MOST: usize = 512;
/// Peers that have shaken hands and that the daemon has not taken yet.
const ARRIVALS: usize = 64;
/// How long a handshake may last, unless `handshake_timeout_ms` is less.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a handshake waits for a look at the files.
const FILES: Duration = Duration::from_secs(1);
/// How long a peer that is refused may take to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// A peer that has shown who it is.
#[derive(Debug)]
pub struct Arrival {
    /// Its socket, which does not block.
    pub stream: std::net::TcpStream,
    /// TLS around it.
    pub session: Box<ServerConnection>,
    /// Its address.
    pub address: SocketAddr,
    /// Who it is.
    pub principal: Principal,
}

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub struct Door {
    _stop: oneshot::Sender<()>,
}

impl Door {
    /// Starts it.
    ///
    /// # Errors
    /// Fails when the system has no thread.
    pub fn start(
        listener: std::net::TcpListener,
        credentials: Credentials,
        handshake: Duration,
        most: usize,
    ) -> io::Result<(Self, Receiver<Arrival>)> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (arrived, arrivals) = channel(ARRIVALS);
        let patience = if handshake.is_zero() { PATIENCE } else { PATIENCE.min(handshake) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("tls".into()).spawn(move || {
            let local = tokio::task::LocalSet::new();
            runtime.block_on(local.run_until(async move {
                let listener = match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(error) => return tracing::error!("TLS: cannot listen: {error}"),
                };
                let watched = credentials.clone();
                let hands = Hands {
                    credentials,
                    patience,
                    most,
                    arrived,
                    under_way: Rc::default(),
                    looking: Rc::default(),
                    complaint: Rc::default(),
                    flood: Complaint::default(),
                    last: 0.into(),
                };
                tokio::select! {
                    () = accept(listener, |stream, address| hands.shake(stream, address)) => {}
                    () = warn(watched) => {}
                    _ = stopped => {}
                }
            }));
        })?;
        Ok((Self { _stop: stop }, arrivals))
    }
}

/// Says every day what is going to end.
async fn warn(credentials: Credentials) {
    loop {
        tokio::time::sleep(Duration::from_secs(86_400)).await;
        for warning in credentials.warnings(SystemTime::now()) {
            tracing::warn!("TLS: {warning}");
        }
    }
}

/// Handshakes under way.
struct Hands {
    credentials: Credentials,
    patience: Duration,
    most: usize,
    arrived: Sender<Arrival>,
    /// By number, so that the first is the oldest.
    under_way: Rc<RefCell<BTreeMap<u64, AbortHandle>>>,
    /// Somebody looks at the files.
    looking: Rc<Cell<bool>>,
    complaint: Rc<Complaint>,
    flood: Complaint,
    last: Cell<u64>,
}

impl Hands {
    fn shake(&self, stream: TcpStream, address: SocketAddr) -> Result<(), String> {
        let number = self.last.get() + 1;
        self.last.set(number);
        if self.under_way.borrow().len() >= self.most
            && let Some((_, oldest)) = self.under_way.borrow_mut().pop_first()
        {
            oldest.abort();
            let most = self.most;
            self.flood.log(format_args!("TLS: more than {most} handshakes at a time: the oldest is ended"));
        }
        let (credentials, patience) = (self.credentials.clone(), self.patience);
        let (arrived, complaint) = (self.arrived.clone(), Rc::clone(&self.complaint));
        let (under_way, looking) = (Rc::clone(&self.under_way), Rc::clone(&self.looking));
        let task = tokio::task::spawn_local(async move {
            let shaken =
                tokio::time::timeout(patience, handshake(stream, address, &credentials, &looking)).await;
            if matches!(shaken, Ok(Ok(_))) {
                under_way.borrow_mut().remove(&number);
            }
            match shaken {
                // Waits for the daemon to take it, and keeps others out meanwhile.
                Ok(Ok(arrival)) => drop(arrived.send(arrival).await),
                Ok(Err((error, stream))) => {
                    complaint.log(format_args!("TLS: {address} refused: {}", explain(&error)));
                    if let Some(stream) = stream {
                        farewell(stream).await;
                    }
                }
                Err(_) => {
                    complaint.log(format_args!("TLS: {address} refused: no handshake within {patience:?}"));
                }
            }
            under_way.borrow_mut().remove(&number);
        });
        self.under_way.borrow_mut().insert(number, task.abort_handle());
        Ok(())
    }
}

/// What went wrong, for the administrator.
fn explain(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => format!("it does not speak TLS ({error})"),
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(reason))) => reason.0.to_string(),
        Some(rustls::Error::InvalidCertificate(reason)) => format!("its certificate: {reason}"),
        Some(rustls::Error::AlertReceived(alert)) => format!("it does not trust us ({alert:?})"),
        _ => error.to_string(),
    }
}

/// Finds out who a peer is. The error is for the log; the stream of a peer that is to read why comes with it.
async fn handshake(
    stream: TcpStream,
    address: SocketAddr,
    credentials: &Credentials,
    looking: &Rc<Cell<bool>>,
) -> Result<Arrival, (io::Error, Option<TcpStream>)> {
    look_at_files(credentials, looking).await;
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(|error| (error, None))?;
    let config = credentials.config(start.client_hello().alpn());
    let Some(config) = config else {
        // This ends with the right alert.
        let nothing = credentials.any_config();
        let asked = asked(start.client_hello().alpn());
        let stream = match nothing {
            Some(config) => start.into_stream(config).into_fallible().await.err().map(|(_, stream)| stream),
            None => None,
        };
        return Err((io::Error::other(asked), stream));
    };
    let stream = match start.into_stream(Arc::clone(&config)).into_fallible().await {
        Ok(stream) => stream,
        Err((error, stream)) => return Err((error, Some(stream))),
    };
    let (stream, session) = stream.into_inner();
    let arrive = || {
        let shown = session.peer_certificates().and_then(|shown| shown.first());
        let shown = shown.ok_or_else(|| io::Error::other("it showed no certificate"))?;
        let principal = credentials.principal(session.alpn_protocol(), shown).map_err(io::Error::other)?;
        credentials.policy().access(&principal).map_err(io::Error::other)?;
        Ok(principal)
    };
    let principal = arrive().map_err(|error| (error, None))?;
    let stream = stream.into_std().map_err(|error| (error, None))?;
    Ok(Arrival { stream, session: Box::new(session), address, principal })
}

/// Has changed files read again. Files may hang; handshakes then go on with what was read before, and nobody else looks until
/// the first does.
async fn look_at_files(credentials: &Credentials, looking: &Rc<Cell<bool>>) {
    if looking.replace(true) {
        return;
    }
    let (files, looking) = (credentials.clone(), Rc::clone(looking));
    let look = tokio::task::spawn_local(async move {
        // An error is a panic there, which ends the daemon.
        let _ = tokio::task::spawn_blocking(move || files.refresh()).await;
        looking.set(false);
    });
    let _ = tokio::time::timeout(FILES, look).await;
}

/// Lets a peer that is refused read why: what it has sent and nobody reads would take the alert from it.
async fn farewell(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let drained = async {
        let mut rest = [0; 4096];
        for _ in 0..64 {
            if !matches!(stream.read(&mut rest).await, Ok(length) if length > 0) {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(FAREWELL, drained).await;
}

/// What a client asked for that we do not have.
fn asked<'a>(alpn: Option<impl Iterator<Item = &'a [u8]>>) -> String {
    let names = alpn.into_iter().flatten().take(4);
    let names: Vec<String> =
        names.map(|name| String::from_utf8_lossy(&name[..name.len().min(64)]).into()).collect();
    let psk = names.iter().find_map(|name| name.strip_prefix(crate::security::ALPN_PSK));
    match psk {
        Some(id) => format!("it holds the pre-shared key {id:?}, which is none of ours"),
        None if names.is_empty()
            || names.iter().any(|name| name.as_bytes() == crate::security::ALPN_CERTIFICATE) =>
        {
            "it comes with a certificate, and only pre-shared keys are configured".to_owned()
        }
        None => format!("it asks for {names:?}, which is not the mover protocol"),
    }
}
