//! What goes wrong in a cluster, with real agents and a real manager. HALO (a0fa0b9) was put through each of these faults; it
//! aborted, waited for ever, forgot groups, powered healthy servers off or started resources twice. Here each test says what
//! should come of it instead: no double start (each cluster checks that at its end), no abort, no group forgotten, no healthy
//! server powered off, no outage caused by a command.
//!
//! - [`silence`]: agents and hosts that die, hang, or are absent
//! - [`partitions`]: hosts that live, but cannot be reached (needs root)
//! - [`operations`]: resource agents that fail or hang
//! - [`fencing`]: fence agents that fail, hang or lie
//! - [`managers`]: managers that die, or are two
//! - [`operators`]: commands at a bad moment, and what is done by hand
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fencing;
mod managers;
mod operations;
mod operators;
mod partitions;
mod silence;

use harness::ha::{Cluster, GroupShape, Shape};

/// Nobody was fenced.
const NOBODY: [&str; 0] = [];

/// A pair whose groups run at home.
fn at_home() -> Cluster {
    running(Shape::pair())
}

/// The same of another shape.
fn running(shape: Shape) -> Cluster {
    let cluster = Cluster::start(shape);
    cluster.wait_connected();
    let placed: Vec<(String, String)> =
        cluster.shape().groups.iter().map(|group| (group.root.clone(), group.home.clone())).collect();
    let placed: Vec<(&str, &str)> =
        placed.iter().map(|(group, home)| (group.as_str(), home.as_str())).collect();
    cluster.wait_placed(&placed);
    cluster
}

/// A group without children.
fn alone(root: &str, home: &str, failover: &[&str]) -> GroupShape {
    let mut group = GroupShape::new(root, home, failover);
    group.children.clear();
    group
}

/// How often anything was started or stopped.
fn acts(cluster: &Cluster) -> usize {
    cluster.history().iter().filter(|record| matches!(record.what.as_str(), "start" | "stop")).count()
}

/// What a group waits for, in words.
fn waits(cluster: &Cluster, group: &str) -> String {
    cluster.status().group(group).waits_for.join("; ")
}
