//! `coordinatool-sim`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand};

use super::ha;
use super::hsm::{self, Options, Report};

/// Runs whole systems on virtual time, and judges them.
#[derive(Debug, Parser)]
#[command(name = "coordinatool-sim", version)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The HSM coordinator: daemon, movers, MDTs, store.
    Hsm {
        /// How many seeds to run, from --seed on.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Print what happens (with one seed).
        #[arg(long)]
        trace: bool,
        /// Run each seed once only, without checking that it repeats.
        #[arg(long)]
        once: bool,
    },
    /// High availability: manager, agents, hosts, fence devices, operators.
    Ha {
        /// How many seeds to run, from --seed on.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Print what happens (with one seed).
        #[arg(long)]
        trace: bool,
        /// Run each seed once only, without checking that it repeats.
        #[arg(long)]
        once: bool,
        /// Go on after a failure, and list all seeds that fail.
        #[arg(long)]
        all: bool,
        /// How many seeds to run at the same time.
        #[arg(long, default_value_t = default_jobs())]
        jobs: u64,
    },
}

fn default_jobs() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}

/// Runs the program.
pub fn main() -> ExitCode {
    match Args::parse().what {
        What::Hsm { seeds, seed, trace, once } => hsm_seeds(seeds, seed, trace, once),
        What::Ha { seeds, seed, trace, once, all, jobs } => {
            ha_seeds(&HaRun { seeds, seed, trace, once, all, jobs: if trace { 1 } else { jobs.max(1) } })
        }
    }
}

/// Which seeds to run, and how.
struct HaRun {
    seeds: u64,
    seed: u64,
    trace: bool,
    once: bool,
    all: bool,
    jobs: u64,
}

fn ha_seeds(run: &HaRun) -> ExitCode {
    let stop = AtomicBool::new(false);
    let part = |job: u64| {
        let (mut results, mut seed) = (Vec::new(), run.seed + job);
        while seed < run.seed.saturating_add(run.seeds) && !stop.load(Ordering::Relaxed) {
            let result = check_ha_seed(seed, run.trace, run.once);
            if result.is_err() && !run.all {
                stop.store(true, Ordering::Relaxed);
            }
            results.push((seed, result));
            seed += run.jobs;
        }
        results
    };
    let mut results: Vec<_> = std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..run.jobs).map(|job| scope.spawn(move || part(job))).collect();
        jobs.into_iter().flat_map(|job| job.join().unwrap_or_default()).collect()
    });
    results.sort_by_key(|(seed, _)| *seed);
    let mut total = ha::Report::default();
    let mut failed = false;
    for (seed, result) in &results {
        match result {
            Ok(report) => total.add(report),
            Err(reason) => {
                failed = true;
                eprintln!("seed {seed}: {reason}");
                eprintln!("to see it: coordinatool-sim ha --seeds 1 --seed {seed} --trace");
            }
        }
    }
    let mut out = std::io::stdout().lock();
    let _ = write!(out, "{} seeds\n{total}", results.len());
    let idle = total.faults_without_effect();
    if run.seeds >= 200 && !failed && !idle.is_empty() {
        eprintln!("these faults never hit anything, so the simulator is broken: {}", idle.join(", "));
        failed = true;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs one seed of the HA simulator, twice unless told otherwise.
///
/// # Errors
/// What the judge found, or that the second run differed from the first.
pub fn check_ha_seed(seed: u64, trace: bool, once: bool) -> Result<ha::Report, String> {
    let run = |trace| {
        std::panic::catch_unwind(|| ha::run(seed, trace))
            .unwrap_or_else(|_| Err("a machine's assertion failed: see above".to_owned()))
    };
    let report = run(trace)?;
    if !once {
        let again = run(false)?;
        if again.fingerprint != report.fingerprint {
            return Err(format!(
                "not deterministic: {:#x} the first time, {:#x} the second",
                report.fingerprint, again.fingerprint
            ));
        }
    }
    Ok(report)
}

fn hsm_seeds(seeds: u64, seed: u64, trace: bool, once: bool) -> ExitCode {
    let mut total = Report::default();
    for seed in seed..seed.saturating_add(seeds) {
        let report = match check_seed(seed, trace, once) {
            Ok(report) => report,
            Err(reason) => {
                eprintln!("seed {seed}: {reason}");
                eprintln!("to see it: coordinatool-sim hsm --seeds 1 --seed {seed} --trace");
                return ExitCode::FAILURE;
            }
        };
        total.add(&report);
    }
    let mut out = std::io::stdout().lock();
    let _ = write!(out, "{seeds} seeds\n{total}");
    let idle = total.faults_without_effect();
    if seeds >= 200 && !idle.is_empty() {
        eprintln!("these faults never hit anything, so the simulator is broken: {}", idle.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs one seed, twice unless told otherwise.
///
/// # Errors
/// What the oracle found, or that the second run differed from the first.
pub fn check_seed(seed: u64, trace: bool, once: bool) -> Result<Report, String> {
    let report = run(seed, Options { trace })?;
    if !once {
        let again = run(seed, Options { trace: false })?;
        if again.fingerprint != report.fingerprint {
            return Err(format!(
                "not deterministic: {:#x} the first time, {:#x} the second",
                report.fingerprint, again.fingerprint
            ));
        }
    }
    Ok(report)
}

/// A machine's own assertion counts as a finding as well.
fn run(seed: u64, options: Options) -> Result<Report, String> {
    std::panic::catch_unwind(|| hsm::run(seed, options))
        .unwrap_or_else(|_| Err("a machine's assertion failed: see above".to_owned()))
}
