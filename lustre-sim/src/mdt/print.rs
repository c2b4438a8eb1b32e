//! The texts that `lctl` and `lfs` print, byte for byte.

use std::fmt::Write;

use lustreapi_sys::abi::{
    HS_ARCHIVED, HS_DIRTY, HS_EXISTS, HS_LOST, HS_NOARCHIVE, HS_NORELEASE, HS_RELEASED,
};

use super::{Action, Agent, CurrentAction, HsmState, Record, Running};

/// The first bytes of the data that are printed (`hai_dump_data_field` with a buffer of 12).
const SHOWN_DATA: usize = 5;

fn hex(data: &[u8]) -> String {
    data.iter().take(SHOWN_DATA).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

/// From `fid=` to `gid=`, which two files have in common.
fn common(record: &Record) -> String {
    format!(
        "fid={} dfid={} compound/cookie=0x0/{:#x} action={} archive#={} flags={:#x} extent={:#x}-{:#x} gid=0x0",
        record.fid,
        record.dfid,
        record.cookie,
        record.action.name(),
        record.archive_id as i32,
        record.flags,
        record.extent.offset,
        record.extent.length,
    )
}

/// A line of `hsm/actions`.
pub(super) fn action_line(record: &Record) -> String {
    format!(
        "lrh=[type=10680000 len={} idx={}/{}] {} datalen={} status={} data=[{}]\n",
        record.lrh_len(),
        record.index.catalogue,
        record.index.record,
        common(record),
        record.data.len(),
        record.status.name(),
        hex(&record.data),
    )
}

/// A line of `hsm/active_requests`.
pub(super) fn active_request_line(running: &Running) -> String {
    format!(
        "{} data=[{}] canceled={} uuid={} done={}\n",
        common(&running.record),
        hex(&running.record.data),
        u8::from(running.cancel.is_some()),
        running.uuid,
        running.progress.total(),
    )
}

/// A line of `hsm/agents`.
pub(super) fn agent_line(agent: &Agent) -> String {
    let archives: Vec<String> = agent.archives.iter().map(u32::to_string).collect();
    let archives = if archives.is_empty() { "ANY".to_owned() } else { archives.join(",") };
    let Agent { uuid, current, ok, errors, .. } = agent;
    format!("uuid={uuid} archive_id={archives} requests=[current:{current} ok:{ok} errors:{errors}]\n")
}

/// A parameter as `lctl get_param` prints it: on one line after `name=` if it is one line, otherwise from the next line
/// on. `value` as [`super::Mdt::param`] gives it. Ends with a newline.
pub fn lctl_get_param(name: &str, value: &str) -> String {
    let value = value.strip_suffix('\n').unwrap_or(value);
    if value.contains('\n') { format!("{name}=\n{value}\n") } else { format!("{name}={value}\n") }
}

/// A file's state as `lfs hsm_state` prints it, without the newline.
pub fn lfs_hsm_state(path: &str, state: HsmState) -> String {
    let mut text = format!("{path}: ({:#010x})", state.flags);
    let names = [
        (HS_RELEASED, "released"),
        (HS_EXISTS, "exists"),
        (HS_DIRTY, "dirty"),
        (HS_ARCHIVED, "archived"),
        (HS_NORELEASE, "never_release"),
        (HS_NOARCHIVE, "never_archive"),
        (HS_LOST, "lost_from_hsm"),
    ];
    for (flag, name) in names {
        if state.flags & flag != 0 {
            text.push(' ');
            text.push_str(name);
        }
    }
    if state.archive_id != 0 {
        let _ = write!(text, ", archive_id:{}", state.archive_id as i32);
    }
    text
}

/// A file's current action as `lfs hsm_action` prints it, without the newline.
pub fn lfs_hsm_action(path: &str, current: CurrentAction) -> String {
    let Some(action) = current.action else { return format!("{path}: NOOP") };
    let (name, location) = (action.name(), current.location);
    let end = location.offset.wrapping_add(location.length);
    let state = if current.running { "running" } else { "waiting" };
    if current.running && matches!(action, Action::Archive | Action::Restore) {
        format!("{path}: {name} {state} ({} bytes moved)", location.length)
    } else if end == u64::MAX {
        format!("{path}: {name} {state} (from {} to EOF)", location.offset)
    } else {
        format!("{path}: {name} {state} (from {} to {end})", location.offset)
    }
}
