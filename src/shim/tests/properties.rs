//! Whatever happens to connections, no request and no end is lost.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Work(u8),
    Take,
    Begin(u8),
    End(u8),
    Acknowledge,
    Lose,
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..4u8).prop_map(Step::Work),
        Just(Step::Take),
        any::<u8>().prop_map(Step::Begin),
        any::<u8>().prop_map(Step::End),
        Just(Step::Acknowledge),
        Just(Step::Lose),
        (0..8000u16).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens to connections: at each `ehlo` exactly what the server does not know to have ended is claimed,
    /// and each end arrives.
    #[test]
    fn no_request_and_no_end_is_lost(steps in prop::collection::vec(step(), 1..200)) {
        let mut rig = Rig::ready(ShimConfig { eager: true, ..ShimConfig::default() }, Duration::ZERO);
        let (mut handed, mut taken, mut running) = (0u32, Vec::new(), Vec::new());
        // What the server believes to be running, and ends that it got and has not answered.
        let mut believed = std::collections::BTreeSet::new();
        let mut unanswered = 0;
        let mut ended = std::collections::BTreeSet::new();
        for step in steps.into_iter().chain([Step::Lose, Step::Wait(9000), Step::Lose, Step::Wait(9000)]) {
            match step {
                Step::Work(n) if rig.shim.is_ready() && rig.unanswered > 0 => {
                    let items = (0..u32::from(n)).map(|i| item(Action::Archive, handed + i)).collect();
                    believed.extend((0..u64::from(n)).map(|i| u64::from(handed) + i));
                    handed += u32::from(n);
                    rig.work(items);
                }
                Step::Take => taken.extend(rig.take()),
                Step::Begin(n) if !taken.is_empty() => {
                    let cookie = taken.remove(usize::from(n) % taken.len());
                    rig.feed(Event::Begun { key: key(cookie as u32) });
                    running.push(cookie);
                }
                Step::End(n) if !running.is_empty() => {
                    let cookie = running.remove(usize::from(n) % running.len());
                    rig.feed(Event::Ended(end(cookie as u32, 0)));
                    ended.insert(cookie);
                }
                Step::Acknowledge if rig.shim.is_ready() && unanswered > 0 => {
                    unanswered -= 1;
                    rig.reply(&Reply::Done);
                }
                Step::Lose if rig.shim.is_ready() => {
                    let conn = rig.conn();
                    rig.feed(Event::Disconnected { conn, reason: "test" });
                    unanswered = 0;
                }
                Step::Wait(ms) => {
                    rig.wait(Duration::from_millis(u64::from(ms)));
                    if rig.effects.contains(&Effect::Resolve) {
                        rig.feed(Event::Resolved { servers: 1 });
                    }
                    if rig.effects.iter().any(|effect| matches!(effect, Effect::Connect { .. })) {
                        rig.connect();
                        let ehlo = rig.welcome(Duration::ZERO, Vec::new());
                        let claims: std::collections::BTreeSet<u64> =
                            ehlo.hai_list.unwrap_or_default().iter().map(|item| item.cookie).collect();
                        prop_assert!(believed.is_subset(&claims), "{believed:?} {claims:?}");
                        believed.extend(claims);
                    }
                }
                _ => {}
            }
            for (cookie, _) in rig.dones() {
                prop_assert!(ended.contains(&cookie));
                believed.remove(&cookie);
                unanswered += 1;
            }
        }
        prop_assert!(rig.shim.is_ready());
        prop_assert!(ended.is_disjoint(&believed), "{ended:?} {believed:?}");
        prop_assert_eq!(rig.shim.in_flight() + ended.len(), handed as usize);
    }
}
