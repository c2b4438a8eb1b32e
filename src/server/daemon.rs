//! From start to stop.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::api::{self, Api};
use super::committer::{self, Committer};
use super::config::{self, Limits, Loaded, Lustre, Note, Problems, Settings, System};
use super::files::Files;
use super::ha::child::HaChild;
use super::listener::{self, Hall};
use super::names::Names;
use super::options::Options;
use super::reconcile::{self, Intake, periodic::Periodic};
use super::reporting::Reporting;
use super::security::Credentials;
use super::security::entrances::{EntranceError, Entrances};
use super::shell::{LustreCalls, Shell};
use super::stores::{self, OpenError, Opened};
use crate::hsm::{ActionItem, Coordinator, Event, HsmConfig, LustreCall};
use crate::lustre::calls::Calls;
use crate::lustre::kuc::Copytool;
use crate::lustre::link::{CurrentMount, FromLustre, Tell};
use crate::lustre::list;
use crate::lustre::mount::{Mount, MountError};
use crate::store::{Store, StoreError};
use crate::system::clock::Clock;
use crate::system::handover::{self, Inherited, Registration};
use crate::system::logging::{Logging, NOTICE};
use crate::system::supervisor;

/// Parts of what the store held that are read ahead of the coordinator.
const RECOVERED_PARTS: usize = 16;
/// How long a clean stop waits for the kernel's pipe to be emptied.
const STOP_LUSTRE: Duration = Duration::from_secs(2);
/// How long the registration of an earlier run may be in the way of ours, while it ends.
const OLD_REGISTRATION: Duration = Duration::from_secs(10);
/// How long it waits for the store.
const STOP_STORE: Duration = Duration::from_secs(10);
/// How long it waits for peers to read their answers, and for reporting files.
const STOP_OUTPUT: Duration = Duration::from_secs(1);

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

/// Everything that happens on other threads.
enum Input {
    Lustre(FromLustre),
    /// What the threads that look at files have found.
    Files(Event),
    Store(committer::Report),
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
        let gone = tokio::task::spawn_local(feed(Rc::clone(&shell), self.fsname.clone(), received));
        let parts = api::Parts { fsname: self.fsname.clone(), store: kind, intake };
        api.serve(&shell, parts).map_err(DaemonError::Api)?;
        tracing::info!(target: NOTICE, "Starting main loop");
        supervisor::ready(&format!("serving {}", self.fsname));

        if !told_to_stop {
            self.until_stopped(&shell, &reconcile, &mut signals).await;
        }

        supervisor::stopping();
        drop(open);
        let stop = stop(&shell, copytool.as_mut(), gone);
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

    /// Goes on with the registration of an earlier run, if there is one that is good for this mount.
    fn take_over(
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

    fn connect_lustre(
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
                let patience = if self.inherited.has_refused() { OLD_REGISTRATION } else { Duration::ZERO };
                let copytool = Copytool::start(mount.clone(), ids, Arc::clone(&tell), patience)?;
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
    fn hand_over(&self, listeners: &[std::net::TcpListener], copytool: Option<Copytool>) {
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

    fn reload(&mut self, shell: &Rc<Shell>) {
        let loaded = match config::load(self.options, &System) {
            Ok(loaded) => loaded,
            Err(Problems(problems)) => {
                for problem in problems {
                    tracing::error!("{problem}");
                }
                tracing::error!("the configuration was not loaded again: the old one stays");
                return;
            }
        };
        self.logging.set(loaded.settings.verbose);
        say(&loaded.notes);
        let new = loaded.settings;
        for key in needs_restart(&self.settings, &new) {
            tracing::warn!("{key} has changed: that takes a restart");
        }
        let hsm = HsmConfig {
            fsname: self.fsname.clone(),
            // Without its threads a locator would only fail.
            locating: new.hsm.locating.clone().filter(|_| self.settings.locator.is_some()),
            ask_lustre: matches!(self.settings.lustre, Lustre::Mount(_)),
            archive_ids: self.settings.hsm.archive_ids.clone(),
            reporting_hint: new.hsm.reporting_hint.clone().filter(|_| self.settings.reporting_dir.is_some()),
            ..new.hsm.clone()
        };
        shell.handle(Event::Reconfigured(Box::new(hsm.clone())));
        self.settings.hsm = hsm;
        // Which ports there are takes a restart; what is behind them does not.
        let mut security = new.security;
        security.tls = self.settings.security.tls;
        if let Some(credentials) = &self.credentials {
            match credentials.reconfigure(security.sources(), security.policy) {
                Ok(()) => shell.apply(&credentials.policy()),
                Err(error) => tracing::error!("TLS: roles, certificates and keys stay as they were: {error}"),
            }
        }
        self.settings.reconcile = new.reconcile;
        tracing::info!(target: NOTICE, "configuration loaded again");
    }
}

/// Keys whose new value is not taken up while running.
fn needs_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let changed = [
        ("host", old.host != new.host),
        ("port", old.port != new.port),
        ("lustre", old.lustre != new.lustre),
        ("fsname", old.fsname != new.fsname),
        ("store", old.store != new.store),
        ("state_dir", old.state_dir != new.state_dir),
        ("redis_host", old.redis != new.redis),
        ("a key of redis", old.redis_server != new.redis_server),
        ("archive_id", old.hsm.archive_ids != new.hsm.archive_ids),
        ("reporting_dir", old.reporting_dir != new.reporting_dir),
        ("locator", old.locator != new.locator),
        (
            "archives_first_when_full",
            old.hsm.archives_first_when_full.is_none() && new.hsm.archives_first_when_full.is_some(),
        ),
        ("api_socket", old.api != new.api),
        ("api_group", old.api_group != new.api_group),
        ("api_read_group", old.api_read_group != new.api_read_group),
        ("metrics_listen", old.metrics_listen != new.metrics_listen),
        ("a limit on peers", old.limits != new.limits),
        ("tls", old.security.tls != new.security.tls),
        ("tls_port", old.security.tls_port != new.security.tls_port),
        ("plain", old.security.plain != new.security.plain),
        ("local_socket or local_group", old.security.local != new.security.local),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}

/// Reads the store on the thread that writes it afterwards. Gives what it finds, in parts.
fn read_store(
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
async fn recover(
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

/// Calls the core when it wants to be.
async fn timers(shell: Rc<Shell>) {
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

/// What the clean stop has to wait for.
#[derive(Debug, Default)]
struct Gone {
    lustre: bool,
    store: Option<Result<(), String>>,
}

/// Feeds what other threads report to the shell, until the store is closed.
async fn feed(shell: Rc<Shell>, fsname: String, mut inputs: UnboundedReceiver<Input>) -> Gone {
    let mut gone = Gone::default();
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
            Input::Lustre(FromLustre::Stopped) => {
                gone.lustre = true;
                shell.lustre_stopped.notify_one();
            }
            Input::Files(event) => shell.handle(event),
            Input::Store(committer::Report::Closed(result)) => {
                gone.store = Some(result);
                return gone;
            }
            Input::Store(report) => shell.store_report(report),
        }
    }
    gone
}

/// How threads that talk to Lustre reach the loop.
fn tell_of(inputs: &UnboundedSender<Input>) -> Tell {
    let inputs = inputs.clone();
    Arc::new(move |message| {
        // The loop only goes away with the process.
        let _ = inputs.send(Input::Lustre(message));
    })
}

/// Stops without losing anything: movers keep what they have, and what was acknowledged is stored.
async fn stop(
    shell: &Rc<Shell>,
    copytool: Option<&mut Copytool>,
    gone: tokio::task::JoinHandle<Gone>,
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
    match tokio::time::timeout(STOP_STORE, gone).await {
        Ok(Ok(Gone { store: Some(Err(error)), .. })) => Err(DaemonError::NotClosed(error)),
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

struct Signals {
    stop: StopSignals,
    hangup: Signal,
}

struct StopSignals {
    term: Signal,
    int: Signal,
    quit: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let stop = StopSignals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        };
        Ok(Self { stop, hangup: signal(SignalKind::hangup())? })
    }
}

impl StopSignals {
    /// Waits for one that means to stop.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "TERM",
            _ = self.int.recv() => "INT",
            _ = self.quit.recv() => "QUIT",
        }
    }
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
