//! The directory of one test: mounts, configuration, state, archives and logs. It goes when the test passes, and is
//! kept and named when it fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory of its own for one test.
#[derive(Debug)]
pub struct TestDirectory {
    path: PathBuf,
    keep: bool,
}

impl TestDirectory {
    /// Makes a directory below the system's one for temporary files; its name begins with `name`.
    ///
    /// It is not below the build directory because paths of unix sockets are limited to 107 bytes.
    pub fn new(name: &str) -> Self {
        let path = tempfile::Builder::new()
            .prefix(&format!("ct-{name}-"))
            .tempdir()
            .expect("a directory for temporary files can be made")
            .keep();
        let path = path.canonicalize().expect("a directory just made exists");
        Self { path, keep: std::env::var_os("COORDINATOOL_KEEP_LOGS").is_some() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path below it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a directory below it and gives its path.
    pub fn subdirectory(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        path
    }

    /// Leaves it in place at the end.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Detaches file systems still mounted below it, deepest first.
    fn unmount(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below: Vec<&str> = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|point| Path::new(point).starts_with(&self.path))
            .collect();
        for point in below.into_iter().rev() {
            let _ = Command::new("umount").arg("--lazy").arg(point).status();
        }
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        self.unmount();
        if self.keep || std::thread::panicking() {
            eprintln!("logs and files are kept in {}", self.path.display());
        } else {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_what_is_in_it() {
        let directory = TestDirectory::new("self");
        let path = directory.path().to_owned();
        fs::write(directory.subdirectory("a/b").join("c"), "x").unwrap();
        drop(directory);
        assert!(!path.exists());
    }
}
