//! All the ways in: the plain port, the port for TLS, the socket of local administrators.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tokio::task::AbortHandle;

use super::credentials::Credentials;
use super::door::{Door, MOST};
use super::local::{self, Local};
use crate::security::FileError;
use crate::server::config::Settings;
use crate::server::listener::{self, Hall};
use crate::system::handover::Inherited;

/// Why peers cannot be let in.
#[derive(Debug, thiserror::Error)]
pub enum EntranceError {
    /// An address to listen on.
    #[error("cannot listen on {host}:{port}: {source} (set `host` and `{key}`{option})")]
    Listen {
        /// As configured.
        host: String,
        /// As configured.
        port: String,
        /// The key of the port.
        key: &'static str,
        /// The option that says the same.
        option: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate or a key.
    #[error("TLS: {0}")]
    Credentials(#[from] FileError),
    /// The socket of local administrators.
    #[error("local_socket {}: {source}", path.display())]
    Local {
        /// Where.
        path: PathBuf,
        /// What is in the way.
        source: io::Error,
    },
}

/// Sockets that listen, and that nobody is accepted from yet.
#[derive(Debug)]
pub struct Entrances {
    plain: Option<std::net::TcpListener>,
    tls: Option<std::net::TcpListener>,
    local: Option<(tokio::net::UnixListener, Local)>,
    /// What peers are judged by.
    pub credentials: Credentials,
    handshake: Duration,
    files: usize,
}

/// Accepting ends when this is dropped.
#[derive(Debug)]
pub struct Open {
    tasks: Vec<AbortHandle>,
    _door: Option<Door>,
    _local: Option<Local>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Entrances {
    /// Reads certificates and keys, and listens wherever the configuration says. So many files may be open.
    ///
    /// # Errors
    /// Says what cannot be opened.
    pub fn bind(
        settings: &Settings,
        fsname: &str,
        files: usize,
        inherited: &mut Inherited,
    ) -> Result<Self, EntranceError> {
        let security = &settings.security;
        let credentials = Credentials::open(security.sources(), security.policy.clone())?;
        for warning in credentials.warnings(SystemTime::now()) {
            tracing::warn!("TLS: {warning}");
        }
        let mut listen = |port: &String, key, option, what| {
            listener::adopt_or_bind(inherited, &settings.host, port, what).map_err(|source| {
                let (host, port) = (settings.host.clone(), port.clone());
                EntranceError::Listen { host, port, key, option, source }
            })
        };
        let plain = if security.plain {
            Some(listen(&settings.port, "port", ", or give -H and -p", "")?)
        } else {
            tracing::info!("no plain port: `plain off`");
            None
        };
        let tls =
            if security.tls { Some(listen(&security.tls_port, "tls_port", "", "for TLS ")?) } else { None };
        listener::close_others(inherited);
        let local = match security.local.place(fsname) {
            None => None,
            Some(path) => match Local::listen(&security.local, &path) {
                Ok((listener, local)) => {
                    tracing::info!("Listening on {} for local administrators", path.display());
                    Some((listener, local))
                }
                // Nobody asked for it, and nobody needs it.
                Err(error) if security.local == Default::default() => {
                    tracing::warn!("no socket for local administrators: {}: {error}", path.display());
                    None
                }
                Err(source) => return Err(EntranceError::Local { path, source }),
            },
        };
        Ok(Self { plain, tls, local, credentials, handshake: settings.limits.handshake, files })
    }

    /// The sockets of ports, for the next run.
    ///
    /// # Errors
    /// As duplicating a descriptor.
    pub fn listeners(&self) -> io::Result<Vec<std::net::TcpListener>> {
        self.plain.iter().chain(&self.tls).map(std::net::TcpListener::try_clone).collect()
    }

    /// How many of the files that may be open are for handshakes, which are no connections yet.
    pub fn handshakes(&self) -> usize {
        if self.tls.is_some() { MOST.min(self.files / 4) } else { 0 }
    }

    /// Accepts peers from now on.
    ///
    /// # Errors
    /// As making a thread.
    pub fn open(self, hall: Hall) -> io::Result<Open> {
        let handshakes = self.handshakes();
        let hall = Rc::new(hall);
        let mut tasks = Vec::new();
        if let Some(plain) = self.plain {
            let listener = tokio::net::TcpListener::from_std(plain)?;
            let hall = Rc::clone(&hall);
            let accept = async move {
                listener::accept(listener, |stream, peer| hall.plain(stream, peer)).await;
            };
            tasks.push(tokio::task::spawn_local(accept).abort_handle());
        }
        let door = match self.tls {
            None => None,
            Some(listener) => {
                let (door, arrivals) = Door::start(listener, self.credentials, self.handshake, handshakes)?;
                let hall = Rc::clone(&hall);
                let accept = async move { hall.arrivals(arrivals).await };
                tasks.push(tokio::task::spawn_local(accept).abort_handle());
                Some(door)
            }
        };
        let local = match self.local {
            None => None,
            Some((listener, local)) => {
                let gate = local.gate();
                let accept = async move {
                    local::accept(listener, gate, |stream, name| hall.local(stream, name)).await;
                };
                tasks.push(tokio::task::spawn_local(accept).abort_handle());
                Some(local)
            }
        };
        Ok(Open { tasks, _door: door, _local: local })
    }
}
