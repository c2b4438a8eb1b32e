//! Locators: what says on which medium and behind which host the data of a request lies.
//!
//! A few threads ask, each question has a deadline, answers are remembered for a while, and whatever fails is told the core as
//! a failure: it places the request without.

pub mod command;
pub mod http;
pub mod lines;
pub mod phobos;
mod phobos_sys;
pub mod settings;

use std::io;
use std::time::Duration;

use lustreapi_sys::Fid;

use self::lines::{Answers, Question};
use self::settings::{LocatorSettings, Means};
use super::pool::{Oracle, Patience, Pool, Sizes};
use crate::hsm::{Located, Location, RequestKey, Sought};
use crate::lustre::link::CurrentMount;
use crate::lustre::mount::by_fid;

/// Answers that are remembered.
const REMEMBERED: usize = 100_000;
/// What one says in the log about answers that cannot be read: this many examples.
const EXAMPLES: usize = 3;
/// The longest name of an object.
const MAX_OID: usize = 4096;

/// What was found.
pub type Found = Vec<(RequestKey, Located)>;

/// A question that hangs in spite of its own timeout is given up on so much later.
const GRACE: Duration = Duration::from_secs(5);

/// The threads that ask.
pub struct Locator(Pool<Places>);

impl Locator {
    /// Starts the threads. `mount` is where the names of objects are read.
    pub fn start(
        settings: LocatorSettings,
        mount: Option<CurrentMount>,
        tell: impl Fn(Found) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        tracing::info!(means = ?settings.means, "restores are placed by a locator");
        let sizes = Sizes {
            name: "locator",
            threads: settings.threads,
            batch: settings.batch,
            patience: Patience::SinceBegun(settings.timeout + GRACE),
            remembered: (REMEMBERED, settings.cache),
        };
        Pool::start(Places { settings, mount, tell: Box::new(tell) }, sizes).map(Self)
    }

    /// Begins to ask; every request is answered. Never blocks for the locator. What waits for a thread waits as long as the
    /// core lets it.
    pub fn locate(&self, sought: Vec<Sought>) {
        self.0.ask(sought);
    }
}

struct Places {
    settings: LocatorSettings,
    /// For the names of objects.
    mount: Option<CurrentMount>,
    tell: Box<dyn Fn(Found) + Send + Sync>,
}

impl Oracle for Places {
    type Question = Sought;
    type Answer = Located;
    const SILENT: &'static str = "the locator hangs";

    fn key(sought: &Sought) -> RequestKey {
        sought.key
    }

    fn ask(&self, batch: &[Sought]) -> Answers {
        ask(self, batch)
    }

    fn lasts(answer: &Located) -> bool {
        matches!(answer, Located::At(_))
    }

    fn tell(&self, found: Vec<(RequestKey, Option<Located>)>) {
        let or_failed = |(key, located): (_, Option<Located>)| (key, located.unwrap_or(Located::Failed));
        (self.tell)(found.into_iter().map(or_failed).collect());
    }
}

/// Asks for a batch. What could not be found out is missing.
fn ask(places: &Places, batch: &[Sought]) -> Answers {
    let questions: Vec<Question> = batch.iter().map(|sought| question(places, sought)).collect();
    let (settings, timeout) = (&places.settings, places.settings.timeout);
    let run = |argv: &[String]| command::run(argv, lines::write(&questions), timeout);
    let read = |(text, _): (String, Option<i32>)| lines::read(&text);
    let answer: io::Result<(Answers, Vec<String>)> = match &settings.means {
        Means::Command(argv) => run(argv).map(read),
        Means::Phobos { library, copies } => {
            match phobos::command(library, *copies).and_then(|argv| run(&argv)) {
                Ok((_, Some(code))) if code == i32::from(phobos::NO_LIBRARY) => {
                    tracing::warn!(library, "there is no phobos to ask: restores go to any mover");
                    let nowhere = Located::At(Location::default());
                    return questions.iter().map(|question| (question.fid, nowhere.clone())).collect();
                }
                answer => answer.map(read),
            }
        }
        Means::Http(url) => lines::write_json(&questions)
            .map_err(io::Error::other)
            .and_then(|body| http::post(url, body, timeout))
            .and_then(|body| lines::read_json(&body).map_err(io::Error::other)),
    };
    match answer {
        Ok((answers, bad)) => {
            if !bad.is_empty() {
                let examples = bad[..bad.len().min(EXAMPLES)].join("; ");
                tracing::warn!(lines = bad.len(), "answers of the locator cannot be read: {examples}");
            }
            let missing = questions.iter().filter(|question| !answers.contains_key(&question.fid)).count();
            if missing > 0 {
                tracing::warn!(requests = missing, "the locator does not say where these lie");
            }
            answers
        }
        Err(error) => {
            tracing::warn!(requests = batch.len(), "the locator failed: {error}");
            Answers::new()
        }
    }
}

fn question(places: &Places, sought: &Sought) -> Question {
    let xattr = places.settings.xattr.as_deref();
    let oid = xattr.zip(places.mount.as_ref()).and_then(|(name, mount)| oid_of(mount, sought.key.fid, name));
    Question {
        fid: sought.key.fid,
        action: sought.action.name(),
        archive_id: sought.archive_id,
        focus: sought.focus.clone(),
        oid,
        data: String::from_utf8_lossy(&sought.data).trim_end_matches('\0').to_owned(),
    }
}

fn oid_of(mount: &CurrentMount, fid: Fid, name: &str) -> Option<String> {
    let path = mount.get().path().join(by_fid(fid));
    let mut buffer = vec![0u8; MAX_OID];
    match rustix::fs::lgetxattr(&path, name, &mut buffer[..]) {
        Ok(len) => {
            buffer.truncate(len);
            let text = String::from_utf8(buffer).ok()?;
            Some(text.trim_end_matches('\0').to_owned())
        }
        Err(error) => {
            tracing::debug!(%fid, "no {name}: {error}");
            None
        }
    }
}
