//! What the daemon is to do: command line, environment, file and defaults put together.

mod key;
mod scheduling;
mod settings;
mod values;
pub mod work_limits;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::scheduling::Scheduling;
use super::locator::settings::LocatorKeys;
use super::options::Options;
use crate::config::{self, LineKind, Owner, Problem, keys};
use crate::hsm::config::BatchConfig;

pub use self::settings::{Limits, Lustre, Redis, RedisServer, Settings, StoreKind, instance};

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
        read_file(path)
    }
}

/// The longest configuration file, in bytes: longer ones are a mistake, as is a device without end.
const LONGEST_FILE: u64 = 16 << 20;

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(path)?, LONGEST_FILE + 1), &mut bytes)?;
    if bytes.len() as u64 > LONGEST_FILE {
        let text = format!("it has more than {LONGEST_FILE} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
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
        if options.state_dir.is_some() {
            self.settings.state_dir.clone_from(&options.state_dir);
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
