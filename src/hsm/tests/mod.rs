//! Sessions with the coordinator as scripts.

mod batches;
mod bound;
mod cancels;
mod duties;
mod explaining;
mod failures;
mod fairness;
mod feed;
mod following;
mod forgotten;
mod golden;
mod hosts;
mod keepalive;
mod limits;
mod movers;
mod orders;
mod owed;
mod queueing;
mod reading;
mod reconcile;
mod recovery;
mod removed;
mod reporting;
mod status;
mod stranded;
mod tapes;
mod top;
mod vetting;

use std::time::Duration;

use lustreapi_sys::Fid;

use super::action::{Action, ActionItem, RequestKey};
use super::config::{BatchConfig, HostChoice, HostMapping, HsmConfig};
use super::effect::{Effect, Effects, Reply, StoreOp, WorkList};
use super::event::{ConnId, Done, Ehlo, Event, Lock, Message, Queue, Recv};
use super::operator::{AskId, CancelReport, OperatorReply, Order};
use super::time::{Mono, Now, Wall};
use super::views::{Find, HistoryQuery, Outcome, Select};
use super::{Coordinator, LustreAnswer, LustreCall, StatusCursor, TopWalk};

pub(super) const SECOND: u64 = 1_000_000_000;

/// A coordinator with a clock, and all that it asked for.
pub(super) struct Session {
    pub(super) core: Coordinator,
    pub(super) now: Now,
    pub(super) store: Vec<StoreOp>,
    pub(super) visible: Vec<Effect>,
    asks: u64,
}

pub(super) fn fid(oid: u32) -> Fid {
    Fid::new(0x2_0000_0401, oid, 0)
}

pub(super) fn item(action: Action, oid: u32, cookie: u64, data: &str) -> ActionItem {
    ActionItem { data: data.as_bytes().into(), ..ActionItem::new(action, fid(oid), cookie, 1) }
}

pub(super) fn archive(oid: u32, data: &str) -> ActionItem {
    item(Action::Archive, oid, u64::from(oid), data)
}

pub(super) fn restore(oid: u32, data: &str) -> ActionItem {
    item(Action::Restore, oid, u64::from(oid), data)
}

pub(super) fn remove(oid: u32, data: &str) -> ActionItem {
    item(Action::Remove, oid, u64::from(oid), data)
}

pub(super) fn any(tag: &str, hosts: &[&str]) -> HostMapping {
    let hosts = hosts.iter().map(|&host| host.into()).collect();
    HostMapping { tag: tag.into(), hosts, choice: HostChoice::Any }
}

pub(super) fn hash(tag: &str, modulus: Option<u64>, hosts: &[&str]) -> HostMapping {
    HostMapping { choice: HostChoice::Hash { modulus }, ..any(tag, hosts) }
}

pub(super) fn batch(idle: u64, max: Option<u64>, slots: u32) -> Option<BatchConfig> {
    Some(BatchConfig { idle: Duration::from_secs(idle), max: max.map(Duration::from_secs), slots })
}

/// Without keepalives, which would be everywhere among the effects.
pub(super) fn config() -> HsmConfig {
    HsmConfig { fsname: "testfs".into(), request_timeout: Duration::ZERO, ..HsmConfig::default() }
}

pub(super) const ANY: Recv =
    Recv { max_archive: None, max_restore: None, max_remove: None, max_bytes: 1 << 20 };

pub(super) fn limits(archive: u32, restore: u32, remove: u32) -> Recv {
    Recv { max_archive: Some(archive), max_restore: Some(restore), max_remove: Some(remove), ..ANY }
}

impl Session {
    pub(super) fn new(config: HsmConfig) -> Self {
        let now = Now { mono: Mono(100_000 * SECOND), wall: Wall(1_795_217_766_551_745_936) };
        Self { core: Coordinator::new(config, 1, now), now, store: Vec::new(), visible: Vec::new(), asks: 0 }
    }

    pub(super) fn event(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Effects::default();
        self.core.handle(self.now, event, &mut effects);
        self.core.check();
        self.store.extend(effects.store);
        self.visible.extend(effects.visible.clone());
        effects.visible
    }

    /// What is going on, and after how many steps that is known.
    pub(super) fn walk(&self, most: usize) -> (TopWalk, usize) {
        let (mut walk, mut steps) = (TopWalk::new(most), 1);
        while !self.core.top_step(&mut walk, self.now) {
            steps += 1;
        }
        (walk, steps)
    }

    /// An event without the check of all invariants, which looks at everything.
    pub(super) fn core_only(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Effects::default();
        self.core.handle(self.now, event, &mut effects);
        effects.visible
    }

    pub(super) fn message(&mut self, conn: u64, message: Message) -> Vec<Effect> {
        self.event(Event::Message { conn: ConnId(conn), message })
    }

    pub(super) fn connect(&mut self, conn: u64) {
        self.event(Event::Connected { conn: ConnId(conn), peer: format!("localhost:{conn}") });
    }

    pub(super) fn disconnect(&mut self, conn: u64) -> Vec<Effect> {
        self.event(Event::Disconnected { conn: ConnId(conn) })
    }

    pub(super) fn ehlo(&mut self, conn: u64, ehlo: Ehlo) -> Vec<Effect> {
        self.message(conn, Message::Ehlo(ehlo))
    }

    /// Connects a mover that serves these archives.
    pub(super) fn mover_for(&mut self, conn: u64, id: &str, archive_ids: &[u32]) -> Vec<Effect> {
        self.connect(conn);
        let archive_ids = archive_ids.to_vec();
        self.ehlo(conn, Ehlo { id: Some(id.into()), archive_ids, ..Ehlo::default() })
    }

    pub(super) fn mover(&mut self, conn: u64, id: &str) -> Vec<Effect> {
        self.mover_for(conn, id, &[])
    }

    /// Connects a mover that says it still runs `items`.
    pub(super) fn mover_with(&mut self, conn: u64, id: &str, items: Vec<ActionItem>) -> Vec<Effect> {
        self.connect(conn);
        self.ehlo(conn, Ehlo { id: Some(id.into()), hai_list: Some(items), ..Ehlo::default() })
    }

    pub(super) fn recv(&mut self, conn: u64, recv: Recv) -> Vec<Effect> {
        self.message(conn, Message::Recv(recv))
    }

    /// Cookies of what a `recv` is answered with at once; empty for no answer.
    pub(super) fn work(&mut self, conn: u64, recv: Recv) -> Vec<u64> {
        cookies(&self.recv(conn, recv), conn)
    }

    pub(super) fn lustre(&mut self, items: Vec<ActionItem>) -> Vec<Effect> {
        self.event(Event::Lustre { items })
    }

    pub(super) fn queue(&mut self, conn: u64, items: Vec<ActionItem>) -> Vec<Effect> {
        self.message(conn, Message::Queue(Queue { items: Some(items), ..Queue::default() }))
    }

    pub(super) fn done(&mut self, conn: u64, cookie: u64, oid: u32, status: i32) -> Vec<Effect> {
        self.message(conn, Message::Done(Done { cookie, dfid: fid(oid), status }))
    }

    pub(super) fn lock(&mut self, conn: u64, lock: Lock) -> Vec<Effect> {
        self.message(conn, Message::Lock(Some(lock)))
    }

    /// What came of an order, and what else happened until then.
    pub(super) fn order(&mut self, order: Order) -> (OperatorReply, Vec<Effect>) {
        self.asks += 1;
        let ask = AskId(self.asks);
        let mut all = self.event(Event::Operator { ask, who: "test".into(), order });
        for _ in 0..1000 {
            let reply = all.iter().find_map(|effect| match effect {
                Effect::Operator { ask: of, reply } if *of == ask => Some(reply.clone()),
                _ => None,
            });
            if let Some(reply) = reply {
                return (reply, all);
            }
            all.extend(self.event(Event::Tick));
        }
        panic!("no answer to an order");
    }

    /// What a cancel hits.
    pub(super) fn cancel(&mut self, select: Select, preview: bool) -> (CancelReport, Vec<Effect>) {
        match self.order(Order::Cancel { select, preview, examples: 3 }) {
            (OperatorReply::Cancel(report), effects) => (report, effects),
            (other, _) => panic!("{other:?}"),
        }
    }

    /// Short names of the reasons for which the request of a file waits.
    pub(super) fn why(&self, oid: u32) -> Vec<&'static str> {
        let mut all = self.core.explain(&Find::Request(key(oid)));
        assert_eq!(all.len(), 1, "one request");
        let reasons = all.remove(0).reasons;
        reasons.iter().map(|reason| reason.name()).collect()
    }

    pub(super) fn pass_ms(&mut self, ms: u64) -> Vec<Effect> {
        let end = self.now.mono + Duration::from_millis(ms);
        let mut all = Vec::new();
        while let Some(at) = self.core.next_deadline().filter(|&at| at <= end) {
            let at = at.max(self.now.mono);
            self.now.wall = self.now.wall_at(at);
            self.now.mono = at;
            all.extend(self.event(Event::Tick));
        }
        self.now.wall = self.now.wall_at(end);
        self.now.mono = end;
        all
    }

    /// Lets time pass, waking the coordinator when it wants to be woken.
    pub(super) fn pass(&mut self, seconds: u64) -> Vec<Effect> {
        self.pass_ms(seconds * 1000)
    }

    pub(super) fn status(&mut self, conn: u64, verbose: i64) -> String {
        let effects = self.message(conn, Message::Status { verbose });
        let cursor = status_cursor(&effects);
        let mut out = Vec::new();
        assert!(self.core.status_chunk(self.now, cursor, usize::MAX, &mut out));
        String::from_utf8(out).unwrap()
    }

    /// What `status` says of the member `name` in one client, or of all when `client` is empty.
    pub(super) fn clients(&mut self, conn: u64) -> Vec<serde_json::Value> {
        let status: serde_json::Value = serde_json::from_str(&self.status(conn, 6)).unwrap();
        status["clients"].as_array().unwrap().clone()
    }
}

pub(super) fn status_cursor(effects: &[Effect]) -> StatusCursor {
    effects
        .iter()
        .find_map(|effect| match effect {
            Effect::Status { cursor, .. } => Some(*cursor),
            _ => None,
        })
        .unwrap()
}

/// The answer to a `recv` among these effects.
pub(super) fn list(effects: &[Effect], to: u64) -> Option<&WorkList> {
    let mut lists = effects.iter().filter_map(|effect| match effect {
        Effect::Work { conn, list } if conn.0 == to => Some(list),
        _ => None,
    });
    let list = lists.next();
    assert!(lists.next().is_none(), "one answer for one recv");
    list
}

pub(super) fn cookies(effects: &[Effect], conn: u64) -> Vec<u64> {
    list(effects, conn).map_or_else(Vec::new, |list| list.items.iter().map(|item| item.cookie).collect())
}

pub(super) fn replies(effects: &[Effect], to: u64) -> Vec<&Reply> {
    let of = |effect| match effect {
        &Effect::Reply { conn, ref reply } if conn.0 == to => Some(reply),
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}

/// Command, status and text of an error answered to `conn`.
pub(super) fn error(effects: &[Effect], to: u64) -> Option<(&'static str, i32, &'static str)> {
    replies(effects, to).into_iter().find_map(|reply| match reply {
        Reply::Error { command, status, error } => Some((*command, *status, *error)),
        _ => None,
    })
}

pub(super) fn reports(effects: &[Effect]) -> Vec<String> {
    let line = |effect: &Effect| match effect {
        Effect::Report { name, line } => Some(format!("{name}: {line}")),
        Effect::RemoveReport { name } => Some(format!("{name} removed")),
        _ => None,
    };
    effects.iter().filter_map(line).collect()
}

pub(super) fn endings(effects: &[Effect]) -> Vec<(u64, i32)> {
    let end = |effect: &Effect| match effect {
        Effect::EndAtLustre { item, errno } => Some((item.cookie, *errno)),
        _ => None,
    };
    effects.iter().filter_map(end).collect()
}

pub(super) fn key(oid: u32) -> RequestKey {
    RequestKey { cookie: u64::from(oid), fid: fid(oid) }
}

/// What the MDT is asked for again: the cookies of the failed requests.
pub(super) fn asked(effects: &[Effect]) -> Vec<u64> {
    let of = |effect: &Effect| match effect {
        Effect::AskLustre(LustreCall::Request { item, .. }) => Some(item.cookie),
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}

/// Names and values of notes as the store would have them.
pub(super) fn notes(s: &Session) -> std::collections::BTreeMap<String, String> {
    let mut notes = std::collections::BTreeMap::new();
    for op in &s.store {
        match op {
            StoreOp::Note { name, value: Some(value) } => {
                notes.insert(name.clone(), value.clone());
            }
            StoreOp::Note { name, value: None } => {
                notes.remove(name);
            }
            _ => {}
        }
    }
    notes
}
