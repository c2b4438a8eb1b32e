//! What this machine says of itself.

use std::fs;
use std::path::Path;

use crate::ha::ids::BootId;

/// This boot of the kernel, which is in `/proc/sys/kernel/random/boot_id`.
///
/// # Errors
/// When `/proc` is not what it should be.
pub fn boot(path: &Path) -> Result<BootId, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.trim().into())
}

/// The machine's UUID in lower case, where its firmware has one that can be told from others'.
pub fn system_uuid() -> Option<String> {
    let text = fs::read_to_string("/sys/class/dmi/id/product_uuid").ok()?;
    let uuid = text.trim().to_ascii_lowercase();
    let digits = || uuid.bytes().filter(|byte| *byte != b'-');
    // Some boards were never given one.
    let real =
        digits().count() == 32 && digits().any(|digit| digit != b'0') && digits().any(|digit| digit != b'f');
    real.then_some(uuid)
}

/// The name of this machine, as `hostname` prints it.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether this is a machine that somebody else may pause, so that a watchdog of it proves nothing.
pub fn is_virtual() -> bool {
    is_virtual_by(Path::new("/proc/cpuinfo"))
}

fn is_virtual_by(cpuinfo: &Path) -> bool {
    let Ok(text) = fs::read_to_string(cpuinfo) else { return true };
    let flags = text.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|line| line.split_whitespace().any(|flag| flag == "hypervisor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_are_told_by_their_processor() {
        let directory = tempfile::tempdir().unwrap();
        for (text, guest) in [
            ("processor : 0\nflags\t\t: fpu vme hypervisor lahf_lm\n", true),
            ("processor : 0\nflags\t\t: fpu vme lahf_lm\n", false),
            ("processor : 0\n", false),
        ] {
            let path = directory.path().join("cpuinfo");
            fs::write(&path, text).unwrap();
            assert_eq!(is_virtual_by(&path), guest, "{text}");
        }
        assert!(is_virtual_by(&directory.path().join("none")), "in doubt it is one");
    }

    #[test]
    fn this_machine_has_a_boot() {
        assert_eq!(boot(Path::new("/proc/sys/kernel/random/boot_id")).unwrap().as_str().len(), 36);
        assert!(!hostname().is_empty());
    }
}
