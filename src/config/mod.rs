//! The configuration file that the daemon, the client and the `LD_PRELOAD` library share: how its lines are read, which
//! keys there are, whose they are, and how their values are written.
//!
//! Pure: callers read the file and the environment themselves. The order of precedence is the C version's: command line,
//! then environment, then file, then default.

pub mod keys;
pub mod reader;
pub mod value;

pub use keys::{KEYS, Key, Owner};
pub use reader::{Line, LineKind, lines};
pub use value::{Verbosity, parse_int, parse_limit, parse_port, parse_size, parse_switch};

/// Where the file is when neither `-c` nor `COORDINATOOL_CONF` says otherwise. It may be missing then.
pub const DEFAULT_PATH: &str = "/etc/coordinatool.conf";
/// Names the file; it must exist then.
pub const CONF_ENV: &str = "COORDINATOOL_CONF";
/// Where the server listens and clients connect to, unless told otherwise.
pub const DEFAULT_HOST: &str = "coordinatool";
/// The port, unless told otherwise.
pub const DEFAULT_PORT: &str = "5123";

/// Something wrong in a configuration, with all that is needed to correct it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `/etc/coordinatool.conf:12`, `COORDINATOOL_PORT`, `--client-grace`.
    pub place: String,
    /// What, and what would be right.
    pub message: String,
}

impl Problem {
    /// A problem at a line of a file.
    pub fn at_line(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { place: format!("{path}:{line}"), message: message.into() }
    }

    /// A problem at an option or a variable.
    pub fn at(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for Problem {}

/// The text for a key that nobody knows, with the nearest one that `owner` knows.
pub fn unknown_key(key: &str, owner: Owner) -> String {
    match keys::nearest(key, owner) {
        Some(near) => format!("skipping unknown key `{key}`: did you mean `{near}`?"),
        None => format!("skipping unknown key `{key}`"),
    }
}
