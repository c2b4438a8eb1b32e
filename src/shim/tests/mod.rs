//! The machine against a server played with the daemon's side of the codec.

mod ends;
mod leases;
mod properties;
mod servers;
mod work;

use std::time::Duration;

use lustreapi_sys::Fid;
use lustreapi_sys::hal::{ActionList, ItemLength};

use super::{Effect, End, Event, Shim, ShimConfig};
use crate::hsm::effect::{EhloReply, Reply, WorkList};
use crate::hsm::event::{Done, Ehlo, Message};
use crate::hsm::{Action, ActionItem, Mono, RequestKey};
use crate::wire::{Decoder, Limits, parse_message, write_reply, write_work};

const SECOND: u64 = 1_000_000_000;

fn key(n: u32) -> RequestKey {
    RequestKey { cookie: u64::from(n), fid: Fid::new(0x2_0000_0402, n, 0) }
}

fn item(action: Action, n: u32) -> ActionItem {
    ActionItem {
        data: Box::from(&b"tag"[..]),
        timestamp: 1,
        ..ActionItem::new(action, key(n).fid, key(n).cookie, 1)
    }
}

fn end(n: u32, status: i32) -> End {
    End { key: key(n), dfid: key(n).fid, status, unheard: false, cancel: false }
}

/// A machine, its clock, and what it asked for.
struct Rig {
    shim: Shim,
    now: Mono,
    effects: Vec<Effect>,
    decoder: Decoder,
    /// How many `recv` were seen on this connection and not answered.
    unanswered: usize,
}

impl Rig {
    fn new(config: ShimConfig) -> Self {
        let config = ShimConfig { client_id: String::new(), fsname: "testfs0".into(), ..config };
        let mut rig = Self {
            shim: Shim::new(config),
            now: Mono(SECOND),
            effects: Vec::new(),
            decoder: Decoder::new(Limits::default()),
            unanswered: 0,
        };
        rig.feed(Event::Tick);
        rig
    }

    /// Connected, known, lease granted where asked for.
    fn ready(config: ShimConfig, lease: Duration) -> Self {
        let mut rig = Self::new(config);
        rig.feed(Event::Resolved { servers: 1 });
        rig.connect();
        rig.welcome(lease, Vec::new());
        rig
    }

    fn feed(&mut self, event: Event<'_>) {
        self.shim.handle(self.now, event, &mut self.effects);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.feed(Event::Tick);
    }

    /// What was asked for but for log lines, forgetting it.
    fn asked(&mut self) -> Vec<Effect> {
        let effects = std::mem::take(&mut self.effects);
        effects.into_iter().filter(|effect| !matches!(effect, Effect::Log { .. })).collect()
    }

    /// The number of the connection that was asked for, and its server; it stands now.
    fn connect(&mut self) -> (u64, usize) {
        let asked = self.asked();
        let found = asked.iter().find_map(|effect| match effect {
            Effect::Connect { conn, server } => Some((*conn, *server)),
            _ => None,
        });
        let (conn, server) = found.unwrap_or_else(|| panic!("no connection asked for: {asked:?}"));
        self.decoder = Decoder::new(Limits::default());
        self.unanswered = 0;
        self.feed(Event::Connected { conn });
        (conn, server)
    }

    fn conn(&self) -> u64 {
        self.shim.conn().unwrap()
    }

    /// What was sent.
    fn sent(&mut self) -> Vec<Message> {
        for effect in self.asked() {
            if let Effect::Send { bytes, .. } = effect {
                self.decoder.push(&bytes);
            }
        }
        let mut messages = Vec::new();
        while let Some(object) = self.decoder.next_object().unwrap() {
            messages.push(parse_message(object).unwrap());
        }
        self.unanswered += recvs(&messages);
        messages
    }

    fn receive(&mut self, bytes: &[u8]) {
        let conn = self.conn();
        self.feed(Event::Received { conn, bytes });
    }

    fn reply(&mut self, reply: &Reply) {
        let mut bytes = Vec::new();
        write_reply(reply, &mut bytes);
        self.receive(&bytes);
    }

    fn welcome(&mut self, lease: Duration, refused: Vec<RequestKey>) -> Ehlo {
        let ehlo = self.sent().into_iter().find_map(|message| match message {
            Message::Ehlo(ehlo) => Some(ehlo),
            _ => None,
        });
        let lease_ms = lease.as_millis() as u64;
        self.reply(&Reply::Ehlo(EhloReply { lease_ms, refused }));
        ehlo.unwrap()
    }

    fn work(&mut self, items: Vec<ActionItem>) {
        let mut bytes = Vec::new();
        let list = WorkList { archive_id: 1, flags: 0, items, binary_data: true };
        write_work(&list, "testfs0", &mut bytes);
        self.unanswered = self.unanswered.saturating_sub(1);
        self.receive(&bytes);
    }

    /// Takes the next list, as the copytool does: cookies in its order.
    fn take(&mut self) -> Vec<u64> {
        let bytes = self.shim.take_list(self.now).unwrap_or_default();
        if bytes.is_empty() {
            return Vec::new();
        }
        ActionList::parse(&bytes).unwrap().items.iter().map(|item| item.cookie).collect()
    }

    /// Hands out and begins these archives.
    fn run(&mut self, numbers: &[u32]) {
        self.feed(Event::WorkWanted);
        self.work(numbers.iter().map(|n| item(Action::Archive, *n)).collect());
        self.take();
        for n in numbers {
            self.feed(Event::Begun { key: key(*n) });
        }
    }

    /// Loses the connection and gets another.
    fn reconnect(&mut self, lease: Duration, refused: Vec<RequestKey>) -> Vec<u64> {
        let conn = self.conn();
        self.feed(Event::Disconnected { conn, reason: "test" });
        self.wait(Duration::from_secs(6));
        self.connect();
        let ehlo = self.welcome(lease, refused);
        ehlo.hai_list.unwrap_or_default().iter().map(|item| item.cookie).collect()
    }

    fn dones(&mut self) -> Vec<(u64, i32)> {
        self.sent()
            .into_iter()
            .filter_map(|message| match message {
                Message::Done(Done { cookie, status, .. }) => Some((cookie, status)),
                _ => None,
            })
            .collect()
    }
}

fn recvs(messages: &[Message]) -> usize {
    messages.iter().filter(|message| matches!(message, Message::Recv(_))).count()
}
