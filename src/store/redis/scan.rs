//! A hash read as fast as redis gives it: on a connection of its own, the next part asked for as soon as this one begins to
//! come, and fields and values looked at where they lie.

use std::io::{self, Read, Write};

use super::resp::Reader;
use super::transaction::push_command;

/// Fields that are asked for at a time.
const COUNT: usize = 5000;

/// Walks over hashes.
#[derive(Debug)]
pub(super) struct Scanner<S> {
    input: Reader<S>,
}

impl<S: Read + Write> Scanner<S> {
    pub(super) fn new(input: Reader<S>) -> Self {
        Self { input }
    }

    /// Gives every field of a hash and its value to `take`; some may come twice.
    ///
    /// # Errors
    /// Of the connection, or what redis has against it.
    pub(super) fn scan(&mut self, key: &str, mut take: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let count = COUNT.to_string();
        let mut cursor = b"0".to_vec();
        self.send(&[b"HSCAN", key.as_bytes(), &cursor, b"COUNT", count.as_bytes()])?;
        loop {
            if self.input.count()? != 2 {
                return Err(io::Error::other("it answers HSCAN with something else"));
            }
            let at = self.input.string()?;
            cursor.clear();
            cursor.extend_from_slice(self.input.text(at));
            // Redis looks for the next ones while we read these.
            let last = cursor == b"0";
            if !last {
                self.send(&[b"HSCAN", key.as_bytes(), &cursor, b"COUNT", count.as_bytes()])?;
            }
            for _ in 0..self.input.count()? / 2 {
                let (field, value) = self.input.pair()?;
                take(self.input.text(field), self.input.text(value));
            }
            if last {
                return Ok(());
            }
        }
    }

    fn send(&mut self, words: &[&[u8]]) -> io::Result<()> {
        let mut command = Vec::new();
        push_command(words, &mut command);
        self.input.stream().write_all(&command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that was written down: its answers come in parts of some length.
    struct Script {
        answers: Vec<u8>,
        at: usize,
        part: usize,
        asked: Vec<u8>,
        /// How much was read when each command came.
        read_then: Vec<usize>,
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.part.min(self.answers.len() - self.at).min(buffer.len());
            buffer[..count].copy_from_slice(&self.answers[self.at..self.at + count]);
            self.at += count;
            Ok(count)
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.asked.extend_from_slice(bytes);
            self.read_then.push(self.at);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn script(answers: &[u8], part: usize) -> Scanner<Script> {
        let (asked, read_then) = (Vec::new(), Vec::new());
        Scanner::new(Reader::new(Script { answers: answers.to_vec(), at: 0, part, asked, read_then }))
    }

    const ANSWERS: &[u8] = b"*2\r\n$2\r\n17\r\n*4\r\n$1\r\na\r\n$3\r\n1\r\n\r\n$0\r\n\r\n$2\r\nxy\r\n\
                             *2\r\n$1\r\n0\r\n*2\r\n$1\r\nb\r\n$0\r\n\r\n";

    #[test]
    fn every_pair_is_found_however_it_comes() {
        for part in [1, 2, 3, 7, 1000] {
            let mut scanner = script(ANSWERS, part);
            let mut found = Vec::new();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            scanner.scan("h", |field, value| found.push((text(field), text(value)))).unwrap();
            let want = [("a", "1\r\n"), ("", "xy"), ("b", "")];
            assert_eq!(found, want.map(|(field, value)| (field.to_owned(), value.to_owned())));
            let Script { asked, read_then, .. } = scanner.input.stream();
            let asked = text(asked);
            assert!(
                asked.starts_with("*5\r\n$5\r\nHSCAN\r\n$1\r\nh\r\n$1\r\n0\r\n$5\r\nCOUNT\r\n"),
                "{asked}"
            );
            assert!(asked.contains("$2\r\n17\r\n"));
            assert_eq!(read_then.len(), 2);
            // The next part is asked for before this one was read.
            assert!(part > 7 || read_then[1] < 20, "{read_then:?}");
        }
    }

    #[test]
    fn what_redis_has_against_it_is_said_and_nonsense_is_not_believed() {
        for (answers, want) in [
            (&b"-NOAUTH Authentication required.\r\n"[..], "NOAUTH"),
            (b"-ERR", "end of file"),
            (b"*3\r\n", "something else"),
            (b"*2\r\n$-1\r\n", "-1"),
            (b"*2\r\n$1\r\n0\r\n*2\r\n$99999999999\r\n", "99999999999"),
            (b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\nabc", "bc"),
            (b"*2\r\n$1\r\n0\r\n-LOADING\r\n", "LOADING"),
        ] {
            let error = script(answers, 1000).scan("h", |_, _| ()).unwrap_err().to_string();
            assert!(error.contains(want), "{error} {want}");
        }
    }
}
