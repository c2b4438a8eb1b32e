//! What the shell promises to peers, with a store that answers when the test says so.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use lustreapi_sys::Fid;

use super::posting::SENT_AT_ONCE;
use super::*;
use crate::hsm::event::{Done, Ehlo, Queue, Recv};
use crate::hsm::{Action, HsmConfig};
use crate::server::committer;
use crate::server::connection::Badge;
use crate::server::outbox::Next;
use crate::server::security::{Access, Principal};
use crate::server::transport::Transport;

fn item() -> ActionItem {
    let fid = Fid::new(0x2_0000_0401, 1, 0);
    ActionItem::new(Action::Archive, fid, 1, 1)
}

async fn connection(number: u64) -> Rc<Connection> {
    connection_with(number).await.0
}

/// A connection, and its peer's side.
async fn connection_with(number: u64) -> (Rc<Connection>, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let peer = listener.accept().unwrap().0;
    stream.writable().await.unwrap();
    let badge = Badge::new(Principal::Plain, Access::Admin, Arc::default());
    let connection = Connection::new(ConnId(number), Transport::plain(stream), "a:1".to_owned(), badge);
    (Rc::new(connection), peer)
}

fn shell_with(committer: Option<Committer>) -> Shell {
    let clock = Clock::new();
    let core = Coordinator::new(HsmConfig { fsname: "lus".into(), ..HsmConfig::default() }, 1, clock.now());
    Shell::new(core, clock, "lus".into(), committer, None, 1 << 20)
}

/// What the store's thread reports does not reach the shell: nothing is durable until the test says so.
fn silent_store() -> Committer {
    Committer::start(Box::new(crate::store::NoStore), |_| {}).unwrap()
}

fn queue(shell: &Shell, conn: u64) {
    let queue = Queue { fsname: None, items: Some(vec![item()]), bad_items: 0 };
    shell.handle(Event::Message { conn: ConnId(conn), message: Message::Queue(queue) });
}

/// The second peer's request is the first one's, whose commit is not durable: a crash now would lose it for both.
#[tokio::test]
async fn a_duplicate_is_not_acknowledged_before_what_it_repeats_is_durable() {
    let shell = shell_with(Some(silent_store()));
    let ((first, mut first_peer), (second, mut second_peer)) =
        (connection_with(1).await, connection_with(2).await);
    shell.connected(Rc::clone(&first), "a:1".into());
    shell.connected(Rc::clone(&second), "b:1".into());
    queue(&shell, 1);
    queue(&shell, 2);
    assert_eq!(first.outbox.borrow_mut().next(shell.durable()), Next::Wait);
    assert_eq!(second.outbox.borrow_mut().next(shell.durable()), Next::Wait);
    shell.store_report(committer::Report::Done { upto: 1, failed: Vec::new() });
    assert_eq!(received(&mut first_peer), "{\"command\": \"queue\", \"enqueued\": 1}");
    assert_eq!(received(&mut second_peer), "{\"command\": \"queue\", \"skipped\": 1}");
}

/// What a peer gets that has been sent something.
fn received(peer: &mut TcpStream) -> String {
    peer.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut buffer = [0; 4096];
    let read = peer.read(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..read]).into_owned()
}

fn hear(shell: &Shell, conn: u64, said: Vec<Said>) -> Option<Message> {
    let mut said = said.into_iter();
    shell.hear(ConnId(conn), || said.next())
}

fn mover_says() -> (Message, Message, Message) {
    let ehlo = Ehlo { id: Some("m".into()), ..Ehlo::default() };
    let recv = Recv { max_archive: None, max_restore: None, max_remove: None, max_bytes: 1 << 20 };
    let done = Done { cookie: 1, dfid: item().fid, status: 0 };
    (Message::Ehlo(ehlo), Message::Recv(recv), Message::Done(done))
}

/// Nothing runs between the event and this test's look at the socket: the mover's task has had no turn.
#[tokio::test]
async fn a_mover_that_waits_is_sent_its_work_before_the_queuer_its_answer() {
    let shell = shell_with(None);
    let ((mover, mut peer), queuer) = (connection_with(1).await, connection(2).await);
    shell.connected(Rc::clone(&mover), "a:1".into());
    shell.connected(Rc::clone(&queuer), "b:1".into());
    let (ehlo, recv, _) = mover_says();
    hear(&shell, 1, vec![Said::Message(ehlo), Said::Message(recv)]);
    let queue = Queue { fsname: None, items: Some(vec![item()]), bad_items: 0 };
    hear(&shell, 2, vec![Said::Message(Message::Queue(queue))]);
    let got = received(&mut peer);
    assert!(got.contains("hsm_action_list"), "{got}");
    assert!(mover.outbox.borrow().is_empty());
    assert!(!queuer.outbox.borrow().is_empty());
}

/// One event may be work for very many: whoever else is to be served must not wait until all of it is sent.
#[tokio::test]
async fn a_step_sends_to_few_and_leaves_the_others_to_their_tasks() {
    let shell = shell_with(None);
    let count = SENT_AT_ONCE as u32 + 4;
    let (mut movers, mut peers) = (Vec::new(), Vec::new());
    for number in 1..=count {
        let (mover, peer) = connection_with(number.into()).await;
        shell.connected(Rc::clone(&mover), "a:1".into());
        let recv =
            Recv { max_archive: Some(1), max_restore: Some(0), max_remove: Some(0), max_bytes: 1 << 20 };
        let ehlo = Ehlo { id: Some(format!("m{number}")), ..Ehlo::default() };
        hear(
            &shell,
            number.into(),
            vec![Said::Message(Message::Ehlo(ehlo)), Said::Message(Message::Recv(recv))],
        );
        mover.send_soon(0, &mut 1);
        assert!(mover.outbox.borrow().is_empty());
        movers.push(mover);
        peers.push(peer);
    }
    let items = (1..=count).map(|oid| {
        let fid = Fid::new(0x2_0000_0401, oid, 0);
        ActionItem { fid, dfid: fid, cookie: oid.into(), ..item() }
    });
    shell.handle(Event::Lustre { items: items.collect() });
    let left = movers.iter().filter(|mover| !mover.outbox.borrow().is_empty()).count();
    assert_eq!(left, 4);
}

#[tokio::test]
async fn ends_in_a_bunch_are_one_commit_with_what_follows_them() {
    let shell = shell_with(Some(silent_store()));
    let (mover, mut peer) = connection_with(1).await;
    shell.connected(mover, "a:1".into());
    queue(&shell, 1);
    let (ehlo, recv, done) = mover_says();
    let before = shell.inner.borrow().last_commit;
    let refusal = Reply::Error { command: "lock", status: 1, error: "no" };
    let other = Message::Done(Done { cookie: 2, dfid: item().fid, status: 0 });
    let said = vec![
        Said::Message(ehlo),
        Said::Message(recv.clone()),
        Said::Message(done),
        Said::Message(other),
        Said::Refused(refusal),
        Said::Message(recv),
    ];
    assert_eq!(hear(&shell, 1, said), None);
    // One for the assignment, one for the end.
    assert_eq!(shell.inner.borrow().last_commit, before + 2);
    shell.store_report(committer::Report::Done { upto: before + 2, failed: Vec::new() });
    let text = received(&mut peer);
    let places = ["queue", "ehlo", "hsm_action_list", "\"done\"", "\"done\"", "lock"];
    let mut rest = &text[..];
    for place in places {
        let at = rest.find(place).unwrap_or_else(|| panic!("{place} is not where it belongs: {text}"));
        rest = &rest[at + place.len()..];
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_once_the_store_is_handed_out() {
    let clock = Clock::new();
    let core = Coordinator::new(HsmConfig { fsname: "lus".into(), ..HsmConfig::default() }, 1, clock.now());
    let committer = Committer::start(Box::new(crate::store::NoStore), |_| ()).unwrap();
    let shell = Shell::new(core, clock, "lus".into(), Some(committer), None, 1 << 20);
    let peer = connection(1).await;
    shell.connected(Rc::clone(&peer), "a:1".into());
    let _outputs = shell.take_outputs();
    queue(&shell, 1);
    assert!(peer.outbox.borrow().is_empty());
}
