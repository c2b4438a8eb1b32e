//! The OpenAPI document of the HSM role.

use axum::Json;
use serde_json::Value;

use super::super::document::{Operation, act, document as build, read};

const OPERATIONS: &[Operation] = &[
    read("/api/v1/hsm/status", "Everything at this moment, requests themselves left out", &[]),
    read(
        "/api/v1/hsm/requests",
        "All requests, in no order, each at most once, one a line within the envelope",
        &[
            ("fid", "string"),
            ("cookie", "string"),
            ("hint", "string"),
            ("user", "integer"),
            ("mover", "string"),
            ("archive_id", "integer"),
            ("action", "string"),
            ("running", "boolean"),
            ("state", "string"),
            ("limit", "integer"),
        ],
    ),
    read(
        "/api/v1/hsm/explain",
        "Requests of a file, why they are where they are, and those that ended",
        &[("fid", "string"), ("cookie", "string")],
    ),
    read(
        "/api/v1/hsm/history",
        "Requests that ended, the last first",
        &[
            ("fid", "string"),
            ("mover", "string"),
            ("status", "integer"),
            ("failed", "boolean"),
            ("limit", "integer"),
        ],
    ),
    read(
        "/api/v1/hsm/top",
        "What is going on, by action and archive, mover, tag and user",
        &[("tags", "integer")],
    ),
    read(
        "/api/v1/hsm/events",
        "What happens from now on, as server-sent events; first the alerts that there are. `kind` is a list of request, \
            mover, alert",
        &[("kind", "string"), ("fid", "string"), ("mover", "string"), ("failed", "boolean")],
    ),
    read("/api/v1/hsm/movers", "All movers and peers", &[]),
    act("/api/v1/hsm/movers/{id}/drain", "A mover gets nothing new and finishes what it has", &[]),
    act("/api/v1/hsm/movers/{id}/undrain", "A drained mover gets work again", &[]),
    act(
        "/api/v1/hsm/movers/{id}/limit",
        "A mover runs at most `max` requests at the same time; null for as many as it asks for",
        &[("max", "integer")],
    ),
    act("/api/v1/hsm/movers/{id}/release", "A mover in quarantine gets work again at once", &[]),
    act(
        "/api/v1/hsm/cancel",
        "Cancel requests, or count what would be cancelled (`preview`)",
        &[("select", "object"), ("preview", "boolean"), ("examples", "integer")],
    ),
    read(
        "/api/v1/hsm/dead-letters",
        "Requests that failed and may be asked for again; with `trying` also those for which there is a request again",
        &[
            ("fid", "string"),
            ("cookie", "string"),
            ("hint", "string"),
            ("mover", "string"),
            ("archive_id", "integer"),
            ("action", "string"),
            ("trying", "boolean"),
        ],
    ),
    act("/api/v1/hsm/dead-letters/retry", "Ask the MDT for failed requests again", &[("select", "object")]),
    act("/api/v1/hsm/dead-letters/forget", "Forget failed requests", &[("select", "object")]),
    act("/api/v1/hsm/reconcile", "Compare what is here with a listing of the MDTs (`lctl get_param mdt.*.hsm.actions`), the body as text; \
            `adopt` is own, all or none", &[]).with_query(&[("source", "string"), ("all_mdts", "boolean"), ("adopt", "string")]),
    act(
        "/api/v1/hsm/lock",
        "Whether work is handed out: `lock` is unlocked, locked, or quit (end when nothing runs)",
        &[("lock", "unlocked locked quit")],
    ),
    read("/metrics", "Metrics for Prometheus, as text", &[]),
    read("/api/v1/openapi.json", "This document", &[]),
];

/// `GET /api/v1/openapi.json`
pub async fn document() -> Json<Value> {
    build("coordinatool, HSM", OPERATIONS)
}
