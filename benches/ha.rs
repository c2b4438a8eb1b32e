//! Benchmarks of high availability: `cargo bench --bench ha`. `-- --quick` only checks, in a few seconds, that what is measured
//! works; nothing here fails because something is slow. `docs/ha-performance.md` says what the figures mean.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "ha/dark.rs"]
mod dark;
#[path = "ha/failover.rs"]
mod failover;
#[path = "ha/figures.rs"]
mod figures;
#[path = "ha/fleet.rs"]
mod fleet;
#[path = "ha/machine.rs"]
mod machine;
#[path = "ha/manager.rs"]
mod manager;
#[path = "ha/scale.rs"]
mod scale;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use scale::Scale;

#[derive(Debug, Parser)]
#[command(about = "Measures failover and scale")]
struct Options {
    /// Only check that everything works
    #[arg(long)]
    quick: bool,
    /// How often each thing is measured
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Agents of the scale benchmark
    #[arg(long, default_value_t = 1000)]
    agents: usize,
    /// Seconds measured in each run of the scale benchmark
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// More settings of the cluster of the scale benchmark: KEY=VALUE (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
    /// What to measure: failover, grace, silent, starts, plain, tls, beats (default: all)
    names: Vec<String>,
    /// From cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is expected")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    let options = Options::parse();
    listeners_for(options.agents);
    println!("{}\n", machine::describe());
    let wanted = |name: &str| options.names.is_empty() || options.names.iter().any(|one| one == name);
    let begun = Instant::now();
    let (mut figures, mut wrong) = (Vec::new(), Vec::new());
    let mut part = |name: &str, measure: &dyn Fn() -> (Vec<figures::Figure>, Vec<String>)| {
        if !wanted(name) {
            return;
        }
        println!("{name}:");
        let (more, bad) = measure();
        for figure in &more {
            println!("  {figure}");
        }
        println!();
        figures.extend(more);
        wrong.extend(bad);
    };
    let runs = if options.quick { 1 } else { options.runs };
    if options.quick {
        // They mostly wait, and may do so at the same time.
        part("failover", &|| {
            std::thread::scope(|scope| {
                let silent = scope.spawn(|| failover::silent(1));
                let starts = scope.spawn(|| failover::parallel_starts(1, true));
                let (mut figures, mut wrong) = failover::declared_dead(1, true);
                for part in [silent, starts] {
                    let (more, bad) = part.join().expect("it says what is wrong");
                    figures.extend(more);
                    wrong.extend(bad);
                }
                (figures, wrong)
            })
        });
    } else {
        part("failover", &|| failover::declared_dead(runs, false));
        part("grace", &|| failover::with_grace(runs));
        part("silent", &|| failover::silent(runs));
        part("starts", &|| failover::parallel_starts(runs, false));
    }
    let scale = Scale {
        agents: if options.quick { 100 } else { options.agents },
        tls: false,
        runs,
        time: Duration::from_secs(if options.quick { 2 } else { options.seconds }),
        cycle: Duration::from_secs(if options.quick { 1 } else { 5 }),
        heartbeat: Duration::from_secs(1),
        settings: &options.set,
    };
    part("plain", &|| scale::measure(scale));
    part("tls", &|| scale::measure(Scale { tls: true, ..scale }));
    if !options.quick {
        // What a heartbeat costs: the same with a third of them.
        part("beats", &|| scale::measure(Scale { heartbeat: Duration::from_secs(3), runs: 1, ..scale }));
    }
    println!("all figures (median, least to most):");
    figures.iter().for_each(|figure| println!("  {figure}"));
    println!("took {:.0} s, load {}", begun.elapsed().as_secs_f64(), machine::load());
    wrong.iter().for_each(|wrong| eprintln!("WRONG: {wrong}"));
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Each agent of a fleet needs two descriptors in this process.
fn listeners_for(agents: usize) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let enough = limit.maximum.is_none_or(|most| most > agents as u64 * 2 + 100);
    assert!(enough, "too few open files are allowed for {agents} agents: {limit:?}");
}
