//! Configuration, from the file and the variables of the C library.

use std::io;
use std::time::Duration;

use coordinatool::config::{
    CONF_ENV, DEFAULT_HOST, DEFAULT_PATH, DEFAULT_PORT, KEYS, LineKind, Owner, Problem, Verbosity, keys,
    lines, parse_int, parse_limit, parse_port, parse_size, unknown_key,
};
use coordinatool::security::{Asking, ClientSettings, Credentials, server_name};
use coordinatool::shim::{Level, ShimConfig};
use lustreapi_sys::hal::ItemLength;

use crate::log;
use crate::net::{self, Server};

/// Everything that an administrator may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    host: String,
    port: String,
    client_id: Option<String>,
    max_archive: Option<u32>,
    max_restore: Option<u32>,
    max_remove: Option<u32>,
    hal_size: u32,
    item_length: Option<ItemLength>,
    begin_timeout: Duration,
    security: ClientSettings,
    verbosity: Verbosity,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: DEFAULT_HOST.to_owned(),
            port: DEFAULT_PORT.to_owned(),
            client_id: None,
            max_archive: None,
            max_restore: None,
            max_remove: None,
            hal_size: 1 << 20,
            item_length: None,
            begin_timeout: ShimConfig::default().begin_timeout,
            security: ClientSettings::default(),
            verbosity: Verbosity::Normal,
        }
    }
}

/// The smallest buffer that holds a list with one item (the C server refuses less).
const MIN_HAL_SIZE: u32 = 172;

impl Config {
    /// Reads the configuration of this process. The variable that names the file and all others are looked up in `env`.
    pub fn load(env: impl Fn(&str) -> Option<String>) -> Result<Self, Problem> {
        let mut config = Self::default();
        // First of all, so that it holds for what is said while reading.
        if let Some(text) = env("COORDINATOOL_VERBOSE") {
            config.set("verbose", &text).map_err(|message| Problem::at("COORDINATOOL_VERBOSE", message))?;
            log::set_verbosity(config.verbosity);
        }
        let named = env(CONF_ENV);
        let path = named.as_deref().unwrap_or(DEFAULT_PATH);
        match std::fs::read(path) {
            Ok(text) => config.read(path, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {}
            Err(error) => return Err(Problem::at(path, format!("cannot be read: {error}"))),
        }
        for key in KEYS.iter().filter(|key| key.owner != Owner::Server) {
            if let Some((name, text)) = key.env.and_then(|name| Some((name, env(name)?))) {
                config.set(key.name, &text).map_err(|message| Problem::at(name, message))?;
            }
        }
        log::set_verbosity(config.verbosity);
        if config.servers().is_empty() {
            return Err(Problem::at(
                "host",
                "names no server: set it to a host name, or to several with commas",
            ));
        }
        if config.credentials().map_err(|message| Problem::at("tls", message))?.is_some() {
            for server in config.servers() {
                let wrong = |message| Problem::at("host", format!("{message} that a certificate can have"));
                let told = config.security.server_name.as_deref();
                server_name(told.unwrap_or(&server.host)).map_err(wrong)?;
            }
        }
        Ok(config)
    }

    /// What to show with TLS; `None` without.
    pub fn credentials(&self) -> Result<Option<Credentials>, String> {
        self.security.credentials(Asking::Mover)
    }

    /// The name in the servers' certificate, if it is not the host's.
    pub fn server_name(&self) -> Option<String> {
        self.security.server_name.clone()
    }

    fn read(&mut self, path: &str, text: &[u8]) -> Result<(), Problem> {
        for line in lines(text) {
            let warn = |message: String| {
                log::line(Level::Warn, &Problem::at_line(path, line.number, message).to_string());
            };
            match line.kind {
                LineKind::NotText => warn("skipping a line that is not UTF-8".to_owned()),
                LineKind::Bare { key } => match keys::find(key) {
                    Some(known) if known.owner == Owner::Server => {}
                    _ => warn(format!("skipping `{key}`: it needs a value")),
                },
                LineKind::Pair { key, value } => match keys::find(key) {
                    None => warn(unknown_key(key, Owner::Client)),
                    Some(known) if known.owner == Owner::Server => {}
                    Some(known) => self.set(known.name, value).map_err(|message| {
                        Problem::at_line(path, line.number, format!("{key}: {message}"))
                    })?,
                },
            }
        }
        Ok(())
    }

    fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        match key {
            "host" => self.host = text.to_owned(),
            "port" => self.port = parse_port(text)?,
            "client_id" => self.client_id = Some(text.to_owned()).filter(|id| !id.is_empty()),
            "max_archive" => self.max_archive = parse_limit(text)?,
            "max_restore" => self.max_restore = parse_limit(text)?,
            "max_remove" => self.max_remove = parse_limit(text)?,
            "hal_size" => {
                let size = parse_size(text)?;
                if size < MIN_HAL_SIZE {
                    return Err(format!("`{text}` is too small for one request: at least {MIN_HAL_SIZE}"));
                }
                self.hal_size = size;
            }
            "hai_len" => {
                self.item_length = match text.to_ascii_lowercase().as_str() {
                    "exact" => Some(ItemLength::Exact),
                    "padded" => Some(ItemLength::Padded),
                    "auto" => None,
                    _ => return Err(format!("`{text}` is none of `exact`, `padded` and `auto`")),
                }
            }
            "begin_timeout_ms" => {
                self.begin_timeout = Duration::from_millis(parse_int(text, 0, u64::from(u32::MAX))?);
            }
            "verbose" => self.verbosity = text.parse()?,
            _ => {
                if let Some(result) = self.security.set(key, text) {
                    return result;
                }
            }
        }
        Ok(())
    }

    /// The servers, in the order in which they are tried.
    pub fn servers(&self) -> Vec<Server> {
        net::servers(&self.host, if self.security.tls { &self.security.port } else { &self.port })
    }

    /// What the state machine needs to know.
    pub fn shim(&self, fsname: String, archive_ids: Vec<u32>, nonblocking: bool) -> ShimConfig {
        ShimConfig {
            client_id: self.client_id.clone().unwrap_or_else(host_name),
            fsname,
            archive_ids,
            max_archive: self.max_archive,
            max_restore: self.max_restore,
            max_remove: self.max_remove,
            max_bytes: self.hal_size,
            // lemur, which registers so, takes hai_len for the length of the data; lhsmtool_cmd wants a NUL behind it.
            item_length: self.item_length.unwrap_or(if nonblocking {
                ItemLength::Exact
            } else {
                ItemLength::Padded
            }),
            eager: nonblocking,
            begin_timeout: self.begin_timeout,
            ..ShimConfig::default()
        }
    }
}

/// The host's name up to the first dot.
fn host_name() -> String {
    let mut buffer = [0u8; 256];
    // SAFETY: the last byte is left out, so that the name ends in a NUL even if it is cut.
    unsafe { libc::gethostname(buffer.as_mut_ptr().cast(), buffer.len() - 1) };
    let name = buffer.split(|byte| *byte == 0 || *byte == b'.').next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(file: &str, env: &[(&str, &str)]) -> Result<Config, Problem> {
        let dir = std::env::temp_dir().join(format!("shim-config-{}-{:p}", std::process::id(), &file));
        std::fs::write(&dir, file).unwrap();
        let path = dir.to_str().unwrap().to_owned();
        let config = Config::load(|name| match name {
            CONF_ENV => Some(path.clone()),
            _ => env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
        });
        std::fs::remove_file(&dir).unwrap();
        config
    }

    #[test]
    fn variables_win_over_the_file_and_keys_of_the_server_are_skipped() {
        let file = "host  one, two\n port 1\nMAX_RESTORE 2k\narchive_id 3\nbatch_archives_slices_sec 3 4\nclient_id m1\n";
        let config = from(file, &[("COORDINATOOL_PORT", "7"), ("COORDINATOOL_MAX_ARCHIVE", "-1")]).unwrap();
        let server = |host: &str| Server { host: host.into(), port: "7".into() };
        assert_eq!(config.servers(), [server("one"), server("two")]);
        let shim = config.shim("fs".into(), vec![1], false);
        assert_eq!((shim.client_id.as_str(), shim.max_restore, shim.max_archive), ("m1", Some(2048), None));
        assert_eq!((shim.item_length, shim.eager), (ItemLength::Padded, false));
    }

    #[test]
    fn tls_has_its_own_port() {
        let file = "host one,two:7\nport 1\npsk_file /psk\n";
        let ports = |file: &str| {
            let config = from(file, &[]).unwrap();
            let secure = config.credentials().unwrap().is_some();
            (secure, config.servers().into_iter().map(|server| server.port).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(ports(file), (false, "1 7".into()));
        assert_eq!(ports(&format!("{file}tls on\n")), (true, "5124 7".into()));
        assert_eq!(ports(&format!("{file}tls on\ntls_port 9\n")), (true, "9 7".into()));
    }

    #[test]
    fn a_non_blocking_copytool_gets_exact_lengths_unless_told_otherwise() {
        let length = |env: &[(&str, &str)], nonblocking| {
            from("", env).unwrap().shim("fs".into(), Vec::new(), nonblocking).item_length
        };
        assert_eq!(length(&[], true), ItemLength::Exact);
        assert_eq!(length(&[("COORDINATOOL_HAI_LEN", "padded")], true), ItemLength::Padded);
        assert_eq!(length(&[("COORDINATOOL_HAI_LEN", "exact")], false), ItemLength::Exact);
    }

    #[test]
    fn bad_values_name_their_place() {
        for (file, env, place) in [
            ("\nhal_size 10\n", None, ":2"),
            ("max_archive x\n", None, ":1"),
            ("", Some(("COORDINATOOL_HAI_LEN", "long")), "COORDINATOOL_HAI_LEN"),
            ("host ,\n", None, "host"),
            ("tls on\n", None, "tls"),
            ("\ntls maybe\n", None, ":2"),
            ("tls on\npsk_file /a\nhost a_b,c..d\n", None, "host"),
            ("", Some(("COORDINATOOL_PSK_FILE", "a")), "COORDINATOOL_PSK_FILE"),
        ] {
            let problem = from(file, &env.into_iter().collect::<Vec<_>>()).unwrap_err();
            assert!(problem.place.ends_with(place), "{problem}");
        }
    }
}
