//! `-Q`: requests from standard input, in messages of bounded size, whose answers are summed up to one.

use std::collections::VecDeque;
use std::io::{self, BufRead, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::connection::{Connection, ConnectionError, Target};
use crate::hsm::event::Ehlo;
use crate::hsm::{Action, ActionItem};
use crate::lustre::active_requests::{Data, Line, LogStatus, Record, State, parse_line};
use crate::wire::client::{Failure, QueueWriter, ServerMessage, parse_reply};
use crate::wire::text::ObjectWriter;

/// Requests in one message at most.
pub const ITEMS: usize = 1000;
/// Bytes of one message at most, but for its last item.
const BYTES: usize = 1 << 20;
/// Messages whose answers are due at most.
const WINDOW: usize = 4;
/// Bytes of a line at most; Lustre's have a few hundred.
const LINE: usize = 16 << 10;
/// Bad lines that are shown one by one.
const SHOWN: u64 = 100;
/// Between two updates of the progress line.
const PROGRESS: Duration = Duration::from_millis(200);

/// Member of an item whose data may be only the beginning of what the user passed. A daemon of ours never hashes such data
/// and never lets it replace longer data. C keeps the member and echoes it.
pub const TRUNCATED: &str = "\"hai_data_truncated\":true";

/// What an input came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Requests in messages that were sent.
    pub sent: u64,
    /// Requests in messages that were answered.
    pub answered: u64,
    /// Requests that the server queued.
    pub enqueued: u64,
    /// Requests that it knew already.
    pub skipped: u64,
    /// The first failure that it reported.
    pub failure: Option<Failure>,
    /// Lines that hold no request that could be read.
    pub bad_lines: u64,
    /// Requests that a user has cancelled.
    pub canceled: u64,
    /// Cancels.
    pub cancels: u64,
    /// Records of requests that have ended.
    pub ended: u64,
}

/// Why not all of the input was handed in.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The server could not be reached or went away.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The input could not be read.
    #[error("standard input: {0}")]
    Input(io::Error),
    /// The server answered with something else.
    #[error("unexpected answer to queue: {0}")]
    Answer(String),
    /// The server takes no more.
    #[error("the server took no more requests: {0}")]
    Stopped(Failure),
}

impl Summary {
    /// The answers as one, as a server would have given it.
    pub fn reply(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let mut object = ObjectWriter::new(&mut out, true);
        object.string("command", b"queue");
        if let Some(failure) = &self.failure {
            object.int("status", failure.status).string_or_nothing("error", failure.error.as_bytes());
        }
        object
            .int_or_nothing("enqueued", count(self.enqueued))
            .int_or_nothing("skipped", count(self.skipped))
            .end();
        out
    }

    /// What a line of the input asks for: a request to queue, or nothing.
    fn sort(&mut self, record: Record) -> Option<ActionItem> {
        let Record { mut item, data, state } = record;
        if item.action == Action::Cancel {
            self.cancels += 1;
            return None;
        }
        match state {
            State::Active { canceled: true, .. } => {
                self.canceled += 1;
                return None;
            }
            State::Logged(LogStatus::Failed | LogStatus::Canceled | LogStatus::Succeed) => {
                self.ended += 1;
                return None;
            }
            State::Active { canceled: false, .. }
            | State::Logged(LogStatus::Waiting | LogStatus::Started) => {}
        }
        if data != Data::Whole {
            item.extra = TRUNCATED.into();
        }
        Some(item)
    }

    /// What was left out, for people.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut note = |count: u64, what: &str| {
            if count > 0 {
                let plural = if count == 1 { "" } else { "s" };
                notes.push(format!("{count} {what}{plural} not queued"));
            }
        };
        note(self.canceled, "cancelled request");
        note(self.cancels, "cancel record");
        note(self.ended, "ended request");
        note(self.bad_lines, "bad line");
        notes
    }
}

/// A line of the input.
enum Input {
    /// Complete.
    Line,
    /// Longer than [`LINE`]; what is too much was dropped.
    TooLong,
    /// There is none.
    End,
}

/// Reads a line without keeping more than [`LINE`] bytes of it.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Input> {
    line.clear();
    let mut any = false;
    let mut fits = true;
    loop {
        let chunk = match input.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            break;
        }
        any = true;
        let newline = memchr::memchr(b'\n', chunk);
        let length = newline.map_or(chunk.len(), |at| at + 1);
        let room = LINE - line.len();
        line.extend_from_slice(&chunk[..length.min(room)]);
        fits &= length <= room;
        input.consume(length);
        if newline.is_some() {
            break;
        }
    }
    Ok(if !any {
        Input::End
    } else if fits {
        Input::Line
    } else {
        Input::TooLong
    })
}

/// Hands requests in.
#[derive(Debug)]
pub struct Queuer<'a> {
    target: &'a Target,
    ehlo: &'a Ehlo,
    fsname: Option<&'a str>,
    connection: Option<Connection>,
    /// Items of the messages whose answers are due.
    due: VecDeque<u64>,
    /// When the progress line was last written, if there is a terminal to write it to.
    progress: Option<Instant>,
    progress_shown: bool,
    /// What has been done so far.
    pub summary: Summary,
}

impl<'a> Queuer<'a> {
    /// Connects only when there is something to queue.
    pub fn new(target: &'a Target, ehlo: &'a Ehlo, fsname: Option<&'a str>) -> Self {
        let progress = io::stderr().is_terminal().then(Instant::now);
        Self {
            target,
            ehlo,
            fsname,
            connection: None,
            due: VecDeque::new(),
            progress,
            progress_shown: false,
            summary: Summary::default(),
        }
    }

    /// Reads the input to its end. Bad lines are shown on standard error; they keep nothing back.
    ///
    /// # Errors
    /// Fails when the server goes away or takes no more, or the input cannot be read. [`Queuer::summary`] says how far
    /// it came.
    pub fn run(&mut self, input: &mut impl BufRead) -> Result<(), QueueError> {
        let result = self.run_through(input);
        if self.progress_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        result
    }

    fn run_through(&mut self, input: &mut impl BufRead) -> Result<(), QueueError> {
        let mut result = self.send_all(input);
        // Answers are due also after a failure, and tell what became of their requests.
        while !self.due.is_empty() {
            match self.answer() {
                Ok(()) => {}
                Err(error @ QueueError::Stopped(_)) => result = result.and(Err(error)),
                Err(error) => return result.and(Err(error)),
            }
        }
        result
    }

    fn send_all(&mut self, input: &mut impl BufRead) -> Result<(), QueueError> {
        let mut line = Vec::new();
        let mut number = 0u64;
        let mut message = Vec::new();
        let mut writer: Option<QueueWriter> = None;
        let mut input_error = None;
        loop {
            let record = match read_line(input, &mut line) {
                Ok(Input::End) => break,
                Ok(Input::Line) => parse_line(&line).map_err(|error| error.to_string()),
                Ok(Input::TooLong) => Err(format!("longer than {LINE} bytes")),
                Err(error) => {
                    input_error = Some(QueueError::Input(error));
                    break;
                }
            };
            number += 1;
            let item = match record {
                Ok(Line::Empty) => None,
                Ok(Line::Record(record)) => self.summary.sort(*record),
                Err(error) => {
                    self.bad_line(number, &error);
                    None
                }
            };
            let Some(item) = item else { continue };
            let items = writer.get_or_insert_with(|| QueueWriter::begin(self.fsname, &mut message));
            items.item(&item, &mut message);
            if items.len() >= ITEMS || message.len() >= BYTES {
                self.flush(writer.take(), &mut message)?;
            }
        }
        self.flush(writer.take(), &mut message)?;
        input_error.map_or(Ok(()), Err)
    }

    fn bad_line(&mut self, number: u64, error: &str) {
        self.summary.bad_lines += 1;
        match self.summary.bad_lines.cmp(&SHOWN) {
            std::cmp::Ordering::Less => tracing::error!("line {number}: {error}"),
            std::cmp::Ordering::Equal => {
                tracing::error!("line {number}: {error} (no more bad lines are shown)")
            }
            std::cmp::Ordering::Greater => {}
        }
    }

    /// Sends a message, after waiting for answers if too many are due.
    fn flush(&mut self, writer: Option<QueueWriter>, message: &mut Vec<u8>) -> Result<(), QueueError> {
        let Some(writer) = writer else { return Ok(()) };
        let items = u64::try_from(writer.len()).unwrap_or(u64::MAX);
        writer.end(message);
        while self.due.len() >= WINDOW {
            self.answer()?;
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.target.connect(self.ehlo)?),
        };
        let sent = connection.send(message);
        message.clear();
        self.summary.sent += items;
        self.due.push_back(items);
        sent?;
        self.show_progress();
        Ok(())
    }

    /// Waits for one answer.
    fn answer(&mut self) -> Result<(), QueueError> {
        let (Some(connection), Some(items)) = (&mut self.connection, self.due.front().copied()) else {
            return Ok(());
        };
        let reply = connection.receive(Some(connection.patience()))?;
        self.due.pop_front();
        match parse_reply(&reply) {
            Ok(ServerMessage::Queue { enqueued, skipped, failure }) => {
                self.summary.answered += items;
                self.summary.enqueued += enqueued;
                self.summary.skipped += skipped;
                self.show_progress();
                let Some(failure) = failure else { return Ok(()) };
                self.summary.failure.get_or_insert_with(|| failure.clone());
                // Items that the server cannot read; it has taken the others.
                if failure.status == -22 { Ok(()) } else { Err(QueueError::Stopped(failure)) }
            }
            Ok(other) => Err(QueueError::Answer(format!("{other:?}"))),
            Err(error) => Err(QueueError::Answer(error.to_string())),
        }
    }

    fn show_progress(&mut self) {
        if self.progress.is_some_and(|last| last.elapsed() >= PROGRESS) {
            let Summary { sent, answered, .. } = self.summary;
            let _ = write!(io::stderr(), "\r{sent} requests sent, {answered} acknowledged\x1b[K");
            self.progress = Some(Instant::now());
            self.progress_shown = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`read_line`] finds: the length of each line with its newline, `None` for one that is too long.
    fn lengths(text: &[u8], chunk: usize) -> Vec<Option<usize>> {
        let mut input = io::BufReader::with_capacity(chunk, text);
        let mut line = Vec::new();
        let mut found = Vec::new();
        loop {
            match read_line(&mut input, &mut line).unwrap() {
                Input::End => return found,
                Input::Line => found.push(Some(line.len())),
                Input::TooLong => {
                    assert_eq!(line.len(), LINE);
                    found.push(None);
                }
            }
        }
    }

    #[test]
    fn lines_are_found_whatever_way_they_come() {
        let line = |length: usize| vec![b'x'; length];
        type Case = (Vec<Vec<u8>>, Vec<Option<usize>>);
        let cases: [Case; 5] = [
            (vec![], vec![]),
            (vec![line(3), line(0), line(0), line(2)], vec![Some(4), Some(1), Some(1), Some(2)]),
            (vec![line(LINE - 1), line(1)], vec![Some(LINE), Some(1)]),
            (vec![line(LINE), line(1)], vec![None, Some(1)]),
            (vec![line(5 * LINE), line(7), line(LINE + 1)], vec![None, Some(8), None]),
        ];
        for (lines, want) in cases {
            let text = lines.join(&b'\n');
            for chunk in [1, 2, 3, 64 << 10] {
                assert_eq!(lengths(&text, chunk), want);
            }
        }
    }

    #[test]
    fn answers_add_up_to_one_with_the_members_of_c_in_their_order() {
        let failure = Failure { status: -22, error: "Error while parsing hsm action items".to_owned() };
        let cases = [
            (Summary::default(), r#"{"command": "queue"}"#),
            (
                Summary { enqueued: 2, skipped: 1, ..Summary::default() },
                r#"{"command": "queue", "enqueued": 2, "skipped": 1}"#,
            ),
            (
                Summary { enqueued: 2, failure: Some(failure), ..Summary::default() },
                r#"{"command": "queue", "status": -22, "error": "Error while parsing hsm action items", "enqueued": 2}"#,
            ),
        ];
        for (summary, want) in cases {
            assert_eq!(String::from_utf8(summary.reply()).unwrap(), want);
        }
    }
}
