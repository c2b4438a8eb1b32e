//! The subcommands of `coordinatool-client` and what they take.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Exit codes, for the help.
const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed, refused, or no daemon; 2 called wrongly, or nobody to ask; \
    3 nothing was found that fits; 130 interrupted.";

/// Show, explain and steer the requests of a coordinatool daemon.
#[derive(Debug, Parser)]
#[command(
    name = "coordinatool-client",
    version,
    max_term_width = 110,
    disable_help_subcommand = true,
    after_help = EXIT_CODES
)]
pub struct Options {
    /// Where the daemon is.
    #[command(flatten)]
    pub place: Place,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where the daemon is.
#[derive(Debug, Clone, Default, Args)]
pub struct Place {
    /// The daemon's socket [default: $COORDINATOOL_API_SOCKET, api_socket of the configuration file, or the only one in
    /// /run/coordinatool]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The daemon of this file system, where several run
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "socket")]
    pub fs: Option<String>,
    /// Configuration file [default: $COORDINATOOL_CONF, /etc/coordinatool.conf]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what needs attention, what waits and runs, and the movers
    Status(StatusOptions),
    /// Say why the requests of files are where they are, and how earlier ones ended
    Explain(ExplainOptions),
    /// Show requests that ended, the last first
    History(HistoryOptions),
    /// Show what goes through, by action and archive, mover, owner and tag; live on a terminal
    Top(TopOptions),
    /// Show what happens as it happens: requests, movers, alerts
    Events(EventsOptions),
    /// List requests
    Requests(RequestsOptions),
    /// Show the movers
    Movers(Plain),
    /// Cancel requests: shows what would be cancelled and asks first
    Cancel(CancelOptions),
    /// Give a mover nothing new; it finishes what it has
    Drain(DrainOptions),
    /// Give a drained mover work again
    Undrain(MoverOptions),
    /// Let a mover run at most so many requests at the same time
    Limit(LimitOptions),
    /// Give a mover in quarantine work again at once
    Release(MoverOptions),
    /// Show requests that failed and may be asked for again
    DeadLetters(Plain),
    /// Ask the MDT again for requests that failed
    Retry(RetryOptions),
    /// Forget requests that failed
    Forget(LettersOptions),
    /// Compare what is here with a listing of the MDTs: lctl get_param -n mdt.*.hsm.actions
    Reconcile(ReconcileOptions),
    /// Print a script that has a shell complete all commands
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Output for programs.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Plain {
    /// All of it as JSON
    #[arg(long)]
    pub json: bool,
}

/// `status`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct StatusOptions {
    /// How to show it.
    #[command(flatten)]
    pub plain: Plain,
    /// Show it again and again
    #[arg(short, long)]
    pub watch: bool,
}

/// `explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainOptions {
    /// Files: FIDs (`[0x200000401:0x1:0x0]`), or paths in a mounted file system
    #[arg(required = true, value_name = "FID|PATH")]
    pub files: Vec<String>,
    /// Only the request with this cookie
    #[arg(long, value_name = "COOKIE")]
    pub cookie: Option<String>,
    /// How to show it.
    #[command(flatten)]
    pub plain: Plain,
}

/// `history`.
#[derive(Debug, Clone, Args)]
pub struct HistoryOptions {
    /// Of this file only
    #[arg(value_name = "FID|PATH")]
    pub file: Option<String>,
    /// Only what this mover had last
    #[arg(long, value_name = "ID")]
    pub mover: Option<String>,
    /// Only what did not succeed
    #[arg(long)]
    pub failed: bool,
    /// Only what ended with this errno, by number
    #[arg(long, value_name = "ERRNO")]
    pub status: Option<i32>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// How to show it.
    #[command(flatten)]
    pub plain: Plain,
}

/// `top`.
#[derive(Debug, Clone, Args)]
pub struct TopOptions {
    /// Once, also on a terminal
    #[arg(long)]
    pub once: bool,
    /// How often, on a terminal: 2s, 1m
    #[arg(short, long, value_name = "TIME", value_parser = crate::client::ha::text::duration, default_value = "2s")]
    pub interval: Duration,
    /// At most so many tags, and so many owners (users, groups, projects, jobs, as `fair_share` has it)
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub tags: usize,
    /// How to show it.
    #[command(flatten)]
    pub plain: Plain,
}

/// `events`.
#[derive(Debug, Clone, Args)]
pub struct EventsOptions {
    /// Of requests of this file only
    #[arg(value_name = "FID|PATH")]
    pub file: Option<String>,
    /// Of these only: request, mover, alert (several with commas)
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = ["request", "mover", "alert"])]
    pub kind: Vec<String>,
    /// Of this mover only, and of what it runs
    #[arg(long, value_name = "ID")]
    pub mover: Option<String>,
    /// Only requests that did not succeed
    #[arg(long)]
    pub failed: bool,
    /// End after so many
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<std::num::NonZeroU64>,
    /// How to show it.
    #[command(flatten)]
    pub plain: Plain,
}

/// Which requests. All that is given must fit.
#[derive(Debug, Clone, Default, Args)]
pub struct Selection {
    /// Of these files: FIDs, or paths in a mounted file system
    #[arg(value_name = "FID|PATH")]
    pub files: Vec<String>,
    /// With this hint in the data: `tag=a`, or `tag=` for any value
    #[arg(long, value_name = "HINT")]
    pub hint: Option<String>,
    /// Of files of this user, by name or number, where the daemon looks users up
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// That this mover runs, or that wait for it alone; for failed ones: on which they failed last
    #[arg(long, value_name = "ID")]
    pub mover: Option<String>,
    /// Of this archive id
    #[arg(short = 'A', long, value_name = "ID")]
    pub archive: Option<u32>,
    /// Of this action: archive, restore, remove
    #[arg(long, value_name = "ACTION", value_parser = ["archive", "restore", "remove"], ignore_case = true)]
    pub action: Option<String>,
    /// With this cookie
    #[arg(long, value_name = "COOKIE")]
    pub cookie: Option<String>,
}

/// `requests`.
#[derive(Debug, Clone, Args)]
pub struct RequestsOptions {
    /// Which.
    #[command(flatten)]
    pub which: Selection,
    /// Only in this state
    #[arg(long, value_name = "STATE", value_parser = ["queued", "oversized", "held", "limited", "settling", "running"])]
    pub state: Option<String>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N")]
    pub limit: Option<u64>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// `cancel`.
#[derive(Debug, Clone, Args)]
pub struct CancelOptions {
    /// Which.
    #[command(flatten)]
    pub which: Selection,
    /// Only those that wait
    #[arg(long, conflicts_with = "running")]
    pub waiting: bool,
    /// Only those that run
    #[arg(long)]
    pub running: bool,
    /// All requests
    #[arg(long)]
    pub all: bool,
    /// Only show what would be cancelled
    #[arg(long, conflicts_with_all = ["yes", "wait"])]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Wait until no such request is left: those that run end with their movers
    #[arg(long)]
    pub wait: bool,
    /// Show so many of them
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub examples: usize,
    /// How to show it.
    #[command(flatten)]
    pub plain: Plain,
}

/// `drain`.
#[derive(Debug, Clone, Args)]
pub struct DrainOptions {
    /// Which mover, and how.
    #[command(flatten)]
    pub mover: MoverOptions,
    /// Wait until it runs nothing any more
    #[arg(long)]
    pub wait: bool,
}

/// `undrain`, `release`.
#[derive(Debug, Clone, Args)]
pub struct MoverOptions {
    /// The mover's id
    #[arg(value_name = "MOVER")]
    pub mover: String,
    /// How to show it.
    #[command(flatten)]
    pub plain: Plain,
}

/// `limit`.
#[derive(Debug, Clone, Args)]
pub struct LimitOptions {
    /// Which mover.
    #[command(flatten)]
    pub mover: MoverOptions,
    /// How many; `off` for as many as it asks for
    #[arg(value_name = "N|off", value_parser = limit)]
    pub most: Limit,
}

/// A limit on what a mover runs; `None` for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub Option<u32>);

fn limit(text: &str) -> Result<Limit, String> {
    if text == "off" {
        return Ok(Limit(None));
    }
    text.parse().map(|most| Limit(Some(most))).map_err(|_| format!("{text:?} is neither a number nor `off`"))
}

/// `retry`, `forget`.
#[derive(Debug, Clone, Args)]
pub struct LettersOptions {
    /// Which.
    #[command(flatten)]
    pub which: Selection,
    /// All of them
    #[arg(long)]
    pub all: bool,
    /// How to show it.
    #[command(flatten)]
    pub plain: Plain,
}

/// `retry`.
#[derive(Debug, Clone, Args)]
pub struct RetryOptions {
    /// Which.
    #[command(flatten)]
    pub letters: LettersOptions,
    /// Wait until each has ended well, failed again, or was refused by the MDT
    #[arg(long)]
    pub wait: bool,
}

/// `reconcile`.
#[derive(Debug, Clone, Args)]
pub struct ReconcileOptions {
    /// What `lctl get_param mdt.*.hsm.actions` or `active_requests` printed; `-` for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub file: PathBuf,
    /// The listing is of all MDTs, each as a whole: what is not in it is missed
    #[arg(long)]
    pub all_mdts: bool,
    /// Whose requests that are not known here are adopted: those that were given to this client, everybody's (there is no
    /// other copytool), or none [default: reconcile_adopt of the daemon]
    #[arg(long, value_name = "WHOSE", value_parser = ["own", "all", "none"])]
    pub adopt: Option<String>,
    /// How to show it.
    #[command(flatten)]
    pub plain: Plain,
}
