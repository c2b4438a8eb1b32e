//! What clients of the administrator's API send: any path, query and body, to the API as the daemon serves it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use coordinatool::hsm::{self, Action, ActionItem, Coordinator, Event, HsmConfig, LustreCall, RequestKey};
use coordinatool::server::api::{Api, Parts, Place, Wanted};
use coordinatool::server::reconcile::{Intake, Settings};
use coordinatool::server::shell::{FileCalls, LustreCalls, Shell};
use coordinatool::system::clock::Clock;
use lustreapi_sys::Fid;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;

const FSNAME: &str = "testfs0";

/// What is around the coordinator: no Lustre, and nobody who knows anything of files.
struct Nowhere(UnboundedSender<Event>);

impl LustreCalls for Nowhere {
    fn end(&self, item: ActionItem, _errno: i32) {
        self.0.send(Event::LustreEnded { key: item.key(), errno: 2 }).unwrap();
    }

    fn ask(&self, call: LustreCall) {
        self.0.send(Event::LustreAnswered(call.answer(107))).unwrap();
    }
}

impl FileCalls for Nowhere {
    fn look_up(&self, _keys: Vec<RequestKey>, _wanted: hsm::Wanted) {}

    fn locate(&self, _sought: Vec<hsm::Sought>) {}
}

/// Serves until the process ends. Says where, once it does.
fn serve(ready: &Sender<PathBuf>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let clock = Clock::new();
        let config = HsmConfig { fsname: FSNAME.to_owned(), ..HsmConfig::default() };
        let core = Coordinator::new(config, 1, clock.now());
        let shell = Rc::new(Shell::new(core, clock, FSNAME.to_owned(), None, None, 1 << 20));
        let fid = |oid| Fid::new(0x2_0000_0401, oid, 0);
        let (events, mut happens) = unbounded_channel();
        shell.connect_lustre(Rc::new(Nowhere(events.clone())), Rc::new(Nowhere(events)));
        let items = (1..4).map(|oid| ActionItem {
            data: b"tag=a".as_slice().into(),
            ..ActionItem::new(Action::Archive, fid(oid), oid.into(), 1)
        });
        shell.handle(Event::Lustre { items: items.collect() });
        let place = Place::Path(path.clone());
        let wanted = Wanted { place: &place, group: None, read_group: None, metrics: None, fsname: FSNAME };
        let mut api = Api::bind(&wanted).unwrap();
        let (_settings, told) = watch::channel(Settings::default());
        let intake = Intake::new(FSNAME, None, told);
        api.serve(&shell, Parts { fsname: FSNAME.to_owned(), store: String::new(), intake }).unwrap();
        ready.send(path).unwrap();
        loop {
            let due = shell.next_deadline().map(|at| tokio::time::sleep_until(at.into()));
            tokio::select! {
                () = async { due.unwrap().await }, if due.is_some() => shell.handle(Event::Tick),
                Some(event) = happens.recv() => shell.handle(event),
                () = shell.timer.notified() => {}
            }
            tokio::task::yield_now().await;
        }
    });
}

/// Where it serves.
fn socket() -> &'static PathBuf {
    static SOCKET: OnceLock<PathBuf> = OnceLock::new();
    SOCKET.get_or_init(|| {
        let (send, ready) = channel();
        std::thread::spawn(move || serve(&send));
        ready.recv().unwrap()
    })
}

/// The first line is a method and a path with its query, all the rest is the body. Each gets an answer, and none of them that
/// something has gone wrong within.
pub fn requests(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n');
    let (line, body) = end.map_or((data, &[][..]), |end| (&data[..end], &data[end + 1..]));
    let line: Vec<u8> = line.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\0')).collect();
    let head = format!(
        " HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = UnixStream::connect(socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // What is wrong at its beginning is answered before all is read.
    let _ = stream.write_all(&[&line, head.as_bytes(), body].concat());
    let mut status = [0; 13];
    if let Err(error) = stream.read_exact(&mut status) {
        panic!("no answer: {error}");
    }
    let status = String::from_utf8_lossy(&status).into_owned();
    assert!(status.starts_with("HTTP/1.1 ") && !status.starts_with("HTTP/1.1 500"), "{status}");
}
