//! Any interleaving of events keeps the coordinator's invariants, and everything drains once movers behave.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod configs;
mod steps;
mod world;

use coordinatool::hsm::Event;
use proptest::prelude::*;

use self::configs::CONFIGS;
use self::steps::step;
use self::world::{World, name};

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_keeps_the_invariants_and_drains(
        number in 0..CONFIGS,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(number);
        for step in &steps {
            world.step(step);
        }
        world.drain();
    }

    #[test]
    fn the_same_events_have_the_same_effects(
        number in 0..CONFIGS,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let run = || {
            let mut world = World::new(number);
            for step in &steps {
                world.step(step);
            }
            world.trace
        };
        prop_assert_eq!(run(), run());
    }

    /// What the store holds is enough to go on from: nothing is lost, whoever had it.
    #[test]
    fn a_crash_loses_nothing_that_is_stored(
        number in 0..CONFIGS,
        steps in prop::collection::vec(step(), 1..80),
        suspect in any::<bool>(),
    ) {
        let mut world = World::new(number);
        for step in &steps {
            world.step(step);
        }
        let stored = std::mem::take(&mut world.stored);
        let mut movers = std::mem::take(&mut world.movers);
        let mut next = World::new(number);
        next.now = world.now;
        next.stored = stored.clone();
        let mut requests: Vec<_> = stored.values().cloned().collect();
        requests.sort_by_key(|(item, _)| item.timestamp);
        let assigned = requests.iter().filter(|(_, mover)| mover.is_some()).count() as u64;
        next.event(Event::Recovered { requests, suspect });
        let counters = next.core.counters();
        prop_assert_eq!(counters.admitted, stored.len() as u64);
        prop_assert_eq!(counters.running.iter().sum::<u64>(), assigned);
        for (mover, old) in movers.iter_mut().enumerate() {
            // An anonymous mover has stopped.
            if name(mover as u8).is_some() {
                next.movers[mover].running = std::mem::take(&mut old.running);
            }
        }
        next.drain();
    }
}
