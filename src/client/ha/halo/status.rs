//! HALO's status: read as HALO's JSON, printed with HALO's columns (a0fa0b9).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::client::ha::text::{fold, one_line};

/// `GET /status`.
#[derive(Debug, Deserialize)]
pub struct Cluster {
    /// All resources.
    pub resources: Vec<Resource>,
    /// All hosts.
    pub hosts: Vec<Host>,
    /// All events, oldest first.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// A resource.
#[derive(Debug, Deserialize)]
pub struct Resource {
    /// Its name.
    pub id: String,
    /// `provider/type`.
    pub kind: String,
    /// Its parameters.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// What it is on each host.
    #[serde(default)]
    pub status: BTreeMap<String, On>,
    /// Whether its group is managed.
    pub managed: bool,
    /// Where it belongs.
    pub home_host: String,
    /// What depends on it.
    #[serde(default)]
    pub dependents: Vec<String>,
}

/// What a resource is on a host.
#[derive(Debug, Deserialize)]
pub struct On {
    /// `Running`, `Stopped`, `Error`, `Unknown`.
    pub status: String,
    /// Why.
    #[serde(default)]
    pub comment: Option<String>,
}

/// A host.
#[derive(Debug, Deserialize)]
pub struct Host {
    /// Its name.
    pub id: String,
    /// Not deactivated.
    pub active: bool,
    /// Reached.
    pub connected: bool,
}

/// Something that happened.
#[derive(Debug, Deserialize)]
pub struct Event {
    /// Local time.
    pub timestamp: String,
    /// One word.
    pub event: String,
    /// A host or resource.
    pub obj_id: String,
    /// Why.
    #[serde(default)]
    pub comment: Option<String>,
}

impl Event {
    /// As HALO prints it.
    pub fn line(&self) -> String {
        let comment = self.comment.as_deref().unwrap_or("");
        format!(
            "{} event={} object={} comment=\"{}\"",
            self.timestamp,
            self.event,
            self.obj_id,
            one_line(comment)
        )
    }
}

impl Resource {
    /// HALO's single status and its comment: what runs at home comes first, then what runs elsewhere, then what is stopped
    /// on all hosts, then errors.
    fn summary(&self) -> (String, Option<&str>) {
        let at_home = self.status.get(&self.home_host);
        let home_first = || {
            let others = self.status.iter().filter(|(host, _)| **host != self.home_host).map(|(_, on)| on);
            at_home.into_iter().chain(others)
        };
        if at_home.is_some_and(|on| on.status == "Running") {
            return (format!("Running on {}", self.home_host), None);
        }
        if let Some((host, _)) = self.status.iter().find(|(_, on)| on.status == "Running") {
            return (format!("Running (Failed Over) on {host}"), None);
        }
        if self.status.values().all(|on| on.status == "Stopped") {
            return ("Stopped".to_owned(), None);
        }
        for status in ["Error", "Unknown"] {
            if let Some(on) = home_first().find(|on| on.status == status) {
                return (status.to_owned(), on.comment.as_deref());
            }
        }
        ("Unexpected".to_owned(), None)
    }
}

/// Resources as trees: each parent before its dependents, roots in the order in which they come.
fn trees(resources: &[Resource]) -> Vec<(usize, &Resource)> {
    let by_name: BTreeMap<&str, &Resource> =
        resources.iter().map(|resource| (resource.id.as_str(), resource)).collect();
    let children: BTreeSet<&str> =
        resources.iter().flat_map(|resource| &resource.dependents).map(String::as_str).collect();
    let mut shown = BTreeSet::new();
    let mut list = Vec::new();
    let roots = resources.iter().filter(|resource| !children.contains(resource.id.as_str()));
    // Whatever is in a circle has no root; it is shown all the same.
    for resource in roots.chain(resources) {
        let mut stack = vec![(0, resource)];
        while let Some((depth, resource)) = stack.pop() {
            if shown.insert(resource.id.as_str()) {
                list.push((depth, resource));
                let dependents = resource.dependents.iter().rev();
                stack.extend(
                    dependents.filter_map(|name| by_name.get(name.as_str())).map(|child| (depth + 1, *child)),
                );
            }
        }
    }
    list
}

/// The events that `status` shows: at most so many, the newest, none from before the last `clear`.
fn tail(events: &[Event], count: usize) -> &[Event] {
    let begin = events.iter().rposition(|event| event.event == "clear").map_or(0, |clear| clear + 1);
    &events[begin.max(events.len().saturating_sub(count))..]
}

/// HALO's text.
pub fn render(cluster: &Cluster, abnormal: bool, event_count: usize, verbose: bool) -> String {
    let mut out = String::new();
    for (depth, resource) in trees(&cluster.resources) {
        let (status, comment) = resource.summary();
        if abnormal && status == format!("Running on {}", resource.home_host) {
            continue;
        }
        let name = format!("{}{}", " ".repeat(depth), resource.id);
        out.push_str(&format!("{name:<20}\t({})\t{status}", resource.kind));
        if verbose {
            let parameters: Vec<String> =
                resource.parameters.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            out.push_str(&format!(" [{}]", parameters.join("; ")));
        }
        if let Some(comment) = comment {
            out.push_str(&format!(" {comment} "));
        }
        if !resource.managed {
            out.push_str(" (Unmanaged)");
        }
        out.push('\n');
    }
    out.push('\n');
    let hosts = |connected: bool, active: bool| {
        let of = |host: &&Host| host.connected == connected && host.active == active;
        fold(&cluster.hosts.iter().filter(of).map(|host| host.id.as_str()).collect::<Vec<_>>())
    };
    for (connected, word) in [(true, "Connected"), (false, "Disconnected")] {
        let disconnected = !connected && cluster.hosts.iter().any(|host| !host.connected);
        if abnormal && !disconnected {
            continue;
        }
        out.push_str(&format!("{word} hosts:\t{}", hosts(connected, true)));
        let deactivated = hosts(connected, false);
        if !deactivated.is_empty() {
            out.push_str(&format!(", {deactivated} (deactivated)"));
        }
        out.push('\n');
    }
    if !abnormal && !cluster.events.is_empty() {
        out.push_str("Events: \n");
        for event in tail(&cluster.events, event_count) {
            out.push_str(&event.line());
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state in which HALO's own sample was printed.
    fn sample() -> Cluster {
        let resource = |id: &str, home: &str, on: &str, managed: bool, dependents: &[&str]| {
            let there = |host: &str| if host == on { "Running" } else { "Stopped" };
            serde_json::json!({
                "id": id, "kind": "lab/res", "parameters": {"name": id, "b": "1"},
                "status": {"h0": {"status": there("h0"), "comment": null}, "h1": {"status": there("h1"), "comment": null}},
                "managed": managed, "home_host": home, "failover_host": "x", "dependents": dependents, "exclusive": true,
            })
        };
        let cluster = serde_json::json!({
            "resources": [
                resource("pool0", "h0", "h0", true, &["ost0"]),
                resource("ost0", "h0", "h0", true, &[]),
                resource("pool1", "h1", "h0", true, &["ost1"]),
                resource("ost1", "h1", "h1", false, &[]),
            ],
            "hosts": [
                {"id": "h0", "active": true, "connected": true, "fenced": false},
                {"id": "h1", "active": false, "connected": true, "fenced": false},
            ],
            "events": [{
                "timestamp": "2026-11-20 23:20:49.698872423", "event": "fence", "obj_id": "h1", "comment": "testing",
            }],
        });
        serde_json::from_value(cluster).unwrap()
    }

    #[test]
    fn the_columns_are_halos() {
        let wanted = "pool0               \t(lab/res)\tRunning on h0\n \
                      ost0               \t(lab/res)\tRunning on h0\n\
                      pool1               \t(lab/res)\tRunning (Failed Over) on h0\n \
                      ost1               \t(lab/res)\tRunning on h1 (Unmanaged)\n\
                      \n\
                      Connected hosts:\th0, h1 (deactivated)\n\
                      Disconnected hosts:\t\n\
                      Events: \n\
                      2026-11-20 23:20:49.698872423 event=fence object=h1 comment=\"testing\"\n";
        assert_eq!(render(&sample(), false, 10, false), wanted);
        let wanted = "pool1               \t(lab/res)\tRunning (Failed Over) on h0\n\n";
        assert_eq!(render(&sample(), true, 10, false), wanted);
        let verbose = render(&sample(), false, 10, true);
        assert!(verbose.contains("\t(lab/res)\tRunning on h1 [b: 1; name: ost1] (Unmanaged)\n"), "{verbose}");
    }

    #[test]
    fn one_status_of_many() {
        let running = "Running";
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[("h0", running), ("h1", running)], "Running on h0"),
            (&[("h0", "Stopped"), ("h1", running)], "Running (Failed Over) on h1"),
            (&[("h0", "Error"), ("h1", running)], "Running (Failed Over) on h1"),
            (&[("h0", "Stopped"), ("h1", "Stopped"), ("h2", running)], "Running (Failed Over) on h2"),
            (&[("h0", "Stopped"), ("h1", "Stopped")], "Stopped"),
            (&[("h0", "Unknown"), ("h1", "Error")], "Error"),
            (&[("h0", "Stopped"), ("h1", "Unknown")], "Unknown"),
            (&[("h0", "Odd"), ("h1", "Stopped")], "Unexpected"),
        ];
        for (on, wanted) in cases {
            let mut resource = sample().resources.remove(0);
            resource.status = on
                .iter()
                .map(|(host, status)| {
                    ((*host).to_owned(), On { status: (*status).to_owned(), comment: None })
                })
                .collect();
            assert_eq!(resource.summary().0, *wanted, "{on:?}");
        }
    }

    #[test]
    fn comments_and_lost_hosts() {
        let mut cluster = sample();
        for on in cluster.resources[0].status.values_mut() {
            on.status = "Error".to_owned();
            on.comment = Some("no such device".to_owned());
        }
        cluster.hosts[1].connected = false;
        let text = render(&cluster, true, 10, false);
        assert!(text.starts_with("pool0               \t(lab/res)\tError no such device \n"), "{text}");
        assert!(text.ends_with("\nDisconnected hosts:\t, h1 (deactivated)\n"), "{text}");
    }

    #[test]
    fn resources_in_a_circle_are_shown_once() {
        let mut cluster = sample();
        cluster.resources[1].dependents.push("pool0".to_owned());
        let text = render(&cluster, false, 10, false);
        assert_eq!(text.matches("pool0").count(), 1, "{text}");
    }

    #[test]
    fn events_before_the_last_clear_are_not_shown() {
        let event = |word: &str| Event {
            timestamp: String::new(),
            event: word.to_owned(),
            obj_id: String::new(),
            comment: None,
        };
        let events: Vec<Event> = ["a", "clear", "b", "c", "d"].into_iter().map(event).collect();
        let words = |count| tail(&events, count).iter().map(|event| event.event.as_str()).collect::<String>();
        assert_eq!(words(10), "bcd");
        assert_eq!(words(2), "cd");
        assert_eq!(words(0), "");
        assert_eq!(tail(&[], 10).len(), 0);
    }
}
