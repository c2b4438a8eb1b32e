//! The daemon's command line: the options of the C server, and ours under new names.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, Parser};

/// Options as given; what they mean together with environment and file is [`super::config`]'s.
#[derive(Debug, Clone, Default, Parser)]
#[command(
    name = "coordinatool",
    about = "Lustre HSM coordinator in user space",
    override_usage = "coordinatool [OPTIONS] MOUNTPOINT\n       coordinatool [OPTIONS] --lustre none --fsname NAME",
    disable_version_flag = true,
    infer_long_args = true,
    args_override_self = true
)]
pub struct Options {
    /// Address to listen on
    #[arg(short = 'H', long, value_name = "HOST")]
    pub host: Option<String>,
    /// Port to listen on
    #[arg(short, long, value_name = "PORT")]
    pub port: Option<String>,
    /// Log more (repeatable)
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
    /// Log less (repeatable)
    #[arg(short, long, action = ArgAction::Count)]
    pub quiet: u8,
    /// Configuration file, which must exist then
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Archive id to serve (repeatable; replaces those of the configuration file; default: any)
    #[arg(short = 'A', long = "archive", value_name = "ID")]
    pub archive: Vec<String>,
    /// Host of the redis server
    #[arg(long, value_name = "HOST")]
    pub redis_host: Option<String>,
    /// Port of the redis server
    #[arg(long, value_name = "PORT")]
    pub redis_port: Option<String>,
    /// How long a disconnected mover keeps its work, in milliseconds
    #[arg(long, value_name = "MS")]
    pub client_grace: Option<String>,
    /// `none` runs without a Lustre, fed by `queue` requests only
    #[arg(long, value_name = "none|MOUNTPOINT")]
    pub lustre: Option<String>,
    /// Name of the file system: needed with `--lustre none`, else checked
    #[arg(long, value_name = "NAME")]
    pub fsname: Option<String>,
    /// Where requests are kept
    #[arg(long, value_name = "redis|embedded|none")]
    pub store: Option<String>,
    /// Directory of the embedded store
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Socket of the API for the administrator (default: /run/coordinatool/hsm-FSNAME.sock)
    #[arg(long, value_name = "PATH|none")]
    pub api_socket: Option<String>,
    /// Keep resources running on servers as well (HA), as this file says; without MOUNTPOINT and --lustre only that
    #[arg(long, value_name = "FILE")]
    pub ha_config: Option<PathBuf>,
    /// HA: socket of its API
    #[arg(long, value_name = "PATH")]
    pub ha_socket: Option<PathBuf>,
    /// HA: directory of what must survive a restart
    #[arg(long, value_name = "DIR")]
    pub ha_state_dir: Option<PathBuf>,
    /// HA: directory of certificates
    #[arg(long, value_name = "DIR")]
    pub ha_tls_dir: Option<PathBuf>,
    /// HA: start, stop, move and fence (default: only observe)
    #[arg(long)]
    pub manage_resources: bool,
    /// HA, only for tests: no certificates, and only agents on loopback addresses
    #[arg(long)]
    pub insecure_loopback: bool,
    /// Check the configuration, show it, and exit
    #[arg(long)]
    pub check_config: bool,
    /// Print the version
    #[arg(short = 'V', long)]
    pub version: bool,
    /// Where the Lustre file system is mounted
    #[arg(value_name = "MOUNTPOINT")]
    pub mount: Vec<PathBuf>,
}

/// What to do with a command line.
#[derive(Debug, Clone)]
pub enum Command {
    /// Run, or check the configuration.
    Run(Box<Options>),
    /// Print this to standard output and exit with 0.
    Print(String),
    /// Print this to standard error and exit with 1.
    Fail(String),
}

impl Options {
    /// Arguments of `coordinatool ha-manager` for the HA role, if it is wanted.
    pub fn ha_arguments(&self) -> Option<Vec<std::ffi::OsString>> {
        let config = self.ha_config.as_ref()?;
        let mut arguments = vec!["--config".into(), config.into()];
        let with_values = [
            ("--socket", &self.ha_socket),
            ("--state-dir", &self.ha_state_dir),
            ("--tls-dir", &self.ha_tls_dir),
        ];
        for (name, value) in with_values {
            if let Some(value) = value {
                arguments.extend([name.into(), value.into()]);
            }
        }
        let flags =
            [("--manage-resources", self.manage_resources), ("--insecure-loopback", self.insecure_loopback)];
        arguments.extend(flags.iter().filter(|(_, given)| *given).map(|(name, _)| name.into()));
        arguments.extend((0..self.verbose).map(|_| "-v".into()));
        Some(arguments)
    }

    /// Whether only the HA role is wanted.
    pub fn is_ha_only(&self) -> bool {
        self.ha_config.is_some() && self.mount.is_empty() && self.lustre.is_none()
    }
}

/// Reads a command line, the program's name first.
pub fn parse<I, T>(args: I) -> Command
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    match Options::try_parse_from(args) {
        Ok(options) if options.version => Command::Print(version()),
        Ok(options) => Command::Run(Box::new(options)),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => Command::Print(error.to_string()),
        Err(error) => Command::Fail(error.to_string()),
    }
}

/// The line that `-V` prints, in the C server's words.
pub fn version() -> String {
    format!("Coordinatool version {}\n", env!("CARGO_PKG_VERSION"))
}

/// Names of the long options, for documentation tests.
pub fn long_options() -> Vec<String> {
    Options::command().get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Options {
        match parse(std::iter::once("coordinatool").chain(args.iter().copied())) {
            Command::Run(options) => *options,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    #[test]
    fn the_ha_role_gets_its_own_arguments() {
        assert_eq!(run(&["/mnt"]).ha_arguments(), None);
        let both = run(&["--ha-config", "f", "--ha-socket", "s", "--manage-resources", "/mnt"]);
        assert!(!both.is_ha_only());
        assert_eq!(both.ha_arguments().unwrap(), ["--config", "f", "--socket", "s", "--manage-resources"]);
        assert!(run(&["--ha-config", "f"]).is_ha_only());
        assert!(!run(&["--ha-config", "f", "--lustre", "none"]).is_ha_only());
    }

    #[test]
    fn options_of_the_c_server_are_known() {
        let o = run(&["-vv", "-q", "-A", "1", "--archive", "2", "-H", "h", "-p", "1", "-c", "f", "/mnt"]);
        assert_eq!((o.verbose, o.quiet), (2, 1));
        assert_eq!(o.archive, ["1", "2"]);
        assert_eq!((o.host.as_deref(), o.port.as_deref()), (Some("h"), Some("1")));
        assert_eq!(o.mount, [PathBuf::from("/mnt")]);
        // As with getopt, the last one counts.
        assert_eq!(run(&["-p", "1", "--port", "2", "/mnt"]).port.as_deref(), Some("2"));
        let o =
            run(&["/mnt", "--redis-host", "", "--redis-port=6380", "--client-grace", "500", "--arch", "3"]);
        assert_eq!((o.redis_host.as_deref(), o.redis_port.as_deref()), (Some(""), Some("6380")));
        assert_eq!((o.client_grace.as_deref(), o.archive), (Some("500"), vec!["3".to_owned()]));
    }

    #[test]
    fn version_help_and_mistakes() {
        assert!(
            matches!(parse(["c", "-V"]), Command::Print(text) if text.starts_with("Coordinatool version "))
        );
        assert!(matches!(parse(["c", "-h"]), Command::Print(text) if text.contains("--client-grace")));
        assert!(matches!(parse(["c", "--hots", "x"]), Command::Fail(text) if text.contains("--host")));
    }
}
