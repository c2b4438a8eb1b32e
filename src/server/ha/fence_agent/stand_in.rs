//! Keeps BMC passwords out of the process list.
//!
//! `fence_ipmilan` gives ipmitool the password as an argument (fence-agents 4.12), where everybody sees it until ipmitool has
//! overwritten it. So the agent is told no password, and our own program in place of ipmitool; that one becomes ipmitool with
//! the password's file, which exists in our memory only, in place of the password.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::fs::{MemfdFlags, memfd_create};

use super::AgentPath;
use super::identify::IPMI;
use super::input::Values;
use crate::ha::config::FenceDevice;

/// The real ipmitool.
const IPMITOOL: &str = "COORDINATOOL_IPMITOOL";
/// The file with the password.
const PASSWORD_FILE: &str = "COORDINATOOL_IPMITOOL_PASSWORD";
/// Options of ipmitool 1.8 that have a value.
const WITH_VALUE: &[u8] = b"IoHdPfUpCLAtTmzSlbBekyORND";

/// What an agent is told and given instead of the password, while this lives.
pub struct StandIn {
    pub instead: BTreeMap<String, String>,
    pub environment: Vec<(&'static str, OsString)>,
    _password: File,
}

/// Prepares it for a device that needs it, if this program can stand in.
pub fn prepare(path: &AgentPath, device: &FenceDevice, values: &Values) -> io::Result<Option<StandIn>> {
    let is_ipmi = IPMI.iter().any(|(name, _)| *name == device.agent);
    // A site that has its own way there keeps it.
    let own_way = values.get(&["ipmitool_path", "password_script", "passwd_script", "use_sudo", "sudo"]);
    let (Some(program), Some((password, _))) = (path.stand_in(), values.get(&["password", "passwd"])) else {
        return Ok(None);
    };
    let (Some(program), Ok(ipmitool)) = (program.to_str(), path.find("ipmitool")) else { return Ok(None) };
    // The agent splits the line as a shell does.
    let is_plain = program.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte));
    if !is_ipmi || own_way.is_some() || !is_plain {
        return Ok(None);
    }
    let mut file = File::from(memfd_create("password", MemfdFlags::CLOEXEC)?);
    writeln!(file, "{password}")?;
    let mut instead: BTreeMap<String, String> =
        values.names(&["password", "passwd"]).map(|name| (name.to_owned(), "-".to_owned())).collect();
    instead.insert("ipmitool_path".to_owned(), program.to_owned());
    let file_name = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let environment = vec![(IPMITOOL, ipmitool.into_os_string()), (PASSWORD_FILE, file_name.into())];
    Ok(Some(StandIn { instead, environment, _password: file }))
}

/// Becomes ipmitool if this program was called in its place by a fence agent that we called; to be called first of all by
/// the daemon. Gives an exit code if that failed, and `None` if this is an ordinary start.
pub fn stand_in_for_ipmitool() -> Option<ExitCode> {
    let (ipmitool, file) = (std::env::var_os(IPMITOOL)?, std::env::var_os(PASSWORD_FILE)?);
    let arguments = arguments(std::env::args_os().skip(1), file);
    let error = Command::new(&ipmitool).args(arguments).exec();
    eprintln!("cannot run {}: {error}", Path::new(&ipmitool).display());
    Some(ExitCode::FAILURE)
}

/// The arguments for ipmitool: the password is read from a file.
fn arguments(given: impl IntoIterator<Item = OsString>, file: OsString) -> Vec<OsString> {
    let mut arguments = vec!["-f".into(), file];
    let mut given = given.into_iter();
    while let Some(argument) = given.next() {
        match argument.as_bytes() {
            b"-E" => {}
            b"-P" | b"-f" => {
                given.next();
            }
            [b'-', option] if WITH_VALUE.contains(option) => {
                arguments.push(argument);
                arguments.extend(given.next());
            }
            [b'-', ..] => arguments.push(argument),
            _ => {
                arguments.push(argument);
                arguments.extend(given.by_ref());
            }
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_replaced_by_its_file() {
        for (given, wanted) in [
            (
                "-I lanplus -H bmc1 -p 623 -U -P -P - -C 3 -L ADMINISTRATOR -N 2 chassis power status",
                "-f F -I lanplus -H bmc1 -p 623 -U -P -C 3 -L ADMINISTRATOR -N 2 chassis power status",
            ),
            ("-P -", "-f F"),
            ("-P", "-f F"),
            ("-E -v -f x chassis -P x", "-f F -v chassis -P x"),
            ("", "-f F"),
        ] {
            let given = given.split_whitespace().map(OsString::from);
            let wanted: Vec<OsString> = wanted.split_whitespace().map(OsString::from).collect();
            assert_eq!(arguments(given, "F".into()), wanted);
        }
    }
}
