//! Which machine is behind a BMC.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::input::Values;
use super::process::{self, Ended, Program, Run};
use super::{AgentPath, KEPT, failure};
use crate::ha::config::FenceDevice;
use crate::ha::fencing::{DeviceAnswer, guid_of_ipmitool};

/// Fence agents that are `fence_ipmilan` under another name, and whether `lanplus` is their default (fence-agents 4.12).
pub const IPMI: [(&str, bool); 7] = [
    ("fence_ipmilan", false),
    ("fence_ipmilanplus", true),
    ("fence_idrac", false),
    ("fence_imm", false),
    ("fence_ilo3", true),
    ("fence_ilo4", true),
    ("fence_ilo5", true),
];

/// Asks a BMC for its machine's UUID. Devices without one, and BMCs that are asked in a way that would show a secret, answer
/// [`DeviceAnswer::Unsupported`].
pub async fn identify(
    path: &AgentPath,
    device: &FenceDevice,
    values: &Values,
    limit: Duration,
) -> DeviceAnswer {
    let Some((_, lanplus)) = IPMI.iter().find(|(name, _)| *name == device.agent) else {
        return DeviceAnswer::Unsupported;
    };
    let ipmitool = match values.get(&["ipmitool_path"]) {
        Some((given, _)) => PathBuf::from(given),
        None => match path.find("ipmitool") {
            Ok(found) => found,
            Err(_) => return DeviceAnswer::Unsupported,
        },
    };
    let Some((arguments, password)) = arguments(values, *lanplus) else { return DeviceAnswer::Unsupported };
    let input = format!("{password}\n").into_bytes();
    let program =
        Program { path: &ipmitool, arguments: &arguments, environment: &[], input, kept: KEPT, acts: false };
    match process::run(program, limit).await {
        Ok(run @ Run { ended: Ended::Exited(0), .. }) => {
            guid_of_ipmitool(&run.output.text()).map_or(DeviceAnswer::Unsupported, DeviceAnswer::Uuid)
        }
        Ok(run) => DeviceAnswer::Failed(failure(&run, values)),
        Err(reason) => DeviceAnswer::Failed(reason),
    }
}

/// The arguments of ipmitool and the password that it is given on standard input. `None` if what is configured cannot be
/// passed on without showing it.
fn arguments(values: &Values, lanplus: bool) -> Option<(Vec<OsString>, String)> {
    let lanplus =
        values.get(&["lanplus"]).map_or(lanplus, |(text, _)| matches!(text, "1" | "yes" | "on" | "true"));
    let mut arguments =
        vec!["-I", if lanplus { "lanplus" } else { "lan" }, "-H", plain(values, &["ip", "ipaddr"])??];
    for (option, names) in [
        ("-p", &["ipport"][..]),
        ("-U", &["username", "login"]),
        ("-C", &["cipher"]),
        ("-A", &["auth"]),
        ("-L", &["privlvl"]),
        ("-t", &["target"]),
    ] {
        if let Some(value) = plain(values, names)? {
            arguments.extend([option, value]);
        }
    }
    let strange = values.get(&["password_script", "passwd_script", "hexadecimal_kg"]).is_some();
    let dangerous = arguments.iter().skip(1).step_by(2).any(|value| value.starts_with('-'));
    if strange || dangerous {
        return None;
    }
    arguments.extend(["-f", "/dev/stdin", "mc", "guid"]);
    let password = values.get(&["password", "passwd"]).map_or("", |(password, _)| password);
    Some((arguments.into_iter().map(OsString::from).collect(), password.to_owned()))
}

/// A parameter that is no secret. `None` if it is one.
fn plain<'a>(values: &'a Values, names: &[&str]) -> Option<Option<&'a str>> {
    match values.get(names) {
        Some((_, true)) => None,
        Some((text, false)) => Some(Some(text)),
        None => Some(None),
    }
}
