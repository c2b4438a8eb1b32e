//! Many movers in a few threads, which verify that each request is given out once.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use coordinatool::hsm::event::Ehlo;
use coordinatool::wire::client::write_ehlo;
use rustix::event::epoll;

use crate::messages::{self, Answers, FSNAME, Reader};

/// How movers work.
#[derive(Debug, Clone, Copy)]
pub struct Habit {
    /// How many there are.
    pub movers: usize,
    /// How much each may have at a time.
    pub most: usize,
    /// `done`s in one write, with one `recv`.
    pub dones: usize,
}

/// What came of a drain.
#[derive(Debug, Clone, Copy)]
pub struct Drained {
    /// From the first `recv` to the answer to the last `done`.
    pub wall: Duration,
}

/// What all threads look at.
struct Shared {
    /// Ends that are enough.
    ends: usize,
    /// How often each request was given out.
    given: Vec<AtomicU8>,
    /// Answers to `done`.
    ended: AtomicUsize,
    finished: Mutex<Option<Instant>>,
    stop: AtomicBool,
}

/// Has movers end all requests from 0 to `requests`.
///
/// # Errors
/// Says which request was given out twice, or that some were not given out for a minute.
pub fn drain(address: SocketAddr, requests: u32, habit: Habit) -> Result<Drained, String> {
    let (drained, shared) = work(address, requests, requests, habit)?;
    if let Some(missing) = shared.given.iter().position(|given| given.load(Ordering::Relaxed) != 1) {
        return Err(format!("request {missing} was not given out"));
    }
    Ok(drained)
}

/// Has movers end some of all requests.
///
/// # Errors
/// As [`drain`].
pub fn drain_some(address: SocketAddr, requests: u32, some: u32, habit: Habit) -> Result<Drained, String> {
    work(address, requests, some, habit).map(|(drained, _)| drained)
}

fn work(address: SocketAddr, requests: u32, ends: u32, habit: Habit) -> Result<(Drained, Shared), String> {
    let shared = Shared {
        ends: ends as usize,
        given: (0..requests).map(|_| AtomicU8::new(0)).collect(),
        ended: AtomicUsize::new(0),
        finished: Mutex::new(None),
        stop: AtomicBool::new(false),
    };
    let threads = habit.movers.min(2);
    let ready = Barrier::new(threads + 1);
    let begun = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let (shared, ready) = (&shared, &ready);
                scope.spawn(move || {
                    let mine: Vec<usize> = (thread..habit.movers).step_by(threads).collect();
                    let mut crew = Crew::connect(address, &mine, habit);
                    ready.wait();
                    crew.work(shared)
                })
            })
            .collect();
        ready.wait();
        let begun = Instant::now();
        let wrong: Vec<String> = running
            .into_iter()
            .filter_map(|thread| thread.join().expect("it says what is wrong").err())
            .collect();
        if wrong.is_empty() { Ok(begun) } else { Err(wrong.join("; ")) }
    })?;
    let finished = shared.finished.lock().map_or(None, |finished| *finished).ok_or("not all has ended")?;
    Ok((Drained { wall: finished - begun }, shared))
}

struct Mover {
    stream: TcpStream,
    reader: Reader,
    held: VecDeque<u32>,
    /// Answers that are due.
    dones: usize,
    waits: bool,
}

/// The movers of one thread.
struct Crew {
    habit: Habit,
    movers: Vec<Mover>,
    poll: rustix::fd::OwnedFd,
}

impl Crew {
    fn connect(address: SocketAddr, numbers: &[usize], habit: Habit) -> Self {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
        let mut movers = Vec::new();
        for number in numbers {
            let stream = mover(address, &format!("mover{number}"));
            let data = epoll::EventData::new_u64(movers.len() as u64);
            epoll::add(&poll, &stream, data, epoll::EventFlags::IN).expect("epoll");
            movers.push(Mover {
                stream,
                reader: Reader::new(),
                held: VecDeque::new(),
                dones: 0,
                waits: false,
            });
        }
        Self { habit, movers, poll }
    }

    fn work(&mut self, shared: &Shared) -> Result<(), String> {
        let result = self.work_on(shared);
        shared.stop.store(true, Ordering::Relaxed);
        result
    }

    fn work_on(&mut self, shared: &Shared) -> Result<(), String> {
        let mut buffer = vec![0; 256 << 10];
        let mut numbers = Vec::new();
        let mut out = Vec::new();
        for mover in &mut self.movers {
            mover.go_on(self.habit, &mut out);
        }
        let mut events = Vec::with_capacity(64);
        let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let mut last = Instant::now();
        while !shared.stop.load(Ordering::Relaxed) {
            events.clear();
            match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&pause)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(format!("epoll: {error}")),
            }
            if events.is_empty() && last.elapsed() > Duration::from_secs(60) {
                let left = shared.ends - shared.ended.load(Ordering::Relaxed);
                return Err(format!("nothing came for a minute, {left} requests have not ended"));
            }
            for event in &events {
                last = Instant::now();
                let mover = &mut self.movers[event.data.u64() as usize];
                let count =
                    mover.stream.read(&mut buffer).map_err(|error| format!("a mover reads: {error}"))?;
                if count == 0 {
                    return Err("the daemon closed a mover's connection".to_owned());
                }
                let Answers { dones, recvs } = mover.reader.push(&buffer[..count], &mut numbers);
                for number in numbers.drain(..) {
                    let given = shared.given.get(number as usize).ok_or("a request that nobody queued")?;
                    if given.fetch_add(1, Ordering::Relaxed) != 0 {
                        return Err(format!("request {number} was given out twice"));
                    }
                    mover.held.push_back(number);
                }
                mover.dones = mover.dones.checked_sub(dones).ok_or("an answer to no `done`")?;
                mover.waits &= recvs == 0;
                let ended = shared.ended.fetch_add(dones, Ordering::Relaxed);
                if ended < shared.ends && ended + dones >= shared.ends {
                    if let Ok(mut finished) = shared.finished.lock() {
                        *finished = Some(Instant::now());
                    }
                    return Ok(());
                }
                mover.go_on(self.habit, &mut out);
            }
        }
        Ok(())
    }
}

impl Mover {
    /// Sends what it would send now.
    fn go_on(&mut self, habit: Habit, out: &mut Vec<u8>) {
        if self.dones > 0 {
            return;
        }
        let dones = self.held.len().min(habit.dones);
        // While it waits for work, what it still has goes one by one.
        if dones == 0 && self.waits {
            return;
        }
        out.clear();
        for number in self.held.drain(..dones) {
            messages::done(number, out);
        }
        self.dones = dones;
        if !self.waits {
            messages::recv(i32::try_from(habit.most).unwrap_or(i32::MAX), out);
            self.waits = true;
        }
        self.stream.write_all(out).expect("the daemon reads");
    }
}

/// Connects a mover that takes everything.
pub fn mover(address: SocketAddr, id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the daemon listens");
    stream.set_nodelay(true).expect("nodelay");
    let mut out = Vec::new();
    let ehlo = Ehlo { id: Some(id.to_owned()), fsname: Some(FSNAME.to_owned()), ..Ehlo::default() };
    write_ehlo(&ehlo, &mut out);
    stream.write_all(&out).expect("the daemon reads");
    let want = b"{\"command\": \"ehlo\"}";
    let mut answer = [0; 19];
    stream.read_exact(&mut answer).expect("the daemon answers");
    assert_eq!(&answer, want, "{}", String::from_utf8_lossy(&answer));
    stream
}

/// Queues requests from 0 to `requests`, 1000 in a message, one message after the other on each of two connections.
/// Returns how long that took.
///
/// # Errors
/// Says what the daemon answered instead.
pub fn queue(
    address: SocketAddr,
    requests: u32,
    data: impl Fn(u32) -> String + Sync,
) -> Result<Duration, String> {
    const BATCH: u32 = 1000;
    const SENDERS: u32 = 2;
    let ready = Barrier::new(SENDERS as usize + 1);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (ready, data) = (&ready, &data);
                scope.spawn(move || {
                    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
                    stream.set_nodelay(true).map_err(|error| error.to_string())?;
                    let first = requests / SENDERS * sender;
                    let end =
                        if sender + 1 == SENDERS { requests } else { requests / SENDERS * (sender + 1) };
                    let starts: Vec<u32> = (first..end).step_by(BATCH as usize).collect();
                    // Made before anything is measured, unless that is too much memory.
                    let make = |start: u32| messages::queue(start..(start + BATCH).min(end), data);
                    let prepared: Vec<Vec<u8>> = if starts.len() <= 1000 {
                        starts.iter().map(|&start| make(start)).collect()
                    } else {
                        Vec::new()
                    };
                    ready.wait();
                    let mut answers = Answered::default();
                    for (index, &start) in starts.iter().enumerate() {
                        // Two are on their way, so that the daemon never waits for us.
                        if index >= 2 {
                            answers.one(&mut stream)?;
                        }
                        match prepared.get(index) {
                            Some(message) => stream.write_all(message),
                            None => stream.write_all(&make(start)),
                        }
                        .map_err(|error| error.to_string())?;
                    }
                    for _ in 0..starts.len().min(2) {
                        answers.one(&mut stream)?;
                    }
                    if answers.enqueued == u64::from(end - first) {
                        return Ok(());
                    }
                    Err(format!("{} of {} requests were queued", answers.enqueued, end - first))
                })
            })
            .collect();
        ready.wait();
        let begun = Instant::now();
        for thread in running {
            thread.join().expect("it says what is wrong")?;
        }
        Ok(begun.elapsed())
    })
}

/// Answers to `queue`.
#[derive(Default)]
struct Answered {
    pending: Vec<u8>,
    enqueued: u64,
}

impl Answered {
    fn one(&mut self, stream: &mut TcpStream) -> Result<(), String> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(end) = self.pending.iter().position(|&byte| byte == b'}') {
                let text: Vec<u8> = self.pending.drain(..=end).collect();
                let answer: harness::Value =
                    serde_json::from_slice(&text).map_err(|error| error.to_string())?;
                if answer["command"] != "queue" || !answer["status"].is_null() || !answer["skipped"].is_null()
                {
                    return Err(format!("the daemon answered {answer}"));
                }
                self.enqueued += answer["enqueued"].as_u64().unwrap_or(0);
                return Ok(());
            }
            match stream.read(&mut buffer) {
                Ok(0) => return Err("the daemon closed the connection".to_owned()),
                Ok(count) => self.pending.extend_from_slice(&buffer[..count]),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
