//! The agent's command line, with HALO's names where HALO has them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{ArgAction, Parser};

/// Options of `coordinatool-agent`.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "coordinatool-agent",
    args_override_self = true,
    about = "Starts, stops and monitors resources of this server for coordinatool",
    version
)]
pub struct Options {
    /// Listen on the first address of this machine inside this network, for instance 192.168.1.0/24
    #[arg(long, value_name = "CIDR", env = "HALO_NET")]
    pub network: Option<String>,
    /// Listen on this address (repeatable; wins over --network; default: all addresses)
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<IpAddr>,
    /// Listen on this port; 0 lets the system choose
    #[arg(long, value_name = "PORT", env = "HALO_PORT", default_value_t = 8000)]
    pub port: u16,
    /// Name of this host in the manager's configuration (default: what `hostname` prints)
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Directory that holds resource.d
    #[arg(long, value_name = "DIR", env = "OCF_ROOT", default_value = "/usr/lib/ocf")]
    pub ocf_root: PathBuf,
    /// Directory of what must survive a restart
    #[arg(long, value_name = "DIR", default_value = "/var/lib/coordinatool/agent")]
    pub state_dir: PathBuf,
    /// Directory of ca.crt, NAME.crt and NAME.key
    #[arg(long, value_name = "DIR", default_value = "/etc/coordinatool/tls")]
    pub tls_dir: PathBuf,
    /// Certificate of the authority (default: ca.crt in --tls-dir)
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Certificate of this host (default: NAME.crt in --tls-dir)
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Its key, readable by root only (default: NAME.key in --tls-dir)
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Subject of a manager's certificate that a site's own authority issued (repeatable)
    #[arg(long, value_name = "NAME")]
    pub trust_manager: Vec<String>,
    /// Only for tests: no certificates. Refused unless every address listened on is loopback
    #[arg(long)]
    pub insecure_loopback: bool,
    /// Accepted for HALO's sake: certificates are always needed
    #[arg(long, hide = true)]
    pub mtls: bool,
    /// Hardware watchdog to reset this server by when it is cut off, where the manager's configuration asks for it
    #[arg(long, value_name = "DEVICE")]
    pub watchdog: Option<PathBuf>,
    /// What is known about watchdogs
    #[arg(long, value_name = "DIR", default_value = "/sys/class/watchdog", hide = true)]
    pub watchdog_class: PathBuf,
    /// A cgroup hierarchy other than the one that is mounted
    #[arg(long, value_name = "DIR")]
    pub cgroup_root: Option<PathBuf>,
    /// Do without cgroups
    #[arg(long)]
    pub no_cgroups: bool,
    /// HALO_TEST_ID for resource agents of tests
    #[arg(long, value_name = "ID", hide = true)]
    pub test_id: Option<String>,
    /// Write the address listened on into this file, once it is
    #[arg(long, value_name = "FILE", hide = true)]
    pub address_file: Option<PathBuf>,
    /// What tells boots of this machine apart, where several agents of tests play machines of their own
    #[arg(long, value_name = "FILE", default_value = "/proc/sys/kernel/random/boot_id", hide = true)]
    pub boot_id: PathBuf,
    /// Log more (repeatable)
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

/// Whether what is given can be understood.
///
/// # Errors
/// What is wrong with it.
pub fn check(options: &Options) -> Result<(), String> {
    options.network.as_deref().map_or(Ok(()), |network| Network::parse(network).map(drop))
}

/// Where to listen.
///
/// # Errors
/// When no address of this machine is inside the network yet.
pub fn addresses(options: &Options) -> Result<Vec<SocketAddr>, String> {
    let port = options.port;
    if let (Some(network), true) = (&options.network, options.listen.is_empty()) {
        let wanted = Network::parse(network)?;
        let local = if_addrs::get_if_addrs().map_err(|error| format!("cannot list addresses: {error}"))?;
        let mut local: Vec<IpAddr> = local.iter().map(if_addrs::Interface::ip).collect();
        // HALO takes the first.
        local.retain(|address| wanted.contains(*address));
        let first = local.first().ok_or_else(|| format!("no address of this machine is in {network}"))?;
        return Ok(vec![SocketAddr::new(*first, port)]);
    }
    Ok(options.listen.iter().map(|address| SocketAddr::new(*address, port)).collect())
}

/// An address and a number of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a network (192.168.1.0/24 would be one)");
        let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits: u8 = bits.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if bits > most { Err(wrong()) } else { Ok(Self { address, bits }) }
    }

    fn contains(self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(self.bits)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for (network, address, inside) in [
            ("192.168.1.0/24", "192.168.1.77", true),
            ("192.168.1.0/24", "192.168.2.77", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.2", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
        ] {
            let found = Network::parse(network).unwrap().contains(address.parse().unwrap());
            assert_eq!(found, inside, "{address} in {network}");
        }
        for wrong in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/129", "x/8", "10.0.0.0/-1"] {
            assert!(Network::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_address_inside_is_used() {
        let options = Options::parse_from(["coordinatool-agent", "--network", "127.0.0.0/8", "--port", "7"]);
        assert_eq!(addresses(&options).unwrap(), ["127.0.0.1:7".parse().unwrap()]);
        let options = Options::parse_from(["coordinatool-agent", "--network", "203.0.113.0/24"]);
        assert!(addresses(&options).unwrap_err().contains("203.0.113.0/24"));
    }
}
