//! The movers' side: a server that says anything.

use coordinatool::hsm::{Mono, RequestKey};
use coordinatool::shim::event::{Effect, End, Event};
use coordinatool::shim::{Shim, ShimConfig};
use coordinatool::wire::{Decoder, Limits, parse_message};
use lustreapi_sys::hal::ActionList;

struct Mover {
    shim: Shim,
    now: Mono,
    conn: Option<u64>,
    /// What the copytool got and has not ended.
    work: Vec<(RequestKey, lustreapi_sys::Fid)>,
    sent: Decoder,
}

impl Mover {
    fn event(&mut self, event: Event<'_>) {
        let mut effects = Vec::new();
        self.shim.handle(self.now, event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Resolve => self.event(Event::Resolved { servers: 1 }),
                Effect::Connect { conn, .. } => {
                    self.conn = Some(conn);
                    self.sent = Decoder::new(Limits::default());
                    self.event(Event::Connected { conn });
                }
                Effect::Send { conn, bytes } => {
                    assert_eq!(Some(conn), self.conn, "sent to a connection that is gone");
                    self.sent.push(&bytes);
                    while let Some(message) = self.sent.next_object().unwrap() {
                        parse_message(message).unwrap();
                    }
                    assert_eq!(self.sent.pending_bytes(), 0);
                }
                Effect::Close { conn } => {
                    if self.conn == Some(conn) {
                        self.conn = None;
                    }
                }
                Effect::Refused { key } => self.work.retain(|(held, _)| *held != key),
                Effect::Probe { key } => {
                    self.event(Event::Probed { key, gone: key.cookie.is_multiple_of(2) })
                }
                Effect::EndAtLustre { errno, .. } => assert!(errno > 0),
                Effect::Revived { .. } | Effect::Log { .. } => {}
            }
        }
    }

    fn take(&mut self) {
        self.event(Event::WorkWanted);
        while let Some(list) = self.shim.take_list(self.now) {
            let list = ActionList::parse(&list).unwrap();
            assert!(!list.items.is_empty());
            for item in &list.items {
                let key = RequestKey { cookie: item.cookie, fid: item.fid };
                self.work.push((key, item.dfid));
                if item.cookie.is_multiple_of(3) {
                    self.event(Event::Begun { key });
                }
            }
        }
    }

    fn wait(&mut self, end: Mono) {
        let mut turns = 0;
        while let Some(at) = self.shim.next_deadline().filter(|at| *at <= end) {
            turns += 1;
            assert!(turns < 100_000, "it wants to be woken for ever");
            self.now = at.max(self.now);
            self.event(Event::Tick);
        }
        self.now = end;
    }
}

/// Lines that begin with `!` are what the copytool and the network do: `!t` takes work, `!e` ends the oldest, `!a` gives it up,
/// `!x` loses the connection, `!NUMBER` waits milliseconds. All others are bytes from the server.
pub fn replies(data: &[u8]) {
    let config = ShimConfig {
        client_id: "m0".into(),
        fsname: "testfs0".into(),
        eager: data.len() % 2 == 1,
        ..ShimConfig::default()
    };
    let mut mover = Mover {
        shim: Shim::new(config),
        now: Mono(1_000_000_000),
        conn: None,
        work: Vec::new(),
        sent: Decoder::new(Limits::default()),
    };
    mover.wait(Mono(2_000_000_000));
    mover.event(Event::Tick);
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        match line {
            [b'!', b't', ..] => mover.take(),
            [b'!', b'e' | b'a', rest @ ..] if !mover.work.is_empty() => {
                let (key, dfid) = mover.work.remove(0);
                let status = rest.first().map_or(0, |byte| i32::from(*byte & 0x3f));
                mover.event(if line[1] == b'a' {
                    Event::Abandoned { key }
                } else {
                    Event::Ended(End { key, dfid, status, unheard: status == 2, cancel: status == 38 })
                });
            }
            [b'!', b'x', ..] => {
                if let Some(conn) = mover.conn.take() {
                    mover.event(Event::Disconnected { conn, reason: "" });
                }
            }
            [b'!', rest @ ..] => {
                let text = std::str::from_utf8(rest).unwrap_or_default();
                let ms = text.trim().parse::<u64>().unwrap_or(100).min(10_000_000);
                mover.wait(Mono(mover.now.0 + ms * 1_000_000));
            }
            _ => {
                if let Some(conn) = mover.conn {
                    mover.event(Event::Received { conn, bytes: line });
                }
            }
        }
    }
    mover.take();
    mover.wait(Mono(mover.now.0 + 100_000_000_000));
}
