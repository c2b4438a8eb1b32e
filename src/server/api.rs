//! The HTTP API beside the loop: requests are read and answered on a thread of their own; what they want of the
//! coordinator is done in the loop, one small piece after another.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use nix::unistd::Gid;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use super::reconcile::Intake;
use super::shell::Shell;
use crate::api::caller::Groups;
use crate::api::hsm;
use crate::hsm::{Coordinator, Now, OperatorReply, Order};

/// Pieces of work that may wait for the loop; whoever has more waits.
const WAITING: usize = 64;

/// Where sockets are, unless told.
pub const DIRECTORY: &str = "/run/coordinatool";

/// The coordinator does not answer any more: the daemon is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the daemon is stopping")]
pub struct Stopping;

type Piece = Box<dyn FnOnce(&Shell) + Send>;

/// The way to the coordinator from another thread. Clones are the same way.
#[derive(Debug, Clone)]
pub struct Loop {
    pieces: mpsc::Sender<Piece>,
}

impl Loop {
    /// Does a small piece of work in the loop.
    ///
    /// # Errors
    /// When the daemon is stopping; so for all of these.
    pub async fn with<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Shell) -> R + Send + 'static,
    ) -> Result<R, Stopping> {
        let (send, result) = oneshot::channel();
        let piece: Piece = Box::new(move |shell| drop(send.send(work(shell))));
        self.pieces.send(piece).await.map_err(|_| Stopping)?;
        result.await.map_err(|_| Stopping)
    }

    /// Looks at the coordinator.
    ///
    /// # Errors
    /// See [`Loop::with`].
    pub async fn look<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Coordinator, Now) -> R + Send + 'static,
    ) -> Result<R, Stopping> {
        self.with(|shell| shell.look(look)).await
    }

    /// Has something done; the answer comes when it is durable.
    ///
    /// # Errors
    /// See [`Loop::with`].
    pub async fn order(&self, who: String, order: Order) -> Result<OperatorReply, Stopping> {
        let reply = self.with(move |shell| shell.operator(who, order)).await?;
        reply.await.map_err(|_| Stopping)
    }
}

/// Does pieces of work in the loop until nobody can want any more.
async fn work(shell: Rc<Shell>, mut pieces: mpsc::Receiver<Piece>) {
    while let Some(piece) = pieces.recv().await {
        piece(&shell);
        // Movers have their turn between two pieces.
        tokio::task::yield_now().await;
    }
}

/// Where the API is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Place {
    /// `hsm-FSNAME.sock` in [`DIRECTORY`]; done without when that cannot be.
    #[default]
    Usual,
    /// There.
    Path(PathBuf),
    /// Nowhere.
    Off,
}

/// The usual socket of a file system.
pub fn usual_socket(fsname: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("hsm-{fsname}.sock"))
}

/// The sockets, from before movers are listened to. The unix socket is removed at the end.
#[derive(Debug)]
pub struct Api {
    path: Option<PathBuf>,
    socket: Option<std::os::unix::net::UnixListener>,
    metrics: Option<std::net::TcpListener>,
    groups: Groups,
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Where the API is to be, and for whom.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Where it is.
    pub place: &'a Place,
    /// Who may use it besides the owner.
    pub group: Option<&'a str>,
    /// Who may look.
    pub read_group: Option<&'a str>,
    /// Where metrics are given over TCP.
    pub metrics: Option<&'a str>,
    /// Name of the file system.
    pub fsname: &'a str,
}

impl Api {
    /// Binds the sockets: whoever connects from now on is answered after [`Api::serve`].
    ///
    /// # Errors
    /// When a place that was told cannot be used. The usual one is done without.
    pub fn bind(wanted: &Wanted<'_>) -> io::Result<Self> {
        let named = |what: &str, error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
        let find = |key, name: Option<&str>| name.map(|name| group(key, name)).transpose();
        let groups = Groups {
            admin: find("api_group", wanted.group)?,
            read_only: find("api_read_group", wanted.read_group)?,
        };
        let mut api = Self { path: None, socket: None, metrics: None, groups };
        match wanted.place {
            Place::Off => {}
            Place::Path(path) => {
                let error = |error| named(&format!("api_socket {}", path.display()), error);
                api.socket = Some(open(path, groups).map_err(error)?);
                api.path = Some(path.clone());
            }
            Place::Usual => {
                let path = usual_socket(wanted.fsname);
                match open(&path, groups) {
                    Ok(socket) => (api.socket, api.path) = (Some(socket), Some(path)),
                    Err(error) => tracing::warn!(
                        "no API for the administrator at {}: {error} (`api_socket PATH` puts it elsewhere, `api_socket \
                         none` does without)",
                        path.display()
                    ),
                }
            }
        }
        if let Some(address) = wanted.metrics {
            let bound = std::net::TcpListener::bind(address)
                .map_err(|error| named(&format!("metrics_listen {address}"), error))?;
            bound.set_nonblocking(true)?;
            api.metrics = Some(bound);
        }
        Ok(api)
    }

    /// Begins to serve.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn serve(&mut self, shell: &Rc<Shell>, parts: Parts) -> io::Result<()> {
        let (socket, metrics, groups) = (self.socket.take(), self.metrics.take(), self.groups);
        if socket.is_none() && metrics.is_none() {
            return Ok(());
        }
        let (pieces, received) = mpsc::channel(WAITING);
        tokio::task::spawn_local(work(Rc::clone(shell), received));
        let context = hsm::Context {
            core: Loop { pieces },
            intake: parts.intake,
            fsname: Arc::from(parts.fsname),
            store: Arc::from(parts.store),
            started: shell.look(|_, now| now.wall.0),
            follow: Arc::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("api".to_owned()).spawn(move || {
            let local = tokio::task::LocalSet::new();
            runtime.block_on(local.run_until(hsm::run(socket, metrics, groups, context)));
        })?;
        if let Some(path) = &self.path {
            tracing::info!("the API is at {}", path.display());
        }
        Ok(())
    }
}

/// What the API needs to know.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Name of the file system.
    pub fsname: String,
    /// What keeps the requests; empty for nothing.
    pub store: String,
    /// Takes listings of the MDTs.
    pub intake: Intake,
}

/// Bound here, so that it is there when the daemon says that it is ready; served by another runtime.
fn open(path: &Path, groups: Groups) -> io::Result<std::os::unix::net::UnixListener> {
    let socket = super::local_socket::bind(path, groups.admin).and_then(UnixListener::into_std)?;
    if groups.read_only.is_some() {
        // A socket has one group only: everybody may connect, and who is in none of them is refused.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    }
    Ok(socket)
}

fn group(key: &str, name: &str) -> io::Result<Gid> {
    let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("{key}: there is no group {name:?}"));
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    nix::unistd::Group::from_name(name)?.map(|group| group.gid).ok_or_else(unknown)
}
