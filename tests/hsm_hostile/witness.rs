//! Well-behaved peers beside the others, and what the daemon costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::daemon_support::{Daemon, EHLO, PATIENCE, Peer, item_of, oids};

/// The witness's own archive, so that nobody else's work comes in between.
const ARCHIVE: u32 = 77;
/// Its requests are those from here on.
const FIRST: u32 = 0x4000_0000;

pub const STATUS: &str = r#"{"command": "status"}"#;

/// An honest mover, an honest client that queues its work, and one that asks for the status, in a circle.
pub struct Witness {
    rounds: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// They connect before the attack begins.
    pub fn start(daemon: &Daemon) -> Self {
        let (rounds, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (mut mover, mut client, mut onlooker) = (daemon.peer(), daemon.peer(), daemon.peer());
        let ehlo = format!(
            r#"{{"command": "ehlo", "fsname": "testfs0", "id": "witness", "archive_ids": [{ARCHIVE}]}}"#
        );
        assert_eq!(mover.ask(&ehlo), EHLO);
        let thread = {
            let (rounds, stop) = (Arc::clone(&rounds), Arc::clone(&stop));
            std::thread::spawn(move || {
                for oid in FIRST.. {
                    round(&mut mover, &mut client, &mut onlooker, oid);
                    rounds.fetch_add(1, Ordering::SeqCst);
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                }
            })
        };
        let witness = Self { rounds, stop, thread: Some(thread) };
        witness.served(daemon, "before");
        witness
    }

    /// Waits until they were served some times more from now on.
    pub fn served(&self, daemon: &Daemon, when: &str) {
        let before = self.rounds.load(Ordering::SeqCst);
        let end = Instant::now() + PATIENCE;
        while self.rounds.load(Ordering::SeqCst) < before + 3 {
            let failed = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            assert!(!failed, "{when}: an honest peer got a wrong answer or none\n{}", daemon.log());
            assert!(Instant::now() < end, "{when}: honest peers are not served\n{}", daemon.log());
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Ends, and tells how many rounds there were.
    pub fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().expect("honest peers were served");
        self.rounds.load(Ordering::SeqCst)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// One request from the queue to its end, and a look at the status.
fn round(mover: &mut Peer, client: &mut Peer, onlooker: &mut Peer, oid: u32) {
    let item = item_of(20, oid, oid.into(), ARCHIVE, "tag=witness");
    assert_eq!(client.queue(&[item]), r#"{"command": "queue", "enqueued": 1}"#);
    assert_eq!(oids(&mover.work("")), [i64::from(oid)]);
    mover.done(oid.into(), oid, 0);
    let status = onlooker.ask(STATUS);
    assert!(status.starts_with(r#"{"command": "status""#), "{status}");
}

/// A line of `/proc/PID/status`, in bytes.
fn proc_status(daemon: &Daemon, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid().as_raw_nonzero())).unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Memory that the daemon has in RAM, in bytes.
pub fn resident(daemon: &Daemon) -> u64 {
    proc_status(daemon, "VmRSS:")
}

/// The most that it had since [`forget_peak`].
pub fn peak(daemon: &Daemon) -> u64 {
    proc_status(daemon, "VmHWM:")
}

/// Measures the peak anew from here.
pub fn forget_peak(daemon: &Daemon) {
    // proc(5): 5 resets VmHWM.
    std::fs::write(format!("/proc/{}/clear_refs", daemon.pid().as_raw_nonzero()), "5").unwrap();
}

/// CPU time that the daemon has used so far, in clock ticks of 10 ms.
pub fn ticks(daemon: &Daemon) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid().as_raw_nonzero())).unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

pub const MIB: u64 = 1 << 20;

/// An attack: what it does to the daemon; what it returns stays as it is while the others are looked at.
pub type Attack<'a> = &'a dyn Fn(&Daemon) -> Vec<Peer>;

/// Attacks one after the other, each with the most memory that it may cost, in bytes.
pub fn attack(daemon: &Daemon, attacks: &[(&str, u64, Attack)]) {
    let witness = Witness::start(daemon);
    for (name, bound, attack) in attacks {
        let before = resident(daemon);
        forget_peak(daemon);
        let held = attack(daemon);
        witness.served(daemon, name);
        drop(held);
        witness.served(daemon, &format!("after {name}"));
        let grown = peak(daemon).saturating_sub(before);
        assert!(grown <= *bound, "{name}: {} MiB more, not {} MiB", grown / MIB, bound / MIB);
    }
    assert!(witness.end() >= 3 + 6 * attacks.len() as u64);
}
