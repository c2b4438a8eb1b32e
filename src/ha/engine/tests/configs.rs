//! Configurations to play with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::ha::config::{Config, FenceDevice, FenceLevel, Group, Host, Resource};
use crate::ha::ids::{GroupId, HostId, ResourceId};

/// Two hosts h0 and h1, and a group of a pool and a target for each: pool0 + ost0 at home on h0, pool1 + ost1 on h1.
pub(super) fn pair() -> Config {
    let mut config = Config::default();
    for number in 0..2 {
        add_host(&mut config, number);
    }
    for number in 0..2 {
        add_group(&mut config, number, &format!("h{number}"), &[&format!("h{}", 1 - number)]);
    }
    config
}

pub(super) fn add_host(config: &mut Config, number: usize) {
    let id = HostId::from(format!("h{number}"));
    let device = FenceDevice {
        name: format!("test({id})"),
        agent: "fence_test".to_owned(),
        parameters: BTreeMap::new(),
        timeout: Duration::from_secs(5),
        delay: Duration::ZERO,
        attempts: 1,
    };
    let host = Host {
        id: id.clone(),
        address: "10.0.0.1".to_owned(),
        port: 8000 + number as u16,
        fencing: vec![FenceLevel { devices: vec![Arc::new(device)] }],
        self_protection: None,
        position: number,
    };
    config.hosts.insert(id, Arc::new(host));
}

pub(super) fn add_group(config: &mut Config, number: usize, home: &str, failover: &[&str]) {
    let root = ResourceId::from(format!("pool{number}"));
    let child = ResourceId::from(format!("ost{number}"));
    let group = GroupId::from(root.as_str());
    for (id, parent, children) in
        [(&root, None, vec![child.clone()]), (&child, Some(root.clone()), Vec::new())]
    {
        let spec = crate::ha::protocol::ResourceSpec {
            id: id.clone(),
            kind: "test/Service".to_owned(),
            parameters: BTreeMap::from([("name".to_owned(), id.to_string())]),
        };
        let resource = Resource {
            identity: Resource::identity_of(&spec.kind, &spec.parameters),
            spec,
            group: group.clone(),
            parent,
            children,
            start_timeout: None,
            stop_timeout: None,
            monitor_timeout: None,
            monitor_interval: None,
            monitor_depth: 0,
            failures: Default::default(),
        };
        config.resources.insert(id.clone(), Arc::new(resource));
    }
    let group = Group {
        id: group,
        root: root.clone(),
        members: vec![root, child],
        home: home.into(),
        failover: failover.iter().map(|host| HostId::from(*host)).collect(),
        auto_failback: false,
        position: number,
    };
    config.groups.insert(group.id.clone(), Arc::new(group));
}
