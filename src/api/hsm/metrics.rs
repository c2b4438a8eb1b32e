//! `GET /metrics`: Prometheus text.

use std::fmt::Write;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::super::envelope::Problem;
use super::Context;
use crate::hsm::Counters;
use crate::hsm::event::Lock;
use crate::hsm::overview::Overview;

/// What the text is (Prometheus exposition format 0.0.4).
const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of metrics in the making.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// Begins a family of metrics; `kind` is `counter`, `gauge` or `histogram`.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// One value.
    pub fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if index == 0 { "{" } else { "," });
            for character in text.chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    /// A family of one value without labels.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.value(name, &[], value);
    }

    /// What was written.
    pub fn finish(self) -> String {
        self.text
    }
}

/// `GET /metrics`: its size depends on movers, archives and classes, never on how many requests there are.
pub async fn metrics(State(context): State<Context>) -> Result<Response, Problem> {
    let (counters, overview) = context.core.look(|core, now| (core.counters(), core.overview(now))).await?;
    let text = render(&context.fsname, &counters, &overview);
    Ok(([(header::CONTENT_TYPE, TYPE)], text).into_response())
}

const KINDS: [&str; 3] = ["restore", "remove", "archive"];

fn render(fsname: &str, counters: &Counters, overview: &Overview) -> String {
    let mut page = Page::default();
    page.family("lustre_hsm_coordinator_info", "gauge", "The coordinator and what it serves.");
    let version = env!("CARGO_PKG_VERSION");
    page.value("lustre_hsm_coordinator_info", &[("fsname", fsname), ("version", version)], 1.0);
    let name = "lustre_hsm_locked";
    page.family(
        name,
        "gauge",
        "Whether work is handed out: 0 yes, 1 no, 2 no and the daemon ends when nothing runs.",
    );
    let lock = match overview.lock {
        Lock::Unlocked => 0.0,
        Lock::Locked => 1.0,
        Lock::LockedQuit => 2.0,
    };
    page.value(name, &[], lock);
    page.family("lustre_hsm_queued", "gauge", "Requests that wait, by action.");
    for (kind, count) in KINDS.iter().zip(counters.pending) {
        page.value("lustre_hsm_queued", &[("action", kind)], count as f64);
    }
    page.family("lustre_hsm_inflight", "gauge", "Requests that movers have, by action.");
    for (kind, count) in KINDS.iter().zip(counters.running) {
        page.value("lustre_hsm_inflight", &[("action", kind)], count as f64);
    }
    page.family("lustre_hsm_done_total", "counter", "Requests that movers ended, by action.");
    for (kind, count) in KINDS.iter().zip(counters.done) {
        page.value("lustre_hsm_done_total", &[("action", kind)], count as f64);
    }
    let totals: [(&str, &str, u64); 9] = [
        ("admitted", "Requests taken.", counters.admitted),
        ("duplicates", "Requests that were known already.", counters.duplicates),
        ("ended", "Requests forgotten, for whatever reason.", counters.ended),
        ("cancelled", "Cancels acknowledged.", counters.done_cancel),
        ("unknown_cancels", "Cancels of requests that nobody knew.", counters.unknown_cancels),
        ("foreign_dones", "Ends told by movers that do not run the request.", counters.foreign_dones),
        ("redeliveries", "Deliveries of what a mover was running.", counters.redeliveries),
        ("requeued", "Requests that went back to the queue from a mover.", counters.requeued),
        ("oversized", "Times that a request was too large for a mover's buffer.", counters.oversized),
    ];
    for (what, help, value) in totals {
        page.single(&format!("lustre_hsm_{what}_total"), "counter", help, value as f64);
    }
    let gauges: [(&str, &str, u64); 6] = [
        ("unpersisted", "Requests that the store does not have because it was full.", counters.unpersisted),
        ("pending_cancels", "Cancels that wait for their mover.", counters.pending_cancel),
        ("pending_ends", "Ends that the MDT has not taken yet.", counters.ending),
        ("connections", "Connections of movers and clients.", counters.connected),
        ("waiting_for_file", "Requests that wait for another of the same file.", counters.waiting_for_file),
        ("queues", "Queues in use.", counters.classes),
    ];
    for (what, help, value) in gauges {
        page.single(&format!("lustre_hsm_{what}"), "gauge", help, value as f64);
    }
    let full = if overview.store_full { 1.0 } else { 0.0 };
    page.single("lustre_hsm_store_full", "gauge", "Whether the store takes no more.", full);
    page.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.family("a", "gauge", "What.");
        page.value("a", &[("mover", "x\"y\\z\n"), ("b", "é")], 1.5);
        page.value("a", &[], 3.0);
        let want = "# HELP a What.\n# TYPE a gauge\na{mover=\"x\\\"y\\\\z\\n\",b=\"é\"} 1.5\na 3\n";
        assert_eq!(page.finish(), want);
    }
}
