//! `coordinatool-sim`.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::ha;
use super::hsm::{self, Options, Report};
use super::seeds::Seeds;

/// From how many seeds on every fault must have hit something.
const ENOUGH: u64 = 200;

/// Runs whole systems on virtual time, and judges them.
#[derive(Debug, Parser)]
#[command(name = "coordinatool-sim", version)]
struct Args {
    #[command(subcommand)]
    what: What,
}

/// Which seeds, and how.
#[derive(Debug, clap::Args)]
struct Which {
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
}

impl Which {
    fn seeds(&self) -> Seeds {
        Seeds {
            first: self.seed,
            count: self.seeds,
            jobs: if self.trace { 1 } else { self.jobs },
            all: self.all,
        }
    }
}

#[derive(Debug, Subcommand)]
enum What {
    /// The HSM coordinator: daemon, movers, MDTs, store.
    Hsm {
        #[command(flatten)]
        which: Which,
        /// Check only of every Nth seed that it repeats.
        #[arg(long, default_value_t = 1)]
        twice: u64,
    },
    /// High availability: manager, agents, hosts, fence devices, operators.
    Ha {
        #[command(flatten)]
        which: Which,
    },
}

fn default_jobs() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}

/// Runs the program.
pub fn main() -> ExitCode {
    match Args::parse().what {
        What::Hsm { which, twice } => {
            let Which { trace, once, .. } = which;
            if trace {
                show_logs();
            }
            let run = which.seeds();
            let again = |seed: u64| !once && seed.is_multiple_of(twice.max(1));
            let results = run.run(|seed| check_seed(seed, trace, !again(seed)));
            conclude("hsm", &run, &results, |results| {
                let mut total = Report::default();
                results.for_each(|report| total.add(report));
                (total.to_string(), total.faults_without_effect())
            })
        }
        What::Ha { which } => {
            let Which { trace, once, .. } = which;
            let run = which.seeds();
            let results = run.run(|seed| check_ha_seed(seed, trace, once));
            conclude("ha", &run, &results, |results| {
                let mut total = ha::Report::default();
                results.for_each(|report| total.add(report));
                (total.to_string(), total.faults_without_effect())
            })
        }
    }
}

/// Prints what the machines log among what happens.
fn show_logs() {
    let filter = tracing_subscriber::EnvFilter::new("coordinatool=debug");
    let logs = tracing_subscriber::fmt().without_time().with_ansi(false).with_target(false);
    // Somebody else may have set one up before: then it is there that they are seen.
    let _ = logs.with_env_filter(filter).with_writer(std::io::stdout).try_init();
}

/// What came of one seed.
type Outcome<R> = (u64, Result<R, String>);

/// Prints what came of all seeds: `sum` says in sum what the runs did, and which faults hit nothing.
fn conclude<R>(
    name: &str,
    run: &Seeds,
    results: &[Outcome<R>],
    sum: impl FnOnce(&mut dyn Iterator<Item = &R>) -> (String, Vec<&'static str>),
) -> ExitCode {
    let mut failed = false;
    for (seed, result) in results {
        if let Err(reason) = result {
            failed = true;
            eprintln!("seed {seed}: {reason}");
            eprintln!("to see it: coordinatool-sim {name} --seeds 1 --seed {seed} --trace");
        }
    }
    let (text, idle) = sum(&mut results.iter().filter_map(|(_, result)| result.as_ref().ok()));
    let _ = write!(std::io::stdout().lock(), "{} seeds\n{text}", results.len());
    if run.count >= ENOUGH && !failed && !idle.is_empty() {
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
