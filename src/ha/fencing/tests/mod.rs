mod paths;
mod properties;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::ha::config::{FenceDevice, FenceLevel};

const SECOND: Duration = Duration::from_secs(1);

fn device(name: &str) -> FenceDevice {
    FenceDevice {
        name: name.to_owned(),
        agent: "fence_test".to_owned(),
        parameters: BTreeMap::new(),
        timeout: 10 * SECOND,
        delay: Duration::ZERO,
        attempts: 1,
    }
}

fn level(devices: impl IntoIterator<Item = FenceDevice>) -> FenceLevel {
    FenceLevel { devices: devices.into_iter().map(Arc::new).collect() }
}

/// Levels of devices a, b, c, ... with these attempts.
fn levels(attempts: &[&[u32]]) -> Vec<FenceLevel> {
    let mut names = 'a'..='z';
    let mut named = |attempts: u32| {
        let name = names.next().unwrap().to_string();
        FenceDevice { attempts, ..device(&name) }
    };
    attempts.iter().map(|level_of| level(level_of.iter().map(|&attempts| named(attempts)))).collect()
}

fn failed(text: &str) -> DeviceAnswer {
    DeviceAnswer::Failed(text.to_owned())
}
