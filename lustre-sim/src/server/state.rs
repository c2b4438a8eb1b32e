//! The model, the files and the copytools' pipes together, behind one lock.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use lustreapi_sys::Fid;

use super::agent::{AgentPipe, Frame};
use super::clock::Clock;
use super::lease;
use super::mounts;
use super::tree::{Look, Tree, metadata_of};
use crate::control::{CallRecord, Faults};
use crate::mdt::{
    Answer, Call, CallId, ClientId, Cred, DeliveryId, Effect, Errno, FileSystem, FsEvent, NewFile, Outcome,
};

/// Calls that are kept for [`crate::control::Command::Calls`].
const MAX_CALLS: usize = 200_000;

/// How a client is told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    /// By its mount.
    Mount(u64),
    /// By the number that its processes have in their environment.
    Number(u32),
}

/// A client node.
pub struct Client {
    /// How it is known.
    pub identity: Identity,
    /// Its uuid.
    pub uuid: String,
    /// Its mount point, where known.
    pub mount: Option<PathBuf>,
    /// Its copytool's pipe.
    pub pipe: Option<Arc<AgentPipe>>,
    /// Which of its registrations that is.
    registration: u64,
    /// The last list it was sent.
    last: Option<Arc<[u8]>>,
}

/// A copytool's pipe and the number of its registration.
pub type Registration = (Arc<AgentPipe>, u64);

/// Everything that the lock protects.
pub struct State {
    /// The model.
    pub fs: FileSystem,
    /// The directory.
    pub tree: Tree,
    /// The clock.
    pub clock: Clock,
    /// Clients by their number in the model.
    pub clients: BTreeMap<ClientId, Client>,
    /// Fault settings.
    pub faults: Faults,
    /// Calls made so far.
    pub calls: VecDeque<CallRecord>,
    /// Calls that wait for their reply.
    waiting: BTreeMap<CallId, Sender<Result<Answer, Errno>>>,
    next_call: u64,
    next_registration: u64,
    root_fd: OwnedFd,
    shared: Weak<Shared>,
}

/// The state and what is signalled when it changes.
pub struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// An answer that may come later.
pub enum Pending {
    /// It is there.
    Now(Result<Answer, Errno>),
    /// It will be.
    Later(CallId, Receiver<Result<Answer, Errno>>),
}

impl Shared {
    /// Puts a file system and a directory together.
    pub fn new(fs: FileSystem, tree: Tree, clock: Clock) -> io::Result<Arc<Self>> {
        let root_fd = super::tree::open_dir(tree.root())?;
        Ok(Arc::new_cyclic(|shared| Shared {
            state: Mutex::new(State {
                fs,
                tree,
                clock,
                clients: BTreeMap::new(),
                faults: Faults::default(),
                calls: VecDeque::new(),
                waiting: BTreeMap::new(),
                next_call: 0,
                next_registration: 0,
                root_fd,
                shared: shared.clone(),
            }),
            changed: Condvar::new(),
        }))
    }

    /// The state, for as long as the guard lives. Waiters look again afterwards if [`Shared::notify`] is called.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells waiters that the state has changed.
    pub fn notify(&self) {
        self.changed.notify_all();
    }

    /// Waits for a change, or the time.
    pub fn wait<'a>(&self, guard: MutexGuard<'a, State>, timeout: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(guard, timeout).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl State {
    /// The client that a descriptor belongs to, mounted at the first question.
    pub fn client_of(&mut self, number: u32, fd: Option<BorrowedFd<'_>>) -> ClientId {
        let identity = match (number, fd) {
            (0, Some(fd)) => Identity::Mount(mounts::mount_id(fd)),
            (0, None) => return ClientId(1),
            (n, _) => Identity::Number(n),
        };
        match self.clients.iter().find(|(_, client)| client.identity == identity) {
            Some((id, _)) => *id,
            None => self.add_client(identity, None),
        }
    }

    /// Mounts a client.
    pub fn add_client(&mut self, identity: Identity, mount: Option<PathBuf>) -> ClientId {
        let id = ClientId(self.clients.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        let uuid = uuid(self.tree.root(), id);
        self.clients.insert(
            id,
            Client { identity, uuid: uuid.clone(), mount, pipe: None, registration: 0, last: None },
        );
        self.feed(FsEvent::Mount { client: id, uuid });
        id
    }

    /// Gives the model an event and carries out what it wants.
    pub fn feed(&mut self, event: FsEvent) {
        let mut effects = Vec::new();
        self.fs.handle(self.clock.now(), event, &mut effects);
        self.carry_out(effects);
    }

    /// Sets a parameter.
    pub fn set_param(&mut self, pattern: &str, value: &str) -> Result<(), Errno> {
        let mut effects = Vec::new();
        let result = self.fs.set_param(self.clock.now(), pattern, value, &mut effects);
        self.carry_out(effects);
        result
    }

    /// Makes a call that may block.
    pub fn begin_call(&mut self, client: ClientId, cred: &Cred, call: Call) -> Pending {
        self.next_call += 1;
        let id = CallId(self.next_call);
        let (sender, receiver) = channel();
        self.waiting.insert(id, sender);
        self.feed(FsEvent::Call { id, client, cred: cred.clone(), call });
        match receiver.try_recv() {
            Ok(answer) => Pending::Now(answer),
            Err(_) => Pending::Later(id, receiver),
        }
    }

    /// Gives up waiting for a call's answer.
    pub fn abandon(&mut self, id: CallId) {
        self.waiting.remove(&id);
    }

    /// How many calls wait for an answer.
    pub fn blocked(&self) -> usize {
        self.waiting.len()
    }

    /// Makes a call of the server's own; one that blocks is not waited for.
    fn own_call(&mut self, client: ClientId, call: Call) -> Option<Result<Answer, Errno>> {
        match self.begin_call(client, &Cred::root(), call) {
            Pending::Now(answer) => Some(answer),
            Pending::Later(id, _) => {
                self.abandon(id);
                None
            }
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply { id, result, .. } => {
                    if let Some(sender) = self.waiting.remove(&id) {
                        // Whoever asked may have gone away.
                        let _ = sender.send(result);
                    }
                }
                Effect::Deliver { delivery, client, frame } => self.deliver(delivery, client, frame),
                Effect::Shutdown { client, frame } => {
                    if let Some(pipe) = self.clients.get_mut(&client).and_then(|c| c.pipe.take()) {
                        pipe.push(Frame { delivery: None, bytes: frame, delay: Duration::ZERO, last: true });
                    }
                }
                Effect::SwapLayouts { fid, volatile } => {
                    if let Err(error) = self.tree.swap(fid, volatile) {
                        tracing::error!(%fid, %volatile, %error, "cannot give the restored data to the file");
                    }
                }
                Effect::DropData { fid } => {
                    if let Err(error) = self.tree.drop_data(fid) {
                        tracing::error!(%fid, %error, "cannot release");
                    }
                }
                Effect::Destroyed { fid } => self.tree.remove(fid),
            }
        }
        if let Some(shared) = self.shared.upgrade() {
            shared.notify();
        }
    }

    fn deliver(&mut self, delivery: DeliveryId, client: ClientId, frame: Arc<[u8]>) {
        let delay = Duration::from_millis(self.faults.delay_ms);
        let Some((pipe, last)) = self.clients.get_mut(&client).map(|c| (c.pipe.clone(), &mut c.last)) else {
            return self.report_later(delivery, Outcome::Failed(Errno::PIPE));
        };
        let Some(pipe) = pipe else {
            return self.report_later(delivery, Outcome::Failed(Errno::PIPE));
        };
        if self.faults.fail_deliveries > 0 {
            self.faults.fail_deliveries -= 1;
            return self.report_later(delivery, Outcome::Failed(Errno::IO));
        }
        *last = Some(Arc::clone(&frame));
        let outcome = if self.faults.deliver_twice > 0 {
            self.faults.deliver_twice -= 1;
            Outcome::AnswerLost
        } else {
            Outcome::Accepted
        };
        pipe.push(Frame { delivery: Some((delivery, outcome)), bytes: frame, delay, last: false });
    }

    /// Reports from another thread: the model is not entered while its effects are carried out.
    fn report_later(&self, delivery: DeliveryId, outcome: Outcome) {
        let shared = self.shared.clone();
        std::thread::spawn(move || {
            if let Some(shared) = shared.upgrade() {
                shared.lock().feed(FsEvent::Delivered { delivery, outcome });
            }
        });
    }

    /// Writes each agent's last list into its pipe again.
    pub fn redeliver(&mut self) -> usize {
        let mut count = 0;
        for client in self.clients.values() {
            if let (Some(pipe), Some(last)) = (&client.pipe, &client.last) {
                pipe.push(Frame {
                    delivery: None,
                    bytes: Arc::clone(last),
                    delay: Duration::ZERO,
                    last: false,
                });
                count += 1;
            }
        }
        count
    }

    /// Takes a copytool's pipe. To be done before the model registers it, which may send lists at once; returns the pipe
    /// that was there, which stays if the model refuses.
    pub fn attach(
        &mut self,
        client: ClientId,
        root: BorrowedFd<'_>,
        pipe: OwnedFd,
    ) -> io::Result<Option<Registration>> {
        let shared = self.shared.clone();
        self.next_registration += 1;
        let registration = self.next_registration;
        let report = Box::new(move |delivery: Option<DeliveryId>, outcome: Outcome| {
            let (Some(shared), Some(delivery)) = (shared.upgrade(), delivery) else { return };
            let mut state = shared.lock();
            // A broken pipe is the end of its own registration, not of one that came after.
            let current = state
                .clients
                .get(&client)
                .is_some_and(|c| c.pipe.is_some() && c.registration == registration);
            let outcome = match outcome {
                Outcome::Failed(Errno::PIPE) if !current => Outcome::Failed(Errno::NOTCONN),
                outcome => outcome,
            };
            state.feed(FsEvent::Delivered { delivery, outcome });
        });
        let pipe = AgentPipe::start(pipe, report)?;
        lease::mark(root, client.0)?;
        let Some(slot) = self.clients.get_mut(&client) else { return Ok(None) };
        let before = slot.pipe.replace(pipe).map(|pipe| (pipe, slot.registration));
        slot.registration = registration;
        Ok(before)
    }

    /// Settles a registration that the model accepted or refused.
    pub fn attached(
        &mut self,
        client: ClientId,
        root: BorrowedFd<'_>,
        before: Option<Registration>,
        accepted: bool,
    ) {
        let Some(slot) = self.clients.get_mut(&client) else { return };
        if accepted {
            if let Some((pipe, _)) = before {
                pipe.close();
            }
        } else {
            let (pipe, registration) = before.map_or((None, 0), |(pipe, number)| (Some(pipe), number));
            if let Some(refused) = std::mem::replace(&mut slot.pipe, pipe) {
                refused.close();
            }
            slot.registration = registration;
        }
        if !accepted || slot.pipe.is_none() {
            // Whoever was refused keeps nothing alive, however long it has the root open.
            lease::unmark(root, client.0);
        }
    }

    /// Ends a registration.
    pub fn detach(&mut self, client: ClientId, root: Option<BorrowedFd<'_>>) {
        if let Some(root) = root {
            lease::unmark(root, client.0);
        }
        if let Some(pipe) = self.clients.get_mut(&client).and_then(|c| c.pipe.take()) {
            pipe.close();
        }
    }

    /// Looks at everything that can change without anybody telling: registrations whose process has died, files that were
    /// written or unlinked, volatile files that nobody has open.
    pub fn sync(&mut self) {
        let gone: Vec<ClientId> = self
            .clients
            .iter()
            .filter(|(id, client)| client.pipe.is_some() && !lease::is_marked(self.root_fd.as_fd(), id.0))
            .map(|(id, _)| *id)
            .collect();
        for client in gone {
            tracing::info!(client = client.0, "the copytool's mount was closed");
            self.detach(client, None);
            self.own_call(client, Call::Unregister);
        }
        for (fid, volatile) in self.tree.fids() {
            self.refresh(fid);
            if volatile && self.fs.file(fid).is_some() && !self.tree.is_open(fid) {
                self.close_volatile(fid);
            }
        }
    }

    fn close_volatile(&mut self, fid: Fid) {
        let opener = self.fs.file(fid).and_then(|file| file.opens.first().copied()).unwrap_or(ClientId(1));
        self.own_call(opener, Call::Close { fid });
        self.tree.remove(fid);
    }

    /// Tells the model what happened to a file since it was last looked at.
    pub fn refresh(&mut self, fid: Fid) {
        match self.tree.look(fid) {
            Look::Same => {}
            Look::Changed => {
                let written = self.own_call(ClientId(1), Call::Write { fid, version: None });
                if let Some(Err(error)) = written {
                    tracing::warn!(%fid, ?error, "data was written that a real Lustre would not have let be written");
                }
            }
            Look::Unlinked => {
                if self.tree.known(fid).is_some() {
                    self.own_call(ClientId(1), Call::Unlink { fid });
                    // Open files stay until their last close, which cannot be seen: here they are gone at once.
                    self.tree.remove(fid);
                }
            }
        }
    }

    /// The FID of the file behind a descriptor. A file gets one at the first question.
    pub fn fid_of(&mut self, fd: BorrowedFd<'_>, wanted: Option<Fid>) -> Result<Fid, Errno> {
        let metadata = metadata_of(fd).map_err(errno)?;
        if metadata.is_dir() {
            return Ok(self.tree.directory_fid(&metadata));
        }
        if !metadata.is_file() {
            return Err(Errno(libc::ENOTTY as u16));
        }
        if let Some(fid) = self.tree.fid_of(&metadata) {
            self.refresh(fid);
            return match wanted {
                Some(wanted) if wanted != fid => Err(Errno::EXIST),
                _ if self.tree.known(fid).is_some() => Ok(fid),
                _ => Err(Errno::NOENT),
            };
        }
        let path = self.tree.relative_path(fd).ok_or(Errno::NOENT)?;
        let mdt = wanted.and_then(crate::mdt::mdt_index_of).unwrap_or_else(|| self.tree.mdt_of_path(&path));
        use std::os::unix::fs::MetadataExt;
        let file = NewFile { uid: metadata.uid(), gid: metadata.gid(), volatile: false, fid: wanted };
        self.create(ClientId(1), mdt, file, path, fd)
    }

    /// Makes a file known to the model.
    pub fn create(
        &mut self,
        client: ClientId,
        mdt: u32,
        file: NewFile,
        path: PathBuf,
        fd: BorrowedFd<'_>,
    ) -> Result<Fid, Errno> {
        let volatile = file.volatile;
        match self.own_call(client, Call::Create { mdt, file }) {
            Some(Ok(Answer::Fid(fid))) => {
                self.tree.insert(fid, path, fd, volatile).map_err(|error| {
                    tracing::error!(%fid, %error, "cannot link the file into .lustre/fid");
                    errno(error)
                })?;
                Ok(fid)
            }
            Some(Err(error)) => Err(error),
            Some(Ok(_)) => Err(Errno::PROTO),
            None => Err(Errno::NOTCONN),
        }
    }

    /// Notes a call.
    pub fn record(&mut self, record: CallRecord) {
        if self.calls.len() == MAX_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back(record);
        if let Some(shared) = self.shared.upgrade() {
            shared.notify();
        }
    }
}

/// An I/O error's number.
pub fn errno(error: io::Error) -> Errno {
    Errno(error.raw_os_error().and_then(|n| u16::try_from(n).ok()).unwrap_or(Errno::IO.0))
}

/// A uuid for a client: the same for the same directory and number.
fn uuid(root: &std::path::Path, client: ClientId) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let word = |salt: u32| {
        let mut hasher = DefaultHasher::new();
        (root, client.0, salt).hash(&mut hasher);
        hasher.finish()
    };
    let (a, b) = (word(0), word(1));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        0x8000 | (b >> 48) & 0x3fff,
        b & 0xffff_ffff_ffff
    )
}
