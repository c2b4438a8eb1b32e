//! Actions held back by whoever runs a test.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Waits as long as `directory` has a file `all`, or one with the name of the action's data (without the zeros that it is
/// padded with). Data that is no file's name is held by `all` only.
pub fn wait(directory: &Path, data: &[u8]) {
    let end = data.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let name = Path::new(std::ffi::OsStr::from_bytes(&data[..end]));
    let own = (name.components().count() == 1 && !data[..end].contains(&0)).then(|| directory.join(name));
    let all = directory.join("all");
    while all.exists() || own.as_ref().is_some_and(|own| own.exists()) {
        std::thread::sleep(Duration::from_millis(10));
    }
}
