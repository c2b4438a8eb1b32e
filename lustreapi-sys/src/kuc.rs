//! Frames of the kernel-to-user channel: an 8-byte header, then the message.

use crate::abi::{HMT_ACTION_LIST, KUC_MAGIC, KUC_MSG_SHUTDOWN, KUC_TRANSPORT_GENERIC, KUC_TRANSPORT_HSM};

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 8;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// An HSM action list, to be read with [`crate::hal::ActionList::parse`].
    ActionList(&'a [u8]),
    /// The client is being unmounted.
    Shutdown,
    /// A message of another transport or type, which a copytool skips.
    Other {
        /// `kuc_transport`.
        transport: u8,
        /// `kuc_msgtype`.
        msgtype: u16,
    },
}

/// Why bytes are not a frame. The pipe cannot be read in step any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first two bytes are not [`KUC_MAGIC`].
    #[error("kernel message with magic {0:#06x} instead of 0x191c")]
    BadMagic(u16),
    /// `kuc_msglen` is shorter than the header it includes.
    #[error("kernel message of {0} bytes is shorter than its own header")]
    TooShort(u16),
}

/// Takes the first frame of `bytes`.
///
/// Returns the frame and how many bytes it occupied, or `None` when more bytes are needed.
pub fn next_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_LEN>() else { return Ok(None) };
    let magic = u16::from_ne_bytes([header[0], header[1]]);
    if magic != KUC_MAGIC {
        return Err(FrameError::BadMagic(magic));
    }
    let transport = header[2];
    let msgtype = u16::from_ne_bytes([header[4], header[5]]);
    let msglen = u16::from_ne_bytes([header[6], header[7]]);
    let len = usize::from(msglen);
    if len < HEADER_LEN {
        return Err(FrameError::TooShort(msglen));
    }
    let Some(payload) = bytes.get(HEADER_LEN..len) else { return Ok(None) };
    let frame = match (transport, msgtype) {
        (KUC_TRANSPORT_HSM, HMT_ACTION_LIST) => Frame::ActionList(payload),
        (KUC_TRANSPORT_GENERIC, KUC_MSG_SHUTDOWN) => Frame::Shutdown,
        (transport, msgtype) => Frame::Other { transport, msgtype },
    };
    Ok(Some((frame, len)))
}

/// Builds a frame, or `None` when `payload` is too long for the 16-bit length of the header.
pub fn frame(transport: u8, msgtype: u16, payload: &[u8]) -> Option<Vec<u8>> {
    let msglen = u16::try_from(HEADER_LEN + payload.len()).ok()?;
    let mut out = Vec::with_capacity(usize::from(msglen));
    out.extend_from_slice(&KUC_MAGIC.to_ne_bytes());
    out.extend_from_slice(&[transport, 0]);
    out.extend_from_slice(&msgtype.to_ne_bytes());
    out.extend_from_slice(&msglen.to_ne_bytes());
    out.extend_from_slice(payload);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_apart_at_any_split() {
        let first = frame(KUC_TRANSPORT_HSM, HMT_ACTION_LIST, b"payload!").unwrap();
        let second = frame(KUC_TRANSPORT_GENERIC, KUC_MSG_SHUTDOWN, b"").unwrap();
        let bytes = [first.clone(), second].concat();
        for cut in 0..first.len() {
            assert_eq!(next_frame(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        assert_eq!(next_frame(&bytes), Ok(Some((Frame::ActionList(b"payload!"), 16))));
        assert_eq!(next_frame(&bytes[16..]), Ok(Some((Frame::Shutdown, 8))));
    }

    #[test]
    fn damaged_headers_are_errors() {
        assert_eq!(next_frame(&[0; 8]), Err(FrameError::BadMagic(0)));
        assert_eq!(next_frame(&[0x1c, 0x19, 2, 0, 100, 0, 7, 0]), Err(FrameError::TooShort(7)));
        assert!(frame(2, 100, &[0; 65528]).is_none());
    }
}
