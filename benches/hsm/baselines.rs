//! What the machine can do with no logic: sockets, redis and disk.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use harness::{Process, TestDirectory};
use rustix::event::epoll;

use crate::messages;
use crate::server::{Core, Redis};

/// A process in the daemon's place that answers each so many bytes with so many bytes.
#[derive(Debug)]
pub struct Raw {
    _process: Process,
    address: SocketAddr,
    request: usize,
    answer: usize,
}

impl Raw {
    /// Starts it.
    pub fn start(directory: &TestDirectory, request: usize, answer: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        drop(listener);
        let program = std::env::current_exe().expect("this program");
        let mut command = Core::Server.command(program);
        command.arg("--serve").arg(format!("{}:{request}:{answer}", address.port()));
        let process = Process::spawn("raw", command, &directory.join("raw.log"));
        harness::poll(harness::patience(), || TcpStream::connect(address).ok()).expect("it listens");
        Self { _process: process, address, request, answer }
    }

    /// As for messages of a drain in which each write has so many `done`s and one `recv`.
    pub fn drain(directory: &TestDirectory, dones: u32) -> Self {
        let (mut request, mut answer) = (Vec::new(), Vec::new());
        let mut items = Vec::new();
        for number in 0..dones {
            messages::done(number, &mut request);
            answer.extend_from_slice(b"{\"command\": \"done\"}");
            let mut item = messages::item(number, &messages::ten_bytes(number));
            item.timestamp = 1_795_270_000_000_000_000;
            items.push(item);
        }
        messages::recv(16, &mut request);
        let list = coordinatool::hsm::effect::WorkList { archive_id: 1, flags: 0, items, binary_data: false };
        coordinatool::wire::write_work(&list, messages::FSNAME, &mut answer);
        Self::start(directory, request.len(), answer.len())
    }

    /// Has `peers` in two threads exchange messages, each waiting for its answer. Returns exchanges per second.
    pub fn exchange(&self, peers: usize, exchanges: usize) -> f64 {
        let threads = peers.min(2);
        let ready = Barrier::new(threads + 1);
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads)
                .map(|thread| {
                    let ready = &ready;
                    let mine = (thread..peers).step_by(threads).count();
                    scope.spawn(move || self.exchange_some(mine, exchanges / threads, ready))
                })
                .collect();
            ready.wait();
            let begun = Instant::now();
            running.into_iter().for_each(|thread| thread.join().expect("it exchanges"));
            (exchanges / threads * threads) as f64 / begun.elapsed().as_secs_f64()
        })
    }

    fn exchange_some(&self, peers: usize, exchanges: usize, ready: &Barrier) {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
        let request = vec![b'x'; self.request];
        let mut buffer = vec![0; 256 << 10];
        let mut streams: Vec<(TcpStream, usize)> = (0..peers)
            .map(|number| {
                let stream = TcpStream::connect(self.address).expect("it listens");
                stream.set_nodelay(true).expect("nodelay");
                let data = epoll::EventData::new_u64(number as u64);
                epoll::add(&poll, &stream, data, epoll::EventFlags::IN).expect("epoll");
                (stream, 0)
            })
            .collect();
        ready.wait();
        for (stream, _) in &mut streams {
            stream.write_all(&request).expect("it reads");
        }
        let mut ended = 0;
        let mut events = Vec::with_capacity(64);
        while ended < exchanges {
            events.clear();
            epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None).expect("epoll");
            for event in &events {
                let (stream, got) = &mut streams[event.data.u64() as usize];
                *got += stream.read(&mut buffer).expect("it answers");
                if *got >= self.answer {
                    *got -= self.answer;
                    ended += 1;
                    stream.write_all(&request).expect("it reads");
                }
            }
        }
    }

    /// One peer, one exchange after the other: how long each took, sorted.
    pub fn round_trips(&self, count: usize) -> Vec<Duration> {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_nodelay(true).expect("nodelay");
        let request = vec![b'x'; self.request];
        let mut answer = vec![0; self.answer];
        let mut took: Vec<Duration> = (0..count)
            .map(|_| {
                let begun = Instant::now();
                stream.write_all(&request).expect("it reads");
                stream.read_exact(&mut answer).expect("it answers");
                begun.elapsed()
            })
            .collect();
        took.sort_unstable();
        took
    }
}

/// The other side: for ever, in a process of its own. `what` is `PORT:BYTES OF A REQUEST:BYTES OF AN ANSWER`.
pub fn serve(what: &str) {
    let numbers: Vec<usize> = what.split(':').filter_map(|number| number.parse().ok()).collect();
    let &[port, request, answer] = numbers.as_slice() else { panic!("PORT:REQUEST:ANSWER, not {what}") };
    let port = u16::try_from(port).expect("a port");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    let listening = epoll::EventData::new_u64(u64::MAX);
    epoll::add(&poll, &listener, listening, epoll::EventFlags::IN).expect("epoll");
    let mut peers: Vec<Option<(TcpStream, usize)>> = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    let mut answers = Vec::new();
    let mut events = Vec::with_capacity(64);
    loop {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None).expect("epoll");
        for event in &events {
            if event.data.u64() == u64::MAX {
                let (stream, _) = listener.accept().expect("a peer comes");
                stream.set_nodelay(true).expect("nodelay");
                let data = epoll::EventData::new_u64(peers.len() as u64);
                epoll::add(&poll, &stream, data, epoll::EventFlags::IN).expect("epoll");
                peers.push(Some((stream, 0)));
                continue;
            }
            let peer = &mut peers[event.data.u64() as usize];
            let Some((stream, got)) = peer else { continue };
            match stream.read(&mut buffer) {
                Ok(count) if count > 0 => {
                    *got += count;
                    let complete = *got / request;
                    *got %= request;
                    answers.resize(complete * answer, b'y');
                    if stream.write_all(&answers).is_ok() {
                        continue;
                    }
                }
                _ => {}
            }
            *peer = None;
        }
    }
}

/// How long appending 512 bytes and one `fdatasync` takes, in the file system of `directory`: sorted.
pub fn fdatasync(directory: &Path, count: usize) -> Vec<Duration> {
    let path = directory.join("fdatasync");
    let file = std::fs::File::create(&path).expect("a file can be made");
    // As the journal: written over what was allocated before.
    file.write_all_at(&vec![0; 512 * count], 0).expect("room");
    file.sync_all().expect("sync");
    let mut took: Vec<Duration> = (0..count)
        .map(|number| {
            let begun = Instant::now();
            file.write_all_at(&[1; 512], number as u64 * 512).expect("room");
            file.sync_data().expect("sync");
            begun.elapsed()
        })
        .collect();
    std::fs::remove_file(path).expect("it is there");
    took.sort_unstable();
    took
}

/// What redis is asked to do for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operations {
    /// The request is queued.
    Queue,
    /// It is given to a mover, and ends.
    Drain,
}

/// Has redis do what it has to do for so many requests, many fields in a command, and returns how long that takes.
pub fn redis(redis: &Redis, requests: u32, operations: Operations) -> Duration {
    const FIELDS: u32 = 512;
    let mut bytes = Vec::new();
    let mut commands = 0;
    for first in (0..requests).step_by(FIELDS as usize) {
        let numbers = first..(first + FIELDS).min(requests);
        let field = |number: u32| {
            let fid = messages::fid(number);
            format!("{:016x}{:016x}{:08x}{:08x}", messages::cookie(number), fid.seq, fid.oid, fid.ver)
                .into_bytes()
        };
        let fields = || numbers.clone().map(field);
        let mut command = |name: &str, hash: &str, arguments: Vec<Vec<u8>>| {
            commands += 1;
            write!(
                bytes,
                "*{}\r\n${}\r\n{name}\r\n${}\r\n{hash}\r\n",
                arguments.len() + 2,
                name.len(),
                hash.len()
            )
            .expect("memory");
            for argument in arguments {
                write!(bytes, "${}\r\n", argument.len()).expect("memory");
                bytes.extend_from_slice(&argument);
                bytes.extend_from_slice(b"\r\n");
            }
        };
        match operations {
            Operations::Queue => {
                let pairs = numbers.clone().flat_map(|number| [field(number), messages::stored_item(number)]);
                command("HSET", harness::REQUESTS, pairs.collect());
            }
            Operations::Drain => {
                let pairs = fields().flat_map(|field| [field, b"mover12".to_vec()]);
                command("HSET", harness::ASSIGNED, pairs.collect());
                command("HDEL", harness::REQUESTS, fields().collect());
                command("HDEL", harness::ASSIGNED, fields().collect());
            }
        }
    }
    let mut stream = TcpStream::connect(redis.address()).expect("redis listens");
    let mut writer = stream.try_clone().expect("a descriptor");
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(&bytes).expect("redis reads"));
        let mut answers = 0;
        let mut buffer = vec![0; 64 << 10];
        while answers < commands {
            let count = stream.read(&mut buffer).expect("redis answers");
            assert!(count > 0 && !buffer[..count].contains(&b'-'), "redis takes everything");
            answers += memchr::memchr_iter(b'\n', &buffer[..count]).count();
        }
    });
    begun.elapsed()
}

/// Reads all requests of redis by HSCAN, as a restart has to. Returns how long that takes.
pub fn hscan(redis: &Redis) -> Duration {
    let client = redis::Client::open(format!("redis://{}/", redis.address())).expect("an address");
    let mut connection = client.get_connection().expect("redis listens");
    let begun = Instant::now();
    let mut cursor = 0_u64;
    loop {
        let mut command = redis::cmd("HSCAN");
        command.arg(harness::REQUESTS).arg(cursor).arg("COUNT").arg(1000);
        let (next, found): (u64, Vec<Vec<u8>>) = command.query(&mut connection).expect("redis answers");
        std::hint::black_box(found);
        cursor = next;
        if cursor == 0 {
            return begun.elapsed();
        }
    }
}
