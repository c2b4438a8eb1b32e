//! Devices, calls, and fence agents written by tests.

use std::ffi::OsStr;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use coordinatool::ha::config::{FenceDevice, FenceLevel, Parameter, Secret};
use coordinatool::ha::fencing::{DeviceAction, DeviceAnswer, Goal, PowerChange, Step, Verdict};
use coordinatool::server::ha::fence_agent::call;
use coordinatool::system::fence_path::AgentPath;
use coordinatool::time::Mono;
use harness::TestDirectory;

/// A device whose calls may take as long as a test has patience.
pub fn device(agent: &str, parameters: &[(&str, &str)]) -> FenceDevice {
    let parameter = |(name, value): &(&str, &str)| {
        let value = (*value).to_owned();
        let parameter = match *name {
            "password" => Parameter::Secret(Secret(value)),
            _ => Parameter::Plain(value),
        };
        ((*name).to_owned(), parameter)
    };
    FenceDevice {
        name: format!("{agent}(h1)"),
        agent: agent.to_owned(),
        parameters: parameters.iter().map(parameter).collect(),
        timeout: harness::patience(),
        delay: Duration::ZERO,
        attempts: 1,
    }
}

/// Agents in a test's directory, and those of the distribution.
pub fn agents(directory: &TestDirectory) -> AgentPath {
    AgentPath::new(directory.path().as_os_str(), OsStr::new("/usr/bin:/bin"))
}

/// Writes a fence agent: a shell script with its standard input in `$input` and each `key=value` of it as a variable.
pub fn write_agent(directory: &TestDirectory, name: &str, script: &str) {
    let path = directory.join(name);
    let text = format!(
        "#!/bin/sh\ncd {}\ninput=$(cat)\nwhile IFS='=' read -r key value; do\n\
         case $key in *[!a-z_]*|'') ;; *) eval \"$key=\\$value\" ;; esac\ndone <<END\n$input\nEND\n{script}\n",
        directory.path().display()
    );
    harness::write_program(&path, &text);
}

/// A runtime like the manager's: one thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Calls a device and waits for its answer.
pub fn ask(path: &AgentPath, device: &FenceDevice, action: DeviceAction) -> DeviceAnswer {
    block_on(call(path, device, &"h1".into(), action, device.timeout))
}

/// Carries out a change of power. Only the calls take time; the pauses between them are skipped.
pub fn change(path: &AgentPath, levels: &[&[FenceDevice]], goal: Goal) -> Verdict {
    let level =
        |devices: &&[FenceDevice]| FenceLevel { devices: devices.iter().cloned().map(Arc::new).collect() };
    let mut change = PowerChange::new(levels.iter().map(level).collect(), goal);
    let mut now = Mono(0);
    let mut answer = None;
    block_on(async {
        loop {
            match change.step(now, answer.take()) {
                Step::Over(verdict) => return verdict,
                Step::Wait(until) => now = until,
                Step::Call { level, device, action } => {
                    let device = change.called_device(level, device).unwrap();
                    answer = Some(call(path, device, &"h1".into(), action, device.timeout).await);
                }
            }
        }
    })
}

/// The processes whose command line or environment, as `/proc` shows them, holds a text. Not this one.
pub fn who_shows(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let name = process.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|byte| byte.is_ascii_digit()) || name == std::process::id().to_string() {
            continue;
        }
        for file in ["cmdline", "environ"] {
            let content = fs::read(process.path().join(file)).unwrap_or_default();
            let content = String::from_utf8_lossy(&content).replace('\0', " ");
            if content.contains(text) {
                found.push(format!("{name} {file}: {content}"));
            }
        }
    }
    found
}
