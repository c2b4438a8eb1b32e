//! The HSM coordinator in its world: daemon, movers, MDTs, store, network, users, and what goes wrong.

mod copytool;
mod daemon;
mod durable;
mod exclusive;
mod faults;
mod habits;
mod judge;
mod mdts;
mod mover;
mod operator;
mod orders;
mod orphans;
mod outages;
mod redis;
mod report;
mod saving;
mod scenario;
mod service;
mod site;
mod users;
mod watch;
mod world;

pub use report::Report;

/// How to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Print everything that happens.
    pub trace: bool,
}

/// Runs the world of one seed until everything has come to its end.
///
/// # Errors
/// What the oracle found.
pub fn run(seed: u64, options: Options) -> Result<Report, String> {
    world::World::new(seed, options.trace).run()
}
