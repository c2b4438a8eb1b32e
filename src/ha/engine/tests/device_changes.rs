//! The configuration of fence devices changes while they are used.

use std::sync::Arc;
use std::time::Duration;

use super::play::{Play, pair};
use crate::ha::command::Command;
use crate::ha::config::{FenceDevice, FenceLevel, Host};
use crate::ha::fencing::DeviceAnswer;

#[test]
fn what_an_old_device_says_proves_nothing_of_the_new_one() {
    let mut play = Play::new(pair());
    play.runs_on("h0", "h1");
    play.device_says.insert("h1".into(), DeviceAnswer::On);
    play.host("h1").silent = true;
    play.until("h1 is being fenced", |play| play.calls.contains(&"off h1".to_owned()));
    let mut config = pair();
    let old = config.hosts["h1"].clone();
    let device = FenceDevice { name: "new".to_owned(), ..(*old.fencing[0].devices[0]).clone() };
    let fencing = vec![FenceLevel { devices: vec![Arc::new(device)] }];
    config.hosts.insert("h1".into(), Arc::new(Host { fencing, ..(*old).clone() }));
    play.ask(Command::Reload { config: Box::new(config) }).unwrap();
    play.calls.clear();
    // The next answer is the old device's, whatever it says.
    play.device_says.clear();
    play.run(Duration::from_secs(20));
    let state = play.engine.state();
    let results = state.fences["h1"].iter().filter_map(|attempt| attempt.result.as_ref());
    let changed: Vec<_> = results.filter(|(_, text)| text.contains("were changed meanwhile")).collect();
    assert_eq!(changed.len(), 1, "{:?}", state.fences);
    play.runs_on("h0", "h0");
    assert_eq!(play.calls.first().map(String::as_str), Some("status h1"), "it begins anew: {:?}", play.calls);
}
