//! A way to redis that ends, trickles or talks nonsense at a chosen byte.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use harness::{Redis, patience, poll};

/// What happens on the way after so many bytes, once.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// What is asked ends there.
    pub asked: Option<usize>,
    /// What is answered ends there, after these bytes.
    pub answered: Option<(usize, Vec<u8>)>,
    /// Every byte comes on its own.
    pub trickles: bool,
}

/// Stands between a store and redis.
pub struct FaultyWay {
    address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    open: Arc<AtomicUsize>,
}

impl FaultyWay {
    /// To this redis.
    pub fn start(redis: &Redis<'_>) -> Self {
        let listener = TcpListener::bind((redis.host().as_str(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = SocketAddr::new(address.ip(), 6379);
        let (plan, open) = (Arc::new(Mutex::new(Plan::default())), Arc::new(AtomicUsize::new(0)));
        let way = Self { address, plan: Arc::clone(&plan), open: Arc::clone(&open) };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let (asks, answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                for (from, to, asked) in [(asks, server, true), (answers, client, false)] {
                    from.set_nodelay(true).unwrap();
                    let (plan, open) = (Arc::clone(&plan), Arc::clone(&open));
                    open.fetch_add(1, Ordering::SeqCst);
                    std::thread::spawn(move || {
                        copy(from, to, asked, &plan);
                        open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            }
        });
        way
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is to happen.
    pub fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap()
    }

    /// Waits until nothing is on its way any more, after the one who asked has gone.
    pub fn wait_empty(&self) {
        poll(patience(), || (self.open.load(Ordering::SeqCst) == 0).then_some(())).expect("connections end");
    }
}

/// Copies until one side ends, or the plan says so.
fn copy(mut from: TcpStream, mut to: TcpStream, asked: bool, plan: &Mutex<Plan>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let (pass, last, trickles) = {
            let mut plan = plan.lock().unwrap();
            let left = if asked { plan.asked } else { plan.answered.as_ref().map(|(left, _)| *left) };
            let pass = left.map_or(count, |left| left.min(count));
            let ends = left.is_some_and(|left| left <= count);
            if let (false, Some(left)) = (ends, left) {
                match (&mut plan.answered, asked) {
                    (_, true) => plan.asked = Some(left - count),
                    (Some((at, _)), false) => *at = left - count,
                    (None, false) => {}
                }
            }
            let last = match (ends, asked) {
                (false, _) => None,
                (true, true) => plan.asked.take().map(|_| Vec::new()),
                (true, false) => plan.answered.take().map(|(_, bytes)| bytes),
            };
            (pass, last, plan.trickles)
        };
        let part = if trickles { 1 } else { pass.max(1) };
        let mut parts = buffer[..pass].chunks(part).chain(last.as_deref());
        if parts.any(|part| to.write_all(part).is_err()) || last.is_some() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
