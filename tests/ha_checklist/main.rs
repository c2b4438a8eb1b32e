//! Each behaviour that HALO's tests assert (a0fa0b9), under the same name and with the same meaning, with real agents and a
//! real manager: two hosts, h0 and h1; two groups, g0 and g1, at home on h0 and h1. Where HALO does what is not safe, the
//! test says what is done instead.
//!
//! Three of HALO's are tests of functions, as are their counterparts here: `parse_zpools` and `parse_lustre` are
//! `pools_are_found` and `mounted_targets_are_found` of the client, `test_get_worst` is `one_status_of_many`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod deactivate;
mod failover;
mod fence;
mod observe;
mod observe_missing_agent;
mod startup;
mod state;
mod unmanage;
mod usability;

use harness::ha::{Cluster, Shape};

/// The environment itself notices a resource that is started while it is active on another host.
#[test]
fn double_started_resource() {
    let outcome = std::thread::Builder::new().name("double".to_owned()).spawn(|| {
        let cluster = Cluster::start(Shape::pair());
        cluster.wait_placed(&[("g0", "h0"), ("g1", "h1")]);
        // Nobody knows that it is active on h1: its agent says otherwise.
        cluster.behave("g0.probe.h1", &["code 7"]);
        cluster.behave("g0.monitor.h1", &["code 7"]);
        cluster.start_by_hand("g0", "h1");
        cluster.stop_by_hand_on("g0", "h0");
        cluster.wait_until("it was started on h0 again", |cluster| !cluster.doubles().is_empty());
    });
    let failure = outcome.unwrap().join().unwrap_err();
    let text = failure.downcast_ref::<String>().unwrap();
    assert!(text.contains("started twice"), "{text}");
}
