//! What can only be seen on a server: whether scripts are there, and whether something else than the manager starts what is
//! managed. The caller reads the files and asks the system; here they are judged.

use std::collections::{BTreeMap, BTreeSet};

use super::load::Loaded;
use super::model::{Config, Parameter, Resource};
use super::problem::Problem;
use crate::ha::ids::HostId;

/// What is installed on the machine that is asked. An error says what is wrong; what cannot be known here is fine.
pub trait Installed {
    /// The resource agent `provider/type`.
    ///
    /// # Errors
    /// Why it cannot be run.
    fn resource_agent(&self, _kind: &str) -> Result<(), String> {
        Ok(())
    }

    /// The fence agent `fence_NAME`.
    ///
    /// # Errors
    /// Why it cannot be run.
    fn fence_agent(&self, _name: &str) -> Result<(), String> {
        Ok(())
    }

    /// A file with a secret.
    ///
    /// # Errors
    /// Why it cannot be used: missing, or readable for others.
    fn secret(&self, _path: &str) -> Result<(), String> {
        Ok(())
    }
}

/// What of a configuration is not there; each thing once.
pub fn check_installed(loaded: &Loaded, installed: &dyn Installed) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut told = BTreeSet::new();
    let mut tell = |line: Option<&usize>, what: &str, key: String, answer: Result<(), String>| {
        if let Err(message) = answer
            && told.insert(what.to_owned())
        {
            let line = line.copied().unwrap_or(0);
            problems.push(Problem { line, key, ..Problem::of_file(&loaded.file, message) });
        }
    };
    for (id, host) in &loaded.config.hosts {
        let line = loaded.host_lines.get(id);
        for device in host.fencing.iter().flat_map(|level| &level.devices) {
            let key = format!("hosts[{}]", host.position);
            tell(line, &device.agent, key.clone(), installed.fence_agent(&device.agent));
            for parameter in device.parameters.values() {
                if let Parameter::File(file) = parameter {
                    tell(
                        line,
                        file,
                        key.clone(),
                        installed.secret(file).map_err(|error| format!("{file}: {error}")),
                    );
                }
            }
        }
    }
    for (id, resource) in &loaded.config.resources {
        let kind = &resource.spec.kind;
        tell(loaded.resource_lines.get(id), kind, format!("resource {id}"), installed.resource_agent(kind));
    }
    problems.sort_by_key(|problem| problem.line);
    problems
}

/// A file with secrets that others than its owner may read. `mode` is that of the file.
pub fn check_mode(loaded: &Loaded, mode: u32) -> Option<Problem> {
    let (line, key) = loaded.secrets.first()?;
    if mode & 0o077 == 0 {
        return None;
    }
    let message = format!("a secret in a file that others may read (mode {:04o})", mode & 0o7777);
    let hint = format!("chmod 600 {}, or name a file under `secrets`", loaded.file);
    Some(Problem { line: *line, key: key.clone(), ..Problem::of_file(&loaded.file, message) }.hint(hint))
}

/// What a server says about what it starts by itself. What is not known stays empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostFiles<'a> {
    /// `/etc/fstab`.
    pub fstab: &'a str,
    /// `/etc/zfs/zpool.cache`.
    pub zpool_cache: &'a [u8],
    /// `zfs-import-scan.service` is enabled: every pool in sight is imported at boot.
    pub zfs_import_scan: bool,
    /// `/etc/ldev.conf`, if `lustre.service` is enabled: it mounts the targets of this file at boot.
    pub ldev: &'a str,
    /// Output of `zpool get -H -o name,value multihost`.
    pub multihost: &'a str,
}

/// What may run on a host and be started by something else than the manager.
struct Managed<'a> {
    /// Block devices and datasets, and their resources.
    devices: BTreeMap<&'a str, &'a str>,
    mount_points: BTreeMap<&'a str, &'a str>,
    pools: BTreeMap<&'a str, &'a str>,
}

impl<'a> Managed<'a> {
    fn on(config: &'a Config, host: &HostId) -> Self {
        let mut managed =
            Self { devices: BTreeMap::new(), mount_points: BTreeMap::new(), pools: BTreeMap::new() };
        let groups = config.groups.values().filter(|group| group.hosts().any(|candidate| candidate == host));
        for id in groups.flat_map(|group| &group.members) {
            let Some(resource) = config.resources.get(id) else { continue };
            let name = id.as_str();
            let parameter = |key: &str| parameter(resource, key);
            let (devices, mount_points, pools) = match resource.spec.kind.as_str() {
                "lustre/Lustre" => (parameter("target"), parameter("mountpoint"), None),
                "heartbeat/Filesystem" => (parameter("device"), parameter("directory"), None),
                "heartbeat/ZFS" => (None, None, parameter("pool")),
                _ => (None, None, None),
            };
            managed.devices.extend(devices.map(|device| (device, name)));
            managed.mount_points.extend(mount_points.map(|directory| (directory, name)));
            managed.pools.extend(pools.map(|pool| (pool, name)));
        }
        managed
    }

    /// The resource that a device belongs to.
    fn device(&self, device: &str) -> Option<&'a str> {
        let pool = device.split('/').next().and_then(|pool| self.pools.get(pool));
        self.devices.get(device).or(pool).copied()
    }
}

/// What a host mounts or imports by itself although it is managed: then two hosts may use it at once. And pools that have no
/// protection of their own against that.
pub fn check_host(config: &Config, host: &HostId, files: &HostFiles<'_>) -> Vec<Problem> {
    let managed = Managed::on(config, host);
    let mut problems = Vec::new();
    for (number, line) in files.fstab.lines().enumerate() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[device, directory, _kind, options, ..] = fields.as_slice() else { continue };
        if device.starts_with('#') {
            continue;
        }
        let by_hand = options.split(',').any(|option| option == "noauto")
            && !options.split(',').any(|option| option == "x-systemd.automount");
        let mount_point = managed.mount_points.get(directory.trim_end_matches('/')).copied();
        if let Some(resource) = managed.device(device).or(mount_point).filter(|_| !by_hand) {
            let message = format!("{device} is mounted at boot, but resource {resource} is managed");
            let hint = "remove the line, or give it the option noauto";
            let (line, key) = (number + 1, device.to_owned());
            problems.push(Problem { line, key, ..Problem::of_file("/etc/fstab", message) }.hint(hint));
        }
    }
    for (number, line) in files.ldev.lines().enumerate() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[_local, _foreign, _label, device, ..] = fields.as_slice() else { continue };
        let device = device.strip_prefix("zfs:").or_else(|| device.strip_prefix("md:")).unwrap_or(device);
        if let Some(resource) = managed.device(device).filter(|_| !fields[0].starts_with('#')) {
            let message =
                format!("lustre.service mounts {device} at boot, but resource {resource} is managed");
            let (line, key) = (number + 1, device.to_owned());
            let problem = Problem { line, key, ..Problem::of_file("/etc/ldev.conf", message) };
            problems.push(problem.hint("systemctl disable lustre.service"));
        }
    }
    for (pool, resource) in &managed.pools {
        if in_cache(files.zpool_cache, pool) {
            let message = format!("pool {pool} is imported at boot, but resource {resource} is managed");
            let problem =
                Problem { key: (*pool).to_owned(), ..Problem::of_file("/etc/zfs/zpool.cache", message) };
            problems.push(problem.hint(format!("zpool set cachefile=none {pool}")));
        }
        if files.zfs_import_scan {
            let message = format!("it imports pool {pool} at boot, but resource {resource} is managed");
            let problem =
                Problem { key: (*pool).to_owned(), ..Problem::of_file("zfs-import-scan.service", message) };
            problems.push(problem.hint("systemctl disable zfs-import-scan.service"));
        }
        let multihost = files.multihost.lines().filter_map(|line| line.split_once('\t'));
        for (_, value) in multihost.filter(|(name, _)| name == pool) {
            if value.trim() == "off" {
                let message =
                    format!("pool {pool} does not protect itself against a second import (multihost=off)");
                let problem = Problem { key: (*pool).to_owned(), ..Problem::of_file("zpool", message) };
                problems
                    .push(problem.hint(format!("zpool set multihost=on {pool}, with a hostid on each host")));
            }
        }
    }
    problems
}

/// Whether a pool is in a `zpool.cache`: a packed list of names and values in XDR, where a text is its length in four bytes,
/// most significant first, and its bytes.
fn in_cache(cache: &[u8], pool: &str) -> bool {
    let Ok(length) = u32::try_from(pool.len()) else { return false };
    let mut text = length.to_be_bytes().to_vec();
    text.extend_from_slice(pool.as_bytes());
    text.resize(text.len().next_multiple_of(4), 0);
    memchr::memmem::find(cache, &text).is_some()
}

/// A parameter that names a file or device, without the slash that some write at its end.
fn parameter<'a>(resource: &'a Resource, name: &str) -> Option<&'a str> {
    let text = resource.spec.parameters.get(name)?.trim_end_matches('/');
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::config::load;

    const CONFIG: &str = "\
hosts: [{hostname: a, fencing: [{agent: fence_ipmilan, secrets: {password: /etc/bmc}}]}, {hostname: b}, {hostname: c}]
resources:
- {name: pool, kind: heartbeat/ZFS, parameters: {pool: tank}, dependents: [ost, other]}
- {name: ost, kind: lustre/Lustre, parameters: {target: tank/ost0, mountpoint: /mnt/ost0}}
- {name: other, kind: lustre/Lustre, parameters: {target: /dev/mapper/ost1, mountpoint: /mnt/ost1/}}
resource_groups: [{root: pool, home_host: a, failover_hosts: [b]}]
";

    #[test]
    fn what_a_host_starts_by_itself() {
        let config = load(CONFIG, "f").expect("config").config;
        let found = |host: &str, files: HostFiles<'_>| -> Vec<String> {
            check_host(&config, &host.into(), &files).iter().map(ToString::to_string).collect()
        };
        let fstab = "\
# /dev/mapper/ost1 /mnt/ost1 lustre defaults 0 0
/dev/sda1 / ext4 defaults 0 1
/dev/mapper/ost1 /mnt/x lustre noauto 0 0
/dev/mapper/ost1 /mnt/x lustre noauto,x-systemd.automount 0 0
LABEL=ost0 /mnt/ost0 lustre _netdev 0 0
tank/home /home zfs defaults 0 0
short line
mgs@tcp:/lustre /lustre lustre defaults 0 0
";
        let files = HostFiles { fstab, ..Default::default() };
        let lines: Vec<usize> =
            check_host(&config, &"a".into(), &files).iter().map(|found| found.line).collect();
        assert_eq!(lines, [4, 5, 6]);
        assert!(found("c", files).is_empty());

        let ldev = "#local\na b OST0 zfs:tank/ost0\na b OST1 /dev/mapper/ost1\na - X /dev/sdz\n";
        assert_eq!(found("b", HostFiles { ldev, ..Default::default() }).len(), 2);

        let mut cache = b"\x01\0\0\0\0\0\0\0".to_vec();
        cache.extend_from_slice(b"\0\0\0\x05tanks\0\0\0");
        assert!(found("a", HostFiles { zpool_cache: &cache, ..Default::default() }).is_empty());
        cache.extend_from_slice(b"\0\0\0\x04tank\0\0\0\x13");
        let said = found("a", HostFiles { zpool_cache: &cache, ..Default::default() });
        assert!(said.len() == 1 && said[0].contains("cachefile=none tank"), "{said:?}");

        let files =
            HostFiles { zfs_import_scan: true, multihost: "tank\toff\nother\toff\n", ..Default::default() };
        let said = found("a", files);
        assert!(
            said.len() == 2 && said[0].contains("import-scan") && said[1].contains("multihost=on"),
            "{said:?}"
        );
        assert!(found("a", HostFiles { multihost: "tank\ton\n", ..Default::default() }).is_empty());
    }

    #[test]
    fn what_is_not_installed_is_told_once() {
        struct Nothing;
        impl Installed for Nothing {
            fn resource_agent(&self, kind: &str) -> Result<(), String> {
                Err(format!("{kind} is not installed"))
            }
            fn fence_agent(&self, name: &str) -> Result<(), String> {
                Err(format!("{name} is not installed"))
            }
            fn secret(&self, _: &str) -> Result<(), String> {
                Err("no such file".to_owned())
            }
        }
        let loaded = load(CONFIG, "f").expect("config");
        let told: Vec<String> = check_installed(&loaded, &Nothing).iter().map(ToString::to_string).collect();
        let expected = [
            "f:1: hosts[0]: fence_ipmilan is not installed",
            "f:1: hosts[0]: /etc/bmc: no such file",
            "f:3: resource pool: heartbeat/ZFS is not installed",
            "f:4: resource ost: lustre/Lustre is not installed",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn secrets_that_others_may_read() {
        let with = CONFIG.replace("secrets: {password: /etc/bmc}", "parameters: {passwd: x}");
        let loaded = load(&with, "f").expect("config");
        assert!(check_mode(&loaded, 0o100_600).is_none());
        let said = check_mode(&loaded, 0o100_640).expect("readable").to_string();
        assert!(
            said.starts_with("f:1: hosts[0].fencing[0].parameters.passwd: ") && said.contains("0640"),
            "{said}"
        );
        assert!(check_mode(&load(CONFIG, "f").expect("config"), 0o644).is_none());
    }
}
