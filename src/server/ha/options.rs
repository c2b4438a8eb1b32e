//! The command line of the HA role, with HALO's names and variables where HALO has them.

use std::path::{Path, PathBuf};

use clap::{ArgAction, Args, Parser};

/// Where the configuration is, unless told.
pub const CONFIG: &str = "/etc/coordinatool/ha.yaml";
/// Where HALO has its own.
pub const HALO_CONFIG: &str = "/etc/halo/halo.conf";
/// Where the API listens, unless told.
pub const SOCKET: &str = "/run/coordinatool/ha.sock";
/// Where the state is, unless told.
pub const STATE_DIR: &str = "/var/lib/coordinatool/ha";
/// HALO's state file, imported once.
pub const HALO_STATE: &str = "/etc/halo/halo.state";

/// `coordinatool ha-manager`.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "coordinatool ha-manager",
    args_override_self = true,
    about = "Keeps resources running on exactly one server each, through the agents on the servers",
    version
)]
pub struct Options {
    /// What is the same however the role is started.
    #[command(flatten)]
    pub ha: HaOptions,
    /// Log more (repeatable)
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

/// Options of the HA role.
#[derive(Debug, Clone, Default, Args)]
pub struct HaOptions {
    /// Configuration (default: /etc/coordinatool/ha.yaml, else HALO's /etc/halo/halo.conf)
    #[arg(long, visible_alias = "ha-config", value_name = "FILE", env = "HALO_CONFIG")]
    pub config: Option<PathBuf>,
    /// Socket of the API
    #[arg(long, visible_alias = "ha-socket", value_name = "PATH", env = "HALO_SOCKET", default_value = SOCKET)]
    pub socket: PathBuf,
    /// Directory of what must survive a restart
    #[arg(long, visible_alias = "ha-state-dir", value_name = "DIR", default_value = STATE_DIR)]
    pub state_dir: PathBuf,
    /// HALO's state file, read once when there is no state yet
    #[arg(long, value_name = "FILE", env = "HALO_STATEFILE", default_value = HALO_STATE)]
    pub statefile: PathBuf,
    /// Start, stop, move and fence (default: only observe)
    #[arg(long)]
    pub manage_resources: bool,
    /// Directory of ca.crt, NAME.crt and NAME.key
    #[arg(long, value_name = "DIR", default_value = "/etc/coordinatool/tls")]
    pub tls_dir: PathBuf,
    /// NAME of the manager's certificate
    #[arg(long, value_name = "NAME", default_value = "manager")]
    pub tls_name: String,
    /// The one name in the certificates of all agents, where a site has them so (HALO)
    #[arg(long, value_name = "NAME", env = "HALO_SERVER_DOMAIN_NAME")]
    pub server_name: Option<String>,
    /// Only for tests: no certificates, and only agents on loopback addresses
    #[arg(long)]
    pub insecure_loopback: bool,
    /// Accepted for HALO's sake: certificates are always needed
    #[arg(long, hide = true)]
    pub mtls: bool,
}

impl HaOptions {
    /// The configuration file: as told, else ours, else HALO's.
    ///
    /// # Errors
    /// When there is none of them.
    pub fn config_file(&self) -> Result<PathBuf, String> {
        if let Some(told) = &self.config {
            return Ok(told.clone());
        }
        let found = [CONFIG, HALO_CONFIG].into_iter().find(|path| Path::new(path).exists());
        found.map(PathBuf::from).ok_or_else(|| {
            format!("there is no configuration: neither {CONFIG} nor {HALO_CONFIG} exists (--config FILE)")
        })
    }
}
