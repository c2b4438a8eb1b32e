//! Clusters whose hosts are reached over links that can be cut, with certificates as in production. Need root.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use super::cluster::Cluster;
use super::shape::Shape;
use crate::network::FarNetwork;

impl Cluster {
    /// Like [`Cluster::new`], but each host has a network namespace of its own, and agents and manager have certificates made
    /// by `coordinatool-client ha ca`.
    ///
    /// # Errors
    /// When there can be no network namespaces here: why.
    pub fn isolated(shape: Shape) -> Result<Self, String> {
        let mut cluster = Self::new(shape);
        for host in cluster.host_names() {
            let log = cluster.directory().join(format!("{host}.network.log"));
            let network = FarNetwork::start_in(cluster.directory(), &log)?;
            cluster.networks.insert(host, network);
        }
        cluster.write_configuration();
        cluster.make_certificates();
        Ok(cluster)
    }

    /// The link of a host that has one of its own.
    pub fn link(&self, host: &str) -> &FarNetwork {
        self.networks.get(host).unwrap_or_else(|| panic!("{host} has no network of its own"))
    }

    /// Directory of certificates.
    pub fn certificates(&self) -> PathBuf {
        self.directory().join("tls")
    }

    fn make_certificates(&self) {
        let directory = self.certificates();
        let hosts = self.host_names();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let init: &[&str] = &["init", "--name", "test"];
        let manager: &[&str] = &["issue", "manager", "--role", "manager"];
        let agents = [&["issue"], &hosts[..]].concat();
        for arguments in [init, manager, &agents] {
            let mut command = Command::new(self.program("coordinatool-client"));
            command.args(["ha", "ca"]).args(arguments).arg("--dir").arg(&directory);
            let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    /// How agents and the manager know each other.
    pub(super) fn trust(&self) -> Vec<OsString> {
        if self.networks.is_empty() {
            return vec!["--insecure-loopback".into()];
        }
        vec!["--tls-dir".into(), self.certificates().into()]
    }

    /// What starts the agent of a host.
    pub(super) fn agent_prefix(&self, host: &str) -> Vec<String> {
        let mut prefix = self.networks.get(host).map(FarNetwork::prefix).unwrap_or_default();
        prefix.extend_from_slice(&self.shape().agent_prefix);
        prefix
    }
}
