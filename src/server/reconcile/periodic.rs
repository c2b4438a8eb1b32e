//! Runs the command that lists requests when the daemon starts and at intervals.

use std::rc::Rc;
use std::time::Duration;

use super::command::{self, CommandError};
use super::{Intake, Settings};
use crate::hsm::reconcile::Reconcile;
use crate::hsm::{Event, OperatorReply};
use crate::lustre::tunables::{self, Tunables};
use crate::server::shell::Shell;

/// How often the settings of MDTs on this host are read.
const LOOK_AT_SYSFS: Duration = Duration::from_secs(60);

/// What is done at intervals.
#[derive(Debug)]
pub struct Periodic {
    shell: Rc<Shell>,
    intake: Intake,
    /// What the MDTs are set to, as far as anybody said.
    tunables: Tunables,
    failing: bool,
}

impl Periodic {
    /// Of listings that are handed in there.
    pub fn new(shell: Rc<Shell>, intake: Intake) -> Self {
        Self { shell, intake, tunables: Tunables::default(), failing: false }
    }

    /// Goes on until the task is dropped. `first` is how long to wait before the first run: what movers hold from before
    /// should be claimed by then.
    pub async fn run(mut self, first: Duration) {
        let mut settings = self.intake.settings.clone();
        self.look_at_sysfs().await;
        let mut next = Some(tokio::time::Instant::now() + first);
        let mut sysfs = tokio::time::interval(LOOK_AT_SYSFS);
        loop {
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {
                    let now = settings.borrow_and_update().clone();
                    if !now.command.is_empty() {
                        self.reconcile(&now).await;
                    }
                    next = (!now.interval.is_zero()).then(|| tokio::time::Instant::now() + now.interval);
                }
                changed = settings.changed() => {
                    if changed.is_err() {
                        // The daemon stops.
                        return;
                    }
                    next = Some(tokio::time::Instant::now());
                }
                _ = sysfs.tick() => self.look_at_sysfs().await,
            }
        }
    }

    /// Runs the command once.
    async fn reconcile(&mut self, settings: &Settings) {
        match self.run_command(settings).await {
            Ok(OperatorReply::Refused(reason)) => self.failed(&reason),
            Ok(_) => self.failing = false,
            Err(error) => self.failed(&error.to_string()),
        }
    }

    async fn run_command(&mut self, settings: &Settings) -> Result<OperatorReply, CommandError> {
        let (listing, mut feed) = self.intake.begin("reconcile_command");
        let (ask, reply) = self.shell.reconcile(listing);
        let shell = &self.shell;
        let step = async |step| {
            shell.reconcile_step(ask, step);
            // Others have their turn.
            tokio::task::yield_now().await;
        };
        let ran = command::run(&settings.command, settings.timeout, async |bytes: &[u8]| {
            for part in feed.push(bytes) {
                step(part).await;
            }
        })
        .await;
        if let Err(error) = ran {
            step(Reconcile::Abort(error.to_string())).await;
            return Err(error);
        }
        let (steps, summary) = feed.finish();
        for last in steps {
            step(last).await;
        }
        self.learn(&summary.tunables);
        let gone = || OperatorReply::Refused("the daemon stops".to_owned());
        Ok(reply.await.unwrap_or_else(|_| gone()))
    }

    /// Said once, until it works again.
    fn failed(&mut self, why: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!("the listing of the MDTs' requests failed: {why}");
        }
    }

    async fn look_at_sysfs(&mut self) {
        let fsname = self.intake.fsname().to_owned();
        // Reading takes locks in the kernel.
        let read = tokio::task::spawn_blocking(move || Tunables::read(tunables::SYSFS.as_ref(), &fsname));
        match read.await {
            Ok(Ok(found)) => self.learn(&found),
            Ok(Err(error)) => tracing::debug!("cannot read {}: {error}", tunables::SYSFS),
            Err(_) => {}
        }
    }

    fn learn(&mut self, found: &Tunables) {
        let mut known = self.tunables.clone();
        known.merge(found);
        for remark in known.remarks(&self.tunables) {
            tracing::warn!("{remark}");
        }
        self.tunables = known;
        if let Some(timeout) = self.tunables.shortest_timeout() {
            self.shell.handle(Event::RequestTimeout(timeout));
        }
    }
}
