//! Rules of the coordinator that need a clock of their own.

use std::time::Duration;

use coordinatool::hsm::config::HsmConfig;
use coordinatool::hsm::event::{Ehlo, Message, Queue, Recv};
use coordinatool::hsm::{Action, ActionItem, ConnId, Coordinator, Effect, Effects, Event, Mono, Now, Wall};
use lustreapi_sys::Fid;

fn at(milliseconds: u64) -> Now {
    let nanoseconds = milliseconds * 1_000_000;
    Now { mono: Mono(nanoseconds), wall: Wall(1_795_216_573_000_000_000 + nanoseconds as i64) }
}

fn item() -> ActionItem {
    let fid = Fid::new(0x2_0000_0402, 1, 0);
    ActionItem::new(Action::Archive, fid, 7, 1)
}

/// What is visible of one event.
fn handle(core: &mut Coordinator, now: Now, event: Event) -> Vec<Effect> {
    let mut effects = Effects::default();
    core.handle(now, event, &mut effects);
    effects.visible
}

fn connect(core: &mut Coordinator, now: Now, number: u64, id: &str) -> ConnId {
    let conn = ConnId(number);
    handle(core, now, Event::Connected { conn, peer: format!("localhost:{number}") });
    let ehlo = Message::Ehlo(Ehlo { id: Some(id.to_owned()), ..Ehlo::default() });
    handle(core, now, Event::Message { conn, message: ehlo });
    conn
}

fn receive(core: &mut Coordinator, now: Now, conn: ConnId) -> Vec<Effect> {
    let recv = Recv { max_archive: None, max_restore: None, max_remove: None, max_bytes: 1 << 20 };
    handle(core, now, Event::Message { conn, message: Message::Recv(recv) })
}

fn work_of(effects: &[Effect], whom: ConnId) -> usize {
    let lists = effects.iter().filter_map(|effect| match effect {
        Effect::Work { conn, list } if *conn == whom => Some(list.items.len()),
        _ => None,
    });
    lists.sum()
}

/// Peer 34: "grace < 1 s becomes 1 s, wall clock used". Here the grace is 300 ms, and the wall clock stands still.
#[test]
fn a_grace_of_less_than_a_second_is_kept() {
    let grace = Duration::from_millis(300);
    let config =
        HsmConfig { fsname: "testfs0".to_owned(), client_grace: grace, lease: grace, ..HsmConfig::default() };
    let mut core = Coordinator::new(config, 1, at(0));
    let first = connect(&mut core, at(0), 1, "first");
    let queue = Message::Queue(Queue { fsname: None, items: Some(vec![item()]), bad_items: 0 });
    handle(&mut core, at(0), Event::Message { conn: first, message: queue });
    assert_eq!(work_of(&receive(&mut core, at(0), first), first), 1);
    let second = connect(&mut core, at(0), 2, "second");
    assert_eq!(work_of(&receive(&mut core, at(0), second), second), 0);

    let still = |milliseconds| Now { wall: at(0).wall, ..at(milliseconds) };
    handle(&mut core, still(1000), Event::Disconnected { conn: first });
    assert_eq!(core.next_deadline(), Some(at(1300).mono));
    assert_eq!(work_of(&handle(&mut core, still(1299), Event::Tick), second), 0, "kept for its mover");
    assert_eq!(work_of(&handle(&mut core, still(1300), Event::Tick), second), 1, "and no longer");
}
