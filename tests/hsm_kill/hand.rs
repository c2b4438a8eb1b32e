//! A mover that speaks the C protocol by hand: it knows no leases, and claims what it has in its `hai_list`.
//!
//! It archives and removes; the ends go to the MDT as any copytool's do.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use coordinatool::wire::{Decoder, Limits};
use harness::{Client, Random, Value, json, patience, poll};
use lustreapi_sys::Fid;
use lustreapi_sys::abi::{HSMA_ARCHIVE, HSMA_REMOVE};
use lustreapi_sys::ioctl::{HSM_COPY_END, HSM_COPY_START};

use super::marks::{Key, Marker};

/// What it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Work,
    StandStill,
    Dead,
    End,
}

/// A request it has.
#[derive(Debug)]
struct Work {
    item: Value,
    key: Key,
    due: Instant,
    /// What the MDT said to its end; `None` before that.
    ended: Option<i32>,
    /// On the present connection.
    told: bool,
}

#[derive(Debug)]
struct State {
    order: Order,
    /// Its connection is closed since it was told so.
    gone: bool,
    works: Vec<Work>,
}

/// Where it works.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its id.
    pub id: String,
    /// The daemon.
    pub address: SocketAddr,
    /// Its client mount.
    pub client: Client,
    /// The copies.
    pub archive: PathBuf,
    /// What it does is noted there.
    pub marker: Marker,
    /// Most of each kind at the same time.
    pub most: i64,
}

/// The mover, on a thread.
#[derive(Debug)]
pub struct HandMover {
    id: String,
    marker: Marker,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

impl HandMover {
    /// Starts it.
    pub fn start(place: Place, seed: u64) -> Self {
        let state = Arc::new(Mutex::new(State { order: Order::Work, gone: false, works: Vec::new() }));
        let (id, marker, shared) = (place.id.clone(), place.marker.clone(), Arc::clone(&state));
        let thread = std::thread::spawn(move || Hand::new(place, seed, shared).run());
        Self { id, marker, state, thread: Some(thread) }
    }

    fn order(&self, order: Order) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().expect("the mover goes on");
        state.order = order;
        state
    }

    /// It does nothing any more, as a process that was stopped.
    pub fn freeze(&self) {
        drop(self.order(Order::StandStill));
    }

    /// It is gone, with all that it had.
    pub fn kill(&self) {
        let mut state = self.order(Order::Dead);
        self.marker.killed(&self.id);
        state.works.clear();
        state.gone = false;
        drop(state);
        let gone = || self.state.lock().expect("the mover goes on").gone.then_some(());
        poll(patience(), gone).expect("a killed mover closes its connection");
    }

    /// It starts anew.
    pub fn start_again(&self) {
        drop(self.order(Order::Work));
    }
}

impl Drop for HandMover {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state.lock() {
            state.order = Order::End;
        }
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || std::thread::panicking(), "the C mover could not go on");
        }
    }
}

/// One connection.
#[derive(Debug)]
struct Line {
    stream: TcpStream,
    decoder: Decoder,
}

impl Line {
    fn connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(Duration::from_millis(5))).ok()?;
        Some(Self { stream, decoder: Decoder::new(Limits::default()) })
    }

    fn send(&mut self, message: &Value) -> Option<()> {
        self.stream.write_all(message.to_string().as_bytes()).ok()
    }

    /// What came, perhaps nothing; `None` at the connection's end.
    fn receive(&mut self) -> Option<Vec<Value>> {
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => return None,
            Ok(length) => self.decoder.push(&buffer[..length]),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(_) => return None,
        }
        let mut messages = Vec::new();
        while let Some(object) = self.decoder.next_object().expect("the daemon speaks the protocol") {
            messages.push(serde_json::from_slice(object).expect("an object"));
        }
        Some(messages)
    }
}

#[derive(Debug)]
struct Hand {
    place: Place,
    random: Random,
    root: File,
    state: Arc<Mutex<State>>,
    line: Option<Line>,
    /// Answered `ehlo`.
    known: bool,
    inbox: Vec<Value>,
    /// Dones that are not answered yet.
    told: VecDeque<Key>,
}

impl Hand {
    fn new(place: Place, seed: u64, state: Arc<Mutex<State>>) -> Self {
        let root = File::open(place.client.root()).expect("the mount is there");
        Self {
            place,
            random: Random::new(seed),
            root,
            state,
            line: None,
            known: false,
            inbox: Vec::new(),
            told: VecDeque::new(),
        }
    }

    fn run(mut self) {
        let shared = Arc::clone(&self.state);
        loop {
            let mut state = shared.lock().expect("nobody panics with it");
            match state.order {
                Order::End => return,
                Order::Work => {
                    if !self.step(&mut state) {
                        self.hang_up(&mut state);
                    }
                }
                Order::StandStill => {}
                Order::Dead => {
                    self.hang_up(&mut state);
                    state.gone = true;
                }
            }
            drop(state);
            // The connection is read without the lock; what it says counts only once it is held again.
            match self.line.as_mut().map(Line::receive) {
                Some(Some(messages)) => self.inbox.extend(messages),
                Some(None) => {
                    // Noticed at the next step.
                    self.inbox.push(Value::Null);
                    std::thread::sleep(Duration::from_millis(5));
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn hang_up(&mut self, state: &mut State) {
        self.line = None;
        self.known = false;
        self.inbox.clear();
        self.told.clear();
        for work in &mut state.works {
            work.told = false;
        }
    }

    /// Does what there is to do; `false` if the connection is no good.
    fn step(&mut self, state: &mut State) -> bool {
        if self.line.is_none() {
            self.line = Line::connect(self.place.address);
            let held: Vec<&Value> = state.works.iter().map(|work| &work.item).collect();
            let ehlo = json!({"command": "ehlo", "fsname": "testfs0", "id": self.place.id, "archive_ids": [1], "hai_list": held});
            if self.line.as_mut().and_then(|line| line.send(&ehlo)).is_none() {
                return false;
            }
        }
        for message in std::mem::take(&mut self.inbox) {
            if !self.take(state, &message) {
                return false;
            }
        }
        for index in 0..state.works.len() {
            let work = &mut state.works[index];
            if work.ended.is_none() && work.due <= Instant::now() {
                self.end(&mut state.works[index]);
                // The rest another time, so that a kill may come in between.
                return true;
            }
        }
        let Some(line) = self.line.as_mut().filter(|_| self.known) else { return true };
        for work in &mut state.works {
            if let Some(status) = work.ended.filter(|_| !work.told) {
                work.told = true;
                self.told.push_back(work.key.clone());
                // C packs the cookie as an int.
                let cookie = work.key.0 as i32;
                let done = json!({"command": "done", "hai_cookie": cookie, "hai_dfid": work.item["hai_dfid"], "status": status});
                if line.send(&done).is_none() {
                    return false;
                }
            }
        }
        true
    }

    fn ask_for_work(&mut self) -> bool {
        let most = self.place.most;
        let recv = json!({
            "command": "recv", "max_archive": most, "max_restore": 0, "max_remove": most, "max_bytes": 1 << 20,
        });
        self.line.as_mut().is_some_and(|line| line.send(&recv).is_some())
    }

    fn take(&mut self, state: &mut State, message: &Value) -> bool {
        match message["command"].as_str() {
            Some("ehlo") if message["status"].is_null() => {
                self.known = true;
                self.ask_for_work()
            }
            Some("recv") if message["status"].is_null() => {
                for item in message["hsm_action_list"]["list"].as_array().into_iter().flatten() {
                    self.begin(state, item);
                }
                self.ask_for_work()
            }
            Some("done") if message["status"].is_null() => {
                // Answers come in the order of the dones.
                let key = self.told.pop_front().expect("an answer belongs to a done");
                state.works.retain(|work| work.key != key);
                true
            }
            // The connection has ended, or the id is still taken by the one before.
            _ => false,
        }
    }

    fn begin(&mut self, state: &mut State, item: &Value) {
        let action = match item["hai_action"].as_u64().and_then(|number| u32::try_from(number).ok()) {
            Some(HSMA_ARCHIVE) => "ARCHIVE",
            Some(HSMA_REMOVE) => "REMOVE",
            other => panic!("a C mover was given {other:?}"),
        };
        let cookie = item["hai_cookie"].as_u64().expect("a cookie");
        let key = (cookie, fid(item).to_string().trim_matches(['[', ']']).to_owned(), action.to_owned());
        self.place.marker.add("received", &self.place.id, &key);
        let ended = match self.ioctl(HSM_COPY_START, item, 0, 0) {
            Ok(_) => {
                self.place.marker.add("begun", &self.place.id, &key);
                None
            }
            Err(errno) => {
                self.place.marker.add("dropped", &self.place.id, &key);
                Some(errno)
            }
        };
        let due = Instant::now() + Duration::from_millis(50 + self.random.below(200));
        state.works.push(Work { item: item.clone(), key, due, ended, told: false });
    }

    /// Carries it out and ends it at the MDT.
    fn end(&mut self, work: &mut Work) {
        let name = fid(&work.item).file_name();
        let copy = self.place.archive.join(&name);
        let result = if work.key.2 == "ARCHIVE" {
            let version = self.ioctl(HSM_COPY_START, &work.item, 0, 0);
            let temporary = self.place.archive.join(format!("{name}_tmp"));
            let copied = fs::copy(self.place.client.root().join(".lustre/fid").join(&name), &temporary)
                .and_then(|_| fs::rename(&temporary, &copy));
            copied.map_err(|error| errno(&error)).and(version)
        } else {
            fs::remove_file(&copy).map(|()| 0).map_err(|error| errno(&error))
        };
        self.place.marker.add("ending", &self.place.id, &work.key);
        let (version, status) = match result {
            Ok(version) => (version, 0),
            Err(errno) => (0, errno),
        };
        let answer = self.ioctl(HSM_COPY_END, &work.item, version, status);
        work.ended = Some(answer.err().unwrap_or(status));
    }

    /// One of the two calls with a `hsm_copy`; returns its data version, or an errno.
    fn ioctl(&self, number: u64, item: &Value, version: u64, status: i32) -> Result<u64, i32> {
        let action = item["hai_action"].as_u64().expect("an action") as u32;
        let fid = fid(item);
        let mut body = Vec::with_capacity(88);
        body.extend_from_slice(&version.to_ne_bytes());
        body.extend_from_slice(&0u16.to_ne_bytes());
        body.extend_from_slice(&(status as u16).to_ne_bytes());
        body.extend_from_slice(&0u32.to_ne_bytes());
        body.extend_from_slice(&72u32.to_ne_bytes());
        body.extend_from_slice(&action.to_ne_bytes());
        for _ in 0..2 {
            body.extend_from_slice(&fid.seq.to_ne_bytes());
            body.extend_from_slice(&fid.oid.to_ne_bytes());
            body.extend_from_slice(&fid.ver.to_ne_bytes());
        }
        body.extend_from_slice(&0u64.to_ne_bytes());
        body.extend_from_slice(&u64::MAX.to_ne_bytes());
        body.extend_from_slice(&item["hai_cookie"].as_u64().expect("a cookie").to_ne_bytes());
        body.extend_from_slice(&0u64.to_ne_bytes());
        match self.place.client.ioctl("hsm_copy", number, &body, self.root.as_fd()) {
            Ok((_, answer)) => {
                Ok(answer.get(..8).map_or(0, |v| u64::from_ne_bytes(v.try_into().expect("8 bytes"))))
            }
            Err(error) => Err(error.errno().unwrap_or(5)),
        }
    }
}

fn fid(item: &Value) -> Fid {
    let part = |name: &str| item["hai_fid"][name].as_i64().expect("a FID");
    Fid::new(part("f_seq") as u64, part("f_oid") as u32, part("f_ver") as u32)
}

fn errno(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(5)
}
