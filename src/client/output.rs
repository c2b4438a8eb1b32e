//! Standard output with the C client's order of bytes.
//!
//! C prints text through a buffer and writes JSON past it. On a terminal the buffer is emptied at each line, so that
//! everything comes in order; on a pipe or a file it is emptied when it is full and at the end, so that the JSON comes
//! first. Scripts rely on both.

use std::io::{self, Write};

/// Size of C's buffer: what `st_blksize` says of pipes and of files.
const BUFFER: usize = 4096;

/// Standard output, or what stands for it in a test.
#[derive(Debug)]
pub struct Output<W: Write> {
    sink: W,
    terminal: bool,
    text: Vec<u8>,
}

impl<W: Write> Output<W> {
    /// Output to `sink`, which is a terminal or not.
    pub fn new(sink: W, terminal: bool) -> Self {
        Self { sink, terminal, text: Vec::new() }
    }

    /// Text, ending in a newline.
    ///
    /// # Errors
    /// Fails as writing does.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.text.extend_from_slice(text.as_bytes());
        if self.terminal {
            return self.finish();
        }
        while self.text.len() > BUFFER {
            self.sink.write_all(&self.text[..BUFFER])?;
            self.text.drain(..BUFFER);
        }
        Ok(())
    }

    /// Bytes that go out at once.
    ///
    /// # Errors
    /// Fails as writing does.
    pub fn direct(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.write_all(bytes)?;
        self.sink.flush()
    }

    /// Lets out what is left. Called at the end; what a killed process held back is lost, as in C.
    ///
    /// # Errors
    /// Fails as writing does.
    pub fn finish(&mut self) -> io::Result<()> {
        self.sink.write_all(&self.text)?;
        self.text.clear();
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(terminal: bool, times: usize) -> String {
        let mut sink = Vec::new();
        let mut output = Output::new(&mut sink, terminal);
        for _ in 0..times {
            output.text("Got recv reply:\n").unwrap();
            output.direct(b"{}").unwrap();
            output.text("\n").unwrap();
        }
        output.finish().unwrap();
        String::from_utf8(sink).unwrap()
    }

    #[test]
    fn json_comes_first_on_a_pipe_and_in_order_on_a_terminal() {
        assert_eq!(written(true, 2), "Got recv reply:\n{}\nGot recv reply:\n{}\n");
        assert_eq!(written(false, 2), "{}{}Got recv reply:\n\nGot recv reply:\n\n");
    }

    /// The text of 240 answers is 4080 bytes long; the 241st fills the buffer.
    #[test]
    fn a_full_buffer_is_written_before_the_next_json() {
        let text = "Got recv reply:\n\n";
        let before = "{}".repeat(240) + &text.repeat(240);
        assert_eq!(written(false, 240), before);
        let after = "{}".repeat(241) + &text.repeat(241);
        assert_eq!(written(false, 241), after);
        let got = written(false, 242);
        let mut want = "{}".repeat(241);
        want.push_str(&text.repeat(242)[..4096]);
        want.push_str("{}");
        want.push_str(&text.repeat(242)[4096..]);
        assert_eq!(got, want);
    }
}
