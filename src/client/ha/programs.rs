//! Where fence agents are looked for on this host, as the manager does.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Names directories that are searched before the usual ones, separated by colons.
const PATH_VARIABLE: &str = "COORDINATOOL_FENCE_PATH";
const USUAL: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Finds a fence agent by its name.
pub fn fence_agent(name: &str) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).unwrap_or_default();
    let (first, last) = (variable(PATH_VARIABLE), variable("PATH"));
    std::env::split_paths(&first)
        .chain(USUAL.iter().map(PathBuf::from))
        .chain(std::env::split_paths(&last))
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|path| executable(path).is_ok())
}

/// Whether a file can be executed by somebody.
///
/// # Errors
/// Says why not.
pub fn executable(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(data) if data.is_file() && data.permissions().mode() & 0o111 != 0 => Ok(()),
        Ok(_) => Err(format!("{} cannot be executed", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
