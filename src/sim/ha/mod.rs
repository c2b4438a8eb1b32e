//! High availability under faults: manager, agents, hosts, fence devices, operators.
//!
//! The engine, the agent's machine, fencing, frames and records are the shipped ones. What is true - which resource is active
//! on which host - is known to the hosts of this world alone, and judged without the engine.

mod agents;
mod clock;
mod devices;
mod disk;
mod faults;
mod judge;
mod machines;
mod managers;
mod network;
mod operator;
mod reloads;
mod report;
mod scenario;
mod scripts;
mod wellness;
mod world;

pub use report::Report;

/// Runs the world of one seed until all is well again after the last fault. `trace` prints what happens.
///
/// # Errors
/// What the judge found.
pub fn run(seed: u64, trace: bool) -> Result<Report, String> {
    world::World::new(seed, trace).run()
}
