//! Cgroups: version 2, alone or beside version 1 ("hybrid"), else any hierarchy of version 1.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use crate::ha::ids::OrderId;

/// Deepest nesting of cgroups below an operation's that is looked at: agents may make some of their own.
const DEPTH: usize = 16;

/// A directory with a cgroup for each operation.
#[derive(Debug, Clone)]
pub struct Cgroups {
    base: PathBuf,
    agent: String,
    /// Version 2 knows of itself whether it is populated, and can be killed as a whole.
    unified: bool,
}

impl Cgroups {
    /// Finds the hierarchy and makes a directory in it; `root` is a hierarchy to use instead of what is mounted.
    ///
    /// # Errors
    /// When none is there that can be written to.
    pub fn open(agent: &str, root: Option<&Path>) -> io::Result<Self> {
        let mounts = match root {
            Some(root) => vec![(root.to_owned(), root.join("cgroup.controllers").exists())],
            None => mounted(&fs::read_to_string("/proc/self/mounts")?),
        };
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "no cgroup file system is mounted");
        for (mount, unified) in mounts {
            let base = mount.join(format!("coordinatool-agent-{agent}"));
            match fs::create_dir(&base) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    failed = io::Error::new(error.kind(), format!("{}: {error}", base.display()));
                }
                _ => return Ok(Self { base, agent: agent.to_owned(), unified }),
            }
        }
        Err(failed)
    }

    /// Where.
    pub fn describe(&self) -> String {
        let version = if self.unified { 2 } else { 1 };
        format!("{} (version {version})", self.base.display())
    }

    /// Whose.
    pub fn agent(&self) -> &str {
        &self.agent
    }

    fn path(&self, order: OrderId) -> PathBuf {
        self.base.join(order.to_string())
    }

    /// A cgroup for an operation: the file that a process writes itself into.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(&self, order: OrderId) -> io::Result<PathBuf> {
        let path = self.path(order);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
            }
            _ => Ok(path.join("cgroup.procs")),
        }
    }

    /// Whether any process is in it, or below it. What cannot be read counts as populated.
    pub fn is_populated(&self, order: OrderId) -> bool {
        populated(&self.path(order), self.unified, 0)
    }

    /// Kills everything in it.
    pub fn kill(&self, order: OrderId) {
        let path = self.path(order);
        if self.unified && fs::write(path.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        kill(&path, 0);
    }

    /// Removes it, with those below it, so that nothing can enter it any more. False when it is still there, since something
    /// entered it meanwhile.
    pub fn remove(&self, order: OrderId) -> bool {
        let path = self.path(order);
        remove(&path, 0);
        match fs::symlink_metadata(&path) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(_) => {
                tracing::debug!("{} is still there", path.display());
                false
            }
        }
    }

    /// Operations whose cgroups are populated. Others are removed.
    pub fn populated(&self) -> Vec<OrderId> {
        let mut found = Vec::new();
        for path in directories(&self.base) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let Ok(order) = name.parse() else { continue };
            if self.is_populated(order) || !self.remove(order) {
                found.push(order);
            }
        }
        found
    }
}

/// Hierarchies of `/proc/self/mounts`, best first, with whether they are version 2.
fn mounted(mounts: &str) -> Vec<(PathBuf, bool)> {
    let mut found: Vec<(u8, PathBuf, bool)> = Vec::new();
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(_), Some(path), Some(kind), Some(options)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let has = |wanted: &str| options.split(',').any(|option| option == wanted);
        let rank = match kind {
            "cgroup2" => 0,
            "cgroup" if has("pids") => 1,
            "cgroup" if has("freezer") => 2,
            "cgroup" if has("name=systemd") => 4,
            "cgroup" => 3,
            _ => continue,
        };
        found.push((rank, PathBuf::from(path.replace("\\040", " ")), kind == "cgroup2"));
    }
    found.sort();
    found.into_iter().map(|(_, path, unified)| (path, unified)).collect()
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.flatten().filter(is_directory).map(|entry| entry.path()).collect()
}

fn populated(path: &Path, unified: bool, depth: usize) -> bool {
    if unified {
        return match fs::read_to_string(path.join("cgroup.events")) {
            Ok(events) => !events.lines().any(|line| line == "populated 0"),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
    }
    match fs::read(path.join("cgroup.procs")) {
        Ok(processes) if processes.is_empty() => {
            depth < DEPTH && directories(path).iter().any(|below| populated(below, unified, depth + 1))
        }
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// For kernels without `cgroup.kill`: whatever is there when it looks. Who forks meanwhile is met the next time.
fn kill(path: &Path, depth: usize) {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    for pid in text.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
    if depth < DEPTH {
        directories(path).iter().for_each(|below| kill(below, depth + 1));
    }
}

fn remove(path: &Path, depth: usize) {
    if depth < DEPTH {
        directories(path).iter().for_each(|below| remove(below, depth + 1));
    }
    let _ = fs::remove_dir(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_is_preferred() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs ro 0 0\n\
            cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n\
            cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
            cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0\n";
        let found: Vec<_> = mounted(hybrid);
        assert_eq!(found[0], ("/sys/fs/cgroup/unified".into(), true));
        assert_eq!(found[1], ("/sys/fs/cgroup/pids".into(), false));
        assert_eq!(found.len(), 4);
        assert!(mounted("proc /proc proc rw 0 0\nbroken").is_empty());
    }

    #[test]
    fn what_something_entered_meanwhile_is_not_gone() {
        let directory = tempfile::tempdir().unwrap();
        let (base, agent) = (directory.path().to_owned(), "a".to_owned());
        let cgroups = Cgroups { base, agent, unified: true };
        let order: OrderId = "1-0000000000000001-1".parse().unwrap();
        assert!(cgroups.remove(order), "there is none");
        let file = cgroups.create(order).unwrap();
        fs::write(cgroups.path(order).join("cgroup.events"), "populated 0\n").unwrap();
        // As a cgroup with a process in it, this directory cannot be removed.
        fs::write(&file, "17\n").unwrap();
        assert!(!cgroups.is_populated(order));
        assert!(!cgroups.remove(order));
        assert_eq!(cgroups.populated(), [order]);
    }

    #[test]
    fn what_cannot_be_read_is_populated() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert!(!populated(path, true, 0), "no cgroup at all");
        fs::create_dir(path.join("cgroup.events")).unwrap();
        assert!(populated(path, true, 0));
        fs::write(path.join("cgroup.procs"), "").unwrap();
        assert!(!populated(path, false, 0));
        fs::create_dir(path.join("below")).unwrap();
        fs::write(path.join("below/cgroup.procs"), "17\n").unwrap();
        assert!(populated(path, false, 0), "one below counts");
    }
}
