//! Reads what C would find, as strictly as C 0.4 does: where this fails, C would not start.

use std::collections::BTreeMap;

use harness::{Redis, Value};

fn integer(value: &Value, key: &str) -> i64 {
    value[key].as_i64().unwrap_or_else(|| panic!("`{key}` is no integer of 64 bits: {value}"))
}

/// C takes an object of exactly these three, each as `json_unpack` has it: `f_oid` and `f_ver` fit an int.
fn fid(value: &Value, key: &str) -> (u64, u32, u32) {
    let fid = &value[key];
    assert_eq!(fid.as_object().map(|fid| fid.len()), Some(3), "`{key}` has three members: {value}");
    let narrow = |key| i32::try_from(integer(fid, key)).unwrap_or_else(|_| panic!("`{key}`: {value}")) as u32;
    (integer(fid, "f_seq") as u64, narrow("f_oid"), narrow("f_ver"))
}

/// A request as C has it: cookie, data FID, action, data, timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub cookie: u64,
    pub action: i64,
    pub archive_id: i64,
    pub data: String,
    pub timestamp: i64,
    pub mover: Option<String>,
}

/// What a C version would recover.
pub fn read(redis: &Redis<'_>) -> BTreeMap<String, Request> {
    let mut requests = BTreeMap::new();
    for (field, text) in redis.requests() {
        let value: Value = serde_json_strict(&text);
        for key in ["hai_extent_offset", "hai_extent_length", "hai_gid", "hal_flags"] {
            integer(&value, key);
        }
        fid(&value, "hai_fid");
        let (seq, oid, ver) = fid(&value, "hai_dfid");
        let cookie = integer(&value, "hai_cookie") as u64;
        assert_eq!(field, format!("{cookie:016x}{seq:016x}{oid:08x}{ver:08x}"), "{text}");
        let action = integer(&value, "hai_action");
        assert!((20..=22).contains(&action), "{text}");
        let archive_id = integer(&value, "hal_archive_id");
        assert_ne!(archive_id, 0, "hai did not contain archive_id: {text}");
        let data = value["hai_data"].as_str().unwrap_or_else(|| panic!("`hai_data`: {text}")).to_owned();
        let timestamp = integer(&value, "timestamp");
        let request = Request { cookie, action, archive_id, data, timestamp, mover: None };
        requests.insert(field, request);
    }
    for (field, mover) in redis.assigned() {
        assert!(
            field.len() == 48 && field.bytes().all(|b| b.is_ascii_hexdigit()),
            "invalid redis key: {field}"
        );
        let request = requests.get_mut(&field).expect("each assignment has its request");
        request.mover = Some(mover);
    }
    requests
}

/// The text as C writes it: compact, nothing escaped that need not be.
fn serde_json_strict(text: &str) -> Value {
    let value: Value =
        text.parse().unwrap_or_else(|error| panic!("invalid json from redis ({text}): {error}"));
    let bytes: usize = value.to_string().len();
    assert_eq!(bytes, text.len(), "compact: {text}");
    value
}
