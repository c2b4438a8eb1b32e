//! Takes a byte stream apart into top-level JSON objects.
//!
//! The decoder goes over each byte once, whatever way the stream was cut, and keeps no more than the object that is not
//! complete yet. It finds where objects end; what they mean is read by [`super::request`] and [`super::client`].

use std::fmt;

use super::scan::{BLOCK, Block};

/// Bounds on what a peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one object.
    pub message_bytes: usize,
    /// How deep objects and arrays may be nested, the outermost object included.
    pub depth: usize,
}

impl Default for Limits {
    /// 128 MiB, which is about 400,000 requests in one `queue` (the C client sends all it reads in one message), and 128
    /// levels.
    fn default() -> Self {
        Self { message_bytes: 128 << 20, depth: 128 }
    }
}

/// Why a stream cannot be read any further. Positions count from the first byte of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Something else than an object at the top level.
    #[error("expected a JSON object at byte {at}, found {found}")]
    NotAnObject {
        /// What was there.
        found: Found,
        /// Where.
        at: u64,
    },
    /// A byte that cannot be at its place in any JSON text.
    #[error("no JSON: unexpected {found} at byte {at}")]
    Unexpected {
        /// What was there.
        found: Found,
        /// Where.
        at: u64,
    },
    /// An object longer than [`Limits::message_bytes`].
    #[error("message longer than {limit} bytes at byte {at}")]
    TooLong {
        /// The limit.
        limit: usize,
        /// Where it was passed.
        at: u64,
    },
    /// An object nested deeper than [`Limits::depth`].
    #[error("message nested deeper than {limit} levels at byte {at}")]
    TooDeep {
        /// The limit.
        limit: usize,
        /// Where it was passed.
        at: u64,
    },
}

/// A byte as shown in an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found(pub u8);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            byte @ 0x21..=0x7e => write!(f, "`{}`", byte as char),
            byte => write!(f, "byte {byte:#04x}"),
        }
    }
}

/// What a byte means outside of strings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Part of a number or of a literal, or a separator: of no interest here.
    Plain,
    White,
    Quote,
    Open,
    Close,
    /// In no JSON text outside of a string.
    Never,
}

const CLASSES: [Class; 256] = {
    let mut table = [Class::Never; 256];
    let plain = b"0123456789+-.eEtrufalsn,:";
    let mut i = 0;
    while i < plain.len() {
        table[plain[i] as usize] = Class::Plain;
        i += 1;
    }
    table[b' ' as usize] = Class::White;
    table[b'\t' as usize] = Class::White;
    table[b'\n' as usize] = Class::White;
    table[b'\r' as usize] = Class::White;
    table[b'"' as usize] = Class::Quote;
    table[b'{' as usize] = Class::Open;
    table[b'[' as usize] = Class::Open;
    table[b'}' as usize] = Class::Close;
    table[b']' as usize] = Class::Close;
    table
};

fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

/// Where the scan stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between objects.
    Between,
    /// Inside an object, outside of strings.
    Value,
    /// Inside a string.
    Text,
    /// After a backslash in a string.
    Escape,
}

/// How deep the objects are nested that are known by heart.
const KNOWN_DEPTH: usize = 2;

/// Buffers kept between messages are not larger than this.
const KEEP: usize = 64 << 10;

/// The decoder of one connection and direction.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were handed out already.
    taken: usize,
    /// Bytes of `buffer` that were looked at.
    scanned: usize,
    /// Bytes that were dropped from the front of `buffer` so far.
    dropped: u64,
    state: State,
    /// Closing brackets that are due, innermost last.
    open: Vec<u8>,
    /// The last byte was `{`: only a member or the end may follow.
    fresh: bool,
    failed: Option<DecodeError>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            buffer: Vec::new(),
            taken: 0,
            scanned: 0,
            dropped: 0,
            state: State::Between,
            open: Vec::new(),
            fresh: false,
            failed: None,
        }
    }

    /// Appends what was read. The caller takes all objects out before it pushes more, so that the memory in use stays
    /// below one message and one read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        self.compact();
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete object, `None` when more bytes are needed. White space between objects is skipped. After an
    /// error the stream is lost and the same error comes again.
    pub fn next_object(&mut self) -> Result<Option<&[u8]>, DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.scan() {
            Ok(Some(end)) => {
                let start = self.taken;
                self.taken = end;
                Ok(Some(&self.buffer[start..end]))
            }
            Ok(None) => {
                // The memory of a long message that has been taken is not kept until more comes.
                self.compact();
                Ok(None)
            }
            Err(error) => {
                self.failed = Some(error);
                self.buffer = Vec::new();
                self.open = Vec::new();
                Err(error)
            }
        }
    }

    /// What `read` knows by heart at the front of what is left, without a look for its end. `read` must take one whole
    /// object, of at most [`KNOWN_DEPTH`] levels, and say how long it is.
    pub(super) fn next_known<T>(&mut self, read: impl FnOnce(&[u8]) -> Option<(T, usize)>) -> Option<T> {
        if self.state != State::Between || self.failed.is_some() || self.limits.depth < KNOWN_DEPTH {
            return None;
        }
        let (known, length) = read(&self.buffer[self.scanned..])?;
        if length > self.limits.message_bytes {
            return None;
        }
        self.scanned += length;
        self.taken = self.scanned;
        Some(known)
    }

    /// Bytes of an object that is not complete. Not zero at the end of a stream means that the peer stopped midway.
    pub fn pending_bytes(&self) -> usize {
        if self.state == State::Between { 0 } else { self.buffer.len() - self.taken }
    }

    /// Memory held for the stream.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    fn position(&self, index: usize) -> u64 {
        self.dropped + index as u64
    }

    /// Finds the end of the current object.
    fn scan(&mut self) -> Result<Option<usize>, DecodeError> {
        let mut i = self.scanned;
        // Where something unusual is in a block, its bytes are looked at one by one.
        let mut blocks_from = i;
        while i < self.buffer.len() {
            // Bytes beyond the limit are not looked at, so that it does not depend on how the stream was cut which of two
            // errors comes.
            let stop = match self.state {
                State::Between => self.buffer.len(),
                _ => self.buffer.len().min(self.taken.saturating_add(self.limits.message_bytes)),
            };
            if i >= stop {
                let limit = self.limits.message_bytes;
                return Err(DecodeError::TooLong { limit, at: self.position(stop) });
            }
            if i >= blocks_from && matches!(self.state, State::Value | State::Text) {
                let (at, end) = self.blocks(i, stop)?;
                if end {
                    self.scanned = at;
                    self.state = State::Between;
                    return Ok(Some(at));
                }
                blocks_from = at + BLOCK;
                if at > i {
                    i = at;
                    continue;
                }
            }
            let rest = &self.buffer[i..stop];
            match self.state {
                State::Between => {
                    let Some(skip) = rest.iter().position(|b| class(*b) != Class::White) else {
                        i = self.buffer.len();
                        self.taken = i;
                        break;
                    };
                    i += skip;
                    self.taken = i;
                    if rest[skip] != b'{' {
                        return Err(DecodeError::NotAnObject {
                            found: Found(rest[skip]),
                            at: self.position(i),
                        });
                    }
                    self.state = State::Value;
                }
                State::Text => match memchr::memchr2(b'"', b'\\', rest) {
                    Some(at) => {
                        self.state = if rest[at] == b'"' { State::Value } else { State::Escape };
                        i += at + 1;
                    }
                    None => i = stop,
                },
                State::Escape => {
                    self.state = State::Text;
                    i += 1;
                }
                State::Value => {
                    let Some(skip) = rest.iter().position(|b| class(*b) != Class::Plain || self.fresh) else {
                        i = stop;
                        continue;
                    };
                    i += skip;
                    if self.structure(rest[skip], i)? {
                        self.scanned = i + 1;
                        self.state = State::Between;
                        return Ok(Some(i + 1));
                    }
                    i += 1;
                }
            }
        }
        self.scanned = i;
        Ok(None)
    }

    /// Takes as many blocks as have nothing unusual in them. Returns where the next one starts, or where the object ends if
    /// it does.
    fn blocks(&mut self, from: usize, stop: usize) -> Result<(usize, bool), DecodeError> {
        let mut i = from;
        while let Some(bytes) = self.buffer[i..stop].first_chunk::<BLOCK>() {
            let block = Block::of(bytes);
            let strings = block.strings(self.state == State::Text);
            let braces = block.braces & !strings;
            let unusual = block.backslashes | !(strings | block.usual) | (braces << 1 & !block.quotes);
            if unusual != 0 || self.fresh {
                break;
            }
            let mut brackets = block.brackets & !strings;
            while brackets != 0 {
                let at = i + brackets.trailing_zeros() as usize;
                brackets &= brackets - 1;
                let end = self.structure(self.buffer[at], at)?;
                // Behind each brace is a quote, unless that is in the next block.
                self.fresh = false;
                if end {
                    return Ok((at + 1, true));
                }
            }
            self.fresh = braces >> (BLOCK - 1) != 0;
            self.state = if strings >> (BLOCK - 1) != 0 { State::Text } else { State::Value };
            i += BLOCK;
        }
        Ok((i, false))
    }

    /// Takes a byte outside of strings that is no plain one. Returns whether it ends the object.
    fn structure(&mut self, byte: u8, at: usize) -> Result<bool, DecodeError> {
        let unexpected = DecodeError::Unexpected { found: Found(byte), at: self.position(at) };
        let kind = class(byte);
        if self.fresh && !matches!(byte, b'"' | b'}') && kind != Class::White {
            return Err(unexpected);
        }
        match kind {
            // Plain bytes come here only right after `{`, where they are refused above.
            Class::White | Class::Plain => return Ok(false),
            Class::Quote => self.state = State::Text,
            Class::Open => {
                if self.open.len() >= self.limits.depth {
                    return Err(DecodeError::TooDeep { limit: self.limits.depth, at: self.position(at) });
                }
                // In ASCII, a closing brace or bracket is two after its opening one.
                self.open.push(byte + 2);
            }
            Class::Close => {
                if self.open.pop() != Some(byte) {
                    return Err(unexpected);
                }
            }
            Class::Never => return Err(unexpected),
        }
        self.fresh = byte == b'{';
        Ok(self.open.is_empty())
    }

    /// Drops what was handed out, at a cost that each byte bears at most once.
    fn compact(&mut self) {
        let left = self.buffer.len() - self.taken;
        if left > self.taken && left > 0 {
            return;
        }
        self.buffer.copy_within(self.taken.., 0);
        self.buffer.truncate(left);
        self.dropped += self.taken as u64;
        self.scanned -= self.taken;
        self.taken = 0;
        if self.buffer.capacity() > KEEP && left < self.buffer.capacity() / 4 {
            self.buffer.shrink_to(left.max(KEEP));
        }
    }
}
