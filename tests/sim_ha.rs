//! The HA simulator over a range of seeds: each is run twice, judged by what is true on its hosts, and must repeat exactly.
//!
//! `COORDINATOOL_SIM_SEEDS` runs more; `coordinatool-sim ha` is the same without the test around it.

use coordinatool::sim::cli::check_ha_seed;
use coordinatool::sim::ha::Report;

#[test]
fn nothing_is_started_twice_and_everything_runs_in_the_end() {
    let seeds = std::env::var("COORDINATOOL_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let mut total = Report::default();
    for seed in 1..=seeds {
        match check_ha_seed(seed, false, false) {
            Ok(report) => total.add(&report),
            Err(reason) => {
                panic!("seed {seed}: {reason}\ncoordinatool-sim ha --seeds 1 --seed {seed} --trace")
            }
        }
    }
    println!("{total}");
    assert!(total.starts > 0 && total.automatic_fences > 0, "the simulator did nothing:\n{total}");
}
