//! Which daemon is meant.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::Stop;
use super::options::Place;
use crate::client::args::Options as ClientOptions;
use crate::client::settings::{Settings, Surroundings};

/// Where sockets are, unless told.
const DIRECTORY: &str = "/run/coordinatool";

/// The daemon's socket: as told, by the configuration, or the only one there is.
///
/// # Errors
/// When there is none, or several.
pub fn socket(place: &Place) -> Result<PathBuf, Stop> {
    if let Some(socket) = &place.socket {
        return Ok(socket.clone());
    }
    if let Some(name) = &place.fs {
        if name.contains('/') {
            return Err(Stop::Usage(format!("--fs: {name:?} is not the name of a file system")));
        }
        return Ok(Path::new(DIRECTORY).join(format!("hsm-{name}.sock")));
    }
    if let Some(socket) = configured(place, &super::super::System)? {
        return Ok(socket);
    }
    only_one(Path::new(DIRECTORY))
}

/// What the environment or the configuration file says.
fn configured(place: &Place, around: &dyn Surroundings) -> Result<Option<PathBuf>, Stop> {
    let config = place.config.clone().map(PathBuf::into_os_string).map(OsString::into_string).transpose();
    let config = config.map_err(|path| Stop::Usage(format!("--config: {path:?} is not UTF-8")))?;
    let options = ClientOptions { config, ..ClientOptions::default() };
    // Warnings are the other commands' business: this one wants a single key.
    let settings = Settings::resolve(&options, around, &mut Vec::new())
        .map_err(|problem| Stop::Failed(problem.to_string()))?;
    match settings.api_socket {
        Some(none) if none.eq_ignore_ascii_case("none") => Err(Stop::Failed(
            "the configuration says `api_socket none`: the daemon has no API to ask".to_owned(),
        )),
        Some(socket) => Ok(Some(PathBuf::from(socket))),
        None => Ok(None),
    }
}

/// The only socket in a directory on which somebody listens.
fn only_one(directory: &Path) -> Result<PathBuf, Stop> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| name_of(path).is_some() && !is_left_over(path))
        .collect();
    found.sort();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Stop::Failed(format!(
            "no coordinatool daemon runs on this host: there is no hsm-*.sock in {}. Run this on the host of the \
             daemon; `systemctl list-units 'coordinatool*'` shows what runs, --socket PATH asks one that listens elsewhere",
            directory.display()
        ))),
        several => {
            let names: Vec<&str> = several.iter().filter_map(|path| name_of(path)).collect();
            Err(Stop::Usage(format!(
                "several daemons run on this host; --fs says which: {}",
                names.join(", ")
            )))
        }
    }
}

/// `testfs0` of `hsm-testfs0.sock`.
fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_prefix("hsm-")?.strip_suffix(".sock")
}

/// Whether a daemon left it that was killed.
fn is_left_over(path: &Path) -> bool {
    matches!(UnixStream::connect(path), Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn text(result: Result<PathBuf, Stop>) -> String {
        match result {
            Err(Stop::Usage(text) | Stop::Failed(text)) => text,
            Ok(path) => panic!("{}", path.display()),
        }
    }

    #[test]
    fn the_only_daemon_is_found() {
        let dir = tempfile::tempdir().unwrap();
        assert!(text(only_one(dir.path())).contains("no coordinatool daemon runs"));
        assert!(text(only_one(&dir.path().join("missing"))).contains("no coordinatool daemon runs"));
        let path = |name: &str| dir.path().join(name);
        let _other = UnixListener::bind(path("ha.sock")).unwrap();
        let _one = UnixListener::bind(path("hsm-one.sock")).unwrap();
        // Nobody listens any more.
        drop(UnixListener::bind(path("hsm-old.sock")).unwrap());
        assert_eq!(only_one(dir.path()).unwrap(), path("hsm-one.sock"));
        let _two = UnixListener::bind(path("hsm-two.sock")).unwrap();
        assert!(text(only_one(dir.path())).ends_with("one, two"));
    }

    struct World(Option<&'static str>, &'static str);

    impl Surroundings for World {
        fn variable(&self, name: &str) -> Option<OsString> {
            self.0.filter(|_| name == "COORDINATOOL_API_SOCKET").map(OsString::from)
        }

        fn file(&self, _path: &str) -> io::Result<Vec<u8>> {
            Ok(self.1.as_bytes().to_vec())
        }
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let place = Place::default();
        let of = |variable, file| configured(&place, &World(variable, file));
        assert_eq!(of(None, "host h\n").unwrap(), None);
        assert_eq!(of(None, "api_socket /a\n").unwrap(), Some("/a".into()));
        assert_eq!(of(Some("/b"), "api_socket /a\n").unwrap(), Some("/b".into()));
        assert!(matches!(of(None, "api_socket none\n"), Err(Stop::Failed(_))));
    }
}
