//! Configurations, each with something that the others do not have.

use std::collections::BTreeMap;
use std::time::Duration;

use coordinatool::hsm::HsmConfig;
use coordinatool::hsm::config::{
    BatchConfig, HostChoice, HostMapping, HostRule, Locating, Priorities, ShareBy, TapeRules,
};

pub const CONFIGS: u8 = 11;

pub fn locating(wait: u64, host: HostRule, retry: bool) -> Locating {
    let tapes = TapeRules {
        wait: Duration::from_secs(wait),
        wait_most: 3,
        max: Duration::from_secs(10),
        per_mover: if wait == 3 { 2 } else { 1 },
    };
    Locating { tapes, wait: Duration::from_secs(5), removes: host == HostRule::Soft, host, retry }
}

pub fn config(number: u8) -> HsmConfig {
    let names = |names: &[&str]| names.iter().map(|&name| name.into()).collect::<Vec<String>>();
    let any = |tag: &str, hosts: &[&str]| HostMapping {
        tag: tag.into(),
        hosts: names(hosts),
        choice: HostChoice::Any,
    };
    let hash = |modulus| HostMapping {
        choice: HostChoice::Hash { modulus },
        ..any("grouping=", &["m0", "m1", "m3"])
    };
    let maps = || vec![any("tag=n0", &["m0"]), any("tag=n1", &["m1", "m2"]), hash(Some(10))];
    let batch = |slots, max: Option<u64>| {
        Some(BatchConfig { idle: Duration::from_secs(5), max: max.map(Duration::from_secs), slots })
    };
    HsmConfig {
        fsname: "testfs".into(),
        client_grace: Duration::from_millis(1500),
        lease: Duration::from_secs(1),
        host_mappings: match number {
            1 | 3 | 4 => maps(),
            5 => vec![hash(None)],
            _ => Vec::new(),
        },
        batch: match number {
            2 => batch(1, Some(10)),
            3 => batch(2, Some(10)),
            4 => batch(1, None),
            _ => None,
        },
        reporting_hint: (number != 2).then(|| "cr=".into()),
        reporting_interval: Duration::from_secs(3),
        settle: Duration::from_secs(4),
        ask_lustre: number % 4 == 1,
        request_timeout: Duration::from_secs(if number % 3 == 1 { 80 } else { 3600 }),
        priorities: (number >= 6).then(|| Priorities {
            bulk_restores: if number == 7 { 3 } else { 0 },
            bulk_hint: (number == 8).then(|| "tag=a".into()),
            weights: if number == 7 { [0, 0, 10, 0, 20] } else { [0; 5] },
            ..Priorities::default()
        }),
        fair_share: match number {
            4 => Some(ShareBy::Project),
            6 => Some(ShareBy::Hint("tag=".into())),
            7 | 8 => Some(ShareBy::User),
            _ => None,
        },
        share_weights: if number == 7 { BTreeMap::from([("1".into(), 5)]) } else { BTreeMap::new() },
        archives_first_when_full: (number == 8).then_some(90),
        locating: match number {
            5 => Some(locating(0, HostRule::Strict, false)),
            7 => Some(locating(2, HostRule::Soft, false)),
            9 => Some(locating(3, HostRule::Ignore, false)),
            10 => Some(locating(0, HostRule::Soft, true)),
            _ => None,
        },
        ..HsmConfig::default()
    }
}
