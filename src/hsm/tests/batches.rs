//! Batching, alone and with host mapping.

use super::*;

fn batched(idle: u64, max: Option<u64>, slots: u32) -> HsmConfig {
    HsmConfig { batch: batch(idle, max, slots), client_grace: Duration::from_secs(30), ..config() }
}

fn hints(s: &mut Session, conn: u64, client: usize) -> Vec<String> {
    let clients = s.clients(conn);
    let slots = clients[client]["batches"].as_array().unwrap();
    slots.iter().map(|slot| slot["hint"].as_str().unwrap_or("").to_owned()).collect()
}

/// run_tests.sh 50 and 51: with two slots two tags go first, exactly one more when the idle time is over, the busy one
/// leaves after its maximal time, and all end. C (24) armed no timer: "stalls in every run once the first slots are used".
#[test]
fn two_slots_five_tags() {
    for (movers, slots) in [(2, 1), (1, 2)] {
        let mut s = Session::new(batched(10, Some(20), slots));
        for conn in 1..=movers {
            s.mover(conn, &format!("m{conn}"));
        }
        let mut oid = 0;
        let mut add = |s: &mut Session, tag: &str, count: u32| {
            let items = (oid..oid + count).map(|oid| archive(oid + 1, tag)).collect();
            oid += count;
            s.lustre(items)
        };
        // Runs everything that comes, and notes its tags in order.
        let mut seen: Vec<(u64, String)> = Vec::new();
        let start = s.now.mono;
        let mut work = |s: &mut Session, effects: Vec<Effect>| {
            let mut effects = effects;
            loop {
                let mut next = Vec::new();
                for conn in 1..=movers {
                    let Some(list) = list(&effects, conn) else { continue };
                    for item in list.items.clone() {
                        let tag = String::from_utf8(item.data.to_vec()).unwrap();
                        seen.push((s.now.mono.since(start).as_secs(), tag));
                        next.extend(s.done(conn, item.cookie, item.cookie as u32, 0));
                    }
                    next.extend(s.recv(conn, ANY));
                }
                if next.iter().all(|effect| !matches!(effect, Effect::Work { .. })) {
                    return;
                }
                effects = next;
            }
        };
        for conn in 1..=movers {
            s.recv(conn, ANY);
        }
        for (tag, count) in [("one", 1), ("two", 10), ("three", 10), ("four", 10), ("five", 10)] {
            let effects = add(&mut s, tag, count);
            work(&mut s, effects);
        }
        for second in 1..=120 {
            let effects = s.pass(1);
            work(&mut s, effects);
            if second % 5 == 0 && second <= 20 {
                let effects = add(&mut s, "two", 10);
                work(&mut s, effects);
            }
        }
        let mut first: Vec<(String, u64)> = Vec::new();
        for (second, tag) in &seen {
            if !first.iter().any(|(known, _)| known == tag) {
                first.push((tag.clone(), *second));
            }
        }
        let when: Vec<u64> = first.iter().map(|(_, second)| *second).collect();
        let tags: Vec<&str> = first.iter().map(|(tag, _)| tag.as_str()).collect();
        assert_eq!(tags, ["one", "two", "three", "four", "five"]);
        assert_eq!(when[..4], [0, 0, 10, 20], "{movers} movers with {slots} slots");
        assert_eq!(seen.len(), 81, "everything ends");
        assert_eq!(s.core.counters().pending, [0; 3]);
        // While another tag waited for its slot, `two` gave it up.
        assert_eq!(when[4], 20);
    }
}

/// C (25): "batch slots given to any connection, even a status client".
#[test]
fn slots_are_given_to_movers_only_and_breadth_first() {
    let mut s = Session::new(batched(10, None, 2));
    s.mover(1, "m1");
    s.mover(2, "m2");
    s.connect(9);
    s.connect(10);
    s.ehlo(10, Ehlo::default());
    let tags = ["a", "b", "c", "d", "e"];
    s.lustre((1u32..).zip(tags).map(|(oid, tag)| archive(oid, tag)).collect());
    assert_eq!(hints(&mut s, 9, 0), ["", ""]);
    assert_eq!(hints(&mut s, 9, 1), ["", ""]);
    assert_eq!(hints(&mut s, 9, 2), ["a", "c"], "the newest mover first");
    assert_eq!(hints(&mut s, 9, 3), ["b", "d"]);
    // The anonymous peer is a mover once it asks for work, and `e` has waited for a slot.
    assert_eq!(s.work(10, ANY), [5]);
}

#[test]
fn tags_keep_together_and_others_keep_out() {
    let mut s = Session::new(batched(10, None, 1));
    s.mover(1, "m1");
    s.mover(2, "m2");
    let data = ["a", "b", "a", "c", "b\0", "a"];
    s.lustre((1u32..).zip(data).map(|(oid, tag)| archive(oid, tag)).collect());
    assert_eq!(s.work(2, ANY), [1, 3, 6]);
    assert_eq!(s.work(1, ANY), [2, 5], "a NUL at the end makes no other tag");
    assert_eq!(s.work(1, ANY), [0; 0]);
    // Restores and removes know no slots.
    assert_eq!(cookies(&s.lustre(vec![restore(7, "a"), remove(8, "z")]), 1), [7, 8]);
}

#[test]
fn a_slot_takes_its_share_of_the_archives() {
    let mut s = Session::new(batched(10, None, 2));
    s.mover(1, "m1");
    s.lustre((1..=10).map(|oid| archive(oid, if oid % 2 == 0 { "a" } else { "b" })).collect());
    assert_eq!(s.work(1, limits(3, 0, 0)), [1, 2, 3], "two and one");
    s.done(1, 2, 2, 0);
    assert_eq!(s.work(1, limits(3, 0, 0)), [4]);
    let mut one = Session::new(batched(10, None, 2));
    one.mover(1, "m1");
    one.lustre((1..=10).map(|oid| archive(oid, "a")).collect());
    assert_eq!(one.work(1, limits(3, 0, 0)), [1, 2], "another tag may come");
}

/// The maximal time only matters when another tag wants the slot.
#[test]
fn a_tag_keeps_its_slot_while_nobody_else_wants_it() {
    let mut s = Session::new(batched(10, Some(20), 1));
    s.mover(1, "m1");
    for oid in 1..=8 {
        s.lustre(vec![archive(oid, "a")]);
        assert_eq!(s.work(1, ANY), [u64::from(oid)]);
        s.done(1, oid.into(), oid, 0);
        s.pass(7);
    }
    // Idle for too long: shown still, but the next tag gets it at once.
    s.pass(20);
    assert_eq!(hints(&mut s, 1, 0), ["a"]);
    assert_eq!(s.work(1, ANY), [0; 0]);
    assert_eq!(cookies(&s.lustre(vec![archive(20, "b")]), 1), [20]);
    assert_eq!(hints(&mut s, 1, 0), ["b"]);
}

#[test]
fn a_slot_with_running_work_does_not_fall_idle() {
    let mut s = Session::new(batched(10, None, 1));
    s.mover(1, "m1");
    s.lustre(vec![archive(1, "a"), archive(2, "b")]);
    assert_eq!(s.work(1, ANY), [1]);
    assert_eq!(s.work(1, ANY), [0; 0]);
    assert_eq!(s.pass(25), []);
    // Its idle time is over already when the last one ends.
    assert_eq!(cookies(&s.done(1, 1, 1, 0), 1), [2]);
}

#[test]
fn what_is_left_of_a_tag_waits_behind_the_others() {
    let mut s = Session::new(batched(10, Some(20), 1));
    s.mover(1, "m1");
    s.lustre((1..=3).map(|oid| archive(oid, "a")).chain([archive(4, "b"), archive(5, "c")]).collect());
    assert_eq!(s.work(1, limits(1, 0, 0)), [1]);
    s.pass(21);
    assert_eq!(hints(&mut s, 1, 0), ["b"]);
    s.done(1, 1, 1, 0);
    assert_eq!(s.work(1, limits(1, 0, 0)), [4]);
    s.done(1, 4, 4, 0);
    s.pass(11);
    assert_eq!(s.work(1, limits(1, 0, 0)), [5]);
    s.done(1, 5, 5, 0);
    assert_eq!(s.work(1, limits(1, 0, 0)), [0; 0]);
    assert_eq!(cookies(&s.pass(11), 1), [2]);
    assert_eq!(s.core.counters().pending[2], 1);
}

/// Without data there is nothing to keep together: as in C each such request may take a slot of its own.
#[test]
fn requests_without_data_are_spread() {
    let mut s = Session::new(batched(10, None, 1));
    for conn in 1..=3 {
        s.mover(conn, &format!("m{conn}"));
    }
    s.lustre(vec![archive(1, ""), archive(2, "")]);
    let mut got: Vec<u64> = (1..=3).flat_map(|conn| s.work(conn, ANY)).collect();
    got.sort_unstable();
    assert_eq!(got, [1, 2]);
    assert_eq!(s.clients(1).iter().filter(|client| client["batches"][0]["current_count"] == 1).count(), 2);
    assert_eq!(cookies(&s.lustre(vec![archive(3, "a")]), 1).len(), 1, "the third slot is for others");
}

/// C (3): "reconnect with running batch requests writes to a freed client"; it also forgot the slot's count.
#[test]
fn a_mover_keeps_its_slots_during_its_grace() {
    let mut s = Session::new(batched(100, None, 1));
    s.mover(1, "m1");
    s.lustre((1..=4).map(|oid| archive(oid, "a")).collect());
    assert_eq!(s.work(1, limits(2, 0, 0)), [1, 2]);
    s.disconnect(1);
    s.mover(2, "m2");
    assert_eq!(s.work(2, ANY), [0; 0]);
    s.mover_with(3, "m1", vec![archive(1, ""), archive(2, "")]);
    assert_eq!(s.clients(2)[0]["batches"][0]["current_count"], 2);
    assert_eq!(s.work(3, limits(2, 0, 0)), [0; 0]);
    assert_eq!(cookies(&s.done(3, 1, 1, 0), 3), [3]);
    s.disconnect(3);
    // After its grace the tag goes to the other mover, with what was running.
    assert_eq!(cookies(&s.pass(30), 2), [4, 2, 3]);
}

/// Only movers of the archive get the tag.
#[test]
fn a_tag_takes_a_slot_where_its_archive_is_served() {
    let mut s = Session::new(batched(10, None, 1));
    s.mover_for(1, "m1", &[2]);
    s.mover_for(2, "m2", &[1]);
    s.lustre(vec![archive(1, "a"), ActionItem { archive_id: 2, ..archive(2, "a") }, archive(3, "b")]);
    assert_eq!(s.work(1, ANY), [2]);
    assert_eq!(s.work(2, ANY), [1]);
    // A host that comes back serving something else loses the tag.
    s.disconnect(2);
    s.mover_for(3, "m2", &[2]);
    s.mover_for(4, "m4", &[1]);
    assert_eq!(s.work(4, ANY), [3]);
}

/// run_tests.sh 52 is disabled: "batch + hosts combination broken". A tag goes to one of its hosts and holds a slot there,
/// others keep out of it, and no host idles while something mapped to it waits and a slot is free.
#[test]
fn batches_on_hosts() {
    let mappings = vec![any("tag=n0", &["a0"]), any("tag=n1", &["a1", "a2"])];
    let mut s = Session::new(HsmConfig { host_mappings: mappings, ..batched(10, None, 1) });
    for conn in 0..3 {
        s.mover(conn, &format!("a{conn}"));
    }
    let data = ["tag=n1,x", "tag=n1,y", "tag=n1,z", "tag=n1,x", "tag=n0", "free"];
    s.lustre((1u32..).zip(data).map(|(oid, tag)| archive(oid, tag)).collect());
    let [mut x, mut y] = [s.work(2, ANY), s.work(1, ANY)];
    if x == [2] {
        std::mem::swap(&mut x, &mut y);
    }
    assert_eq!((x, y), (vec![1, 4], vec![2]));
    assert_eq!(s.work(0, ANY), [5]);
    assert_eq!(s.core.counters().pending[2], 2, "z and the free one wait for slots");
    for conn in 0..3 {
        assert_eq!(s.work(conn, ANY), [0; 0]);
    }
    for (conn, oid) in [(0, 5), (1, 2), (1, 1), (1, 4), (2, 2), (2, 1), (2, 4)] {
        s.done(conn, u64::from(oid), oid, 0);
    }
    let effects = s.pass(10);
    assert!(!cookies(&effects, 0).contains(&3), "z is not for a0");
    let mut got: Vec<u64> = (0..3).flat_map(|conn| cookies(&effects, conn)).collect();
    got.sort_unstable();
    assert_eq!(got, [3, 6]);
}

/// A tag of an absent host waits there, also for a slot, and has it when the host comes.
#[test]
fn a_tag_of_an_absent_host_holds_its_slot_there() {
    let mappings = vec![any("tag=n0", &["a0"]), any("tag=n1", &["a1", "a2"])];
    let mut s = Session::new(HsmConfig { host_mappings: mappings, ..batched(10, Some(20), 1) });
    s.connect(9);
    let data = ["tag=n0,x", "tag=n0,y", "tag=n1"];
    s.lustre((1u32..).zip(data).map(|(oid, tag)| archive(oid, tag)).collect());
    s.pass(100);
    for oid in 1..=3 {
        assert_eq!(
            s.status(9, 6).matches(&format!("\"hai_cookie\": {oid}, ")).count(),
            1,
            "{oid} is shown once"
        );
    }
    s.mover(1, "a0");
    assert_eq!(s.work(1, ANY), [1]);
    s.mover(2, "a2");
    assert_eq!(s.work(2, ANY), [3]);
    s.done(1, 1, 1, 0);
    assert_eq!(s.work(1, ANY), [0; 0]);
    assert_eq!(cookies(&s.pass(30), 1), [2]);
}

/// Every tag gets its turn with fewer slots than tags (C, 16 movers and 100 tags: 84,000 of 100,000 never received).
#[test]
fn more_tags_than_slots_all_end() {
    let mut s = Session::new(batched(1, Some(30), 2));
    for conn in 1..=4 {
        s.mover(conn, &format!("m{conn}"));
        s.recv(conn, ANY);
    }
    let mut effects = s.lustre((1..=400).map(|oid| archive(oid, &format!("tag={}", oid % 50))).collect());
    let mut ended = 0;
    for _ in 0..200 {
        let mut next = Vec::new();
        for conn in 1..=4 {
            let work = cookies(&effects, conn);
            for &cookie in &work {
                ended += 1;
                next.extend(s.done(conn, cookie, cookie as u32, 0));
            }
            if !work.is_empty() {
                next.extend(s.recv(conn, ANY));
            }
        }
        if next.iter().all(|effect| !matches!(effect, Effect::Work { .. })) {
            next.extend(s.pass(1));
        }
        effects = next;
    }
    assert_eq!(ended, 400);
}
