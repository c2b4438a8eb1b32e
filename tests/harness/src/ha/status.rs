//! The manager's status, as its API gives it. These types are the tests' own, so that a change of the API is seen.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct Status {
    pub managed: bool,
    pub epoch: u64,
    pub superseded: bool,
    pub hosts: Vec<Host>,
    pub groups: Vec<Group>,
    pub alerts: Vec<Alert>,
    pub commands: Vec<Command>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct Host {
    pub id: String,
    /// `unseen`, `connected`, `suspect`, `agent_down`, `lost`, `fencing`, `off` or `refused`.
    pub state: String,
    pub detail: String,
    pub active: bool,
    pub fenced: bool,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct Group {
    pub id: String,
    pub managed: bool,
    /// `unknown`, `stopped`, `planned`, `starting`, `running`, `partial`, `stopping`, `failed` or `frozen`.
    pub phase: String,
    pub waits_for: Vec<String>,
    pub home: String,
    pub location: Option<String>,
    pub stopped_by_operator: bool,
    pub resources: Vec<Resource>,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct Resource {
    pub id: String,
    pub on: BTreeMap<String, Seen>,
    pub failures: Vec<Failure>,
}

/// What is known of a resource on a host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct Seen {
    /// `running`, `degraded`, `starting`, `stopping`, `stopped`, `error` or `unknown`.
    pub state: String,
    pub comment: Option<String>,
}

/// A failure of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct Failure {
    pub host: String,
    pub action: String,
    pub what: String,
}

/// Something that needs an operator.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct Alert {
    pub severity: String,
    pub object: String,
    pub text: String,
    pub command: Option<String>,
}

/// A command of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct Command {
    pub id: u64,
    pub what: String,
    /// `state`, and `doing`, `result` or `reason`.
    pub progress: BTreeMap<String, String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct Event {
    pub event: String,
    pub object: String,
    pub host: Option<String>,
    pub by: String,
    pub comment: Option<String>,
}

impl Status {
    /// A host that is configured.
    pub fn host(&self, id: &str) -> &Host {
        self.hosts.iter().find(|host| host.id == id).unwrap_or_else(|| panic!("there is no host {id}"))
    }

    /// A group that is configured.
    pub fn group(&self, id: &str) -> &Group {
        self.groups.iter().find(|group| group.id == id).unwrap_or_else(|| panic!("there is no group {id}"))
    }

    /// A resource that is configured.
    pub fn resource(&self, id: &str) -> &Resource {
        let mut all = self.groups.iter().flat_map(|group| &group.resources);
        all.find(|resource| resource.id == id).unwrap_or_else(|| panic!("there is no resource {id}"))
    }

    /// Whether all of a group runs on a host, and nowhere else.
    pub fn runs_on(&self, group: &str, host: &str) -> bool {
        let group = self.group(group);
        group.phase == "running" && group.location.as_deref() == Some(host)
    }

    /// Whether a host is connected.
    pub fn is_connected(&self, host: &str) -> bool {
        self.host(host).state == "connected"
    }

    /// What is known of a resource on a host; `none` where it is no candidate.
    pub fn seen(&self, resource: &str, host: &str) -> &str {
        self.resource(resource).on.get(host).map_or("none", |seen| &seen.state)
    }

    /// Whether an alert about an object has these words in it.
    pub fn has_alert(&self, object: &str, words: &str) -> bool {
        self.alerts.iter().any(|alert| alert.object == object && alert.text.contains(words))
    }
}
