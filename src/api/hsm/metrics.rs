//! `GET /metrics`: its size depends on movers, archives and errors, never on how many requests there are.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::page::{Page, TYPE};
use super::{Answer, Context};
use crate::hsm::event::Lock;
use crate::hsm::mover_views::{Flow, Histogram, MoverView, Top};
use crate::hsm::overview::Overview;
use crate::hsm::{Action, Counters, TopWalk};
use crate::server::shell::{Shell, StoreState};
use crate::store::Health;

/// The most movers that are told one by one: ids come from peers.
const MOST_MOVERS: usize = 10_000;

struct Moment {
    counters: Counters,
    overview: Overview,
    flows: Vec<(Action, u32, Flow)>,
    errors: Vec<(i32, u64)>,
    store: StoreState,
    health: Health,
}

fn moment(shell: &Shell) -> Moment {
    let (store, health) = (shell.store_state(), shell.store_health());
    shell.look(|core, now| Moment {
        counters: core.counters(),
        overview: core.overview(now),
        flows: core.flows(),
        errors: core.errors(),
        store,
        health,
    })
}

/// `GET /metrics`
pub async fn metrics(State(context): State<Context>) -> Answer {
    let walk = context.walk(0).await?;
    let moment = context.core.with(moment).await?;
    let text = render(&context.fsname, &walk, &moment);
    Ok(([(header::CONTENT_TYPE, TYPE)], text).into_response())
}

fn render(fsname: &str, walk: &TopWalk, moment: &Moment) -> String {
    let mut page = Page::default();
    page.family("lustre_hsm_coordinator_info", "gauge", "The coordinator and what it serves.");
    page.value(&[("fsname", fsname), ("version", env!("CARGO_PKG_VERSION"))], 1.0);
    state(&mut page, moment);
    requests(&mut page, &walk.top);
    flows(&mut page, &moment.flows);
    page.family("lustre_hsm_errors_total", "counter", "Requests that failed on movers, by errno.");
    for (errno, count) in &moment.errors {
        page.value(&[("errno", &errno.to_string())], *count as f64);
    }
    movers(&mut page, &walk.movers);
    counters(&mut page, &moment.counters);
    page.finish()
}

fn state(page: &mut Page, moment: &Moment) {
    let help = "Whether work is handed out: 0 yes, 1 no, 2 no and the daemon ends when nothing runs.";
    let lock = match moment.overview.lock {
        Lock::Unlocked => 0.0,
        Lock::Locked => 1.0,
        Lock::LockedQuit => 2.0,
    };
    page.single("lustre_hsm_locked", "gauge", help, lock);
    let flag = |on: bool| if on { 1.0 } else { 0.0 };
    let full = flag(moment.overview.store_full);
    page.single("lustre_hsm_store_full", "gauge", "Whether the store takes no more.", full);
    let help = "Whether so much waits for the store that movers are not read.";
    page.single("lustre_hsm_store_behind", "gauge", help, flag(moment.store.behind));
    let help = "Changes that the store has not made durable yet.";
    page.single("lustre_hsm_store_backlog", "gauge", help, moment.store.unstored as f64);
    let help = "Whether redis lacks requests, which wait on this node's disk.";
    page.single("lustre_hsm_store_trouble", "gauge", help, flag(moment.health.trouble.is_some()));
    let help = "Bytes that wait on this node's disk until redis has everything again.";
    page.single("lustre_hsm_store_spilled_bytes", "gauge", help, moment.health.spilled_bytes as f64);
    let help = "Requests in redis that the C version would not see.";
    page.single("lustre_hsm_store_not_for_c", "gauge", help, moment.health.not_for_c as f64);
    let help = "Settings of redis that may lose what it has confirmed.";
    page.single("lustre_hsm_store_warnings", "gauge", help, moment.health.warnings.len() as f64);
    let help = "Requests that failed and may be asked for again.";
    page.single("lustre_hsm_dead_letters", "gauge", help, moment.counters.letters as f64);
}

fn requests(page: &mut Page, top: &Top) {
    page.family("lustre_hsm_requests", "gauge", "Requests, by action, archive and status.");
    for (action, archive, load) in &top.classes {
        let (action, archive) = (action.name(), archive.to_string());
        for (status, count) in [("WAITING", load.waiting), ("STARTED", load.running)] {
            page.value(&[("action", action), ("archive", &archive), ("status", status)], count as f64);
        }
    }
    page.family("lustre_hsm_oldest_seconds", "gauge", "How long the head of a queue has waited.");
    for (action, archive, load) in &top.classes {
        let oldest = load.oldest.unwrap_or_default().as_secs_f64();
        page.value(&[("action", action.name()), ("archive", &archive.to_string())], oldest);
    }
}

fn flows(page: &mut Page, flows: &[(Action, u32, Flow)]) {
    page.family("lustre_hsm_ended_total", "counter", "Requests that ended, by action, archive and result.");
    for (action, archive, flow) in flows {
        let archive = archive.to_string();
        let results = [
            ("done", flow.done),
            ("failed", flow.failed),
            ("cancelled", flow.cancelled),
            ("dropped", flow.dropped),
        ];
        for (result, count) in results {
            let labels = [("action", action.name()), ("archive", &*archive), ("result", result)];
            page.value(&labels, count as f64);
        }
    }
    let help = "Times of requests that movers ended: `queued` until they were sent, `sent` until they ended.";
    page.family("lustre_hsm_request_seconds", "histogram", help);
    for (action, archive, flow) in flows {
        let archive = archive.to_string();
        for (stage, times) in [("queued", &flow.waited), ("sent", &flow.ran)] {
            let labels = [("action", action.name()), ("archive", &*archive), ("stage", stage)];
            page.histogram(&labels, &Histogram::BOUNDS, &times.counts, times.sum_ms as f64 / 1000.0);
        }
    }
}

/// In the order of the core's arrays.
const KINDS: [&str; 3] = ["RESTORE", "REMOVE", "ARCHIVE"];

fn movers(page: &mut Page, movers: &[MoverView]) {
    let named = || movers.iter().filter(|mover| !mover.anonymous).take(MOST_MOVERS);
    page.family("lustre_hsm_mover_state", "gauge", "1 for each state that a mover is in.");
    for mover in named() {
        let states = [
            ("connected", mover.connected),
            ("waiting", mover.waiting),
            ("drained", mover.drained),
            ("quarantined", mover.quarantined.is_some()),
        ];
        for (state, on) in states {
            page.value(&[("mover", &mover.id), ("state", state)], if on { 1.0 } else { 0.0 });
        }
    }
    page.family("lustre_hsm_mover_inflight", "gauge", "Requests that a mover runs, by action.");
    for mover in named() {
        for (kind, count) in KINDS.iter().zip(mover.running) {
            page.value(&[("mover", &mover.id), ("action", kind)], f64::from(count));
        }
    }
    page.family("lustre_hsm_mover_ended_total", "counter", "Requests that a mover ended, by action.");
    for mover in named() {
        for (kind, count) in KINDS.iter().zip(mover.done) {
            page.value(&[("mover", &mover.id), ("action", kind)], count as f64);
        }
    }
    page.family("lustre_hsm_mover_failed_total", "counter", "Requests that failed on a mover.");
    for mover in named() {
        page.value(&[("mover", &mover.id)], mover.failed as f64);
    }
    page.family("lustre_hsm_mover_errors_total", "counter", "Errors told by a mover, by errno.");
    for mover in named() {
        for (errno, count) in &mover.errors {
            page.value(&[("mover", &mover.id), ("errno", &errno.to_string())], *count as f64);
        }
    }
    let help = "Bytes of requests that a mover ended well, as far as their files' sizes are known.";
    page.family("lustre_hsm_bytes_total", "counter", help);
    for mover in named() {
        for (action, archive, bytes) in &mover.bytes {
            let labels =
                [("mover", &*mover.id), ("action", action.name()), ("archive", &*archive.to_string())];
            page.value(&labels, *bytes as f64);
        }
    }
    page.family("lustre_hsm_mover_queue", "gauge", "Requests that only this mover may take.");
    for mover in named() {
        page.value(&[("mover", &mover.id)], mover.own_queue as f64);
    }
    let anonymous = movers.iter().filter(|mover| mover.anonymous).count();
    page.single("lustre_hsm_anonymous_peers", "gauge", "Connections without an id.", anonymous as f64);
}

fn counters(page: &mut Page, counters: &Counters) {
    page.family("lustre_hsm_inflight", "gauge", "Requests that movers have, by action.");
    for (kind, count) in KINDS.iter().zip(counters.running) {
        page.value(&[("action", kind)], count as f64);
    }
    page.family("lustre_hsm_keepalives_total", "counter", "What keepalives and questions to MDTs came to.");
    let results = [
        ("sent", counters.keepalives),
        ("cancelled", counters.found_cancelled),
        ("forgotten", counters.forgotten_at_mdt),
        ("unanswered", counters.unanswered),
    ];
    for (result, count) in results {
        page.value(&[("result", result)], count as f64);
    }
    let totals = [
        (
            "lustre_hsm_refused_removes_total",
            "Removes refused because they would have deleted the only copy.",
            counters.refused_removes,
        ),
        (
            "lustre_hsm_removes_told_total",
            "REMOVEs ended with success because a mover had removed the copy before.",
            counters.removes_told,
        ),
        (
            "lustre_hsm_needless_archives_total",
            "Archives not repeated because the file was archived meanwhile.",
            counters.needless_archives,
        ),
        (
            "lustre_hsm_unbound_restores_total",
            "Restores bound to a mover that was gone, ended and requested again.",
            counters.unbound,
        ),
        (
            "lustre_hsm_late_deliveries_total",
            "Deliveries of what had ended, dropped.",
            counters.late_deliveries,
        ),
        (
            "lustre_hsm_requested_again_total",
            "Requests that an MDT had forgotten and took again.",
            counters.requested_again,
        ),
        (
            "lustre_hsm_given_up_total",
            "Requests that an MDT had forgotten and does not want any more.",
            counters.given_up,
        ),
        (
            "lustre_hsm_adopted_total",
            "Requests that an MDT listed and that were not known here.",
            counters.adopted,
        ),
        (
            "lustre_hsm_stranded_ended_total",
            "Requests that were ended because no mover could take them.",
            counters.stranded_ended,
        ),
        (
            "lustre_hsm_limited_total",
            "Times that a request was set aside because a limit was reached.",
            counters.limited,
        ),
        ("lustre_hsm_quarantines_total", "Times that a mover was put into quarantine.", counters.quarantines),
        (
            "lustre_hsm_retries_planned_total",
            "Failed requests for which another attempt was planned.",
            counters.retries_planned,
        ),
        ("lustre_hsm_retried_total", "Failed requests that the MDT took once more.", counters.retried),
        (
            "lustre_hsm_dead_letters_dropped_total",
            "Failed requests that were given up because there were too many.",
            counters.letters_dropped,
        ),
        ("lustre_hsm_admitted_total", "Requests taken.", counters.admitted),
        ("lustre_hsm_duplicates_total", "Requests that were known already.", counters.duplicates),
        ("lustre_hsm_forgotten_total", "Requests forgotten, for whatever reason.", counters.ended),
        ("lustre_hsm_cancels_total", "Cancels acknowledged.", counters.done_cancel),
        (
            "lustre_hsm_unknown_cancels_total",
            "Cancels of requests that nobody knew.",
            counters.unknown_cancels,
        ),
        (
            "lustre_hsm_foreign_ends_total",
            "Ends told by movers that do not run the request.",
            counters.foreign_dones,
        ),
        ("lustre_hsm_redeliveries_total", "Deliveries of what a mover was running.", counters.redeliveries),
        (
            "lustre_hsm_requeued_total",
            "Requests that went back to the queue from a mover.",
            counters.requeued,
        ),
        (
            "lustre_hsm_oversized_total",
            "Times that a request was too large for a mover's buffer.",
            counters.oversized,
        ),
    ];
    for (name, help, value) in totals {
        page.single(name, "counter", help, value as f64);
    }
    let gauges = [
        (
            "lustre_hsm_stranded",
            "Requests that nobody who is connected can take, when this was last looked at.",
            counters.stranded,
        ),
        (
            "lustre_hsm_doubtful",
            "Requests that are not handed out because the MDT may have forgotten them.",
            counters.doubtful,
        ),
        (
            "lustre_hsm_unpersisted",
            "Requests that the store does not have because it was full.",
            counters.unpersisted,
        ),
        ("lustre_hsm_pending_cancels", "Cancels that wait for their mover.", counters.pending_cancel),
        ("lustre_hsm_pending_ends", "Ends that the MDT has not taken yet.", counters.ending),
        ("lustre_hsm_connections", "Connections of movers and clients.", counters.connected),
        (
            "lustre_hsm_waiting_for_file",
            "Requests that wait for another of the same file.",
            counters.waiting_for_file,
        ),
        ("lustre_hsm_queues", "Queues in use.", counters.classes),
        ("lustre_hsm_shares", "Owners among whom requests are shared out.", counters.shares),
        ("lustre_hsm_tapes", "Tapes that are known.", counters.tapes),
        ("lustre_hsm_asking", "Requests about which an MDT is asked before they are sent.", counters.asking),
    ];
    for (name, help, value) in gauges {
        page.single(name, "gauge", help, value as f64);
    }
}
