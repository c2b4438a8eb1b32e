//! The library in real copytool processes, against a server that the test plays.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

// Each test program uses its own part.
#[allow(dead_code)]
mod rig;

use rig::*;
use serde_json::json;

/// From register to done; C 0.4 packs the cookie of a done as a 32-bit number ("hai_cookie" comes out truncated, so the
/// request stays running for ever), and gives -EINVAL for get_fd.
#[test]
fn an_archive_from_recv_to_done_keeps_all_bits_of_its_cookie() {
    let server = Server::start();
    let mut puppet = Puppet::start(&server.host(), &[("COORDINATOOL_MAX_ARCHIVE", "3")]);
    puppet.order(&format!("register {} 0 1 2", puppet.mnt().display()));
    let (mut peer, ehlo) = server.welcome();
    assert_eq!(puppet.line("register"), "register 0");
    assert_eq!((&ehlo["id"], &ehlo["fsname"]), (&json!("m0"), &json!("testfs0")));
    assert_eq!(ehlo["archive_ids"], json!([1, 2]));
    assert!(ehlo.get("hai_list").is_none(), "{ehlo}");
    puppet.order("recv");
    let recv = peer.expect("recv");
    assert_eq!(
        (&recv["max_archive"], &recv["max_restore"], &recv["max_bytes"]),
        (&json!(3), &json!(-1), &json!(1048576))
    );
    let cookie = 0x1_6b00_d4d5u64;
    peer.work(1, &[item(ARCHIVE, cookie, 29, "tag=a")]);
    let list = puppet.line("list");
    assert_eq!(
        list,
        "list fs=testfs0 archive=1 flags=0 count=1 size=120 [0 action=20 cookie=0x16b00d4d5 oid=0x1d len=80 \
         data=7461673d61000000] end=120"
    );
    assert_eq!(puppet.call("begin 0"), 0);
    assert_eq!(puppet.call("progress 0 4096"), 0);
    assert_eq!(puppet.call("end 0 0"), 0);
    let done = peer.expect("done");
    assert_eq!(
        (done["hai_cookie"].as_u64(), &done["hai_dfid"], &done["status"]),
        (Some(cookie), &fid(29), &json!(0))
    );
    let asked = puppet.asked();
    assert!(
        asked[0].starts_with("begin cookie=0x16b00d4d5 fid=0x200000402:0x1d action=20 error=0 mnt=/"),
        "{asked:?}"
    );
    assert!(asked[0].ends_with("fds=1"), "{asked:?}");
    assert_eq!(
        asked[1..],
        [
            "progress cookie=0x16b00d4d5 oid=0x1d length=4096",
            "end cookie=0x16b00d4d5 oid=0x1d flags=0 errval=0"
        ]
    );
    assert!(puppet.call("getfd") > 2);
    assert_eq!(puppet.call("unregister"), 0);
    assert_eq!(puppet.call("unregister"), -22);
    puppet.finish();
}

/// The status of a done: the copytool's error, else what the MDT made of the end.
#[test]
fn a_refused_end_is_reported_with_its_errno() {
    let server = Server::start();
    let (mut puppet, mut peer) = server.puppet(&[]);
    puppet.order("recv");
    peer.expect("recv");
    peer.work(1, &[item(ARCHIVE, 1, 1, ""), item(ARCHIVE, 2, 2, ""), item(ARCHIVE, 3, 3, "")]);
    puppet.line("list");
    for (item, errval, real, want) in [(0, 0, -16, 16), (1, 5, 0, 5), (2, -1, 0, 1)] {
        assert_eq!(puppet.call(&format!("set PUPPET_END {real}")), 0);
        assert_eq!(puppet.call(&format!("begin {item}")), 0);
        assert_eq!(puppet.call(&format!("end {item} {errval}")), real);
        assert_eq!(peer.expect("done")["status"], want);
        peer.send(&json!({"command": "done"}));
    }
    puppet.finish();
}

/// lemur registers O_NONBLOCK, waits for the descriptor, calls recv until EAGAIN and takes `hai_len - 72` for the length of
/// the data. Under C 0.4 get_fd gives -EINVAL and rfd_flags are ignored, so it cannot run.
#[test]
fn a_non_blocking_copytool_polls_its_descriptor() {
    let server = Server::start();
    let mut puppet = Puppet::start(&server.host(), &[]);
    puppet.order(&format!("register {} {}", puppet.mnt().display(), libc::O_NONBLOCK));
    let (mut peer, _) = server.welcome();
    puppet.line("register");
    // The server is asked for work although nobody is in recv.
    peer.expect("recv");
    while puppet.call("poll 0") == 1 {
        assert_eq!(puppet.call("recv"), -libc::EAGAIN);
    }
    peer.work(1, &[item(ARCHIVE, 1, 1, "0123456789")]);
    assert_eq!(puppet.call("poll -1"), 1);
    puppet.order("recv");
    let list = puppet.line("list");
    assert!(list.contains("len=82 data=30313233343536373839] end=128"), "{list}");
    peer.expect("recv");
    assert_eq!(puppet.call("recv"), -libc::EAGAIN);
    peer.work(1, &[item(ARCHIVE, 2, 2, "")]);
    assert_eq!(puppet.call("poll -1"), 1);
    puppet.order("recv");
    puppet.line("list");
    puppet.finish();
}

/// A copytool that acknowledges a cancel (as lhsmtool_cmd does) and then ends the cancelled action as well. C 0.4 aborts
/// the whole copytool at the second done: "SIGABRT, status 134".
#[test]
fn a_cancel_and_the_cancelled_action_are_both_acknowledged() {
    let server = Server::start();
    let (mut puppet, mut peer) = server.puppet(&[]);
    puppet.order("loop");
    peer.expect("recv");
    peer.work(1, &[item(ARCHIVE, 7, 7, "")]);
    puppet.line("list");
    assert_eq!(puppet.call("begin 0"), 0);
    peer.expect("recv");
    peer.work(1, &[item(CANCEL, 7, 7, "")]);
    puppet.line("list");
    assert_eq!(puppet.call("begin-error 1"), 0);
    assert_eq!(puppet.call("end 1 0"), 0);
    peer.expect("recv");
    // Not as a success, which the MDT would take for that of the archive.
    assert_eq!(peer.expect("done")["status"], 125);
    peer.send(&json!({"command": "done"}));
    assert_eq!(puppet.call("end 0 125"), 0);
    assert_eq!(peer.expect("done")["status"], 125);
    peer.send(&json!({"command": "done"}));
    puppet.finish();
}

/// An end that was sent but not acknowledged when the server went away. C 0.4: the done is "lost if the socket dies before
/// send ('will resolve on reconnect' but the item is already deleted from its tree, so the server re-runs it)".
#[test]
fn unacknowledged_ends_are_claimed_and_sent_again() {
    let server = Server::start();
    let (mut puppet, mut peer) = server.puppet(&[]);
    puppet.order("loop");
    peer.expect("recv");
    peer.work(1, &[item(ARCHIVE, 1, 1, "x"), item(ARCHIVE, 2, 2, ""), item(ARCHIVE, 3, 3, "")]);
    puppet.line("list");
    peer.expect("recv");
    for i in 0..3 {
        assert_eq!(puppet.call(&format!("begin {i}")), 0);
    }
    assert_eq!(puppet.call("end 0 0"), 0);
    assert_eq!(puppet.call("end 1 5"), 0);
    assert_eq!(peer.expect("done")["hai_cookie"], 1);
    assert_eq!(peer.expect("done")["hai_cookie"], 2);
    peer.send(&json!({"command": "done"}));
    peer.close();
    let (mut peer, ehlo) = server.welcome();
    // The acknowledgement of the first may have been lost with the connection.
    let claims = claimed(&ehlo);
    assert!(claims == [2, 3] || claims == [1, 2, 3] || claims == [3, 1, 2] || claims == [3, 2], "{ehlo}");
    assert_eq!(ehlo["hai_list"][0]["hai_extent_length"], -1);
    let mut again = Vec::new();
    while again.last() != Some(&json!(2)) {
        let done = peer.expect("done");
        peer.send(&json!({"command": "done"}));
        again.push(done["hai_cookie"].clone());
    }
    assert_eq!(again.len(), claims.len() - 1);
    peer.expect("recv");
    assert_eq!(puppet.call("end 2 0"), 0);
    assert_eq!(peer.expect("done")["hai_cookie"], 3);
    puppet.finish();
}

/// Copytools that fork: the child ends what the parent began, or does all of it.
#[test]
fn a_forked_child_may_begin_and_end() {
    let server = Server::start();
    let (mut puppet, mut peer) = server.puppet(&[]);
    puppet.order("recv");
    peer.expect("recv");
    peer.work(1, &[item(ARCHIVE, 1, 1, ""), item(REMOVE, 2, 2, "")]);
    puppet.line("list");
    assert_eq!(puppet.call("begin 0"), 0);
    assert_eq!(puppet.call("fork-end 0 0"), 0);
    assert_eq!(puppet.call("fork-work 1 3"), 0);
    puppet.order("loop");
    assert_eq!((peer.expect("done")["hai_cookie"].as_u64()), Some(1));
    let second = peer.expect("done");
    assert_eq!((second["hai_cookie"].as_u64(), second["status"].as_i64()), (Some(2), Some(3)));
    // The parent's copy of the first handle is forgotten: the request may come again.
    peer.send(&json!({"command": "done"}));
    peer.send(&json!({"command": "done"}));
    peer.expect("recv");
    peer.work(1, &[item(ARCHIVE, 1, 1, "")]);
    puppet.line("list");
    assert_eq!(puppet.call("begin 2"), 0);
    puppet.finish();
}

/// Nobody tells the server what a child does whose parent is gone, and the parent's successor does not claim it: the server
/// gives it to others, and the child stops however long the parent's lease would have held. What it has completed counts.
#[test]
fn a_child_stops_when_its_parent_is_gone() {
    for (lease_ms, progress, withheld) in [(600_000, -libc::ECANCELED, "0xffffffffffffffff"), (0, 0, "0x1")] {
        let server = Server::start();
        let mut puppet = Puppet::start(&server.host(), &[]);
        puppet.order(&format!("register {} 0", puppet.mnt().display()));
        let (mut peer, _) = server.welcome_with(lease_ms, &[]);
        puppet.order("recv");
        peer.expect("recv");
        peer.work(1, &[item(ARCHIVE, 1, 1, ""), item(ARCHIVE, 2, 2, "")]);
        puppet.line("list");
        assert_eq!(puppet.call("begin 0"), 0);
        assert_eq!(puppet.call("begin 1"), 0);
        // The parent exits, and the child takes the orders.
        puppet.order("daemon");
        assert_eq!(puppet.exit(), Some(0));
        puppet.asked();
        assert_eq!(puppet.call("progress 0 10"), progress, "lease of {lease_ms} ms");
        puppet.asked();
        assert_eq!(puppet.call("end 0 125"), 0);
        assert_eq!(puppet.asked(), [format!("end cookie={withheld} oid=0x1 flags=0 errval=125")]);
        assert_eq!(puppet.call("end 1 0"), 0);
        assert_eq!(puppet.asked(), ["end cookie=0x2 oid=0x2 flags=0 errval=0"]);
    }
}

/// The first progress under a restore's volatile file binds it to this mover, so it goes under the file's own FID.
#[test]
fn progress_of_a_restore_does_not_bind_it() {
    let server = Server::start();
    let (mut puppet, mut peer) = server.puppet(&[]);
    puppet.order("recv");
    peer.expect("recv");
    peer.work(1, &[item(RESTORE, 9, 5, "")]);
    puppet.line("list");
    assert_eq!(puppet.call("begin 0"), 0);
    puppet.asked();
    assert_eq!(puppet.call("progress 0 4096"), 0);
    assert_eq!(puppet.asked(), ["ioctl progress cookie=0x9 fid=0x200000402:0x5 length=4096"]);
    for errno in [libc::ECANCELED, libc::ENOENT] {
        puppet.call(&format!("set PUPPET_PROGRESS {}", -errno));
        assert_eq!(puppet.call("progress 0 0"), -errno);
    }
    assert_eq!(puppet.call("end 0 0"), 0);
    // The daemon knows it under the data FID that it gave.
    assert_eq!(peer.expect("done")["hai_dfid"], fid(5));
    puppet.finish();
}

/// After a reconnect another mover has the request: this one stops, and its end does not reach the MDT.
#[test]
fn a_refused_request_is_stopped_without_telling_the_mdt() {
    let server = Server::start();
    let mut puppet = Puppet::start(&server.host(), &[]);
    puppet.order(&format!("register {} 0", puppet.mnt().display()));
    let (mut peer, _) = server.welcome_with(600_000, &[]);
    puppet.order("loop");
    peer.expect("recv");
    peer.work(1, &[item(ARCHIVE, 1, 1, ""), item(ARCHIVE, 2, 2, ""), item(ARCHIVE, 3, 3, "")]);
    puppet.line("list");
    assert_eq!(puppet.call("begin 0"), 0);
    assert_eq!(puppet.call("begin 1"), 0);
    peer.expect("recv");
    peer.close();
    let refused = [1, 3].map(|n| json!({"hai_cookie": n, "hai_fid": fid(n)}));
    let (mut peer, ehlo) = server.welcome_with(600_000, &refused);
    assert_eq!(claimed(&ehlo), [1, 2, 3]);
    // The answer has been read once this comes.
    peer.expect("recv");
    puppet.asked();
    assert_eq!(puppet.call("progress 0 10"), -libc::ECANCELED);
    assert_eq!(puppet.call("end 0 125"), 0);
    assert_eq!(puppet.call("begin 2"), -libc::ECANCELED);
    assert_eq!(puppet.call("begin-error 2"), -libc::ECANCELED);
    assert_eq!(puppet.asked(), ["end cookie=0xffffffffffffffff oid=0x1 flags=0 errval=125"]);
    assert_eq!(puppet.call("progress 1 10"), 0);
    assert_eq!(puppet.call("end 1 0"), 0);
    assert_eq!(peer.expect("done")["hai_cookie"], 2);
    // The other mover failed, and we get it again.
    peer.work(1, &[item(ARCHIVE, 1, 1, "")]);
    puppet.line("list");
    assert_eq!(puppet.call("begin 3"), 0);
    assert_eq!(puppet.call("end 3 0"), 0);
    peer.expect("recv");
    assert_eq!(peer.expect("done")["hai_cookie"], 1);
    puppet.finish();
}

/// A mover cut off from the server: once its lease lapses it begins nothing, stops what shows progress, and gives it back.
#[test]
fn a_lapsed_lease_stops_the_mover() {
    let server = Server::start();
    let mut puppet = Puppet::start(&server.host(), &[]);
    puppet.order(&format!("register {} 0", puppet.mnt().display()));
    let (mut peer, _) = server.welcome_with(1500, &[]);
    puppet.order("loop");
    peer.expect_renewing("recv", 1500);
    peer.work(1, &[item(ARCHIVE, 1, 1, ""), item(ARCHIVE, 2, 2, "")]);
    puppet.line("list");
    assert_eq!(puppet.call("begin 0"), 0);
    assert_eq!(puppet.call("progress 0 10"), 0);
    peer.expect_renewing("recv", 1500);
    peer.close();
    // Nobody answers any more; progress goes well until the lease has lapsed, and never after.
    while puppet.call("progress 0 10") == 0 {}
    assert_eq!(puppet.call("progress 0 10"), -libc::ECANCELED);
    assert_eq!(puppet.call("begin 1"), -libc::ECANCELED);
    puppet.asked();
    assert_eq!(puppet.call("end 0 125"), 0);
    assert_eq!(puppet.asked(), ["end cookie=0xffffffffffffffff oid=0x1 flags=0 errval=125"]);
    // Back again: neither is claimed, so the server gives them to others.
    loop {
        let mut peer = server.accept();
        let ehlo = peer.expect("ehlo");
        if claimed(&ehlo).is_empty() {
            break;
        }
        // A connection from before they were given up.
        peer.close();
    }
    puppet.finish();
}

/// A copytool of one thread that copies for long: progress keeps the lease.
#[test]
fn progress_renews_the_lease() {
    let server = Server::start();
    let mut puppet = Puppet::start(&server.host(), &[]);
    puppet.order(&format!("register {} 0", puppet.mnt().display()));
    let (mut peer, _) = server.welcome_with(3000, &[]);
    puppet.order("recv");
    peer.expect_renewing("recv", 3000);
    peer.work(1, &[item(ARCHIVE, 1, 1, "")]);
    puppet.line("list");
    assert_eq!(puppet.call("begin 0"), 0);
    let mut renewed = 0;
    peer.nonblocking(true);
    while renewed < 4 {
        assert_eq!(puppet.call("progress 0 10"), 0);
        while let Some(message) = peer.try_receive() {
            assert_eq!(message["command"], "lease");
            renewed += 1;
            peer.send(&json!({"command": "lease", "serial": message["serial"], "lease_ms": 3000}));
        }
    }
    puppet.finish();
}

/// Several servers, tried in turn; the first is not there.
#[test]
fn servers_are_tried_in_turn() {
    let gone = Server::start().host();
    let server = Server::start();
    let mut puppet = Puppet::start(&format!("{gone},{}", server.host()), &[]);
    puppet.order(&format!("register {} 0", puppet.mnt().display()));
    let (peer, _) = server.welcome();
    assert_eq!(puppet.line("register"), "register 0");
    puppet.order("loop");
    peer.close();
    server.welcome();
    puppet.finish();
}

/// C 0.4 waits in register until there is a server. A mover starts without one and gets its work later; a name that does
/// not exist is an error of the configuration, as in C.
#[test]
fn register_does_not_wait_for_ever() {
    let late = Server::start();
    let host = late.host();
    drop(late);
    let mut puppet = Puppet::start(&host, &[("COORDINATOOL_VERBOSE", "off")]);
    puppet.register(0, "");
    puppet.order("loop");
    let server = Server::at(&host);
    let (mut peer, _) = server.welcome();
    peer.expect("recv");
    puppet.finish();
    let mut puppet = Puppet::start("127.0.0.1:no-such-service", &[("COORDINATOOL_VERBOSE", "off")]);
    let line = format!("register {} 0", puppet.mnt().display());
    assert_eq!(puppet.call(&line), -libc::EIO);
    assert_eq!(puppet.call("register /nowhere 0"), -libc::ENOENT);
    let line = format!("register {} 0 1 -1", puppet.mnt().display());
    assert_eq!(puppet.call(&line), -libc::EINVAL);
    puppet.finish();
}

/// Copytools unregister in the handler of SIGTERM and _exit, whatever their threads are doing.
#[test]
fn unregister_in_a_signal_handler_ends_a_busy_copytool() {
    for round in 0..20 {
        let server = Server::start();
        let mut puppet = Puppet::start(&server.host(), &[("COORDINATOOL_VERBOSE", "off")]);
        puppet.order(&format!("register {} 0", puppet.mnt().display()));
        let (mut peer, _) = server.welcome();
        puppet.line("register");
        assert_eq!(puppet.call("handle"), 0);
        puppet.order("loop");
        peer.expect("recv");
        let items: Vec<_> = (1..=2000).map(|n| item(ARCHIVE, n, n as u32, "")).collect();
        peer.work(1, &items);
        puppet.line("list");
        if round > 0 {
            assert_eq!(puppet.call("work 0"), 0);
            assert_eq!(puppet.call("work 1000"), 0);
            peer.expect("recv");
            for _ in 0..round {
                peer.expect("done");
                peer.send(&json!({"command": "done"}));
            }
        }
        // SAFETY: the process is our child and not yet waited for.
        unsafe { libc::kill(puppet.pid(), libc::SIGTERM) };
        assert_eq!(puppet.exit(), Some(7), "round {round}");
    }
}

/// The server dies while threads report ends: no SIGPIPE, nothing lost, each request ended once it is back. (C 0.4 writes
/// with plain write(): "a server restart can kill the mover".)
#[test]
fn a_server_that_comes_and_goes_loses_nothing() {
    let server = Server::start();
    let (mut puppet, mut peer) = server.puppet(&[("COORDINATOOL_VERBOSE", "off")]);
    puppet.order("loop");
    peer.expect("recv");
    let items: Vec<_> = (1..=1000).map(|n| item(ARCHIVE, n, n as u32, "")).collect();
    peer.work(1, &items);
    puppet.line("list");
    puppet.order("work 0");
    let mut known = std::collections::BTreeSet::new();
    let mut rounds = 0;
    while known.len() < 1000 {
        // A server that reads some ends, acknowledges fewer, and dies without reading the rest.
        for n in 0..400 {
            let message = peer.receive();
            if message["command"] == "done" {
                known.insert(message["hai_cookie"].as_u64().unwrap());
                if n % 2 == 0 {
                    peer.send(&json!({"command": "done"}));
                }
            }
            if known.len() == 1000 {
                break;
            }
        }
        if known.len() == 1000 {
            break;
        }
        drop(peer);
        rounds += 1;
        let (next, ehlo) = server.welcome();
        peer = next;
        // What was not acknowledged is claimed, so that nobody runs it again.
        for cookie in (1..=1000u64).filter(|cookie| !known.contains(cookie)) {
            assert!(claimed(&ehlo).contains(&cookie), "{cookie} was forgotten");
        }
    }
    assert!(rounds > 0);
    puppet.finish();
}

/// lhsmtool_posix returns without begin and end when the file of a restore is gone. C 0.4: "the slot (max_restore) leaks
/// until that mover reconnects".
#[test]
fn a_request_dropped_for_a_missing_file_is_ended() {
    let server = Server::start();
    let mut puppet = Puppet::start(&server.host(), &[("COORDINATOOL_BEGIN_TIMEOUT", "50")]);
    std::fs::write(puppet.mnt().join(".lustre/fid/0x200000402:0x2:0x0"), "").unwrap();
    puppet.order(&format!("register {} 0", puppet.mnt().display()));
    let (mut peer, _) = server.welcome();
    puppet.order("loop");
    peer.expect("recv");
    peer.work(1, &[item(RESTORE, 1, 1, ""), item(RESTORE, 2, 2, ""), item(REMOVE, 3, 3, "")]);
    puppet.line("list");
    peer.expect("recv");
    let done = peer.expect("done");
    assert_eq!((done["hai_cookie"].as_u64(), done["status"].as_i64()), (Some(1), Some(2)));
    peer.send(&json!({"command": "done"}));
    // It may wake up after all, but does nothing then; the others may still begin.
    assert_eq!(puppet.call("begin 0"), -libc::ECANCELED);
    assert_eq!(puppet.call("begin 1"), 0);
    assert_eq!(puppet.call("begin 2"), 0);
    let mut asked = puppet.asked();
    while asked.len() < 3 {
        asked.extend(puppet.asked());
    }
    asked.sort();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert_eq!(asked[2], "ioctl end cookie=0x1 oid=0x1 errval=2");
    puppet.finish();
}

/// A copytool that becomes a daemon after it has registered.
#[test]
fn a_copytool_may_become_a_daemon() {
    let server = Server::start();
    let (mut puppet, mut peer) = server.puppet(&[]);
    puppet.line("register");
    assert_eq!(puppet.call("daemon"), 0);
    puppet.order("recv");
    peer.expect("recv");
    peer.work(1, &[item(ARCHIVE, 1, 1, "")]);
    puppet.line("list");
    assert_eq!(puppet.call("begin 0"), 0);
    assert_eq!(puppet.call("end 0 0"), 0);
    assert_eq!(peer.expect("done")["hai_cookie"], 1);
}

/// Programs that never register, and handles of other libraries, pass through.
#[test]
fn what_is_not_ours_passes_through() {
    let mut puppet = Puppet::start("127.0.0.1", &[]);
    puppet.order("misuse");
    assert_eq!(puppet.line("misuse"), "misuse -22 -22 -22 -22 -22 -22 -22 0 -22 0 -22 -22 0");
    let asked = puppet.asked();
    assert_eq!(asked[..2], ["real unregister", "real recv"]);
    assert!(asked[2].starts_with("begin cookie=0x4d"), "{asked:?}");
    assert_eq!(asked[3..], ["progress cookie=0x4d oid=0 length=0", "end cookie=0x4d oid=0 flags=0 errval=0"]);
    puppet.finish();
}

/// A server that answers nonsense is left, and tried again; recv never returns an error.
#[test]
fn recv_survives_any_server() {
    let server = Server::start();
    let (mut puppet, mut peer) = server.puppet(&[("COORDINATOOL_VERBOSE", "off")]);
    puppet.line("register");
    puppet.order("recv");
    peer.expect("recv");
    let nonsense: [&[u8]; 6] = [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"3",
        b"{\"command\": \"recv\"}",
        b"{\"command\": \"recv\", \"status\": 22, \"error\": \"Buffer too small\"}",
        b"{\"hsm_action_list\": {\"hal_version\": 2, \"hal_fsname\": \"x\", \"list\": []}, \"command\": \"recv\"}",
        b"",
    ];
    for bytes in nonsense {
        peer.send_raw(bytes);
        if bytes.is_empty() {
            peer.close();
        } else {
            peer.wait_closed();
        }
        if bytes == b"3" {
            // The id is still taken; the next attempt goes well.
            let mut refusing = server.accept();
            refusing.expect("ehlo");
            let error = "id already used by another client";
            refusing.send(&json!({"command": "ehlo", "status": 17, "error": error}));
            refusing.wait_closed();
        }
        (peer, _) = server.welcome();
        peer.expect("recv");
    }
    // White space between objects is harmless, and an object may come in pieces.
    peer.send_raw(
        b" \n{\"hsm_action_list\": {\"hal_version\": 1, \"hal_archive_id\": 1, \"hal_fsname\": \"testfs0\", ",
    );
    peer.send_raw(format!("\"list\": [{}]}}, \"command\": \"recv\"}}\n", item(REMOVE, 1, 1, "")).as_bytes());
    puppet.line("list");
    puppet.finish();
}
