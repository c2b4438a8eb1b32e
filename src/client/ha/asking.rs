//! Commands that are asked back about.

use std::io::{self, BufRead, IsTerminal};

use serde::Deserialize;

use super::act::{Order, carry_out};
use super::api::{Api, ApiError};
use super::options::{Acting, Asking};
use super::text::one_line;
use super::{Outcome, complain, print, say};
use crate::ha::command::Accepted;

/// Whether there is somebody to ask; says so if not.
fn can_ask(without: &str) -> bool {
    let can = io::stdin().is_terminal();
    if !can {
        complain(&format!("standard input is not a terminal, so nobody can be asked; {without}"));
    }
    can
}

/// Says what a command would do, before it is asked back about. What the manager refuses is refused before that.
pub(super) async fn preview(api: &Api, order: &Order, without: &str) -> Outcome {
    if !can_ask(without) {
        return Outcome::Usage;
    }
    carry_out(api, std::slice::from_ref(order), &Acting { dry_run: true, ..Acting::default() }).await
}

/// Reads a line of standard input, if that is a terminal.
fn ask(question: &str, without: &str) -> Option<String> {
    if !can_ask(without) {
        return None;
    }
    print(question);
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).ok()?;
    Some(answer.trim().to_owned())
}

/// Whether the operator answers for a host being off.
pub(super) fn confirm_off(host: &str) -> bool {
    complain(&format!(
        "you are about to say that {host} is powered off although no device can tell.\n\
         Its groups are then started on other hosts. If {host} still runs, two servers mount one target,\n\
         and that destroys it. Make sure with your own eyes, or pull its power cords."
    ));
    let question = "Type the name of the host that is off: ";
    match ask(question, "--yes-it-is-off says that you have made sure") {
        Some(answer) if answer == host => true,
        Some(_) => {
            complain("that is another name; nothing was done");
            false
        }
        None => false,
    }
}

/// Whether to go on.
fn go_on(asking: &Asking) -> bool {
    if asking.yes {
        return true;
    }
    match ask("Go on? [y/N] ", "-y goes on without asking") {
        Some(answer) if matches!(answer.as_str(), "y" | "Y" | "yes") => true,
        Some(_) => {
            complain("nothing was done");
            false
        }
        None => false,
    }
}

/// What the manager says of the new file.
#[derive(Debug, Deserialize)]
struct Difference {
    #[serde(default)]
    difference: Vec<String>,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(flatten)]
    accepted: Accepted,
}

/// Shows what is different in the file, asks, and has the manager use it.
pub(super) async fn reload(api: &Api, asking: Asking) -> Outcome {
    let path = "/api/v1/ha/reload";
    let show = !asking.acting.json;
    if asking.acting.dry_run || !asking.yes {
        let answer = api.post::<serde_json::Value>(path, &serde_json::json!({"dry_run": true})).await;
        let parsed = answer.and_then(|value| {
            serde_json::from_value::<Difference>(value.clone())
                .map(|difference| (value, difference))
                .map_err(|error| ApiError::Strange(error.to_string()))
        });
        let (value, difference) = match parsed {
            Ok(answer) => answer,
            Err(error) => {
                let bad = matches!(&error, ApiError::Refused { status, .. } if *status == 422);
                complain(&error.to_string());
                return if bad { Outcome::BadConfiguration } else { Outcome::Failed };
            }
        };
        if show {
            for warning in &difference.warnings {
                complain(&format!("warning: {warning}"));
            }
            for line in &difference.difference {
                say(&one_line(line));
            }
            if difference.difference.is_empty() {
                say("the file says what is in use already");
            }
            for consequence in &difference.accepted.consequences {
                say(&format!("would: {}", one_line(consequence)));
            }
        } else if asking.acting.dry_run {
            say(&value.to_string());
        }
        if asking.acting.dry_run || (difference.difference.is_empty() && show) {
            return Outcome::Done;
        }
        if !go_on(&asking) {
            return Outcome::Usage;
        }
    }
    carry_out(api, &[Order::new(path.to_owned(), "configuration")], &asking.acting).await
}

/// Asks, and has all agents obey this manager.
pub(super) async fn takeover(api: &Api, asking: Asking) -> Outcome {
    let order = Order::new("/api/v1/ha/takeover".to_owned(), "cluster");
    if !asking.yes && !asking.acting.dry_run {
        let asked = preview(api, &order, "-y goes on without asking").await;
        if asked != Outcome::Done {
            return asked;
        }
        complain(
            "after a takeover the agents obey this manager, and no longer the one that they obeyed until now.\n\
             Make sure that the other one is gone, and that the state of this one is not a copy of it.",
        );
        if !go_on(&asking) {
            return Outcome::Usage;
        }
    }
    carry_out(api, &[order], &asking.acting).await
}
