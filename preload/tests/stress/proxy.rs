//! A bad network between movers and the daemon, and now and then something that is no daemon at all.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::Random;

/// What may be wrong with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It ends after some bytes, perhaps within a message.
    Cut,
    /// It ends at once.
    Refused,
    /// Bytes come one by one.
    Dribble,
    /// Bytes come late.
    Slow,
    /// Something else comes in between.
    Garbage,
    /// Nothing comes any more, for longer than the lease lasts.
    Silence,
    /// Nothing is sent on any more, although it is taken.
    Deaf,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Cut, Self::Garbage, Self::Dribble, Self::Silence, Self::Slow, Self::Deaf, Self::Refused];
}

/// What a server never says. None of these acknowledges anything: nobody could tell that from the real thing.
const GARBAGE: [&[u8]; 10] = [
    b"\x00\xff\x16\x03\x01\x02\x00\x01",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"{\"command\": 7}",
    b"{\"command\": \"recv\", \"hsm_action_list\": {\"hal_version\": 1, \"hal_fsname\": \"other\", \"list\": []}}",
    b"{\"command\": \"recv\", \"hsm_action_list\": {\"hal_version\": 1, \"hal_fsname\": \"testfs0\", \"list\": [{}]}}",
    b"{\"command\": \"recv\", \"hsm_action_list\": {\"hal_version\": 1, \"hal_fsname\": \"testfs0\", \"list\": 3}}",
    b"{\"command\": \"lease\", \"serial\": 99999, \"lease_ms\": -5}{\"command\": \"lease\", \"status\": 1}",
    b"{\"command\": \"status\", \"connected_clients\": []}",
    b"{\"command\": \"ehlo\", \"coordinatool\": {\"lease_ms\": \"x\", \"refused\": [[], 3, {}]}}",
    b"{\"command\": \"recv\", \"x\": \"",
];

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    calm: AtomicBool,
    stop: AtomicBool,
    connections: AtomicU32,
    hits: Mutex<Vec<Fault>>,
    seed: u64,
}

/// The listening side.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts; connections go to `target`.
    pub fn start(target: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind((target.ip(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            calm: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            connections: AtomicU32::new(0),
            hits: Mutex::new(Vec::new()),
            seed,
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.stop.load(Ordering::Acquire) {
                    break;
                }
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    /// What movers connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing is wrong with new connections, and old ones end soon.
    pub fn calm(&self) {
        self.shared.calm.store(true, Ordering::Release);
    }

    /// How often each fault hit a connection.
    pub fn hits(&self) -> Vec<(Fault, usize)> {
        let hits = self.shared.hits.lock().unwrap();
        Fault::ALL.map(|fault| (fault, hits.iter().filter(|hit| **hit == fault).count())).to_vec()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

fn end(streams: [&TcpStream; 2]) {
    for stream in streams {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Copies until the end, or until a time, or until told.
fn copy(from: &TcpStream, to: &TcpStream, mut each: impl FnMut(&TcpStream, &[u8]) -> bool) {
    let (mut from, mut buffer) = (from, [0; 4096]);
    let _ = from.set_read_timeout(Some(Duration::from_millis(50)));
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => {
                if !each(to, &buffer[..n]) {
                    return;
                }
            }
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                if !each(to, &[]) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

impl Shared {
    fn serve(self: Arc<Self>, mover: TcpStream) {
        let number = self.connections.fetch_add(1, Ordering::AcqRel);
        let mut random = Random::new(self.seed ^ u64::from(number) << 32);
        let calm = self.calm.load(Ordering::Acquire);
        let fault = Fault::ALL[number as usize % Fault::ALL.len()];
        if !calm && fault == Fault::Refused {
            self.hits.lock().unwrap().push(fault);
            return end([&mover, &mover]);
        }
        let Ok(daemon) = TcpStream::connect(self.target) else { return end([&mover, &mover]) };
        let (up_from, up_to) = (mover.try_clone().unwrap(), daemon.try_clone().unwrap());
        let deaf = Arc::new(AtomicBool::new(false));
        let (me, is_deaf) = (Arc::clone(&self), Arc::clone(&deaf));
        let up = std::thread::spawn(move || {
            copy(&up_from, &up_to, |mut to, bytes| {
                let swallow = is_deaf.load(Ordering::Acquire);
                !me.stop.load(Ordering::Acquire) && (swallow || to.write_all(bytes).is_ok())
            });
            end([&up_from, &up_to]);
        });
        let until = Instant::now() + Duration::from_millis(300 + random.below(2500));
        // Not before the mover was told that it is known, most of the time.
        let mut left = if random.chance(80) { 100 + random.below(3000) } else { random.below(100) };
        let mut hit = false;
        copy(&daemon, &mover, |mut to, bytes| {
            if self.stop.load(Ordering::Acquire) {
                return false;
            }
            let now_calm = self.calm.load(Ordering::Acquire);
            if calm {
                return to.write_all(bytes).is_ok();
            }
            if now_calm {
                return false;
            }
            left = left.saturating_sub(bytes.len() as u64 + 1);
            let due = left == 0 || Instant::now() >= until;
            hit |= due || matches!(fault, Fault::Dribble | Fault::Slow) && !bytes.is_empty();
            match fault {
                Fault::Dribble => bytes.chunks(1).all(|byte| to.write_all(byte).is_ok()) && !due,
                Fault::Slow => {
                    std::thread::sleep(Duration::from_millis(random.below(30)));
                    to.write_all(bytes).is_ok() && !due
                }
                Fault::Garbage if due => {
                    let garbage = GARBAGE[random.below(GARBAGE.len() as u64) as usize];
                    let _ = to.write_all(garbage).and_then(|()| to.write_all(bytes));
                    // It is for the mover to leave; but it need not, while what came could still become something.
                    std::thread::sleep(Duration::from_millis(100));
                    false
                }
                Fault::Silence if due => {
                    std::thread::sleep(Duration::from_millis(2500));
                    false
                }
                Fault::Deaf if due => {
                    deaf.store(true, Ordering::Release);
                    to.write_all(bytes).is_ok() && Instant::now() < until + Duration::from_secs(2)
                }
                _ if due => {
                    let some = random.below(bytes.len() as u64 + 1) as usize;
                    let _ = to.write_all(&bytes[..some]);
                    false
                }
                _ => to.write_all(bytes).is_ok(),
            }
        });
        if hit {
            self.hits.lock().unwrap().push(fault);
        }
        end([&mover, &daemon]);
        let _ = up.join();
    }
}
