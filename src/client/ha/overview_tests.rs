use std::collections::BTreeMap;

use super::*;
use crate::ha::command::Progress;
use crate::ha::ids::{CommandId, Epoch};
use crate::ha::ocf::Recovery;
use crate::ha::status::{Alert, Failure, PowerStatus, Seen};

const S: i64 = 1_000_000_000;
const NOW: i64 = 1_000_000 * S;

fn host(id: &str) -> HostStatus {
    HostStatus {
        id: id.into(),
        address: format!("{id}:8000"),
        state: HostState::Connected,
        detail: String::new(),
        since: NOW - 60 * S,
        active: true,
        fenced: false,
        power: Some(PowerStatus { said: "on".into(), at: NOW - 30 * S }),
        maintenance_until: None,
        agent_version: Some("0.1.0".into()),
        isolation: None,
        fencing: format!("fence_ipmilan({id}-bmc)"),
        self_protected: false,
    }
}

fn resource(id: &str, depth: usize, on: &[(&str, SeenState, Option<&str>)]) -> ResourceStatus {
    ResourceStatus {
        id: id.into(),
        kind: "lab/res".into(),
        parameters: BTreeMap::from([("name".to_owned(), id.to_owned())]),
        parent: None,
        depth,
        on: on
            .iter()
            .map(|(host, state, comment)| {
                let comment = comment.map(str::to_owned);
                ((*host).into(), Seen { state: *state, comment, since: NOW - 10 * S })
            })
            .collect(),
        failures: Vec::new(),
        stopped_by_operator: false,
    }
}

fn group(id: &str, home: &str, location: Option<&str>) -> GroupStatus {
    let other = if home == "oss1" { "oss2" } else { "oss1" };
    let there = |host: &str| {
        if Some(host) == location { SeenState::Running } else { SeenState::Stopped }
    };
    let on = [(home, there(home), None), (other, there(other), None)];
    GroupStatus {
        id: id.into(),
        managed: true,
        phase: if location.is_some() { Phase::Running } else { Phase::Stopped },
        waits_for: Vec::new(),
        home: home.into(),
        failover: vec![other.into()],
        location: location.map(Into::into),
        stopped_by_operator: false,
        maintenance_until: None,
        resources: vec![resource(id, 0, &on), resource(&id.replace("pool", "ost"), 1, &on)],
    }
}

fn status() -> Status {
    Status {
        cluster: "lustre".into(),
        managed: true,
        epoch: Epoch(7),
        superseded: false,
        maintenance_until: None,
        hosts: vec![host("oss1"), host("oss2")],
        groups: vec![group("pool1", "oss1", Some("oss1")), group("pool2", "oss2", Some("oss2"))],
        alerts: Vec::new(),
        commands: Vec::new(),
    }
}

fn shown(status: &Status, options: &StatusOptions) -> String {
    render(status, NOW, options)
}

#[test]
fn all_is_well() {
    let wanted = "\
Cluster lustre: managed (epoch 7)

GROUP   KIND     STATE    HOST
pool1   lab/res  running  oss1
  ost1  lab/res  running  oss1
pool2   lab/res  running  oss2
  ost2  lab/res  running  oss2

HOST      STATE      POWER
oss[1-2]  connected  on
";
    assert_eq!(shown(&status(), &StatusOptions::default()), wanted);
    assert_eq!(shown(&status(), &StatusOptions { abnormal: true, ..Default::default() }), "");
}

/// What a fence agent complains of does not widen the table.
#[test]
fn why_the_power_is_unknown_is_told_elsewhere() {
    let mut status = status();
    status.hosts[0].power = Some(PowerStatus { said: "unknown: ipmi: no route".into(), at: NOW });
    let text = shown(&status, &StatusOptions::default());
    assert!(text.contains("unknown") && !text.contains("no route"), "{text}");
    assert!(shown(&status, &StatusOptions { verbose: true, ..Default::default() }).contains("no route"));
}

/// After a failover, with a group that waits and a command under way.
fn trouble() -> Status {
    let mut status = status();
    let lost = &mut status.hosts[1];
    lost.state = HostState::Off;
    lost.fenced = true;
    lost.detail = "its fence devices say so".into();
    lost.power = Some(PowerStatus { said: "off".into(), at: NOW });
    status.groups[1] = group("pool2", "oss2", Some("oss1"));
    let mut third = group("pool3", "oss2", None);
    third.phase = Phase::Frozen;
    third.managed = false;
    third.waits_for = vec!["oss2 is not proven off:\nits device is silent".into()];
    let comment = Some("silent for 9 s");
    third.resources = vec![resource(
        "pool3",
        0,
        &[("oss2", SeenState::Unknown, comment), ("oss1", SeenState::Stopped, None)],
    )];
    third.resources[0].failures = vec![Failure {
        at: NOW - 65 * S,
        host: "oss2".into(),
        action: "start".into(),
        what: "exit code 1".into(),
        recovery: Recovery::Soft,
    }];
    status.groups.push(third);
    status.alerts.push(Alert {
        severity: Severity::Critical,
        object: "pool3".into(),
        text: "frozen".into(),
        command: Some("coordinatool-client ha fence oss2".into()),
        since: NOW - 90 * S,
    });
    status.commands.push(CommandStatus {
        id: CommandId(12),
        what: "move pool1 to oss2".into(),
        by: "root (uid 0)".into(),
        reason: Some("test".into()),
        at: NOW - 5 * S,
        progress: Progress::Running { doing: "stopping ost1".into() },
    });
    status
}

#[test]
fn trouble_is_shown_with_what_helps() {
    let wanted = "\
CRITICAL  pool3: frozen (for 1 min 30 s)
          -> coordinatool-client ha fence oss2

GROUP   KIND     STATE    HOST  NOTES
pool2   lab/res  running  oss1  home is oss2
  ost2  lab/res  running  oss1
pool3   lab/res  frozen         unmanaged, unknown on oss2, silent for 9 s, 1 failure 1 min 5 s ago: start on oss2: exit code 1
  ! oss2 is not proven off:; its device is silent

HOST  STATE  POWER  NOTES
oss2  off    off    fenced, not again before it is reset, its fence devices say so, for 1 min
";
    assert_eq!(shown(&trouble(), &StatusOptions { abnormal: true, ..Default::default() }), wanted);
    let all = shown(&trouble(), &StatusOptions::default());
    assert!(all.starts_with("Cluster lustre: managed (epoch 7)\n\nCRITICAL"), "{all}");
    let commands = "
COMMAND  WHAT                       BY            AGO  HOW FAR
12       move pool1 to oss2 (test)  root (uid 0)  5 s  ... stopping ost1
";
    assert!(all.ends_with(commands), "{all}");
}

#[test]
fn everything_that_is_known_can_be_shown() {
    let mut status = status();
    status.groups.truncate(1);
    status.hosts.truncate(1);
    status.commands = trouble().commands;
    status.commands[0].progress = Progress::Done { result: "pool1 runs on oss2".into() };
    let wanted = "\
Cluster lustre: managed (epoch 7)

GROUP   KIND     STATE    HOST
pool1   lab/res  running  oss1
    name=pool1
    oss1: running for 10 s
    oss2: stopped for 10 s
  ost1  lab/res  running  oss1
      name=ost1
      oss1: running for 10 s
      oss2: stopped for 10 s

HOST  STATE      POWER          AGENT            FENCING
oss1  connected  on (30 s ago)  oss1:8000 0.1.0  fence_ipmilan(oss1-bmc)

COMMAND  WHAT                       BY            AGO  HOW FAR
12       move pool1 to oss2 (test)  root (uid 0)  5 s  done: pool1 runs on oss2
";
    assert_eq!(shown(&status, &StatusOptions { verbose: true, ..Default::default() }), wanted);
}

#[test]
fn a_resource_on_two_hosts_cannot_be_overlooked() {
    let mut status = status();
    for seen in status.groups[0].resources[1].on.values_mut() {
        seen.state = SeenState::Running;
    }
    let all = shown(&status, &StatusOptions::default());
    assert!(all.contains("ost1  lab/res  running  oss[1-2]\n"), "{all}");
}

#[test]
fn modes_are_told() {
    for (change, text) in [
        (
            (|status| status.managed = false) as fn(&mut Status),
            "observed only, nothing is started, stopped or fenced",
        ),
        (|status| status.superseded = true, "another manager has taken over"),
        (|status| status.maintenance_until = Some(NOW), "In maintenance until "),
    ] {
        let mut status = status();
        change(&mut status);
        let all = shown(&status, &StatusOptions::default());
        assert!(all.contains(text), "{all}");
    }
}

/// The manager says 0 where it does not know since when.
#[test]
fn no_time_is_shown_where_none_is_known() {
    let mut status = trouble();
    status.hosts[1].since = 0;
    status.alerts[0].since = 0;
    for group in &mut status.groups {
        for seen in group.resources.iter_mut().flat_map(|resource| resource.on.values_mut()) {
            seen.since = 0;
        }
    }
    let all = shown(&status, &StatusOptions { verbose: true, ..Default::default() });
    assert!(all.contains("pool3: frozen\n") && all.contains("oss1: stopped\n"), "{all}");
    assert_eq!(all.matches(" for ").count(), all.matches("silent for 9 s").count(), "{all}");
}

/// What is the same shares a line, so a large cluster that is well is short.
#[test]
fn a_thousand_hosts_are_one_line() {
    let mut status = status();
    status.hosts = (0..1000).map(|number| host(&format!("oss{number:04}"))).collect();
    status.hosts[500].active = false;
    let all = shown(&status, &StatusOptions::default());
    let wanted =
        "oss[0000-0499,0501-0999]  connected  on\noss0500                   connected  on     deactivated\n";
    assert!(all.ends_with(wanted), "{all}");
}
