//! Where to connect to and as whom: command line, then environment, then file, then default.

use std::ffi::OsString;
use std::io;

use super::args::Options;
use super::local::LocalSocket;
use crate::config::{
    CONF_ENV, DEFAULT_HOST, DEFAULT_PATH, DEFAULT_PORT, KEYS, LineKind, Owner, Problem, Verbosity, keys,
    lines, parse_limit, parse_port, parse_size, unknown_key,
};
use crate::security::ClientSettings;

/// Bytes of a configuration file that are read at most.
pub const MAX_FILE: u64 = 1 << 20;

/// What holds for this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name or address of the server.
    pub host: String,
    /// Number or name of its port.
    pub port: String,
    /// `max_restore`: `None` for no limit.
    pub max_restore: Option<u32>,
    /// `max_archive`.
    pub max_archive: Option<u32>,
    /// `max_remove`.
    pub max_remove: Option<u32>,
    /// `hal_size` in bytes: how large a list of work may be.
    pub hal_size: u32,
    /// Whether the host or the port was set by anybody.
    pub server_set: bool,
    /// TLS, and what to show.
    pub security: ClientSettings,
    /// The socket of this host's daemon.
    pub local_socket: LocalSocket,
    /// `api_socket`: where the daemon's API is, if that is said.
    pub api_socket: Option<String>,
    /// What is logged.
    pub verbosity: Verbosity,
    /// The same as a number, as it is sent with `status`; beyond [`Verbosity::Debug`] when `-v` was given more often.
    pub verbose: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: DEFAULT_HOST.to_owned(),
            port: DEFAULT_PORT.to_owned(),
            max_restore: None,
            max_archive: None,
            max_remove: None,
            hal_size: 1 << 20,
            server_set: false,
            security: ClientSettings::default(),
            local_socket: LocalSocket::default(),
            api_socket: None,
            verbosity: Verbosity::default(),
            verbose: Verbosity::default() as i32,
        }
    }
}

/// The world as seen from [`Settings::resolve`].
pub trait Surroundings {
    /// The value of a variable.
    fn variable(&self, name: &str) -> Option<OsString>;
    /// The content of a file of at most [`MAX_FILE`] bytes.
    ///
    /// # Errors
    /// Fails as reading does.
    fn file(&self, path: &str) -> io::Result<Vec<u8>>;
}

impl Settings {
    /// Puts the settings together. Appends to `warnings` what looks wrong but does no harm.
    ///
    /// # Errors
    /// A file that was named but cannot be read, or a value that cannot be used. Says where.
    pub fn resolve(
        options: &Options,
        around: &dyn Surroundings,
        warnings: &mut Vec<Problem>,
    ) -> Result<Self, Problem> {
        let mut settings = Self::default();
        let (path, needed) = match (&options.config, around.variable(CONF_ENV)) {
            (Some(path), _) => (path.clone(), true),
            (None, Some(path)) => (text(CONF_ENV, path)?, true),
            (None, None) => (DEFAULT_PATH.to_owned(), false),
        };
        match around.file(&path) {
            Ok(content) => settings.read_file(&path, &content, warnings)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !needed => {}
            Err(error) => {
                return Err(Problem::at(path, format!("cannot read the configuration file: {error}")));
            }
        }
        for key in KEYS.iter().filter(|key| key.owner != Owner::Server) {
            let Some(name) = key.env else { continue };
            let Some(value) = around.variable(name) else { continue };
            let value = text(name, value)?;
            settings.set(key.name, &value).map_err(|message| Problem::at(name, message))?;
        }
        if let Some(host) = &options.host {
            settings.host.clone_from(host);
        }
        if let Some(port) = &options.port {
            settings.port.clone_from(port);
            settings.security.port.clone_from(port);
        }
        settings.server_set |= options.host.is_some() || options.port.is_some();
        settings.verbose = (settings.verbosity as i32).saturating_add(options.verbosity);
        settings.verbosity = settings.verbosity.moved(options.verbosity);
        Ok(settings)
    }

    fn read_file(&mut self, path: &str, content: &[u8], warnings: &mut Vec<Problem>) -> Result<(), Problem> {
        for line in lines(content) {
            let at = |message: String| Problem::at_line(path, line.number, message);
            match line.kind {
                LineKind::Pair { key, value } => match keys::find(key) {
                    Some(key) if key.owner == Owner::Server => {}
                    Some(key) => self.set(key.name, value).map_err(at)?,
                    None => warnings.push(at(unknown_key(key, Owner::Client))),
                },
                LineKind::Bare { key } => {
                    if !keys::find(key).is_some_and(|key| key.may_be_empty) {
                        warnings.push(at(format!("skipping `{key}`, which has no value")));
                    }
                }
                LineKind::NotText => warnings.push(at("skipping a line that is not UTF-8".to_owned())),
            }
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "host" => (self.host, self.server_set) = (value.to_owned(), true),
            "port" => (self.port, self.server_set) = (parse_port(value)?, true),
            "local_socket" if value.eq_ignore_ascii_case("off") => self.local_socket = LocalSocket::Off,
            "local_socket" if value.starts_with('/') => self.local_socket = LocalSocket::At(value.into()),
            "local_socket" => return Err(format!("`{value}` is neither an absolute path nor `off`")),
            "verbose" => self.verbosity = value.parse()?,
            "max_restore" => self.max_restore = parse_limit(value)?,
            "max_archive" => self.max_archive = parse_limit(value)?,
            "max_remove" => self.max_remove = parse_limit(value)?,
            "hal_size" => self.hal_size = parse_size(value)?,
            "api_socket" => self.api_socket = Some(value.to_owned()).filter(|value| !value.is_empty()),
            // The others are for the library: this client has no id unless `-I` gives it one.
            _ => {
                if let Some(result) = self.security.set(key, value) {
                    return result;
                }
            }
        }
        Ok(())
    }
}

fn text(name: &str, value: OsString) -> Result<String, Problem> {
    value.into_string().map_err(|_| Problem::at(name, "not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct World {
        variables: Vec<(&'static str, &'static str)>,
        files: Vec<(&'static str, &'static str)>,
    }

    impl Surroundings for World {
        fn variable(&self, name: &str) -> Option<OsString> {
            self.variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        }

        fn file(&self, path: &str) -> io::Result<Vec<u8>> {
            let found = self.files.iter().find(|(known, _)| *known == path);
            found
                .map(|(_, content)| content.as_bytes().to_vec())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }

    fn resolve(options: &Options, world: &World) -> Result<(Settings, Vec<String>), String> {
        let mut warnings = Vec::new();
        let settings =
            Settings::resolve(options, world, &mut warnings).map_err(|problem| problem.to_string())?;
        Ok((settings, warnings.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn command_line_beats_environment_beats_file_beats_default() {
        let mut world = World::default();
        let mut options = Options::default();
        assert_eq!(resolve(&options, &world), Ok((Settings::default(), vec![])));

        world
            .files
            .push(("/etc/coordinatool.conf", "host a\nport 1\nMAX_archive 2k\nverbose info\nhal_size 4k\n"));
        let from_file = Settings {
            host: "a".into(),
            port: "1".into(),
            server_set: true,
            max_archive: Some(2048),
            hal_size: 4096,
            verbosity: Verbosity::Info,
            verbose: 5,
            ..Settings::default()
        };
        assert_eq!(resolve(&options, &world), Ok((from_file.clone(), vec![])));

        world.variables.extend([("COORDINATOOL_HOST", "b"), ("COORDINATOOL_MAX_ARCHIVE", "-1")]);
        world.variables.extend([("COORDINATOOL_MAX_REMOVE", "3"), ("COORDINATOOL_CLIENT_ID", "mover")]);
        let from_variables =
            Settings { host: "b".into(), max_archive: None, max_remove: Some(3), ..from_file.clone() };
        assert_eq!(resolve(&options, &world), Ok((from_variables.clone(), vec![])));

        options.host = Some("c".into());
        options.port = Some("x".into());
        options.verbosity = 2;
        let mut security = ClientSettings::default();
        security.port = "x".into();
        let from_options = Settings {
            host: "c".into(),
            port: "x".into(),
            security,
            verbosity: Verbosity::Debug,
            verbose: 7,
            ..from_variables
        };
        assert_eq!(resolve(&options, &world), Ok((from_options, vec![])));
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let mut world = World::default();
        let named = Options { config: Some("/no".into()), ..Options::default() };
        assert!(resolve(&named, &world).unwrap_err().starts_with("/no: "));
        world.variables.push(("COORDINATOOL_CONF", "/other"));
        assert!(resolve(&Options::default(), &world).unwrap_err().starts_with("/other: "));
        world.files.push(("/other", "port 7"));
        world.files.push(("/no", "port 8"));
        assert_eq!(resolve(&Options::default(), &world).unwrap().0.port, "7");
        assert_eq!(resolve(&named, &world).unwrap().0.port, "8");
    }

    #[test]
    fn bad_values_stop_and_unknown_keys_warn_with_the_line() {
        let mut world = World::default();
        world.files.push((
            "/etc/coordinatool.conf",
            "redis_host\nredis_port x\narchive_on_hosts_ch a 1 b\nhots a\nport\n\nclient_id m\n",
        ));
        let warnings = resolve(&Options::default(), &world).unwrap().1;
        assert_eq!(
            warnings,
            [
                "/etc/coordinatool.conf:4: skipping unknown key `hots`: did you mean `host`?",
                "/etc/coordinatool.conf:5: skipping `port`, which has no value",
            ]
        );
        world.files[0].1 = "host a\nmax_archive many\n";
        let error = resolve(&Options::default(), &world).unwrap_err();
        assert!(error.starts_with("/etc/coordinatool.conf:2: `many` is not a limit"), "{error}");
        world.files.clear();
        world.variables.push(("COORDINATOOL_VERBOSE", "loud"));
        let error = resolve(&Options::default(), &world).unwrap_err();
        assert!(error.starts_with("COORDINATOOL_VERBOSE: `loud` is not a level"), "{error}");
    }
}
