//! Requests captured from a real Lustre (2.17.57, two MDTs), and the situation in which it printed them, rebuilt in the
//! embedded one: the same files by FID, the same cookies, the same data.
//!
//! What the real one printed can then be queued with `coordinatool-client -Q`, and the ends count at the MDTs.

use std::path::{Path, PathBuf};

use crate::daemon::{Daemon, Settings};
use crate::files::Request;
use crate::lustre::Ask;
use crate::mover::MoverSettings;
use crate::testbed::{Testbed, TestbedSettings};

/// `lctl get_param mdt.*.hsm.actions` of the real Lustre: six requests that have ended, and on two MDTs eight that wait.
pub const ACTIONS: &str = include_str!("../../data/hsm/actions_queued.txt");

/// `lctl get_param mdt.*.hsm.active_requests` of the real Lustre, a little later: three archives that run.
pub const ACTIVE_REQUESTS: &str = include_str!("../../data/hsm/active_requests_running.txt");

/// The cookie of the first request on each MDT.
const FIRST_COOKIE: u64 = 0x6b00_d4bd;

/// Directories of the files of the two MDTs.
const DIRECTORIES: [&str; 2] = ["captured0", "captured1"];

/// A file of the real Lustre.
#[derive(Debug, Clone, Copy)]
struct CapturedFile {
    name: &'static str,
    mdt: usize,
    fid: &'static str,
}

const fn file(name: &'static str, mdt: usize, fid: &'static str) -> CapturedFile {
    CapturedFile { name, mdt, fid }
}

/// The files in which they appear.
const FILES: [CapturedFile; 10] = [
    file("f", 0, "[0x200000402:0x1:0x0]"),
    file("r1", 0, "[0x200000402:0x5:0x0]"),
    file("r2", 0, "[0x200000402:0x6:0x0]"),
    file("r3", 0, "[0x200000402:0x7:0x0]"),
    file("m1", 0, "[0x200000402:0x8:0x0]"),
    file("a1", 0, "[0x200000402:0xc:0x0]"),
    file("a2", 0, "[0x200000402:0xd:0x0]"),
    file("a3", 0, "[0x200000402:0xe:0x0]"),
    file("a4", 0, "[0x200000402:0xf:0x0]"),
    file("b1", 1, "[0x240000402:0x2:0x0]"),
];

/// The rebuilt situation: the MDTs have handed out eight requests to a coordinator that has forgotten them.
#[derive(Debug)]
pub struct Captured {
    paths: Vec<PathBuf>,
}

impl Captured {
    /// A test bed whose MDTs hand out the real one's cookies.
    pub fn testbed(name: &str) -> TestbedSettings {
        TestbedSettings::new(name).first_cookie(FIRST_COOKIE)
    }

    /// Makes the files and the requests, by way of a daemon without a store and a mover, both of which are gone at the end.
    pub fn rebuild(bed: &Testbed, mover: &MoverSettings) -> Self {
        let lustre = bed.lustre();
        for (mdt, directory) in DIRECTORIES.iter().enumerate() {
            lustre.make_directory(directory, mdt);
        }
        let captured = Self { paths: FILES.iter().map(|file| path(bed, file)).collect() };
        for (path, file) in captured.paths.iter().zip(FILES) {
            std::fs::write(path, format!("{} of a real Lustre\n", file.name)).expect("a file can be written");
            lustre.adopt(path, file.fid);
        }
        let of = |name: &str| -> Vec<PathBuf> {
            FILES.iter().filter(|file| file.name == name).map(|file| path(bed, file)).collect()
        };

        let mut daemon = Daemon::start(bed, &Settings::new().line("store none"));
        let mut mover = mover.start(bed);
        let ended = |count: usize| {
            bed.wait(&format!("{count} requests have ended"), || {
                lustre.ledger().iter().filter(|entry| entry.has_ended()).count() == count
            });
        };
        lustre.request(Ask::Archive, &of("f"), &Request::default());
        ended(1);
        lustre.request(Ask::Release, &of("f"), &Request::default());
        let read = lustre.read(&of("f")[0]).finish_text();
        assert_eq!(read, Ok("f of a real Lustre\n".to_owned()));
        ended(2);
        for (name, count) in [("r1", 3), ("r2", 4), ("r3", 5), ("m1", 6)] {
            lustre.request(Ask::Archive, &of(name), &Request::default());
            ended(count);
        }
        lustre.request(Ask::Release, &of("r1"), &Request::default());
        lustre.request(Ask::Release, &of("r2"), &Request::default());
        mover.stop();

        lustre.request(Ask::Archive, &of("a1"), &Request::data("tag=foo"));
        lustre.request(Ask::Archive, &of("a2"), &Request::data("tag=foo,and so on, 39 bytes of data....."));
        lustre.request(Ask::Archive, &of("a3"), &Request::default());
        lustre.request(Ask::Archive, &of("a4"), &Request { archive_id: Some(2), data: b"x".to_vec() });
        lustre.request(Ask::Restore, &of("r1"), &Request::data("rst"));
        lustre.request(Ask::Restore, &of("r2"), &Request::default());
        lustre.request(Ask::Remove, &of("m1"), &Request::data("rm"));
        lustre.request(Ask::Archive, &of("b1"), &Request::data("mdt1"));
        daemon.wait_known(8);
        daemon.kill();
        captured
    }

    /// All files.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// What a file must contain in the end.
    pub fn content(path: &Path) -> String {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        format!("{name} of a real Lustre\n")
    }
}

fn path(bed: &Testbed, file: &CapturedFile) -> PathBuf {
    bed.mount(0).join(DIRECTORIES[file.mdt]).join(file.name)
}
