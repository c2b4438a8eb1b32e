//! `explain`, `history`, `requests`, `movers`, `dead-letters`.

use serde_json::Value;

use super::options::{ExplainOptions, HistoryOptions, Plain, RequestsOptions};
use super::selection::{file, query};
use super::{Outcome, Run, Stop, print, print_json, words};
use crate::client::ha::api::{Api, ApiError, segment};
use crate::client::ha::text::now;
use crate::ops::{DeadLetter, Ended, FileReport, Mover, Request, Status};

/// Says that there is nothing, unless nobody reads it as a text.
fn nothing(json: bool, text: &str) -> Outcome {
    if !json {
        print(&format!("{text}\n"));
    }
    Outcome::Nothing
}

/// `explain`: 3 when none of the files has a request.
pub async fn explain(api: &Api, options: &ExplainOptions) -> Run {
    let mut found = false;
    let mut reports: Vec<Value> = Vec::new();
    for name in &options.files {
        let fid = file(name)?;
        let cookie = options.cookie.as_deref().map(|cookie| format!("&cookie={}", segment(cookie)));
        let path =
            format!("/api/v1/hsm/explain?fid={}{}", segment(&fid.to_string()), cookie.unwrap_or_default());
        if options.plain.json {
            let report: Value = api.get(&path).await?;
            found |= report["requests"].as_array().is_some_and(|requests| !requests.is_empty());
            reports.push(report);
        } else {
            let report: FileReport = api.get(&path).await?;
            found |= !report.requests.is_empty();
            print(&words::report(&report, name));
        }
    }
    if options.plain.json {
        print_json(&reports)?;
    }
    Ok(if found { Outcome::Done } else { Outcome::Nothing })
}

/// `history`
pub async fn history(api: &Api, options: &HistoryOptions) -> Run {
    let mut more = vec![("limit", options.limit.to_string())];
    if let Some(word) = &options.file {
        more.push(("fid", file(word)?.to_string()));
    }
    let mut add = |name, value: Option<String>| more.extend(value.map(|value| (name, value)));
    add("mover", options.mover.clone());
    add("status", options.status.map(|status| status.to_string()));
    add("failed", options.failed.then(|| "true".to_owned()));
    let path = format!("/api/v1/hsm/history{}", query(&crate::ops::Select::default(), &more));
    if options.plain.json {
        let all: Value = api.get(&path).await?;
        print_json(&all)?;
        return Ok(some(&all));
    }
    let all: Vec<Ended> = api.get(&path).await?;
    let status: Status = api.get("/api/v1/hsm/status").await?;
    if all.is_empty() {
        nothing(false, "no such request has ended, as far as is remembered");
    } else {
        print(&words::history(&all));
    }
    print(&words::remembered(status.history, status.started));
    Ok(if all.is_empty() { Outcome::Nothing } else { Outcome::Done })
}

fn some(list: &Value) -> Outcome {
    if list.as_array().is_some_and(|list| !list.is_empty()) { Outcome::Done } else { Outcome::Nothing }
}

/// `requests`: printed as they come, there may be millions.
pub async fn requests(api: &Api, options: &RequestsOptions) -> Run {
    let select = options.which.resolve()?;
    let mut more = Vec::new();
    if let Some(state) = &options.state {
        more.push(("state", state.clone()));
    }
    if let Some(limit) = options.limit {
        more.push(("limit", limit.to_string()));
    }
    let path = format!("/api/v1/hsm/requests{}", query(&select, &more));
    let mut seen: u64 = 0;
    let mut ended = false;
    let mut each = |line: &str| -> Result<(), ApiError> {
        let line = line.trim();
        // The envelope has lines of its own around those of the requests.
        if line.starts_with("{\"errors\"") || line.is_empty() {
            return Ok(());
        }
        if line.starts_with(']') {
            ended = true;
            return Ok(());
        }
        let text = line.strip_suffix(',').unwrap_or(line);
        if options.json {
            print(&format!("{text}\n"));
        } else {
            let request: Request =
                serde_json::from_str(text).map_err(|error| ApiError::Strange(error.to_string()))?;
            if seen == 0 {
                print(&format!("{}\n", words::request_header()));
            }
            print(&format!("{}\n", words::request_line(&request)));
        }
        seen += 1;
        Ok(())
    };
    api.lines(&path, &mut each).await?;
    if !ended {
        return Err(Stop::Failed("the daemon broke off its answer".to_owned()));
    }
    Ok(if seen == 0 { nothing(options.json, "no such request is here") } else { Outcome::Done })
}

/// `movers`
pub async fn movers(api: &Api, plain: Plain) -> Run {
    let path = "/api/v1/hsm/movers";
    if plain.json {
        let all: Value = api.get(path).await?;
        print_json(&all)?;
        return Ok(some(&all));
    }
    let all: Vec<Mover> = api.get(path).await?;
    // Whoever asks for the status over the movers' port is a peer, too.
    let shown: Vec<Mover> = all.into_iter().filter(|mover| mover.is_mover).collect();
    if shown.is_empty() {
        return Ok(nothing(false, "no mover is connected or awaited"));
    }
    print(&words::movers(&shown, now()));
    Ok(Outcome::Done)
}

/// `dead-letters`
pub async fn dead_letters(api: &Api, plain: Plain) -> Run {
    let path = "/api/v1/hsm/dead-letters";
    if plain.json {
        let all: Value = api.get(path).await?;
        print_json(&all)?;
        return Ok(some(&all));
    }
    let all: Vec<DeadLetter> = api.get(path).await?;
    if all.is_empty() {
        return Ok(nothing(false, "no failed request waits for anybody"));
    }
    print(&words::letters(&all, now()));
    Ok(Outcome::Done)
}
