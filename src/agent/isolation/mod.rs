//! How all processes of an operation are found again, whatever they did to hide: a cgroup for each ([`cgroup`]), else what
//! is written in their environments ([`scan`]).

mod cgroup;
mod scan;

use std::ffi::OsString;
use std::io;
use std::path::Path;

use crate::ha::ids::OrderId;
use crate::ha::protocol;

/// The variable that names the order in the environment of its processes.
pub const ORDER: &str = "COORDINATOOL_ORDER";
/// The variable that names the agent.
pub const AGENT: &str = "COORDINATOOL_AGENT";

/// Keeps operations apart.
#[derive(Debug, Clone)]
pub enum Isolation {
    /// A cgroup for each operation.
    Cgroups(cgroup::Cgroups),
    /// By their environment.
    Scan(scan::Scan),
}

impl Isolation {
    /// Cgroups where they can be had, else a scan. `agent` tells the agents of one machine apart.
    pub fn new(agent: &str, root: Option<&Path>) -> Self {
        match cgroup::Cgroups::open(agent, root) {
            Ok(cgroups) => {
                tracing::info!("each operation gets a cgroup of its own below {}", cgroups.describe());
                Self::Cgroups(cgroups)
            }
            Err(error) => {
                tracing::warn!(
                    "no cgroups ({error}): processes of operations are found by their environment, which they can \
                     change to escape"
                );
                Self::Scan(scan::Scan::new(agent))
            }
        }
    }

    /// Only a scan.
    pub fn scan(agent: &str) -> Self {
        Self::Scan(scan::Scan::new(agent))
    }

    /// As managers are told.
    pub fn kind(&self) -> protocol::Isolation {
        match self {
            Self::Cgroups(_) => protocol::Isolation::Cgroup,
            Self::Scan(_) => protocol::Isolation::Scan,
        }
    }

    /// Prepares for an operation: what `exec-in` gets as its first argument.
    ///
    /// # Errors
    /// When there can be no cgroup for it.
    pub fn prepare(&self, order: OrderId) -> io::Result<OsString> {
        match self {
            Self::Cgroups(cgroups) => cgroups.create(order).map(OsString::from),
            Self::Scan(_) => Ok(format!("-{}", std::process::id()).into()),
        }
    }

    /// The variables by which its processes can be told.
    pub fn variables(&self, order: OrderId) -> [(&'static str, String); 2] {
        let agent = match self {
            Self::Cgroups(cgroups) => cgroups.agent(),
            Self::Scan(scan) => scan.agent(),
        };
        [(ORDER, order.to_string()), (AGENT, agent.to_owned())]
    }

    /// Whether any process of an operation is there. In doubt there is.
    pub async fn is_populated(&self, order: OrderId) -> bool {
        match self {
            Self::Cgroups(cgroups) => cgroups.is_populated(order),
            Self::Scan(scan) => {
                let scan = scan.clone();
                in_a_thread(move || scan.is_populated(order)).await.unwrap_or(true)
            }
        }
    }

    /// Sends SIGKILL to every process of an operation. They may be there for some time yet, and may have left others: see
    /// [`Isolation::is_populated`], and call again.
    pub async fn kill(&self, order: OrderId) {
        match self {
            Self::Cgroups(cgroups) => cgroups.kill(order),
            Self::Scan(scan) => {
                let scan = scan.clone();
                let _ = in_a_thread(move || scan.kill(order)).await;
            }
        }
    }

    /// Cleans up after an operation that has no processes. From then on none can come. False when there is one after all:
    /// it came after it was looked.
    #[must_use]
    pub fn remove(&self, order: OrderId) -> bool {
        match self {
            Self::Cgroups(cgroups) => cgroups.remove(order),
            Self::Scan(_) => true,
        }
    }

    /// All operations that have processes; leftovers of others are removed.
    pub fn populated(&self) -> Vec<OrderId> {
        match self {
            Self::Cgroups(cgroups) => cgroups.populated(),
            Self::Scan(scan) => scan.populated(),
        }
    }
}

/// A look at all processes takes long where there are many, and for ever at one whose memory the kernel holds locked.
async fn in_a_thread<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(look).await.ok()
}
