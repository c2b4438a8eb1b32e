//! The hardware watchdog: fed while the manager's lease holds, and not a moment longer.
//!
//! A software watchdog or that of a virtual machine proves nothing to anybody, so it is not used at all. Ending the agent
//! does not disarm a watchdog that was armed: a manager may already count on it. Only a manager that asks for no lease
//! releases it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::time::{Mono, Now};

/// A hardware watchdog.
#[derive(Debug)]
pub struct Watchdog {
    device: PathBuf,
    timeout: Duration,
    /// Open while it is armed.
    armed: Option<File>,
    until: Mono,
    next: Mono,
}

impl Watchdog {
    /// Finds out about a watchdog, without arming it. `class` is `/sys/class/watchdog`.
    ///
    /// # Errors
    /// When it is not there, or proves nothing.
    pub fn find(device: &Path, class: &Path, is_virtual: bool) -> Result<Self, String> {
        let shown = device.display();
        let name = device.file_name().unwrap_or_default();
        let name = if name == "watchdog" { "watchdog0".as_ref() } else { name };
        let about = class.join(name);
        let read = |what: &str| {
            let path = about.join(what);
            fs::read_to_string(&path)
                .map(|text| text.trim().to_owned())
                .map_err(|e| format!("{}: {e}", path.display()))
        };
        let identity = read("identity")?;
        let lower = identity.to_ascii_lowercase();
        if lower.contains("software") || lower.contains("softdog") {
            return Err(format!(
                "{shown} is a software watchdog ({identity}): it dies with the kernel it should reset"
            ));
        }
        if is_virtual {
            return Err(format!("{shown} ({identity}) is in a virtual machine, which may be paused with it"));
        }
        let timeout = read("timeout")?;
        let seconds: u64 =
            timeout.parse().map_err(|_| format!("{shown}: timeout {timeout:?} is not a number"))?;
        if seconds == 0 {
            return Err(format!("{shown} has no timeout"));
        }
        let timeout = Duration::from_secs(seconds);
        Ok(Self { device: device.to_owned(), timeout, armed: None, until: Mono(0), next: Mono(0) })
    }

    /// The time after which it resets the machine.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// It may be fed until then. Arms it.
    ///
    /// # Errors
    /// When the device cannot be opened.
    pub fn feed_until(&mut self, now: Now, until: Mono) -> io::Result<()> {
        self.until = self.until.max(until);
        if self.armed.is_none() {
            self.armed = Some(OpenOptions::new().write(true).open(&self.device)?);
            tracing::warn!(
                "{} is armed: without its manager this machine resets itself",
                self.device.display()
            );
        }
        if self.next == Mono::MAX {
            self.next = now.mono;
        }
        self.tick(now);
        Ok(())
    }

    /// Feeds it if it is due and allowed.
    pub fn tick(&mut self, now: Now) {
        let Some(file) = &mut self.armed else { return };
        if now.mono < self.next {
            return;
        }
        if now.mono >= self.until {
            tracing::error!("the lease is over: {} is not fed any more", self.device.display());
            self.next = Mono::MAX;
            return;
        }
        if let Err(error) = file.write_all(b"\0") {
            tracing::error!("{}: {error}", self.device.display());
        }
        self.next = now.mono + self.timeout / 4;
    }

    /// When [`Watchdog::tick`] is due.
    pub fn next(&self) -> Mono {
        if self.armed.is_some() { self.next } else { Mono::MAX }
    }

    /// Nobody counts on it any more.
    pub fn release(&mut self) {
        let Some(mut file) = self.armed.take() else { return };
        // The magic close of the kernel's watchdog interface.
        match file.write_all(b"V") {
            Ok(()) => tracing::info!("{} is released", self.device.display()),
            Err(error) => tracing::error!("{}: {error}", self.device.display()),
        }
        self.until = Mono(0);
        self.next = Mono(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;

    fn at(seconds: u64) -> Now {
        Now { mono: Mono(seconds * 1_000_000_000), wall: Wall(0) }
    }

    fn place(identity: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let about = directory.path().join("watchdog0");
        fs::create_dir(&about).unwrap();
        fs::write(about.join("identity"), format!("{identity}\n")).unwrap();
        fs::write(about.join("timeout"), "60\n").unwrap();
        let device = directory.path().join("watchdog");
        fs::write(&device, "").unwrap();
        (directory, device)
    }

    #[test]
    fn only_hardware_counts() {
        let (directory, device) = place("iTCO_wdt");
        assert!(Watchdog::find(&device, directory.path(), true).unwrap_err().contains("virtual"));
        assert_eq!(
            Watchdog::find(&device, directory.path(), false).unwrap().timeout(),
            Duration::from_secs(60)
        );
        let (directory, device) = place("Software Watchdog");
        assert!(Watchdog::find(&device, directory.path(), false).unwrap_err().contains("software"));
        assert!(Watchdog::find(Path::new("/dev/watchdog9"), directory.path(), false).is_err());
    }

    #[test]
    fn it_is_fed_only_while_the_lease_holds() {
        let (directory, device) = place("iTCO_wdt");
        let mut watchdog = Watchdog::find(&device, directory.path(), false).unwrap();
        let fed = || fs::read(&device).unwrap();
        watchdog.tick(at(1));
        assert_eq!(fed(), b"", "nobody asked yet");
        watchdog.feed_until(at(1), at(20).mono).unwrap();
        assert_eq!(fed(), b"\0");
        watchdog.tick(at(2));
        assert_eq!(fed(), b"\0", "not due");
        watchdog.tick(at(16));
        assert_eq!(fed(), b"\0\0");
        watchdog.tick(at(31));
        watchdog.tick(at(32));
        assert_eq!(fed(), b"\0\0", "the lease ended at 20");
        watchdog.release();
        assert_eq!(fed(), b"\0\0V");
    }
}
