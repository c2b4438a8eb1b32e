//! The OpenAPI document of the HSM role, made of one table of what there is.

use axum::Json;
use serde_json::{Map, Value, json};

/// Names of members with their types in the schema.
type Members = &'static [(&'static str, &'static str)];

/// An operation of the API.
struct Operation {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    query: Members,
    body: Members,
}

const fn read(path: &'static str, summary: &'static str, query: Members) -> Operation {
    Operation { method: "get", path, summary, query, body: &[] }
}

const fn act(path: &'static str, summary: &'static str, body: Members) -> Operation {
    Operation { method: "post", path, summary, query: &[], body }
}

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
    Operation {
        method: "post",
        path: "/api/v1/hsm/reconcile",
        summary: "Compare what is here with a listing of the MDTs (`lctl get_param mdt.*.hsm.actions`), the body as text; \
            `adopt` is own, all or none",
        query: &[("source", "string"), ("all_mdts", "boolean"), ("adopt", "string")],
        body: &[],
    },
    act(
        "/api/v1/hsm/lock",
        "Whether work is handed out: `lock` is unlocked, locked, or quit (end when nothing runs)",
        &[("lock", "string")],
    ),
    read("/metrics", "Metrics for Prometheus, as text", &[]),
    read("/api/v1/openapi.json", "This document", &[]),
];

fn operation(operation: &Operation) -> Value {
    let in_path = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter = |name: &str, place: &str, kind: &str| {
        let required = place == "path";
        json!({"name": name, "in": place, "required": required, "schema": {"type": kind}})
    };
    let parameters: Vec<Value> = in_path
        .map(|name| parameter(name, "path", "string"))
        .chain(operation.query.iter().map(|(name, kind)| parameter(name, "query", kind)))
        .collect();
    let mut described = json!({
        "summary": operation.summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done, or what was asked for"},
            "default": {"description": "400 invalid, 404 no such thing, 409 not now, 422 not understood, 503 stopping"},
        },
    });
    if !operation.body.is_empty() {
        let properties: Map<String, Value> =
            operation.body.iter().map(|(name, kind)| ((*name).to_owned(), json!({"type": kind}))).collect();
        described["requestBody"] = json!({"content": {"application/json": {"schema": {
            "type": "object", "additionalProperties": false, "properties": properties,
        }}}});
    }
    described
}

/// `GET /api/v1/openapi.json`
pub async fn document() -> Json<Value> {
    let mut paths: Map<String, Value> = Map::new();
    for one in OPERATIONS {
        let path = paths.entry(one.path).or_insert_with(|| json!({}));
        path[one.method] = operation(one);
    }
    Json(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "coordinatool, HSM",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "On a unix socket for root. All answers below /api/v1 are {\"errors\": [], \"response\": ..., \
                \"success\": true}.",
        },
        "paths": paths,
    }))
}
