//! Lustre: the registration, taken over or new, what asks it, and what is left to the next run.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use super::inputs::Input;
use super::{Daemon, DaemonError};
use crate::hsm::{ActionItem, LustreCall};
use crate::lustre::calls::Calls;
use crate::lustre::kuc::Copytool;
use crate::lustre::link::{CurrentMount, FromLustre, Tell};
use crate::server::files::Files;
use crate::server::shell::{LustreCalls, Shell};
use crate::system::handover::{self, Registration};

impl Daemon<'_> {
    /// Goes on with the registration of an earlier run, if there is one that is good for this mount.
    pub(super) fn take_over(
        &mut self,
        inputs: &UnboundedSender<Input>,
    ) -> Result<Option<(CurrentMount, Copytool)>, DaemonError> {
        let Some(Registration { pipe, root }) = self.inherited.registration() else { return Ok(None) };
        let Some(mount) = self.mount.take() else { return Ok(None) };
        match mount.adopt(root) {
            Ok(mount) => {
                let mount = CurrentMount::new(mount);
                let ids = self.settings.hsm.archive_ids.clone();
                let copytool = Copytool::adopt(mount.clone(), ids, tell_of(inputs), pipe)?;
                Ok(Some((mount, copytool)))
            }
            Err((mount, root)) => {
                tracing::warn!("something else is mounted now: the registration of the last run is given up");
                // A kernel that waits for room in the pipe lets go first.
                drop(pipe);
                drop(root);
                self.mount = Some(mount);
                Ok(None)
            }
        }
    }

    pub(super) fn connect_lustre(
        &mut self,
        taken_over: Option<(CurrentMount, Copytool)>,
        shell: &Rc<Shell>,
        inputs: &UnboundedSender<Input>,
    ) -> Result<(Option<Copytool>, Option<CurrentMount>), DaemonError> {
        let tell = tell_of(inputs);
        let (mount, copytool) = match (taken_over, self.mount.take()) {
            (Some(taken), _) => taken,
            (None, Some(mount)) => {
                let mount = CurrentMount::new(mount);
                let ids = self.settings.hsm.archive_ids.clone();
                let copytool = Copytool::start(mount.clone(), ids, Arc::clone(&tell))?;
                (mount, copytool)
            }
            (None, None) => {
                shell.connect_lustre(Rc::new(NoLustre { tell }), self.start_files(None, inputs)?);
                return Ok((None, None));
            }
        };
        let files = self.start_files(Some(mount.clone()), inputs)?;
        shell.connect_lustre(Rc::new(Calls::start(mount.clone(), tell)?), files);
        Ok((Some(copytool), Some(mount)))
    }

    /// Starts what looks at files and at the file system.
    fn start_files(
        &self,
        mount: Option<CurrentMount>,
        inputs: &UnboundedSender<Input>,
    ) -> Result<Rc<Files>, DaemonError> {
        let inputs = inputs.clone();
        let space = self.settings.hsm.archives_first_when_full.is_some();
        let files = Files::start(mount, self.settings.locator.clone(), space, move |event| {
            // The loop only goes away with the process.
            let _ = inputs.send(Input::Files(event));
        });
        Ok(Rc::new(files?))
    }

    /// Leaves what the next run can go on with to the service manager, if there is one. Everything that was read is stored.
    pub(super) fn hand_over(&self, listeners: &[std::net::TcpListener], copytool: Option<Copytool>) {
        if !handover::possible() {
            return;
        }
        let registration = copytool
            .and_then(|mut copytool| copytool.take_registration())
            .map(|(pipe, root)| Registration { pipe, root });
        let ids = &self.settings.hsm.archive_ids;
        let listeners: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        match handover::keep(&listeners, registration.as_ref(), ids) {
            Ok(()) => tracing::info!("left to the next run: what listens, and the registration at lustre"),
            Err(error) => tracing::warn!("nothing can be left to the next run: {error}"),
        }
        // Where nobody keeps them: a kernel that waits for room in the pipe lets go before the registration ends.
        if let Some(Registration { pipe, root }) = registration {
            drop(pipe);
            drop(root);
        }
    }
}

/// How threads that talk to Lustre reach the loop.
fn tell_of(inputs: &UnboundedSender<Input>) -> Tell {
    let inputs = inputs.clone();
    Arc::new(move |message| {
        // The loop only goes away with the process.
        let _ = inputs.send(Input::Lustre(message));
    })
}

/// Without a Lustre nobody else knows of a request.
struct NoLustre {
    tell: Tell,
}

impl LustreCalls for NoLustre {
    fn end(&self, item: ActionItem, _errno: i32) {
        (self.tell)(FromLustre::Ended { key: item.key(), errno: libc::ENOENT });
    }

    fn ask(&self, call: LustreCall) {
        (self.tell)(FromLustre::Answered(call.answer(libc::ENOTCONN)));
    }
}

impl LustreCalls for Calls {
    fn end(&self, item: ActionItem, errno: i32) {
        Calls::end(self, item, errno);
    }

    fn ask(&self, call: LustreCall) {
        Calls::ask(self, call);
    }
}
