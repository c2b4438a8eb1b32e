//! The machine against managers played by hand.

use std::time::Duration;

use super::{Agent, Effect, Effects, Event, Identity, IntentRecord};
use crate::ha::ids::{AgentRun, BootId, Epoch, LinkId, ManagerId, ManagerRun, OrderId};
use crate::ha::ocf::Outcome;
use crate::ha::protocol::{
    Action, Finished, FromAgent, Hello, Isolation, Operation, Order, Refusal, Rejected, ResourceSpec, Seal,
    ToAgent, VERSION,
};
use crate::time::{Mono, Now, Wall};

struct Play {
    agent: Agent,
    now: Now,
    /// What was stored, as a disk would have it.
    disk: Vec<IntentRecord>,
    stored: u64,
    /// Stores are confirmed at once.
    disk_works: bool,
    effects: Vec<Effect>,
}

fn identity(run: u64) -> Identity {
    Identity {
        host: "h0".into(),
        boot: BootId::from("boot 1"),
        run: AgentRun(run),
        program: "test".to_owned(),
        system_uuid: None,
        isolation: Isolation::Cgroup,
        watchdog_ms: Some(10_000),
    }
}

impl Play {
    fn new() -> Self {
        Self::after(Vec::new(), Vec::new(), 1)
    }

    fn after(disk: Vec<IntentRecord>, alive: Vec<OrderId>, run: u64) -> Self {
        let mut play = Self {
            agent: Agent::new(identity(run)),
            now: Now { mono: Mono(1_000_000_000), wall: Wall(0) },
            disk: disk.clone(),
            stored: 0,
            disk_works: true,
            effects: Vec::new(),
        };
        play.event(Event::Recovered { records: disk, alive });
        play
    }

    fn event(&mut self, event: Event) {
        let mut effects = Effects::new();
        self.agent.handle(self.now, event, &mut effects);
        for effect in effects {
            if let Effect::Store(record) = &effect
                && self.disk_works
            {
                self.disk.push(record.clone());
                self.stored += 1;
                self.effects.push(effect);
                self.event(Event::Stored { count: self.stored, error: None });
            } else {
                self.effects.push(effect);
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now.mono += time;
        self.event(Event::Tick);
    }

    fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    fn hello(&mut self, link: u64, manager: u64, run: u64) {
        self.event(Event::Connected { link: LinkId(link) });
        let hello = Hello {
            version: VERSION,
            cluster: "c".to_owned(),
            host: "h0".into(),
            manager: ManagerId(manager),
            run: ManagerRun(run),
            heartbeat_ms: 1000,
            fresh_ms: 3000,
            lease_ms: Some(20_000),
        };
        self.event(Event::Received { link: LinkId(link), message: ToAgent::Hello(hello) });
    }

    fn seal(&mut self, link: u64, epoch: u64, takeover: bool) {
        let seal = ToAgent::Seal(Seal { epoch: Epoch(epoch), takeover });
        self.event(Event::Received { link: LinkId(link), message: seal });
    }

    /// Connection `link` of run `link` seals with `epoch`.
    fn sealed(&mut self, link: u64, epoch: u64) {
        self.hello(link, 1, link);
        self.seal(link, epoch, false);
        assert!(self.sent(|message| matches!(message, FromAgent::Sealed { .. })), "{:?}", self.effects);
        self.take();
    }

    fn order(&mut self, link: u64, epoch: u64, number: u64, resource: &str, action: Action) -> OrderId {
        let id = OrderId { epoch: Epoch(epoch), run: ManagerRun(link), number };
        let spec =
            ResourceSpec { id: resource.into(), kind: "t/S".to_owned(), parameters: Default::default() };
        let order = Order {
            id,
            boot: BootId::from("boot 1"),
            agent: self.agent.identity.run,
            heartbeat: self.agent.heartbeats.last,
            operation: Operation { resource: spec, action, timeout_ms: None },
        };
        self.event(Event::Received { link: LinkId(link), message: ToAgent::Order(order) });
        id
    }

    fn sent(&self, wanted: impl Fn(&FromAgent) -> bool) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Send { message, .. } if wanted(message)))
    }

    fn ran(&self, order: OrderId) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Run { order: run, .. } if *run == order))
    }

    fn refused(&self) -> Option<Refusal> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Send { message: FromAgent::Refused { reason, .. }, .. } => Some(reason.clone()),
            _ => None,
        })
    }

    fn exit(&mut self, order: OrderId, outcome: Outcome, left_behind: bool) {
        self.event(Event::Exited {
            order,
            outcome,
            reason: String::new(),
            took_ms: 1,
            left_behind,
            advised_interval_ms: None,
        });
    }

    fn finished(&self) -> Option<Finished> {
        self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Send { message: FromAgent::Finished(finished), .. } => Some(finished.clone()),
            _ => None,
        })
    }
}

#[test]
fn only_what_is_sealed_is_obeyed() {
    let mut play = Play::new();
    play.hello(1, 1, 1);
    play.order(1, 1, 1, "r", Action::Probe);
    assert_eq!(play.refused(), Some(Refusal::NotSealed));
    play.seal(1, 1, false);
    play.take();
    let order = play.order(1, 1, 2, "r", Action::Probe);
    assert!(play.ran(order));
}

#[test]
fn an_order_below_the_seal_does_nothing_however_late_it_arrives() {
    let mut play = Play::new();
    play.sealed(1, 1);
    play.sealed(2, 2);
    // The old connection was closed, so its orders are those of nobody.
    play.order(1, 1, 1, "r", Action::Start);
    assert!(play.effects.is_empty(), "{:?}", play.effects);
    // Even on the new connection an old order is refused.
    play.order(2, 1, 2, "r", Action::Start);
    assert!(matches!(play.refused(), Some(Refusal::Sealed(Epoch(2)))));
}

#[test]
fn a_seal_between_intent_and_execution_stops_it() {
    let mut play = Play::new();
    play.sealed(1, 1);
    play.disk_works = false;
    let order = play.order(1, 1, 1, "r", Action::Start);
    play.hello(2, 1, 2);
    play.seal(2, 2, false);
    play.take();
    // The disk answers in order: first the intent, then the seal. But a seal that was stored counts first.
    play.event(Event::Stored { count: 2, error: None });
    assert!(play.ran(order), "the intent was stored before the seal was");
    let mut play = Play::new();
    play.sealed(1, 1);
    play.hello(2, 1, 2);
    play.disk_works = false;
    play.seal(2, 2, false);
    let order = play.order(1, 1, 1, "r", Action::Start);
    play.event(Event::Stored { count: 3, error: None });
    assert!(!play.ran(order));
}

#[test]
fn a_start_that_quotes_an_old_heartbeat_is_refused() {
    let mut play = Play::new();
    play.sealed(1, 1);
    let number = play.agent.heartbeats.last;
    play.wait(Duration::from_millis(3500));
    play.take();
    let spec = ResourceSpec { id: "r".into(), kind: "t/S".to_owned(), parameters: Default::default() };
    for (action, refused) in [(Action::Start, true), (Action::Stop, false)] {
        let id = OrderId { epoch: Epoch(1), run: ManagerRun(1), number: 1 + u64::from(refused) };
        let operation = Operation { resource: spec.clone(), action, timeout_ms: None };
        let order =
            Order { id, boot: BootId::from("boot 1"), agent: AgentRun(1), heartbeat: number, operation };
        play.event(Event::Received { link: LinkId(1), message: ToAgent::Order(order) });
        assert_eq!(!play.ran(id), refused, "{action:?}");
    }
    assert!(matches!(play.refused(), Some(Refusal::StaleHeartbeat(3500))));
}

#[test]
fn another_manager_is_obeyed_only_after_a_takeover() {
    let mut play = Play::new();
    play.sealed(1, 5);
    play.hello(2, 2, 2);
    play.seal(2, 9, false);
    assert!(
        play.sent(|message| matches!(
            message,
            FromAgent::Rejected(Rejected::Manager { obeys: ManagerId(1) })
        ))
    );
    play.hello(3, 2, 3);
    play.seal(3, 5, true);
    assert!(
        play.sent(|message| matches!(message, FromAgent::Rejected(Rejected::Epoch { sealed: Epoch(5) })))
    );
    play.hello(4, 2, 4);
    play.take();
    play.seal(4, 6, true);
    assert!(play.sent(|message| matches!(message, FromAgent::Sealed { .. })));
    assert!(play.effects.contains(&Effect::Close { link: LinkId(1) }));
}

#[test]
fn seals_survive_a_restart() {
    let mut play = Play::new();
    play.sealed(1, 5);
    let mut play = Play::after(play.disk, Vec::new(), 2);
    play.hello(1, 1, 9);
    play.seal(1, 4, false);
    assert!(
        play.sent(|message| matches!(message, FromAgent::Rejected(Rejected::Epoch { sealed: Epoch(5) })))
    );
    play.hello(2, 1, 9);
    play.seal(2, 5, false);
    assert!(play.sent(|message| matches!(message, FromAgent::Rejected(Rejected::Epoch { .. }))));
}

#[test]
fn one_operation_on_a_resource_at_a_time() {
    let mut play = Play::new();
    play.sealed(1, 1);
    let first = play.order(1, 1, 1, "r", Action::Start);
    play.order(1, 1, 2, "r", Action::Probe);
    assert_eq!(play.refused(), Some(Refusal::Busy(first)));
    let other = play.order(1, 1, 3, "s", Action::Start);
    assert!(play.ran(first) && play.ran(other));
}

#[test]
fn what_a_successful_start_leaves_is_the_resource() {
    let mut play = Play::new();
    play.sealed(1, 1);
    let start = play.order(1, 1, 1, "r", Action::Start);
    play.exit(start, Outcome::Exited(0), true);
    assert!(!play.finished().unwrap().unfinished);
    assert!(!play.effects.contains(&Effect::Kill { order: start }));
    // The stop takes what is left of it along.
    let stop = play.order(1, 1, 2, "r", Action::Stop);
    play.exit(stop, Outcome::Exited(0), false);
    assert!(play.finished().unwrap().unfinished);
    assert!(play.effects.contains(&Effect::Kill { order: start }));
    play.take();
    play.order(1, 1, 3, "r", Action::Probe);
    assert!(matches!(play.refused(), Some(Refusal::Busy(_))));
    play.event(Event::Emptied { order: start });
    assert!(
        play.sent(|message| matches!(message, FromAgent::Emptied { order, .. } if *order == stop)),
        "{:?}",
        play.effects
    );
    let probe = play.order(1, 1, 4, "r", Action::Probe);
    assert!(play.ran(probe));
}

#[test]
fn what_any_other_operation_leaves_is_killed_and_waited_for() {
    for (action, outcome) in [
        (Action::Start, Outcome::Exited(1)),
        (Action::Start, Outcome::TimedOut),
        (Action::Stop, Outcome::Exited(1)),
        (Action::Probe, Outcome::Exited(7)),
    ] {
        let mut play = Play::new();
        play.sealed(1, 1);
        let order = play.order(1, 1, 1, "r", action);
        play.exit(order, outcome.clone(), true);
        assert!(play.finished().unwrap().unfinished, "{action:?} {outcome}");
        assert!(play.effects.contains(&Effect::Kill { order }));
        assert_eq!(play.agent.unfinished().len(), 1);
        play.event(Event::Emptied { order });
        assert!(play.sent(|message| matches!(message, FromAgent::Emptied { .. })));
        assert!(play.agent.unfinished().is_empty());
    }
}

#[test]
fn a_restarted_agent_waits_for_what_it_had_begun_and_kills_none_of_it() {
    let mut play = Play::new();
    play.sealed(1, 1);
    let done = play.order(1, 1, 1, "done", Action::Start);
    play.exit(done, Outcome::Exited(0), true);
    let running = play.order(1, 1, 2, "running", Action::Start);
    let mut play = Play::after(play.disk, vec![done, running], 2);
    assert_eq!(play.take(), [Effect::Watch { order: running }]);
    play.hello(1, 1, 7);
    play.seal(1, 2, false);
    let unfinished = play.effects.iter().find_map(|effect| match effect {
        Effect::Send { message: FromAgent::Sealed { unfinished, .. }, .. } => Some(unfinished.clone()),
        _ => None,
    });
    assert_eq!(unfinished.unwrap().iter().map(|left| left.order).collect::<Vec<_>>(), [running]);
    play.take();
    play.event(Event::Emptied { order: running });
    assert_eq!(play.finished().unwrap().outcome, Outcome::Lost);
    // A stop of what an earlier run had started takes its processes along.
    play.now.mono += Duration::from_secs(1);
    play.event(Event::Tick);
    let id = OrderId { epoch: Epoch(2), run: ManagerRun(7), number: 5 };
    let spec = ResourceSpec { id: "done".into(), kind: "t/S".to_owned(), parameters: Default::default() };
    let operation = Operation { resource: spec, action: Action::Stop, timeout_ms: None };
    let order = Order { id, boot: BootId::from("boot 1"), agent: AgentRun(2), heartbeat: 1, operation };
    play.event(Event::Received { link: LinkId(1), message: ToAgent::Order(order) });
    play.exit(id, Outcome::Exited(0), false);
    assert!(play.effects.contains(&Effect::Kill { order: done }));
}

#[test]
fn what_a_start_left_before_a_restart_is_adopted_once_the_resource_is_seen_to_run() {
    let mut play = Play::new();
    play.sealed(1, 1);
    let start = play.order(1, 1, 1, "r", Action::Start);
    for (code, adopted) in [(7, false), (0, true)] {
        let mut play = Play::after(play.disk.clone(), vec![start], 1);
        play.sealed(1, 1);
        play.wait(Duration::from_secs(1));
        let stop = play.order(1, 1, 2, "r", Action::Stop);
        assert_eq!(play.refused(), Some(Refusal::Busy(start)));
        play.take();
        let probe = play.order(1, 1, 3, "r", Action::Probe);
        assert!(play.ran(probe) && !play.ran(stop));
        play.exit(probe, Outcome::Exited(code), false);
        assert_eq!(play.sent(|message| matches!(message, FromAgent::Emptied { .. })), adopted);
        assert_eq!(play.agent.unfinished().is_empty(), adopted);
        if adopted {
            let stop = play.order(1, 1, 4, "r", Action::Stop);
            play.exit(stop, Outcome::Exited(0), false);
            assert!(play.effects.contains(&Effect::Kill { order: start }));
        }
    }
}

#[test]
fn what_a_start_left_whose_end_nobody_saw_is_the_resource_or_goes_with_it() {
    let mut play = Play::new();
    play.sealed(1, 1);
    let start = play.order(1, 1, 1, "r", Action::Start);
    for (restarts, code, goes) in [(1, 0, false), (1, 7, true), (1, 1, false), (2, 7, true)] {
        let mut play = Play::after(play.disk.clone(), vec![start], 2);
        play.sealed(1, 1);
        // Its own process ends, and others stay.
        play.exit(start, Outcome::Lost, true);
        let finished = play.finished().unwrap();
        assert_eq!((finished.outcome, finished.unfinished), (Outcome::Lost, false));
        assert!(!play.effects.contains(&Effect::Kill { order: start }), "it may be the resource");
        assert!(play.agent.unfinished().is_empty());
        if restarts == 2 {
            play = Play::after(play.disk, vec![start], 3);
            assert!(play.take().is_empty());
            play.sealed(1, 1);
        }
        let probe = play.order(1, 1, 2, "r", Action::Probe);
        play.exit(probe, Outcome::Exited(code), false);
        assert_eq!(play.effects.contains(&Effect::Kill { order: start }), goes, "{code}");
        assert_eq!(play.finished().unwrap().unfinished, goes, "no proof before it is gone");
        if !goes {
            let stop = play.order(1, 1, 3, "r", Action::Stop);
            play.exit(stop, Outcome::Exited(0), false);
            assert!(play.effects.contains(&Effect::Kill { order: start }));
        }
    }
}

#[test]
fn what_was_to_be_killed_still_is_after_a_restart() {
    for (action, outcome) in [(Action::Start, Outcome::TimedOut), (Action::Stop, Outcome::Exited(0))] {
        let mut play = Play::new();
        play.sealed(1, 1);
        let order = play.order(1, 1, 1, "r", action);
        play.exit(order, outcome, true);
        let mut play = Play::after(play.disk, vec![order], 2);
        assert_eq!(play.take(), [Effect::Kill { order }]);
        play.sealed(1, 1);
        assert_eq!(play.agent.unfinished().len(), 1);
        play.event(Event::Emptied { order });
        assert!(play.agent.unfinished().is_empty());
        // The same for a stop whose end nobody saw.
        let stop = play.order(1, 1, 2, "other", Action::Stop);
        let mut play = Play::after(play.disk, vec![stop], 3);
        assert_eq!(play.take(), [Effect::Watch { order: stop }]);
        play.exit(stop, Outcome::Lost, true);
        assert!(play.effects.contains(&Effect::Kill { order: stop }));
    }
}

#[test]
fn a_probe_proves_nothing_while_a_start_that_said_yes_has_processes_left() {
    let mut play = Play::new();
    play.sealed(1, 1);
    play.wait(Duration::from_secs(1));
    let start = play.order(1, 1, 1, "r", Action::Start);
    play.exit(start, Outcome::Exited(0), true);
    play.take();
    let probe = play.order(1, 1, 2, "r", Action::Probe);
    play.exit(probe, Outcome::Exited(7), false);
    assert!(play.effects.contains(&Effect::Kill { order: start }));
    assert!(play.finished().is_some_and(|finished| finished.unfinished));
    play.event(Event::Emptied { order: start });
    assert!(play.agent.unfinished().is_empty());
}

#[test]
fn results_are_kept_until_a_manager_has_them() {
    let mut play = Play::new();
    play.sealed(1, 1);
    let start = play.order(1, 1, 1, "r", Action::Start);
    play.event(Event::Disconnected { link: LinkId(1) });
    play.exit(start, Outcome::Exited(0), false);
    play.take();
    play.hello(2, 1, 1);
    play.seal(2, 1, false);
    assert_eq!(play.finished().map(|finished| finished.order), Some(start));
    play.event(Event::Received { link: LinkId(2), message: ToAgent::Forget { orders: vec![start] } });
    play.event(Event::Disconnected { link: LinkId(2) });
    play.take();
    play.hello(3, 1, 1);
    play.seal(3, 1, false);
    assert_eq!(play.finished(), None);
}

#[test]
fn a_seal_that_is_being_stored_counts_already() {
    for (manager, epoch, run) in [(2, 2, 2), (1, 1, 2), (1, 0, 1)] {
        let mut play = Play::new();
        play.disk_works = false;
        play.hello(1, 1, 1);
        play.hello(2, manager, run);
        play.seal(1, 1, false);
        play.seal(2, epoch, false);
        assert!(play.sent(|message| matches!(message, FromAgent::Rejected(_))), "{manager} {epoch} {run}");
        play.event(Event::Stored { count: 1, error: None });
        assert_eq!((play.agent.sealed(), play.agent.obeyed), (Epoch(1), Some(LinkId(1))));
    }
}

#[test]
fn nothing_is_executed_that_could_not_be_stored() {
    let mut play = Play::new();
    play.sealed(1, 1);
    play.disk_works = false;
    let order = play.order(1, 1, 1, "r", Action::Start);
    play.event(Event::Stored { count: play.stored + 1, error: Some("no space".to_owned()) });
    assert!(!play.ran(order));
    assert_eq!(play.refused(), Some(Refusal::NotStored("no space".to_owned())));
    assert!(play.agent.unfinished().is_empty());
}

#[test]
fn the_watchdog_is_fed_from_when_the_acknowledged_heartbeat_was_sent() {
    let mut play = Play::new();
    play.sealed(1, 1);
    let (sent, number) = (play.now.mono, play.agent.heartbeats.last);
    play.wait(Duration::from_secs(5));
    play.take();
    play.event(Event::Received { link: LinkId(1), message: ToAgent::Acknowledge { number } });
    assert_eq!(play.take(), [Effect::FeedWatchdogUntil(sent + Duration::from_secs(20))]);
    // One that was never sent, and one again, count for nothing.
    play.event(Event::Received { link: LinkId(1), message: ToAgent::Acknowledge { number: number + 100 } });
    play.event(Event::Received { link: LinkId(1), message: ToAgent::Acknowledge { number } });
    assert!(play.take().is_empty());
}
