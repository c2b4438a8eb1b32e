//! Keepalives, and what their answers say.

use super::*;
use crate::hsm::lustre_call::{LustreAnswer, LustreCall};

const ENOENT: i32 = 2;
const EAGAIN: i32 = 11;
const ECANCELED: i32 = 125;

/// A timeout of 400 s: every request is kept alive each 100 s.
pub(super) fn watched() -> HsmConfig {
    HsmConfig { request_timeout: Duration::from_secs(400), ..config() }
}

/// Cookies kept alive by these effects.
pub(super) fn kept(effects: &[Effect]) -> Vec<u64> {
    let cookie = |effect: &Effect| match effect {
        Effect::AskLustre(LustreCall::KeepAlive { key, .. }) => Some(key.cookie),
        _ => None,
    };
    effects.iter().filter_map(cookie).collect()
}

/// Requests for which the MDT is asked anew.
pub(super) fn requested(effects: &[Effect]) -> Vec<ActionItem> {
    let item = |effect: &Effect| match effect {
        Effect::AskLustre(LustreCall::Request { item, .. }) => Some((**item).clone()),
        _ => None,
    };
    effects.iter().filter_map(item).collect()
}

/// Files whose state is asked for.
pub(super) fn looked(effects: &[Effect]) -> Vec<u64> {
    let cookie = |effect: &Effect| match effect {
        Effect::AskLustre(LustreCall::State { key, .. }) => Some(key.cookie),
        _ => None,
    };
    effects.iter().filter_map(cookie).collect()
}

impl Session {
    pub(super) fn alive(&mut self, oid: u32, errno: i32) -> Vec<Effect> {
        self.event(Event::LustreAnswered(LustreAnswer::KeptAlive { key: key(oid), number: u64::MAX, errno }))
    }

    /// Lets time pass second by second and answers each keepalive with 0. Returns the times of those of each cookie.
    pub(super) fn live(&mut self, seconds: u64) -> std::collections::BTreeMap<u64, Vec<u64>> {
        let mut times = std::collections::BTreeMap::<u64, Vec<u64>>::new();
        for _ in 0..seconds {
            for cookie in kept(&self.pass(1)) {
                times.entry(cookie).or_default().push(self.now.mono.0 / SECOND);
                self.alive(cookie as u32, 0);
            }
        }
        times
    }
}

/// Longest time between two keepalives, or from the beginning to the first.
fn longest_gap(from: u64, times: &[u64]) -> u64 {
    let mut before = from;
    times.iter().map(|&at| at - std::mem::replace(&mut before, at)).max().unwrap_or(u64::MAX)
}

#[test]
fn what_waits_is_kept_alive_every_quarter_of_the_timeout() {
    let mut s = Session::new(HsmConfig { host_mappings: vec![any("tag=n0", &["m0"])], ..watched() });
    let from = s.now.mono.0 / SECOND;
    // Queued, for a host that is not there, and held for its file.
    s.mover(1, "m1");
    s.lustre(vec![archive(1, ""), archive(2, "tag=n0"), restore(3, "")]);
    assert_eq!(s.work(1, limits(1, 0, 0)), [1]);
    s.lustre(vec![item(Action::Archive, 1, 4, "")]);
    assert_eq!(s.core.counters().waiting_for_file, 1);
    let mut times = std::collections::BTreeMap::<u64, Vec<u64>>::new();
    for _ in 0..1000 {
        for effect in s.pass(1) {
            if let Effect::AskLustre(LustreCall::KeepAlive { key, .. }) = effect {
                times.entry(key.cookie).or_default().push(s.now.mono.0 / SECOND);
                s.event(Event::LustreAnswered(LustreAnswer::KeptAlive { key, number: u64::MAX, errno: 0 }));
            }
        }
    }
    assert_eq!(times.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
    for (cookie, times) in &times {
        assert!((9..=12).contains(&times.len()), "{cookie}: {times:?}");
        assert!(longest_gap(from, times) <= 105, "{cookie}: {times:?}");
    }
    assert_eq!(s.core.counters().pending.iter().sum::<u64>(), 3, "they outlive the timeout");
}

#[test]
fn many_are_spread_and_new_ones_do_not_delay_the_old() {
    let mut s = Session::new(watched());
    let from = s.now.mono.0 / SECOND;
    let mut times = std::collections::BTreeMap::<u64, Vec<u64>>::new();
    let mut most = 0;
    for second in 0..350u64 {
        // The slab grows in the middle of rounds.
        if second < 200 && second % 20 == 0 {
            let first = second as u32 * 50 + 1;
            let mut effects = Effects::default();
            let items = (first..first + 1000).map(|oid| archive(oid, "")).collect();
            s.core.handle(s.now, Event::Lustre { items }, &mut effects);
        }
        s.now.mono += Duration::from_secs(1);
        let mut in_second = 0;
        while s.core.next_deadline().is_some_and(|at| at <= s.now.mono) {
            let mut effects = Effects::default();
            s.core.handle(s.now, Event::Tick, &mut effects);
            s.now.mono.0 += 1000;
            for cookie in kept(&effects.visible) {
                in_second += 1;
                times.entry(cookie).or_default().push(s.now.mono.0 / SECOND - from);
                let answer = LustreAnswer::KeptAlive { key: key(cookie as u32), number: u64::MAX, errno: 0 };
                s.core.handle(s.now, Event::LustreAnswered(answer), &mut Effects::default());
            }
        }
        most = most.max(in_second);
    }
    assert_eq!(times.len(), 10_000);
    for (cookie, times) in &times {
        let admitted = (cookie - 1) / 1000 * 20;
        assert!(longest_gap(admitted, times) <= 110, "{cookie} of {admitted}: {times:?}");
    }
    // 10,000 in 100 s.
    assert!(most < 400, "{most} in one second");
}

#[test]
fn the_rate_is_a_limit_and_so_is_what_one_mdt_leaves_unanswered() {
    let mut s = Session::new(HsmConfig { keepalive_rate: 50, ..watched() });
    s.lustre((1..=3000).map(|oid| archive(oid, "")).collect());
    // A daemon that starts sends them at once, but not faster than this.
    s.event(Event::Recovered { requests: Vec::new(), suspect: false });
    let mut sent = 0;
    for _ in 0..10 {
        let cookies = kept(&s.pass(1));
        assert!(cookies.len() <= 60, "{}", cookies.len());
        sent += cookies.len();
        for cookie in cookies {
            s.alive(cookie as u32, 0);
        }
    }
    assert!((400..600).contains(&sent), "{sent}");
    // The MDT of this sequence does not answer.
    let mut silent = Session::new(watched());
    silent.lustre((1..=3000).map(|oid| archive(oid, "")).collect());
    assert_eq!(kept(&silent.pass(300)).len(), 1024);
    // The one of another does.
    let other = ActionItem { fid: Fid::new(0x2_4000_0401, 1, 0), ..archive(9999, "") };
    silent.lustre(vec![other]);
    assert_eq!(kept(&silent.pass(101)), [9999]);
    // It does again.
    silent.alive(1, 0);
    assert_eq!(kept(&silent.pass(101)).len(), 1);
}

#[test]
fn nothing_is_sent_when_there_is_nothing_or_it_is_off() {
    let mut s = Session::new(watched());
    s.lustre(vec![archive(1, "")]);
    assert!(s.core.next_deadline().is_some());
    s.lustre(vec![item(Action::Cancel, 1, 1, "")]);
    assert_eq!(s.core.next_deadline(), None, "no timer without a reason");
    let mut off = Session::new(config());
    off.lustre(vec![archive(1, "")]);
    assert_eq!(kept(&off.pass(100_000)), [0; 0]);
}

/// Lustre's own value goes before the configured one, unless keepalives are off.
#[test]
fn the_timeout_is_what_lustre_says() {
    for (configured, want) in [(400, 10), (0, 0)] {
        let timeout = Duration::from_secs(configured);
        let mut s = Session::new(HsmConfig { request_timeout: timeout, ..config() });
        s.event(Event::RequestTimeout(Duration::from_secs(40)));
        s.lustre(vec![archive(1, "")]);
        let times = s.live(100).remove(&1).unwrap_or_default();
        assert!(times.len().abs_diff(want) <= 1, "{times:?}");
    }
}

#[test]
fn what_runs_is_kept_alive_while_its_mover_lives() {
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Fate {
        Stays,
        /// Its connection stays, its lease ends.
        Hangs,
        Away,
    }
    use Fate::*;
    // Mover with a lease or a C mover, what becomes of it, for how long it is looked at, keepalives wanted.
    let cases =
        [(false, Stays, 1000, 10), (true, Stays, 1000, 10), (true, Hangs, 1000, 0), (false, Away, 500, 5)];
    for (lease, fate, seconds, want) in cases {
        let mut s = Session::new(watched());
        s.connect(1);
        let features = crate::hsm::event::Features { lease, ..Default::default() };
        s.ehlo(1, Ehlo { id: Some("m0".into()), features, ..Ehlo::default() });
        s.lustre(vec![archive(1, "")]);
        assert_eq!(s.work(1, ANY), [1]);
        if fate == Away {
            s.disconnect(1);
        }
        if fate == Hangs {
            s.pass(61);
        }
        let mut times = Vec::new();
        for second in 0..seconds {
            if lease && fate == Stays && second % 30 == 0 {
                s.message(1, Message::Lease { serial: second });
            }
            times.extend(s.live(1).remove(&1).unwrap_or_default());
        }
        assert!(times.len().abs_diff(want) <= 1, "{lease} {fate:?}: {times:?}");
    }
}

#[test]
fn what_runs_for_too_long_is_left_to_its_copytool() {
    let mut s = Session::new(HsmConfig { keepalive_running_max: Duration::from_secs(1000), ..watched() });
    s.mover(1, "m0");
    s.lustre(vec![archive(1, "")]);
    assert_eq!(s.work(1, ANY), [1]);
    assert!(s.live(900).remove(&1).unwrap_or_default().len() >= 8);
    s.live(300);
    assert_eq!(s.live(1000).remove(&1), None);
    // What waits knows no such limit.
    s.disconnect(1);
    s.live(700);
    assert!(s.live(300).remove(&1).unwrap_or_default().len() >= 2);
}

/// A user's cancel that is stuck at the MDT behind `max_requests`.
#[test]
fn a_cancelled_request_is_ended() {
    for running in [false, true] {
        let mut s = Session::new(watched());
        s.mover(1, "m0");
        s.lustre(vec![archive(1, "tag=a")]);
        if running {
            assert_eq!(s.work(1, ANY), [1]);
            assert_eq!(s.work(1, ANY), [0; 0]);
        }
        let effects = s.alive(1, ECANCELED);
        if running {
            let work = list(&effects, 1).unwrap();
            assert_eq!((work.items[0].action, work.items[0].cookie), (Action::Cancel, 1));
            // Told once, however often the MDT says so.
            assert_eq!(s.work(1, ANY), [0; 0]);
            assert_eq!(cookies(&s.alive(1, ECANCELED), 1), [0; 0]);
            s.done(1, 1, 1, 125);
        } else {
            assert_eq!(endings(&effects), [(1, 125)]);
        }
        let counters = s.core.counters();
        assert_eq!((counters.pending[2], counters.running[2], counters.found_cancelled), (0, 0, 1));
        // The cancel itself comes at last.
        s.lustre(vec![item(Action::Cancel, 1, 1, "")]);
        s.event(Event::LustreEnded { key: key(1), errno: ENOENT });
        assert_eq!(s.core.counters().ending, 0);
    }
}

#[test]
fn an_mdt_that_cannot_say_changes_nothing() {
    for errno in [EAGAIN, 4, 5, 38, 107, 110, 1] {
        let mut s = Session::new(watched());
        s.mover(1, "m0");
        s.lustre(vec![archive(1, "")]);
        assert_eq!(kept(&s.pass(101)), [1]);
        s.alive(1, errno);
        assert_eq!(s.core.counters().unanswered, 1);
        assert_eq!(kept(&s.pass(101)), [1], "asked again in the next round");
        assert_eq!(s.work(1, ANY), [1]);
    }
}

/// An answer for what has ended meanwhile, or for what nobody asked.
#[test]
fn late_answers_are_harmless() {
    let mut s = Session::new(watched());
    s.mover(1, "m0");
    s.lustre(vec![archive(1, "")]);
    assert_eq!(kept(&s.pass(101)), [1]);
    assert_eq!(s.work(1, ANY), [1]);
    s.done(1, 1, 1, 0);
    for errno in [0, ENOENT, ECANCELED, EAGAIN] {
        assert_eq!(s.alive(1, errno), []);
    }
    assert_eq!(s.core.counters().ended, 1);
}
