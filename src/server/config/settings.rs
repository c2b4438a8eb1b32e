//! Everything that can be set, with its default.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{self, Verbosity};
use crate::hsm::HsmConfig;
use crate::server::locator::settings::LocatorSettings;
use crate::server::security::settings::SecuritySettings;
use crate::server::{api, reconcile};
use crate::store::redis;

/// Everything the daemon needs to know to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Addresses to listen on: the first that can be bound is used. A list separated by commas, as clients may have it.
    pub host: String,
    /// Port or service name.
    pub port: String,
    /// How much is logged.
    pub verbose: Verbosity,
    /// Where Lustre is.
    pub lustre: Lustre,
    /// Name of the file system, if told.
    pub fsname: Option<String>,
    /// Where requests are kept.
    pub store: StoreKind,
    /// Directory of the embedded store, if told.
    pub state_dir: Option<PathBuf>,
    /// Whether there is a redis.
    pub redis: Redis,
    /// Where it is, and what is ours in it.
    pub redis_server: RedisServer,
    /// Directory of the reporting files, relative to the mount point.
    pub reporting_dir: Option<String>,
    /// Bounds on what peers may do.
    pub limits: Limits,
    /// What lists the requests of the MDTs.
    pub reconcile: reconcile::Settings,
    /// Who may do what, and how peers show who they are.
    pub security: SecuritySettings,
    /// Where the API for the administrator is.
    pub api: api::Place,
    /// Group that may use the API besides the daemon's user.
    pub api_group: Option<String>,
    /// Group whose members may look over the API.
    pub api_read_group: Option<String>,
    /// Address on which metrics are given over TCP, if they are.
    pub metrics_listen: Option<String>,
    /// What says where the data of restores lies.
    pub locator: Option<LocatorSettings>,
    /// For the coordinator's core; `fsname` is filled in when it is known.
    pub hsm: HsmConfig,
}

/// Where Lustre is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lustre {
    /// A client's mount point.
    Mount(PathBuf),
    /// Nowhere: requests come through `queue` only.
    None,
}

/// Where requests are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// In redis, unless there is none: see [`Redis`].
    Auto,
    /// In redis.
    Redis,
    /// In files of our own.
    Embedded,
    /// Nowhere: a restart forgets them.
    None,
}

/// What was said about redis: the meaning of `redis_host`, as in C 0.4 but for the embedded store in place of none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redis {
    /// Nothing: the one on this host, if there is one.
    Unset,
    /// That there is none: `redis_host` was set to nothing.
    Disabled,
    /// That there is one.
    Configured,
}

/// A redis server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisServer {
    /// Name, address, or path of a unix socket.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// ACL user.
    pub user: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// First word of all keys.
    pub namespace: String,
}

impl Default for RedisServer {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            port: 6379,
            user: None,
            password_file: None,
            namespace: redis::C_NAMESPACE.to_owned(),
        }
    }
}

/// Bounds on what peers may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message.
    pub message_bytes: usize,
    /// Nesting of one message.
    pub depth: usize,
    /// Bytes that wait for a peer that does not read.
    pub client_buffer: usize,
    /// Bytes of messages that are not whole, of all peers together.
    pub inputs: usize,
    /// Connections; 0 for what the limit of open files allows.
    pub connections: usize,
    /// How long a new peer may take to send its first message; zero for as long as it wants.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 128 << 20,
            depth: 128,
            client_buffer: 64 << 20,
            inputs: 1 << 30,
            connections: 0,
            handshake: Duration::from_secs(60),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: config::DEFAULT_HOST.to_owned(),
            port: config::DEFAULT_PORT.to_owned(),
            verbose: Verbosity::Normal,
            lustre: Lustre::None,
            fsname: None,
            store: StoreKind::Auto,
            state_dir: None,
            redis: Redis::Unset,
            redis_server: RedisServer::default(),
            reporting_dir: None,
            limits: Limits::default(),
            reconcile: reconcile::Settings::default(),
            security: SecuritySettings::default(),
            api: api::Place::Usual,
            api_group: None,
            api_read_group: None,
            metrics_listen: None,
            locator: None,
            hsm: HsmConfig { settle: Duration::from_secs(12), ..HsmConfig::default() },
        }
    }
}

/// Name of this instance in the file system: the mount point as `systemd-escape --path` writes it (`mnt-lustre`), or the
/// file system's name when there is no mount point.
pub fn instance(lustre: &Lustre, fsname: &str) -> String {
    use std::os::unix::ffi::OsStrExt;
    let Lustre::Mount(path) = lustre else { return fsname.to_owned() };
    let parts: Vec<_> = path.as_os_str().as_bytes().split(|b| *b == b'/').filter(|p| !p.is_empty()).collect();
    if parts.is_empty() {
        return "-".to_owned();
    }
    let joined = parts.join(&b'/');
    let mut name = String::with_capacity(joined.len());
    for (index, byte) in joined.iter().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if index == 0 => name.push_str("\\x2e"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' => name.push(char::from(*byte)),
            other => name.push_str(&format!("\\x{other:02x}")),
        }
    }
    name
}
