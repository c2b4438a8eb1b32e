//! What an MDT's HSM coordinator is set to: `active_request_timeout`, `max_requests` and `hsm_control`.
//!
//! They can be read where the MDT is mounted only (`/sys/fs/lustre/mdt`). Elsewhere they may come with a listing of
//! requests, as lines of `lctl get_param`.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Where the kernel shows them.
pub const SYSFS: &str = "/sys/fs/lustre/mdt";

/// A timeout that is longer than this was made so because requests timed out in queues, which they no longer do.
const LONG_TIMEOUT: Duration = Duration::from_secs(86_400);
/// What Lustre sets: too few to keep movers busy.
const FEW_REQUESTS: u64 = 3;
/// MDTs that are remembered; a file system has far fewer.
const MOST_MDTS: usize = 4096;

/// What one MDT is set to, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MdtSettings {
    /// `hsm/active_request_timeout`.
    pub active_request_timeout: Option<Duration>,
    /// `hsm/max_requests`.
    pub max_requests: Option<u64>,
    /// `hsm_control`.
    pub control: Option<Control>,
}

/// State of an MDT's coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Works.
    Enabled,
    /// Takes requests and hands out none.
    Disabled,
    /// Refuses everything.
    Stopped,
}

/// What all MDTs are set to, by their names (`testfs0-MDT0000`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tunables {
    mdts: BTreeMap<String, MdtSettings>,
}

/// Something about the settings that an administrator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// The coordinator does not work.
    NotEnabled(String, Control),
    /// The MDT hands out very few requests at a time.
    FewRequests(String, u64),
    /// The timeout is of the kind that the C version asked for.
    LongTimeout(String, Duration),
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEnabled(mdt, control) => {
                let state = if *control == Control::Disabled { "disabled" } else { "stopped" };
                write!(f, "the HSM coordinator of {mdt} is {state}: it hands out no requests ")?;
                write!(f, "(`lctl set_param mdt.{mdt}.hsm_control=enabled` on its server)")
            }
            Self::FewRequests(mdt, max) => {
                write!(f, "{mdt} hands out {max} requests at a time: raise mdt.{mdt}.hsm.max_requests, ")?;
                write!(f, "or there is nothing to choose from")
            }
            Self::LongTimeout(mdt, timeout) => {
                write!(f, "mdt.{mdt}.hsm.active_request_timeout is {} s: ", timeout.as_secs())?;
                write!(f, "queued requests are kept alive, an hour is enough")
            }
        }
    }
}

impl Tunables {
    /// Reads those of the MDTs of a file system that are mounted here. Nothing is known where there are none.
    pub fn read(sysfs: &Path, fsname: &str) -> io::Result<Self> {
        let mut tunables = Self::default();
        let entries = match std::fs::read_dir(sysfs) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(tunables),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Some(mdt) =
                entry.file_name().to_str().filter(|name| is_mdt_of(name, fsname)).map(str::to_owned)
            else {
                continue;
            };
            for name in NAMES {
                // An MDT that is just being mounted or unmounted has some of them only.
                if let Ok(value) = std::fs::read_to_string(entry.path().join(name)) {
                    tunables.set(&mdt, name, value.trim());
                }
            }
        }
        Ok(tunables)
    }

    /// Takes a line of `lctl get_param`, `mdt.testfs0-MDT0000.hsm.max_requests=1000`. Returns whether it was one of those
    /// that are known, of this file system.
    pub fn line(&mut self, line: &str, fsname: &str) -> bool {
        let Some((name, value)) = line.trim().split_once('=') else { return false };
        let Some((mdt, name)) = name.strip_prefix("mdt.").and_then(|rest| rest.split_once('.')) else {
            return false;
        };
        is_mdt_of(mdt, fsname) && self.set(mdt, &name.replace('.', "/"), value.trim())
    }

    fn set(&mut self, mdt: &str, name: &str, value: &str) -> bool {
        if self.mdts.len() >= MOST_MDTS && !self.mdts.contains_key(mdt) {
            return false;
        }
        let mut settings = self.mdts.get(mdt).cloned().unwrap_or_default();
        match name {
            "hsm/active_request_timeout" => {
                let Ok(seconds) = value.parse() else { return false };
                settings.active_request_timeout = Some(Duration::from_secs(seconds));
            }
            "hsm/max_requests" => {
                let Ok(max) = value.parse() else { return false };
                settings.max_requests = Some(max);
            }
            "hsm_control" => {
                settings.control = Some(match value {
                    "enabled" => Control::Enabled,
                    "disabled" => Control::Disabled,
                    "stopped" => Control::Stopped,
                    // States in between.
                    _ => return false,
                });
            }
            _ => return false,
        }
        self.mdts.insert(mdt.to_owned(), settings);
        true
    }

    /// Takes over what `newer` knows.
    pub fn merge(&mut self, newer: &Self) {
        for (mdt, new) in &newer.mdts {
            let settings = self.mdts.entry(mdt.clone()).or_default();
            settings.active_request_timeout = new.active_request_timeout.or(settings.active_request_timeout);
            settings.max_requests = new.max_requests.or(settings.max_requests);
            settings.control = new.control.or(settings.control);
        }
    }

    /// What each MDT is set to.
    pub fn mdts(&self) -> &BTreeMap<String, MdtSettings> {
        &self.mdts
    }

    /// The shortest `active_request_timeout`: that is the one to be kept.
    pub fn shortest_timeout(&self) -> Option<Duration> {
        self.mdts.values().filter_map(|mdt| mdt.active_request_timeout).min()
    }

    /// What an administrator should know and was not told by `before`.
    pub fn remarks(&self, before: &Self) -> Vec<Remark> {
        let old = before.all_remarks();
        self.all_remarks().into_iter().filter(|remark| !old.contains(remark)).collect()
    }

    fn all_remarks(&self) -> Vec<Remark> {
        let mut remarks = Vec::new();
        for (mdt, settings) in &self.mdts {
            let name = || mdt.clone();
            if let Some(control) = settings.control.filter(|control| *control != Control::Enabled) {
                remarks.push(Remark::NotEnabled(name(), control));
            }
            if let Some(max) = settings.max_requests.filter(|max| *max <= FEW_REQUESTS) {
                remarks.push(Remark::FewRequests(name(), max));
            }
            if let Some(timeout) = settings.active_request_timeout.filter(|timeout| *timeout > LONG_TIMEOUT) {
                remarks.push(Remark::LongTimeout(name(), timeout));
            }
        }
        remarks
    }
}

/// Files below an MDT's directory.
const NAMES: [&str; 3] = ["hsm/active_request_timeout", "hsm/max_requests", "hsm_control"];

/// `testfs0-MDT001a` of `testfs0`. Names of file systems may hold dashes themselves.
fn is_mdt_of(name: &str, fsname: &str) -> bool {
    let index = name.strip_prefix(fsname).and_then(|rest| rest.strip_prefix("-MDT"));
    index.is_some_and(|index| index.len() == 4 && index.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Tunables {
        let mut tunables = Tunables::default();
        for line in lines {
            assert!(tunables.line(line, "lus"), "{line}");
        }
        tunables
    }

    #[test]
    fn lines_of_lctl_are_understood_and_others_left_alone() {
        let tunables = of(&[
            "mdt.lus-MDT0000.hsm.active_request_timeout=3600",
            "mdt.lus-MDT0001.hsm.active_request_timeout=600\n",
            "mdt.lus-MDT0001.hsm.max_requests=1000",
            "mdt.lus-MDT0001.hsm_control=enabled",
        ]);
        assert_eq!(tunables.shortest_timeout(), Some(Duration::from_secs(600)));
        let second = MdtSettings {
            active_request_timeout: Some(Duration::from_secs(600)),
            max_requests: Some(1000),
            control: Some(Control::Enabled),
        };
        assert_eq!(tunables.mdts()["lus-MDT0001"], second);
        let mut same = tunables.clone();
        for line in [
            "mdt.other-MDT0000.hsm.active_request_timeout=1",
            "mdt.lus-MDTxyz1.hsm.active_request_timeout=1",
            "mdt.lus-MDT0000.hsm.active_request_timeout=soon",
            "mdt.lus-MDT0000.hsm.loop_period=1",
            "mdt.lus-MDT0000.hsm_control=stopping",
            "mdt.lus-MDT0000.hsm.actions=",
            "fid=[0x200000401:0x1:0x0] dfid=[0x200000401:0x1:0x0]",
            "",
        ] {
            assert!(!same.line(line, "lus"), "{line}");
        }
        assert_eq!(same, tunables);
    }

    #[test]
    fn they_are_read_where_the_mdt_is() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Tunables::read(&dir.path().join("none"), "lus").unwrap(), Tunables::default());
        for (file, text) in [
            ("lus-MDT0000/hsm/active_request_timeout", "120\n"),
            ("lus-MDT0000/hsm/max_requests", "3\n"),
            ("lus-MDT0000/hsm_control", "stopped\n"),
            ("old-MDT0000/hsm/active_request_timeout", "1\n"),
        ] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let read = Tunables::read(dir.path(), "lus").unwrap();
        let lines = of(&[
            "mdt.lus-MDT0000.hsm.active_request_timeout=120",
            "mdt.lus-MDT0000.hsm.max_requests=3",
            "mdt.lus-MDT0000.hsm_control=stopped",
        ]);
        assert_eq!(read, lines);
    }

    #[test]
    fn what_is_not_said_again_stays() {
        let mut tunables = of(&[
            "mdt.lus-MDT0000.hsm.active_request_timeout=60",
            "mdt.lus-MDT0000.hsm.max_requests=5",
            "mdt.lus-MDT0001.hsm.max_requests=6",
        ]);
        tunables.merge(&of(&["mdt.lus-MDT0000.hsm.max_requests=7", "mdt.lus-MDT0002.hsm_control=enabled"]));
        let wanted = of(&[
            "mdt.lus-MDT0000.hsm.active_request_timeout=60",
            "mdt.lus-MDT0000.hsm.max_requests=7",
            "mdt.lus-MDT0001.hsm.max_requests=6",
            "mdt.lus-MDT0002.hsm_control=enabled",
        ]);
        assert_eq!(tunables, wanted);
    }

    #[test]
    fn what_is_wrong_is_said_once() {
        let before = of(&["mdt.lus-MDT0000.hsm.max_requests=3"]);
        let after = of(&[
            "mdt.lus-MDT0000.hsm.max_requests=3",
            "mdt.lus-MDT0001.hsm.max_requests=4",
            "mdt.lus-MDT0001.hsm_control=disabled",
            "mdt.lus-MDT0001.hsm.active_request_timeout=2678400",
        ]);
        let mdt = || "lus-MDT0001".to_owned();
        let month = Duration::from_secs(2_678_400);
        let wanted = [Remark::NotEnabled(mdt(), Control::Disabled), Remark::LongTimeout(mdt(), month)];
        assert_eq!(after.remarks(&before), wanted);
        assert!(after.remarks(&after).is_empty());
        assert_eq!(after.remarks(&Tunables::default()).len(), 3);
    }
}
