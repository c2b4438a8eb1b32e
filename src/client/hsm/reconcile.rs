//! `reconcile`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use hyper::body::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;

use super::options::ReconcileOptions;
use super::selection::query;
use super::words::count;
use super::{Outcome, Run, Stop, print, print_json};
use crate::client::ha::api::Api;
use crate::client::ha::text::one_line;
use crate::ops::{Reconciled, Select};

/// Bytes that are sent at a time.
const PART: usize = 64 << 10;

/// `reconcile`: 1 when an MDT could not be asked about something.
pub async fn reconcile(api: &Api, options: &ReconcileOptions) -> Run {
    let input: Box<dyn Read + Send> = if options.file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        let open = File::open(&options.file);
        Box::new(open.map_err(|error| Stop::Usage(format!("{}: {error}", options.file.display())))?)
    };
    let source =
        if options.file == Path::new("-") { "standard input".to_owned() } else { name(&options.file) };
    let mut more = vec![("source", source), ("all_mdts", options.all_mdts.to_string())];
    if let Some(adopt) = &options.adopt {
        more.push(("adopt", adopt.clone()));
    }
    let (send, parts) = mpsc::channel(4);
    // Reading may block for as long as whoever writes wants.
    std::thread::spawn(move || read(input, &send));
    let path = format!("/api/v1/hsm/reconcile{}", query(&Select::default(), &more));
    let value: Value = api.post_text(&path, parts).await?;
    let found: Reconciled = serde_json::from_value(value.clone())
        .map_err(|error| Stop::Failed(format!("the daemon's answer cannot be read: {error}")))?;
    if options.plain.json {
        print_json(&value)?;
    } else {
        print(&describe(&found));
    }
    Ok(if found.undecided > 0 { Outcome::Failed } else { Outcome::Done })
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn read(mut input: impl Read, out: &mpsc::Sender<io::Result<Bytes>>) {
    let mut buffer = vec![0; PART];
    loop {
        let part = match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => Ok(Bytes::copy_from_slice(&buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let last = part.is_err();
        // The daemon may want no more of it.
        if out.blocking_send(part).is_err() || last {
            return;
        }
    }
}

/// What came of it, and the differences.
fn describe(found: &Reconciled) -> String {
    let mut text = format!("{} listed, {} of them known here\n", count(found.listed, "request"), found.known);
    let lines = [
        (found.waiting, "not given to an agent yet: will come"),
        (found.elsewhere, "of another agent"),
        (found.different, "known here with another action or archive id: what is here stays"),
        (found.adopted, "unknown here, and adopted"),
        (found.stale, "unknown here and to the MDT: ended meanwhile"),
        (found.alive, "here and not listed, but the MDT knows them"),
        (found.forgotten, "here and forgotten by the MDT: requested again"),
        (found.dropped, "here, and ended at the MDT: dropped"),
        (found.undecided, "undecided: the MDT could not be asked"),
        (found.left, "left to the next reconciliation"),
    ];
    for (number, what) in lines.iter().filter(|(number, _)| *number > 0) {
        text.push_str(&format!("  {number} {what}\n"));
    }
    for example in &found.examples {
        text.push_str(&format!("    {}\n", one_line(example)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_told() {
        let found = Reconciled {
            listed: 3,
            known: 2,
            adopted: 1,
            examples: vec!["x\u{1b}y".into()],
            ..Reconciled::default()
        };
        assert_eq!(
            describe(&found),
            "3 requests listed, 2 of them known here\n  1 unknown here, and adopted\n    x y\n"
        );
    }
}
