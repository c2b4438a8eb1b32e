//! `coordinatool-client ha`, and `halo` with HALO's own syntax and output.
//!
//! [`options`] (and [`halo`]) say what there is to ask for, [`api`] speaks with the manager, [`act`] hands commands in and waits for
//! them ([`asking`] first where much is at stake), [`status`] and [`events`] show. [`ca`], [`validate`] and [`discover`] need no manager.

pub mod act;
pub mod api;
pub mod asking;
pub mod ca;
pub mod discover;
pub mod events;
pub mod halo;
pub mod options;
pub mod overview;
pub mod status;
pub mod text;
pub mod validate;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};

use self::act::{Order, carry_out};
use self::api::{Api, segment};
use self::options::{Command, EventsCommand, Options, SOCKET};
use crate::ha::ids::CommandId;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is well: 0.
    Done,
    /// It failed, was refused, or there is no manager: 1. What is wrong was said.
    Failed,
    /// It was called wrongly: 2.
    Usage,
    /// The configuration is wrong: 64, as HALO has it.
    BadConfiguration,
    /// Ctrl-C: 130.
    Interrupted,
}

impl Outcome {
    /// Says what is wrong with the command line.
    fn usage(error: &str) -> Self {
        complain(error);
        Outcome::Usage
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        ExitCode::from(match outcome {
            Outcome::Done => 0,
            Outcome::Failed => 1,
            Outcome::Usage => 2,
            Outcome::BadConfiguration => 64,
            Outcome::Interrupted => 130,
        })
    }
}

/// What errors begin with.
static PROGRAM: OnceLock<&str> = OnceLock::new();

/// Says why something failed; nobody can be told if that does not work.
fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "{}: {message}", PROGRAM.get_or_init(|| "coordinatool-client"));
}

/// Prints a line. A reader that has gone away (`| head`) ends the program, as it would by SIGPIPE.
fn say(line: &str) {
    print(&format!("{line}\n"));
}

/// See [`say`].
fn print(text: &str) {
    let mut out = io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// The program `coordinatool-client ha`: arguments from `ha` on.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut command = Options::command().bin_name("coordinatool-client ha");
    let parsed = command.try_get_matches_from_mut(args);
    let options = match parsed.and_then(|matches| Options::from_arg_matches(&matches)) {
        Ok(options) => options,
        Err(error) => return usage(&error),
    };
    run_async(async move { run(options).await })
}

/// The program `halo`.
pub fn halo_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    halo::main(args)
}

/// Help and version end well, everything else with 2.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() { Outcome::Usage.into() } else { Outcome::Done.into() }
}

fn run_async(work: impl Future<Output = Outcome>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work).into(),
        Err(error) => {
            complain(&format!("cannot begin: {error}"));
            Outcome::Failed.into()
        }
    }
}

/// Where the manager listens.
fn socket(given: Option<PathBuf>, variables: &[&str]) -> PathBuf {
    let from = |name: &&str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    given.or_else(|| variables.iter().find_map(from)).unwrap_or_else(|| PathBuf::from(SOCKET))
}

async fn run(options: Options) -> Outcome {
    let api = Api::new(&socket(options.socket, &["COORDINATOOL_HA_SOCKET", "HALO_SOCKET"]));
    let host =
        |host: &str, verb: &str| Order::new(format!("/api/v1/ha/hosts/{}/{verb}", segment(host)), host);
    let group =
        |group: &str, verb: &str| Order::new(format!("/api/v1/ha/groups/{}/{verb}", segment(group)), group);
    let each = |names: &[String], order: &dyn Fn(&str) -> Order| -> Vec<Order> {
        names.iter().map(|name| order(name)).collect()
    };
    let (orders, acting) = match options.command {
        Command::Status(options) => return status::run(&api, &options).await,
        Command::Events(options) => match options.clear {
            Some(EventsCommand::Clear(acting)) => {
                (vec![Order::new("/api/v1/ha/clear_events".to_owned(), "events")], acting)
            }
            None => return events::run(&api, &options).await,
        },
        Command::History { object, json } => return events::history(&api, &object, json).await,
        Command::Wait { number, json } => return act::wait_for(&api, CommandId(number), json).await,
        Command::Validate(options) => return validate::run(&options).await,
        Command::Discover(options) => return discover::run(&options, false).await,
        Command::Completion { shell, halo } => return completion(shell, halo),
        Command::Ca(command) => return ca::run(&command),
        Command::Reload(options) => return asking::reload(&api, options).await,
        Command::Takeover(options) => return asking::takeover(&api, options).await,
        Command::Manage(options) => (each(&options.groups, &|name| group(name, "manage")), options.acting),
        Command::Unmanage(options) => {
            (each(&options.groups, &|name| group(name, "unmanage")), options.acting)
        }
        Command::Activate(hosts) => match text::hosts(&hosts.hosts) {
            Ok(names) => (each(&names, &|name| host(name, "activate")), hosts.acting),
            Err(error) => return Outcome::usage(&error),
        },
        Command::Reset(hosts) => match text::hosts(&hosts.hosts) {
            Ok(names) => (each(&names, &|name| host(name, "reset")), hosts.acting),
            Err(error) => return Outcome::usage(&error),
        },
        Command::Deactivate { hosts, force } => match text::hosts(&hosts.hosts) {
            Ok(names) => (each(&names, &|name| host(name, "deactivate").with("force", force)), hosts.acting),
            Err(error) => return Outcome::usage(&error),
        },
        Command::Fence { hosts, force } => match text::hosts(&hosts.hosts) {
            Ok(names) => (each(&names, &|name| host(name, "fence").with("force", force)), hosts.acting),
            Err(error) => return Outcome::usage(&error),
        },
        Command::Power { action, hosts } => match text::hosts(&hosts.hosts) {
            Ok(names) => {
                (each(&names, &|name| host(name, "power").with("action", action.word())), hosts.acting)
            }
            Err(error) => return Outcome::usage(&error),
        },
        Command::Failback { onto, acting } => (vec![host(&onto, "failback")], acting),
        Command::ConfirmOff { host: name, yes_it_is_off, acting } => {
            let order = host(&name, "confirm_off");
            if !yes_it_is_off && !acting.dry_run {
                let asked =
                    asking::preview(&api, &order, "--yes-it-is-off says that you have made sure").await;
                if asked != Outcome::Done {
                    return asked;
                }
                if !asking::confirm_off(&name) {
                    return Outcome::Usage;
                }
            }
            (vec![order], acting)
        }
        Command::Move { group: name, to, acting } => {
            let order = group(&name, "move");
            (
                vec![match to {
                    Some(to) => order.with("to", to),
                    None => order,
                }],
                acting,
            )
        }
        Command::Start(target) => {
            let order = Order::new("/api/v1/ha/start".to_owned(), &target.target);
            (vec![order.with("target", target.target)], target.acting)
        }
        Command::Stop(target) => {
            let order = Order::new("/api/v1/ha/stop".to_owned(), &target.target);
            (vec![order.with("target", target.target)], target.acting)
        }
        Command::Clear(anything) => {
            let order = Order::new("/api/v1/ha/clear".to_owned(), "all");
            (
                vec![match anything.target {
                    Some(target) => order.with("target", target),
                    None => order,
                }],
                anything.acting,
            )
        }
        Command::Maintenance { object, time, end: _, acting } => {
            let seconds = time.unwrap_or(Duration::ZERO).as_secs();
            match maintenance(&api, object.as_deref()).await {
                Ok(order) => (vec![order.with("seconds", seconds)], acting),
                Err(error) => {
                    complain(&error);
                    return Outcome::Failed;
                }
            }
        }
    };
    carry_out(&api, &orders, &acting).await
}

/// Prints a script for a shell.
fn completion(shell: clap_complete::Shell, halo: bool) -> Outcome {
    if !halo {
        print(&super::hsm::completion(shell));
        return Outcome::Done;
    }
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut halo::options::Options::command(), "halo", &mut script);
    print(&String::from_utf8_lossy(&script));
    Outcome::Done
}

/// Finds out whether a name is a group or a host.
async fn maintenance(api: &Api, object: Option<&str>) -> Result<Order, String> {
    let Some(name) = object else {
        return Ok(Order::new("/api/v1/ha/maintenance".to_owned(), "cluster"));
    };
    let status: crate::ha::status::Status =
        api.get("/api/v1/ha/status").await.map_err(|error| error.to_string())?;
    let is_group = status.groups.iter().any(|group| group.id.as_str() == name);
    let is_host = status.hosts.iter().any(|host| host.id.as_str() == name);
    let kind = match (is_group, is_host) {
        (true, false) => "groups",
        (false, true) => "hosts",
        (true, true) => return Err(format!("'{name}' is a group and a host")),
        (false, false) => return Err(format!("'{name}' is neither a group nor a host")),
    };
    Ok(Order::new(format!("/api/v1/ha/{kind}/{}/maintenance", segment(name)), name))
}
