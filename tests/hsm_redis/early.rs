//! Movers that come while the daemon still reads what redis holds.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::{Daemon, Peer, Redis, Settings, Testbed, json};

use super::{item, queue, serve_all, small_bed, start_alone};

/// Stands between the daemon and redis. While it is slow the answers to `HSCAN` come byte by byte.
struct SlowRedis {
    address: SocketAddr,
    slow: Arc<AtomicBool>,
}

impl SlowRedis {
    fn start(redis: &Redis<'_>) -> Self {
        let listener = TcpListener::bind((redis.host().as_str(), 0)).unwrap();
        let (address, slow) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let server = SocketAddr::new(address.ip(), 6379);
        let is_slow = Arc::clone(&slow);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let scans = Arc::new(AtomicBool::new(false));
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let seen = Arc::clone(&scans);
                std::thread::spawn(move || {
                    copy(from, to, |bytes| {
                        seen.fetch_or(bytes.windows(5).any(|word| word == b"HSCAN"), Ordering::SeqCst);
                        false
                    });
                });
                let is_slow = Arc::clone(&is_slow);
                std::thread::spawn(move || {
                    copy(server, client, |_| scans.load(Ordering::SeqCst) && is_slow.load(Ordering::SeqCst));
                });
            }
        });
        Self { address, slow }
    }

    fn arguments(&self) -> Vec<String> {
        let (host, port) = (self.address.ip().to_string(), self.address.port().to_string());
        ["--redis-host", &host, "--redis-port", &port, "--lustre", "none", "--fsname", "testfs0"]
            .map(str::to_owned)
            .into()
    }
}

/// Copies until one side ends, each byte on its own as long as `slowly` says so.
fn copy(mut from: TcpStream, mut to: TcpStream, mut slowly: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 4096];
    'copy: while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let part = if slowly(rest) {
                std::thread::sleep(Duration::from_millis(20));
                1
            } else {
                rest.len()
            };
            if to.write_all(&rest[..part]).is_err() {
                break 'copy;
            }
            rest = &rest[part..];
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// Starts the daemon with a redis that is slow from the beginning; returns when it listens.
fn start_behind_slow<'bed>(bed: &'bed Testbed, redis: &Redis<'_>) -> (Daemon<'bed>, SlowRedis) {
    let proxy = SlowRedis::start(redis);
    proxy.slow.store(true, Ordering::SeqCst);
    let arguments = proxy.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    bed.configure(&Settings::new().line("settle_ms 100"));
    let daemon = Daemon::start_without_waiting(bed, &arguments);
    bed.wait("it listens", || Peer::connect(bed.address()).is_ok());
    (daemon, proxy)
}

#[test]
fn movers_are_taken_in_before_redis_was_read() {
    let bed = small_bed("redis-early");
    let redis = Redis::start(&bed);
    let first = start_alone(&bed, &redis, &Settings::new());
    queue(&first, 0..10);
    let mut mover = first.connect();
    mover.ehlo("mover1");
    mover.ask_for_work(2);
    let work = mover.receive()["hsm_action_list"]["list"].as_array().unwrap().clone();
    assert_eq!(work.len(), 2);
    drop(first);

    let (mut daemon, proxy) = start_behind_slow(&bed, &redis);

    // The mover still has one of its two; another asks for all; somebody queues one that is known and one that is not.
    let mut mover = daemon.connect();
    let claims = json!({"command": "ehlo", "id": "mover1", "hai_list": [work[0]]});
    assert_eq!(mover.ask(&claims), json!({"command": "ehlo"}));
    mover.done(&work[0], 0);
    let mut eager = daemon.connect();
    eager.ehlo("eager");
    eager.ask_for_work(100);
    let mut user = daemon.connect();
    user.send(&json!({"command": "queue", "hsm_action_items": [item(20, 3, ""), item(20, 50, "")]}));
    bed.wait("only these and who asks are connected", || daemon.status()["clients_connected"] == 4);
    assert_eq!(daemon.status()["recovering"], 0);
    assert!(daemon.is_running());
    for peer in [&mut mover, &mut eager, &mut user] {
        assert_eq!(peer.receive_within(Duration::from_millis(50)), None, "nothing before all is known");
    }

    proxy.slow.store(false, Ordering::SeqCst);
    assert_eq!(mover.receive(), json!({"command": "done"}));
    let answer = user.receive();
    assert_eq!((&answer["enqueued"], &answer["skipped"]), (&json!(1), &json!(1)), "{answer}");
    let mut given = Vec::new();
    while given.len() < 10 {
        let list = eager.receive();
        for item in list["hsm_action_list"]["list"].as_array().expect("work") {
            given.push(item["hai_cookie"].as_u64().unwrap());
        }
        if given.len() < 10 {
            eager.ask_for_work(100);
        }
    }
    given.sort_unstable();
    let done = work[0]["hai_cookie"].as_u64().unwrap();
    let mut want: Vec<u64> = (1000..1010).filter(|&cookie| cookie != done).collect();
    want.push(1050);
    assert_eq!(given, want, "each once, and not what mover1 went on with");
    assert!(daemon.status()["recovering"].is_null());
    daemon.stop();
}

/// A clean stop that is asked for too early waits until all was read, and loses nothing.
#[test]
fn a_stop_while_redis_is_read_loses_nothing() {
    let bed = small_bed("redis-early-stop");
    let redis = Redis::start(&bed);
    let first = start_alone(&bed, &redis, &Settings::new());
    queue(&first, 0..10);
    drop(first);
    let (mut daemon, proxy) = start_behind_slow(&bed, &redis);
    daemon.signal(harness::Signal::TERM);
    bed.wait("it was told", || daemon.log().contains("exiting when the store was read"));
    proxy.slow.store(false, Ordering::SeqCst);
    assert!(daemon.wait_end().success());
    daemon.start_again();
    assert_eq!(serve_all(&daemon, "mover1", 10).len(), 10);
}
