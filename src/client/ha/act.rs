//! Commands that change something: handed in, then waited for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use super::api::{Api, ApiError};
use super::options::Acting;
use super::text::one_line;
use super::{Outcome, complain, say};
use crate::ha::command::{Accepted, Progress};
use crate::ha::ids::CommandId;
use crate::ha::status::CommandStatus;

/// How long the manager may take over a question for news. What changed between two questions is only seen with the answer
/// to the next, so not too long.
const NEWS: Duration = Duration::from_secs(5);
/// How long a manager that was lost while we wait may take to come back, a restart for instance.
const ABSENCE: Duration = Duration::from_secs(60);

/// One request to the manager.
#[derive(Debug, Clone)]
pub struct Order {
    /// Where it is handed in.
    pub path: String,
    /// Its parameters.
    pub body: Map<String, Value>,
    /// What it is about, for when there are several.
    pub about: String,
}

impl Order {
    /// A request without parameters.
    pub fn new(path: String, about: &str) -> Self {
        Self { path, body: Map::new(), about: about.to_owned() }
    }

    /// With a parameter.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.body.insert(key.to_owned(), value.into());
        self
    }
}

/// How a command ended, or that it was not waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It ended well: what came of it.
    Done(String),
    /// It did not: why.
    Failed(String),
}

/// Where progress is told.
trait Reporter {
    fn accepted(&mut self, about: &str, accepted: &Accepted, acting: &Acting);
    fn doing(&mut self, about: &str, doing: &str);
    /// Time passes.
    fn tick(&mut self);
    fn ended(&mut self, about: &str, command: CommandId, end: &End);
    fn failed(&mut self, about: &str, error: &ApiError);
}

/// Hands in `orders` and waits for their ends, unless that is not wanted.
pub async fn carry_out(api: &Api, orders: &[Order], acting: &Acting) -> Outcome {
    let pending: RefCell<VecDeque<(String, CommandId)>> = RefCell::default();
    let mut reporter: Box<dyn Reporter> =
        if acting.json { Box::new(Machine) } else { Box::new(People::new(orders.len() > 1)) };
    let reporter = RefCell::new(&mut reporter);
    let misread = Cell::new(false);
    let work = async {
        let mut good = true;
        for order in orders {
            let mut body = order.body.clone();
            if let Some(reason) = &acting.reason {
                body.insert("reason".to_owned(), reason.clone().into());
            }
            if acting.dry_run {
                body.insert("dry_run".to_owned(), true.into());
            }
            match api.post::<Accepted>(&order.path, &body.into()).await {
                Ok(accepted) => {
                    reporter.borrow_mut().accepted(&order.about, &accepted, acting);
                    if let Some(id) = accepted.command {
                        pending.borrow_mut().push_back((order.about.clone(), id));
                    }
                }
                Err(error) => {
                    good = false;
                    misread.set(
                        misread.get() || matches!(&error, ApiError::Refused { status, .. } if *status == 422),
                    );
                    reporter.borrow_mut().failed(&order.about, &error);
                    if nobody(&error) {
                        break;
                    }
                }
            }
        }
        if acting.no_wait {
            return good;
        }
        loop {
            let Some((about, id)) = pending.borrow().front().cloned() else { return good };
            let waited = wait(api, id, |doing| match doing {
                Some(doing) => reporter.borrow_mut().doing(&about, doing),
                None => reporter.borrow_mut().tick(),
            });
            match waited.await {
                Ok(end) => {
                    good &= matches!(end, End::Done(_));
                    reporter.borrow_mut().ended(&about, id, &end);
                }
                Err(error) => {
                    good = false;
                    reporter.borrow_mut().failed(&about, &error);
                    complain(&format!(
                        "command {id} may go on; `coordinatool-client ha wait {id}` waits for it"
                    ));
                }
            }
            pending.borrow_mut().pop_front();
        }
    };
    tokio::select! {
        good = work => match (good, misread.get()) {
            (true, _) => Outcome::Done,
            // Only a file that the manager is to read is answered so.
            (false, true) => Outcome::BadConfiguration,
            (false, false) => Outcome::Failed,
        },
        _ = tokio::signal::ctrl_c() => {
            let pending = pending.borrow();
            if io::stderr().is_terminal() {
                clear_line();
            }
            if pending.is_empty() {
                complain("interrupted before the manager answered; `coordinatool-client ha status -v` shows whether the command goes on");
            }
            for (_, id) in pending.iter() {
                complain(&format!("command {id} goes on at the manager; `coordinatool-client ha wait {id}` waits for it"));
            }
            Outcome::Interrupted
        }
    }
}

/// Waits for a command that was given before.
pub async fn wait_for(api: &Api, id: CommandId, json: bool) -> Outcome {
    let mut reporter: Box<dyn Reporter> = if json { Box::new(Machine) } else { Box::new(People::new(false)) };
    // Later it is waited for a manager that restarts; but who calls must learn at once that there is none.
    if let Err(error) = api.get::<CommandStatus>(&format!("/api/v1/ha/commands/{id}")).await {
        reporter.failed("", &error);
        return Outcome::Failed;
    }
    let ended = {
        let told = |doing: Option<&str>| match doing {
            Some(doing) => reporter.doing("", doing),
            None => reporter.tick(),
        };
        tokio::select! {
            ended = wait(api, id, told) => ended,
            _ = tokio::signal::ctrl_c() => {
                if io::stderr().is_terminal() {
                    clear_line();
                }
                complain(&format!("command {id} goes on at the manager"));
                return Outcome::Interrupted;
            }
        }
    };
    match ended {
        Ok(end) => {
            reporter.ended("", id, &end);
            if matches!(end, End::Done(_)) { Outcome::Done } else { Outcome::Failed }
        }
        Err(error) => {
            reporter.failed("", &error);
            Outcome::Failed
        }
    }
}

/// Waits for the end of a command: tells each change of what it does, and `None` several times a second.
///
/// # Errors
/// Fails if the manager says that there is no such command, or is gone for longer than a restart takes.
pub async fn wait(api: &Api, id: CommandId, mut tell: impl FnMut(Option<&str>)) -> Result<End, ApiError> {
    let mut last = None;
    let mut gone: Option<Instant> = None;
    let path = format!("/api/v1/ha/commands/{id}");
    loop {
        // The first answer comes at once, so that nothing is missed that happened before.
        let ask = if last.is_none() { path.clone() } else { format!("{path}?wait={}", NEWS.as_secs()) };
        let answer = api.get_waiting::<CommandStatus>(&ask, NEWS);
        tokio::pin!(answer);
        let answer = loop {
            tokio::select! {
                answer = &mut answer => break answer,
                () = sleep(Duration::from_millis(200)) => tell(None),
            }
        };
        match answer {
            Ok(status) => {
                gone = None;
                match status.progress {
                    Progress::Done { result } => return Ok(End::Done(result)),
                    Progress::Failed { reason } => return Ok(End::Failed(reason)),
                    Progress::Running { doing } => {
                        if last.as_ref() != Some(&doing) {
                            tell(Some(&doing));
                            last = Some(doing);
                        }
                    }
                }
            }
            Err(error) => {
                let away = match &error {
                    ApiError::NoManager { .. } | ApiError::Lost(_) => true,
                    // It starts, or has not read its journal yet.
                    ApiError::Refused { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE,
                    ApiError::Strange(_) | ApiError::Forbidden { .. } => false,
                };
                let since = *gone.get_or_insert_with(Instant::now);
                if !away || since.elapsed() > ABSENCE {
                    return Err(error);
                }
                if last.as_deref() != Some(LOST) {
                    tell(Some(LOST));
                    last = Some(LOST.to_owned());
                }
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

/// Whether it is of no use to ask for anything else.
fn nobody(error: &ApiError) -> bool {
    matches!(error, ApiError::NoManager { .. } | ApiError::Forbidden { .. })
}

const LOST: &str = "the manager is gone; waiting for it to come back";

fn clear_line() {
    // Nothing is lost if that fails.
    let _ = write!(io::stderr(), "\r\x1b[K");
}

/// Lines for people on standard output, a turning bar on a terminal.
struct People {
    several: bool,
    terminal: bool,
    doing: String,
    turn: usize,
    since: Instant,
}

impl People {
    fn new(several: bool) -> Self {
        let terminal = io::stderr().is_terminal() && io::stdout().is_terminal();
        Self { several, terminal, doing: String::new(), turn: 0, since: Instant::now() }
    }

    fn line(&self, about: &str, text: &str) {
        if self.terminal {
            clear_line();
        }
        let text = one_line(text);
        if self.several && !about.is_empty() { say(&format!("{about}: {text}")) } else { say(&text) }
    }
}

impl Reporter for People {
    fn accepted(&mut self, about: &str, accepted: &Accepted, acting: &Acting) {
        let would = if accepted.command.is_none() { "would: " } else { "" };
        if accepted.consequences.is_empty() && accepted.command.is_none() {
            self.line(about, "would change nothing");
        }
        for consequence in &accepted.consequences {
            self.line(about, &format!("{would}{consequence}"));
        }
        if let (Some(id), true) = (accepted.command, acting.no_wait) {
            self.line(about, &format!("command {id}"));
        }
    }

    fn doing(&mut self, about: &str, doing: &str) {
        self.line(about, &format!("... {doing}"));
        self.doing = one_line(doing);
        self.since = Instant::now();
    }

    fn tick(&mut self) {
        if self.terminal && !self.doing.is_empty() {
            let bar = ["|", "/", "-", "\\"][self.turn % 4];
            self.turn += 1;
            let text = format!("\r\x1b[K{bar} {} s ", self.since.elapsed().as_secs());
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }

    fn ended(&mut self, about: &str, command: CommandId, end: &End) {
        if self.terminal {
            clear_line();
        }
        match end {
            End::Done(result) if result.is_empty() || result == "done" => self.line(about, "done"),
            End::Done(result) => self.line(about, &format!("done: {}", result.trim_start_matches("done; "))),
            End::Failed(reason) => {
                let about = if self.several { format!("{about}: ") } else { String::new() };
                complain(&format!("{about}command {command} failed: {reason}"));
            }
        }
    }

    fn failed(&mut self, about: &str, error: &ApiError) {
        if self.terminal {
            clear_line();
        }
        let text = error.to_string();
        // The manager's reasons name what they are about as a rule.
        let general = text.contains(about) || nobody(error);
        if self.several && !general {
            complain(&format!("{about}: {text}"));
        } else {
            complain(&text);
        }
    }
}

/// JSON on standard output, one object a line.
struct Machine;

impl Reporter for Machine {
    fn accepted(&mut self, about: &str, accepted: &Accepted, acting: &Acting) {
        if accepted.command.is_none() || acting.no_wait {
            let Accepted { command, consequences } = accepted;
            say(&json!({"object": about, "command": command, "consequences": consequences}).to_string());
        }
    }

    fn doing(&mut self, _: &str, _: &str) {}

    fn tick(&mut self) {}

    fn ended(&mut self, about: &str, command: CommandId, end: &End) {
        let progress = match end {
            End::Done(result) => Progress::Done { result: result.clone() },
            End::Failed(reason) => Progress::Failed { reason: reason.clone() },
        };
        say(&json!({"object": about, "command": command, "progress": progress}).to_string());
    }

    fn failed(&mut self, about: &str, error: &ApiError) {
        let errors = match error {
            ApiError::Refused { errors, .. } => errors.clone(),
            other => vec![other.to_string()],
        };
        say(&json!({"object": about, "errors": errors}).to_string());
    }
}
