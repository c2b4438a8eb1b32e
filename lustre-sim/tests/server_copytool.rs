//! Our copytool on an embedded Lustre, without any coordinator between.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Tests fail by panicking.

mod server;

use lustre_sim::control::{Command, Faults, Until};
use lustreapi_sys::abi::{
    HS_ARCHIVED, HS_DIRTY, HS_EXISTS, HS_RELEASED, HUA_ARCHIVE, HUA_CANCEL, HUA_RELEASE, HUA_REMOVE,
    HUA_RESTORE,
};
use server::{Sim, end};

fn content(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 % 251) as u8).collect()
}

fn round_trip(sim: &Sim, name: &str) {
    let data = content(300_000);
    let file = sim.file(name, &data);
    let mtime = std::fs::metadata(&file).unwrap().modified().unwrap();
    let before = sim.ends().len();
    sim.archive(&file);
    sim.release(&file);
    assert_eq!(sim.flags(&file), HS_EXISTS | HS_ARCHIVED | HS_RELEASED);
    use std::os::unix::fs::MetadataExt;
    let released = std::fs::metadata(&file).unwrap();
    assert_eq!((released.size(), released.blocks()), (300_000, 0));
    assert_eq!(sim.client.read(&file).unwrap(), data);
    assert_eq!(sim.flags(&file), HS_EXISTS | HS_ARCHIVED);
    assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), mtime);
    sim.request(HUA_REMOVE, &file, b"").unwrap();
    sim.wait_state(&file, 0, HS_EXISTS | HS_ARCHIVED);
    assert_eq!(std::fs::read_dir(sim.archive_dir()).unwrap().count(), 0);
    let all = ["ARCHIVE", "RESTORE", "REMOVE"].map(|action| end(action, "SUCCEED", None));
    assert_eq!(sim.ends()[before..], all);
}

#[test]
fn archives_releases_restores_and_removes() {
    let sim = Sim::start(&[]);
    let _copytool = sim.copytool(&[]);
    round_trip(&sim, "f");
    let ledger = sim.client.ledger().unwrap();
    assert_eq!(ledger["entries"][1]["flags"], 4, "a reader waits for this restore");
    assert_eq!(ledger["strays"].as_array().unwrap().len(), 0);
}

#[test]
fn works_as_lemur_does_without_blocking() {
    let sim = Sim::start(&[]);
    let _copytool = sim.copytool(&["--nonblock"]);
    round_trip(&sim, "f");
}

#[test]
fn works_with_a_process_for_each_action() {
    let sim = Sim::start(&[]);
    let _copytool = sim.copytool(&["--fork-per-action"]);
    round_trip(&sim, "f");
}

#[test]
fn works_with_a_pool_of_threads_and_no_progress() {
    let sim = Sim::start(&[]);
    let _copytool = sim.copytool(&["--threads", "2", "--no-progress"]);
    round_trip(&sim, "f");
}

#[test]
fn a_daemon_unregisters_when_it_is_told_to_end() {
    let sim = Sim::start(&[]);
    let _starter = sim.copytool(&["--daemon"]);
    round_trip(&sim, "f");
    let pid = sim.client.calls().unwrap().iter().find(|c| c.name == "CT_START").unwrap().pid;
    // SAFETY: the daemon that registered.
    unsafe { libc::kill(pid as i32, libc::SIGTERM) };
    sim.wait(Until::NoAgents);
    // Calls of its threads are noted when they end, in any order.
    sim.wait(Until::Calls { name: "CT_STOP".into(), at_least: 1 });
    assert!(sim.calls(pid).iter().any(|call| call == "CT_STOP"));
}

#[test]
fn requests_keep_their_data_and_archive_ids() {
    let sim = Sim::start(&[]);
    let files = [sim.file("a", b"1"), sim.file("b", b"2")];
    sim.client.request(HUA_ARCHIVE, 2, 0, &[&files[0]], b"tag=x y").unwrap();
    sim.client.request(HUA_ARCHIVE, 3, 0, &[&files[1]], b"").unwrap();
    let _copytool = sim.copytool(&["-A", "2"]);
    sim.wait_state(&files[0], HS_ARCHIVED, 0);
    assert_eq!(sim.client.state(&files[0]).unwrap().archive_id, 2);
    assert_eq!(sim.flags(&files[1]) & HS_ARCHIVED, 0, "nobody serves archive 3");
    let fid = sim.client.fid(&files[0]).unwrap();
    let journal = sim.journal();
    assert_eq!(journal.len(), 1);
    assert!(
        journal[0].starts_with(&format!("ARCHIVE {fid} ")) && journal[0].ends_with(" tag=x y"),
        "{journal:?}"
    );
}

#[test]
fn a_file_that_changes_while_it_is_archived_is_busy() {
    let sim = Sim::start(&[]);
    let _copytool = sim.copytool(&["--delay-ms", "300000", "--progress-interval", "20"]);
    let file = sim.file("f", b"before");
    sim.request(HUA_ARCHIVE, &file, b"").unwrap();
    sim.wait(Until::Calls { name: "PROGRESS".into(), at_least: 1 });
    std::fs::write(&file, b"after, and longer").unwrap();
    // The copytool's delay ends when its request is cancelled, but here the end shall be its own: another takes over.
    drop(_copytool);
    sim.wait(Until::NoAgents);
    let pid = std::process::id();
    let fid = sim.client.fid(&file).unwrap();
    let cookie = sim.client.ledger().unwrap()["entries"][0]["cookie"].as_u64().unwrap();
    let version = 1u64;
    let error = copy_end(&sim, fid, cookie, version, 0).unwrap_err();
    assert_eq!(error.errno(), Some(libc::EBUSY), "{error} {pid}");
    assert_eq!(sim.ends(), [end("ARCHIVE", "FAILED", Some(libc::EBUSY.into()))]);
}

/// `HSM_COPY_END` of an archive, by hand.
fn copy_end(
    sim: &Sim,
    fid: lustreapi_sys::Fid,
    cookie: u64,
    version: u64,
    errno: u16,
) -> Result<(), lustre_sim::client::ClientError> {
    use std::os::fd::AsFd;
    let mut body = vec![0u8; 88];
    body[0..8].copy_from_slice(&version.to_ne_bytes());
    body[10..12].copy_from_slice(&errno.to_ne_bytes());
    body[16..20].copy_from_slice(&72u32.to_ne_bytes());
    body[20..24].copy_from_slice(&20u32.to_ne_bytes());
    for at in [24, 40] {
        body[at..at + 8].copy_from_slice(&fid.seq.to_ne_bytes());
        body[at + 8..at + 12].copy_from_slice(&fid.oid.to_ne_bytes());
        body[at + 12..at + 16].copy_from_slice(&fid.ver.to_ne_bytes());
    }
    body[64..72].copy_from_slice(&u64::MAX.to_ne_bytes());
    body[72..80].copy_from_slice(&cookie.to_ne_bytes());
    let root = std::fs::File::open(sim.client.root()).unwrap();
    sim.client.ioctl("end", lustreapi_sys::ioctl::HSM_COPY_END, &body, root.as_fd()).map(drop)
}

#[test]
fn data_written_after_archiving_is_dirty_and_cannot_be_released() {
    let sim = Sim::start(&[]);
    let _copytool = sim.copytool(&[]);
    let file = sim.file("f", b"one");
    sim.archive(&file);
    std::fs::write(&file, b"two!").unwrap();
    assert_eq!(sim.flags(&file), HS_EXISTS | HS_ARCHIVED | HS_DIRTY);
    let error = sim.request(HUA_RELEASE, &file, b"").unwrap_err();
    assert_eq!(error.errno(), Some(libc::EPERM));
    assert_eq!(std::fs::read(&file).unwrap(), b"two!");
}

#[test]
fn an_open_file_cannot_be_released() {
    let sim = Sim::start(&[]);
    let _copytool = sim.copytool(&[]);
    let file = sim.file("f", b"data");
    sim.archive(&file);
    let open = std::fs::File::open(&file).unwrap();
    assert_eq!(sim.request(HUA_RELEASE, &file, b"").unwrap_err().errno(), Some(libc::EBUSY));
    drop(open);
    sim.release(&file);
}

#[test]
fn a_cancel_stops_the_copy_at_its_next_progress() {
    let sim = Sim::start(&[]);
    let _copytool = sim.copytool(&["--delay-ms", "600000", "--progress-interval", "20"]);
    let file = sim.file("f", &content(1000));
    sim.request(HUA_ARCHIVE, &file, b"").unwrap();
    sim.wait_started(1);
    sim.request(HUA_CANCEL, &file, b"").unwrap();
    sim.wait_ended(2);
    let ends = sim.ends();
    assert_eq!(ends[0].1, "CANCELED");
    assert_eq!(ends[1], end("CANCEL", "SUCCEED", Some(libc::ECANCELED.into())));
    assert_eq!(sim.flags(&file) & HS_ARCHIVED, 0);
    let refused =
        sim.client.calls().unwrap().into_iter().any(|c| c.name == "PROGRESS" && c.result == -libc::ECANCELED);
    assert!(refused, "the copy learns of it from its progress");
    assert_eq!(std::fs::read_dir(sim.archive_dir()).unwrap().count(), 0, "nothing half-copied stays");
}

#[test]
fn an_acknowledged_cancel_makes_the_copys_own_end_a_stranger() {
    let sim = Sim::start(&[]);
    let _copytool = sim.copytool(&["--delay-ms", "5000", "--no-progress", "--ack-cancel"]);
    let file = sim.file("f", b"data");
    sim.request(HUA_ARCHIVE, &file, b"").unwrap();
    sim.wait(Until::Calls { name: "COPY_START".into(), at_least: 1 });
    sim.request(HUA_CANCEL, &file, b"").unwrap();
    sim.wait(Until::Calls { name: "COPY_END".into(), at_least: 2 });
    let ends: Vec<i32> =
        sim.client.calls().unwrap().into_iter().filter(|c| c.name == "COPY_END").map(|c| c.result).collect();
    assert_eq!(ends, [0, -libc::ENOENT]);
}

#[test]
fn a_killed_copytool_is_no_agent_any_more() {
    let sim = Sim::start(&[]);
    let mut copytool = sim.copytool(&["--delay-ms", "600000"]);
    let file = sim.file("f", b"data");
    sim.request(HUA_ARCHIVE, &file, b"").unwrap();
    sim.wait_started(1);
    copytool.kill();
    sim.wait(Until::NoAgents);
    let actions = sim.client.get_param("mdt.testfs0-MDT0000.hsm.actions").unwrap();
    assert!(actions.contains("status=STARTED"), "{actions}");
    // Nothing is sent again; the MDT gives up after its timeout.
    let _second = sim.copytool(&[]);
    sim.client.command(&Command::Advance { seconds: 3700 }, &[]).unwrap();
    sim.wait_ended(1);
    assert_eq!(sim.ends()[0].1, "CANCELED");
    sim.archive(&file);
}

#[test]
fn the_registration_belongs_to_the_mounts_descriptor_not_to_the_process() {
    let sim = Sim::start(&[]);
    let copytool = sim.copytool(&["--fork-per-action", "--delay-ms", "600000"]);
    let file = sim.file("f", b"data");
    sim.request(HUA_ARCHIVE, &file, b"").unwrap();
    sim.wait(Until::Calls { name: "COPY_START".into(), at_least: 1 });
    let child = sim.client.calls().unwrap().into_iter().find(|c| c.name == "COPY_START").unwrap().pid;
    assert_ne!(child, copytool.0.id());
    drop(copytool);
    sim.client.command(&Command::Sync, &[]).unwrap();
    assert!(
        sim.client.status().unwrap().clients.iter().any(|c| c.registered),
        "the child still has the mount open"
    );
    // SAFETY: the child that carries out the action.
    unsafe { libc::kill(child as i32, libc::SIGKILL) };
    sim.wait(Until::NoAgents);
}

#[test]
fn a_second_copytool_on_the_same_mount_is_refused_and_on_another_is_not() {
    let sim = Sim::start(&["--mount", "{dir}/second"]);
    let _first = sim.copytool(&[]);
    let second = sim.dir.path().join("second");
    let mut command = sim.command(server::programs().join("lustre-sim-copytool"));
    command.arg("--hsm-root").arg(sim.archive_dir()).arg(sim.client.root());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(libc::EEXIST), "{}", String::from_utf8_lossy(&output.stderr));
    let _other = sim.copytool_on(&second, 2, &[]);
    let agents = sim.client.get_param("mdt.testfs0-MDT0001.hsm.agents").unwrap();
    assert_eq!(agents.matches("uuid=").count(), 2, "{agents}");
    round_trip(&sim, "f");
}

#[test]
fn client_numbers_tell_clients_of_one_mount_apart() {
    let sim = Sim::start(&[]);
    let _first = sim.copytool(&[]);
    let mut command = sim.command(server::programs().join("lustre-sim-copytool"));
    command.env(lustre_sim::protocol::CLIENT_VARIABLE, "7");
    command.arg("--hsm-root").arg(sim.archive_dir()).arg(sim.client.root());
    let _second = server::Process(command.spawn().unwrap());
    sim.wait(Until::Agents { at_least: 2 });
}

#[test]
fn files_below_a_directory_of_another_mdt_are_that_mdts() {
    let sim = Sim::start(&[]);
    let _copytool = sim.copytool(&[]);
    sim.client.mkdir(&sim.path("d1"), 1).unwrap();
    std::fs::create_dir(sim.path("d1/sub")).unwrap();
    let (a, b) = (sim.file("a", b"on 0"), sim.file("d1/sub/b", b"on 1"));
    assert_eq!(sim.client.fid(&a).unwrap().to_string(), "[0x200000402:0x1:0x0]");
    assert_eq!(sim.client.fid(&b).unwrap().to_string(), "[0x240000402:0x1:0x0]");
    // One request for both is split; both MDTs start with the same cookie.
    sim.client.request(HUA_ARCHIVE, 0, 0, &[&a, &b], b"").unwrap();
    sim.wait_ended(2);
    let ledger = sim.client.ledger().unwrap();
    let entries = ledger["entries"].as_array().unwrap();
    assert_eq!(entries[0]["cookie"], entries[1]["cookie"]);
    assert_eq!((entries[0]["mdt"].as_u64(), entries[1]["mdt"].as_u64()), (Some(0), Some(1)));
    sim.release(&b);
    assert_eq!(sim.client.read(&b).unwrap(), b"on 1");
}

#[test]
fn a_restore_survives_a_restart_of_its_mdt_and_an_archive_is_forgotten() {
    let sim = Sim::start(&[]);
    let mut copytool = sim.copytool(&[]);
    let (r, a) = (sim.file("r", b"restore me"), sim.file("a", b"archive me"));
    sim.archive(&r);
    sim.release(&r);
    copytool.kill();
    sim.wait(Until::NoAgents);
    let copytool = sim.copytool(&["--delay-ms", "600000", "--progress-interval", "20"]);
    sim.request(HUA_ARCHIVE, &a, b"").unwrap();
    sim.request(HUA_RESTORE, &r, b"").unwrap();
    sim.wait_started(2);
    sim.client.command(&Command::StopMdt { index: 0 }, &[]).unwrap();
    drop(copytool);
    sim.client.command(&Command::StartMdt { index: 0 }, &[]).unwrap();
    sim.wait(Until::NoAgents);
    let _copytool = sim.copytool(&[]);
    sim.wait_state(&r, HS_ARCHIVED, HS_RELEASED);
    assert_eq!(std::fs::read(&r).unwrap(), b"restore me");
    let ends = sim.ends();
    assert_eq!(ends[2], end("RESTORE", "SUCCEED", None));
    assert_eq!(ends[1].1, "STARTED", "the MDT does not know the archive any more");
}

#[test]
fn calls_wait_for_an_mdt_that_is_down() {
    let sim = Sim::start(&[]);
    let file = sim.file("f", b"data");
    sim.client.fid(&file).unwrap();
    sim.client.command(&Command::StopMdt { index: 0 }, &[]).unwrap();
    let waiting = std::thread::spawn({
        let (client, file) = (sim.client.clone(), file.clone());
        move || client.request(HUA_ARCHIVE, 0, 0, &[&file], b"").map_err(|e| e.to_string())
    });
    while sim.client.status().unwrap().blocked_calls == 0 {
        std::thread::yield_now();
    }
    sim.client.command(&Command::StartMdt { index: 0 }, &[]).unwrap();
    waiting.join().unwrap().unwrap();
    assert_eq!(sim.ends().len(), 1);
}

#[test]
fn a_list_may_be_delivered_twice() {
    let sim = Sim::start(&[]);
    sim.client.command(&Command::Faults(Faults { deliver_twice: 1, ..Faults::default() }), &[]).unwrap();
    let _copytool = sim.copytool(&["--fail", "5"]);
    let file = sim.file("f", b"data");
    sim.request(HUA_ARCHIVE, &file, b"").unwrap();
    sim.wait(Until::Calls { name: "COPY_END".into(), at_least: 2 });
    let journal = sim.journal();
    assert_eq!(journal.len(), 2);
    assert_eq!(journal[0], journal[1]);
    assert_eq!(sim.ends(), [end("ARCHIVE", "FAILED", Some(5))]);
}

#[test]
fn lost_lists_are_sent_again() {
    let sim = Sim::start(&[]);
    sim.client.command(&Command::Faults(Faults { fail_deliveries: 1, ..Faults::default() }), &[]).unwrap();
    let _copytool = sim.copytool(&[]);
    let file = sim.file("f", b"data");
    sim.archive(&file);
    assert_eq!(sim.journal().len(), 1);
}

#[test]
fn unmounting_tells_the_copytool() {
    let sim = Sim::start(&[]);
    let mut copytool = sim.copytool(&[]);
    let uuid = sim.client.status().unwrap().clients[0].uuid.clone();
    sim.client.command(&Command::Unmount { uuid }, &[]).unwrap();
    assert_eq!(copytool.0.wait().unwrap().code(), Some(0));
}

#[test]
fn unlinked_files_are_gone() {
    let sim = Sim::start(&[]);
    let file = sim.file("f", b"data");
    let fid = sim.client.fid(&file).unwrap();
    let link = sim.path(".lustre/fid").join(fid.file_name());
    assert!(link.exists());
    std::fs::hard_link(&file, sim.path("other")).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(sim.client.fid(&sim.path("other")).unwrap(), fid, "another name keeps it");
    std::fs::remove_file(sim.path("other")).unwrap();
    sim.client.command(&Command::Sync, &[]).unwrap();
    assert!(!link.exists());
    let error = sim.client.request_fids(HUA_ARCHIVE, 0, 0, &[fid], b"").unwrap_err();
    assert_eq!(error.errno(), Some(libc::ENOENT));
}

#[test]
fn a_restore_of_a_file_that_is_gone_may_be_dropped_without_an_end() {
    let sim = Sim::start(&["--param", "max_requests=1"]);
    let mut copytool = sim.copytool(&[]);
    let file = sim.file("f", b"data");
    sim.archive(&file);
    sim.release(&file);
    copytool.kill();
    sim.wait(Until::NoAgents);
    sim.request(HUA_RESTORE, &file, b"").unwrap();
    sim.client.command(&Command::Faults(Faults { delay_ms: 300, ..Faults::default() }), &[]).unwrap();
    let _copytool = sim.copytool(&["--early-return-on-missing"]);
    std::fs::remove_file(&file).unwrap();
    sim.client.command(&Command::Sync, &[]).unwrap();
    // Whether the list was on its way or was never sent: no end is made by the copytool.
    let ends = |sim: &Sim| sim.client.calls().unwrap().iter().filter(|c| c.name == "COPY_END").count();
    assert_eq!(ends(&sim), 1, "the archive's only");
}

#[test]
fn volatile_files_leave_nothing_behind() {
    let sim = Sim::start(&[]);
    let _copytool = sim.copytool(&[]);
    let file = sim.file("f", b"data");
    sim.archive(&file);
    sim.release(&file);
    sim.client.read(&file).unwrap();
    let names = |dir: &str| {
        let entries = std::fs::read_dir(sim.path(dir)).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names("."), [".lustre", "f"]);
    while names(".lustre/fid").len() > 1 {
        sim.client.command(&Command::Sync, &[]).unwrap();
    }
    assert_eq!(names(".lustre/fid"), ["0x200000402:0x1:0x0"]);
}

/// A full pipe holds up the MDT's thread, as the kernel's `kernel_write` does, and unregistering sets it free.
#[test]
fn a_pipe_that_nobody_reads_blocks_its_writer_only() {
    use std::os::fd::AsFd;
    let sim = Sim::start(&["--param", "max_requests=1000"]);
    let root = std::fs::File::open(sim.client.root()).unwrap();
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    rustix::pipe::fcntl_setpipe_size(&read, 4096).unwrap();
    let register = |flags: u32, end: std::os::fd::BorrowedFd<'_>| {
        let words = [0, 0, std::process::id(), 2, 0, flags];
        let body: Vec<u8> = words.iter().flat_map(|w: &u32| w.to_ne_bytes()).collect();
        let path = lustre_sim::protocol::path_bytes(sim.client.root());
        let fds = [root.as_fd(), end];
        lustre_sim::protocol::call_vec(path, lustreapi_sys::ioctl::HSM_CT_START, 0, &body, &fds).unwrap().0
    };
    assert_eq!(register(lustreapi_sys::abi::LK_FLG_DATANR, write.as_fd()), 0);
    drop(write);
    let files: Vec<_> = (0..100).map(|i| sim.file(&format!("f{i}"), b"data")).collect();
    for file in &files {
        sim.request(HUA_ARCHIVE, file, b"").unwrap();
    }
    while !sim.client.status().unwrap().clients[0].pipe_full {
        std::thread::yield_now();
    }
    let file = &files[0];
    assert!(sim.client.state(file).is_ok(), "others are served meanwhile");
    drop(read);
    assert_eq!(register(lustreapi_sys::abi::LK_FLG_STOP, root.as_fd()), 0);
    sim.wait(Until::NoAgents);
    let _copytool = sim.copytool(&[]);
    sim.wait_ended(100);
    assert!(sim.ends().iter().all(|e| *e == end("ARCHIVE", "SUCCEED", None)));
}

#[test]
fn paths_are_found_after_renames_and_for_several_links() {
    use std::os::fd::AsFd;
    let sim = Sim::start(&[]);
    let file = sim.file("f", b"data");
    let fid = sim.client.fid(&file).unwrap();
    let root = std::fs::File::open(sim.client.root()).unwrap();
    let path = |link: u32| {
        let mut body = vec![0u8; 32 + 4096];
        body[..8].copy_from_slice(&fid.seq.to_ne_bytes());
        body[8..12].copy_from_slice(&fid.oid.to_ne_bytes());
        body[24..28].copy_from_slice(&link.to_ne_bytes());
        body[28..32].copy_from_slice(&4096u32.to_ne_bytes());
        let answer = sim.client.ioctl("path", lustreapi_sys::ioctl::FID2PATH, &body, root.as_fd());
        answer
            .map(|(_, out)| (String::from_utf8_lossy(&out[32..]).trim_end_matches('\0').to_owned(), out[24]))
    };
    assert_eq!(path(0).unwrap(), ("f".to_owned(), 0));
    std::fs::create_dir(sim.path("d")).unwrap();
    std::fs::rename(&file, sim.path("d/g")).unwrap();
    assert_eq!(path(0).unwrap(), ("d/g".to_owned(), 0));
    std::fs::hard_link(sim.path("d/g"), sim.path("e")).unwrap();
    assert_eq!([path(0).unwrap(), path(1).unwrap()], [("d/g".to_owned(), 1), ("e".to_owned(), 1)]);
    assert_eq!(path(2).unwrap_err().errno(), Some(libc::ENOENT));
    std::fs::remove_file(sim.path("d/g")).unwrap();
    std::fs::remove_file(sim.path("e")).unwrap();
    assert_eq!(path(0).unwrap_err().errno(), Some(libc::ENOENT));
}
