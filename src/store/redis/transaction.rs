//! Commands as they are sent, between `MULTI` and `EXEC`: nothing is copied more often than it has to be.

use super::batch::Batch;
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

/// Adds the word that `write` appends to a command.
pub(super) fn push_word_with(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    // Most are requests, with three digits for their length: it is filled in when it is known.
    const HEAD: &[u8] = b"$000\r\n";
    let start = out.len();
    out.extend_from_slice(HEAD);
    let text = start + HEAD.len();
    write(out);
    let len = out.len() - text;
    if (100..1000).contains(&len) {
        for (digit, unit) in out[start + 1..].iter_mut().zip([100, 10, 1]) {
            *digit = b'0' + (len / unit % 10) as u8;
        }
    } else {
        let mut head = Vec::new();
        push_number(b'$', len, &mut head);
        out.splice(start..text, head);
    }
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

    /// Adds what a batch does, and empties it.
    pub fn add_batch(&mut self, batch: &mut Batch) {
        self.commands += batch.take(&mut self.bytes);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_whose_length_is_known_late_are_the_same() {
        for len in [0, 1, 9, 10, 99, 100, 101, 999, 1000, 12_345] {
            let text = vec![b'x'; len];
            let (mut early, mut late) = (b"before".to_vec(), b"before".to_vec());
            push_word(&text, &mut early);
            push_word_with(&mut late, |out| out.extend_from_slice(&text));
            assert_eq!(String::from_utf8(late), String::from_utf8(early));
        }
    }
}
