//! The subcommands of `coordinatool-client` about requests: `explain`, `cancel`, `top` and the like.
//!
//! They ask the daemon's API ([`place`] says where) and nothing else. [`selection`] turns words into what the API takes,
//! [`questions`] and [`live`] show, [`act`] does. What the C client has is not here: options without a subcommand.

pub mod act;
pub mod events;
pub mod live;
pub mod options;
pub mod place;
pub mod questions;
pub mod reconcile;
pub mod selection;
pub mod words;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use self::options::{Command, Options};
use super::ha::api::{Api, ApiError};

/// How a subcommand ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 0.
    Done,
    /// 1: it failed, was refused, or there is no daemon. What is wrong was said.
    Failed,
    /// 2: it was called wrongly, or there is nobody to ask.
    Usage,
    /// 3: nothing was found that fits.
    Nothing,
    /// 130: Ctrl-C.
    Interrupted,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        ExitCode::from(match outcome {
            Outcome::Done => 0,
            Outcome::Failed => 1,
            Outcome::Usage => 2,
            Outcome::Nothing => 3,
            Outcome::Interrupted => 130,
        })
    }
}

/// Why a subcommand cannot go on.
#[derive(Debug)]
pub enum Stop {
    /// Called wrongly.
    Usage(String),
    /// Anything else.
    Failed(String),
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Failed(match error {
            ApiError::NoManager { socket, why } => format!(
                "no coordinatool daemon listens on {}: {why} (is it running on this host? --socket PATH or --fs NAME \
                 choose another)",
                socket.display()
            ),
            ApiError::Forbidden { socket, why } => format!(
                "cannot reach the daemon on {}: {why}; the socket is for its owner, root as a rule, and for `api_group`",
                socket.display()
            ),
            ApiError::Lost(why) => format!("lost the daemon: {why}"),
            ApiError::Strange(why) => format!("the daemon's answer cannot be read: {why}"),
            refused @ ApiError::Refused { .. } => refused.to_string(),
        })
    }
}

type Run = Result<Outcome, Stop>;

/// Says why something failed; nobody can be told if that does not work.
fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "coordinatool-client: {message}");
}

/// Prints. A reader that has gone away (`| head`) ends the program, as it would by SIGPIPE.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// Prints as JSON, for programs.
fn print_json(value: &impl serde::Serialize) -> Result<(), Stop> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Stop::Failed(error.to_string()))?;
    print(&(text + "\n"));
    Ok(())
}

/// All subcommands with what they do, for the help of the program.
pub fn subcommands() -> Vec<(String, String)> {
    let command = Options::command();
    let about = |one: &clap::Command| one.get_about().map(ToString::to_string).unwrap_or_default();
    command.get_subcommands().map(|one| (one.get_name().to_owned(), about(one))).collect()
}

/// Whether this word is one of them.
pub fn is_subcommand(word: &std::ffi::OsStr) -> bool {
    Options::command().get_subcommands().any(|one| one.get_name() == word)
}

/// Runs one: arguments from the program's name on.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let parsed = Options::command().bin_name("coordinatool-client").try_get_matches_from(args);
    let options = match parsed.and_then(|matches| Options::from_arg_matches(&matches)) {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Outcome::Usage.into() } else { Outcome::Done.into() };
        }
    };
    if let Command::Completion { shell } = options.command {
        print(&completion(shell));
        return Outcome::Done.into();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot begin: {error}"));
            return Outcome::Failed.into();
        }
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = run(options) => outcome,
            Ok(()) = tokio::signal::ctrl_c() => Ok(Outcome::Interrupted),
        }
    });
    match outcome {
        Ok(outcome) => outcome.into(),
        Err(Stop::Usage(error)) => {
            complain(&error);
            Outcome::Usage.into()
        }
        Err(Stop::Failed(error)) => {
            complain(&error);
            Outcome::Failed.into()
        }
    }
}

async fn run(options: Options) -> Run {
    let api = Api::new(&place::socket(&options.place)?);
    match options.command {
        Command::Status(options) => live::status(&api, options).await,
        Command::Top(options) => live::top(&api, &options).await,
        Command::Explain(options) => questions::explain(&api, &options).await,
        Command::History(options) => questions::history(&api, &options).await,
        Command::Events(options) => events::events(&api, &options).await,
        Command::Requests(options) => questions::requests(&api, &options).await,
        Command::Movers(plain) => questions::movers(&api, plain).await,
        Command::DeadLetters(plain) => questions::dead_letters(&api, plain).await,
        Command::Cancel(options) => act::cancel(&api, options).await,
        Command::Drain(options) => act::mover(&api, "drain", &options.mover, options.wait).await,
        Command::Undrain(options) => act::mover(&api, "undrain", &options, false).await,
        Command::Limit(options) => act::limit(&api, &options).await,
        Command::Release(options) => act::mover(&api, "release", &options, false).await,
        Command::Retry(options) => act::retry(&api, options).await,
        Command::Forget(options) => act::forget(&api, options).await,
        Command::Reconcile(options) => reconcile::reconcile(&api, &options).await,
        // Needs no daemon: done before.
        Command::Completion { .. } => Ok(Outcome::Done),
    }
}

/// A script for a shell, with the subcommands of `ha`.
pub fn completion(shell: clap_complete::Shell) -> String {
    let mut command = Options::command().subcommand(super::ha::options::Options::command().name("ha"));
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "coordinatool-client", &mut script);
    // The generator for bash (clap_complete 4.6.11) gives a program with a hyphen in its name two names.
    String::from_utf8_lossy(&script).replace("coordinatool__subcmd__client", "coordinatool__client")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_fit_together() {
        Options::command().debug_assert();
        assert!(is_subcommand("explain".as_ref()) && !is_subcommand("-Q".as_ref()));
        // Words that are taken already.
        for word in ["help", "ha"] {
            assert!(!is_subcommand(word.as_ref()), "{word}");
        }
    }

    /// Every subcommand and option is in the manual page.
    #[test]
    fn the_manual_is_complete() {
        let manual = include_str!("../../../docs/man/coordinatool-client.1").replace("\\-", "-");
        for one in Options::command().get_subcommands() {
            assert!(manual.contains(one.get_name()), "{}", one.get_name());
            for long in one.get_arguments().filter_map(|argument| argument.get_long()) {
                assert!(manual.contains(&format!("--{long}")), "--{long} of {}", one.get_name());
            }
        }
    }
}
