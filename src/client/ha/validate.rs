//! `validate`: all that is wrong with a configuration file, or a summary of it.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::options::ValidateOptions;
use super::text::Table;
use super::{Outcome, complain, print, say};
use crate::ha::config::{
    Config, HostFiles, Installed, Loaded, Problem, check_host, check_installed, check_mode, load,
};
use crate::ha::ids::HostId;
use crate::system::fence_path::AgentPath;

/// Larger files are not read.
const MAX_FILE: u64 = 64 << 20;
/// How long a command of the system may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where a configuration is looked for.
const FILES: [&str; 2] = ["/etc/coordinatool/ha.yaml", "/etc/halo/halo.conf"];

/// Checks what the options say.
pub async fn run(options: &ValidateOptions) -> Outcome {
    let path = options
        .file
        .clone()
        .or_else(|| std::env::var_os("HALO_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from))
        .or_else(|| FILES.iter().map(PathBuf::from).find(|path| path.exists()));
    let Some(path) = path else {
        complain(&format!("there is no configuration: neither {} nor {}", FILES[0], FILES[1]));
        return Outcome::BadConfiguration;
    };
    let Some(loaded) = read(&path) else { return Outcome::BadConfiguration };
    if !options.host_checks {
        return Outcome::Done;
    }
    let problems = here(&loaded, &options.ocf_root).await;
    if problems.is_empty() {
        say("nothing is missing on this host, and nothing starts by itself what is managed");
        return Outcome::Done;
    }
    for problem in problems {
        complain(&problem.to_string());
    }
    Outcome::Failed
}

/// Checks a file.
pub fn file(path: &Path) -> Outcome {
    if read(path).is_some() { Outcome::Done } else { Outcome::BadConfiguration }
}

/// Reads and checks a file, and says all there is to say about it.
fn read(path: &Path) -> Option<Loaded> {
    let name = path.display().to_string();
    let text = match content(path).and_then(|bytes| {
        String::from_utf8(bytes)
            .map_err(|error| format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
    }) {
        Ok(text) => text,
        Err(error) => {
            complain(&format!("{name}: {error}"));
            return None;
        }
    };
    match load(&text, &name) {
        Ok(loaded) => {
            let mode = std::fs::metadata(path).map(|data| data.permissions().mode()).unwrap_or(0);
            for warning in loaded.warnings.iter().chain(&check_mode(&loaded, mode)) {
                complain(&format!("warning: {warning}"));
            }
            print(&summary(&loaded.config));
            Some(loaded)
        }
        Err(problems) => {
            for problem in &problems {
                complain(&problem.to_string());
            }
            let count = problems.len();
            complain(&format!("{name}: {count} {}", if count == 1 { "problem" } else { "problems" }));
            None
        }
    }
}

fn content(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE { Err(format!("longer than {MAX_FILE} bytes")) } else { Ok(bytes) }
}

/// Hosts with their fence devices, groups with their hosts.
fn summary(config: &Config) -> String {
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let mut out = format!(
        "cluster {}: {}, {}, {}\n\n",
        config.settings.cluster,
        count(config.hosts.len(), "host"),
        count(config.groups.len(), "group"),
        count(config.resources.len(), "resource")
    );
    let mut hosts: Vec<_> = config.hosts.values().collect();
    hosts.sort_by_key(|host| host.position);
    let mut table = Table::new(&["HOST", "AGENT", "FENCING"]);
    for host in hosts {
        let levels: Vec<String> = host
            .fencing
            .iter()
            .map(|level| {
                level.devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>().join(" + ")
            })
            .collect();
        let fencing = if levels.is_empty() { "none".to_owned() } else { levels.join(", else ") };
        let address = match host.address.contains(':') {
            true => format!("[{}]:{}", host.address, host.port),
            false => format!("{}:{}", host.address, host.port),
        };
        table.row(vec![host.id.to_string(), address, fencing]);
    }
    table.print(&mut out);
    let mut groups: Vec<_> = config.groups.values().collect();
    groups.sort_by_key(|group| group.position);
    let mut table = Table::new(&["GROUP", "HOME", "FAILOVER", "RESOURCES"]);
    for group in groups {
        let names = |ids: Vec<String>| ids.join(" ");
        table.row(vec![
            group.id.to_string(),
            group.home.to_string(),
            names(group.failover.iter().map(ToString::to_string).collect()),
            names(group.members.iter().map(ToString::to_string).collect()),
        ]);
    }
    out.push('\n');
    table.print(&mut out);
    out
}

/// What is installed here.
struct Here<'a> {
    ocf_root: &'a Path,
}

fn executable(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(data) if data.is_file() && data.permissions().mode() & 0o111 != 0 => Ok(()),
        Ok(_) => Err(format!("{} cannot be executed", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

impl Installed for Here<'_> {
    fn resource_agent(&self, kind: &str) -> Result<(), String> {
        executable(&self.ocf_root.join("resource.d").join(kind))
    }

    fn fence_agent(&self, name: &str) -> Result<(), String> {
        AgentPath::from_environment().find(name).map(drop)
    }

    fn secret(&self, path: &str) -> Result<(), String> {
        let data = std::fs::metadata(path).map_err(|error| error.to_string())?;
        let mode = data.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(format!("others may read it (mode {:04o}); chmod 600 {path}", mode & 0o7777));
        }
        Ok(())
    }
}

/// Looks at this host.
async fn here(loaded: &Loaded, ocf_root: &Path) -> Vec<Problem> {
    let mut problems = check_installed(loaded, &Here { ocf_root });
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let short = name.split('.').next().unwrap_or(&name);
    let of_this = |host: &&HostId| {
        host.as_str() == name || host.as_str() == short || host.as_str().split('.').next() == Some(short)
    };
    let Some(host) = loaded.config.hosts.keys().find(of_this) else {
        complain(&format!(
            "{name} is no host of this configuration: what it mounts by itself was not checked"
        ));
        return problems;
    };
    let fstab = std::fs::read_to_string("/etc/fstab").unwrap_or_default();
    let cache = content(Path::new("/etc/zfs/zpool.cache")).unwrap_or_default();
    let scan = is_enabled("zfs-import-scan.service").await;
    let ldev = if is_enabled("lustre.service").await {
        std::fs::read_to_string("/etc/ldev.conf").unwrap_or_default()
    } else {
        String::new()
    };
    let multihost = output("zpool", &["get", "-H", "-o", "name,value", "multihost"]).await;
    let files = HostFiles {
        fstab: &fstab,
        zpool_cache: &cache,
        zfs_import_scan: scan,
        ldev: &ldev,
        multihost: &multihost,
    };
    problems.extend(check_host(&loaded.config, host, &files));
    problems
}

async fn is_enabled(unit: &str) -> bool {
    output("systemctl", &["is-enabled", unit]).await.trim() == "enabled"
}

/// What a command prints; nothing if it cannot be run, or takes too long.
async fn output(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(std::process::Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(Err(_)) => String::new(),
        Err(_) => {
            complain(&format!("warning: {program} did not answer within {} s", PATIENCE.as_secs()));
            String::new()
        }
    }
}
