//! What redis answers (RESP 2), taken apart where it lies.

use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use redis::{RedisError, Value};
use rustix::net::RecvFlags;

use super::link::ANSWER;

/// Bytes that are read at a time.
const READ: usize = 256 << 10;
/// The longest string that redis keeps.
const LONGEST: usize = 512 << 20;
/// The longest line: a number, or what redis has against a command.
const LONGEST_LINE: usize = 64 << 10;
/// The longest answer that is looked at as a whole: all but those to `HSCAN`.
const LONGEST_ANSWER: usize = 4 << 20;

/// An answer that nothing can be made of.
pub(super) fn odd(what: &[u8]) -> io::Error {
    let shown: String = String::from_utf8_lossy(what).chars().take(200).collect();
    io::Error::other(format!("it answers {shown:?}"))
}

/// There is no answer, or none that comes to an end.
pub(super) fn too_late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it does not answer")
}

/// The line at the beginning, without its end, and how long it is with it. `None` when it is not all there.
fn line(bytes: &[u8]) -> io::Result<Option<(&[u8], usize)>> {
    let bytes = &bytes[..bytes.len().min(LONGEST_LINE)];
    match memchr::memchr(b'\n', bytes) {
        Some(end) => Ok(Some((bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]), end + 1))),
        None if bytes.len() == LONGEST_LINE => Err(odd(bytes)),
        None => Ok(None),
    }
}

/// A length, in decimal digits.
fn number(text: &[u8]) -> Option<usize> {
    const MOST_DIGITS: usize = 12;
    let digits = !text.is_empty() && text.len() <= MOST_DIGITS && text.iter().all(u8::is_ascii_digit);
    digits.then(|| text.iter().fold(0, |value, digit| value * 10 + usize::from(digit - b'0')))
}

/// The string at the beginning: where it is, and where the next thing begins. `None` when it is not all there.
fn string(bytes: &[u8]) -> io::Result<Option<(Range<usize>, usize)>> {
    let Some((head, begin)) = line(bytes)? else { return Ok(None) };
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

/// How long the value at the beginning is, with all that is in it. `None` when it is not all there.
fn value_len(bytes: &[u8]) -> io::Result<Option<usize>> {
    let (mut at, mut values) = (0, 1);
    while values > 0 {
        let Some((head, used)) = line(&bytes[at..])? else { return Ok(None) };
        values -= 1;
        match head.first() {
            Some(b'+' | b'-' | b':') => at += used,
            _ if matches!(head, b"$-1" | b"*-1") => at += used,
            Some(b'$') => match string(&bytes[at..])? {
                Some((_, used)) => at += used,
                None => return Ok(None),
            },
            Some(b'*') => {
                values += number(&head[1..]).ok_or_else(|| odd(head))?;
                at += used;
            }
            _ => return Err(odd(head)),
        }
    }
    Ok(Some(at))
}

/// What comes from a server.
#[derive(Debug)]
pub(super) struct Reader<S> {
    stream: S,
    bytes: Vec<u8>,
    /// Where what was read and not looked at begins, and where it ends.
    at: usize,
    end: usize,
}

impl<S> Reader<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, bytes: Vec::new(), at: 0, end: 0 }
    }

    pub(super) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// What was read here.
    pub(super) fn text(&self, at: Range<usize>) -> &[u8] {
        &self.bytes[at]
    }

    /// Makes room and returns where the next bytes go.
    fn room(&mut self) -> &mut [u8] {
        if self.at > 0 {
            self.bytes.copy_within(self.at..self.end, 0);
            (self.at, self.end) = (0, self.end - self.at);
        }
        if self.bytes.len() < self.end + READ {
            self.bytes.resize(self.end + READ, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// The next value, if all of it was read.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn next(&mut self) -> Result<Option<Value>, RedisError> {
        let there = &self.bytes[self.at..self.end];
        let Some(len) = value_len(there)? else {
            if there.len() >= LONGEST_ANSWER {
                return Err(io::Error::other("its answer does not end").into());
            }
            return Ok(None);
        };
        let value = redis::parse_redis_value(&self.bytes[self.at..self.at + len])?;
        self.at += len;
        Ok(Some(value))
    }
}

impl<S: AsFd> Reader<S> {
    /// What becomes readable when there is more.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Reads what has come, without waiting. Returns whether there was something.
    ///
    /// # Errors
    /// Of the connection; also when it has ended.
    pub(super) fn fill_with_what_is_there(&mut self) -> io::Result<bool> {
        self.room();
        let Self { stream, bytes, end, .. } = self;
        match rustix::net::recv(stream.as_fd(), &mut bytes[*end..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((count, _)) => {
                *end += count;
                Ok(true)
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl<S: Read> Reader<S> {
    /// Waits for more and reads it.
    ///
    /// # Errors
    /// Of the connection; also when nothing comes.
    pub(super) fn fill(&mut self) -> io::Result<()> {
        self.room();
        loop {
            match self.stream.read(&mut self.bytes[self.end..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.end += count;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(too_late());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for a value.
    ///
    /// # Errors
    /// Of the connection, or when it is no value, or takes too long to come. An error that redis answers is a value.
    pub(super) fn value(&mut self) -> Result<Value, RedisError> {
        let until = Instant::now() + ANSWER;
        loop {
            if let Some(value) = self.next()? {
                return Ok(value);
            }
            if Instant::now() >= until {
                return Err(too_late().into());
            }
            self.fill()?;
        }
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some((text, used)) = line(&self.bytes[self.at..self.end])? {
                let text = text.to_vec();
                self.at += used;
                return Ok(text);
            }
            self.fill()?;
        }
    }

    /// Waits for the head of an array: how many elements it has.
    pub(super) fn count(&mut self) -> io::Result<usize> {
        let head = self.line()?;
        head.strip_prefix(b"*").and_then(number).ok_or_else(|| odd(&head))
    }

    /// Waits for a string: where it is until more is read.
    pub(super) fn string(&mut self) -> io::Result<Range<usize>> {
        loop {
            let from = self.at;
            if let Some((found, used)) = string(&self.bytes[from..self.end])? {
                self.at += used;
                return Ok(from + found.start..from + found.end);
            }
            self.fill()?;
        }
    }

    /// Waits for two strings: where they are until more is read.
    pub(super) fn pair(&mut self) -> io::Result<(Range<usize>, Range<usize>)> {
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

/// All values that come through a stream, until it ends or something in it is no value. For tests.
pub fn read_all(stream: impl Read) -> Vec<Value> {
    let mut reader = Reader::new(stream);
    std::iter::from_fn(|| reader.value().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that gives a few bytes at a time.
    struct Parts<'a>(&'a [u8], usize);

    impl Read for Parts<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn values_are_found_however_they_come() {
        let answers = b"+OK\r\n-ERR no\r\n:12\r\n$-1\r\n$3\r\na\r\n\r\n*-1\r\n*0\r\n*3\r\n$0\r\n\r\n*2\r\n:1\r\n:2\r\n+x\r\n+last\r\n";
        for part in [1, 2, 3, 7, 1000] {
            let mut reader = Reader::new(Parts(answers, part));
            let all: Vec<Value> = (0..9).map(|_| reader.value().unwrap()).collect();
            let inner = Value::Array(vec![Value::Int(1), Value::Int(2)]);
            let x = Value::SimpleString("x".into());
            let want = [
                Value::Okay,
                all[1].clone(),
                Value::Int(12),
                Value::Nil,
                Value::BulkString(b"a\r\n".into()),
                Value::Nil,
                Value::Array(Vec::new()),
                Value::Array(vec![Value::BulkString(Vec::new()), inner, x]),
                Value::SimpleString("last".into()),
            ];
            assert_eq!(all, want);
            assert!(matches!(&all[1], Value::ServerError(error) if error.details() == Some("no")));
            assert!(reader.value().unwrap_err().to_string().contains("end of file"));
        }
    }

    #[test]
    fn nonsense_is_not_believed() {
        for nonsense in
            ["x\r\n", "\r\n", "*x\r\n", "$9999999999999\r\n", "$1\r\nabc", "*1\r\n%1\r\n", "$-2\r\n"]
        {
            let error = Reader::new(Parts(nonsense.as_bytes(), 1000)).value().unwrap_err().to_string();
            assert!(error.contains("it answers"), "{nonsense:?}: {error}");
        }
    }

    /// A server that never comes to an end, and how much it was asked for.
    struct Endless(&'static [u8], usize);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            assert!(self.1 < 64 << 20, "it is believed for ever");
            buffer.iter_mut().enumerate().for_each(|(at, byte)| *byte = self.0[(self.1 + at) % self.0.len()]);
            self.1 += buffer.len();
            Ok(buffer.len())
        }
    }

    #[test]
    fn what_never_ends_is_given_up_while_it_is_small() {
        let error = Reader::new(Endless(b"+", 0)).value().unwrap_err().to_string();
        assert!(error.contains("it answers"), "{error}");
        assert!(Reader::new(Endless(b"*", 0)).count().unwrap_err().to_string().contains("it answers"));
        assert!(Reader::new(Endless(b"$", 0)).string().unwrap_err().to_string().contains("it answers"));
        let many = b"*999999999999\r\n";
        let mut reader = Reader::new(Endless(many, 0));
        assert!(reader.value().unwrap_err().to_string().contains("does not end"));
        assert!(reader.bytes.len() < 2 * LONGEST_ANSWER);
    }
}
