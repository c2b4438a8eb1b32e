//! A session with a real Lustre 2.17.57 and lhsmtool_posix, repeated with the model: the same calls in the same order at
//! nearly the same times, and after each step everything that `lctl` and `lfs` printed, compared byte for byte.
//!
//! The files under `data/real/` are what the real one printed. Bytes copied are reported here as they stood there; the
//! moments within a second are ours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // In tests.

mod mdt_world;

use lustre_sim::mdt::{Action, Answer, Call, CopyEnd, Errno, Extent, FsConfig, Outcome};
use lustre_sim::mdt::{lfs_hsm_action, lfs_hsm_state};
use lustreapi_sys::Fid;
use mdt_world::{CLIENT, Item, World};

use lustre_sim::mdt::{Cred, Progress};
use lustreapi_sys::abi::HP_FLAG_COMPLETED;

fn real(name: &str) -> String {
    let path = format!("{}/tests/data/real/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn oid(number: u32) -> Fid {
    Fid::new(0x2_0000_0402, number, 0)
}

/// Compares texts line by line.
fn same(what: &str, ours: &str, theirs: &str) {
    for (number, (ours, theirs)) in ours.lines().zip(theirs.lines()).enumerate() {
        assert_eq!(ours, theirs, "{what}, line {}", number + 1);
    }
    assert_eq!(ours, theirs, "{what}");
}

struct Session {
    world: World,
    items: Vec<Item>,
}

impl Session {
    /// Compares `lctl get_param mdt.*.hsm.NAME` of a step.
    fn compare_params(&self, step: &str) {
        for name in ["actions", "active_requests", "agents"] {
            let ours = self.world.fs.get_param(&format!("mdt.*.hsm.{name}")).unwrap();
            same(&format!("{step} {name}"), &ours, &real(&format!("{step}.{name}")));
        }
    }

    /// Compares `lctl get_param mdt.*.hsm.*` with a file that may begin with the command.
    fn compare_all_params(&self, file: &str) {
        let text = real(file);
        let theirs = text.split_once("hsm.*\n").map_or(text.as_str(), |(_, rest)| rest);
        same(file, &self.world.fs.get_param("mdt.*.hsm.*").unwrap(), theirs);
    }

    fn compare_lfs(&mut self, files: &[(&str, Fid)], step: &str) {
        same(step, &self.lfs(files), &real(step));
    }

    fn lfs(&mut self, files: &[(&str, Fid)]) -> String {
        let mut text = String::new();
        for (path, fid) in files {
            let state = self.world.state(*fid);
            let Answer::Action(action) = self.world.ok(Call::CurrentAction { fid: *fid }) else { panic!() };
            text.push_str(&format!("{}\n{}\n", lfs_hsm_state(path, state), lfs_hsm_action(path, action)));
        }
        text
    }

    /// Takes the next list, checks the object ids in it, and keeps its items.
    fn expect_list(&mut self, archive_id: u32, oids: &[i64]) {
        let list = self.world.read_list();
        assert_eq!((list.archive_id, list.oids().as_slice()), (archive_id, oids));
        self.items.extend(list.items);
    }

    fn item(&self, number: u32) -> Item {
        self.items.iter().rev().find(|item| item.fid.oid == number && item.action != 23).unwrap().clone()
    }

    /// The copytool begins an item.
    fn start(&mut self, number: u32) -> u64 {
        let item = self.item(number);
        let action = if item.action == 20 { Action::Archive } else { Action::Restore };
        self.world.copy_start(action, &item).unwrap()
    }

    /// The copytool has copied so many bytes of an item in all.
    fn copied(&mut self, fid: Fid, number: u32, bytes: u64) {
        let cookie = self.item(number).cookie;
        self.world.progress(fid, cookie, 0, bytes).unwrap();
    }

    fn end_archive(&mut self, number: u32, version: u64) {
        let item = self.item(number);
        self.world.copy_end(Action::Archive, item.fid, item.cookie, version, None, 0).unwrap();
    }

    fn end_remove(&mut self, number: u32) {
        let item = self.item(number);
        self.world.copy_end(Action::Remove, item.fid, item.cookie, 0, None, 0).unwrap();
    }

    /// As lhsmtool_posix: the volatile file, then a report of nothing that binds the request to it.
    fn start_restore(&mut self, number: u32, volatile: u32) -> Fid {
        let fid = self.world.volatile();
        assert_eq!(fid.oid, volatile);
        self.start(number);
        self.copied(fid, number, 0);
        fid
    }

    fn end_restore(&mut self, number: u32, volatile: Fid) {
        let item = self.item(number);
        self.world.ok(Call::Write { fid: volatile, version: None });
        self.world.copy_end(Action::Restore, volatile, item.cookie, 0, None, 0).unwrap();
        self.world.ok(Call::Close { fid: volatile });
    }

    /// Files that the real session made besides.
    fn others(&mut self, count: u32) {
        for _ in 0..count {
            self.world.create();
        }
    }

    fn archive(&mut self, number: u32, data: &[u8]) {
        self.world.request(Action::Archive, &[oid(number)], data).unwrap();
    }
}

#[test]
fn every_step_prints_what_a_real_lustre_printed() {
    let mut session = Session { world: World::new(FsConfig::default(), 572_000), items: Vec::new() };

    // The acceptance run: archive, release, restore by reading.
    session.world.to(596_200);
    session.world.register(&[1]);
    session.world.to(598_628);
    let f = session.world.create();
    session.archive(1, b"");
    session.world.to(599_700);
    session.expect_list(1, &[1]);
    let version = session.start(1);
    session.end_archive(1, version);
    session.others(1);
    session.world.to(600_247);
    session.world.ok(Call::Release { fid: f });
    let read = session.world.begin(CLIENT, &Cred::root(), Call::Access { fid: f });
    session.world.to(601_000);
    session.expect_list(1, &[1]);
    assert!(!session.world.replies.contains_key(&read));
    let volatile = session.start_restore(1, 3);
    session.end_restore(1, volatile);
    assert_eq!(session.world.replies[&read], Ok(Answer::Done));
    session.world.ok(Call::Unregister);
    session.world.to(602_000);
    session.compare_all_params("hsm_params_idle_no_copytool");

    // Files that are archived already. The list arrives late, so that the two MDTs do not tick together any more.
    session.world.to(628_000);
    session.world.register(&[1]);
    session.others(1);
    session.others(4);
    session.world.request(Action::Archive, &[oid(5), oid(6), oid(7), oid(8)], b"").unwrap();
    session.world.accepting = false;
    session.world.to(629_500);
    session.world.accepting = true;
    session.world.outcome(Outcome::Accepted, true);
    session.expect_list(1, &[5, 6, 7]);
    for number in 5..8 {
        let version = session.start(number);
        session.end_archive(number, version);
    }
    // The end of the last one wakes the coordinator at once.
    session.expect_list(1, &[8]);
    let version = session.start(8);
    session.end_archive(8, version);
    for number in 5..8 {
        session.world.ok(Call::Release { fid: oid(number) });
    }
    session.world.ok(Call::Unregister);
    session.others(3);
    session.others(4);
    session.world.create_on(1);
    let b1 = session.world.create_on(1);

    // 1: requests without a copytool.
    session.world.to(636_000);
    session.archive(0xc, b"tag=foo");
    session.archive(0xd, b"tag=foo,and=thirty-nine,bytes=of,data=!");
    session.archive(0xe, b"");
    let mut request = lustre_sim::mdt::UserRequest::new(Action::Archive, [oid(0xf)], b"x");
    request.archive_id = 2;
    session.world.ok(Call::Request(request));
    session.world.request(Action::Archive, &[b1], b"mdt1").unwrap();
    session.world.request(Action::Restore, &[oid(5)], b"rst").unwrap();
    session.world.request(Action::Restore, &[oid(6)], b"").unwrap();
    session.world.request(Action::Remove, &[oid(8)], b"rm").unwrap();
    session.world.to(638_000);
    let files = [
        ("a1", oid(0xc)),
        ("a2", oid(0xd)),
        ("a3", oid(0xe)),
        ("a4", oid(0xf)),
        ("m1", oid(8)),
        ("r1", oid(5)),
        ("r2", oid(6)),
        ("r3", oid(7)),
    ];
    session.compare_params("1_queued_no_copytool");
    session.compare_lfs(&files, "1_queued_no_copytool.lfs_state_action");

    // 2: a cancel waits as well.
    session.world.request(Action::Cancel, &[oid(0xe)], b"").unwrap();
    session.world.to(640_000);
    session.compare_params("2_queued_no_copytool_after_cancel_a3");
    session.compare_lfs(&files, "2_queued_no_copytool_after_cancel_a3.lfs_state_action");

    // 3: a copytool comes. MDT0001 sends first; lfs looks while MDT0000 sends.
    session.world.to(648_600);
    session.world.register(&[1, 2]);
    session.world.to(649_100);
    session.compare_params("3_running_t0");
    let mut text = session.lfs(&files[..1]);
    session.expect_list(1, &[2]);
    let b1_item = session.items.pop().unwrap();
    session.world.to(649_600);
    session.expect_list(1, &[0xc, 0xd, 0xe]);
    let versions: Vec<u64> = (0xc..0xf).map(|number| session.start(number)).collect();
    session.copied(oid(0xe), 0xe, 1_048_576);
    text.push_str(&session.lfs(&files[1..]));
    same("3 lfs", &text, &real("3_running_t0.lfs_state_action"));
    let version = session.world.copy_start(Action::Archive, &b1_item).unwrap();
    session.world.copy_end(Action::Archive, b1, b1_item.cookie, version, None, 0).unwrap();

    // 4: five seconds later.
    session.world.to(654_000);
    for (number, bytes) in [(0xc, 7_340_032), (0xd, 7_340_032), (0xe, 9_437_184)] {
        session.copied(oid(number), number, bytes);
    }
    session.compare_params("4_running_t5");
    session.copied(oid(0xe), 0xe, 12_582_912);
    session.compare_lfs(&files, "4_running_t5.lfs_state_action");

    // 5: the cancel of a running request waits behind max_requests.
    session.world.request(Action::Cancel, &[oid(0xd)], b"").unwrap();
    session.world.to(657_000);
    for (number, bytes) in [(0xc, 13_631_488), (0xd, 11_534_336), (0xe, 13_631_488)] {
        session.copied(oid(number), number, bytes);
    }
    session.compare_params("5_running_after_cancel_a2_t6");
    session.compare_lfs(&files, "5_running_after_cancel_a2_t6.lfs_state_action");
    session.copied(oid(0xe), 0xe, 16_777_216);
    session.compare_all_params("hsm_params_running");

    // 6: the housekeeping pass drops a4 for a restore, which short passes do not find again.
    session.world.to(660_000);
    let housekeeping = session.world.next_wake();
    session.world.to(housekeeping - 200);
    session.end_archive(0xe, versions[2]);
    session.world.to(housekeeping);
    session.expect_list(1, &[5]);
    session.end_archive(0xd, versions[1]);
    session.end_archive(0xc, versions[0]);
    session.world.to(housekeeping + 1_000);
    session.expect_list(1, &[6, 8]);
    session.end_remove(8);
    let volatile = session.start_restore(5, 0x10);
    session.end_restore(5, volatile);
    let volatile = session.start_restore(6, 0x11);
    session.world.to(housekeeping + 2_000);
    session.expect_list(1, &[-0xe, -0xd]);
    session.end_restore(6, volatile);
    session.compare_params("6_finished");
    session.compare_lfs(&files, "6_finished.lfs_state_action");

    // 7: the copytool is stopped, its pipe is not.
    session.others(3);
    session.archive(0x12, b"tag=s1");
    session.archive(0x13, b"tag=s2");
    session.archive(0x14, b"tag=s3");
    session.world.request(Action::Remove, &[oid(5)], b"").unwrap();
    session.world.ok(Call::Release { fid: oid(0xc) });
    session.world.request(Action::Restore, &[oid(0xc)], b"").unwrap();
    session.world.wait(2_000);
    let mut files = files.to_vec();
    files.extend([("s1", oid(0x12)), ("s2", oid(0x13)), ("s3", oid(0x14))]);
    session.compare_params("7_sent_to_stopped_copytool");
    session.compare_lfs(&files, "7_sent_to_stopped_copytool.lfs_state_action");

    // 8: a cancel for it.
    session.world.request(Action::Cancel, &[oid(0x13)], b"").unwrap();
    session.world.wait(1_500);
    session.compare_params("8_sent_to_stopped_after_cancel_s2");
    session.compare_lfs(&files, "8_sent_to_stopped_after_cancel_s2.lfs_state_action");

    // 9: it goes on. The last end wakes the coordinator at once; a4 waits for housekeeping.
    let housekeeping = session.world.next_wake();
    session.world.to(housekeeping + 2_000);
    session.expect_list(1, &[0x12, 0x13, 0x14]);
    for number in [0x14, 0x12, 0x13] {
        let version = session.start(number);
        session.end_archive(number, version);
    }
    session.expect_list(1, &[5, 0xc, -0x13]);
    session.end_remove(5);
    session.others(1);
    let a1 = session.start_restore(0xc, 0x16);
    session.copied(a1, 0xc, 9_437_184);
    session.compare_params("9_after_cont");
    session.world.wait(1_500);
    assert_eq!(session.world.lists(), 0);
    let housekeeping = session.world.next_wake();
    session.world.to(housekeeping);
    session.expect_list(2, &[0xf]);
    session.compare_lfs(&files, "9_after_cont.lfs_state_action");
    session.start(0xf);
    session.copied(oid(0xf), 0xf, 1_048_576);
    session.copied(a1, 0xc, 13_631_488);
    session.world.ok(Call::Unregister);
    session.compare_all_params("hsm_params_end");

    // 10: another copytool, stopped as well; everything is sent at once, and the cancel shows.
    session.world.to(764_000);
    session.world.register(&[1, 2]);
    session.others(1);
    session.archive(0x17, b"");
    session.world.to(766_400);
    session.expect_list(1, &[0x17]);
    let version = session.start(0x17);
    session.end_archive(0x17, version);
    session.world.ok(Call::Release { fid: oid(0x17) });
    session.world.set("hsm.max_requests", "1000");
    session.world.set("hsm.loop_period", "1");
    session.others(4);
    session.world.to(767_600);
    session.archive(0x19, b"tag=c1");
    session.archive(0x1a, b"tag=c2");
    session.archive(0x1b, b"tag=c3");
    session.world.request(Action::Restore, &[oid(0x17)], b"re=1").unwrap();
    session.world.request(Action::Remove, &[oid(0x12)], b"rm").unwrap();
    session.world.to(769_000);
    session.world.request(Action::Cancel, &[oid(0x1a)], b"").unwrap();
    session.world.to(770_500);
    let files =
        [("c0", oid(0x17)), ("c1", oid(0x19)), ("c2", oid(0x1a)), ("c3", oid(0x1b)), ("s1", oid(0x12))];
    let shown = |session: &mut Session| {
        let mut text = String::new();
        for name in ["active_requests", "actions", "agents"] {
            text.push_str(&format!("# lctl get_param mdt.*.hsm.{name}\n"));
            text.push_str(&session.world.fs.get_param(&format!("mdt.*.hsm.{name}")).unwrap());
        }
        text + &session.lfs(&files)
    };
    same("10_canceled_flag", &shown(&mut session), &real("10_canceled_flag"));

    // 11: it goes on. The cancelled one learns of it and ends with ECANCELED; nobody acknowledges the cancel itself.
    session.expect_list(1, &[0x19, 0x1a, 0x1b, 0x17, 0x12]);
    session.expect_list(1, &[-0x1a]);
    session.end_remove(0x12);
    let canceled = session.item(0x1a);
    assert_eq!(session.world.copy_start(Action::Archive, &canceled), Err(Errno::CANCELED));
    let end = CopyEnd {
        action: Action::Archive,
        fid: canceled.fid,
        cookie: canceled.cookie,
        extent: Extent::NONE,
        flags: 0,
        errval: Errno::CANCELED.0,
        data_version: 0,
    };
    session.world.ok(Call::CopyEnd(end));
    for number in [0x19, 0x1b] {
        let version = session.start(number);
        session.end_archive(number, version);
    }
    let volatile = session.start_restore(0x17, 0x1c);
    session.end_restore(0x17, volatile);
    session.world.to(775_000);
    same("11_canceled_after_cont", &shown(&mut session), &real("11_canceled_after_cont"));

    // What the ledger says of it all.
    let ends: Vec<u32> = session.world.ledger().iter().map(|entry| entry.accepted_ends).collect();
    assert!(ends.iter().all(|ends| *ends <= 1));
    let progress =
        Progress { flags: HP_FLAG_COMPLETED, ..Progress::keepalive(canceled.fid, canceled.cookie) };
    assert_eq!(session.world.call(Call::Progress(progress)), Err(Errno::NOENT));
    assert_eq!(session.world.fs.mdts()[0].ledger().strays.len(), 1);
}
