//! What a person has to know first: what keeps requests from being served.

use serde::{Deserialize, Serialize};

use super::flow::{Mover, Stranded, Top};
use super::status::{Counters, Lock, Store};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Requests are not served, or not safe.
    #[default]
    Critical,
    /// Something is not as it should be.
    Warning,
}

/// Something that somebody has to know.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Alert {
    /// How bad it is.
    pub severity: Severity,
    /// A short name that stays the same: `locked`, `no_mover`, `store_full` ...
    pub kind: String,
    /// What it is about: a mover, or an action and archive; empty for the daemon as a whole. Kind and this stay the same as
    /// long as the alert does, the words may change.
    pub about: String,
    /// In words.
    pub text: String,
    /// A command that says more or helps.
    pub command: Option<String>,
}

/// What alerts are made of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Whether work is handed out.
    pub lock: Lock,
    /// The store takes no more.
    pub store_full: bool,
    /// What waits for the store is so much that peers are not read.
    pub store_behind: bool,
    /// What was counted.
    pub counters: &'a Counters,
    /// All movers.
    pub movers: &'a [Mover],
    /// What is going on.
    pub top: &'a Top,
    /// Failed requests that are not tried again by themselves.
    pub given_up: u64,
    /// What no connected mover can take.
    pub stranded: &'a [Stranded],
}

fn plural(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// Whether a mover may take requests of this archive. Archive 0 is what the MDT does not know (a remove).
fn serves(mover: &Mover, archive_id: u32) -> bool {
    mover.archive_ids.is_empty() || archive_id == 0 || mover.archive_ids.contains(&archive_id)
}

/// All alerts, the worst first.
pub fn alerts(facts: &Facts<'_>) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let mut add = |severity, kind: &str, about: &str, text: String, command: Option<String>| {
        alerts.push(Alert { severity, kind: kind.to_owned(), about: about.to_owned(), text, command });
    };
    let client = |rest: &str| Some(format!("coordinatool-client {rest}"));
    let waiting: u64 = facts.top.classes.iter().map(|class| class.load.waiting).sum();
    match facts.lock {
        Lock::Unlocked => {}
        Lock::Locked => {
            let text = format!(
                "the coordinator is locked: nothing is handed out, {} wait",
                plural(waiting, "request")
            );
            add(Severity::Warning, "locked", "", text, client("--unlock"));
        }
        Lock::Quit => {
            let text = "the coordinator is locked and ends when nothing runs any more".to_owned();
            add(Severity::Warning, "locked", "", text, client("--unlock"));
        }
    }
    if facts.store_full {
        let lost = plural(facts.counters.unpersisted, "request");
        let text = format!("the store is full: {lost} would not survive a crash, and `queue` is refused");
        add(Severity::Critical, "store_full", "", text, None);
    }
    if facts.store_behind {
        let text = "the store does not keep up: movers are not read until it does".to_owned();
        add(Severity::Critical, "store_behind", "", text, None);
    }
    for class in facts.top.classes.iter().filter(|class| class.load.waiting > 0) {
        let at_work = |mover: &&Mover| mover.connected && mover.is_mover && serves(mover, class.archive_id);
        let able: Vec<&Mover> = facts.movers.iter().filter(at_work).collect();
        let what = plural(class.load.waiting, &format!("{} request", class.action));
        let what = format!("{what} for archive {}", class.archive_id);
        let about = format!("{} {}", class.action, class.archive_id);
        if able.is_empty() {
            let text = format!("{what}: no connected mover serves it");
            add(Severity::Critical, "no_mover", &about, text, client("movers"));
        } else if able.iter().all(|mover| mover.drained || mover.quarantined.is_some()) {
            let text = format!("{what}: every mover that serves it is drained or in quarantine");
            add(Severity::Critical, "no_mover", &about, text, client("movers"));
        }
    }
    for stranded in facts.stranded.iter().filter(|stranded| !stranded.movers.is_empty()) {
        let about = format!("{} {} {}", stranded.action, stranded.archive_id, stranded.movers.join(","));
        let text = format!(
            "{} for archive {}: only {} may take {}, and nobody of them is there",
            plural(stranded.requests, &format!("{} request", stranded.action)),
            stranded.archive_id,
            stranded.movers.join(", "),
            if stranded.requests == 1 { "it" } else { "them" }
        );
        add(Severity::Critical, "stranded", &about, text, client("movers"));
    }
    if facts.counters.doubtful > 0 {
        let text = format!(
            "{} not handed out: an MDT may have forgotten them, or does not answer",
            plural(facts.counters.doubtful, "request")
        );
        add(Severity::Warning, "doubtful", "", text, None);
    }
    for mover in facts.movers {
        let held = mover.running.sum();
        if !mover.connected && held + mover.own_queue > 0 {
            let text = format!(
                "mover {} is away with {}, and {} wait for it alone",
                mover.id,
                plural(held, "request"),
                mover.own_queue
            );
            add(Severity::Warning, "mover_away", &mover.id, text, client("movers"));
        }
        if mover.quarantined.is_some() {
            let text = format!(
                "mover {} is in quarantine: {} of its last {} failed",
                mover.id,
                mover.recent_errors,
                plural(u64::from(mover.recent_errors) + u64::from(mover.recent_successes), "request")
            );
            add(Severity::Warning, "quarantined", &mover.id, text, client(&format!("release {}", mover.id)));
        }
        if mover.drained {
            let text = format!("mover {} is drained: it gets nothing new", mover.id);
            add(Severity::Warning, "drained", &mover.id, text, client(&format!("undrain {}", mover.id)));
        }
    }
    if facts.given_up > 0 {
        let text = format!("{} failed and will not be tried again", plural(facts.given_up, "request"));
        add(Severity::Warning, "failed", "", text, client("dead-letters"));
    }
    if facts.counters.ending > 0 {
        let text = format!("{} wait for an MDT to take them", plural(facts.counters.ending, "end"));
        add(Severity::Warning, "pending_ends", "", text, None);
    }
    alerts.sort_by_key(|alert| alert.severity);
    alerts
}

/// What needs attention at the store.
pub fn store_alerts(store: &Store) -> Vec<Alert> {
    let alert = |severity, kind: &str, text: String| Alert {
        severity,
        kind: kind.to_owned(),
        text,
        ..Alert::default()
    };
    let mut alerts = Vec::new();
    if let Some(trouble) = &store.trouble {
        let text = format!("{trouble}; what it lacks is on this node's disk ({} bytes)", store.spilled_bytes);
        alerts.push(alert(Severity::Critical, "store_trouble", text));
    }
    for warning in &store.warnings {
        let of = alert(Severity::Warning, "store_settings", format!("redis: {warning}"));
        alerts.push(Alert { about: warning.clone(), ..of });
    }
    if store.set_aside > 0 {
        let text =
            format!("{} could not be read at start and were set aside", plural(store.set_aside, "record"));
        alerts.push(alert(Severity::Warning, "store_set_aside", text));
    }
    alerts
}

#[cfg(test)]
mod tests {
    use super::super::flow::{ClassLoad, Load};
    use super::*;

    fn kinds(change: impl FnOnce(&mut Vec<Mover>, &mut Top, &mut Counters)) -> Vec<String> {
        let mover = Mover {
            id: "m1".into(),
            connected: true,
            is_mover: true,
            archive_ids: vec![1],
            ..Mover::default()
        };
        let load = Load { waiting: 3, ..Load::default() };
        let class = ClassLoad { action: "ARCHIVE".into(), archive_id: 1, load };
        let mut top = Top { classes: vec![class], ..Top::default() };
        let (mut movers, mut counters) = (vec![mover], Counters::default());
        change(&mut movers, &mut top, &mut counters);
        let facts = Facts {
            lock: Lock::Unlocked,
            store_full: false,
            store_behind: false,
            counters: &counters,
            movers: &movers,
            top: &top,
            given_up: 0,
            stranded: &[],
        };
        alerts(&facts).into_iter().map(|alert| alert.kind).collect()
    }

    #[test]
    fn what_keeps_requests_from_being_served_is_told() {
        assert_eq!(kinds(|_, _, _| ()), [""; 0]);
        assert_eq!(kinds(|movers, _, _| movers[0].connected = false), ["no_mover"]);
        assert_eq!(kinds(|_, top, _| top.classes[0].archive_id = 2), ["no_mover"]);
        assert_eq!(kinds(|movers, _, _| movers[0].drained = true), ["no_mover", "drained"]);
        assert_eq!(kinds(|movers, _, _| movers[0].quarantined = Some(1)), ["no_mover", "quarantined"]);
        assert_eq!(kinds(|movers, _, _| movers.clear()), ["no_mover"]);
        assert_eq!(kinds(|_, top, _| top.classes[0].archive_id = 0), [""; 0]);
        assert_eq!(kinds(|_, _, counters| counters.ending = 2), ["pending_ends"]);
        let away = |movers: &mut Vec<Mover>, top: &mut Top, _: &mut Counters| {
            movers.push(Mover { id: "m2".into(), own_queue: 1, ..Mover::default() });
            top.classes.clear();
        };
        assert_eq!(kinds(away), ["mover_away"]);
    }
}
