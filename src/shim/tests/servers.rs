//! Which server is tried, and when.

use super::*;

#[test]
fn servers_are_tried_in_turn_and_pauses_grow_to_five_seconds() {
    let mut rig = Rig::new(ShimConfig::default());
    assert_eq!(rig.asked(), [Effect::Resolve]);
    rig.feed(Event::Resolved { servers: 2 });
    let mut starts = Vec::new();
    for _ in 0..12 {
        let (conn, server) = rig
            .asked()
            .into_iter()
            .find_map(|effect| match effect {
                Effect::Connect { conn, server } => Some((conn, server)),
                _ => None,
            })
            .unwrap();
        starts.push((server, rig.now.since(Mono(SECOND)).as_secs()));
        rig.feed(Event::Disconnected { conn, reason: "refused" });
        while !rig.effects.iter().any(|effect| matches!(effect, Effect::Connect { .. })) {
            if rig.effects.contains(&Effect::Resolve) {
                rig.effects.clear();
                rig.feed(Event::Resolved { servers: 2 });
                continue;
            }
            rig.now = rig.shim.next_deadline().unwrap().max(rig.now);
            rig.feed(Event::Tick);
        }
    }
    let pairs: Vec<_> = starts.chunks(2).map(|pair| (pair[0].0, pair[1].0, pair[0].1, pair[1].1)).collect();
    assert_eq!(
        pairs,
        [(0, 1, 0, 0), (0, 1, 1, 1), (0, 1, 3, 3), (0, 1, 6, 6), (0, 1, 10, 10), (0, 1, 15, 15)]
    );
}

#[test]
fn names_that_cannot_be_resolved_are_tried_again() {
    let mut rig = Rig::new(ShimConfig::default());
    for _ in 0..3 {
        assert_eq!(rig.asked(), [Effect::Resolve]);
        rig.feed(Event::Resolved { servers: 0 });
        assert_eq!(rig.asked(), []);
        rig.now = rig.shim.next_deadline().unwrap();
        rig.feed(Event::Tick);
    }
}

#[test]
fn a_server_that_does_not_answer_is_left() {
    let mut rig = Rig::new(ShimConfig::default());
    rig.feed(Event::Resolved { servers: 2 });
    let (conn, server) = rig.connect();
    rig.asked();
    rig.wait(Duration::from_secs(29));
    assert_eq!((server, rig.asked()), (0, vec![]));
    rig.wait(Duration::from_secs(1));
    assert_eq!(rig.asked(), [Effect::Close { conn }, Effect::Connect { conn: conn + 1, server: 1 }]);
}
