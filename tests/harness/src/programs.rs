//! Where the programs under test are.

use std::path::{Path, PathBuf};

/// The programs and libraries of this workspace, as cargo built them.
#[derive(Debug, Clone)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Those of the same build as the running test or program.
    ///
    /// # Panics
    /// When they were not built; says how to build them.
    pub fn find() -> Self {
        Self::with(&[
            "coordinatool",
            "coordinatool-client",
            "lustre-sim",
            "lustre-sim-copytool",
            "liblustreapi.so",
            "libcoordinatool_client.so",
        ])
    }

    /// The same for those of high availability.
    ///
    /// # Panics
    /// When they were not built; says how to build them.
    pub fn find_ha() -> Self {
        Self::with(&["coordinatool", "coordinatool-agent", "coordinatool-client", "halo"])
    }

    /// The same for the embedded Lustre alone.
    ///
    /// # Panics
    /// When they were not built; says how to build them.
    pub fn find_lustre() -> Self {
        Self::with(&["lustre-sim", "liblustreapi.so"])
    }

    fn with(names: &[&str]) -> Self {
        let own = std::env::current_exe().expect("the path of this program is known");
        let mut directory = own.parent().expect("a program is in a directory");
        if directory.file_name().is_some_and(|name| name == "deps" || name == "examples") {
            directory = directory.parent().expect("deps is in the build directory");
        }
        let programs = Self { directory: directory.to_owned() };
        for needed in names {
            let path = programs.directory.join(needed);
            assert!(
                path.exists(),
                "{} is missing: run tests/run.sh, which builds all programs before the tests",
                path.display()
            );
        }
        programs
    }

    /// The path of a program or library.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Makes a directory in which programs find `liblustreapi.so.1` (for `LD_LIBRARY_PATH`), and gives the library's path.
    pub fn provide_liblustreapi(&self, directory: &Path) -> PathBuf {
        let link = directory.join("liblustreapi.so.1");
        if !link.exists() {
            std::os::unix::fs::symlink(self.path("liblustreapi.so"), &link)
                .unwrap_or_else(|error| panic!("cannot make {}: {error}", link.display()));
        }
        link
    }
}
