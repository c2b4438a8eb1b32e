//! What was done, step by step, as lines of JSON in a file: for tests.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use crate::work::{Item, name};

/// Something that happened to an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It came in a list.
    Received,
    /// `llapi_hsm_action_begin` was called and succeeded.
    Begun,
    /// Left without an end.
    Dropped,
    /// `llapi_hsm_action_end` is about to be called: nothing of the file is touched any more.
    Ending,
    /// `llapi_hsm_action_end` was called: with this errno, or failing with it.
    Ended(i32),
}

/// Adds a line. One write each: lines of several threads and processes do not mix.
pub fn add(path: &Path, step: Step, item: &Item) -> io::Result<()> {
    let (word, errno) = match step {
        Step::Received => ("received", 0),
        Step::Begun => ("begun", 0),
        Step::Dropped => ("dropped", 0),
        Step::Ending => ("ending", 0),
        Step::Ended(errno) => ("ended", errno),
    };
    let mut data = String::with_capacity(item.data.len() * 2);
    for byte in &item.data {
        let _ = write!(data, "{byte:02x}");
    }
    let line = format!(
        "{{\"step\":\"{word}\",\"action\":\"{}\",\"fid\":\"{}\",\"cookie\":{},\"archive_id\":{},\"hai_len\":{},\
         \"data\":\"{data}\",\"errno\":{errno},\"pid\":{},\"mover\":\"{}\"}}\n",
        name(item.action),
        item.fid.to_string().trim_matches(['[', ']']),
        item.cookie,
        item.archive_id,
        item.bytes.len(),
        std::process::id(),
        std::env::var("COORDINATOOL_CLIENT_ID").unwrap_or_default(),
    );
    File::options().append(true).create(true).open(path)?.write_all(line.as_bytes())
}
