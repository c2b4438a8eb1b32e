//! The server of an embedded Lustre: owns the model and its directory, serves ioctls and commands over a unix socket.

mod agent;
mod calls;
mod clock;
mod control;
mod lease;
mod mounts;
mod peer;
mod signals;
mod state;
mod tree;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::control::Command;
use crate::mdt::{Behaviour, FileSystem, FsConfig, FsEvent, Params};
use crate::protocol;
use clock::Clock;
use mounts::Mount;
use state::{Identity, Shared};
use tree::Tree;

/// How often files and registrations are looked at, at least.
const LOOK: Duration = Duration::from_millis(50);

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory that becomes the file system's root, made if need be.
    pub root: PathBuf,
    /// Name of the file system: 1 to 8 characters.
    pub fsname: String,
    /// How many MDTs.
    pub mdts: u32,
    /// Further mount points.
    pub mounts: Vec<PathBuf>,
    /// Parameters to set at the start, and whenever an MDT starts: `max_requests` (on all MDTs) or a whole
    /// `mdt.*.hsm.max_requests`, and values.
    pub params: Vec<(String, String)>,
    /// Which Lustre it behaves like.
    pub behaviour: Behaviour,
    /// What the wall clock shows at the start, in seconds: the first cookie is one more.
    pub wall: Option<i64>,
    /// How many times faster than real time the clock runs.
    pub rate: f64,
}

impl Options {
    /// Two MDTs of `testfs0`, in real time.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            fsname: "testfs0".to_owned(),
            mdts: 2,
            mounts: Vec::new(),
            params: Vec::new(),
            behaviour: Behaviour::default(),
            wall: None,
            rate: 1.0,
        }
    }
}

/// A running server. Stops when dropped.
pub struct Server {
    shared: Arc<Shared>,
    root: PathBuf,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _mounts: Vec<Mount>,
}

impl Server {
    /// Starts a server: when this returns, its socket answers.
    ///
    /// Errors: a directory, socket or mount that cannot be made, another server on the same directory, a bad parameter.
    pub fn start(options: Options) -> io::Result<Self> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
        if options.fsname.is_empty() || options.fsname.len() > lustreapi_sys::abi::LUSTRE_MAXFSNAME {
            return Err(invalid(format!(
                "the file system's name `{}` must have 1 to 8 characters",
                options.fsname
            )));
        }
        if options.mdts == 0 || options.mdts > 256 {
            return Err(invalid(format!("{} MDTs: there must be 1 to 256", options.mdts)));
        }
        if !(options.rate.is_finite() && options.rate > 0.0) {
            return Err(invalid(format!("a clock cannot run {} times as fast as real time", options.rate)));
        }
        ignore_lease_breaks();
        std::fs::create_dir_all(&options.root)?;
        let root = options.root.canonicalize()?;
        if protocol::connect(protocol::path_bytes(&root)).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "a server runs on this directory already"));
        }
        let clock = Clock::new(options.wall, options.rate);
        let tree = Tree::new(&root, &options.fsname)?;
        let config = FsConfig {
            fsname: options.fsname.clone(),
            mdts: options.mdts,
            params: Params::default(),
            behaviour: options.behaviour,
        };
        let fs = FileSystem::new(config, clock.now());
        let shared = Shared::new(fs, tree, clock)?;
        let mut mounted = Vec::new();
        {
            let mut state = shared.lock();
            state.add_client(Identity::Mount(mounts::id_of_dir(&root)?), Some(root.clone()));
            for dir in &options.mounts {
                let mount = Mount::new(&root, dir)?;
                state.tree.add_mount(mount.dir().to_path_buf());
                if mount.bound() {
                    let id = mounts::id_of_dir(mount.dir())?;
                    state.add_client(Identity::Mount(id), Some(mount.dir().to_path_buf()));
                }
                mounted.push(mount);
            }
            for (name, value) in &options.params {
                let pattern = match name.as_str() {
                    "hsm_control" => "mdt.*.hsm_control".to_owned(),
                    name if name.starts_with("mdt.") => name.to_owned(),
                    name => format!("mdt.*.hsm.{name}"),
                };
                state
                    .set_param(&pattern, value)
                    .map_err(|e| invalid(format!("parameter {pattern}={value}: {e}")))?;
            }
            state.fs.keep_params();
        }
        let listener = listen(&root)?;
        let stopping = Arc::new(AtomicBool::new(false));
        let mut server = Self { shared, root, stopping, threads: Vec::new(), _mounts: mounted };
        server.spawn("accept", {
            let (shared, stopping) = (Arc::clone(&server.shared), Arc::clone(&server.stopping));
            move || accept(&listener, &shared, &stopping)
        })?;
        server.spawn("clock", {
            let (shared, stopping) = (Arc::clone(&server.shared), Arc::clone(&server.stopping));
            move || run_clock(&shared, &stopping)
        })?;
        Ok(server)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(run)?);
        Ok(())
    }

    /// The file system's root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Waits until a command ends the server.
    pub fn wait(&self) {
        while !self.stopping.load(Ordering::Acquire) {
            let guard = self.shared.lock();
            drop(self.shared.wait(guard, Duration::from_millis(200)));
        }
    }

    /// Ends the server from another thread, or a signal's.
    pub fn stop_handle(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stopping)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the accepting thread; what it answers does not matter.
        let _ = protocol::connect(protocol::path_bytes(&self.root));
        self.shared.notify();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let clients: Vec<_> = self.shared.lock().clients.keys().copied().collect();
        for client in clients {
            self.shared.lock().detach(client, None);
        }
        let _ = std::fs::remove_file(self.root.join(protocol::SOCKET));
    }
}

pub use signals::{StopSignals, block_stop_signals};

/// A lease that is broken (see [`lease`]) sends SIGIO, which would end the process.
fn ignore_lease_breaks() {
    lease::ignore_sigio();
}

fn listen(root: &Path) -> io::Result<UnixListener> {
    let path = root.join(protocol::SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The address of a socket is short: go through a descriptor of its directory.
    let dir: OwnedFd = tree::open_dir(&root.join(".lustre"))?;
    let mut prefix = [0; 32];
    let len = protocol::proc_fd(dir.as_fd(), &mut prefix);
    let name = protocol::SOCKET.rsplit('/').next().unwrap_or(protocol::SOCKET);
    let address = format!("{}/{name}", String::from_utf8_lossy(&prefix[..len]));
    let listener = UnixListener::bind(address)?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    Ok(listener)
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>, stopping: &Arc<AtomicBool>) {
    for stream in listener.incoming() {
        if stopping.load(Ordering::Acquire) {
            return;
        }
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors, most likely: others will end.
                tracing::warn!(%error, "cannot accept a connection");
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
        };
        let (shared, stopping) = (Arc::clone(shared), Arc::clone(stopping));
        let started = std::thread::Builder::new().name("call".into()).spawn(move || {
            if let Err(error) = serve(&stream, &shared, &stopping) {
                tracing::debug!(%error, "a connection ended early");
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "cannot serve a connection");
        }
    }
}

fn serve(stream: &UnixStream, shared: &Shared, stopping: &AtomicBool) -> io::Result<()> {
    let socket = stream.as_fd();
    let cred = peer::credentials(socket);
    let server = calls::Server::new(shared, &cred, socket);
    while let Some(request) = protocol::read_request(socket)? {
        if request.op == protocol::OP_CONTROL {
            let command: Result<Command, _> = serde_json::from_slice(&request.body);
            let shutdown = matches!(command, Ok(Command::Shutdown));
            let reply = match command {
                Ok(command) => control::execute(shared, &server, command, request.client, &request.fds),
                Err(error) => Err((crate::mdt::Errno::INVAL, error.to_string())),
            };
            let (rc, body) = match &reply {
                Ok(value) => (0, value.to_string()),
                Err((error, text)) => (error.negative(), text.clone()),
            };
            if shutdown {
                stopping.store(true, Ordering::Release);
                shared.notify();
            }
            protocol::write_reply(socket, rc, body.as_bytes())?;
        } else {
            match server.serve(request) {
                Ok((rc, body)) => protocol::write_reply(socket, rc, &body)?,
                Err(error) => protocol::write_reply(socket, error.negative(), &[])?,
            }
        }
    }
    Ok(())
}

fn run_clock(shared: &Shared, stopping: &AtomicBool) {
    while !stopping.load(Ordering::Acquire) {
        let mut state = shared.lock();
        state.sync();
        state.feed(FsEvent::Tick);
        let pause = state.fs.next_deadline().map_or(LOOK, |at| state.clock.until(at).min(LOOK));
        drop(state);
        std::thread::sleep(pause.max(Duration::from_millis(1)));
    }
}
