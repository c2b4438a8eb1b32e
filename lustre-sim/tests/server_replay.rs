//! What a real lhsmtool_posix got and did on a real Lustre (`data/lhsmtool_posix.txt`), on the embedded one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Tests fail by panicking.

mod server;

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use lustre_sim::protocol;
use lustreapi_sys::Fid;
use lustreapi_sys::abi::{HS_ARCHIVED, HS_RELEASED, HUA_ARCHIVE, HUA_RELEASE, HUA_REMOVE, HUA_RESTORE};
use lustreapi_sys::ioctl as num;
use server::Sim;

/// The first cookie of the session is one more than this second.
const WALL: &str = "1795216596";
const RECORDED: &str = include_str!("data/lhsmtool_posix.txt");

fn lines(kind: &str) -> impl Iterator<Item = &'static str> {
    RECORDED.lines().filter_map(move |line| line.strip_prefix(kind)).map(str::trim)
}

fn frames() -> Vec<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    lines("frame ").map(|hex| hex.as_bytes().chunks(2).map(byte).collect()).collect()
}

fn calls(what: &str) -> Vec<String> {
    let line = lines("calls ").find_map(|line| line.strip_prefix(what)).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

/// The two files of the session under their FIDs.
fn files(sim: &Sim) -> [std::path::PathBuf; 2] {
    std::fs::create_dir(sim.path("q")).unwrap();
    let files = [sim.file("q/k1", b"k1\n"), sim.file("q/k2", b"k2\n")];
    sim.client.adopt(&files[0], Fid::new(0x2_0000_0402, 0x1d, 0)).unwrap();
    sim.client.adopt(&files[1], Fid::new(0x2_0000_0402, 0x1e, 0)).unwrap();
    files
}

/// A copytool made by hand: registers, reads its pipe raw, ends what it gets.
struct Raw<'a> {
    sim: &'a Sim,
    root: std::fs::File,
    pipe: std::fs::File,
}

impl<'a> Raw<'a> {
    fn register(sim: &'a Sim, archive: u32) -> Self {
        let root = std::fs::File::open(sim.client.root()).unwrap();
        let (read, write): (OwnedFd, OwnedFd) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let words = [0, 0, std::process::id(), 2, 1, 2, archive];
        let body: Vec<u8> = words.iter().flat_map(|w: &u32| w.to_ne_bytes()).collect();
        let path = protocol::path_bytes(sim.client.root());
        let (rc, _) =
            protocol::call_vec(path, num::HSM_CT_START, 0, &body, &[root.as_fd(), write.as_fd()]).unwrap();
        assert_eq!(rc, 0);
        Self { sim, root, pipe: read.into() }
    }

    fn frame(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.pipe.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// `HSM_COPY_START` or `_END` of an item of a frame; returns the structure as it came back.
    fn copy(&self, number: u64, version: &[u8], item: &[u8], dfid: Option<&[u8]>) -> Vec<u8> {
        let mut body = vec![0u8; 88];
        body[..8].copy_from_slice(version);
        body[16..88].copy_from_slice(&item[..72]);
        if let Some(dfid) = dfid {
            body[24..40].copy_from_slice(dfid);
        }
        self.sim.client.ioctl("copy", number, &body, self.root.as_fd()).unwrap().1
    }
}

/// Byte for byte what a real Lustre 2.17.57 wrote into the pipe.
#[test]
fn lists_in_the_pipe_are_the_real_ones_byte_for_byte() {
    let sim = Sim::start(&["--wall", WALL]);
    let [k1, k2] = files(&sim);
    let recorded = frames();
    assert_eq!(recorded.len(), 3);
    let mut raw = Raw::register(&sim, 1);
    sim.client.request(HUA_ARCHIVE, 0, 0, &[&k1, &k2], b"tag=foo").unwrap();
    let first = raw.frame(recorded[0].len());
    assert_eq!(first, recorded[0]);
    for item in [&first[48..], &first[48 + 80..]] {
        let started = raw.copy(num::HSM_COPY_START, &[0; 8], item, None);
        raw.copy(num::HSM_COPY_END, &started[..8], item, None);
    }
    sim.wait_state(&k2, HS_ARCHIVED, 0);
    sim.release(&k1);
    sim.request(HUA_RESTORE, &k1, b"r=1").unwrap();
    let second = raw.frame(recorded[1].len());
    assert_eq!(second, recorded[1]);
    let volatile = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(sim.path("q/volatile"))
        .unwrap();
    let (_, dfid) = sim
        .client
        .ioctl("volatile", protocol::OP_VOLATILE, &(-1i32).to_ne_bytes(), volatile.as_fd())
        .unwrap();
    std::fs::remove_file(sim.path("q/volatile")).unwrap();
    std::io::Write::write_all(&mut &volatile, b"k1\n").unwrap();
    raw.copy(num::HSM_COPY_START, &[0; 8], &second[48..], None);
    raw.copy(num::HSM_COPY_END, &[0; 8], &second[48..], Some(&dfid));
    drop(volatile);
    assert_eq!(sim.flags(&k1) & HS_RELEASED, 0);
    assert_eq!(std::fs::read(&k1).unwrap(), b"k1\n");
    sim.request(HUA_REMOVE, &k2, b"").unwrap();
    assert_eq!(raw.frame(recorded[2].len()), recorded[2]);
}

/// The ioctls of a real lhsmtool_posix, in its order: [`calls`]. `FID2PATH` before and after the copy are that program's
/// own, for its messages; ours does without.
#[test]
fn the_library_makes_the_same_ioctls_in_the_same_order() {
    let sim = Sim::start(&["--wall", WALL]);
    let [k1, _] = files(&sim);
    let copytool = sim.copytool(&["-A", "1"]);
    let pid = copytool.0.id();
    let mut seen = 0;
    let mut new_calls = |sim: &Sim| {
        let all = sim.calls(pid);
        let new = all[seen..].to_vec();
        seen = all.len();
        new
    };
    assert_eq!(new_calls(&sim), calls("register"));
    let own = |what: &str, restore_own: usize| {
        // The program's own calls: the first, and in an archive the one before the end.
        let mut list = calls(what);
        list.remove(0);
        if restore_own > 0 {
            list.remove(list.len() - 2);
        }
        list
    };
    sim.archive(&k1);
    assert_eq!(new_calls(&sim), own("archive", 1));
    sim.request(HUA_RELEASE, &k1, b"").unwrap();
    sim.request(HUA_RESTORE, &k1, b"r=1").unwrap();
    sim.wait_state(&k1, 0, HS_RELEASED);
    assert_eq!(new_calls(&sim), own("restore", 0));
    sim.request(HUA_REMOVE, &k1, b"").unwrap();
    sim.wait_ended(3);
    assert_eq!(new_calls(&sim), own("remove", 0));
    copytool.signal(libc::SIGTERM);
    sim.wait(lustre_sim::control::Until::NoAgents);
    assert_eq!(new_calls(&sim), calls("unregister"));
}
