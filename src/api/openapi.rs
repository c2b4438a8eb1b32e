//! The OpenAPI document of the HA role.

use axum::Json;
use serde_json::Value;

use super::document::{Members, Operation, act, document as build, read};

/// What may be said with a command. All of it is optional.
const COMMAND: Members = &[
    ("reason", "string"),
    ("to", "string"),
    ("target", "string"),
    ("dry_run", "boolean"),
    ("force", "boolean"),
    ("seconds", "integer"),
    ("action", "on off status"),
];

const fn command(path: &'static str, summary: &'static str) -> Operation {
    act(path, summary, COMMAND).accepted()
}

const OPERATIONS: &[Operation] = &[
    read("/api/v1/ha/status", "Everything at this moment", &[]),
    read(
        "/api/v1/ha/events",
        "What happened, oldest first",
        &[("object", "string"), ("since", "integer"), ("limit", "integer")],
    ),
    read(
        "/api/v1/ha/events/stream",
        "The same as server-sent events, and later ones as they happen",
        &[("object", "string"), ("since", "integer")],
    ),
    read(
        "/api/v1/ha/commands/{id}",
        "How far a command is; `wait`: answer when that changes, or after so many seconds",
        &[("wait", "integer")],
    ),
    command("/api/v1/ha/groups/{id}/manage", "Look at a group anew, then keep it running"),
    command("/api/v1/ha/groups/{id}/unmanage", "Leave a group alone"),
    command("/api/v1/ha/groups/{id}/move", "Move a group `to` a host, or to the best other one"),
    command("/api/v1/ha/groups/{id}/start", "Start a group"),
    command("/api/v1/ha/groups/{id}/stop", "Stop a group and keep it stopped"),
    command("/api/v1/ha/groups/{id}/clear", "Forget the failures of a group and try again"),
    command("/api/v1/ha/groups/{id}/maintenance", "Leave a group alone for so many `seconds`"),
    command("/api/v1/ha/hosts/{id}/activate", "A host may run groups again"),
    command("/api/v1/ha/hosts/{id}/deactivate", "Move everything off a host and keep it free"),
    command("/api/v1/ha/hosts/{id}/failback", "Bring the groups whose home a host is back to it"),
    command("/api/v1/ha/hosts/{id}/fence", "Power a host off and start its groups elsewhere"),
    command("/api/v1/ha/hosts/{id}/reset", "A host may be fenced automatically again"),
    command("/api/v1/ha/hosts/{id}/power", "Power a host `on` or `off`, or ask its devices (`status`)"),
    command(
        "/api/v1/ha/hosts/{id}/confirm_off",
        "An operator has seen that a host is off, and answers for it",
    ),
    command("/api/v1/ha/hosts/{id}/clear", "Forget failures on a host"),
    command("/api/v1/ha/hosts/{id}/maintenance", "Leave the groups of a host alone for so many `seconds`"),
    command("/api/v1/ha/start", "Start a resource with what it depends on, or a group"),
    command("/api/v1/ha/stop", "Stop a resource with what depends on it, or a group"),
    command("/api/v1/ha/clear", "Forget all failures, or those of a `target`"),
    command("/api/v1/ha/maintenance", "Leave everything, or a `target`, alone for so many `seconds`"),
    command("/api/v1/ha/takeover", "This manager replaces whichever the agents obeyed until now"),
    command("/api/v1/ha/clear_events", "Begin the list of events anew"),
    command("/api/v1/ha/reload", "Read the configuration again"),
    read("/api/v1/openapi.json", "This document", &[]),
    read("/status", "HALO's status", &[]),
    act("/resources/{root}", "HALO's manage and unmanage", &[("managed", "boolean"), ("comment", "string")])
        .with_method("patch"),
    act(
        "/hosts/{id}",
        "HALO's commands for hosts",
        &[
            ("command", "failback fence activate deactivate reset"),
            ("force", "boolean"),
            ("comment", "string"),
        ],
    ),
    act("/clear_events", "HALO's events clear", &[]),
];

/// `GET /api/v1/openapi.json`
pub async fn document() -> Json<Value> {
    build("coordinatool, high availability", OPERATIONS)
}

#[cfg(test)]
mod tests {
    /// Also that nothing is described twice.
    #[tokio::test]
    async fn there_is_a_document() {
        let paths = super::document().await.0["paths"].take();
        assert!(paths["/resources/{root}"]["patch"].is_object() && paths["/api/v1/ha/{id}"].is_null());
    }
}
