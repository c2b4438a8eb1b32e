//! OpenAPI documents, made of a table of what there is: one for each role.

use std::collections::BTreeSet;

use axum::Json;
use serde_json::{Map, Value, json};

/// Names of members or parameters with their types in the schema. A type of several words is one of them, as text.
pub type Members = &'static [(&'static str, &'static str)];

/// An operation of an API.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    query: Members,
    body: Members,
    /// It takes time: it is accepted, and followed by its number.
    accepted: bool,
}

/// What changes nothing.
pub const fn read(path: &'static str, summary: &'static str, query: Members) -> Operation {
    Operation { method: "get", path, summary, query, body: &[], accepted: false }
}

/// What acts.
pub const fn act(path: &'static str, summary: &'static str, body: Members) -> Operation {
    Operation { method: "post", path, summary, query: &[], body, accepted: false }
}

impl Operation {
    /// With this method.
    pub const fn with_method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    /// With these parameters in the query.
    pub const fn with_query(self, query: Members) -> Self {
        Self { query, ..self }
    }

    /// It is only accepted at first.
    pub const fn accepted(self) -> Self {
        Self { accepted: true, ..self }
    }

    fn describe(&self) -> Value {
        let in_path = self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let parameter = |name: &str, place: &str, kind: &str| {
            let required = place == "path";
            json!({"name": name, "in": place, "required": required, "schema": schema(kind)})
        };
        let parameters: Vec<Value> = in_path
            .map(|name| parameter(name, "path", "string"))
            .chain(self.query.iter().map(|(name, kind)| parameter(name, "query", kind)))
            .collect();
        let mut described = json!({
            "summary": self.summary,
            "parameters": parameters,
            "responses": {
                "200": {"description": "Done, or what was asked for, or what would be done (dry run)"},
                "default": {"description": "400 invalid, 403 not allowed, 404 no such thing, 409 not now or not without \
                    force, 422 not understood, 503 stopping"},
            },
        });
        if !self.body.is_empty() {
            let properties: Map<String, Value> =
                self.body.iter().map(|(name, kind)| ((*name).to_owned(), schema(kind))).collect();
            described["requestBody"] = json!({"content": {"application/json": {"schema": {
                "type": "object", "additionalProperties": false, "properties": properties,
            }}}});
        }
        if self.accepted {
            described["responses"]["202"] =
                json!({"description": "Accepted: `command` is its number, `consequences` what follows"});
        }
        described
    }
}

fn schema(kind: &str) -> Value {
    let words: Vec<&str> = kind.split(' ').collect();
    if words.len() > 1 { json!({"type": "string", "enum": words}) } else { json!({"type": kind}) }
}

/// The document of these operations.
pub fn document(title: &str, operations: &[Operation]) -> Json<Value> {
    let mut paths: Map<String, Value> = Map::new();
    let mut seen = BTreeSet::new();
    for one in operations {
        debug_assert!(seen.insert((one.method, one.path)), "{} {} is described twice", one.method, one.path);
        let path = paths.entry(one.path).or_insert_with(|| json!({}));
        path[one.method] = one.describe();
    }
    Json(json!({
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": env!("CARGO_PKG_VERSION"),
            "description": "On a unix socket for the local administrator. All answers below /api/v1 are {\"errors\": [], \
                \"response\": ..., \"success\": true}.",
        },
        "paths": paths,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_say_what_they_take() {
        let put = act("/a/{id}", "Changes a", &[("why", "string"), ("to", "on off")]);
        let operations = [
            read("/a/{id}", "An a", &[("limit", "integer")]),
            put.with_query(&[("all", "boolean")]).accepted(),
        ];
        let paths = document("a", &operations).0["paths"].take();
        let a = &paths["/a/{id}"];
        let named = |parameter: &Value| parameter["name"].as_str().unwrap().to_owned();
        let names = |one: &Value| -> Vec<String> {
            one["parameters"].as_array().unwrap().iter().map(named).collect()
        };
        assert_eq!(
            (names(&a["get"]), names(&a["post"])),
            (vec!["id".into(), "limit".into()], vec!["id".into(), "all".into()])
        );
        assert!(a["get"]["requestBody"].is_null() && a["get"]["responses"]["202"].is_null());
        assert!(!a["post"]["responses"]["202"].is_null());
        let body = &a["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"];
        assert_eq!(
            *body,
            json!({"why": {"type": "string"}, "to": {"type": "string", "enum": ["on", "off"]}})
        );
    }
}
