//! Names of peers, looked up on threads of their own: a name server that does not answer delays nobody.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// How long a connection waits for its name before it goes by its address.
const BUDGET: Duration = Duration::from_millis(100);
/// How long a name is remembered.
const FRESH: Duration = Duration::from_secs(60);
/// Addresses remembered.
const MAX_CACHED: usize = 10_000;
const THREADS: usize = 4;

/// The name of an address, if it has one. May take any time.
type Lookup = fn(IpAddr) -> Option<String>;

struct Question {
    ip: IpAddr,
    answer: oneshot::Sender<String>,
}

/// Looks names up.
#[derive(Debug, Clone)]
pub struct Names {
    questions: Sender<Question>,
    known: Rc<RefCell<BTreeMap<IpAddr, (Instant, String)>>>,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Question({})", self.ip)
    }
}

impl Names {
    /// Starts the threads.
    pub fn start() -> std::io::Result<Self> {
        Self::asking(system)
    }

    fn asking(lookup: Lookup) -> std::io::Result<Self> {
        let (questions, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..THREADS {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new().name("names".into()).spawn(move || answer(&queue, lookup))?;
        }
        Ok(Self { questions, known: Rc::default() })
    }

    /// The peer as `host:port`; its address stands for a name that is not found within 100 ms.
    pub async fn of(&self, peer: SocketAddr) -> String {
        let ip = peer.ip().to_canonical();
        let port = peer.port();
        if let Some((since, name)) = self.known.borrow().get(&ip)
            && since.elapsed() < FRESH
        {
            return format!("{name}:{port}");
        }
        let (answer, answered) = oneshot::channel();
        if self.questions.send(Question { ip, answer }).is_err() {
            return format!("{ip}:{port}");
        }
        match tokio::time::timeout(BUDGET, answered).await {
            Ok(Ok(name)) => {
                let mut known = self.known.borrow_mut();
                if known.len() >= MAX_CACHED {
                    known.clear();
                }
                known.insert(ip, (Instant::now(), name.clone()));
                format!("{name}:{port}")
            }
            _ => format!("{ip}:{port}"),
        }
    }
}

/// Asks the system's resolver.
fn system(ip: IpAddr) -> Option<String> {
    match dns_lookup::getnameinfo(&SocketAddr::new(ip, 0), libc::NI_NUMERICSERV) {
        Ok((host, _)) => Some(host),
        Err(error) => {
            tracing::debug!("no name for {ip}: {:?}", error.kind());
            None
        }
    }
}

fn answer(queue: &Mutex<Receiver<Question>>, lookup: Lookup) {
    loop {
        let question = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok(Question { ip, answer }) = question else { return };
        // Whoever asked has stopped waiting: answering would only delay the next.
        if answer.is_closed() {
            continue;
        }
        let name = lookup(ip).unwrap_or_else(|| ip.to_string());
        let _ = answer.send(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(lookup: Lookup, times: usize) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let names = Names::asking(lookup).unwrap();
        let peer = SocketAddr::from(([192, 0, 2, 1], 4711));
        (0..times).map(|_| runtime.block_on(names.of(peer))).collect()
    }

    #[test]
    fn names_are_shown_with_the_port() {
        assert_eq!(ask(|_| Some("mover1.cluster".to_owned()), 2), ["mover1.cluster:4711"; 2]);
    }

    /// Peer: "SIGSEGV: reverse DNS answers EAI_AGAIN, then ehlo without id".
    #[test]
    fn an_address_stands_for_a_name_that_is_not_found() {
        assert_eq!(ask(|_| None, 1), ["192.0.2.1:4711"]);
    }

    /// Peer 8: "blocking reverse DNS at every accept".
    #[test]
    fn a_name_server_that_does_not_answer_delays_nobody() {
        // More peers than threads: all of these are stuck for good.
        let stuck = |_| loop {
            std::thread::park();
        };
        assert_eq!(ask(stuck, THREADS + 2), ["192.0.2.1:4711"; THREADS + 2]);
    }
}
