//! `cancel`, `drain`, `undrain`, `release`, `retry`, `forget`.

use std::io::{self, BufRead, IsTerminal};
use std::time::Duration;

use serde_json::{Value, json};

use super::options::{CancelOptions, LettersOptions, LimitOptions, MoverOptions, RetryOptions};
use super::selection::query;
use super::words::{self, count};
use super::{Outcome, Run, Stop, complain, print, print_json};
use crate::client::ha::api::{Api, ApiError, segment};
use crate::client::ha::text::now;
use crate::ops::{CancelReport, DeadLetter, Mover, Select};

/// How long an order may take: millions of requests are gone through in slices.
const LONG: Duration = Duration::from_secs(1800);
/// How often something that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Reads a line of standard input.
fn ask(question: &str) -> Result<bool, Stop> {
    if !io::stdin().is_terminal() {
        let text = "standard input is not a terminal, so nobody can be asked; -y goes on without asking";
        return Err(Stop::Usage(text.to_owned()));
    }
    print(question);
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(|error| Stop::Failed(error.to_string()))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Looks until it is so. A daemon that restarts meanwhile is waited for.
async fn wait_until(mut done: impl AsyncFnMut() -> Result<bool, ApiError>) -> Result<(), Stop> {
    let mut told = false;
    loop {
        match done().await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(ApiError::Lost(_) | ApiError::NoManager { .. }) => {
                if !std::mem::replace(&mut told, true) {
                    complain("lost the daemon; waiting for it to come back");
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What must be selected for an order that changes something.
fn checked(mut select: Select, all: bool, verb: &str) -> Result<Select, Stop> {
    if all && !select.is_everything() {
        return Err(Stop::Usage("--all cannot be with anything that leaves something out".to_owned()));
    }
    if !all && select.is_everything() {
        return Err(Stop::Usage(format!("{verb} what? Name files, or --hint, --mover ..., or --all")));
    }
    select.all = all;
    Ok(select)
}

async fn cancel_order(api: &Api, select: &Select, preview: bool, examples: usize) -> Result<Value, Stop> {
    let body = json!({"select": select, "preview": preview, "examples": examples});
    Ok(api.post_waiting("/api/v1/hsm/cancel", &body, LONG).await?)
}

fn read(report: &Value) -> Result<CancelReport, Stop> {
    serde_json::from_value(report.clone())
        .map_err(|error| Stop::Failed(format!("the daemon's answer cannot be read: {error}")))
}

fn describe(report: &CancelReport) -> String {
    let mut text = format!(
        "{}: {} waiting, {} running",
        count(report.selected, "request"),
        report.waiting,
        report.running
    );
    if report.cancelling > 0 {
        text.push_str(&format!(" ({} of them had a cancel already)", report.cancelling));
    }
    text.push('\n');
    if !report.examples.is_empty() {
        text.push_str(&words::requests(&report.examples));
        let more = report.selected.saturating_sub(report.examples.len() as u64);
        if more > 0 {
            text.push_str(&format!("and {more} more\n"));
        }
    }
    text
}

/// `cancel`: 3 when nothing is selected.
pub async fn cancel(api: &Api, options: CancelOptions) -> Run {
    let mut select = options.which.resolve()?;
    if options.waiting || options.running {
        select.running = Some(options.running);
    }
    let select = checked(select, options.all, "cancel")?;
    let json = options.plain.json;
    if !options.yes {
        let value = cancel_order(api, &select, true, options.examples).await?;
        let report = read(&value)?;
        match json {
            true => print_json(&value)?,
            false if report.selected == 0 => print("no such request is here\n"),
            false => print(&describe(&report)),
        }
        if report.selected == 0 {
            return Ok(Outcome::Nothing);
        }
        if options.dry_run {
            return Ok(Outcome::Done);
        }
        if !ask(&format!("Cancel {}? [y/N] ", if report.selected == 1 { "it" } else { "them" }))? {
            print("nothing was done\n");
            return Ok(Outcome::Usage);
        }
    }
    let value = cancel_order(api, &select, false, if options.yes { options.examples } else { 0 }).await?;
    let report = read(&value)?;
    if json {
        print_json(&value)?;
    } else if report.selected == 0 {
        print("no such request is here\n");
    } else {
        print(&format!("cancelled {}", describe(&report)));
        if report.running > report.cancelling {
            print("those that run end when their movers stop them; a mover that cannot finishes them\n");
        }
    }
    if report.selected == 0 {
        return Ok(Outcome::Nothing);
    }
    if options.wait {
        let body = json!({"select": select, "preview": true, "examples": 0});
        let left = async || api.post_waiting::<CancelReport>("/api/v1/hsm/cancel", &body, LONG).await;
        wait_until(async || Ok(left().await?.selected == 0)).await?;
    }
    Ok(Outcome::Done)
}

/// `drain`, `undrain`, `release`; `wait`: until it runs nothing.
pub async fn mover(api: &Api, verb: &str, options: &MoverOptions, wait: bool) -> Run {
    let path = format!("/api/v1/hsm/movers/{}/{verb}", segment(&options.mover));
    let order = async || api.post_waiting::<Value>(&path, &json!({}), LONG).await;
    if !wait {
        order().await?;
    } else {
        // Ordered twice is the same as once.
        wait_until(async || order().await.map(|_| true)).await?;
        wait_until(async || Ok(running(api, &options.mover).await?.unwrap_or(0) == 0)).await?;
    }
    let running = running(api, &options.mover).await?;
    if options.plain.json {
        print_json(&json!({"mover": options.mover, "order": verb, "running": running}))?;
        return Ok(Outcome::Done);
    }
    let id = &options.mover;
    let text = match (verb, running) {
        ("drain", Some(0)) => format!("{id} gets nothing new and runs nothing"),
        ("drain", Some(running)) => {
            format!("{id} gets nothing new; it still runs {}", count(running, "request"))
        }
        ("drain", None) => format!("{id} is not known now; it gets nothing when it comes"),
        ("undrain", _) => format!("{id} gets work again"),
        _ => format!("{id} is out of quarantine and gets work again"),
    };
    print(&format!("{text}\n"));
    Ok(Outcome::Done)
}

/// `limit`
pub async fn limit(api: &Api, options: &LimitOptions) -> Run {
    let (id, most) = (&options.mover.mover, options.most.0);
    let path = format!("/api/v1/hsm/movers/{}/limit", segment(id));
    api.post_waiting::<Value>(&path, &json!({"max": most}), LONG).await?;
    if options.mover.plain.json {
        print_json(&json!({"mover": id, "max": most, "running": running(api, id).await?}))?;
        return Ok(Outcome::Done);
    }
    print(&match most {
        Some(most) => format!("{id} runs at most {} at the same time\n", count(u64::from(most), "request")),
        None => {
            format!("{id} runs as many requests as it asks for, within the limits of the configuration\n")
        }
    });
    Ok(Outcome::Done)
}

/// How much a mover runs; `None` when nobody has heard of it, but that it is drained or limited.
async fn running(api: &Api, id: &str) -> Result<Option<u64>, ApiError> {
    let movers: Vec<Mover> = api.get("/api/v1/hsm/movers").await?;
    let known = |mover: &&Mover| mover.id == id && (mover.connected || mover.away_until.is_some());
    Ok(movers.iter().find(known).map(|mover| mover.running.sum()))
}

/// Gives an order about failed requests. Returns the answer, and how many it was about.
async fn order_letters(api: &Api, verb: &str, select: &Select) -> Result<(Value, u64), Stop> {
    let path = format!("/api/v1/hsm/dead-letters/{verb}");
    let answer: Value = api.post_waiting(&path, &json!({"select": select}), LONG).await?;
    let selected = answer["selected"].as_u64().unwrap_or(0);
    Ok((answer, selected))
}

/// `forget`: 3 when nothing is selected.
pub async fn forget(api: &Api, options: LettersOptions) -> Run {
    let select = checked(options.which.resolve()?, options.all, "forget")?;
    let (answer, selected) = order_letters(api, "forget", &select).await?;
    if options.plain.json {
        print_json(&answer)?;
    } else if selected == 0 {
        print("no such failed request is here\n");
    } else {
        print(&format!("forgot {}\n", count(selected, "failed request")));
    }
    Ok(if selected == 0 { Outcome::Nothing } else { Outcome::Done })
}

/// What has become of a failed request that is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// It is under way.
    Trying,
    /// It has failed again, or the MDT does not take it.
    Failed,
}

/// What a failed request has come to since it was as `before`.
fn again(before: &DeadLetter, now: &DeadLetter) -> Again {
    let over = !now.trying && !now.asking && now.retry.is_none();
    if over && (now.failures > before.failures || now.refused.is_some()) {
        Again::Failed
    } else {
        Again::Trying
    }
}

/// `retry`: 3 when nothing is selected; with `--wait` 1 when something failed again.
pub async fn retry(api: &Api, options: RetryOptions) -> Run {
    let RetryOptions { letters: options, wait } = options;
    let select = checked(options.which.resolve()?, options.all, "retry")?;
    if select.user.is_some() {
        return Err(Stop::Usage("--user: users of failed requests are not kept".to_owned()));
    }
    let kept = async |trying: bool| -> Result<Vec<DeadLetter>, ApiError> {
        let more = if trying { vec![("trying", "true".to_owned())] } else { Vec::new() };
        let which = Select { all: false, ..select.clone() };
        api.get(&format!("/api/v1/hsm/dead-letters{}", query(&which, &more))).await
    };
    let before = if wait { kept(false).await? } else { Vec::new() };
    let (mut answer, selected) = order_letters(api, "retry", &select).await?;
    if selected == 0 {
        match options.plain.json {
            true => print_json(&answer)?,
            false => print("no such failed request is here\n"),
        }
        return Ok(Outcome::Nothing);
    }
    if !options.plain.json {
        print(&format!("the MDT is asked for {} again\n", count(selected, "request")));
    } else if !wait {
        print_json(&answer)?;
    }
    if !wait {
        return Ok(Outcome::Done);
    }
    let same = |one: &DeadLetter, other: &DeadLetter| {
        (one.fid, &one.action, one.archive_id) == (other.fid, &other.action, other.archive_id)
    };
    let mut failed: Vec<DeadLetter> = Vec::new();
    wait_until(async || {
        let now = kept(true).await?;
        let found = before.iter().filter_map(|old| Some((old, now.iter().find(|new| same(old, new))?)));
        let states: Vec<(Again, &DeadLetter)> = found.map(|(old, new)| (again(old, new), new)).collect();
        if states.iter().any(|(state, _)| *state == Again::Trying) {
            return Ok(false);
        }
        failed = states.into_iter().map(|(_, letter)| letter.clone()).collect();
        Ok(true)
    })
    .await?;
    let well = before.len() - failed.len();
    if options.plain.json {
        answer["ended"] = json!(well);
        answer["failed"] = json!(failed);
        print_json(&answer)?;
    } else {
        print(&format!("{} ended well\n", count(well as u64, "request")));
        if !failed.is_empty() {
            print(&format!("{} failed again:\n{}", failed.len(), words::letters(&failed, now())));
        }
    }
    Ok(if failed.is_empty() { Outcome::Done } else { Outcome::Failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_again_is_told_from_what_is_under_way() {
        let before = DeadLetter { failures: 2, ..DeadLetter::default() };
        let state = |change: fn(&mut DeadLetter)| {
            let mut now = before.clone();
            change(&mut now);
            again(&before, &now)
        };
        assert_eq!(state(|_| ()), Again::Trying, "the order is not carried out yet");
        assert_eq!(state(|now| now.trying = true), Again::Trying);
        assert_eq!(state(|now| now.asking = true), Again::Trying);
        let planned = |now: &mut DeadLetter| (now.failures, now.retry) = (3, Some(1));
        assert_eq!(state(planned), Again::Trying, "it is tried again by itself");
        assert_eq!(state(|now| now.failures = 3), Again::Failed);
        assert_eq!(state(|now| now.refused = Some(22)), Again::Failed);
    }

    #[test]
    fn everything_must_be_said() {
        let some = Select { archive_id: Some(1), ..Select::default() };
        assert!(matches!(checked(Select::default(), false, "cancel"), Err(Stop::Usage(_))));
        assert!(matches!(checked(some.clone(), true, "cancel"), Err(Stop::Usage(_))));
        assert_eq!(checked(some.clone(), false, "cancel").unwrap(), some);
        assert!(checked(Select::default(), true, "cancel").unwrap().all);
    }
}
