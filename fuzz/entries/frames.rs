//! What managers and agents say to each other, and what becomes of the machines that hear it.

use std::fmt::Debug;

use coordinatool::ha::agent::{Agent, Effect as AgentEffect, Event as AgentEvent, Identity};
use coordinatool::ha::config::load;
use coordinatool::ha::engine::{Effect, Effects, Engine, Event, LostState, Start};
use coordinatool::ha::ids::{AgentRun, LinkId, ManagerId, ManagerRun};
use coordinatool::ha::ocf::Outcome;
use coordinatool::ha::protocol::frame::{Decoder, encode};
use coordinatool::ha::protocol::{FromAgent, Isolation};
use coordinatool::ha::state::State;
use coordinatool::time::{Mono, Now, Wall};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The same messages come out however the bytes arrive, and each can be said again.
fn messages<M: DeserializeOwned + Serialize + PartialEq + Debug>(data: &[u8]) -> Vec<M> {
    let decode = |size: usize| {
        let mut decoder = Decoder::default();
        let mut found = Vec::new();
        for piece in data.chunks(size) {
            decoder.push(piece);
            loop {
                match decoder.pop::<M>() {
                    Ok(Some(message)) => found.push(message),
                    Ok(None) => break,
                    Err(_) => return found,
                }
            }
        }
        found
    };
    let found = decode(data.len().max(1));
    assert_eq!(found, decode(7));
    for message in &found {
        let mut decoder = Decoder::default();
        decoder.push(&encode(message).unwrap());
        assert_eq!(decoder.pop::<M>().unwrap().as_ref(), Some(message));
        assert!(decoder.is_empty());
    }
    found
}

fn at(step: usize) -> Now {
    let step = step as u64 * 100_000_000;
    Now { mono: Mono(1_000_000_000 + step), wall: Wall(1_700_000_000_000_000_000 + step as i64) }
}

/// An agent runs nothing before it said that it is sealed.
pub fn to_agent(data: &[u8]) {
    let identity = Identity {
        host: "h0".into(),
        boot: "b".into(),
        run: AgentRun(1),
        program: String::new(),
        system_uuid: None,
        isolation: Isolation::Cgroup,
        watchdog_ms: Some(10_000),
    };
    let mut agent = Agent::new(identity);
    let link = LinkId(1);
    let mut events = vec![
        AgentEvent::Recovered { records: Vec::new(), alive: Vec::new() },
        AgentEvent::Connected { link },
    ];
    events.extend(messages(data).into_iter().map(|message| AgentEvent::Received { link, message }));
    let (mut stored, mut sealed) = (0, false);
    for (step, event) in events.into_iter().enumerate() {
        let mut waiting = vec![event];
        while let Some(event) = waiting.pop() {
            let mut effects = Vec::new();
            agent.handle(at(step), event, &mut effects);
            for effect in effects {
                match effect {
                    AgentEffect::Store(_) => {
                        stored += 1;
                        waiting.insert(0, AgentEvent::Stored { count: stored, error: None });
                    }
                    AgentEffect::Send { message: FromAgent::Sealed { .. }, .. } => sealed = true,
                    AgentEffect::Run { order, .. } => {
                        assert!(sealed);
                        waiting.insert(
                            0,
                            AgentEvent::Exited {
                                order,
                                outcome: Outcome::Exited(0),
                                reason: String::new(),
                                took_ms: 0,
                                left_behind: order.number % 2 == 1,
                                advised_interval_ms: None,
                            },
                        );
                    }
                    AgentEffect::Kill { order } => waiting.insert(0, AgentEvent::Emptied { order }),
                    _ => {}
                }
            }
        }
    }
}

const CONFIG: &str = "\
hosts:
- hostname: h0
- hostname: h1
resources:
- {name: r, kind: heartbeat/Dummy, parameters: {state: /run/r}}
resource_groups:
- {root: r, home_host: h0, failover_hosts: [h1]}
";

/// An engine stands whatever the agent of one host says.
pub fn from_agent(data: &[u8]) {
    let start = Start {
        config: load(CONFIG, "f").unwrap().config,
        manage: true,
        state: State::default(),
        lost: LostState::Absent,
        new_manager: ManagerId(1),
        run: ManagerRun(1),
    };
    let mut effects = Effects::default();
    let mut engine = Engine::new(at(0), start, &mut effects);
    let mut link = None;
    let mut step = 0;
    let mut tell = |engine: &mut Engine, effects: &mut Effects, link: &mut Option<LinkId>, event: Event| {
        step += 1;
        engine.handle(at(step), event, effects);
        let dialled = std::mem::take(&mut effects.effects).into_iter().find_map(|effect| match effect {
            Effect::Connect { link, host, .. } if host.as_str() == "h0" => Some(link),
            _ => None,
        });
        *link = dialled.or(*link);
        dialled
    };
    for _ in 0..3 {
        if let Some(link) = tell(&mut engine, &mut effects, &mut link, Event::Tick) {
            tell(&mut engine, &mut effects, &mut None, Event::Connected { link });
        }
    }
    for message in messages::<FromAgent>(data) {
        let Some(present) = link else { break };
        if let Some(new) =
            tell(&mut engine, &mut effects, &mut link, Event::Received { link: present, message })
        {
            tell(&mut engine, &mut effects, &mut None, Event::Connected { link: new });
        }
    }
    engine.status(at(step));
}
