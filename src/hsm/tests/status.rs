//! `status` in slices.

use super::*;

fn chunks(s: &mut Session, cursor: StatusCursor, limit: usize, out: &mut Vec<u8>) -> bool {
    s.core.status_chunk(s.now, cursor, limit, out)
}

#[test]
fn slices_make_the_same_answer() {
    let mut s = Session::new(HsmConfig {
        batch: batch(10, None, 2),
        host_mappings: vec![any("tag=n0", &["a0"]), any("tag=n1", &["a1", "a2"])],
        ..config()
    });
    s.mover(1, "m0");
    let data = ["", "a", "b", "tag=n0", "tag=n1", "c", "d\0"];
    s.lustre((1..=70).map(|oid| archive(oid, data[oid as usize % 7])).collect());
    s.lustre((80..=90).map(|oid| restore(oid, "")).collect());
    s.lustre(vec![item(Action::Restore, 80, 500, ""), remove(91, &"x".repeat(400))]);
    s.work(1, Recv { max_bytes: 400, ..ANY });
    s.work(1, Recv { max_bytes: 400, ..ANY });
    let whole = s.status(1, 6);
    let parsed: serde_json::Value = serde_json::from_str(&whole).unwrap();
    for oid in (1..=70).chain(80..=91).chain([500]) {
        assert_eq!(whole.matches(&format!("\"hai_cookie\": {oid}, ")).count(), 1, "{oid} is shown once");
    }
    assert_eq!(parsed["command"], "status");
    for limit in [1, 7, 100, 1000] {
        let cursor = status_cursor(&s.message(1, Message::Status { verbose: 6 }));
        let mut out = Vec::new();
        let mut turns = 0;
        while !chunks(&mut s, cursor, limit, &mut out) {
            turns += 1;
            assert!(turns < 100_000);
        }
        assert!(limit > 200 || turns > 5, "it was cut");
        assert_eq!(String::from_utf8(out).unwrap(), whole, "{limit}");
    }
}

/// C: the whole server was blocked, and crashed in a third of the runs with big queues.
#[test]
fn an_answer_survives_what_happens_meanwhile() {
    let mut s = Session::new(config());
    s.mover(1, "m0");
    s.connect(2);
    s.lustre((1..=100).map(|oid| archive(oid, "")).collect());
    for stop in (200..6000).step_by(137) {
        let cursor = status_cursor(&s.message(2, Message::Status { verbose: 6 }));
        let mut out = Vec::new();
        let done = chunks(&mut s, cursor, stop, &mut out);
        // What is next in the list leaves, others come.
        let work = s.work(1, limits(5, 0, 0));
        s.lustre(vec![item(Action::Cancel, 60, 60, ""), archive(60, "")]);
        if !done {
            while !chunks(&mut s, cursor, 500, &mut out) {}
        }
        let text = String::from_utf8(out).unwrap();
        let _: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        for oid in 1..=100u64 {
            let shown = text.matches(&format!("\"hai_cookie\": {oid}, ")).count();
            let moved = work.contains(&oid) || oid == 60;
            assert!(shown == 1 || (moved && shown == 0), "{oid} is shown {shown} times");
        }
        s.disconnect(1);
        s.mover(1, "m0");
        s.pass(1);
    }
}

#[test]
fn a_dropped_answer_is_forgotten() {
    let mut s = Session::new(config());
    s.connect(1);
    s.lustre((1..=10).map(|oid| archive(oid, "")).collect());
    let cursor = status_cursor(&s.message(1, Message::Status { verbose: 6 }));
    let mut out = Vec::new();
    assert!(!chunks(&mut s, cursor, 10, &mut out));
    s.core.status_drop(cursor);
    let len = out.len();
    assert!(chunks(&mut s, cursor, 10, &mut out));
    assert_eq!(out.len(), len);
}

#[test]
fn data_is_shown_as_c_shows_it() {
    let mut s = Session::new(config());
    s.connect(1);
    let mut odd = archive(1, "");
    odd.data = (*b"a\"\xff\tb\0c").into();
    odd.fid = Fid::new(u64::MAX - 1, 0x8000_0001, u32::MAX);
    odd.dfid = odd.fid;
    odd.cookie = u64::MAX;
    s.lustre(vec![odd]);
    let want = "{\"hai_fid\": {\"f_seq\": -2, \"f_oid\": -2147483647, \"f_ver\": -1}, \"hai_cookie\": -1, \
                \"hai_data\": \"a\\\"\u{fffd}\\tb\"}";
    assert!(s.status(1, 6).contains(want));
}
