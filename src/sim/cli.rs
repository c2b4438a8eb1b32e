//! `coordinatool-sim`.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
}

/// Runs the program.
pub fn main() -> ExitCode {
    let What::Hsm { seeds, seed, trace, once } = Args::parse().what;
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
