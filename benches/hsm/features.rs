//! What batching and host mappings cost.

use std::time::Duration;

use harness::known;

use crate::bench::{Bench, Cpu, rate};
use crate::load::{self, Habit};
use crate::server::Store;
use crate::table::{Aim, Line};

/// What one pass takes: CPU of the daemon for queueing and draining in microseconds for each request, and times.
struct Pass {
    cpu: f64,
    queue: f64,
    drain: Duration,
}

fn pass(
    bench: &mut Bench,
    config: &str,
    requests: u32,
    habit: Habit,
    data: impl Fn(u32) -> String + Sync,
) -> Result<Pass, String> {
    let server = bench.server(Store::None, config);
    let cpu = Cpu::of(server.watched());
    let queue = load::queue(server.address(), requests, data)?;
    let drain = load::drain(server.address(), requests, habit)?.wall;
    let known = known(&server.status());
    if known != 0 {
        return Err(format!("{known} requests are left"));
    }
    Ok(Pass { cpu: cpu.each(requests), queue: rate(requests, queue), drain })
}

/// Many tags, few slots.
pub fn batching(bench: &mut Bench) -> Result<(), String> {
    let (requests, tags, movers) = if bench.quick { (2000, 64, 4) } else { (100_000, 1000, 16) };
    let habit = Habit { movers, most: 16, dones: 1 };
    let slots = 4 * movers as u32;
    let rounds = u32::div_ceil(tags, slots);
    let tag = |number: u32| format!("tag={:06}", number % tags);
    let (mut cpu, mut plain, mut more, mut wall, mut of_wall) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..bench.runs {
        let without = pass(bench, "", requests, habit, tag)?;
        let config = "batch_archives_slices_sec 1 30\nbatch_archives_slots_per_client 4\n";
        let with = pass(bench, config, requests, habit, tag)?;
        more.push(with.cpu / without.cpu);
        cpu.push(with.cpu);
        plain.push(without.cpu);
        wall.push(with.drain.as_secs_f64());
        let most = Duration::from_secs(1) * rounds + without.drain.mul_f64(1.2);
        of_wall.push(with.drain.as_secs_f64() / most.as_secs_f64());
    }
    let name = format!("batching, 4 slots x {tags} tags, {movers} movers, {requests} requests");
    bench.add(Line::new(format!("{name}: CPU for each"), "us", cpu));
    bench.add(Line::new("the same without batching: CPU for each", "us", plain));
    bench.add(Line::new("batching, CPU of that without", "", more).aim(Aim::AtMost(1.1)).raised_from(1.2));
    bench.add(Line::new(format!("{name}: time"), "s", wall).c("never"));
    let what = format!("batching, time of {rounds} x 1 s idle + 1.2 x the work");
    bench.add(Line::new(what, "", of_wall).aim(Aim::AtMost(1.0)));
    Ok(())
}

/// Lines that say which mover archives what, each for one tag.
pub fn mappings(bench: &mut Bench) -> Result<(), String> {
    let requests = bench.requests.min(200_000);
    let habit = Habit { movers: 64, most: 16, dones: 1 };
    let tag = |number: u32| format!("tag=n{:03}", number % 64);
    for (lines, shown) in [(64, "-30 %"), (512, "")] {
        if bench.quick && lines > 64 {
            continue;
        }
        let config: String =
            (0..lines).map(|n| format!("archive_on_hosts tag=n{n:03} mover{}\n", n % 64)).collect();
        let (mut cpu, mut plain, mut more, mut rates) = (vec![], vec![], vec![], vec![]);
        for _ in 0..bench.runs {
            let without = pass(bench, "", requests, habit, tag)?;
            let with = pass(bench, &config, requests, habit, tag)?;
            more.push(with.cpu / without.cpu);
            cpu.push(with.cpu);
            plain.push(without.cpu);
            rates.push(with.queue);
        }
        let name = format!("{lines} host mapping lines");
        bench.add(Line::new(format!("{name}: CPU for each"), "us", cpu));
        bench.add(Line::new("the same without: CPU for each", "us", plain));
        let line = Line::new(format!("{name}, CPU of that without"), "", more).c(shown);
        bench.add(if lines == 64 { line.aim(Aim::AtMost(1.05)).raised_from(1.1) } else { line });
        bench.add(Line::new(format!("{name}: queueing"), "/s", rates));
    }
    Ok(())
}
