//! What `coordinatool-client ha` is asked to do.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::ca::CaCommand;
use super::discover::DiscoverOptions;

/// Where the manager listens unless something else is said.
pub const SOCKET: &str = "/run/coordinatool/ha.sock";

/// Show and steer the high availability of Lustre servers.
#[derive(Debug, Parser)]
#[command(name = "coordinatool-client ha", version, max_term_width = 110, disable_help_subcommand = true)]
pub struct Options {
    /// The manager's socket [default: $COORDINATOOL_HA_SOCKET, $HALO_SOCKET, /run/coordinatool/ha.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show groups, hosts and what needs an operator
    Status(StatusOptions),
    /// Show what happened, oldest first
    Events(EventsOptions),
    /// Show all that happened to a resource, group or host, and its failures that still count
    History {
        /// A resource, group or host
        object: String,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Manage groups again: look at them anew, then act
    Manage(Groups),
    /// Leave groups alone: only look at them
    Unmanage(Groups),
    /// Let hosts run groups again
    Activate(Hosts),
    /// Move all groups off hosts and keep them free
    Deactivate {
        /// Which hosts, and how.
        #[command(flatten)]
        hosts: Hosts,
        /// Although groups then have nowhere to run
        #[arg(long)]
        force: bool,
    },
    /// Bring the groups whose home a host is back to it
    Failback {
        /// The host
        #[arg(long, value_name = "HOST")]
        onto: String,
        /// How it is done.
        #[command(flatten)]
        acting: Acting,
    },
    /// Power hosts off, and start their groups elsewhere
    Fence {
        /// Which hosts, and how.
        #[command(flatten)]
        hosts: Hosts,
        /// Although it was fenced already, or groups then have nowhere to run
        #[arg(long)]
        force: bool,
    },
    /// Let hosts be fenced automatically again
    Reset(Hosts),
    /// Power hosts on or off, or ask their fence devices
    Power {
        /// What
        action: PowerAction,
        /// Which hosts, and how.
        #[command(flatten)]
        hosts: Hosts,
    },
    /// Say that a host is off although no device can tell, and answer for it
    ConfirmOff {
        /// The host
        host: String,
        /// You have made sure that it is off. Without this the host's name must be typed again
        #[arg(long)]
        yes_it_is_off: bool,
        /// How it is done.
        #[command(flatten)]
        acting: Acting,
    },
    /// Move a group
    Move {
        /// The group
        group: String,
        /// Where to [default: the best other host]
        #[arg(long, value_name = "HOST")]
        to: Option<String>,
        /// How it is done.
        #[command(flatten)]
        acting: Acting,
    },
    /// Start a group, or a resource with what it depends on
    Start(Target),
    /// Stop a group, or a resource with what depends on it, and keep it stopped
    Stop(Target),
    /// Forget failures, and try again
    Clear(Anything),
    /// Leave a group, the groups of a host, or everything alone for some time
    Maintenance {
        /// A group or host [default: the cluster]
        object: Option<String>,
        /// For how long: 2h, 30m, 1h30m
        #[arg(long = "for", value_name = "TIME", value_parser = super::text::duration, required_unless_present = "end")]
        time: Option<Duration>,
        /// End it
        #[arg(long, conflicts_with = "time")]
        end: bool,
        /// How it is done.
        #[command(flatten)]
        acting: Acting,
    },
    /// Use the configuration file as it is now; shows what is different and asks first
    Reload(Asking),
    /// Make all agents obey this manager, and no longer the one that they obeyed until now; asks first
    Takeover(Asking),
    /// Wait for the end of a command
    Wait {
        /// Its number
        number: u64,
        /// Print its end as JSON
        #[arg(long)]
        json: bool,
    },
    /// Check a configuration file: all that is wrong with it, where, and what may be meant
    Validate(ValidateOptions),
    /// Look at servers over ssh and write a configuration for what they run
    Discover(DiscoverOptions),
    /// Certificates for agents and managers
    #[command(subcommand)]
    Ca(CaCommand),
    /// Print a script that has a shell complete these commands
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
        /// For the program `halo`
        #[arg(long)]
        halo: bool,
    },
}

/// What all commands that change something have.
#[derive(Debug, Clone, Default, Args)]
pub struct Acting {
    /// Why: kept in the history
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
    /// Do not wait for the end
    #[arg(long)]
    pub no_wait: bool,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// A command that is asked back about.
#[derive(Debug, Args)]
pub struct Asking {
    /// How it is done.
    #[command(flatten)]
    pub acting: Acting,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Groups to act on.
#[derive(Debug, Args)]
pub struct Groups {
    /// Groups, by the names of their roots
    #[arg(required = true, value_name = "GROUP")]
    pub groups: Vec<String>,
    /// How it is done.
    #[command(flatten)]
    pub acting: Acting,
}

/// Hosts to act on.
#[derive(Debug, Args)]
pub struct Hosts {
    /// Hosts: oss1, oss[1-4]
    #[arg(required = true, value_name = "HOST")]
    pub hosts: Vec<String>,
    /// How it is done.
    #[command(flatten)]
    pub acting: Acting,
}

/// A group or resource to act on.
#[derive(Debug, Args)]
pub struct Target {
    /// A group or resource
    pub target: String,
    /// How it is done.
    #[command(flatten)]
    pub acting: Acting,
}

/// Something to act on, or all.
#[derive(Debug, Args)]
pub struct Anything {
    /// A resource, group or host [default: all]
    pub target: Option<String>,
    /// How it is done.
    #[command(flatten)]
    pub acting: Acting,
}

/// `power`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PowerAction {
    /// Power on
    On,
    /// Power off; nothing is started elsewhere for it
    Off,
    /// Ask the devices
    Status,
}

impl PowerAction {
    /// As the API has it.
    pub fn word(self) -> &'static str {
        match self {
            PowerAction::On => "on",
            PowerAction::Off => "off",
            PowerAction::Status => "status",
        }
    }
}

/// `status`.
#[derive(Debug, Clone, Default, Args)]
pub struct StatusOptions {
    /// Only what is not as it should be; nothing if all is well
    #[arg(short = 'x', long)]
    pub abnormal: bool,
    /// All of it as JSON
    #[arg(long)]
    pub json: bool,
    /// Show it again and again
    #[arg(short, long)]
    pub watch: bool,
    /// Parameters, what is known of each host, addresses, the last commands
    #[arg(short, long)]
    pub verbose: bool,
}

/// `events`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct EventsOptions {
    /// Begin the list anew: what happened until now is kept, but not shown any more
    #[command(subcommand)]
    pub clear: Option<EventsCommand>,
    /// Go on as things happen
    #[arg(short, long)]
    pub follow: bool,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Only of this host, group or resource
    #[arg(long, value_name = "NAME")]
    pub object: Option<String>,
    /// Only of the last 1h, 30m, 2d
    #[arg(long, value_name = "TIME", value_parser = super::text::duration)]
    pub since: Option<Duration>,
    /// At most so many, the newest
    #[arg(short = 'n', long, value_name = "N")]
    pub limit: Option<u64>,
}

/// Commands of `events`.
#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// Begin the list anew: what happened until now is kept, but not shown any more
    Clear(Acting),
}

/// `validate`.
#[derive(Debug, Args)]
pub struct ValidateOptions {
    /// The file [default: $HALO_CONFIG, /etc/coordinatool/ha.yaml, /etc/halo/halo.conf]
    pub file: Option<PathBuf>,
    /// Look on this host, too, whether resource and fence agents are there and nothing mounts what is managed
    #[arg(long)]
    pub host_checks: bool,
    /// Where resource agents are
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/ocf", env = "OCF_ROOT")]
    pub ocf_root: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_options_fit_together() {
        Options::command().debug_assert();
        crate::client::ha::halo::options::Options::command().debug_assert();
    }

    /// Every command and option that is not hidden is in the manual page.
    #[test]
    fn the_manual_is_complete() {
        fn check(command: &clap::Command, manual: &str) {
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                if let Some(long) = argument.get_long().filter(|long| !["help", "version"].contains(long)) {
                    assert!(manual.contains(&format!("--{long}")), "--{long} of {}", command.get_name());
                }
            }
            for below in command.get_subcommands() {
                assert!(manual.contains(below.get_name()), "{} of {}", below.get_name(), command.get_name());
                check(below, manual);
            }
        }
        let ours = include_str!("../../../docs/man/coordinatool-client-ha.1").replace("\\-", "-");
        check(&Options::command(), &ours);
        let halo = include_str!("../../../docs/man/halo.1").replace("\\-", "-") + &ours;
        check(&crate::client::ha::halo::options::Options::command(), &halo);
    }
}
