//! The command line.

use std::path::PathBuf;

/// A small POSIX copytool for the embedded Lustre (and for a real one).
///
/// Archives to files named by FID below a directory, restores from there, removes there. The switches make it behave like
/// other copytools do, also where those misbehave.
#[derive(clap::Parser, Debug, Clone)]
#[command(name = "lustre-sim-copytool", version)]
pub struct Options {
    /// The archive: a directory that exists.
    #[arg(short = 'p', long)]
    pub hsm_root: PathBuf,
    /// Archive id to serve, may be repeated; none or 0 for all.
    #[arg(short = 'A', long = "archive", value_name = "N")]
    pub archives: Vec<i32>,
    /// Actions at once; 0 for a thread for each.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Milliseconds between progress reports while copying.
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    pub progress_interval: u64,
    /// Bytes that are copied at once.
    #[arg(long, default_value_t = 1 << 20, value_parser = clap::value_parser!(u64).range(1..1 << 30))]
    pub chunk: u64,
    /// Bytes a second, 0 for no limit.
    #[arg(short, long, default_value_t = 0)]
    pub bandwidth: u64,
    /// Wait so many milliseconds in each action, reporting progress meanwhile.
    #[arg(long, default_value_t = 0)]
    pub delay_ms: u64,
    /// Register non-blocking, poll the descriptor and receive until there is nothing, as lemur does.
    #[arg(long)]
    pub nonblock: bool,
    /// Go into the background before registering, and print nothing any more.
    #[arg(long)]
    pub daemon: bool,
    /// Carry out each action in a child process, which also ends it.
    #[arg(long)]
    pub fork_per_action: bool,
    /// Acknowledge cancels with an end of their own, as lhsmtool_cmd does.
    #[arg(long)]
    pub ack_cancel: bool,
    /// Never report progress, as lhsmtool_phobos does.
    #[arg(long)]
    pub no_progress: bool,
    /// Drop a restore without an end if its file cannot be found, as lhsmtool_posix does.
    #[arg(long)]
    pub early_return_on_missing: bool,
    /// Drop every REMOVE without begin and end, as a copytool does whose thread dies.
    #[arg(long)]
    pub drop_removes: bool,
    /// End every action with this errno instead of carrying it out.
    #[arg(long, value_name = "ERRNO")]
    pub fail: Option<i32>,
    /// Set HP_FLAG_RETRY when an action fails.
    #[arg(long)]
    pub retry: bool,
    /// A file to which a line is added for each action that begins: `ACTION FID COOKIE DATA`.
    #[arg(long)]
    pub journal: Option<PathBuf>,
    /// A file to which a line of JSON is added for each step of an action: received, begun, dropped, ending,
    /// ended.
    #[arg(long, value_name = "FILE")]
    pub steps: Option<PathBuf>,
    /// A directory: actions that have begun wait as long as it has a file `all`, or one named like their data.
    #[arg(long, value_name = "DIR")]
    pub hold: Option<PathBuf>,
    /// The Lustre mount point.
    pub mount: PathBuf,
}
