//! What other threads report, and time: both reach the core through here.

use std::rc::Rc;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use crate::hsm::Event;
use crate::lustre::link::FromLustre;
use crate::lustre::list;
use crate::server::committer;
use crate::server::shell::Shell;

/// Everything that happens on other threads.
pub(super) enum Input {
    Lustre(FromLustre),
    /// What the threads that look at files have found.
    Files(Event),
    Store(committer::Report),
}

/// Calls the core when it wants to be.
pub(super) async fn timers(shell: Rc<Shell>) {
    loop {
        let Some(at) = shell.next_deadline() else {
            shell.timer.notified().await;
            continue;
        };
        tokio::select! {
            () = tokio::time::sleep_until(Instant::from_std(at)) => {
                if shell.stopping() {
                    return;
                }
                shell.handle(Event::Tick);
                // A core with much to do wants to be called at once, again and again: others have their turn.
                tokio::task::yield_now().await;
            }
            () = shell.timer.notified() => {}
        }
    }
}

/// How the store was closed; `None` when nobody is left to say.
pub(super) type Closed = Option<Result<(), String>>;

/// Feeds what other threads report to the shell, until the store is closed.
pub(super) async fn feed(shell: Rc<Shell>, fsname: String, mut inputs: UnboundedReceiver<Input>) -> Closed {
    while let Some(input) = inputs.recv().await {
        match input {
            Input::Lustre(FromLustre::List(bytes)) => {
                let items = list::read(&bytes, &fsname);
                if !items.is_empty() {
                    shell.handle(Event::Lustre { items });
                }
            }
            Input::Lustre(FromLustre::Ended { key, errno }) => {
                shell.handle(Event::LustreEnded { key, errno })
            }
            Input::Lustre(FromLustre::Answered(answer)) => shell.handle(Event::LustreAnswered(answer)),
            Input::Lustre(FromLustre::Stopped) => shell.lustre_stopped.notify_one(),
            Input::Files(event) => shell.handle(event),
            Input::Store(committer::Report::Closed(result)) => return Some(result),
            Input::Store(report) => shell.store_report(report),
        }
    }
    None
}
