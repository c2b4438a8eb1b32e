//! Frames: four bytes of length (big endian), then that many bytes of JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest frame that is accepted, in bytes.
pub const MAX_FRAME: usize = 1 << 20;

/// Why a stream of frames cannot be read any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME`].
    #[error("a message of {0} bytes (at most {MAX_FRAME} are accepted)")]
    TooLong(usize),
    /// Not a message of this protocol.
    #[error("not a message of this protocol: {0}")]
    Malformed(String),
}

/// A message as a frame.
///
/// # Errors
/// When it is longer than [`MAX_FRAME`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message).map_err(|error| FrameError::Malformed(error.to_string()))?;
    let length = bytes.len() - 4;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    bytes[..4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(bytes)
}

/// Puts frames together from bytes as they arrive.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether all that arrived was taken.
    pub fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }

    /// The next message, if it is complete.
    ///
    /// # Errors
    /// When the stream is broken; nothing more can be read from it then.
    pub fn pop<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let bytes = &self.buffer[self.start..];
        let Some((head, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message =
            serde_json::from_slice(body).map_err(|error| FrameError::Malformed(error.to_string()))?;
        self.start += 4 + length;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::protocol::{FromAgent, ToAgent};

    #[test]
    fn frames_arrive_in_any_pieces() {
        let messages = [ToAgent::Acknowledge { number: 1 }, ToAgent::Forget { orders: vec![] }];
        let bytes: Vec<u8> = messages.iter().flat_map(|message| encode(message).unwrap()).collect();
        for size in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                while let Some(message) = decoder.pop::<ToAgent>().unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, messages, "in pieces of {size}");
        }
    }

    #[test]
    fn broken_streams_are_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&[0xff; 8]);
        assert_eq!(decoder.pop::<FromAgent>(), Err(FrameError::TooLong(0xffff_ffff)));
        let mut decoder = Decoder::default();
        decoder.push(&[0, 0, 0, 2, b'{', b'}']);
        assert!(matches!(decoder.pop::<FromAgent>(), Err(FrameError::Malformed(_))));
    }
}
