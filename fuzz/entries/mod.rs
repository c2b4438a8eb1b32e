//! What is fuzzed: each entry takes any bytes and panics when something that must hold does not.
//!
//! The same entries run under cargo-fuzz (`fuzz_targets/`) and, bounded and deterministic, in `tests/fuzz.rs`. A new one is
//! a line in [`TARGETS`], a file of three lines in `fuzz_targets/` and a directory of examples in `corpus/`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

pub mod api;
pub mod coordinator;
pub mod frames;
pub mod ha;
pub mod lustre;
pub mod mover;
pub mod operators;
pub mod settings;
pub mod store;
pub mod wire;

/// An entry and its name, which is also the name of its directory of examples.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("wire_decoder", wire::decoder),
    ("wire_message", wire::message),
    ("wire_reply", wire::reply),
    ("wire_item", wire::item),
    ("kuc_frames", lustre::frames),
    ("action_list", lustre::action_list),
    ("store_record", store::record),
    ("store_segment", store::segment),
    ("redis_value", store::redis_value),
    ("redis_spill", store::redis_spill),
    ("frames_to_agent", frames::to_agent),
    ("frames_from_agent", frames::from_agent),
    ("ha_config", ha::config),
    ("store_frames", store::store_frames),
    ("spill_frames", store::spill_frames),
    ("halo_state", ha::halo),
    ("client_config", settings::client),
    ("ocf_metadata", ha::metadata),
    ("ha_records", ha::records),
    ("server_config", settings::config),
    ("psk_file", settings::key),
    ("peer_certificate", settings::certificate),
    ("mdt_list", lustre::list),
    ("mdt_listing", lustre::listing),
    ("mdt_tunables", lustre::tunables),
    ("redis_stamp", store::redis_stamp),
    ("redis_answers", store::redis_answers),
    ("locator_answer", operators::locator),
    ("api_selection", operators::selection),
    ("client_words", operators::words),
    ("queue_lines", operators::queue_lines),
    ("api_requests", api::requests),
    ("tls_files", settings::tls),
    ("coordinator", coordinator::anything),
    ("shim_replies", mover::replies),
];
