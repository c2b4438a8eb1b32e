//! Reporting files: one line per event of a request, for the users who wait for it.
//!
//! They lie in Lustre, so writing may block for as long as an MDT is away: a thread of its own does it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rustix::fs::{AtFlags, Mode, OFlags};

/// Lines that may wait for a file system that does not answer; later ones are dropped and counted.
const MAX_WAITING: usize = 200_000;

enum Job {
    Line { name: String, line: String },
    Remove { name: String },
}

/// Writes reporting files.
#[derive(Debug)]
pub struct Reporting {
    jobs: Option<Sender<Job>>,
    waiting: Arc<AtomicUsize>,
    dropped: u64,
    thread: Option<JoinHandle<()>>,
}

impl Reporting {
    /// Opens the directory, which is created when it is missing, and starts the thread. `dir` is relative to `mount`.
    pub fn start(mount: &Path, dir: &str) -> io::Result<Self> {
        let dir_fd = open_dir(mount, dir)?;
        let (jobs, queue) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&waiting);
        let dir = dir.to_owned();
        let run = move || write_all(&dir_fd, &dir, &queue, &counter);
        let thread = std::thread::Builder::new().name("reporting".into()).spawn(run)?;
        Ok(Self { jobs: Some(jobs), waiting, dropped: 0, thread: Some(thread) })
    }

    /// Appends a line, newline excluded, to the file `name`.
    pub fn line(&mut self, name: String, line: String) {
        self.send(Job::Line { name, line });
    }

    /// Removes the file `name`.
    pub fn remove(&mut self, name: String) {
        self.send(Job::Remove { name });
    }

    fn send(&mut self, job: Job) {
        if self.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
            if self.dropped.is_multiple_of(MAX_WAITING as u64) {
                tracing::warn!(
                    "reporting: {MAX_WAITING} lines wait for the file system, later ones are dropped ({} so far)",
                    self.dropped
                );
            }
            self.dropped += 1;
            return;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }

    /// Lets the thread end once it has written everything; the handle is to be waited for.
    pub fn finish(&mut self) -> Option<JoinHandle<()>> {
        self.jobs = None;
        self.thread.take()
    }
}

fn open_dir(mount: &Path, dir: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(mount, flags, Mode::empty())?;
    match rustix::fs::mkdirat(root.as_fd(), dir, Mode::from_raw_mode(0o711)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(rustix::fs::openat(root.as_fd(), dir, flags, Mode::empty())?)
}

fn write_all(dir_fd: &OwnedFd, dir: &str, queue: &Receiver<Job>, waiting: &AtomicUsize) {
    let mut next = None;
    loop {
        let job = match next.take() {
            Some(job) => job,
            None => match queue.recv() {
                Ok(job) => job,
                Err(_) => return,
            },
        };
        waiting.fetch_sub(1, Ordering::Relaxed);
        match job {
            Job::Line { name, mut line } => {
                line.push('\n');
                // Lines for one file that wait together are written together.
                while line.len() < 1 << 16 {
                    match queue.try_recv() {
                        Ok(Job::Line { name: same, line: more }) if same == name => {
                            waiting.fetch_sub(1, Ordering::Relaxed);
                            line.push_str(&more);
                            line.push('\n');
                        }
                        Ok(other) => {
                            next = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                if let Err(error) = append(dir_fd, &name, line.as_bytes()) {
                    tracing::warn!("reporting: cannot write to {dir}/{name}: {error}");
                }
            }
            Job::Remove { name } => match rustix::fs::unlinkat(dir_fd, &name, AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => tracing::warn!("reporting: cannot remove {dir}/{name}: {error}"),
            },
        }
    }
}

fn append(dir: &OwnedFd, name: &str, mut text: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644))?;
    while !text.is_empty() {
        match rustix::io::write(&file, text) {
            Ok(written) => text = &text[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_in_order_and_files_removed() {
        let mount = tempfile::tempdir().unwrap();
        let mut reporting = Reporting::start(mount.path(), ".reporting").unwrap();
        for n in 0..100 {
            reporting.line(format!("job{}", n % 2), format!("line {n}"));
        }
        reporting.remove("job1".into());
        reporting.remove("never".into());
        reporting.finish().unwrap().join().unwrap();
        let dir = mount.path().join(".reporting");
        let want: String = (0..100).step_by(2).map(|n| format!("line {n}\n")).collect();
        assert_eq!(std::fs::read_to_string(dir.join("job0")).unwrap(), want);
        assert!(!dir.join("job1").exists());
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o711);
    }

    #[test]
    fn links_are_not_followed() {
        let mount = tempfile::tempdir().unwrap();
        std::fs::create_dir(mount.path().join("r")).unwrap();
        std::fs::write(mount.path().join("precious"), "x").unwrap();
        std::os::unix::fs::symlink(mount.path().join("precious"), mount.path().join("r/job")).unwrap();
        let mut reporting = Reporting::start(mount.path(), "r").unwrap();
        reporting.line("job".into(), "new [0x1:0x2:0x0]".into());
        reporting.finish().unwrap().join().unwrap();
        assert_eq!(std::fs::read_to_string(mount.path().join("precious")).unwrap(), "x");
    }
}
