//! `status`.

use std::io::{self, IsTerminal};
use std::time::Duration;

use super::api::Api;
use super::options::StatusOptions;
use super::{Outcome, complain, overview, print, text};
use crate::ha::status::Status;

/// How often a watched status is shown anew.
const WATCH: Duration = Duration::from_secs(2);

/// Shows the status, once or again and again.
pub async fn run(api: &Api, options: &StatusOptions) -> Outcome {
    let terminal = io::stdout().is_terminal();
    loop {
        let shown = show(api, options).await;
        if !options.watch {
            return match shown {
                Ok(text) => {
                    print(&text);
                    Outcome::Done
                }
                Err(error) => {
                    complain(&error);
                    Outcome::Failed
                }
            };
        }
        let text = shown.unwrap_or_else(|error| format!("{error}\n"));
        let moment = text::moment(text::now());
        match (options.json, terminal) {
            (true, _) => print(&text),
            (false, true) => print(&format!("\x1b[H\x1b[J{moment}\n{text}")),
            (false, false) => print(&format!("{moment}\n{text}\n")),
        }
        tokio::time::sleep(WATCH).await;
    }
}

async fn show(api: &Api, options: &StatusOptions) -> Result<String, String> {
    let path = "/api/v1/ha/status";
    if options.json {
        // As the manager gives it, so that nothing is left out that this client does not know.
        let status: serde_json::Value = api.get(path).await.map_err(|error| error.to_string())?;
        let text = if options.watch { Ok(status.to_string()) } else { serde_json::to_string_pretty(&status) };
        return text.map(|text| text + "\n").map_err(|error| error.to_string());
    }
    let status: Status = api.get(path).await.map_err(|error| error.to_string())?;
    Ok(overview::render(&status, text::now(), options))
}
