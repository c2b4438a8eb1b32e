//! A thousand agents with four resources each: what they cost the manager.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use harness::{TestDirectory, patience, poll};

use crate::dark::Dark;
use crate::figures::{Figure, Spread};
use crate::fleet::{Fleet, name};
use crate::manager::{Manager, RESOURCES, Settings, endpoint_of_fleet};

/// How large, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Scale<'a> {
    /// Agents.
    pub agents: usize,
    /// Between the agents and the manager.
    pub tls: bool,
    /// Runs.
    pub runs: usize,
    /// How long is measured in each.
    pub time: Duration,
    /// Of the monitors.
    pub cycle: Duration,
    /// Of the heartbeats.
    pub heartbeat: Duration,
    /// More settings of the cluster.
    pub settings: &'a [(String, String)],
}

/// What one run gave.
#[derive(Debug, Default)]
struct Run {
    started: Duration,
    looks_per_second: f64,
    beats_per_second: f64,
    cpu_percent: f64,
    us_per_look: f64,
    memory: f64,
    memory_peak: f64,
    files: f64,
    status_ms: f64,
    status_slowest_ms: f64,
    status_kib: f64,
    peak: f64,
    one_lost: Duration,
    tenth_lost: Duration,
}

/// All runs, and what is wrong with them.
pub fn measure(scale: Scale<'_>) -> (Vec<Figure>, Vec<String>) {
    let Scale { agents, tls, runs, .. } = scale;
    let (mut all, mut wrong) = (Vec::new(), Vec::new());
    for number in 1..=runs {
        println!("  run {number} of {runs}, load {}", crate::machine::load());
        match run(scale) {
            Ok((run, more)) => {
                all.push(run);
                wrong.extend(more);
            }
            Err(why) => wrong.push(format!("scale: {why}")),
        }
    }
    let label = if tls { "TLS" } else { "plain" };
    let figure = |name: &str, unit, of: &dyn Fn(&Run) -> f64| {
        Figure::new(format!("{agents} agents, {label}: {name}"), unit, all.iter().map(of).collect())
    };
    let full = agents == 1000 && !tls;
    let against = |figure: Figure, halo: &'static str, aim: &'static str| {
        if full { figure.against(halo, aim) } else { figure }
    };
    let figures = vec![
        against(figure("all started after", "s", &|run| run.started.as_secs_f64()), "10.8", "-"),
        against(figure("looks per second", "1/s", &|run| run.looks_per_second), "694", "all"),
        figure("heartbeats per second", "1/s", &|run| run.beats_per_second),
        against(figure("CPU of the manager", "%", &|run| run.cpu_percent), "4.8", "-"),
        against(figure("CPU per look, heartbeats included", "us", &|run| run.us_per_look), "70", "70"),
        against(figure("memory", "MiB", &|run| run.memory), "60", "60"),
        figure("memory at its height", "MiB", &|run| run.memory_peak),
        against(figure("open files", "", &|run| run.files), "1011", "-"),
        against(figure("GET status", "ms", &|run| run.status_ms), "38", "38"),
        figure("GET status, slowest", "ms", &|run| run.status_slowest_ms),
        against(figure("size of the status", "KiB", &|run| run.status_kib), "1085", "-"),
        figure("fullest part of the cycle over the mean", "", &|run| run.peak),
        against(
            figure("one host lost: all runs again after", "s", &|run| run.one_lost.as_secs_f64()),
            "3.75",
            "-",
        ),
        against(
            figure("a tenth lost: all runs again after", "s", &|run| run.tenth_lost.as_secs_f64()),
            "5.54",
            "-",
        ),
    ];
    (figures, wrong)
}

fn run(scale: Scale<'_>) -> Result<(Run, Vec<String>), String> {
    let Scale { agents, tls, time, cycle, heartbeat, .. } = scale;
    let directory = TestDirectory::new("bench");
    let certificates = directory.join("tls");
    let endpoint = tls.then(|| endpoint_of_fleet(&certificates));
    let fleet = Fleet::start(agents, endpoint);
    let milliseconds = |time: Duration| format!("{}ms", time.as_millis());
    let mut settings: Settings = [
        ("monitor_interval".to_owned(), milliseconds(cycle)),
        ("heartbeat_interval".to_owned(), milliseconds(heartbeat)),
        // A host without an agent is lost at once: HALO's --fence-on-connection-close.
        ("agent_grace".to_owned(), "0".to_owned()),
    ]
    .into();
    settings.extend(scale.settings.iter().cloned());
    let begun = Instant::now();
    let manager = Manager::start(&directory, &fleet, &settings, tls.then_some(certificates.as_path()));
    let wanted = agents * RESOURCES;
    let active = |many: usize| {
        let found = poll(patience(), || (fleet.seen.active() == many).then(Instant::now));
        found.ok_or_else(|| format!("{} of {many} resources run; {}", fleet.seen.active(), manager.log()))
    };
    let mut run = Run { started: active(wanted)?.duration_since(begun), ..Run::default() };
    // What was looked at at the start is looked at again after one cycle.
    std::thread::sleep(cycle + cycle / 2);
    steady(&fleet, &manager, time, cycle, &mut run)?;
    status(&manager, agents, &mut run)?;
    let mut wrong = Vec::new();
    for (hosts, took) in [(0..1, &mut run.one_lost), (1..1 + agents / 10, &mut run.tenth_lost)] {
        match lose(directory.path(), &fleet, hosts.clone(), wanted) {
            Ok(time) => *took = time,
            Err(why) => wrong.push(format!("{} hosts lost: {why}", hosts.len())),
        }
    }
    let doubles = fleet.seen.doubles.load(Relaxed);
    if doubles > 0 {
        wrong.push(format!("{doubles} resources were started twice"));
    }
    Ok((run, wrong))
}

/// Every second host of these loses its power: its agent is gone, and its fence device says off. How long until all runs again.
fn lose(directory: &Path, fleet: &Fleet, hosts: Range<usize>, wanted: usize) -> Result<Duration, String> {
    let begun = Instant::now();
    let mut lit: BTreeSet<usize> = hosts.map(|host| host * 2).collect();
    for host in &lit {
        fs::write(directory.join("power").join(name(*host)), "off\n").map_err(|error| error.to_string())?;
        fleet.kill(*host);
    }
    let gone = poll(patience(), || (fleet.seen.active() < wanted).then_some(()));
    gone.ok_or("hosts are not lost")?;
    let mut dark = Vec::new();
    let back = poll(patience(), || {
        // Once its device was asked, not even its kernel answers any more.
        let asked = fs::read_to_string(directory.join("fencing")).unwrap_or_default();
        let asked: BTreeSet<&str> = asked.lines().filter_map(|line| line.split(' ').next()).collect();
        lit.retain(|host| {
            let now = asked.contains(name(*host).as_str()).then(|| Dark::at(fleet.addresses[*host]).ok());
            now.flatten().map(|one| dark.push(one)).is_none()
        });
        (fleet.seen.active() == wanted).then(|| begun.elapsed())
    });
    back.ok_or_else(|| format!("only {} of {wanted} resources run again", fleet.seen.active()))
}

/// Nothing happens but monitors and heartbeats.
fn steady(
    fleet: &Fleet,
    manager: &Manager,
    time: Duration,
    cycle: Duration,
    run: &mut Run,
) -> Result<(), String> {
    let seen = &fleet.seen;
    let starts = seen.starts.load(Relaxed);
    seen.watch_arrivals();
    let (looks, beats) = (seen.looks.load(Relaxed), seen.heartbeats.load(Relaxed));
    let (begun, cpu) = (Instant::now(), manager.watched().cpu());
    std::thread::sleep(time);
    let cpu = manager.watched().cpu().saturating_sub(cpu).as_secs_f64();
    let looks = (seen.looks.load(Relaxed) - looks) as f64;
    let beats = (seen.heartbeats.load(Relaxed) - beats) as f64;
    let time = begun.elapsed().as_secs_f64();
    let arrivals = seen.arrivals();
    (run.looks_per_second, run.beats_per_second) = (looks / time, beats / time);
    (run.cpu_percent, run.us_per_look) = (100.0 * cpu / time, 1e6 * cpu / looks);
    (run.memory, run.memory_peak) = manager.watched().memory();
    run.files = manager.watched().files() as f64;
    println!("    locked {:.0} MiB, {} threads", manager.watched().locked(), manager.watched().threads());
    let spread = Spread::new(&arrivals, cycle, 20);
    println!("{spread}");
    run.peak = spread.peak();
    match seen.starts.load(Relaxed) {
        same if same == starts => Ok(()),
        _ => Err("something was restarted although nothing happened".to_owned()),
    }
}

/// One `GET` of the status after the other.
fn status(manager: &Manager, agents: usize, run: &mut Run) -> Result<(), String> {
    let mut times = Vec::new();
    for _ in 0..21 {
        let begun = Instant::now();
        let body = manager.get("/api/v1/ha/status").map_err(|error| error.to_string())?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        run.status_kib = body.len() as f64 / 1024.0;
        let status: harness::Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let all = |what: &str| status["response"][what].as_array().map_or(0, Vec::len);
        if (all("hosts"), all("groups")) != (agents, agents) {
            return Err(format!("the status has {} hosts and {} groups", all("hosts"), all("groups")));
        }
    }
    times.sort_by(f64::total_cmp);
    run.status_ms = times[times.len() / 2];
    run.status_slowest_ms = times[times.len() - 1];
    Ok(())
}
