//! Asking for work and reading what comes.

use super::*;

#[test]
fn work_is_asked_for_once_and_only_when_wanted() {
    for eager in [false, true] {
        let mut rig = Rig::ready(ShimConfig { eager, ..ShimConfig::default() }, Duration::ZERO);
        assert_eq!(recvs(&rig.sent()), usize::from(eager));
        rig.feed(Event::WorkWanted);
        rig.feed(Event::WorkWanted);
        assert_eq!(recvs(&rig.sent()), usize::from(!eager));
        rig.work(vec![item(Action::Archive, 1)]);
        assert_eq!(recvs(&rig.sent()), 0);
        assert_eq!(rig.take(), [1]);
        rig.feed(Event::Tick);
        assert_eq!(recvs(&rig.sent()), usize::from(eager));
    }
}

#[test]
fn lists_are_read_whatever_way_they_are_cut() {
    for size in [1, 2, 3, 7, 64, 10_000] {
        let mut rig = Rig::ready(ShimConfig { eager: true, ..ShimConfig::default() }, Duration::ZERO);
        for n in 1..4 {
            let mut bytes = Vec::new();
            let items = vec![item(Action::Archive, n), item(Action::Remove, n + 10)];
            write_work(
                &WorkList { archive_id: 1, flags: 0, items, binary_data: true },
                "testfs0",
                &mut bytes,
            );
            bytes.extend_from_slice(b" \n");
            bytes.chunks(size).for_each(|chunk| rig.receive(chunk));
            assert_eq!(rig.take(), [u64::from(n), u64::from(n) + 10], "in pieces of {size}");
            assert!(rig.take().is_empty());
            rig.feed(Event::Tick);
        }
    }
}

#[test]
fn lengths_are_padded_unless_exact_ones_are_asked_for() {
    for (item_length, want) in [(ItemLength::Padded, 80), (ItemLength::Exact, 75)] {
        let mut rig = Rig::ready(ShimConfig { item_length, ..ShimConfig::default() }, Duration::ZERO);
        rig.feed(Event::WorkWanted);
        rig.work(vec![item(Action::Archive, 1)]);
        let bytes = rig.shim.take_list(rig.now).unwrap();
        assert_eq!(u32::from_ne_bytes(bytes[40..44].try_into().unwrap()), want);
    }
}

#[test]
fn what_is_running_is_not_handed_out_twice() {
    let mut rig = Rig::ready(ShimConfig::default(), Duration::ZERO);
    rig.run(&[1]);
    rig.feed(Event::WorkWanted);
    rig.work(vec![item(Action::Archive, 1), item(Action::Archive, 2)]);
    assert_eq!(rig.take(), [2]);
    // Taken and never begun: dropped by the copytool, so it is welcome again.
    rig.feed(Event::WorkWanted);
    rig.work(vec![item(Action::Archive, 2)]);
    assert_eq!(rig.take(), [2]);
}

#[test]
fn any_nonsense_of_the_server_ends_the_connection_only() {
    let unasked: &[u8] =
        b"{\"command\": \"recv\", \"hsm_action_list\": {\"hal_version\": 1, \"hal_archive_id\": 1, \
        \"hal_flags\": 0, \"hal_fsname\": \"testfs0\", \"list\": []}}";
    let cases: [&[u8]; 8] = [
        unasked,
        b"3",
        b"[]",
        b"{\"command\": \"dance\"}",
        b"{\"command\": \"status\"}",
        b"{\"command\": \"ehlo\"}",
        b"{\"command\": \"recv\"}",
        b"{\"command\": \"lease\", \"status\": 22}",
    ];
    for bytes in cases {
        let mut rig = Rig::ready(ShimConfig::default(), Duration::ZERO);
        rig.run(&[1]);
        let conn = rig.conn();
        rig.receive(bytes);
        assert!(rig.asked().contains(&Effect::Close { conn }), "{}", String::from_utf8_lossy(bytes));
        rig.wait(Duration::from_secs(6));
        rig.connect();
        assert_eq!(rig.welcome(Duration::ZERO, Vec::new()).hai_list.unwrap().len(), 1);
    }
}

/// A copytool would take the items for files of its own file system; a name with a NUL moves them in its eyes.
#[test]
fn work_for_another_file_system_is_not_taken() {
    for (fsname, taken) in [("testfs0", true), ("testfs1", false), ("testfs0\\u0000", false), ("", false)] {
        let mut rig = Rig::ready(ShimConfig::default(), Duration::ZERO);
        rig.feed(Event::WorkWanted);
        let conn = rig.conn();
        let list = format!(
            "{{\"command\": \"recv\", \"hsm_action_list\": {{\"hal_version\": 1, \"hal_archive_id\": 1, \
             \"hal_flags\": 0, \"hal_fsname\": \"{fsname}\", \"list\": []}}}}"
        );
        rig.receive(list.as_bytes());
        assert_eq!(!rig.asked().contains(&Effect::Close { conn }), taken, "{fsname:?}");
    }
}
