//! What the store held: read on its own thread, given to the core in parts.

use std::io;
use std::rc::Rc;

use tokio::sync::mpsc::{Receiver, UnboundedSender, channel};

use super::DaemonError;
use super::inputs::Input;
use super::signals::Signals;
use crate::hsm::Event;
use crate::server::committer::Committer;
use crate::server::shell::Shell;
use crate::server::stores::{self, OpenError, Opened};
use crate::store::{Store, StoreError};

/// Parts of what the store held that are read ahead of the coordinator.
const RECOVERED_PARTS: usize = 16;

/// Reads the store on the thread that writes it afterwards. Gives what it finds, in parts.
pub(super) fn read_store(
    opened: Opened,
    inputs: UnboundedSender<Input>,
) -> io::Result<(Committer, Receiver<Result<Event, StoreError>>)> {
    let (parts, found) = channel(RECOVERED_PARTS);
    let Opened { store, embedded } = opened;
    let read = move |store: &mut dyn Store| {
        let read =
            stores::read(store, embedded.as_deref(), &mut |part| parts.blocking_send(Ok(part)).is_ok());
        match read {
            Ok(()) => true,
            Err(error) => {
                // The loop only goes away with the process.
                let _ = parts.blocking_send(Err(error));
                false
            }
        }
    };
    let committer = Committer::start_reading(store, read, move |report| {
        let _ = inputs.send(Input::Store(report));
    })?;
    Ok((committer, found))
}

/// Gives the core what the store held. Returns whether a signal came meanwhile: all is read nevertheless.
pub(super) async fn recover(
    shell: &Rc<Shell>,
    mut found: Receiver<Result<Event, StoreError>>,
    signals: &mut Signals,
) -> Result<bool, DaemonError> {
    let mut stop = false;
    loop {
        let part = tokio::select! {
            part = found.recv() => part,
            name = signals.stop.next() => {
                if stop {
                    tracing::warn!("Got signal {name} again");
                    return Err(DaemonError::KilledTwice);
                }
                tracing::info!("Got signal {name}, exiting when the store was read");
                stop = true;
                continue;
            }
        };
        match part {
            Some(Ok(Event::RecoveryEnded)) => {
                shell.recovered();
                return Ok(stop);
            }
            Some(Ok(part)) => shell.handle(part),
            Some(Err(error)) => return Err(OpenError::Store(error).into()),
            None => return Err(io::Error::other("the thread that reads the store has died").into()),
        }
        // Peers have their turn.
        tokio::task::yield_now().await;
    }
}
