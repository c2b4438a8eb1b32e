//! How cost grows: with requests that are queued, and with movers.

use crate::bench::{Bench, Cpu, rate};
use crate::load::{self, Habit};
use crate::messages::ten_bytes;
use crate::server::Store;
use crate::table::{Aim, Line};

/// Ten times as many requests as in other rows, of which the first are drained.
pub fn requests(bench: &mut Bench) -> Result<(), String> {
    let (requests, drained) = (bench.requests.saturating_mul(10), bench.requests / 2);
    let habit = Habit { movers: 64, most: 16, dones: 16 };
    // Once: it takes long, and other rows show the spread.
    let server = bench.server(Store::None, "");
    let (before, cpu) = (server.watched().memory().0, Cpu::of(server.watched()));
    let wall = load::queue(server.address(), requests, ten_bytes)?;
    let queue_cpu = cpu.each(requests);
    let memory = server.watched().memory();
    let cpu = Cpu::of(server.watched());
    let took = load::drain_some(server.address(), requests, drained, habit)?.wall;
    let name = format!("{requests} requests");
    let height =
        Line::new(format!("{name}: memory of the daemon at its height"), "GB", vec![memory.1 / 953.7]);
    let height = height.c("29 GB");
    bench.add(if bench.quick { height } else { height.aim(Aim::AtMost(2.0)).raised_from(2.5) });
    let each = (memory.0 - before) * 1_048_576.0 / f64::from(requests);
    bench.add(Line::new(format!("{name}: memory for each"), "B", vec![each]));
    bench.add(Line::new(format!("{name}: queue, no store"), "/s", vec![rate(requests, wall)]));
    bench.add(Line::new(format!("{name}: queue, CPU for each"), "us", vec![queue_cpu]));
    let what = format!("{name}: drain, 64 movers, 16 dones per write");
    bench.add(Line::new(what.clone(), "/s", vec![rate(drained, took)]));
    bench.add(Line::new(format!("{what}: CPU for each"), "us", vec![cpu.each(drained)]));
    Ok(())
}

/// The same work with ever more movers.
pub fn movers(bench: &mut Bench) -> Result<(), String> {
    let requests = bench.requests.min(100_000);
    let counts: &[usize] = if bench.quick { &[8, 128] } else { &[16, 256, 4096, 10_000] };
    for &movers in counts {
        let (mut rates, mut cpu, mut memory) = (vec![], vec![], vec![]);
        for _ in 0..bench.runs.min(2) {
            let server = bench.server(Store::None, "");
            load::queue(server.address(), requests, ten_bytes)?;
            let before = server.watched().memory().0;
            let used = Cpu::of(server.watched());
            let habit = Habit { movers, most: 4, dones: 1 };
            let drained = load::drain(server.address(), requests, habit)?;
            cpu.push(used.each(requests));
            rates.push(rate(requests, drained.wall));
            memory.push((server.watched().memory().1 - before) * 1024.0 / movers as f64);
        }
        let name = format!("drain, {movers} movers, one done + one recv per write, no store");
        bench.add(Line::new(name.clone(), "/s", rates));
        bench.add(Line::new(format!("{name}: CPU for each, with connecting"), "us", cpu));
        bench.add(Line::new(format!("{movers} movers: memory for each"), "KiB", memory));
    }
    Ok(())
}
