//! Parameters: `lctl get_param mdt.*.hsm.*`.

use super::{Action, CallId, ClientId, Effect, Errno, Mdt, Time, print};

/// Parameters of one MDT's coordinator, with Lustre's names and defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// Requests in memory beyond which nothing is sent. At least 1.
    pub max_requests: u64,
    /// Seconds between housekeeping passes. At least 1.
    pub loop_period: u32,
    /// Seconds for which ended records stay in the log. At least 1.
    pub grace_delay: u32,
    /// Seconds without progress after which a started request is cancelled. At least 1.
    pub active_request_timeout: u32,
    /// Archive of files that name none. At least 1.
    pub default_archive_id: u32,
    /// Whether the last unlink of an archived file asks for the copy's removal.
    pub remove_archive_on_last_unlink: bool,
    /// Policy; the start of the coordinator sets it to its default.
    pub policy: Policy,
    /// What a file's owner may request, as `1 << HSMA_*`; the start of the coordinator sets the masks to RESTORE.
    pub user_request_mask: u64,
    /// What a member of a file's group may request.
    pub group_request_mask: u64,
    /// What others may request.
    pub other_request_mask: u64,
}

/// The mask that allows restores only.
pub(super) const RESTORE_ONLY: u64 = 1 << lustreapi_sys::abi::HSMA_RESTORE;

impl Default for Params {
    fn default() -> Self {
        Self {
            max_requests: 3,
            loop_period: 10,
            grace_delay: 60,
            active_request_timeout: 3600,
            default_archive_id: 1,
            remove_archive_on_last_unlink: false,
            policy: Policy::default(),
            user_request_mask: RESTORE_ONLY,
            group_request_mask: RESTORE_ONLY,
            other_request_mask: RESTORE_ONLY,
        }
    }
}

/// `hsm/policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// A read of a released file returns ENODATA instead of blocking (NBR).
    pub non_blocking_restore: bool,
    /// `HP_FLAG_RETRY` is ignored (NRA). The default.
    pub no_retry_action: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { non_blocking_restore: false, no_retry_action: true }
    }
}

/// The names below `hsm/` that are in sysfs, in the order of `lctl get_param`.
pub(super) const SYSFS: [&str; 9] = [
    "active_request_timeout",
    "archive_count",
    "default_archive_id",
    "grace_delay",
    "loop_period",
    "max_requests",
    "remove_archive_on_last_unlink",
    "remove_count",
    "restore_count",
];

/// The names below `hsm/` that are in debugfs, in the order of `lctl get_param`.
pub(super) const DEBUGFS: [&str; 7] = [
    "actions",
    "active_requests",
    "agents",
    "group_request_mask",
    "other_request_mask",
    "policy",
    "user_request_mask",
];

impl Policy {
    fn text(self) -> String {
        let show = |on: bool, name: &str| if on { format!("[{name}]") } else { name.to_owned() };
        let restore = show(self.non_blocking_restore, "NonBlockingRestore");
        format!("{restore} {}\n", show(self.no_retry_action, "NoRetryAction"))
    }

    /// `P1 P2` sets exactly these; with any `+P` or `-P` among them, the others are added too.
    fn change(&mut self, value: &str) -> Result<(), Errno> {
        let mut wanted = Vec::new();
        for token in value.split(['\n', ' ']).filter(|token| !token.is_empty()) {
            let (sign, name) = match token.as_bytes()[0] {
                sign @ (b'+' | b'-') => (Some(sign), &token[1..]),
                _ => (None, token),
            };
            let restore = matches!(name, "NonBlockingRestore" | "NBR");
            if !restore && !matches!(name, "NoRetryAction" | "NRA") {
                return Err(Errno::INVAL);
            }
            wanted.push((sign, restore));
        }
        if wanted.iter().all(|(sign, _)| sign.is_none()) {
            *self = Policy { non_blocking_restore: false, no_retry_action: false };
        }
        // Lustre adds first and removes then.
        for removing in [false, true] {
            for (sign, restore) in &wanted {
                let flag = if *restore { &mut self.non_blocking_restore } else { &mut self.no_retry_action };
                if (*sign == Some(b'-')) == removing {
                    *flag = !removing;
                }
            }
        }
        Ok(())
    }
}

fn mask_text(mask: u64) -> String {
    let mut names = Vec::new();
    if mask & (1 << lustreapi_sys::abi::HSMA_NONE) != 0 {
        names.push("NOOP");
    }
    for action in [Action::Archive, Action::Restore, Action::Remove, Action::Cancel] {
        if mask & (1 << action.hsma()) != 0 {
            names.push(action.name());
        }
    }
    format!("{}\n", names.join(" "))
}

fn mask_of(value: &str) -> Result<u64, Errno> {
    let mut mask = 0;
    for name in value.split([' ', '\t', '\x0b', '\n']).filter(|name| !name.is_empty()) {
        let hsma = if name.eq_ignore_ascii_case("NOOP") {
            lustreapi_sys::abi::HSMA_NONE
        } else {
            let known = [Action::Archive, Action::Restore, Action::Remove, Action::Cancel];
            let action = known.into_iter().find(|action| action.name().eq_ignore_ascii_case(name));
            action.ok_or(Errno::INVAL)?.hsma()
        };
        mask |= 1 << hsma;
    }
    Ok(mask)
}

/// A number as the kernel reads it: `0x` hexadecimal, `0` octal, otherwise decimal.
fn number(value: &str) -> Result<u64, Errno> {
    let value = value.strip_suffix('\n').unwrap_or(value);
    let value = value.strip_prefix('+').unwrap_or(value);
    let lower = value.to_ascii_lowercase();
    let parsed = if let Some(hex) = lower.strip_prefix("0x") {
        u64::from_str_radix(hex, 16)
    } else if lower.len() > 1 && lower.starts_with('0') {
        u64::from_str_radix(&lower[1..], 8)
    } else {
        lower.parse()
    };
    parsed.map_err(|_| Errno::INVAL)
}

/// A number of 32 bits that is not 0.
fn positive(value: &str) -> Result<u32, Errno> {
    match u32::try_from(number(value)?) {
        Ok(0) => Err(Errno::INVAL),
        Ok(number) => Ok(number),
        Err(_) => Err(Errno::RANGE),
    }
}

/// A truth value as the kernel reads it.
fn truth(value: &str) -> Result<bool, Errno> {
    let value = value.strip_suffix('\n').unwrap_or(value).to_ascii_lowercase();
    match value.as_bytes() {
        [b'1' | b'y' | b't', ..] | [b'o', b'n', ..] => Ok(true),
        [b'0' | b'n' | b'f', ..] | [b'o', b'f', ..] => Ok(false),
        _ => Err(Errno::INVAL),
    }
}

impl Mdt {
    /// `hsm/NAME` or `hsm_control` as the file reads, newlines included. `None` for names that do not exist.
    pub fn param(&self, name: &str) -> Option<String> {
        let params = &self.params;
        let count = |action| {
            let of_action = self.running.iter().filter(|running| running.record.action == action);
            format!("{}\n", of_action.count())
        };
        Some(match name {
            "hsm_control" => format!("{}\n", self.state.name()),
            "active_request_timeout" => format!("{}\n", params.active_request_timeout),
            "archive_count" => count(Action::Archive),
            "default_archive_id" => format!("{}\n", params.default_archive_id),
            "grace_delay" => format!("{}\n", params.grace_delay),
            "loop_period" => format!("{}\n", params.loop_period),
            "max_requests" => format!("{}\n", params.max_requests),
            "remove_archive_on_last_unlink" => {
                format!("{}\n", u8::from(params.remove_archive_on_last_unlink))
            }
            "remove_count" => count(Action::Remove),
            "restore_count" => count(Action::Restore),
            "actions" => self.records().map(print::action_line).collect(),
            "active_requests" => self.running().map(print::active_request_line).collect(),
            "agents" => self.agents().iter().map(print::agent_line).collect(),
            "group_request_mask" => mask_text(params.group_request_mask),
            "other_request_mask" => mask_text(params.other_request_mask),
            "policy" => params.policy.text(),
            "user_request_mask" => mask_text(params.user_request_mask),
            _ => return None,
        })
    }

    /// Writes `hsm/NAME` or `hsm_control`. `None`: answered later. EACCES for what can only be read, ENOENT for what does
    /// not exist, EINVAL and ERANGE for values that make no sense.
    pub(super) fn param_set(
        &mut self,
        now: Time,
        caller: (CallId, ClientId),
        name: &str,
        value: &str,
        effects: &mut Vec<Effect>,
    ) -> Option<Result<(), Errno>> {
        if name == "hsm_control" {
            return self.control(now, caller, value, effects);
        }
        Some(self.param_change(name, value))
    }

    fn param_change(&mut self, name: &str, value: &str) -> Result<(), Errno> {
        let params = &mut self.params;
        match name {
            "active_request_timeout" => params.active_request_timeout = positive(value)?,
            "default_archive_id" => params.default_archive_id = positive(value)?,
            "grace_delay" => params.grace_delay = positive(value)?,
            "loop_period" => params.loop_period = positive(value)?,
            "max_requests" => match number(value)? {
                0 => return Err(Errno::INVAL),
                max => params.max_requests = max,
            },
            "remove_archive_on_last_unlink" => params.remove_archive_on_last_unlink = truth(value)?,
            "policy" => params.policy.change(value)?,
            "user_request_mask" => params.user_request_mask = mask_of(value)?,
            "group_request_mask" => params.group_request_mask = mask_of(value)?,
            "other_request_mask" => params.other_request_mask = mask_of(value)?,
            _ if SYSFS.contains(&name) || DEBUGFS.contains(&name) => return Err(Errno::ACCES),
            _ => return Err(Errno::NOENT),
        }
        Ok(())
    }
}
