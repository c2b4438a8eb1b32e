//! A hash read as fast as redis gives it: on a connection of its own, the next part asked for as soon as this one begins to
//! come, and fields and values looked at where they lie.

use std::io::{self, Read, Write};
use std::ops::Range;

use super::transaction::push_command;

/// Fields that are asked for at a time.
const COUNT: usize = 5000;
/// Bytes that are read at a time.
const READ: usize = 256 << 10;
/// The longest string that redis keeps.
const LONGEST: usize = 512 << 20;

/// Walks over hashes.
#[derive(Debug)]
pub(super) struct Scanner<S> {
    stream: S,
    bytes: Vec<u8>,
    /// Where what was read and not looked at begins, and where it ends.
    at: usize,
    end: usize,
}

fn odd(what: &[u8]) -> io::Error {
    let shown: String = String::from_utf8_lossy(what).chars().take(200).collect();
    io::Error::other(format!("it answers {shown:?}"))
}

/// The line at the beginning, without its end, and how long it is with it.
fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = memchr::memchr(b'\n', bytes)?;
    Some((bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]), end + 1))
}

/// A length, in decimal digits.
fn number(text: &[u8]) -> Option<usize> {
    const MOST_DIGITS: usize = 12;
    let digits = !text.is_empty() && text.len() <= MOST_DIGITS && text.iter().all(u8::is_ascii_digit);
    digits.then(|| text.iter().fold(0, |value, digit| value * 10 + usize::from(digit - b'0')))
}

/// The string at the beginning: where it is, and where the next thing begins. `None` when it is not all there.
fn string(bytes: &[u8]) -> io::Result<Option<(Range<usize>, usize)>> {
    let Some((head, begin)) = line(bytes) else { return Ok(None) };
    let len = head.strip_prefix(b"$").and_then(number).filter(|len| *len <= LONGEST);
    let end = begin + len.ok_or_else(|| odd(head))?;
    if bytes.len() < end + 2 {
        return Ok(None);
    }
    if bytes[end..end + 2] != *b"\r\n" {
        return Err(odd(&bytes[end..end + 2]));
    }
    Ok(Some((begin..end, end + 2)))
}

impl<S: Read + Write> Scanner<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, bytes: Vec::new(), at: 0, end: 0 }
    }

    /// Sends a command that is answered by a line.
    ///
    /// # Errors
    /// Of the connection, or what redis has against it.
    pub(super) fn ask(&mut self, words: &[&[u8]]) -> io::Result<()> {
        self.send(words)?;
        match self.line()? {
            answer if answer.starts_with(b"+") => Ok(()),
            answer => Err(odd(&answer)),
        }
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
            if self.count()? != 2 {
                return Err(io::Error::other("it answers HSCAN with something else"));
            }
            let at = self.string()?;
            cursor.clear();
            cursor.extend_from_slice(&self.bytes[at]);
            // Redis looks for the next ones while we read these.
            let last = cursor == b"0";
            if !last {
                self.send(&[b"HSCAN", key.as_bytes(), &cursor, b"COUNT", count.as_bytes()])?;
            }
            for _ in 0..self.count()? / 2 {
                let (field, value) = self.pair()?;
                take(&self.bytes[field], &self.bytes[value]);
            }
            if last {
                return Ok(());
            }
        }
    }

    fn send(&mut self, words: &[&[u8]]) -> io::Result<()> {
        let mut command = Vec::new();
        push_command(words, &mut command);
        self.stream.write_all(&command)
    }

    /// Reads more.
    fn fill(&mut self) -> io::Result<()> {
        if self.at > 0 {
            self.bytes.copy_within(self.at..self.end, 0);
            (self.at, self.end) = (0, self.end - self.at);
        }
        if self.bytes.len() < self.end + READ {
            self.bytes.resize(self.end + READ, 0);
        }
        loop {
            match self.stream.read(&mut self.bytes[self.end..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.end += count;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some((text, used)) = line(&self.bytes[self.at..self.end]) {
                let text = text.to_vec();
                self.at += used;
                return Ok(text);
            }
            self.fill()?;
        }
    }

    /// How many elements an array has.
    fn count(&mut self) -> io::Result<usize> {
        let head = self.line()?;
        head.strip_prefix(b"*").and_then(number).ok_or_else(|| odd(&head))
    }

    fn string(&mut self) -> io::Result<Range<usize>> {
        loop {
            let from = self.at;
            if let Some((found, used)) = string(&self.bytes[from..self.end])? {
                self.at += used;
                return Ok(from + found.start..from + found.end);
            }
            self.fill()?;
        }
    }

    fn pair(&mut self) -> io::Result<(Range<usize>, Range<usize>)> {
        loop {
            let from = self.at;
            if let Some((field, next)) = string(&self.bytes[from..self.end])?
                && let Some((value, used)) = string(&self.bytes[from + next..self.end])?
            {
                self.at += next + used;
                let value = from + next + value.start..from + next + value.end;
                return Ok((from + field.start..from + field.end, value));
            }
            self.fill()?;
        }
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
        Scanner::new(Script { answers: answers.to_vec(), at: 0, part, asked, read_then })
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
            let Script { asked, read_then, .. } = scanner.stream;
            let asked = text(&asked);
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
        assert!(script(b"+OK\r\n", 1).ask(&[b"AUTH", b"x"]).is_ok());
        assert!(script(b"-WRONGPASS\r\n", 1).ask(&[b"AUTH", b"x"]).is_err());
    }
}
