//! What `halo` is asked to do, as HALO's own command line has it (a0fa0b9).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::client::ha::discover::DiscoverOptions;
use crate::client::ha::options::PowerAction;

/// HALO's command line, answered by coordinatool
#[derive(Debug, Parser)]
#[command(name = "halo", bin_name = "halo", version, max_term_width = 110)]
pub struct Options {
    /// The configuration file (validate)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Accepted, and not used: only the manager reads its state
    #[arg(long, global = true, value_name = "FILE", hide = true)]
    pub statefile: Option<PathBuf>,
    /// The manager's socket [default: $HALO_SOCKET, $COORDINATOOL_HA_SOCKET, /run/coordinatool/ha.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Say more
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Accepted, and not used: the manager speaks with the agents
    #[arg(long, global = true, hide = true)]
    pub mtls: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the resources, the hosts and the last events
    Status {
        /// Only what is not as it should be
        #[arg(short = 'x')]
        abnormal: bool,
        /// How many events at most
        #[arg(short, long, default_value_t = 10)]
        event_count: usize,
    },
    /// The history of events
    Events {
        /// What to do with it.
        #[command(subcommand)]
        command: EventsCommand,
    },
    /// Manage a resource group
    Manage(Group),
    /// Leave a resource group alone
    Unmanage(Group),
    /// Let a host run resources again
    Activate(Host),
    /// Move the resources off a host and keep it free
    Deactivate(Host),
    /// Bring the resources whose home a host is back to it
    Failback {
        /// The host
        #[arg(long, value_name = "HOST")]
        onto: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Power a host off and start its resources on its partner
    Fence {
        /// The host, and why.
        #[command(flatten)]
        host: Host,
        /// Although it was fenced already, or its partner cannot take over
        #[arg(long)]
        force: bool,
    },
    /// Let a host be fenced again
    Reset(Host),
    /// Power hosts on or off, or ask whether they are on
    Power(Power),
    /// Check the file given with --config and print a summary
    Validate,
    /// Look at servers over ssh and write a configuration for what they run
    Discover(DiscoverOptions),
}

/// Commands of `events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum EventsCommand {
    /// Print all events
    Show,
    /// Do not print the events until now in `status` any more
    Clear,
}

/// A group to act on.
#[derive(Debug, Args)]
pub struct Group {
    /// The root of the group
    #[arg(value_name = "RESOURCE")]
    pub root: String,
    /// Why
    #[arg(long)]
    pub reason: Option<String>,
}

/// A host to act on.
#[derive(Debug, Args)]
pub struct Host {
    /// The host
    #[arg(value_name = "HOST")]
    pub name: String,
    /// Why
    #[arg(long)]
    pub reason: Option<String>,
}

/// `power`.
#[derive(Debug, Args)]
pub struct Power {
    /// What to do
    pub action: PowerAction,
    /// Hosts: oss1, oss[1-4]; for `status` all if none is given
    #[arg(value_name = "HOST")]
    pub hosts: Vec<String>,
    /// Run this fence agent here instead of asking the manager: powerman, redfish
    #[arg(short, long, value_name = "AGENT")]
    pub fence_agent: Option<String>,
    /// For redfish
    #[arg(short = 'l', long, value_name = "NAME")]
    pub username: Option<String>,
    /// For redfish; `-` reads it from standard input, since the command line can be seen by others
    #[arg(short, long, value_name = "PASSWORD", allow_hyphen_values = true)]
    pub password: Option<String>,
}
