//! The HSM simulator over a range of seeds: each is run twice, judged by the oracle, and must repeat exactly.
//!
//! `COORDINATOOL_SIM_SEEDS` runs more; `coordinatool-sim hsm` is the same without the test around it.

use coordinatool::sim::cli::check_seed;
use coordinatool::sim::hsm::Report;

#[test]
fn everything_ends_and_nothing_runs_twice() {
    let seeds = std::env::var("COORDINATOOL_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(24);
    let mut total = Report::default();
    for seed in 1..=seeds {
        match check_seed(seed, false, false) {
            Ok(report) => total.add(&report),
            Err(reason) => {
                panic!("seed {seed}: {reason}\ncoordinatool-sim hsm --seeds 1 --seed {seed} --trace")
            }
        }
    }
    println!("{total}");
    assert!(total.requests > 0 && total.succeeded > 0, "the simulator did nothing:\n{total}");
}
