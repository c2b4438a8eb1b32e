//! One end of connections, whose certificates are read again when their files change.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::peer::Facts;
use super::{Error, Identity, Paths, Peer, Role, Trust};

/// How long a connection waits for a look at the files.
const FILES: Duration = Duration::from_secs(1);

/// One end of connections, shared by all of them: clones are the same end.
///
/// Before each connection it looks whether the files have changed. If they have and are good, this and all later
/// connections use what they hold now; if they are not, for instance in the middle of a renewal, what was read before stays
/// in use and [`Endpoint::warnings`] says so.
#[derive(Debug, Clone)]
pub struct Endpoint(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    role: Role,
    paths: Paths,
    trust: Trust,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    identity: Identity,
    /// What the files looked like when they were read last, whether they were good or not.
    stamp: Stamp,
    /// Why what the files hold now is not in use.
    failed: Option<String>,
}

/// Modification time and inode of each file; `None` for one that is not there.
type Stamp = [Option<(SystemTime, u64)>; 3];

impl Endpoint {
    /// Reads the files for the first time. A certificate of the other role is an error; without a role it is for others to
    /// judge.
    pub fn open(role: Role, paths: Paths, trust: Trust) -> Result<Self, Error> {
        // Before the files are read: a change in between is seen the next time.
        let stamp = stamp(&paths);
        let current = Current { identity: load(role, &paths)?, stamp, failed: None };
        Ok(Self(Arc::new(Shared { role, paths, trust, current: Mutex::new(current) })))
    }

    /// An agent's side: the handshake with whoever connected. Only a manager gets through. There is no time limit.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(server::TlsStream<S>, Peer)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.fresh().await?.server_config(&self.0.trust).map_err(io::Error::other)?;
        let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
        let peer = peer(stream.get_ref().1.peer_certificates())?;
        Ok((stream, peer))
    }

    /// A manager's side: the handshake with the agent that has one of these names, the host's and the address that is
    /// configured for it. There is no time limit. See [`super::is_distrust`] for errors, also of the first read.
    pub async fn connect<S>(&self, expected: &[&str], stream: S) -> io::Result<client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.fresh().await?.client_config(expected, &self.0.trust).map_err(io::Error::other)?;
        // Neither sent nor checked: what is expected is checked by our own rule.
        let nobody = ServerName::try_from("agent.invalid").map_err(io::Error::other)?;
        TlsConnector::from(Arc::new(config)).connect(nobody, stream).await
    }

    /// Who we are.
    pub fn identity(&self) -> Identity {
        self.current().identity.clone()
    }

    /// What an operator should know: certificates that end within 30 days, files that changed and are no good.
    pub fn warnings(&self) -> Vec<String> {
        let current = self.current();
        let mut warnings = current.identity.warnings(SystemTime::now());
        warnings.extend(current.failed.as_ref().map(|why| format!("changed, but not in use: {why}")));
        warnings
    }

    /// Reads the files again if they have changed. Blocks.
    pub fn refresh(&self) {
        let now = stamp(&self.0.paths);
        if now == self.current().stamp {
            return;
        }
        let loaded = load(self.0.role, &self.0.paths);
        let mut current = self.current();
        current.stamp = now;
        match loaded {
            Ok(identity) => {
                current.identity = identity;
                current.failed = None;
                tracing::info!(certificate = %self.0.paths.certificate.display(), "certificate read again");
            }
            Err(error) => {
                tracing::warn!("the certificate has changed, but is not in use: {error}");
                current.failed = Some(error.to_string());
            }
        }
    }

    async fn fresh(&self) -> io::Result<Identity> {
        let endpoint = self.clone();
        // Files may hang; the caller's thread must not.
        let refreshed = tokio::task::spawn_blocking(move || {
            endpoint.refresh();
            endpoint.identity()
        });
        match tokio::time::timeout(FILES, refreshed).await {
            Ok(identity) => identity.map_err(io::Error::other),
            // What was read before is as good as it was.
            Err(_) => Ok(self.identity()),
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Nothing is ever left half done in it.
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(role: Role, paths: &Paths) -> Result<Identity, Error> {
    let identity = Identity::load(paths)?;
    match identity.peer().role {
        Some(other) if other != role => {
            Err(Error::file(&paths.certificate, format!("is for the role {other}, not for {role}")))
        }
        _ => Ok(identity),
    }
}

fn stamp(paths: &Paths) -> Stamp {
    use std::os::unix::fs::MetadataExt;

    [&paths.authority, &paths.certificate, &paths.key].map(|path| {
        let found = path.metadata().ok()?;
        Some((found.modified().ok()?, found.ino()))
    })
}

fn peer(certificates: Option<&[rustls::pki_types::CertificateDer<'_>]>) -> io::Result<Peer> {
    let certificate = certificates.and_then(|all| all.first());
    let certificate = certificate.ok_or_else(|| io::Error::other("no certificate"))?;
    Ok(Facts::of(certificate).map_err(io::Error::other)?.peer)
}
