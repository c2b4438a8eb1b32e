//! `halo`: HALO's command line, with HALO's output and messages.

pub mod options;
mod power;
pub mod status;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use serde_json::{Map, Value};

use self::options::{Command, EventsCommand, Options};
use super::act::{End, wait};
use super::api::{Api, ApiError, segment};
use super::{Outcome, PROGRAM, complain, discover, print, run_async, say, socket, usage};
use crate::ha::command::Accepted;

/// The program.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    PROGRAM.get_or_init(|| "halo");
    let options = match Options::try_parse_from(args) {
        Ok(options) => options,
        Err(error) => return usage(&error),
    };
    run_async(async move { run(options).await })
}

/// Says why something failed, in HALO's words and nothing else.
fn tell(message: &str) {
    use std::io::Write;
    // Nobody can be told if that does not work.
    let _ = writeln!(std::io::stderr(), "{message}");
}

async fn run(options: Options) -> Outcome {
    let api = Api::new(&socket(options.socket, &["HALO_SOCKET", "COORDINATOOL_HA_SOCKET"]));
    let (path, verb, subject, reason, force) = match options.command {
        Command::Status { abnormal, event_count } => {
            return match api.get_plain::<status::Cluster>("/status").await {
                Ok(cluster) => {
                    print(&status::render(&cluster, abnormal, event_count, options.verbose));
                    Outcome::Done
                }
                Err(error) => failed(&error),
            };
        }
        Command::Events { command: EventsCommand::Show } => {
            return match api.get_plain::<status::Cluster>("/status").await {
                Ok(cluster) => {
                    for event in cluster.events.iter().filter(|event| event.event != "clear") {
                        say(&event.line());
                    }
                    Outcome::Done
                }
                Err(error) => failed(&error),
            };
        }
        Command::Events { command: EventsCommand::Clear } => {
            let empty = Value::Object(Map::new());
            return match api.post::<Accepted>("/api/v1/ha/clear_events", &empty).await {
                Ok(_) => Outcome::Done,
                Err(ApiError::Refused { errors, .. }) => {
                    tell(&format!("Could not clear events: {}", errors.join("\n")));
                    Outcome::Failed
                }
                Err(error) => failed(&error),
            };
        }
        Command::Power(power) => return power::run(&api, &power).await,
        Command::Discover(discover) => return discover::run(&discover, options.verbose).await,
        Command::Validate => {
            let Some(file) = options.config else {
                tell("Must specify config file using --config.");
                return Outcome::Failed;
            };
            return super::validate::file(&file);
        }
        Command::Manage(group) => ("groups", "manage", group.root, group.reason, None),
        Command::Unmanage(group) => ("groups", "unmanage", group.root, group.reason, None),
        Command::Activate(host) => ("hosts", "activate", host.name, host.reason, None),
        Command::Deactivate(host) => ("hosts", "deactivate", host.name, host.reason, None),
        Command::Failback { onto, reason } => ("hosts", "failback", onto, reason, None),
        Command::Fence { host, force } => ("hosts", "fence", host.name, host.reason, Some(force)),
        Command::Reset(host) => ("hosts", "reset", host.name, host.reason, None),
    };
    let mut body = Map::new();
    if let Some(reason) = reason {
        body.insert("reason".to_owned(), reason.into());
    }
    if let Some(force) = force {
        body.insert("force".to_owned(), force.into());
    }
    let path = format!("/api/v1/ha/{path}/{}/{verb}", segment(&subject));
    match api.post::<Accepted>(&path, &body.into()).await {
        Err(ApiError::Refused { status, errors }) => {
            let not_found = status == 404;
            tell(&refusal(verb, &subject, not_found, &errors.join("\n")));
            Outcome::Failed
        }
        Err(error) => failed(&error),
        // As HALO does: only a fence is waited for.
        Ok(Accepted { command: Some(id), .. }) if verb == "fence" => {
            let verbose = options.verbose;
            let waited = wait(&api, id, |doing| {
                if let (true, Some(doing)) = (verbose, doing) {
                    tell(doing);
                }
            });
            let ended = tokio::select! {
                ended = waited => ended,
                _ = tokio::signal::ctrl_c() => {
                    complain(&format!("command {id} goes on at the manager"));
                    return Outcome::Interrupted;
                }
            };
            match ended {
                Ok(End::Done(_)) => Outcome::Done,
                Ok(End::Failed(reason)) => {
                    tell(&refusal(verb, &subject, false, &reason));
                    Outcome::Failed
                }
                Err(error) => failed(&error),
            }
        }
        Ok(_) => Outcome::Done,
    }
}

fn failed(error: &ApiError) -> Outcome {
    complain(&error.to_string());
    Outcome::Failed
}

/// HALO's sentence for a refusal. The manager's reasons are such sentences already, or their ends.
fn refusal(verb: &str, subject: &str, not_found: bool, reason: &str) -> String {
    let could_not = match verb {
        "manage" | "unmanage" => format!("Could not update '{subject}'"),
        "failback" => format!("Could not perform failback onto '{subject}'"),
        verb => format!("Could not {verb} '{subject}'"),
    };
    if not_found && !matches!(verb, "manage" | "unmanage") {
        return format!("{could_not}: host not found.");
    }
    if reason.starts_with("Could not ") || reason.starts_with("Will not ") {
        return reason.to_owned();
    }
    if verb == "fence" {
        format!("Will not fence '{subject}': {reason}")
    } else {
        format!("{could_not}: {reason}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_halos() {
        for (verb, not_found, reason, wanted) in [
            (
                "fence",
                false,
                "Host has already been fenced.",
                "Will not fence 'h1': Host has already been fenced.",
            ),
            (
                "fence",
                false,
                "Will not fence 'h1': Partner is deactivated.",
                "Will not fence 'h1': Partner is deactivated.",
            ),
            ("fence", true, "Host 'h1' not found.", "Could not fence 'h1': host not found."),
            ("reset", false, "Host has not been fenced.", "Could not reset 'h1': Host has not been fenced."),
            (
                "failback",
                false,
                "Could not perform failback onto 'h1': Host is deactivated. Please activate it before running resources on it.",
                "Could not perform failback onto 'h1': Host is deactivated. Please activate it before running resources on it.",
            ),
            ("manage", true, "Resource group not found.", "Could not update 'h1': Resource group not found."),
        ] {
            assert_eq!(refusal(verb, "h1", not_found, reason), wanted);
        }
    }
}
