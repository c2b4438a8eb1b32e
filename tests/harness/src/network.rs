//! A network that can be cut so that neither side is told: a network namespace behind a pair of virtual interfaces. Needs
//! root.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::{Process, TEST_VARIABLE};
use crate::testbed::Testbed;
use crate::wait::{patience, poll};

/// A namespace that is connected to the machine by one link.
#[derive(Debug)]
pub struct FarNetwork {
    holder: Process,
    interface: String,
    near: Ipv4Addr,
    far: Ipv4Addr,
}

impl FarNetwork {
    /// Makes one, or says why that is not possible here.
    pub fn start(bed: &Testbed) -> Result<Self, String> {
        Self::start_in(bed.directory(), &bed.log_path("namespace"))
    }

    /// The same for the test with this directory.
    pub fn start_in(directory: &Path, log: &Path) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return Err("needs root, to make a network namespace".to_owned());
        }
        if Command::new("ip").arg("-V").stdout(Stdio::null()).status().is_err() {
            return Err("needs the command ip (package iproute2)".to_owned());
        }
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "infinity"]).env(TEST_VARIABLE, directory);
        let mut holder = Process::spawn("namespace", command, log);
        let own = std::fs::read_link("/proc/self/ns/net").map_err(|error| error.to_string())?;
        let theirs = format!("/proc/{}/ns/net", holder.id());
        poll(patience(), || {
            let entered = std::fs::read_link(&theirs).is_ok_and(|link| link != own);
            (entered || !holder.is_running()).then_some(())
        });
        if !holder.is_running() {
            return Err(format!("no network namespace can be made: {}", holder.log()));
        }
        // Addresses of 198.18.0.0/15, meant for tests.
        let number = (std::process::id().wrapping_mul(8) + NEXT.fetch_add(1, Ordering::Relaxed)) % (1 << 15);
        let first = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number * 4;
        let (near, far) = (Ipv4Addr::from(first + 1), Ipv4Addr::from(first + 2));
        let network = Self { interface: format!("ct{number}"), near, far, holder };
        let pid = network.holder.id().to_string();
        let peer = format!("{}p", network.interface);
        run(
            "ip",
            &["link", "add", &network.interface, "type", "veth", "peer", "name", &peer, "netns", &pid],
        )?;
        run("ip", &["address", "add", &format!("{near}/30"), "dev", &network.interface])?;
        run("ip", &["link", "set", &network.interface, "up"])?;
        network.run_far(&["ip", "address", "add", &format!("{far}/30"), "dev", &peer])?;
        network.run_far(&["ip", "link", "set", &peer, "up"])?;
        Ok(network)
    }

    /// The machine's address on it.
    pub fn near(&self) -> Ipv4Addr {
        self.near
    }

    /// The address of the far end.
    pub fn far(&self) -> Ipv4Addr {
        self.far
    }

    /// What goes before a command that is to run at the far end.
    pub fn prefix(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.holder.id())]
    }

    /// Cuts it: what is sent is lost from now on, in both directions.
    pub fn cut(&self) {
        self.run_far(&["ip", "link", "set", &format!("{}p", self.interface), "down"])
            .expect("the link can be cut");
    }

    /// Mends what was cut.
    pub fn mend(&self) {
        self.run_far(&["ip", "link", "set", &format!("{}p", self.interface), "up"])
            .expect("the link can be mended");
    }

    /// A firewall at the far end answers all TCP with a reset from now on, or lets it pass again.
    ///
    /// # Errors
    /// When there can be none here.
    pub fn reject(&self, reject: bool) -> Result<(), String> {
        let rules = if reject {
            "add table ip test; add chain ip test in { type filter hook input priority 0; }; \
             add rule ip test in meta l4proto tcp reject with tcp reset"
        } else {
            "delete table ip test"
        };
        self.run_far(&["nft", rules])
    }

    fn run_far(&self, command: &[&str]) -> Result<(), String> {
        let prefix = self.prefix();
        let arguments: Vec<&str> =
            prefix[1..].iter().map(String::as_str).chain(command.iter().copied()).collect();
        run(&prefix[0], &arguments)
    }
}

impl Drop for FarNetwork {
    fn drop(&mut self) {
        // The interfaces go with the namespace; the near one may linger until then.
        let _ = Command::new("ip").args(["link", "delete", &self.interface]).stderr(Stdio::null()).status();
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// Notes that a test cannot run here; it must be listed in `tests/skipped.txt`.
pub fn skip(test: &str, reason: &str) {
    use std::io::Write;

    eprintln!("skipped {test}: {reason}");
    if let Some(path) = std::env::var_os("COORDINATOOL_SKIP_LOG") {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let _ = log.and_then(|mut log| writeln!(log, "{test}\t{reason}"));
    }
}
