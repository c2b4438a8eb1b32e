//! Queueing, with no mover connected, and the memory that it takes.

use harness::known;

use crate::baselines::{self, Operations};
use crate::bench::{Bench, Cpu, rate};
use crate::load;
use crate::messages::ten_bytes;
use crate::server::Store;
use crate::table::{Aim, Line};

/// All stores.
pub fn measure(bench: &mut Bench) -> Result<(), String> {
    for store in bench.stores() {
        measure_with(bench, store)?;
    }
    Ok(())
}

fn measure_with(bench: &mut Bench, store: Store) -> Result<(), String> {
    let requests = bench.requests;
    let (mut rates, mut cpu, mut memory, mut bare, mut shares) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..bench.runs {
        if store == Store::Redis {
            let took = baselines::redis(bench.redis(), requests, Operations::Queue);
            bare.push(rate(requests, took));
        }
        let server = bench.server(store, "");
        let before = server.watched().memory().0;
        let used = Cpu::of(server.watched());
        let wall = load::queue(server.address(), requests, ten_bytes)?;
        cpu.push(used.each(requests));
        memory.push((server.watched().memory().0 - before) * 1_048_576.0 / f64::from(requests));
        rates.push(rate(requests, wall));
        if let Some(bare) = bare.last() {
            shares.push(rate(requests, wall) / bare);
        }
        let known = known(&server.status());
        if known != u64::from(requests) {
            return Err(format!("{}: {known} requests are known of {requests}", store.name()));
        }
    }
    let name = store.name();
    let line = Line::new(format!("queue, {name}"), "/s", rates);
    bench.add(match store {
        Store::None => line.aim(Aim::AtLeast(1.1e6)).raised_from(1e6).c("101k/s"),
        Store::Embedded => line.aim(Aim::AtLeast(850e3)).raised_from(600e3),
        Store::Redis => line.c("71k/s"),
    });
    if store == Store::Redis {
        bench.add(Line::new("queue, bare redis", "/s", bare));
        bench.add(Line::new("queue, redis, of bare redis", "", shares).aim(Aim::AtLeast(0.9)));
    }
    bench.add(Line::new(format!("queue, {name}: CPU of the daemon for each"), "us", cpu));
    let memory = Line::new(format!("memory for each queued request, {name}"), "B", memory);
    bench.add(memory.aim(Aim::AtMost(200.0)).c("2912 B"));
    Ok(())
}
