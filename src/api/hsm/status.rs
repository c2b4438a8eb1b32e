//! `GET /api/v1/hsm/status`.

use axum::extract::State;
use axum::http::StatusCode;

use super::super::envelope::good;
use super::{Answer, Context};
use crate::hsm::Stranded as CoreStranded;
use crate::hsm::operator::CancelReport as CoreReport;
use crate::hsm::overview::Overview;
use crate::hsm::time::Wall;
use crate::ops::{
    CancelReport, Counts, Facts, History, Mover, Status, Store, Stranded, Top, alerts, store_alerts,
};
use crate::server::api::Stopping;
use crate::server::shell::{Shell, StoreState};
use crate::store::Health;

/// Batch tags in a status.
const TAGS: usize = 20;

/// What is read in the loop in one go, so that it fits together. Queues and movers are gone through before, in steps.
struct Moment {
    counters: crate::hsm::Counters,
    overview: Overview,
    letters: (u64, u64),
    history: (usize, usize),
    orders: Vec<CoreReport>,
    stranded: Vec<CoreStranded>,
    store: StoreState,
    health: Health,
}

fn moment(shell: &Shell) -> Moment {
    let (store, health) = (shell.store_state(), shell.store_health());
    shell.look(|core, now| Moment {
        counters: core.counters(),
        overview: core.overview(now),
        letters: core.letter_counts(),
        history: core.history_kept(),
        orders: core.orders().into_iter().map(|(_, report)| report).collect(),
        stranded: core.stranded(),
        store,
        health,
    })
}

/// `GET /api/v1/hsm/status`
pub async fn status(State(context): State<Context>) -> Answer {
    Ok(good(StatusCode::OK, gather(&context).await?))
}

/// Everything at this moment, requests themselves left out.
pub async fn gather(context: &Context) -> Result<Status, Stopping> {
    let walk = context.walk(TAGS).await?;
    let moment = context.core.with(moment).await?;
    let movers: Vec<Mover> = walk.movers.iter().map(Mover::from).collect();
    let (given_up, letters) = moment.letters;
    let (top, counters) = (Top::from(&walk.top), moment.counters.into());
    let stranded: Vec<Stranded> = moment.stranded.iter().map(Stranded::from).collect();
    let lock = moment.overview.lock.into();
    let now = Wall(moment.overview.now);
    let facts = Facts {
        lock,
        store_full: moment.overview.store_full,
        store_behind: moment.store.behind,
        counters: &counters,
        movers: &movers,
        top: &top,
        given_up,
        stranded: &stranded,
    };
    let store = Store {
        kind: context.store.to_string(),
        full: moment.overview.store_full,
        behind: moment.store.behind,
        unstored: moment.store.unstored as u64,
        trouble: moment.health.trouble,
        spilled_bytes: moment.health.spilled_bytes,
        not_for_c: moment.health.not_for_c,
        set_aside: moment.health.quarantined,
        warnings: moment.health.warnings,
    };
    let mut alerts = alerts(&facts);
    alerts.extend(store_alerts(&store));
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        fsname: context.fsname.to_string(),
        now: moment.overview.now,
        started: context.started,
        alerts,
        lock,
        store,
        queued: Counts::from(moment.counters.pending),
        running: Counts::from(moment.counters.running),
        done: Counts::from(moment.counters.done),
        counters,
        dead_letters: letters,
        history: History { kept: moment.history.0 as u64, most: moment.history.1 as u64 },
        stranded: stranded.clone(),
        orders: moment.orders.iter().map(|order| CancelReport::new(order, now)).collect(),
        movers,
        top,
    })
}
