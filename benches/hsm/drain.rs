//! Giving out requests and taking their ends.

use harness::known;

use crate::baselines::{self, Operations, Raw};
use crate::bench::{Bench, Cpu, rate};
use crate::load::{self, Habit};
use crate::messages::ten_bytes;
use crate::server::Store;
use crate::table::{Aim, Line};

/// One way of draining.
struct Case {
    name: &'static str,
    habit: Habit,
    /// Requests, at most.
    most: u32,
    c: &'static str,
}

const SINGLE: Case = Case {
    name: "drain, 64 movers, one done + one recv per write",
    habit: Habit { movers: 64, most: 16, dones: 1 },
    most: 200_000,
    c: "22k/s as shipped, 59k/s CPU limit",
};
const MANY: Case = Case {
    name: "drain, 64 movers, 16 dones per write",
    habit: Habit { movers: 64, most: 16, dones: 16 },
    most: 500_000,
    c: "-",
};
const ONE_MOVER: Case = Case {
    name: "drain, 1 mover",
    habit: Habit { movers: 1, most: 16, dones: 1 },
    most: 50_000,
    c: "362/s as shipped, 38k/s CPU limit",
};

/// Each end in a write of its own, as the C library sends them.
pub fn single(bench: &mut Bench) -> Result<(), String> {
    measure(bench, &SINGLE)
}

/// Sixteen ends in a write.
pub fn many(bench: &mut Bench) -> Result<(), String> {
    measure(bench, &MANY)
}

/// As [`single`], with one mover.
pub fn one_mover(bench: &mut Bench) -> Result<(), String> {
    measure(bench, &ONE_MOVER)
}

fn measure(bench: &mut Bench, case: &Case) -> Result<(), String> {
    for store in bench.stores() {
        measure_with(bench, case, store)?;
    }
    Ok(())
}

fn measure_with(bench: &mut Bench, case: &Case, store: Store) -> Result<(), String> {
    // What a mover waits for the store for is not what the sockets' ceiling is about: fewer requests show it as well.
    let slow = store != Store::None && case.habit.movers == 1;
    let requests = bench.requests.min(case.most).min(if slow { 3000 } else { u32::MAX });
    let habit = case.habit;
    let (mut rates, mut cpu, mut bare, mut shares) = (vec![], vec![], vec![], vec![]);
    for _ in 0..bench.runs {
        let server = bench.server(store, "");
        load::queue(server.address(), requests, ten_bytes)?;
        let ceiling = match store {
            // Next to what it is compared with.
            Store::None => Some(ceiling(bench, habit, requests)),
            _ => None,
        };
        let used = Cpu::of(server.watched());
        let drained = load::drain(server.address(), requests, habit)?;
        cpu.push(used.each(requests));
        rates.push(rate(requests, drained.wall));
        let known = known(&server.status());
        if known != 0 {
            return Err(format!("{}, {}: {known} requests are left", case.name, store.name()));
        }
        drop(server);
        let ceiling = match store {
            Store::Redis => {
                let redis = bench.redis();
                baselines::redis(redis, requests, Operations::Queue);
                Some(rate(requests, baselines::redis(redis, requests, Operations::Drain)))
            }
            _ => ceiling,
        };
        if let Some(ceiling) = ceiling {
            bare.push(ceiling);
            shares.push(rate(requests, drained.wall) / ceiling);
        }
    }
    let name = format!("{}, {}", case.name, store.name());
    let sixteen = habit.dones > 1;
    let line = Line::new(name.clone(), "/s", rates);
    bench.add(match store {
        Store::None if sixteen => line.aim(Aim::AtLeast(600e3)).c(case.c),
        Store::None => line.c(case.c),
        _ => line,
    });
    let against = if store == Store::Redis { "bare redis" } else { "the sockets' ceiling" };
    if !bare.is_empty() {
        bench.add(Line::new(format!("{name}: {against}"), "/s", bare));
        let aim = match store {
            Store::None if !sixteen => Aim::AtLeast(0.6),
            Store::Redis if sixteen => Aim::AtLeast(0.9),
            _ => Aim::None,
        };
        bench.add(Line::new(format!("{name}, of {against}"), "", shares).aim(aim));
    }
    bench.add(Line::new(format!("{name}: CPU of the daemon for each"), "us", cpu));
    Ok(())
}

/// Requests per second if nothing had to be thought about.
fn ceiling(bench: &Bench, habit: Habit, requests: u32) -> f64 {
    let dones = habit.dones as u32;
    let raw = Raw::drain(&bench.directory, dones);
    raw.exchange(habit.movers, (requests / dones) as usize) * f64::from(dones)
}
