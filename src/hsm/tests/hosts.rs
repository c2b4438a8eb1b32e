//! `archive_on_hosts` and `archive_on_hosts_ch`.

use super::*;

fn mapped(mappings: Vec<HostMapping>) -> Session {
    Session::new(HsmConfig { host_mappings: mappings, client_grace: Duration::from_secs(5), ..config() })
}

/// run_tests.sh 10: n0 goes to 0, n1 to 1 and 2, n2 only to 3 since 4 is absent.
#[test]
fn archives_go_to_their_hosts_only() {
    let hosts = vec![any("tag=n0", &["a0"]), any("tag=n1", &["a1", "a2"]), any("tag=n2", &["a3", "a4"])];
    let mut s = mapped(hosts);
    for conn in 0..4 {
        s.mover(conn, &format!("a{conn}"));
    }
    let tags = ["tag=n0", "tag=n1", "tag=n1", "tag=n2", "other"];
    s.lustre((1u32..).zip(tags).map(|(oid, tag)| archive(oid, tag)).collect());
    // Restores are not mapped.
    s.lustre(vec![restore(6, "tag=n0")]);
    assert_eq!(s.work(3, limits(9, 0, 0)), [4, 5]);
    assert_eq!(s.work(1, limits(9, 0, 0)), [2]);
    assert_eq!(s.work(2, ANY), [6, 3]);
    assert_eq!(s.work(0, ANY), [1]);
}

/// run_tests.sh 11: what was for 1 or 2 moves to 2 when 1 is gone, what is for 0 waits for it.
#[test]
fn an_absent_host_keeps_what_only_it_may_take() {
    let mut s = mapped(vec![any("tag=n0", &["a0"]), any("tag=n1", &["a1", "a2"])]);
    s.mover(1, "a1");
    s.lustre(vec![archive(1, "tag=n0"), archive(2, "tag=n1"), archive(3, "tag=n1")]);
    assert_eq!(s.work(1, limits(1, 0, 0)), [2]);
    s.mover(2, "a2");
    assert_eq!(s.work(2, ANY), [3]);
    s.disconnect(1);
    assert_eq!(s.work(2, ANY), [0; 0]);
    assert_eq!(cookies(&s.pass(5), 2), [2]);
    s.pass(60);
    let clients = s.clients(2);
    let absent = &clients[1];
    assert_eq!((&absent["client_id"], &absent["status"]), (&"a0".into(), &"disconnected".into()));
    assert_eq!(absent["waiting_archive"][0]["hai_cookie"], 1);
    s.mover(3, "a0");
    assert_eq!(s.work(3, ANY), [1]);
    s.done(3, 1, 1, 0);
    s.disconnect(3);
    s.pass(6);
    assert_eq!(s.clients(2).len(), 1, "an absent host without work is not shown");
}

/// Requests for several hosts, none of them there, are shown under one of them and taken by any.
#[test]
fn a_set_of_absent_hosts() {
    let mut s = mapped(vec![any("tag=n1", &["a1", "a2"])]);
    s.connect(9);
    s.lustre(vec![archive(1, "tag=n1"), archive(2, "tag=n1")]);
    let clients = s.clients(9);
    assert_eq!(clients.len(), 2);
    assert_eq!(clients[1]["waiting_archive"].as_array().unwrap().len(), 2);
    let other = if clients[1]["client_id"] == "a1" { "a2" } else { "a1" };
    s.mover(1, other);
    assert_eq!(s.status(9, 6).matches("\"hai_cookie\": 1, ").count(), 1);
    assert_eq!(s.work(1, ANY), [1, 2]);
    s.pass(6);
    assert_eq!(s.clients(9).len(), 2, "the absent one is forgotten");
}

/// run_tests.sh 13 and 15; C (30): "`_ch` value re-hashed at each requeue" (7 becomes 8, another mover).
#[test]
fn a_value_is_hashed_once() {
    let cases = [("test0", "7", "a1"), ("test1", "8", "a2"), ("test2", "9", "a0")];
    for (value, sent, host) in cases {
        let mut s = mapped(vec![hash("grouping=", Some(10), &["a0", "a1", "a2"])]);
        s.lustre(vec![archive(1, &format!("x,grouping={value},y"))]);
        for conn in 0..3 {
            s.mover(conn, &format!("a{conn}"));
        }
        let conn: u64 = host[1..].parse().unwrap();
        for again in 0..3 {
            for other in 0..3 {
                let effects = s.recv(other, ANY);
                assert_eq!(cookies(&effects, other).len(), usize::from(other == conn), "{value} {again}");
                if let Some(work) = list(&effects, other) {
                    assert_eq!(*work.items[0].data, *format!("x,grouping={sent},y").as_bytes());
                }
            }
            for other in 0..3 {
                s.disconnect(other);
                s.mover(other, &format!("a{other}"));
            }
        }
        assert!(s.store.iter().any(|op| match op {
            StoreOp::Put(item) => *item.data == *format!("x,grouping={value},y").as_bytes(),
            _ => false,
        }));
    }
}

#[test]
fn data_that_was_cut_short_is_not_hashed() {
    let mut s = mapped(vec![hash("g=", Some(10), &["a0", "a1", "a2"])]);
    s.mover(1, "a0");
    s.mover(2, "a1");
    s.mover(3, "a2");
    s.lustre(vec![ActionItem { extra: "\"hai_data_truncated\":true".into(), ..archive(1, "g=tes") }]);
    let effects = s.recv(1, ANY);
    assert_eq!(&*list(&effects, 1).unwrap().items[0].data, b"g=tes");
}

#[test]
fn a_new_configuration_moves_what_waits() {
    let mut s = mapped(vec![any("tag=n0", &["a0"])]);
    s.mover(1, "a1");
    s.lustre(vec![archive(1, "tag=n0"), archive(2, "")]);
    assert_eq!(s.work(1, ANY), [2]);
    assert_eq!(s.work(1, ANY), [0; 0]);
    let new = HsmConfig { host_mappings: vec![any("tag=n0", &["a1"])], ..config() };
    assert_eq!(cookies(&s.event(Event::Reconfigured(Box::new(new))), 1), [1]);
}

/// Of two requests for one file the second waited behind the first; a new configuration sends it elsewhere.
#[test]
fn a_new_configuration_lets_go_what_waited_for_another_class() {
    let mut s = mapped(Vec::new());
    s.mover(1, "a1");
    let items = [(1, ""), (2, ""), (3, "tag=n0")];
    s.lustre(items.map(|(cookie, data)| item(Action::Archive, 1, cookie, data)).into());
    assert_eq!(s.work(1, ANY), [1]);
    s.lock(1, Lock::Locked);
    s.done(1, 1, 1, 0);
    let new = HsmConfig { host_mappings: vec![any("tag=n0", &["a0"])], ..config() };
    s.event(Event::Reconfigured(Box::new(new)));
    s.lock(1, Lock::Unlocked);
    s.mover(2, "a0");
    assert_eq!(s.work(2, limits(1, 0, 0)).len(), 1);
    assert_eq!(s.core.counters().waiting_for_file, 0);
}

/// A mover that does not serve the archive is no host for it.
#[test]
fn a_host_that_does_not_serve_the_archive_gets_nothing() {
    let mut s = mapped(vec![any("tag=n1", &["a1", "a2"])]);
    s.mover_for(1, "a1", &[2]);
    s.mover_for(2, "a2", &[1]);
    s.lustre(vec![archive(1, "tag=n1")]);
    assert_eq!(s.work(1, ANY), [0; 0]);
    assert_eq!(s.work(2, ANY), [1]);
}
