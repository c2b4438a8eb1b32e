//! Clusters for tests of high availability: agents and a manager as real processes on loopback addresses, a resource agent
//! whose resources are files (`tests/ha_agents`), and a fence agent that "powers off" by killing.
//!
//! ```no_run
//! use harness::ha::{Cluster, Shape};
//!
//! let mut cluster = Cluster::start(Shape::pair());    // h0 and h1; groups g0 and g1, each with a child (g0c, g1c)
//! cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]); // both the status and the files say so
//! cluster.kill_agent("h1");
//! cluster.wait_placed(&[("g0", "h0"), ("g1", "h0")]);
//! assert_eq!(cluster.fenced(), ["h1 off"]);
//! ```
//!
//! - [`Shape`] says which hosts, groups and settings there are, [`Cluster::new`] only writes the configuration; agents and
//!   manager are started one by one, or all by [`Cluster::start`].
//! - [`Cluster::wait`] waits for a status; [`Cluster::active`] and [`Cluster::history`] tell what really happened, whatever
//!   the manager believes. [`Cluster::behave`] makes a resource agent or fence agent misbehave.
//! - What shall *not* happen is given time by [`Cluster::settle`].
//! - Each test fails at its end if a resource was ever started while it was active, or about to be, on another host
//!   ([`Cluster::expect_double`] is for the test of that itself). A test may ask for it earlier: [`Cluster::doubles`].
//! - All processes, cgroups and files go with the cluster; logs are kept if the test fails (`COORDINATOOL_KEEP_LOGS` keeps
//!   them always).

mod agents;
mod cluster;
mod dark;
pub mod http;
mod isolated;
mod manager;
mod shape;
mod status;
mod truth;

pub use cluster::Cluster;
pub use http::Answer;
pub use shape::{Fencing, GroupShape, Shape};
pub use status::{Alert, Command, Event, Failure, Group, Host, Resource, Seen, Status};
pub use truth::Record;
