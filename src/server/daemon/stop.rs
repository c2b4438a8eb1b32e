//! The clean stop.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::DaemonError;
use super::inputs::Closed;
use crate::lustre::kuc::Copytool;
use crate::server::shell::Shell;
use crate::system::handover;

/// How long a clean stop waits for the kernel's pipe to be emptied.
const STOP_LUSTRE: Duration = Duration::from_secs(2);
/// How long it waits for the store.
const STOP_STORE: Duration = Duration::from_secs(10);
/// How long it waits for peers to read their answers, and for reporting files.
const STOP_OUTPUT: Duration = Duration::from_secs(1);

/// Stops without losing anything: movers keep what they have, and what was acknowledged is stored.
pub(super) async fn stop(
    shell: &Rc<Shell>,
    copytool: Option<&mut Copytool>,
    closed: tokio::task::JoinHandle<Closed>,
) -> Result<(), DaemonError> {
    shell.stop();
    if let Some(copytool) = copytool {
        if handover::possible() {
            copytool.hand_over();
        } else {
            copytool.stop();
        }
        if tokio::time::timeout(STOP_LUSTRE, shell.lustre_stopped.notified()).await.is_err() {
            tracing::warn!("lustre does not answer: its registration ends with this process");
        }
    }
    wait_for(STOP_STORE, || shell.all_stored()).await;
    wait_for(STOP_OUTPUT, || shell.all_sent()).await;
    let (committer, reporting) = shell.take_outputs();
    if let Some(thread) = reporting.and_then(|mut reporting| reporting.finish()) {
        wait_for(STOP_OUTPUT, || thread.is_finished()).await;
    }
    let Some(mut committer) = committer else { return Ok(()) };
    committer.close();
    match tokio::time::timeout(STOP_STORE, closed).await {
        Ok(Ok(Some(Err(error)))) => Err(DaemonError::NotClosed(error)),
        Ok(_) => {
            committer.join();
            Ok(())
        }
        Err(_) => Err(DaemonError::NotClosed("it does not answer".to_owned())),
    }
}

/// Waits until `done`, but no longer than `limit`.
async fn wait_for(limit: Duration, done: impl Fn() -> bool) {
    let end = Instant::now() + limit;
    while !done() && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
