//! Where fence agents are.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Names directories that are searched before the usual ones, separated by colons.
pub const PATH_VARIABLE: &str = "COORDINATOOL_FENCE_PATH";
const USUAL: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Where fence agents are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentPath {
    directories: Vec<PathBuf>,
    stand_in: Option<PathBuf>,
}

impl AgentPath {
    /// The directories of [`PATH_VARIABLE`], `/usr/sbin`, `/sbin`, `/usr/local/sbin`, and those of `PATH`. The daemon also
    /// stands in for ipmitool.
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var_os(name).unwrap_or_default();
        let own = std::env::current_exe().ok();
        let is_daemon = |path: &PathBuf| {
            let name = path.file_name().and_then(OsStr::to_str);
            matches!(name, Some("coordinatool" | "lhsmd_coordinatool"))
        };
        Self { stand_in: own.filter(is_daemon), ..Self::new(&variable(PATH_VARIABLE), &variable("PATH")) }
    }

    /// The same with a program whose `main` begins by standing in for ipmitool where it was called as that.
    pub fn with_stand_in(self, program: PathBuf) -> Self {
        Self { stand_in: Some(program), ..self }
    }

    /// The program that stands in for ipmitool, so that passwords are in no process list.
    pub fn stand_in(&self) -> Option<&PathBuf> {
        self.stand_in.as_ref()
    }

    /// The same with these for the values of both variables.
    pub fn new(first: &OsStr, last: &OsStr) -> Self {
        let mut directories: Vec<PathBuf> = Vec::new();
        let all = std::env::split_paths(first)
            .chain(USUAL.iter().map(PathBuf::from))
            .chain(std::env::split_paths(last));
        for directory in all.filter(|directory| directory.is_absolute()) {
            if !directories.contains(&directory) {
                directories.push(directory);
            }
        }
        Self { directories, stand_in: None }
    }

    /// Finds a program by its name. The error says why there is none.
    pub fn find(&self, name: &str) -> Result<PathBuf, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(allowed) {
            return Err(format!("{name:?} is not the name of a program"));
        }
        let is_program = |path: &PathBuf| {
            path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        };
        let found = self.directories.iter().map(|directory| directory.join(name)).find(is_program);
        found.ok_or_else(|| format!("{name} is not installed: not in {self}"))
    }
}

impl fmt::Display for AgentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directories: Vec<_> =
            self.directories.iter().map(|directory| directory.display().to_string()).collect();
        f.write_str(&directories.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_searched_in_order() {
        let path = AgentPath::new(OsStr::new("/first:relative"), OsStr::new("/usr/sbin:/last::."));
        assert_eq!(path.to_string(), "/first, /usr/sbin, /sbin, /usr/local/sbin, /last");
    }

    #[test]
    fn only_programs_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, mode| {
            std::fs::write(directory.path().join(name), "").unwrap();
            std::fs::set_permissions(directory.path().join(name), std::fs::Permissions::from_mode(mode))
                .unwrap();
        };
        file("fence_good", 0o755);
        file("fence_text", 0o644);
        std::fs::create_dir(directory.path().join("fence_directory")).unwrap();
        let path = AgentPath::new(directory.path().as_os_str(), OsStr::new(""));
        assert_eq!(path.find("fence_good"), Ok(directory.path().join("fence_good")));
        for (name, error) in [
            ("fence_text", "is not installed"),
            ("fence_directory", "is not installed"),
            ("fence_none", "is not installed"),
            ("", "not the name"),
            (".", "not the name"),
            ("../fence_good", "not the name"),
            ("/usr/sbin/fence_good", "not the name"),
            ("fence good", "not the name"),
        ] {
            assert!(path.find(name).is_err_and(|reason| reason.contains(error)), "{name}");
        }
    }
}
