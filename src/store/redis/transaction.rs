//! Commands as they are sent, between `MULTI` and `EXEC`: nothing is copied more often than it has to be.

use super::batch::Batch;
use super::names::Hash;
use crate::wire::text::push_int;

/// Bytes of memory that are kept for the next one.
const KEPT: usize = 8 << 20;

/// A transaction in the making.
#[derive(Debug, Default)]
pub struct Transaction {
    bytes: Vec<u8>,
    commands: usize,
}

/// Begins a command of so many words.
pub(super) fn push_head(words: usize, out: &mut Vec<u8>) {
    push_number(b'*', words, out);
}

/// Adds a word to a command.
pub(super) fn push_word(word: &[u8], out: &mut Vec<u8>) {
    push_number(b'$', word.len(), out);
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

fn push_number(kind: u8, number: usize, out: &mut Vec<u8>) {
    out.push(kind);
    // Nothing in memory is longer than 63 bits can say.
    push_int(out, number as i64);
    out.extend_from_slice(b"\r\n");
}

/// Adds a command.
pub(super) fn push_command(words: &[&[u8]], out: &mut Vec<u8>) {
    push_head(words.len(), out);
    words.iter().for_each(|word| push_word(word, out));
}

impl Transaction {
    /// Begins another one.
    pub fn begin(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.commands = 0;
        push_command(&[b"MULTI"], &mut self.bytes);
    }

    /// Adds commands that were put together elsewhere.
    pub fn add_pipe(&mut self, pipe: &redis::Pipeline) {
        for command in pipe.cmd_iter() {
            self.bytes.extend_from_slice(&command.get_packed_command());
            self.commands += 1;
        }
    }

    /// Adds what a batch does, with the names that `name` gives to hashes.
    pub fn add_batch(&mut self, batch: &Batch, name: impl Fn(Hash) -> String) {
        self.commands += batch.encode(name, &mut self.bytes);
    }

    /// Ends it.
    pub fn end(&mut self) {
        push_command(&[b"EXEC"], &mut self.bytes);
    }

    /// What is to be sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Commands between the first and the last.
    pub fn commands(&self) -> usize {
        self.commands
    }
}
