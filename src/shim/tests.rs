//! The machine against a server played with the daemon's side of the codec.

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

#[test]
fn work_is_asked_for_once_and_only_when_wanted() {
    for eager in [false, true] {
        let mut rig = Rig::ready(ShimConfig { eager, ..ShimConfig::default() }, Duration::ZERO);
        assert_eq!(recvs(&rig.sent()), usize::from(eager));
        rig.feed(Event::WorkWanted);
        rig.feed(Event::WorkWanted);
        assert_eq!(recvs(&rig.sent()), usize::from(!eager));
        rig.work(vec![item(Action::Archive, 1)]);
        assert_eq!(recvs(&rig.sent()), 0);
        assert_eq!(rig.take(), [1]);
        rig.feed(Event::Tick);
        assert_eq!(recvs(&rig.sent()), usize::from(eager));
    }
}

#[test]
fn lists_are_read_whatever_way_they_are_cut() {
    for size in [1, 2, 3, 7, 64, 10_000] {
        let mut rig = Rig::ready(ShimConfig { eager: true, ..ShimConfig::default() }, Duration::ZERO);
        for n in 1..4 {
            let mut bytes = Vec::new();
            let items = vec![item(Action::Archive, n), item(Action::Remove, n + 10)];
            write_work(
                &WorkList { archive_id: 1, flags: 0, items, binary_data: true },
                "testfs0",
                &mut bytes,
            );
            bytes.extend_from_slice(b" \n");
            bytes.chunks(size).for_each(|chunk| rig.receive(chunk));
            assert_eq!(rig.take(), [u64::from(n), u64::from(n) + 10], "in pieces of {size}");
            assert!(rig.take().is_empty());
            rig.feed(Event::Tick);
        }
    }
}

#[test]
fn lengths_are_padded_unless_exact_ones_are_asked_for() {
    for (item_length, want) in [(ItemLength::Padded, 80), (ItemLength::Exact, 75)] {
        let mut rig = Rig::ready(ShimConfig { item_length, ..ShimConfig::default() }, Duration::ZERO);
        rig.feed(Event::WorkWanted);
        rig.work(vec![item(Action::Archive, 1)]);
        let bytes = rig.shim.take_list(rig.now).unwrap();
        assert_eq!(u32::from_ne_bytes(bytes[40..44].try_into().unwrap()), want);
    }
}

/// C 0.4: "done lost if the socket dies before send ('will resolve on reconnect' but the item is already deleted from its
/// tree, so the server re-runs it)".
#[test]
fn ends_are_claimed_and_sent_until_acknowledged() {
    let mut rig = Rig::ready(ShimConfig::default(), Duration::ZERO);
    rig.run(&[1, 2, 3, 4]);
    for n in 1..4 {
        rig.feed(Event::Ended(end(n, n as i32)));
    }
    assert_eq!(rig.dones(), [(1, 1), (2, 2), (3, 3)]);
    rig.reply(&Reply::Done);
    assert_eq!(rig.shim.unacknowledged(), 2);
    assert_eq!(rig.reconnect(Duration::ZERO, Vec::new()), [4, 2, 3]);
    assert_eq!(rig.dones(), [(2, 2), (3, 3)]);
    // Ended while there was no connection.
    let conn = rig.conn();
    rig.feed(Event::Disconnected { conn, reason: "test" });
    rig.feed(Event::Ended(end(4, 0)));
    rig.wait(Duration::from_secs(6));
    rig.connect();
    assert_eq!(rig.welcome(Duration::ZERO, Vec::new()).hai_list.unwrap().len(), 3);
    assert_eq!(rig.dones(), [(2, 2), (3, 3), (4, 0)]);
    for left in [2, 1, 0] {
        rig.reply(&Reply::Done);
        assert_eq!(rig.shim.unacknowledged(), left);
    }
    assert_eq!(rig.shim.in_flight(), 0);
}

#[test]
fn an_end_that_the_server_does_not_take_is_not_sent_for_ever() {
    let mut rig = Rig::ready(ShimConfig::default(), Duration::ZERO);
    rig.run(&[1]);
    rig.feed(Event::Ended(end(1, 0)));
    assert_eq!(rig.dones(), [(1, 0)]);
    rig.reply(&Reply::Error { command: "done", status: 22, error: "cookie or fid not set -- old client?" });
    assert_eq!((rig.shim.unacknowledged(), rig.shim.is_ready()), (0, true));
}

#[test]
fn work_that_is_done_and_that_the_mdt_did_not_hear_of_is_told_so() {
    let mut rig = Rig::ready(ShimConfig::default(), Duration::ZERO);
    rig.run(&[1]);
    rig.feed(Event::Ended(End { unheard: true, ..end(1, 2) }));
    let told = |message: &&Message| matches!(message, Message::Unheard(Done { cookie: 1, status: 2, .. }));
    assert_eq!(rig.sent().iter().filter(told).count(), 1);
    // Until the daemon has heard it.
    assert_eq!(rig.reconnect(Duration::ZERO, Vec::new()), [1]);
    assert_eq!(rig.sent().iter().filter(told).count(), 1);
    rig.reply(&Reply::Done);
    assert_eq!(rig.shim.unacknowledged(), 0);
}

#[test]
fn a_cancel_and_its_victim_are_both_reported() {
    let mut rig = Rig::ready(ShimConfig::default(), Duration::ZERO);
    rig.run(&[1]);
    rig.feed(Event::WorkWanted);
    rig.work(vec![item(Action::Cancel, 1)]);
    assert_eq!(rig.take(), [1]);
    rig.feed(Event::Ended(End { cancel: true, ..end(1, 38) }));
    // Not as an end, which a server that has restarted meanwhile would take it for.
    let sent = rig.sent();
    assert!(sent.contains(&Message::GoesOn), "{sent:?}");
    // The copytool cannot cancel and goes on: the request stays ours over a reconnect.
    assert_eq!(rig.reconnect(Duration::ZERO, Vec::new()), [1]);
    rig.reply(&Reply::Done);
    rig.feed(Event::Ended(end(1, 0)));
    let sent = rig.sent();
    assert_eq!(sent.iter().filter(|message| **message == Message::GoesOn).count(), 1, "{sent:?}");
    assert!(
        sent.iter().any(|message| matches!(message, Message::Done(Done { cookie: 1, status: 0, .. }))),
        "{sent:?}"
    );
    assert_eq!(rig.shim.in_flight(), 0);
}

#[test]
fn what_is_running_is_not_handed_out_twice() {
    let mut rig = Rig::ready(ShimConfig::default(), Duration::ZERO);
    rig.run(&[1]);
    rig.feed(Event::WorkWanted);
    rig.work(vec![item(Action::Archive, 1), item(Action::Archive, 2)]);
    assert_eq!(rig.take(), [2]);
    // Taken and never begun: dropped by the copytool, so it is welcome again.
    rig.feed(Event::WorkWanted);
    rig.work(vec![item(Action::Archive, 2)]);
    assert_eq!(rig.take(), [2]);
}

#[test]
fn refused_requests_stop_and_may_come_back() {
    let mut rig = Rig::ready(ShimConfig::default(), Duration::ZERO);
    rig.run(&[1, 2, 3]);
    rig.feed(Event::WorkWanted);
    rig.work(vec![item(Action::Archive, 4), item(Action::Archive, 5)]);
    // Not acknowledged when the connection went, and ended for the server: no longer of interest.
    rig.feed(Event::Ended(end(3, 0)));
    rig.reconnect(Duration::from_secs(60), vec![key(1), key(3), key(4)]);
    let refused: Vec<_> = rig
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Refused { key } => Some(key.cookie),
            _ => None,
        })
        .collect();
    assert_eq!(refused, [1, 4]);
    assert_eq!(rig.dones(), []);
    assert!(!rig.shim.holds(&key(1)) && rig.shim.holds(&key(2)));
    assert_eq!(rig.take(), [5]);
    // What the stopped attempt says is not told to the server.
    rig.feed(Event::Ended(end(1, 125)));
    assert_eq!(rig.dones(), []);
    rig.feed(Event::WorkWanted);
    rig.work(vec![item(Action::Archive, 1)]);
    assert!(rig.asked().contains(&Effect::Revived { key: key(1) }));
    assert_eq!(rig.take(), [1]);
}

#[test]
fn the_lease_counts_from_when_the_answered_message_was_sent() {
    let lease = Duration::from_secs(60);
    let mut rig = Rig::new(ShimConfig::default());
    rig.feed(Event::Resolved { servers: 1 });
    rig.connect();
    let sent = rig.now;
    rig.now += Duration::from_secs(7);
    rig.welcome(lease, Vec::new());
    assert_eq!(rig.shim.lease_until(), Some(sent + lease));
    rig.sent();
    // A third after it was sent.
    assert_eq!(rig.shim.next_deadline(), Some(sent + Duration::from_secs(20)));
    rig.wait(Duration::from_secs(13));
    let renewed = rig.now;
    let [Message::Lease { serial }] = rig.sent()[..] else { panic!("no renewal") };
    rig.now += Duration::from_secs(10);
    rig.reply(&Reply::Lease { serial: serial + 1, lease_ms: 60_000 });
    assert_eq!(rig.shim.lease_until(), Some(sent + lease));
    rig.reply(&Reply::Lease { serial, lease_ms: 60_000 });
    assert_eq!(rig.shim.lease_until(), Some(renewed + lease));
}

#[test]
fn a_server_that_does_not_renew_is_left_while_there_is_time() {
    let lease = Duration::from_secs(60);
    let mut rig = Rig::ready(ShimConfig::default(), lease);
    rig.wait(Duration::from_secs(20));
    assert_eq!(rig.sent().len(), 1);
    rig.wait(Duration::from_secs(20));
    let asked = rig.asked();
    assert!(asked.contains(&Effect::Close { conn: 1 }), "{asked:?}");
    assert!(rig.shim.lease_until().unwrap() > rig.now);
    // A server that knows no leases frees us from ours.
    rig.wait(Duration::from_secs(6));
    rig.feed(Event::Resolved { servers: 1 });
    rig.effects.extend(asked);
    rig.effects.retain(|effect| matches!(effect, Effect::Connect { .. }));
    rig.connect();
    rig.welcome(Duration::ZERO, Vec::new());
    assert_eq!(rig.shim.lease_until(), None);
}

#[test]
fn abandoned_requests_are_given_back() {
    let mut rig = Rig::ready(ShimConfig::default(), Duration::from_secs(60));
    rig.run(&[1, 2, 3]);
    rig.feed(Event::Abandoned { key: key(1) });
    rig.feed(Event::Abandoned { key: key(2) });
    rig.asked();
    let conn = rig.conn();
    rig.wait(Duration::from_millis(500));
    assert!(rig.asked().contains(&Effect::Close { conn }));
    rig.wait(Duration::from_secs(6));
    rig.connect();
    let ehlo = rig.welcome(Duration::from_secs(60), Vec::new());
    assert_eq!(ehlo.hai_list.unwrap_or_default(), [item(Action::Archive, 3)]);
}

#[test]
fn a_request_that_was_never_begun_is_looked_at() {
    let config = ShimConfig { begin_timeout: Duration::from_secs(60), ..ShimConfig::default() };
    let mut rig = Rig::ready(config, Duration::ZERO);
    rig.feed(Event::WorkWanted);
    rig.work(vec![item(Action::Restore, 1), item(Action::Remove, 2), item(Action::Archive, 3)]);
    rig.take();
    rig.feed(Event::Begun { key: key(3) });
    rig.asked();
    rig.wait(Duration::from_secs(59));
    assert_eq!(rig.asked(), []);
    for _ in 0..2 {
        rig.wait(Duration::from_secs(60));
        assert_eq!(rig.asked(), [Effect::Probe { key: key(1) }, Effect::Probe { key: key(2) }]);
        rig.feed(Event::Probed { key: key(1), gone: false });
        assert_eq!(rig.asked(), []);
    }
    // A remove of a file that is gone is nothing unusual; the copytool may have a long queue.
    rig.feed(Event::Probed { key: key(2), gone: true });
    assert_eq!(rig.asked(), []);
    rig.feed(Event::Probed { key: key(1), gone: true });
    let asked = rig.asked();
    assert_eq!(
        asked[..2],
        [
            Effect::Refused { key: key(1) },
            Effect::EndAtLustre { item: Box::new(item(Action::Restore, 1)), errno: 2 }
        ]
    );
    rig.effects = asked;
    assert_eq!(rig.dones(), [(1, 2)]);
}

/// A copytool that does nothing for ten times as long as a begin may take has dropped what it took, whatever it is.
#[test]
fn what_an_idle_copytool_took_is_ended() {
    for (action, errno) in [(Action::Remove, 5), (Action::Restore, 5), (Action::Archive, 114)] {
        let config = ShimConfig { begin_timeout: Duration::from_secs(60), ..ShimConfig::default() };
        let mut rig = Rig::ready(config, Duration::ZERO);
        rig.feed(Event::WorkWanted);
        rig.work(vec![item(action, 1), item(Action::Archive, 2)]);
        rig.take();
        // One that is under way keeps the other in the copytool's queue, for hours.
        rig.feed(Event::Begun { key: key(2) });
        let probed = |rig: &mut Rig| {
            rig.asked();
            rig.wait(Duration::from_secs(60));
            assert!(rig.asked().contains(&Effect::Probe { key: key(1) }));
            rig.feed(Event::Probed { key: key(1), gone: action == Action::Remove });
            rig.asked()
        };
        for _ in 0..120 {
            assert_eq!(probed(&mut rig), [], "{action}");
        }
        rig.feed(Event::Ended(end(2, 0)));
        // The process is stopped for a day.
        rig.wait(Duration::from_secs(86_400));
        for _ in 0..8 {
            assert_eq!(probed(&mut rig), [], "{action}");
        }
        let asked = probed(&mut rig);
        let told = Effect::EndAtLustre { item: Box::new(item(action, 1)), errno };
        assert_eq!(asked[..2], [Effect::Refused { key: key(1) }, told], "{action}");
        rig.effects = asked;
        assert_eq!(rig.dones(), [(1, 5)], "{action}");
        assert_eq!(rig.shim.in_flight(), 0);
    }
}

#[test]
fn any_nonsense_of_the_server_ends_the_connection_only() {
    let unasked: &[u8] =
        b"{\"command\": \"recv\", \"hsm_action_list\": {\"hal_version\": 1, \"hal_archive_id\": 1, \
        \"hal_flags\": 0, \"hal_fsname\": \"testfs0\", \"list\": []}}";
    let cases: [&[u8]; 8] = [
        unasked,
        b"3",
        b"[]",
        b"{\"command\": \"dance\"}",
        b"{\"command\": \"status\"}",
        b"{\"command\": \"ehlo\"}",
        b"{\"command\": \"recv\"}",
        b"{\"command\": \"lease\", \"status\": 22}",
    ];
    for bytes in cases {
        let mut rig = Rig::ready(ShimConfig::default(), Duration::ZERO);
        rig.run(&[1]);
        let conn = rig.conn();
        rig.receive(bytes);
        assert!(rig.asked().contains(&Effect::Close { conn }), "{}", String::from_utf8_lossy(bytes));
        rig.wait(Duration::from_secs(6));
        rig.connect();
        assert_eq!(rig.welcome(Duration::ZERO, Vec::new()).hai_list.unwrap().len(), 1);
    }
}

/// A copytool would take the items for files of its own file system; a name with a NUL moves them in its eyes.
#[test]
fn work_for_another_file_system_is_not_taken() {
    for (fsname, taken) in [("testfs0", true), ("testfs1", false), ("testfs0\\u0000", false), ("", false)] {
        let mut rig = Rig::ready(ShimConfig::default(), Duration::ZERO);
        rig.feed(Event::WorkWanted);
        let conn = rig.conn();
        let list = format!(
            "{{\"command\": \"recv\", \"hsm_action_list\": {{\"hal_version\": 1, \"hal_archive_id\": 1, \
             \"hal_flags\": 0, \"hal_fsname\": \"{fsname}\", \"list\": []}}}}"
        );
        rig.receive(list.as_bytes());
        assert_eq!(!rig.asked().contains(&Effect::Close { conn }), taken, "{fsname:?}");
    }
}

/// A server that grants almost nothing is asked ten times a second at most.
#[test]
fn a_tiny_lease_does_not_keep_the_mover_busy() {
    let mut rig = Rig::ready(ShimConfig::default(), Duration::from_millis(1));
    let mut renewals = 0;
    for _ in 0..1000 {
        rig.wait(Duration::from_micros(100));
        let sent = rig.sent();
        renewals += sent.len();
        for message in sent {
            let Message::Lease { serial } = message else { panic!("{message:?}") };
            rig.reply(&Reply::Lease { serial, lease_ms: 1 });
        }
    }
    assert_eq!(renewals, 1);
    // The longest there is does not overflow.
    let rig = Rig::ready(ShimConfig::default(), Duration::from_millis(i64::MAX as u64));
    assert!(rig.shim.lease_until().is_some());
}

mod properties {
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
}
