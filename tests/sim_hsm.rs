//! The HSM simulator over a range of seeds: each is run twice, judged by the oracle, and must repeat exactly.
//!
//! `COORDINATOOL_SIM_SEEDS` runs more; `coordinatool-sim hsm` is the same without the test around it.

use coordinatool::sim::cli::check_seed;
use coordinatool::sim::hsm::Report;

/// Seeds that found something in the simulator of their time. A change of the simulator may make other runs of them; the unit
/// tests named here stay.
const FOUND: [(u64, &str); 6] = [
    (79, "tapes: the_host_of_a_held_request_is_not_forgotten"),
    (187, "movers: a_claim_waits_for_another_request_of_its_file"),
    (265, "forgotten: a_recovered_restore_that_failed_is_asked_about"),
    (543, "a cookie that an MDT used again"),
    (1934, "forgotten: what_failed_after_a_claim_is_asked_about"),
    (809, "vetting: the_cancel_of_a_queued_archive_is_harmless"),
];

fn check(seed: u64) -> Report {
    let again = "to see it: coordinatool-sim hsm --seeds 1 --trace --seed";
    let report = check_seed(seed, false, false);
    assert!(report.is_ok(), "{report:?}; {again} {seed}");
    report.unwrap_or_default()
}

#[test]
fn everything_ends_and_nothing_runs_twice() {
    let seeds = std::env::var("COORDINATOOL_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(24);
    let mut total = Report::default();
    for seed in 1..=seeds {
        total.add(&check(seed));
    }
    println!("{total}");
    assert!(total.requests > 0 && total.succeeded > 0, "the simulator did nothing:\n{total}");
}

#[test]
fn what_was_found_stays_found() {
    let mut total = Report::default();
    for (seed, what) in FOUND {
        println!("{seed}: {what}");
        total.add(&check(seed));
    }
}
