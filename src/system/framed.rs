//! Frames ([`crate::ha::protocol::frame`]) over a connection.

use std::io;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::ha::protocol::frame::Decoder;

/// A connection, with TLS or without.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// How much is read at once, in bytes.
const READ: usize = 4096;
/// How long one write may take before the other side counts as gone.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// Reads messages and gives them to `take`, until the other side ends or says something that is not of this protocol.
/// `take` returning false ends it as well.
///
/// # Errors
/// When the connection breaks ([`io::ErrorKind::UnexpectedEof`] for an end in the middle of a message), or with
/// [`io::ErrorKind::InvalidData`] for what is not of this protocol.
pub async fn read<M: DeserializeOwned>(
    mut from: impl AsyncRead + Unpin,
    mut take: impl AsyncFnMut(M) -> bool,
) -> io::Result<()> {
    let mut decoder = Decoder::default();
    // A manager has one for each of many servers, and most messages are short.
    let mut bytes = vec![0; READ];
    let mut partial = false;
    loop {
        let read = from.read(&mut bytes).await?;
        if read == 0 {
            return if partial { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) };
        }
        decoder.push(&bytes[..read]);
        let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        while let Some(message) = decoder.pop().map_err(wrong)? {
            if !take(message).await {
                return Ok(());
            }
        }
        partial = !decoder.is_empty();
    }
}

/// Writes frames as they come, until there will be no more, and then ends the connection in an orderly way.
///
/// # Errors
/// When the connection breaks, or the other side does not take anything for 10 s.
pub async fn write(mut to: impl AsyncWrite + Unpin, mut frames: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    let mut batch = Vec::new();
    while frames.recv_many(&mut batch, 64).await > 0 {
        let bytes: Vec<u8> = batch.drain(..).flatten().collect();
        let written = async {
            to.write_all(&bytes).await?;
            to.flush().await
        };
        tokio::time::timeout(WRITE_TIME, written).await.map_err(|_| io::ErrorKind::TimedOut)??;
    }
    tokio::time::timeout(WRITE_TIME, to.shutdown()).await.map_err(|_| io::ErrorKind::TimedOut)?
}
