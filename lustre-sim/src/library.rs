//! Where programs find `liblustreapi.so.1`.

use std::io;
use std::path::{Path, PathBuf};

/// The name programs are linked to.
pub const SONAME: &str = "liblustreapi.so.1";

/// The library beside this program's own file, as a build or an installation puts it.
pub fn find() -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let mut tried = Vec::new();
    for dir in program.ancestors().skip(1).take(2) {
        for name in [SONAME, "liblustreapi.so", "lib/liblustreapi.so.1", "lib/coordinatool/liblustreapi.so.1"]
        {
            let path = dir.join(name);
            if path.is_file() {
                return path.canonicalize();
            }
            tried.push(path.display().to_string());
        }
    }
    let text = format!("{SONAME} not found, looked for {} (build lustre-sim-liblustreapi)", tried.join(", "));
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

/// Makes `dir`, with the library in it under the name that programs are linked to: for `LD_LIBRARY_PATH`.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    let library = find()?;
    std::fs::create_dir_all(dir)?;
    let link = dir.join(SONAME);
    match std::fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(library, link)
}
