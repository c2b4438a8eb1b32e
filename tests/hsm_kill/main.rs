//! Daemon, movers and redis are killed at random moments of a busy run; judged by the MDTs' ledgers and by what movers noted.
//!
//! `COORDINATOOL_KILLS` is the number of kills for each store (30), `COORDINATOOL_KILL_SEED` where random choices come
//! from, `COORDINATOOL_KILL_LOG` a file to which each kill is added.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod faults;
mod hand;
mod judge;
mod marks;
mod operator;
mod run;
mod tally;
mod users;

use std::fs::File;
use std::io::Write as _;

use run::Store;
use tally::Tally;

/// Most kills of one system; then a new one is built.
const ROUND: usize = 30;

fn kill_at_random(store: Store) -> Tally {
    let seed = harness::seed("COORDINATOOL_KILL_SEED");
    let kills: usize =
        std::env::var("COORDINATOOL_KILLS").map_or(ROUND, |text| text.parse().expect("a number"));
    let mut tally = Tally::default();
    for round in 0..kills.div_ceil(ROUND) {
        let seed = seed + round as u64;
        println!("{store:?}: COORDINATOOL_KILL_SEED={seed}");
        log(&format!("{store:?}: seed {seed}"));
        tally.add(&run::round(store, seed, ROUND.min(kills - round * ROUND)));
    }
    println!("{store:?}\n{tally}");
    log(&format!("{store:?}, {kills} kills and more:\n{tally}"));
    let daemon = tally.hits("daemon");
    assert!(
        daemon.queued > 0 && daemon.running > 0 && daemon.unsent > 0,
        "no kill hit what it should: {tally}"
    );
    assert!(tally.hits("mover").running > 0, "no kill of a mover hit its work: {tally}");
    tally
}

/// Adds a line to the file that the environment names, if it does.
fn log(text: &str) {
    let Some(path) = std::env::var_os("COORDINATOOL_KILL_LOG") else { return };
    let mut file = File::options().append(true).create(true).open(path).expect("the log can be opened");
    file.write_all(format!("{text}\n").as_bytes()).expect("the log can be written");
}

#[test]
fn whoever_is_killed_nothing_is_lost_of_the_embedded_store() {
    kill_at_random(Store::Embedded);
}

#[test]
fn whoever_is_killed_nothing_is_lost_with_redis() {
    let tally = kill_at_random(Store::Redis);
    let redis = tally.hits("redis");
    assert!(redis.queued > 0 && redis.running > 0 && redis.unsent > 0, "no kill hit what it should: {tally}");
}

/// A daemon without a store forgets what is queued and what was acknowledged. The MDTs do not: once movers have claimed what
/// they run, the rest is read from there, and each request still ends once.
#[test]
fn without_a_store_what_a_kill_forgets_is_read_from_the_mdts() {
    let tally = kill_at_random(Store::None);
    assert!(tally.forgotten > 0, "an acknowledgement is worth nothing without a store: {tally}");
}
