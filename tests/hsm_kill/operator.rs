//! Who pipes `active_requests` of the MDTs to `coordinatool-client -Q`: each request until it was acknowledged once, and
//! never again after that. What is lost after its acknowledgement therefore never ends.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use coordinatool::lustre::active_requests::{Line, parse_line};
use coordinatool::wire::client::QueueWriter;
use harness::{Client, Peer, Random, patience};

use super::marks::Key;

/// Most requests in one message.
const BATCH: u64 = 8;

/// The answer when the store is full: -ENOSPC.
pub const NO_ROOM: i64 = -28;

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Operator {
    acknowledged: Arc<Mutex<BTreeSet<Key>>>,
    /// Nothing is queued for now.
    hold: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Operator {
    /// Starts queueing.
    pub fn start(client: Client, address: SocketAddr, seed: u64) -> Self {
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let hold = Arc::new(AtomicBool::new(false));
        let (known, held, stopped) = (Arc::clone(&acknowledged), Arc::clone(&hold), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut random = Random::new(seed);
            while !stopped.load(Ordering::Relaxed) {
                // The daemon is killed as it goes.
                let _ = queue_some(&client, address, &mut random, &known, &held, &stopped);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { acknowledged, hold, stop, thread: Some(thread) }
    }

    /// Queues nothing from now on, or goes on.
    pub fn hold(&self, hold: bool) {
        self.hold.store(hold, Ordering::SeqCst);
    }

    /// Whether nothing is queued for now.
    pub fn is_held(&self) -> bool {
        self.hold.load(Ordering::SeqCst)
    }

    /// What the daemon has acknowledged so far.
    pub fn acknowledged(&self) -> BTreeSet<Key> {
        self.acknowledged.lock().expect("the operator goes on").clone()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || std::thread::panicking(), "the operator was answered nonsense");
        }
    }
}

/// Queues over one connection until it fails; `None` then.
fn queue_some(
    client: &Client,
    address: SocketAddr,
    random: &mut Random,
    acknowledged: &Mutex<BTreeSet<Key>>,
    hold: &AtomicBool,
    stop: &AtomicBool,
) -> Option<()> {
    let mut peer = Peer::connect(address).ok()?;
    while !stop.load(Ordering::Relaxed) {
        let text = client.get_param("mdt.*.hsm.active_requests").ok()?;
        let most = 1 + random.below(BATCH);
        let mut keys = Vec::new();
        let mut message = Vec::new();
        let mut writer = QueueWriter::begin(Some("testfs0"), &mut message);
        for line in text.lines() {
            let Ok(Line::Record(record)) = parse_line(line.as_bytes()) else { continue };
            let item = record.item;
            let key = (
                item.cookie,
                item.fid.to_string().trim_matches(['[', ']']).to_owned(),
                item.action.name().to_owned(),
            );
            if keys.len() as u64 == most || acknowledged.lock().ok()?.contains(&key) {
                continue;
            }
            writer.item(&item, &mut message);
            keys.push(key);
        }
        // The connection is to the daemon that is there now: what it was killed for comes after this.
        if keys.is_empty() || hold.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        writer.end(&mut message);
        peer.send_bytes(&message).ok()?;
        let answer = peer.receive_within(patience())?;
        if answer["status"] == NO_ROOM {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        let counted = ["enqueued", "skipped"].iter().filter_map(|name| answer[name].as_u64()).sum::<u64>();
        assert!(answer["status"].is_null() && counted == keys.len() as u64, "{keys:?}: {answer}");
        acknowledged.lock().ok()?.extend(keys);
    }
    Some(())
}
