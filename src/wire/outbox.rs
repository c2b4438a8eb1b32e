//! What one peer is to be sent: in order, each part once its commit is durable.

use std::collections::VecDeque;

use super::write_reply;
use crate::hsm::StatusCursor;
use crate::hsm::effect::Reply;

/// About how many bytes are made ready for one write, and how much of a running answer is produced at a time.
pub const SLICE: usize = 64 << 10;

/// One part of what a peer is sent.
#[derive(Debug)]
enum Part {
    /// Ready to go.
    Bytes(Vec<u8>),
    /// The answer to `queue`: it may have to be changed when its commit fails.
    Queue(Reply),
    /// A long answer, produced while it is sent.
    Status(StatusCursor),
    /// The connection ends here.
    Close(&'static str),
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// These bytes, to be taken off with [`Outbox::wrote`].
    Write(&'a [u8]),
    /// More of this answer has to be produced, with [`Outbox::feed`].
    Produce(StatusCursor),
    /// Nothing until something is added or a commit is durable.
    Wait,
    /// The connection is to be closed.
    Close(&'static str),
}

/// The queue of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    parts: VecDeque<(u64, Part)>,
    queued: usize,
    ready: Vec<u8>,
    written: usize,
}

impl Outbox {
    /// Bytes that wait, without the parts of answers that are not produced yet.
    pub fn bytes(&self) -> usize {
        self.queued + self.ready.len() - self.written
    }

    /// Whether nothing is left to be sent.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.written == self.ready.len()
    }

    /// Parts that wait.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Adds what `write` writes, to be sent once `commit` is durable.
    pub fn push(&mut self, commit: u64, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some((last, Part::Bytes(bytes))) = self.parts.back_mut()
            && *last == commit
        {
            let before = bytes.len();
            write(bytes);
            self.queued += bytes.len() - before;
            return;
        }
        let mut bytes = self.free_memory();
        write(&mut bytes);
        self.queued += bytes.len();
        self.parts.push_back((commit, Part::Bytes(bytes)));
    }

    /// The memory of what was sent last, once all of that is sent.
    fn free_memory(&mut self) -> Vec<u8> {
        if self.written < self.ready.len() {
            return Vec::new();
        }
        self.written = 0;
        let mut bytes = std::mem::take(&mut self.ready);
        bytes.clear();
        bytes
    }

    /// Adds the answer to a `queue`.
    pub fn push_queue(&mut self, commit: u64, reply: Reply) {
        self.parts.push_back((commit, Part::Queue(reply)));
    }

    /// Adds a long answer.
    pub fn push_status(&mut self, commit: u64, cursor: StatusCursor) {
        self.parts.push_back((commit, Part::Status(cursor)));
    }

    /// Ends the connection after what was added so far.
    pub fn push_close(&mut self, commit: u64, reason: &'static str) {
        self.parts.push_back((commit, Part::Close(reason)));
    }

    /// Makes the answers to `queue` that wait for `commit` say that it failed.
    pub fn fail(&mut self, commit: u64, errno: i32) {
        for (_, part) in self.parts.iter_mut().filter(|(waits, _)| *waits == commit) {
            if let Part::Queue(Reply::Queue { status, error, enqueued, skipped }) = part
                && *status == 0
            {
                (*enqueued, *skipped) = (0, 0);
                *status = -errno;
                *error = if errno == libc::ENOSPC { "No space left on device" } else { "Input/output error" };
            }
        }
    }

    /// What to do next, where every commit up to `durable` is durable.
    pub fn next(&mut self, durable: u64) -> Next<'_> {
        if self.written == self.ready.len() {
            self.ready.clear();
            self.written = 0;
            if self.ready.capacity() > 4 * SLICE {
                self.ready = Vec::new();
            }
        }
        while self.ready.len() - self.written < SLICE {
            match self.parts.front_mut() {
                Some((commit, _)) if *commit > durable => break,
                Some((_, Part::Bytes(bytes))) => {
                    self.queued -= bytes.len();
                    if self.ready.is_empty() {
                        self.ready = std::mem::take(bytes);
                    } else {
                        self.ready.extend_from_slice(bytes);
                    }
                }
                Some((_, Part::Queue(reply))) => write_reply(reply, &mut self.ready),
                Some((_, Part::Status(cursor))) => {
                    if self.ready.is_empty() {
                        return Next::Produce(*cursor);
                    }
                    break;
                }
                Some((_, Part::Close(reason))) => {
                    if self.ready.is_empty() {
                        return Next::Close(reason);
                    }
                    break;
                }
                None => break,
            }
            self.parts.pop_front();
        }
        if self.ready.len() > self.written { Next::Write(&self.ready[self.written..]) } else { Next::Wait }
    }

    /// Takes off what was written.
    pub fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        debug_assert!(self.written <= self.ready.len());
    }

    /// Adds the next part of the answer that [`Next::Produce`] asked for.
    pub fn feed(&mut self, produce: impl FnOnce(&mut Vec<u8>) -> bool) {
        debug_assert!(matches!(self.parts.front(), Some((_, Part::Status(_)))));
        if produce(&mut self.ready) {
            self.parts.pop_front();
        }
    }

    /// The long answers that are not complete.
    pub fn statuses(&self) -> impl Iterator<Item = StatusCursor> {
        self.parts.iter().filter_map(|(_, part)| match part {
            Part::Status(cursor) => Some(*cursor),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(outbox: &mut Outbox, durable: u64) -> String {
        let mut all = String::new();
        while let Next::Write(bytes) = outbox.next(durable) {
            // As a slow socket would: three bytes at a time.
            let part = &bytes[..bytes.len().min(3)];
            all.push_str(std::str::from_utf8(part).unwrap());
            let len = part.len();
            outbox.wrote(len);
        }
        all
    }

    /// C acknowledges `queue` before redis has it: after a kill -9, 0 of 1000 requests were left.
    #[test]
    fn nothing_passes_a_part_whose_commit_is_not_durable() {
        let mut outbox = Outbox::default();
        outbox.push(0, |out| out.extend_from_slice(b"a"));
        outbox.push(3, |out| out.extend_from_slice(b"b"));
        outbox.push(0, |out| out.extend_from_slice(b"c"));
        assert_eq!(text(&mut outbox, 2), "a");
        assert_eq!(outbox.next(2), Next::Wait);
        assert_eq!(outbox.bytes(), 2);
        assert_eq!(text(&mut outbox, 3), "bc");
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_failed_commit_changes_the_answer_to_queue() {
        let queue = || Reply::Queue { enqueued: 2, skipped: 0, status: 0, error: "" };
        let mut outbox = Outbox::default();
        outbox.push_queue(1, queue());
        outbox.push_queue(2, queue());
        outbox.fail(2, libc::ENOSPC);
        let want = concat!(
            r#"{"command": "queue", "enqueued": 2}"#,
            r#"{"command": "queue", "status": -28, "error": "No space left on device"}"#
        );
        assert_eq!(text(&mut outbox, 2), want);
    }

    #[test]
    fn long_answers_are_produced_when_it_is_their_turn() {
        let mut outbox = Outbox::default();
        outbox.push(0, |out| out.extend_from_slice(b"one"));
        outbox.push_status(0, StatusCursor(7));
        outbox.push(0, |out| out.extend_from_slice(b"two"));
        outbox.push_close(0, "bye");
        assert_eq!(outbox.statuses().count(), 1);
        assert_eq!(text(&mut outbox, 0), "one");
        assert_eq!(outbox.next(0), Next::Produce(StatusCursor(7)));
        outbox.feed(|out| {
            out.extend_from_slice(b"{..");
            false
        });
        assert_eq!(text(&mut outbox, 0), "{..");
        assert_eq!(outbox.next(0), Next::Produce(StatusCursor(7)));
        outbox.feed(|out| {
            out.extend_from_slice(b"}");
            true
        });
        assert_eq!(text(&mut outbox, 0), "}two");
        assert_eq!(outbox.next(0), Next::Close("bye"));
    }
}
