//! An embedded Lustre with files that are archived, and a copytool that does nothing else than say when something came.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coordinatool::lustre::mount::Mount;
use harness::ledger::Entry;
use harness::{Ask, Lustre, Programs, TestDirectory, patience, poll};
use lustreapi_sys::Fid;
use lustreapi_sys::abi::HP_FLAG_COMPLETED;
use lustreapi_sys::ioctl::HSM_PROGRESS;
use lustreapi_sys::kuc::next_frame;
use rustix::event::{PollFd, PollFlags};
use rustix::time::{ClockId, clock_gettime};

use crate::messages::{self, FIRST_COOKIE, ten_bytes};
use crate::server::Core;

/// Nothing is given up while the machine is busy.
const PATIENCE_OF_MDTS: &str = "active_request_timeout=3600";

/// A file system whose files have the FIDs, and whose first MDT gives the cookies, of [`messages`].
#[derive(Debug)]
pub struct Site {
    lustre: Lustre,
    mdts: usize,
    files: u32,
    library: PathBuf,
    // Last: it is removed when all of the above is gone.
    _directory: TestDirectory,
}

impl Site {
    /// Starts one with so many MDTs, each of which hands out so many requests at a time, and files spread over them.
    ///
    /// # Errors
    /// When the embedded Lustre cannot be built.
    pub fn start(mdts: usize, files: u32, at_a_time: u32) -> Result<Self, String> {
        build()?;
        let programs = Programs::find_lustre();
        let directory = TestDirectory::new("bench-lustre");
        directory.subdirectory("logs");
        let library = programs.provide_liblustreapi(&directory.subdirectory("lib"));
        let parameters =
            [format!("max_requests={at_a_time}"), "loop_period=1".into(), PATIENCE_OF_MDTS.into()];
        let first = ["--wall".to_owned(), (FIRST_COOKIE - 1).to_string()];
        let lustre = Lustre::start(&programs, &directory, mdts, 1, &parameters, &first);
        let site = Self { lustre, mdts, files, library, _directory: directory };
        for mdt in 0..mdts {
            site.lustre.make_directory(&format!("mdt{mdt}"), mdt);
        }
        for number in 0..files {
            let path = site.mount().join(format!("mdt{}/{number}", number as usize % mdts));
            std::fs::write(&path, "x").map_err(|error| format!("{}: {error}", path.display()))?;
            site.lustre.adopt(&path, &messages::fid(number).to_string());
        }
        Ok(site)
    }

    /// Where it is mounted.
    pub fn mount(&self) -> &Path {
        self.lustre.mount(0)
    }

    /// What makes a program see a Lustre there.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Waits until every MDT has so many agents.
    pub fn wait_agents(&self, count: usize) {
        let there = poll(patience(), || (self.lustre.agents() == count * self.mdts).then_some(()));
        assert!(there.is_some(), "{} agents, not {count} on each MDT", self.lustre.agents());
    }

    /// Requests the archive of all files, each with data of its own.
    ///
    /// # Errors
    /// As the file system says.
    pub fn archive_all(&self) -> Result<(), String> {
        let client = self.lustre.client();
        (0..self.files).try_for_each(|number| {
            let (fid, data) = (messages::fid(number), ten_bytes(number));
            let asked = client.request_fids(Ask::Archive as u32, 1, 0, &[fid], data.as_bytes());
            asked.map_err(|error| error.to_string())
        })
    }

    /// Ends a request at its MDT, as the copytool does that ran it.
    ///
    /// # Errors
    /// As the file system says.
    pub fn end(&self, number: u32) -> Result<(), String> {
        let Fid { seq, oid, ver } = messages::fid(number);
        let cookie = messages::cookie(number);
        let words =
            [seq, u64::from(oid) | u64::from(ver) << 32, cookie, 0, u64::MAX, HP_FLAG_COMPLETED.into()];
        let progress: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
        let root = File::open(self.mount()).map_err(|error| error.to_string())?;
        let ended = self.lustre.client().ioctl("end", HSM_PROGRESS, &progress, root.as_fd());
        ended.map(drop).map_err(|error| error.to_string())
    }

    /// Looks whether the file system knows of so many requests, sent each once, and whether all have ended there.
    ///
    /// # Errors
    /// Says what is not so.
    pub fn check(&self, count: usize, ended: bool) -> Result<(), String> {
        let right = |entry: &Entry| entry.deliveries == 1 && entry.has_ended() == ended && entry.errno() == 0;
        poll(patience(), || {
            let ledger = self.lustre.ledger();
            (ledger.len() == count && ledger.iter().all(right)).then_some(())
        })
        .ok_or_else(|| {
            format!("not each of {count} requests was sent once{}", if ended { " and ended" } else { "" })
        })
    }
}

/// Builds what the embedded Lustre consists of, as this program was built. The daemon was built with this program.
fn build() -> Result<(), String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    // <profile>/deps/<this program>
    let directory = own.ancestors().nth(2).and_then(Path::file_name).ok_or("this program is in no build")?;
    let profile = if directory == "debug" { "dev".as_ref() } else { directory };
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "-p", "lustre-sim", "-p", "lustre-sim-liblustreapi", "--profile"]);
    command.arg(profile).current_dir(env!("CARGO_MANIFEST_DIR"));
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

/// Since the machine was started; the same for all processes.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The copytool of [`be_copytool`], in a process of its own, on the core of the daemon.
#[derive(Debug)]
pub struct BareCopytool(Child);

impl BareCopytool {
    /// Starts it and waits until it is registered.
    pub fn start(site: &Site) -> Self {
        let mut command = Core::Server.command(std::env::current_exe().expect("this program"));
        command.arg("--copytool").arg(site.mount()).env("LD_PRELOAD", site.library());
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let copytool = Self(child.expect("it starts"));
        site.wait_agents(1);
        copytool
    }

    /// When the next list came to it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn next(&mut self) -> Result<Duration, String> {
        let mut stamp = [0; 8];
        let output = self.0.stdout.as_mut().ok_or("it has no output")?;
        output.read_exact(&mut stamp).map_err(|error| format!("the bare copytool: {error}"))?;
        Ok(Duration::from_nanos(u64::from_ne_bytes(stamp)))
    }
}

impl Drop for BareCopytool {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Registers as a copytool and writes to standard output when each list came: nanoseconds, in eight bytes.
///
/// # Errors
/// When it cannot, or when what comes is no list.
pub fn be_copytool(mount: &Path) -> Result<(), String> {
    // The registration ends with the descriptor of the mount.
    let mount = Mount::open(mount, None).map_err(|error| error.to_string())?;
    let pipe = mount.register(&[]).map_err(|error| error.to_string())?;
    let (mut pending, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let mut ready = [PollFd::new(&pipe, PollFlags::IN)];
        rustix::event::poll(&mut ready, None).map_err(|error| error.to_string())?;
        let count = rustix::io::read(&pipe, &mut buffer).map_err(|error| error.to_string())?;
        let came = now();
        if count == 0 {
            return Ok(());
        }
        pending.extend_from_slice(&buffer[..count]);
        while let Some((_, length)) = next_frame(&pending).map_err(|error| error.to_string())? {
            pending.drain(..length);
            let stamp = u64::try_from(came.as_nanos()).unwrap_or(u64::MAX).to_ne_bytes();
            let mut output = std::io::stdout().lock();
            output.write_all(&stamp).and_then(|()| output.flush()).map_err(|error| error.to_string())?;
        }
    }
}
