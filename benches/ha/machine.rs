//! What the machine is, and what a process uses of it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A description of this machine, a line each.
pub fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(':')).map_or("?".to_owned(), |(_, rest)| rest.trim().to_owned())
    };
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map_or("?".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "date      {}\ncommit    {}\ncpu       {} ({cpus} usable)\nmemory    {}\nkernel    {}\nload      {}\n\
         All on loopback of one machine. Other work on it shows in the load; runs under load are slower.",
        date(),
        said("git", &["describe", "--always", "--dirty"]),
        after(&read("/proc/cpuinfo"), "model name"),
        after(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim(),
        load(),
    )
}

/// Now, in UTC.
pub fn date() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
    output.map_or("?".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The load of the last minute, 5 and 15 minutes.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// A process that is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Watched(pub u32);

impl Watched {
    /// CPU time of all its threads, without that of its children; in steps of 10 ms.
    pub fn cpu(self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    /// Resident memory in MiB: now, and at its height.
    pub fn memory(self) -> (f64, f64) {
        (self.status("VmRSS:") / 1024.0, self.status("VmHWM:") / 1024.0)
    }

    /// Locked memory in MiB.
    pub fn locked(self) -> f64 {
        self.status("VmLck:") / 1024.0
    }

    /// Threads.
    pub fn threads(self) -> f64 {
        self.status("Threads:")
    }

    fn status(self, key: &str) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let value = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        value.unwrap_or(f64::NAN)
    }

    /// Open files.
    pub fn files(self) -> usize {
        fs::read_dir(Path::new("/proc").join(self.0.to_string()).join("fd")).map_or(0, Iterator::count)
    }
}
