//! A crash with many requests queued: how long until all are known again, and until movers are served.

use std::time::{Duration, Instant};

use harness::{Peer, json, known};

use crate::baselines;
use crate::bench::{Bench, Cpu};
use crate::load;
use crate::messages::ten_bytes;
use crate::server::Store;
use crate::table::{Aim, Line};

/// Stores that outlive the daemon.
pub fn measure(bench: &mut Bench) -> Result<(), String> {
    for store in bench.stores().into_iter().filter(|store| *store != Store::None) {
        let requests = bench.requests;
        let (mut all, mut accepted, mut cpu, mut scans, mut shares) =
            (vec![], vec![], vec![], vec![], vec![]);
        for _ in 0..bench.runs {
            let mut server = bench.server(store, "");
            load::queue(server.address(), requests, ten_bytes)?;
            if store == Store::Redis {
                scans.push(baselines::hscan(bench.kept_redis()).as_secs_f64());
            }
            server.crash_and_start();
            let used = Cpu::of(server.watched());
            let (mut peer, accepted_at) = accepted_peer(server.address(), server.age())?;
            accepted.push(accepted_at.as_secs_f64());
            loop {
                let status = peer.ask(&json!({"command": "status", "verbose": 4}));
                if known(&status) == u64::from(requests) && status["recovering"].is_null() {
                    break;
                }
                if server.age() > Duration::from_secs(120) {
                    return Err(format!(
                        "{}: only {} requests are known again",
                        store.name(),
                        known(&status)
                    ));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            all.push(server.age().as_secs_f64());
            cpu.push(used.each(requests));
            if let (Some(all), Some(scan)) = (all.last(), scans.last()) {
                shares.push(all / scan);
            }
        }
        let name = store.name();
        let line = Line::new(format!("restart until all are known, {name}"), "s", all).c("28-36 s");
        bench.add(if store == Store::Embedded { line.aim(Aim::AtMost(1.0)).raised_from(2.0) } else { line });
        if store == Store::Redis {
            bench.add(Line::new("restart, bare HSCAN", "s", scans));
            bench.add(Line::new("restart, redis, of bare HSCAN", "", shares).aim(Aim::AtMost(1.2)));
        }
        bench.add(Line::new(format!("restart, {name}: CPU of the daemon for each request"), "us", cpu));
        bench.add(Line::new(format!("restart until a mover is accepted, {name}"), "s", accepted));
    }
    Ok(())
}

/// A mover that comes as soon as it can, and how long after its start the daemon answered its `ehlo`.
fn accepted_peer(address: std::net::SocketAddr, age: Duration) -> Result<(Peer, Duration), String> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(120) {
        if let Ok(mut peer) = Peer::connect(address) {
            peer.ehlo("early");
            return Ok((peer, age + begun.elapsed()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err("the daemon does not listen again".to_owned())
}
