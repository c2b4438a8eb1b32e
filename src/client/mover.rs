//! `-R` and `--drain`: a mover for debugging, which shows the work it gets, and calls it done or not.
//!
//! Like the C client it shows whatever answer comes, whichever it waits for.

use std::io::Write;

use serde_json::Value;

use super::connection::{Connection, ConnectionError};
use super::output::Output;
use super::settings::Settings;
use crate::wire::client::{write_done, write_recv};
use crate::wire::layout;
use lustreapi_sys::Fid;

/// Why it stopped.
#[derive(Debug, thiserror::Error)]
pub enum MoverError {
    /// The connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// Standard output.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
    /// What the server said was shown and cannot be worked with.
    #[error("the server's answer cannot be used")]
    Unusable,
    /// What the server said is none of the answers there are.
    #[error("unexpected answer from the server: {0}")]
    Unexpected(String),
}

/// Shows an answer as the C client does: its name, and the JSON with an indent of two.
///
/// # Errors
/// Fails as writing does.
pub fn show(name: &str, reply: &[u8], output: &mut Output<impl Write>) -> std::io::Result<()> {
    let mut json = Vec::with_capacity(reply.len() * 2);
    layout::indented(reply, &mut json);
    output.text(&format!("Got {name} reply:\n"))?;
    output.direct(&json)?;
    output.text("\n")
}

/// Asks for work again and again. With `done` everything that comes is reported as done with success, which ends the
/// request at the server.
///
/// # Errors
/// Fails when the connection ends or an answer cannot be used; what came is shown first.
pub fn run(
    connection: &mut Connection,
    settings: &Settings,
    done: bool,
    mut answers: Option<u32>,
    output: &mut Output<impl Write>,
) -> Result<(), MoverError> {
    let limit = |limit: Option<u32>| limit.map_or(-1, |limit| i32::try_from(limit).unwrap_or(i32::MAX));
    let mut recv = Vec::new();
    let Settings { max_archive, max_restore, max_remove, hal_size, .. } = *settings;
    write_recv(limit(max_archive), limit(max_restore), limit(max_remove), hal_size, &mut recv);
    connection.send(&recv)?;
    while answers != Some(0) {
        answers = answers.map(|answers| answers - 1);
        let reply = connection.receive(None)?;
        let value: Value =
            serde_json::from_slice(&reply).map_err(|error| MoverError::Unexpected(error.to_string()))?;
        match value.get("command").and_then(Value::as_str) {
            Some(name @ ("status" | "done" | "queue")) => show(name, &reply, output)?,
            Some("recv") => {
                show("recv", &reply, output)?;
                let keys = match work(&value) {
                    Ok(keys) => keys,
                    Err(missing) => {
                        output.text(missing)?;
                        return Err(MoverError::Unusable);
                    }
                };
                if done {
                    for (cookie, dfid) in keys {
                        let mut message = Vec::new();
                        write_done(cookie, dfid, 0, &mut message);
                        connection.send(&message)?;
                    }
                }
                connection.send(&recv)?;
            }
            _ => {
                return Err(MoverError::Unexpected(
                    String::from_utf8_lossy(&reply).chars().take(200).collect(),
                ));
            }
        }
    }
    Ok(())
}

/// Cookie and data FID of each item, or what C says on standard output about a list that it cannot use.
fn work(reply: &Value) -> Result<Vec<(u64, Fid)>, &'static str> {
    let list = reply.get("hsm_action_list").ok_or("no hal\n")?;
    let items = list.get("list").ok_or("no hal->list\n")?;
    let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
    let keys = items.iter().map(key).collect::<Option<Vec<_>>>();
    keys.ok_or("cookie/dfid not set - version mismatch?\n")
}

fn key(item: &Value) -> Option<(u64, Fid)> {
    let dfid = item.get("hai_dfid")?.as_object().filter(|dfid| dfid.len() == 3)?;
    let part = |name| dfid.get(name).and_then(wide);
    // C packs the smaller parts as signed integers.
    let narrow = |name| part(name).map(|number| number as u32);
    Some((wide(item.get("hai_cookie")?)?, Fid::new(part("f_seq")?, narrow("f_oid")?, narrow("f_ver")?)))
}

/// 64 bits, signed or not.
fn wide(number: &Value) -> Option<u64> {
    number.as_u64().or_else(|| number.as_i64().map(|number| number as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_read_and_what_is_missing_is_named_as_in_c() {
        let item = r#"{"hai_cookie": 66189199606, "hai_dfid": {"f_seq": 8589935617, "f_oid": -2147483647, "f_ver": 0}}"#;
        let list = |items: &str| format!(r#"{{"hsm_action_list": {{"list": {items}}}, "command": "recv"}}"#);
        let read = |reply: &str| work(&serde_json::from_str(reply).unwrap());
        let key = (66_189_199_606, Fid::new(0x2_0000_0401, 0x8000_0001, 0));
        assert_eq!(read(&list(&format!("[{item}, {item}]"))), Ok(vec![key, key]));
        assert_eq!(read(&list("[]")), Ok(vec![]));
        assert_eq!(read(r#"{"command": "recv", "status": 22}"#), Err("no hal\n"));
        assert_eq!(read(r#"{"hsm_action_list": {}, "command": "recv"}"#), Err("no hal->list\n"));
        let unset = "cookie/dfid not set - version mismatch?\n";
        for bad in [
            item.replace("hai_cookie", "cookie"),
            item.replace("f_ver\": 0", "f_ver\": 0, \"more\": 1"),
            item.replace("-2147483647", "\"1\""),
            "3".to_owned(),
        ] {
            assert_eq!(read(&list(&format!("[{item}, {bad}]"))), Err(unset), "{bad}");
        }
    }
}
