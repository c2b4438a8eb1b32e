//! Each behaviour that HALO's tests assert (a0fa0b9), under the same name and with the same meaning, with real agents and a
//! real manager. Where HALO does what is not safe, the test sets the option that selects its behaviour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod failover;
