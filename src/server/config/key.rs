//! What each key means.

use std::path::PathBuf;
use std::time::Duration;

use super::values::{
    INT_MAX, adopt, api_socket, at_least, command, fsname, host_mapping, metrics_listen, seconds, store, text,
};
use super::{Loader, Lustre, Note, Redis, work_limits};
use crate::config::{parse_int, parse_port, parse_size, parse_switch};
use crate::store::redis;

/// `LONG_MAX / NS_IN_SEC`: the longest time in seconds that C takes.
const MAX_SECONDS: u64 = i64::MAX as u64 / 1_000_000_000;
/// The most ended or failed requests that can be kept.
const MAX_KEPT: u64 = 1_000_000;
const MAX_ARCHIVE_IDS: usize = lustreapi_sys::abi::LL_HSM_MAX_ARCHIVES_PER_AGENT;

impl Loader {
    /// Sets a key to what is said at `place`. An error says what would be right, without the place.
    pub(super) fn set(&mut self, key: &'static str, value: &str, place: &str) -> Result<(), String> {
        let settings = &mut self.settings;
        let millis = |max| parse_int(value, 0, max).map(Duration::from_millis);
        match key {
            "host" => settings.host = text(value)?,
            "port" => settings.port = parse_port(value)?,
            "verbose" => settings.verbose = value.parse()?,
            "redis_host" => {
                let empty = value.is_empty() || value == "\"\"";
                settings.redis = if empty { Redis::Disabled } else { Redis::Configured };
                if !empty {
                    if let Some((host, port)) = value.split_once(':')
                        && port.parse::<u16>().is_ok()
                    {
                        return Err(format!(
                            "`{value}` has a port: set `{host}` here and `redis_port {port}`"
                        ));
                    }
                    settings.redis_server.host = value.to_owned();
                }
            }
            "redis_port" => settings.redis_server.port = parse_int(value, 0, 65535)? as u16,
            "redis_user" => settings.redis_server.user = Some(text(value)?),
            "redis_password_file" => {
                if !value.starts_with('/') {
                    return Err(format!("`{value}` is not an absolute path"));
                }
                settings.redis_server.password_file = Some(PathBuf::from(value));
            }
            "redis_namespace" => {
                redis::check_namespace(value)?;
                settings.redis_server.namespace = value.to_owned();
            }
            "client_grace_ms" => settings.hsm.client_grace = millis(INT_MAX)?,
            "archive_id" => {
                let id = parse_int(value, 1, INT_MAX)? as u32;
                if self.archive_ids.len() >= MAX_ARCHIVE_IDS {
                    return Err(format!("more than {MAX_ARCHIVE_IDS} archive ids"));
                }
                self.archive_ids.push(id);
            }
            "archive_on_hosts" | "archive_on_hosts_ch" => {
                let hashed = key == "archive_on_hosts_ch";
                match host_mapping(value, hashed)? {
                    Some(mapping) => settings.hsm.host_mappings.push(mapping),
                    None => self
                        .notes
                        .push(Note::Info(format!("{place}: skipping {key} `{value}` without hosts"))),
                }
            }
            "batch_archives_slices_sec" => {
                let words: Vec<_> = value.split_whitespace().collect();
                let (idle, max) = match words.as_slice() {
                    [idle] => (*idle, "0"),
                    [idle, max] => (*idle, *max),
                    _ => return Err(format!("`{value}` is not one or two numbers of seconds: IDLE [MAX]")),
                };
                let idle = parse_int(idle, 0, MAX_SECONDS).map_err(|error| format!("idle time: {error}"))?;
                let max = parse_int(max, 0, MAX_SECONDS).map_err(|error| format!("maximum time: {error}"))?;
                self.slice = Some((idle, max));
            }
            "batch_archives_slots_per_client" => self.slots = Some(parse_int(value, 0, INT_MAX)?),
            "reporting_dir" => settings.reporting_dir = Some(text(value)?),
            "reporting_hint" => {
                // C adds the `=` itself; people write it all the same.
                let hint = value.strip_suffix('=').unwrap_or(value);
                if hint.is_empty() || hint.contains([',', '=']) {
                    return Err(format!(
                        "`{value}` is not the name of a hint: `cr` finds `cr=VALUE` in the data"
                    ));
                }
                settings.hsm.reporting_hint = Some(format!("{hint}="));
            }
            "reporting_schedule_interval_ms" => settings.hsm.reporting_interval = millis(MAX_SECONDS * 1000)?,
            "lustre" => {
                let none = value.eq_ignore_ascii_case("none");
                if !none && !value.starts_with('/') {
                    return Err(format!("`{value}` is neither `none` nor the path of a mount point"));
                }
                self.lustre_none = none;
                settings.lustre = if none { Lustre::None } else { Lustre::Mount(PathBuf::from(value)) };
            }
            "fsname" => settings.fsname = Some(fsname(value)?),
            "store" => settings.store = store(value)?,
            "state_dir" => {
                if !value.starts_with('/') {
                    return Err(format!("`{value}` is not an absolute path"));
                }
                settings.state_dir = Some(PathBuf::from(value));
            }
            "api_socket" => settings.api = api_socket(value)?,
            "api_group" => settings.api_group = Some(text(value)?),
            "api_read_group" => settings.api_read_group = Some(text(value)?),
            "metrics_listen" => settings.metrics_listen = metrics_listen(value)?,
            "lease_ms" => settings.hsm.lease = Duration::from_millis(parse_int(value, 100, INT_MAX)?),
            "ageing_remove_ms" => settings.hsm.ageing.remove = millis(MAX_SECONDS)?,
            "ageing_archive_ms" => settings.hsm.ageing.archive = millis(MAX_SECONDS)?,
            "settle_ms" => settings.hsm.settle = millis(INT_MAX)?,
            "request_timeout_sec" => settings.hsm.request_timeout = seconds(value)?,
            "keepalive_running_max_sec" => settings.hsm.keepalive_running_max = seconds(value)?,
            "keepalive_rate" => settings.hsm.keepalive_rate = parse_int(value, 0, 1_000_000)? as u32,
            "stranded_max" => settings.hsm.stranded_max = parse_int(value, 0, INT_MAX)? as u32,
            "stranded_timeout_sec" => settings.hsm.stranded_timeout = seconds(value)?,
            "reconcile_command" => settings.reconcile.command = command(value)?,
            "reconcile_interval_sec" => {
                settings.reconcile.interval = Duration::from_secs(parse_int(value, 0, INT_MAX)?);
            }
            "reconcile_timeout_sec" => {
                settings.reconcile.timeout = Duration::from_secs(parse_int(value, 1, INT_MAX)?);
            }
            "reconcile_adopt" => settings.reconcile.adopt = adopt(value)?,
            "retry_limit" => settings.hsm.retry_limit = parse_int(value, 0, 1000)? as u32,
            "retry_backoff_ms" => {
                settings.hsm.retry_backoff = Duration::from_millis(parse_int(value, 1, INT_MAX)?);
            }
            "dead_letters" => settings.hsm.dead_letters = parse_int(value, 0, MAX_KEPT)? as usize,
            "quarantine_errors" => settings.hsm.quarantine.errors = parse_int(value, 0, INT_MAX)? as u32,
            "quarantine_window_ms" => {
                settings.hsm.quarantine.window = Duration::from_millis(parse_int(value, 1000, INT_MAX)?);
            }
            "quarantine_ms" => {
                settings.hsm.quarantine.time = Duration::from_millis(parse_int(value, 1, INT_MAX)?);
            }
            "limit_mover" => work_limits::mover(value, &mut settings.hsm.limits)?,
            "limit_hint" => work_limits::hint(value, &mut settings.hsm.limits)?,
            "limit_user" => work_limits::user(value, &mut settings.hsm.limits)?,
            "history_size" => settings.hsm.history_size = parse_int(value, 0, MAX_KEPT)? as usize,
            "count_bytes" => settings.hsm.count_bytes = parse_switch(value)?,
            "max_message_size" => settings.limits.message_bytes = at_least(parse_size(value)?, 4096)?,
            "max_message_depth" => settings.limits.depth = parse_int(value, 8, 1024)? as usize,
            "max_client_buffer" => settings.limits.client_buffer = at_least(parse_size(value)?, 65536)?,
            "max_input_buffers" => settings.limits.inputs = at_least(parse_size(value)?, 1 << 20)?,
            "max_connections" => settings.limits.connections = parse_int(value, 0, INT_MAX)? as usize,
            "handshake_timeout_ms" => settings.limits.handshake = millis(INT_MAX)?,
            other => match self
                .scheduling
                .set(other, value)
                .or_else(|| self.locator.set(other, value))
                .or_else(|| settings.security.set(other, value, place))
            {
                Some(result) => result?,
                None => return Err(format!("`{other}` is a key that the server does not know")),
            },
        }
        Ok(())
    }
}
