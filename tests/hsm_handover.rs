//! An upgrade closes nothing: the daemon leaves its listening socket and its registration to a service manager, and the
//! next one goes on. The service manager is this test: it keeps descriptors as systemd does (`FDSTORE=1`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use harness::{FileSet, MoverSettings, Process, Request, Settings, TEST_VARIABLE, Testbed};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Keeps descriptors and starts daemons.
struct Manager<'bed> {
    bed: &'bed Testbed,
    socket: UnixDatagram,
    store: Vec<(String, OwnedFd)>,
}

impl<'bed> Manager<'bed> {
    fn new(bed: &'bed Testbed, settings: &Settings) -> Self {
        bed.configure(settings);
        let socket = UnixDatagram::bind(bed.directory().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Self { bed, socket, store: Vec::new() }
    }

    /// Reads one message of the daemon. Returns its text.
    fn message(&mut self) -> Option<String> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let len = recvmsg(&self.socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC).ok()?.bytes;
        let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
        let mut fds: Vec<OwnedFd> = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(found) = message {
                fds.extend(found);
            }
        }
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored").to_owned();
        if text.lines().any(|line| line == "FDSTORE=1") {
            self.store.extend(fds.into_iter().map(|fd| (name.clone(), fd)));
        } else if text.lines().any(|line| line == "FDSTOREREMOVE=1") {
            self.store.retain(|(stored, _)| *stored != name);
        }
        Some(text)
    }

    fn read_messages(&mut self) {
        while self.message().is_some() {}
    }

    /// Starts a daemon with what is stored, and waits until it is ready.
    fn start(&mut self) -> Process {
        let mut process = self.spawn();
        let mut ready = false;
        self.bed.wait_for("the daemon is ready", || {
            ready |= self.message().is_some_and(|text| text.lines().any(|line| line == "READY=1"));
            (ready || !process.is_running()).then_some(())
        });
        assert!(ready, "the daemon ended: {}", process.log());
        self.read_messages();
        process
    }

    fn spawn(&self) -> Process {
        let mut command = Command::new("sh");
        // What is passed is for one process, which must be named.
        command
            .args(["-c", "LISTEN_PID=$$ LD_PRELOAD=$LIBRARY exec \"$0\" \"$@\""])
            .arg(self.bed.programs().path("coordinatool"))
            .args(["-v", "-v", "--config"])
            .arg(self.bed.configuration())
            .arg(self.bed.mount(0))
            .env("LIBRARY", self.bed.liblustreapi())
            .env("NOTIFY_SOCKET", self.bed.directory().join("notify"))
            .env("COORDINATOOL_REDIS_HOST", "")
            .env(TEST_VARIABLE, self.bed.directory());
        if !self.store.is_empty() {
            let names: Vec<&str> = self.store.iter().map(|(name, _)| name.as_str()).collect();
            command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
            let fds = self.store.iter().map(|(_, fd)| fd.try_clone().unwrap());
            let mappings = fds.zip(3..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
            command.fd_mappings(mappings.collect()).unwrap();
        }
        Process::spawn("coordinatool", command, &self.bed.log_path("coordinatool"))
    }

    /// A clean stop, as before a new start.
    fn stop(&mut self, mut process: Process) {
        let status = process.terminate(harness::patience());
        assert!(status.success(), "the daemon stops cleanly, not with {status}: {}", process.log());
        self.read_messages();
    }

    fn stored(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.store.iter().map(|(name, _)| name.split('.').nth(2).unwrap_or_default()).collect();
        names.sort_unstable();
        names
    }
}

fn started(bed: &Testbed, files: &FileSet<'_>) -> bool {
    let fids = files.fids();
    bed.lustre().ledger().iter().filter(|entry| fids.contains(&entry.fid)).all(|entry| entry.deliveries == 1)
        && bed.lustre().ledger().iter().filter(|entry| fids.contains(&entry.fid)).count() == fids.len()
}

/// Requests before, between and after two daemons are each done once, and the MDTs do not notice.
#[test]
fn the_next_daemon_goes_on() {
    let bed = Testbed::start("handover");
    let settings = Settings::three_at_a_time().line("client_grace_ms 60000");
    let mut manager = Manager::new(&bed, &settings);
    let daemon = manager.start();
    let before = FileSet::create(&bed, 0..40);
    before.archive(&Request::default());
    let _mover = MoverSettings::new(&bed, "agent_1", 1).start(&bed);
    bed.wait("some are done", || bed.lustre().ledger().iter().filter(|entry| entry.has_ended()).count() > 5);
    manager.stop(daemon);
    assert_eq!(manager.stored(), ["listener", "pipe", "root"]);

    let between = FileSet::create(&bed, 40..60);
    between.archive(&Request::default());
    // Nobody reads the pipe, but somebody is registered: the MDTs hand out what they get.
    bed.wait("the MDTs send to nobody", || started(&bed, &between));
    assert_eq!(bed.lustre().agents(), bed.mdts());
    // Whoever connects now is served later.
    let waiting = harness::Peer::connect(bed.address()).expect("somebody listens");

    let daemon = manager.start();
    assert!(daemon.log().contains("took over the registration"), "{}", daemon.log());
    assert_eq!(manager.stored(), [""; 0], "the store must not pin the mount");
    drop(waiting);
    let after = FileSet::create(&bed, 60..80);
    after.archive(&Request::default());
    for files in [&before, &between, &after] {
        files.wait_archived();
        files.wait_ended();
        files.check_each_done_once("ARCHIVE");
    }
    manager.stop(daemon);
}

/// As `systemctl stop`, or a unit that failed for good: what nobody takes over ends.
#[test]
fn what_nobody_takes_over_ends() {
    let bed = Testbed::start("handover-none");
    let mut manager = Manager::new(&bed, &Settings::new());
    let daemon = manager.start();
    manager.stop(daemon);
    assert_eq!(bed.lustre().agents(), bed.mdts());
    while manager.store.pop().is_some() {}
    bed.wait("nobody is registered", || bed.lustre().agents() == 0);
    let daemon = manager.start();
    bed.wait("a new one is", || bed.lustre().agents() == bed.mdts());
    manager.stop(daemon);
}

/// A frame may be half read when a daemon dies: the next one registers anew.
#[test]
fn nothing_is_left_by_a_crash() {
    let bed = Testbed::start("handover-crash");
    let mut manager = Manager::new(&bed, &Settings::new());
    let mut daemon = manager.start();
    daemon.kill();
    manager.read_messages();
    assert_eq!(manager.stored(), [""; 0]);
    let daemon = manager.start();
    assert!(daemon.log().contains("Registered lustre copytool"), "{}", daemon.log());
    manager.stop(daemon);
}

/// The last run's registration is for all archives; and then one of a newer version.
#[test]
fn what_does_not_fit_is_given_up_and_made_anew() {
    let bed = Testbed::start("handover-other");
    let mut manager = Manager::new(&bed, &Settings::new());
    let daemon = manager.start();
    manager.stop(daemon);
    bed.configure(&Settings::new().line("archive_id 2"));
    let daemon = manager.start();
    bed.wait("registered for archive 2", || {
        let agents = bed.lustre().parameter_text("hsm.agents");
        agents.matches("archive_id=2 ").count() == bed.mdts() && !agents.contains("ANY")
    });
    assert_eq!(manager.stored(), [""; 0]);
    manager.stop(daemon);

    for (name, _) in &mut manager.store {
        *name = name.replace("coordinatool.1.", "coordinatool.9.");
    }
    let daemon = manager.start();
    bed.wait("registered anew", || bed.lustre().agents() == bed.mdts());
    assert!(daemon.log().contains("is not one of ours"), "{}", daemon.log());
    manager.stop(daemon);
}
