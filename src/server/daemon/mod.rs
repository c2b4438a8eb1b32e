//! From start to stop.

mod inputs;
mod lustre;
mod recovery;
mod reload;
mod signals;
mod stop;

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use self::inputs::{feed, timers};
use self::recovery::{read_store, recover};
use self::signals::Signals;
use self::stop::stop;
use super::api::{self, Api};
use super::config::{Limits, Loaded, Lustre, Note, Settings};
use super::ha::child::HaChild;
use super::listener::{self, Hall};
use super::names::Names;
use super::options::Options;
use super::reconcile::{self, Intake, periodic::Periodic};
use super::reporting::Reporting;
use super::security::Credentials;
use super::security::entrances::{EntranceError, Entrances};
use super::shell::Shell;
use super::stores::{self, OpenError};
use crate::hsm::{Coordinator, HsmConfig};
use crate::lustre::mount::{Mount, MountError};
use crate::system::clock::Clock;
use crate::system::handover::Inherited;
use crate::system::logging::{Logging, NOTICE};
use crate::system::supervisor;

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The mount point or the registration.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A way in.
    #[error(transparent)]
    Entrance(#[from] EntranceError),
    /// The directory of the reporting files.
    #[error("cannot open reporting_dir {dir} in {mount}: {source}")]
    Reporting {
        /// As configured.
        dir: String,
        /// The mount point.
        mount: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Where the API is to be.
    #[error("cannot serve the API: {0}")]
    Api(io::Error),
    /// Something that the system has to provide.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// Told twice to stop.
    #[error("Got killed twice, no longer waiting: what was not stored yet is lost")]
    KilledTwice,
    /// The store could not be closed.
    #[error("the store could not be closed cleanly: {0}")]
    NotClosed(String),
}

/// Starts, serves and stops.
pub fn run(
    options: &Options,
    loaded: Loaded,
    logging: &Logging,
    ha: Option<&HaChild>,
    inherited: Inherited,
) -> Result<(), DaemonError> {
    say(&loaded.notes);
    let settings = loaded.settings;
    let files = listener::raise_file_limit();
    let mount = match &settings.lustre {
        Lustre::Mount(path) => Some(Mount::open(path, settings.fsname.as_deref())?),
        Lustre::None => None,
    };
    let fsname = match (&mount, &settings.fsname) {
        (Some(mount), _) => mount.fsname().to_owned(),
        (None, Some(told)) => told.clone(),
        // The configuration was refused without one.
        (None, None) => String::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let daemon =
        Daemon { options, settings, logging, ha, mount, fsname, files, inherited, credentials: None };
    runtime.block_on(local.run_until(daemon.serve()))
}

fn say(notes: &[Note]) {
    for note in notes {
        match note {
            Note::Warn(text) => tracing::warn!("{text}"),
            Note::Info(text) => tracing::info!("{text}"),
        }
    }
}

/// Where the reporting files are, if there are any.
fn start_reporting(settings: &Settings) -> Result<Option<Reporting>, DaemonError> {
    let Some(dir) = &settings.reporting_dir else { return Ok(None) };
    let mount = match &settings.lustre {
        Lustre::Mount(path) => path.clone(),
        Lustre::None if dir.starts_with('/') => PathBuf::from("/"),
        Lustre::None => {
            tracing::warn!(
                "reporting_dir {dir} is relative to a mount point and there is none: reporting disabled"
            );
            return Ok(None);
        }
    };
    let failed = |source| DaemonError::Reporting { dir: dir.clone(), mount: mount.clone(), source };
    Reporting::start(&mount, dir).map(Some).map_err(failed)
}

/// A seed for the choice among equals.
fn seed(clock: &Clock) -> u64 {
    clock.now().wall.0.unsigned_abs() ^ (u64::from(std::process::id()) << 32)
}

struct Daemon<'a> {
    options: &'a Options,
    settings: Settings,
    logging: &'a Logging,
    /// The HA role, which is told to reload as well.
    ha: Option<&'a HaChild>,
    mount: Option<Mount>,
    fsname: String,
    files: usize,
    /// What an earlier run left.
    inherited: Inherited,
    /// What peers are judged by, once somebody can come in.
    credentials: Option<Credentials>,
}

impl Daemon<'_> {
    async fn serve(mut self) -> Result<(), DaemonError> {
        let mut signals = Signals::new()?;
        let (inputs, received) = unbounded_channel();
        let clock = Clock::new();
        let ask_lustre = matches!(self.settings.lustre, Lustre::Mount(_));
        let hsm = HsmConfig { fsname: self.fsname.clone(), ask_lustre, ..self.settings.hsm.clone() };
        let mut core = Coordinator::new(hsm, seed(&clock), clock.now());

        // The kernel waits while nobody reads its pipe, so what an earlier run left is read first of all.
        let lustre = self.take_over(&inputs)?;

        let store = stores::open(&self.settings, &self.fsname)?;
        match &store {
            Some(opened) => tracing::info!("requests are kept in the {}", opened.store.describe()),
            None => tracing::warn!("requests are kept in memory only: a restart forgets them"),
        }
        let kind = store.as_ref().map(|opened| opened.store.describe()).unwrap_or_default();
        let reporting = start_reporting(&self.settings)?;
        let names = Names::start()?;

        // Whoever finds the daemon listening finds the API as well.
        let mut api = self.bind_api()?;
        let entrances = Entrances::bind(&self.settings, &self.fsname, self.files, &mut self.inherited)?;
        let credentials = entrances.credentials.clone();
        self.credentials = Some(credentials.clone());
        let kept = entrances.listeners()?;
        // Not before the port is ours: a second daemon by mistake must not take the requests over.
        let (committer, found) = match store {
            None => (None, None),
            Some(opened) => {
                core.read_store_first();
                let (committer, found) = read_store(opened, inputs.clone())?;
                (Some(committer), Some(found))
            }
        };
        let limits = self.settings.limits;
        let shell =
            Rc::new(Shell::new(core, clock, self.fsname.clone(), committer, reporting, limits.client_buffer));
        tokio::task::spawn_local(timers(Rc::clone(&shell)));
        // Movers are let in at once; they get work when all is known.
        let max = self.max_connections(limits, entrances.handshakes());
        let open = entrances.open(Hall::new(Rc::clone(&shell), names, limits, max, credentials))?;
        let told_to_stop = match found {
            None => false,
            Some(found) => recover(&shell, found, &mut signals).await?,
        };

        // What was there before comes before anything new.
        let (mut copytool, mount) = self.connect_lustre(lustre, &shell, &inputs)?;
        let (reconcile, told) = watch::channel(self.settings.reconcile.clone());
        let intake = Intake::new(&self.fsname, mount, told);
        let periodic = Periodic::new(Rc::clone(&shell), intake.clone());
        tokio::task::spawn_local(periodic.run(self.settings.hsm.settle));
        let closed = tokio::task::spawn_local(feed(Rc::clone(&shell), self.fsname.clone(), received));
        let parts = api::Parts { fsname: self.fsname.clone(), store: kind, intake };
        api.serve(&shell, parts).map_err(DaemonError::Api)?;
        tracing::info!(target: NOTICE, "Starting main loop");
        supervisor::ready(&format!("serving {}", self.fsname));

        if !told_to_stop {
            self.until_stopped(&shell, &reconcile, &mut signals).await;
        }

        supervisor::stopping();
        drop(open);
        let stop = stop(&shell, copytool.as_mut(), closed);
        tokio::select! {
            result = stop => {
                if result.is_ok() {
                    self.hand_over(&kept, copytool);
                }
                result
            }
            name = signals.stop.next() => {
                tracing::warn!("Got signal {name} again");
                Err(DaemonError::KilledTwice)
            }
        }
    }

    fn bind_api(&self) -> Result<Api, DaemonError> {
        let wanted = api::Wanted {
            place: &self.settings.api,
            group: self.settings.api_group.as_deref(),
            read_group: self.settings.api_read_group.as_deref(),
            metrics: self.settings.metrics_listen.as_deref(),
            fsname: &self.fsname,
        };
        Api::bind(&wanted).map_err(DaemonError::Api)
    }

    fn max_connections(&self, limits: Limits, handshakes: usize) -> usize {
        let files = self.files - handshakes;
        if limits.connections == 0 { files } else { limits.connections.min(files) }
    }

    /// Serves until a signal, or until nothing runs any more after `lock` 2.
    async fn until_stopped(
        &mut self,
        shell: &Rc<Shell>,
        reconcile: &watch::Sender<reconcile::Settings>,
        signals: &mut Signals,
    ) {
        let interval = supervisor::watchdog_interval();
        let mut watchdog = tokio::time::interval(interval.unwrap_or(Duration::from_secs(86400)));
        watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                name = signals.stop.next() => {
                    tracing::info!("Got signal {name}, exiting");
                    return;
                }
                () = shell.terminate.notified() => {
                    tracing::info!(target: NOTICE, "nothing runs any more and the lock says to quit, exiting");
                    return;
                }
                _ = signals.hangup.recv() => {
                    self.ha.iter().for_each(|ha| ha.reload());
                    self.reload(shell);
                    reconcile.send_if_modified(|settings| {
                        let changed = *settings != self.settings.reconcile;
                        settings.clone_from(&self.settings.reconcile);
                        changed
                    });
                }
                _ = watchdog.tick(), if interval.is_some() => supervisor::alive(),
            }
        }
    }
}
