//! What the daemon is to do: command line, environment, file and defaults put together.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{self, LineKind, Owner, Problem, Verbosity, keys, parse_int, parse_port, parse_size};
use crate::hsm::config::{BatchConfig, HostChoice, HostMapping, HsmConfig};
use crate::store::redis;

use super::api;
use super::locator::settings::{LocatorKeys, LocatorSettings};
use super::options::Options;
use super::reconcile;
use super::scheduling::{Scheduling, on_off};
use super::security::settings::SecuritySettings;
use super::work_limits;

const INT_MAX: u64 = i32::MAX as u64;
/// `LONG_MAX / NS_IN_SEC`: the longest time in seconds that C takes.
const MAX_SECONDS: u64 = i64::MAX as u64 / 1_000_000_000;
/// The most ended or failed requests that can be kept.
const MAX_KEPT: u64 = 1_000_000;
const MAX_ARCHIVE_IDS: usize = lustreapi_sys::abi::LL_HSM_MAX_ARCHIVES_PER_AGENT;

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

/// Something to log once it is known how much is to be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Looks wrong.
    Warn(String),
    /// Good to know.
    Info(String),
}

/// Settings and what is to be said about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// In the order in which they were found.
    pub notes: Vec<Note>,
}

/// Everything that is wrong: one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The outside world as far as settings come from it.
pub trait Sources {
    /// The value of an environment variable.
    fn env(&self, name: &str) -> Option<OsString>;
    /// The content of a file.
    fn file(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The real environment and files.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Sources for System {
    fn env(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }
}

/// Puts command line, environment, file and defaults together, in this order of precedence.
pub fn load(options: &Options, sources: &dyn Sources) -> Result<Loaded, Problems> {
    let mut loader = Loader::default();
    loader.file(options, sources);
    loader.environment(sources);
    loader.options(options);
    loader.finish()
}

#[derive(Default)]
struct Loader {
    settings: Settings,
    slice: Option<(u64, u64)>,
    slots: Option<u64>,
    archive_ids: Vec<u32>,
    scheduling: Scheduling,
    locator: LocatorKeys,
    lustre_none: bool,
    notes: Vec<Note>,
    problems: Vec<Problem>,
}

impl Loader {
    fn problem(&mut self, place: &str, message: impl Into<String>) {
        self.problems.push(Problem::at(place, message));
    }

    fn file(&mut self, options: &Options, sources: &dyn Sources) {
        let named = options.config.clone().or_else(|| sources.env(config::CONF_ENV).map(PathBuf::from));
        let required = named.is_some();
        let path = named.unwrap_or_else(|| PathBuf::from(config::DEFAULT_PATH));
        let shown = path.display().to_string();
        let text = match sources.file(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => {
                self.notes.push(Note::Info(format!("configuration file {shown} not found, skipping it")));
                return;
            }
            Err(error) => {
                return self.problem(&shown, format!("cannot read the configuration file: {error}"));
            }
        };
        for line in config::lines(&text) {
            let place = format!("{shown}:{}", line.number);
            let (name, value) = match line.kind {
                LineKind::Pair { key, value } => (key, value),
                LineKind::Bare { key } => (key, ""),
                LineKind::NotText => {
                    self.problem(&place, "this line is not UTF-8 text");
                    continue;
                }
            };
            let Some(key) = keys::find(name) else {
                self.notes.push(Note::Warn(format!("{place}: {}", config::unknown_key(name, Owner::Server))));
                continue;
            };
            if key.owner == Owner::Client {
                continue;
            }
            if value.is_empty() && !key.may_be_empty {
                let text = format!("{place}: skipping `{name}`, which has no value");
                self.notes.push(Note::Warn(text));
                continue;
            }
            match self.set(key.name, value, &place) {
                Ok(()) if self.problems.is_empty() => {
                    self.notes.push(Note::Info(format!("{place}: {} set to '{value}'", key.name)));
                }
                Ok(()) => {}
                Err(message) => self.problem(&place, format!("{}: {message}", key.name)),
            }
        }
    }

    fn environment(&mut self, sources: &dyn Sources) {
        for key in keys::KEYS.iter().filter(|key| key.owner != Owner::Client) {
            let Some(name) = key.env else { continue };
            let Some(value) = sources.env(name) else { continue };
            let Some(value) = value.to_str() else {
                self.problem(name, "the value is not UTF-8 text");
                continue;
            };
            match self.set(key.name, value, name) {
                Ok(()) => self.notes.push(Note::Info(format!("environment: {name} set to '{value}'"))),
                Err(message) => self.problem(name, message),
            }
        }
    }

    fn options(&mut self, options: &Options) {
        let texts = [
            ("host", "--host", options.host.as_deref()),
            ("port", "--port", options.port.as_deref()),
            ("redis_host", "--redis-host", options.redis_host.as_deref()),
            ("redis_port", "--redis-port", options.redis_port.as_deref()),
            ("client_grace_ms", "--client-grace", options.client_grace.as_deref()),
            ("lustre", "--lustre", options.lustre.as_deref()),
            ("fsname", "--fsname", options.fsname.as_deref()),
            ("store", "--store", options.store.as_deref()),
            ("api_socket", "--api-socket", options.api_socket.as_deref()),
        ];
        for (key, option, value) in texts {
            if let Some(value) = value
                && let Err(message) = self.set(key, value, option)
            {
                self.problem(option, message);
            }
        }
        if let Some(dir) = &options.state_dir {
            match dir.is_absolute() {
                true => self.settings.state_dir = Some(dir.clone()),
                false => self.problem("--state-dir", format!("`{}` is not an absolute path", dir.display())),
            }
        }
        // The first of them discards what the file says.
        if !options.archive.is_empty() {
            self.archive_ids.clear();
        }
        for value in &options.archive {
            if let Err(message) = self.set("archive_id", value, "--archive") {
                self.problem("--archive", message);
            }
        }
        let steps = i32::from(options.verbose) - i32::from(options.quiet);
        self.settings.verbose = self.settings.verbose.moved(steps);
        match options.mount.as_slice() {
            [] => {
                let told = options.lustre.is_some() || self.settings.lustre != Lustre::None;
                if !told && !self.lustre_none {
                    self.problem(
                        "command line",
                        "no mount point specified (or `--lustre none --fsname NAME`)",
                    );
                }
            }
            [mount] => {
                let explicit_none = options.lustre.as_deref().is_some_and(|l| l.eq_ignore_ascii_case("none"));
                if explicit_none {
                    let text = "a mount point and `--lustre none` contradict each other: leave one out";
                    self.problem("command line", text);
                } else {
                    self.settings.lustre = Lustre::Mount(mount.clone());
                }
            }
            [_, more @ ..] => {
                let words: Vec<_> = more.iter().map(|path| path.display().to_string()).collect();
                let text = format!("only one mount point can be given: what is `{}`?", words.join(" "));
                self.problem("command line", text);
            }
        }
        let none = options.mount.is_empty() && self.settings.lustre == Lustre::None;
        if none && self.settings.fsname.is_none() && self.problems.is_empty() {
            self.problem("command line", "`--lustre none` needs `--fsname NAME`");
        }
    }

    fn set(&mut self, key: &'static str, value: &str, place: &str) -> Result<(), String> {
        let settings = &mut self.settings;
        let millis = |max| parse_int(value, 0, max).map(Duration::from_millis);
        match key {
            "host" => settings.host = text(value)?,
            "port" => settings.port = parse_port(value)?,
            "verbose" => settings.verbose = value.parse()?,
            "redis_host" => {
                let empty = value.is_empty() || value == "\"\"";
                settings.redis = if empty { Redis::Disabled } else { Redis::Configured };
                if !empty {
                    if let Some((host, port)) = value.split_once(':')
                        && port.parse::<u16>().is_ok()
                    {
                        return Err(format!(
                            "`{value}` has a port: set `{host}` here and `redis_port {port}`"
                        ));
                    }
                    settings.redis_server.host = value.to_owned();
                }
            }
            "redis_port" => settings.redis_server.port = parse_int(value, 0, 65535)? as u16,
            "redis_user" => settings.redis_server.user = Some(text(value)?),
            "redis_password_file" => {
                if !value.starts_with('/') {
                    return Err(format!("`{value}` is not an absolute path"));
                }
                settings.redis_server.password_file = Some(PathBuf::from(value));
            }
            "redis_namespace" => {
                redis::check_namespace(value)?;
                settings.redis_server.namespace = value.to_owned();
            }
            "client_grace_ms" => settings.hsm.client_grace = millis(INT_MAX)?,
            "archive_id" => {
                let id = parse_int(value, 1, INT_MAX)? as u32;
                if self.archive_ids.len() >= MAX_ARCHIVE_IDS {
                    return Err(format!("more than {MAX_ARCHIVE_IDS} archive ids"));
                }
                self.archive_ids.push(id);
            }
            "archive_on_hosts" | "archive_on_hosts_ch" => {
                let hashed = key == "archive_on_hosts_ch";
                match host_mapping(value, hashed)? {
                    Some(mapping) => settings.hsm.host_mappings.push(mapping),
                    None => self
                        .notes
                        .push(Note::Info(format!("{place}: skipping {key} `{value}` without hosts"))),
                }
            }
            "batch_archives_slices_sec" => {
                let words: Vec<_> = value.split_whitespace().collect();
                let (idle, max) = match words.as_slice() {
                    [idle] => (*idle, "0"),
                    [idle, max] => (*idle, *max),
                    _ => return Err(format!("`{value}` is not one or two numbers of seconds: IDLE [MAX]")),
                };
                let idle = parse_int(idle, 0, MAX_SECONDS).map_err(|error| format!("idle time: {error}"))?;
                let max = parse_int(max, 0, MAX_SECONDS).map_err(|error| format!("maximum time: {error}"))?;
                self.slice = Some((idle, max));
            }
            "batch_archives_slots_per_client" => self.slots = Some(parse_int(value, 0, INT_MAX)?),
            "reporting_dir" => settings.reporting_dir = Some(text(value)?),
            "reporting_hint" => {
                // C adds the `=` itself; people write it all the same.
                let hint = value.strip_suffix('=').unwrap_or(value);
                if hint.is_empty() || hint.contains([',', '=']) {
                    return Err(format!(
                        "`{value}` is not the name of a hint: `cr` finds `cr=VALUE` in the data"
                    ));
                }
                settings.hsm.reporting_hint = Some(format!("{hint}="));
            }
            "reporting_schedule_interval_ms" => settings.hsm.reporting_interval = millis(MAX_SECONDS * 1000)?,
            "lustre" => {
                let none = value.eq_ignore_ascii_case("none");
                if !none && !value.starts_with('/') {
                    return Err(format!("`{value}` is neither `none` nor the path of a mount point"));
                }
                self.lustre_none = none;
                settings.lustre = if none { Lustre::None } else { Lustre::Mount(PathBuf::from(value)) };
            }
            "fsname" => settings.fsname = Some(fsname(value)?),
            "store" => settings.store = store(value)?,
            "state_dir" => {
                if !value.starts_with('/') {
                    return Err(format!("`{value}` is not an absolute path"));
                }
                settings.state_dir = Some(PathBuf::from(value));
            }
            "api_socket" => settings.api = api_socket(value)?,
            "api_group" => settings.api_group = Some(text(value)?),
            "api_read_group" => settings.api_read_group = Some(text(value)?),
            "metrics_listen" => settings.metrics_listen = metrics_listen(value)?,
            "lease_ms" => settings.hsm.lease = Duration::from_millis(parse_int(value, 100, INT_MAX)?),
            "ageing_remove_ms" => settings.hsm.ageing.remove = millis(MAX_SECONDS)?,
            "ageing_archive_ms" => settings.hsm.ageing.archive = millis(MAX_SECONDS)?,
            "settle_ms" => settings.hsm.settle = millis(INT_MAX)?,
            "request_timeout_sec" => settings.hsm.request_timeout = seconds(value)?,
            "keepalive_running_max_sec" => settings.hsm.keepalive_running_max = seconds(value)?,
            "keepalive_rate" => settings.hsm.keepalive_rate = parse_int(value, 0, 1_000_000)? as u32,
            "stranded_max" => settings.hsm.stranded_max = parse_int(value, 0, INT_MAX)? as u32,
            "stranded_timeout_sec" => settings.hsm.stranded_timeout = seconds(value)?,
            "reconcile_command" => settings.reconcile.command = command(value)?,
            "reconcile_interval_sec" => {
                settings.reconcile.interval = Duration::from_secs(parse_int(value, 0, INT_MAX)?);
            }
            "reconcile_timeout_sec" => {
                settings.reconcile.timeout = Duration::from_secs(parse_int(value, 1, INT_MAX)?);
            }
            "reconcile_adopt" => settings.reconcile.adopt = adopt(value)?,
            "retry_limit" => settings.hsm.retry_limit = parse_int(value, 0, 1000)? as u32,
            "retry_backoff_ms" => {
                settings.hsm.retry_backoff = Duration::from_millis(parse_int(value, 1, INT_MAX)?);
            }
            "dead_letters" => settings.hsm.dead_letters = parse_int(value, 0, MAX_KEPT)? as usize,
            "quarantine_errors" => settings.hsm.quarantine.errors = parse_int(value, 0, INT_MAX)? as u32,
            "quarantine_window_ms" => {
                settings.hsm.quarantine.window = Duration::from_millis(parse_int(value, 1000, INT_MAX)?);
            }
            "quarantine_ms" => {
                settings.hsm.quarantine.time = Duration::from_millis(parse_int(value, 1, INT_MAX)?);
            }
            "limit_mover" => work_limits::mover(value, &mut settings.hsm.limits)?,
            "limit_hint" => work_limits::hint(value, &mut settings.hsm.limits)?,
            "limit_user" => work_limits::user(value, &mut settings.hsm.limits)?,
            "history_size" => settings.hsm.history_size = parse_int(value, 0, MAX_KEPT)? as usize,
            "count_bytes" => settings.hsm.count_bytes = on_off(value)?,
            "max_message_size" => settings.limits.message_bytes = at_least(parse_size(value)?, 4096)?,
            "max_message_depth" => settings.limits.depth = parse_int(value, 8, 1024)? as usize,
            "max_client_buffer" => settings.limits.client_buffer = at_least(parse_size(value)?, 65536)?,
            "max_input_buffers" => settings.limits.inputs = at_least(parse_size(value)?, 1 << 20)?,
            "max_connections" => settings.limits.connections = parse_int(value, 0, INT_MAX)? as usize,
            "handshake_timeout_ms" => settings.limits.handshake = millis(INT_MAX)?,
            other => match self
                .scheduling
                .set(other, value)
                .or_else(|| self.locator.set(other, value))
                .or_else(|| settings.security.set(other, value, place))
            {
                Some(result) => result?,
                None => return Err(format!("`{other}` is a key that the server does not know")),
            },
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Loaded, Problems> {
        self.problems.extend(self.settings.security.problems());
        if !self.problems.is_empty() {
            return Err(Problems(self.problems));
        }
        let hsm = &mut self.settings.hsm;
        self.notes.extend(self.scheduling.finish(hsm).into_iter().map(Note::Warn));
        let (locator, warnings) = self.locator.finish(hsm);
        self.settings.locator = locator;
        self.notes.extend(warnings.into_iter().map(Note::Warn));
        let hsm = &mut self.settings.hsm;
        hsm.archive_ids = self.archive_ids;
        hsm.batch = match (self.slice, self.slots.unwrap_or(1)) {
            (None | Some((0, _)), _) | (_, 0) => None,
            (Some((idle, max)), slots) => Some(BatchConfig {
                idle: Duration::from_secs(idle),
                max: (max > 0).then(|| Duration::from_secs(max)),
                slots: u32::try_from(slots).unwrap_or(u32::MAX),
            }),
        };
        if self.settings.lustre == Lustre::None {
            // There is nobody to keep requests alive at, and nobody to give them back to.
            hsm.request_timeout = Duration::ZERO;
        }
        if hsm.lease > hsm.client_grace {
            hsm.lease = hsm.client_grace;
        }
        if self.settings.store == StoreKind::Redis && self.settings.redis == Redis::Disabled {
            let text =
                "`store redis` needs a redis, and `redis_host` is set to nothing: leave one of them out";
            return Err(Problems(vec![Problem::at("store", text)]));
        }
        let half = match (&self.settings.reporting_dir, &hsm.reporting_hint) {
            (Some(_), None) => Some(("reporting_dir", "reporting_hint")),
            (None, Some(_)) => Some(("reporting_hint", "reporting_dir")),
            _ => None,
        };
        if let Some((set, unset)) = half {
            let text = format!("{set} was set without {unset}, reporting disabled");
            self.notes.push(Note::Warn(text));
            self.settings.reporting_dir = None;
            self.settings.hsm.reporting_hint = None;
        }
        Ok(Loaded { settings: self.settings, notes: self.notes })
    }
}

fn text(value: &str) -> Result<String, String> {
    if value.is_empty() { Err("must not be empty".to_owned()) } else { Ok(value.to_owned()) }
}

/// Whole seconds, at most 68 years.
fn seconds(value: &str) -> Result<Duration, String> {
    parse_int(value, 0, INT_MAX).map(Duration::from_secs)
}

fn at_least(value: u32, min: u32) -> Result<usize, String> {
    if value < min { Err(format!("`{value}` is less than {min}")) } else { Ok(value as usize) }
}

fn adopt(value: &str) -> Result<reconcile::Whose, String> {
    match value.to_ascii_lowercase().as_str() {
        "own" => Ok(reconcile::Whose::Own),
        "all" => Ok(reconcile::Whose::All),
        "none" => Ok(reconcile::Whose::None),
        _ => Err(format!("`{value}` is not one of own, all, none")),
    }
}

/// Words of a command that is run without a shell, quoted as in one. None for nothing.
fn command(value: &str) -> Result<Vec<String>, String> {
    shlex::split(value).ok_or_else(|| format!("`{value}` has a quote that is not closed"))
}

fn api_socket(value: &str) -> Result<api::Place, String> {
    if value.eq_ignore_ascii_case("none") {
        return Ok(api::Place::Off);
    }
    if !value.starts_with('/') {
        return Err(format!("`{value}` is neither `none` nor an absolute path"));
    }
    Ok(api::Place::Path(PathBuf::from(value)))
}

/// `PORT` is that port of the loopback address; anybody else's must be told. `None` for `none`.
fn metrics_listen(value: &str) -> Result<Option<String>, String> {
    let wrong = || format!("`{value}` is not `none`, PORT or ADDRESS:PORT ([ADDRESS]:PORT for IPv6)");
    if value.eq_ignore_ascii_case("none") {
        return Ok(None);
    }
    if let Ok(port) = value.parse::<u16>() {
        return Ok(Some(format!("127.0.0.1:{port}")));
    }
    let (host, port) = value.rsplit_once(':').ok_or_else(wrong)?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || port.parse::<u16>().is_err() || (host.contains(':') && !bracketed) {
        return Err(wrong());
    }
    Ok(Some(value.to_owned()))
}

fn store(value: &str) -> Result<StoreKind, String> {
    match value.to_ascii_lowercase().as_str() {
        "redis" => Ok(StoreKind::Redis),
        "embedded" => Ok(StoreKind::Embedded),
        "none" => Ok(StoreKind::None),
        other => {
            let near = keys::nearest_of(other, ["redis", "embedded", "none"]);
            let hint = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
            Err(format!("`{value}` is not a store: redis, embedded or none{hint}"))
        }
    }
}

fn fsname(value: &str) -> Result<String, String> {
    let max = lustreapi_sys::abi::LUSTRE_MAXFSNAME;
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if value.is_empty() || value.len() > max || !value.chars().all(good) {
        return Err(format!(
            "`{value}` is not the name of a file system: 1 to {max} letters, digits, `_` or `-`"
        ));
    }
    Ok(value.to_owned())
}

/// `TAG HOST...`, or `TAG N HOST...` when hashed. `None` when there is no host, which C skips.
fn host_mapping(value: &str, hashed: bool) -> Result<Option<HostMapping>, String> {
    let mut words = value.split_whitespace();
    let tag = words.next().ok_or("must not be empty")?.to_owned();
    let choice = if hashed {
        let count = words.next().ok_or_else(|| format!("`{value}` lacks the hash count: TAG N HOST..."))?;
        let text = |error| format!("hash count: {error} (0 keeps the value): TAG N HOST...");
        let count = parse_int(count, 0, INT_MAX).map_err(text)?;
        HostChoice::Hash { modulus: (count > 0).then_some(count) }
    } else {
        HostChoice::Any
    };
    let mut hosts: Vec<String> = Vec::new();
    for host in words {
        // A host named twice would only weigh double in C's random start.
        if hashed || !hosts.iter().any(|known| known == host) {
            hosts.push(host.to_owned());
        }
    }
    Ok((!hosts.is_empty()).then_some(HostMapping { tag, hosts, choice }))
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
