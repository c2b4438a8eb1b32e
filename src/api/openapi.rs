//! The OpenAPI document, made of one table of what there is.

use axum::Json;
use serde_json::{Map, Value, json};

/// An operation of the API.
struct Operation {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    /// Names of query parameters.
    query: &'static [&'static str],
    /// Whether it has the body of a command.
    command: bool,
}

const fn read(path: &'static str, summary: &'static str, query: &'static [&'static str]) -> Operation {
    Operation { method: "get", path, summary, query, command: false }
}

const fn act(path: &'static str, summary: &'static str) -> Operation {
    Operation { method: "post", path, summary, query: &[], command: true }
}

const OPERATIONS: &[Operation] = &[
    read("/api/v1/ha/status", "Everything at this moment", &[]),
    read("/api/v1/ha/events", "What happened, oldest first", &["object", "since", "limit"]),
    read(
        "/api/v1/ha/events/stream",
        "The same as server-sent events, and later ones as they happen",
        &["object", "since"],
    ),
    read(
        "/api/v1/ha/commands/{id}",
        "How far a command is; `wait`: answer when that changes, or after so many seconds",
        &["wait"],
    ),
    act("/api/v1/ha/groups/{id}/manage", "Look at a group anew, then keep it running"),
    act("/api/v1/ha/groups/{id}/unmanage", "Leave a group alone"),
    act("/api/v1/ha/groups/{id}/move", "Move a group `to` a host, or to the best other one"),
    act("/api/v1/ha/groups/{id}/start", "Start a group"),
    act("/api/v1/ha/groups/{id}/stop", "Stop a group and keep it stopped"),
    act("/api/v1/ha/groups/{id}/clear", "Forget the failures of a group and try again"),
    act("/api/v1/ha/groups/{id}/maintenance", "Leave a group alone for so many `seconds`"),
    act("/api/v1/ha/hosts/{id}/activate", "A host may run groups again"),
    act("/api/v1/ha/hosts/{id}/deactivate", "Move everything off a host and keep it free"),
    act("/api/v1/ha/hosts/{id}/failback", "Bring the groups whose home a host is back to it"),
    act("/api/v1/ha/hosts/{id}/fence", "Power a host off and start its groups elsewhere"),
    act("/api/v1/ha/hosts/{id}/reset", "A host may be fenced automatically again"),
    act("/api/v1/ha/hosts/{id}/power", "Power a host `on` or `off`, or ask its devices (`status`)"),
    act("/api/v1/ha/hosts/{id}/confirm_off", "An operator has seen that a host is off, and answers for it"),
    act("/api/v1/ha/hosts/{id}/clear", "Forget failures on a host"),
    act("/api/v1/ha/hosts/{id}/maintenance", "Leave the groups of a host alone for so many `seconds`"),
    act("/api/v1/ha/start", "Start a resource with what it depends on, or a group"),
    act("/api/v1/ha/stop", "Stop a resource with what depends on it, or a group"),
    act("/api/v1/ha/clear", "Forget all failures, or those of a `target`"),
    act("/api/v1/ha/maintenance", "Leave everything, or a `target`, alone for so many `seconds`"),
    act("/api/v1/ha/takeover", "This manager replaces whichever the agents obeyed until now"),
    act("/api/v1/ha/clear_events", "Begin the list of events anew"),
    act("/api/v1/ha/reload", "Read the configuration again"),
    read("/api/v1/openapi.json", "This document", &[]),
    read("/status", "HALO's status", &[]),
    Operation {
        method: "patch",
        path: "/resources/{root}",
        summary: "HALO's manage and unmanage",
        query: &[],
        command: true,
    },
    act("/hosts/{id}", "HALO's commands for hosts"),
    act("/clear_events", "HALO's events clear"),
];

fn command_body() -> Value {
    let text = json!({"type": "string"});
    json!({"required": false, "content": {"application/json": {"schema": {
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "reason": text, "to": text, "target": text,
            "dry_run": {"type": "boolean"}, "force": {"type": "boolean"},
            "seconds": {"type": "integer", "minimum": 0},
            "action": {"type": "string", "enum": ["on", "off", "status"]},
        },
    }}}})
}

fn halo_body(path: &str) -> Value {
    let properties = match path {
        "/resources/{root}" => {
            json!({"managed": {"type": "boolean"}, "comment": {"type": ["string", "null"]}})
        }
        _ => {
            json!({"command": {"type": "string", "enum": ["failback", "fence", "activate", "deactivate", "reset"]},
            "force": {"type": "boolean"}, "comment": {"type": ["string", "null"]}})
        }
    };
    json!({"content": {"application/json": {"schema": {"type": "object", "properties": properties}}}})
}

fn operation(operation: &Operation) -> Value {
    let ours = operation.path.starts_with("/api");
    let in_path = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter = |name: &str, place: &str, required: bool| json!({"name": name, "in": place, "required": required, "schema": {"type": "string"}});
    let parameters: Vec<Value> = in_path
        .map(|name| parameter(name, "path", true))
        .chain(operation.query.iter().map(|name| parameter(name, "query", false)))
        .collect();
    let mut described = json!({
        "summary": operation.summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done, or what would be done (dry run)"},
            "default": {"description": "400 invalid, 404 no such thing, 409 not now or not without force, 422 not understood, \
                503 stopping"},
        },
    });
    if operation.command && operation.path != "/clear_events" {
        described["requestBody"] = if ours { command_body() } else { halo_body(operation.path) };
    }
    if operation.command && ours {
        described["responses"]["202"] =
            json!({"description": "Accepted: `command` is its number, `consequences` what follows"});
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
            "title": "coordinatool, high availability",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "On a unix socket for root. All answers below /api/v1 are {\"errors\": [], \"response\": ..., \
                \"success\": true}.",
        },
        "paths": paths,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_described_once() {
        let mut seen = std::collections::BTreeSet::new();
        for one in OPERATIONS {
            assert!(seen.insert((one.method, one.path)), "{} {}", one.method, one.path);
        }
    }
}
