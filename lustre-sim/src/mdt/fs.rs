//! Several MDTs as one client sees them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use lustreapi_sys::Fid;
use lustreapi_sys::abi::{HP_FLAG_COMPLETED, HP_FLAG_RETRY, KUC_MSG_SHUTDOWN, KUC_TRANSPORT_GENERIC};
use lustreapi_sys::kuc;

use super::param::{DEBUGFS, SYSFS};
use super::{
    Action, Answer, Call, CallId, ClientId, CopyEnd, CopyStart, Cred, DeliveryId, Effect, Errno, Event, File,
    FsConfig, LedgerEntry, Mdt, MdtConfig, Outcome, Progress, Time, UserRequest, lctl_get_param,
};

/// What goes into a [`FileSystem`].
#[derive(Debug, Clone)]
pub enum FsEvent {
    /// A client mounts.
    Mount {
        /// Which.
        client: ClientId,
        /// Its uuid.
        uuid: String,
    },
    /// A client unmounts: its copytool gets [`Effect::Shutdown`], its agent and open files are gone on all MDTs.
    Unmount {
        /// Which.
        client: ClientId,
    },
    /// One MDT evicts a client (or all do): its open files there are gone, its blocked calls fail, what it runs stays as it
    /// is. It connects again at once, and its kernel renews the registration of its copytool. For a client that is dead,
    /// [`FsEvent::Unmount`] is what its eviction does.
    Evict {
        /// Which.
        client: ClientId,
        /// By which MDT, or all.
        mdt: Option<u32>,
    },
    /// A client calls; see [`Call`] for what goes where. Ids below 2^63 are the caller's.
    Call {
        /// Comes back with the reply.
        id: CallId,
        /// Who.
        client: ClientId,
        /// With which rights.
        cred: Cred,
        /// What.
        call: Call,
    },
    /// What became of a delivery.
    Delivered {
        /// Which.
        delivery: DeliveryId,
        /// How it went.
        outcome: Outcome,
    },
    /// An MDT goes down.
    StopMdt(u32),
    /// An MDT comes up again. Clients' registrations are renewed by their kernels: the pipe stays, user space sees nothing.
    StartMdt(u32),
    /// Time has passed.
    Tick,
}

/// Calls of the file system itself have ids from here on.
const OWN_CALLS: u64 = 1 << 63;
/// The largest user request in bytes, all of it counted: a third of `MDS_MAXREQSIZE` (llite/dir.c). 52 files without data
/// fit, 53 do not.
const MAX_REQUEST: usize = 5 * 1024 / 3;

/// A call that several MDTs have to answer, one after the other.
#[derive(Debug, Clone)]
struct Chain {
    id: CallId,
    client: ClientId,
    cred: Cred,
    /// What is still to be asked.
    steps: VecDeque<(usize, Call)>,
    /// Who has been asked.
    asked: Vec<usize>,
    error: Option<Errno>,
    finish: Finish,
}

/// What to do with the answers.
#[derive(Debug, Clone)]
enum Finish {
    /// The first error counts.
    Request,
    /// An error of one undoes the others.
    Register(Vec<u32>),
    /// Errors do not matter.
    Unregister,
    /// An error of the client's own counts first; success returns the data version.
    CopyStart(Option<Errno>, u64),
    /// An error of the client's own counts first.
    CopyEnd(Option<Errno>),
    /// Nobody wants to know.
    Nobody,
}

/// A file system of one or more MDTs.
#[derive(Debug, Clone)]
pub struct FileSystem {
    mdts: Vec<Mdt>,
    clients: BTreeMap<ClientId, String>,
    /// Copytools as their clients' kernels know them, to register them again.
    copytools: BTreeMap<ClientId, Vec<u32>>,
    /// By the id of the call that an MDT has to answer.
    chains: BTreeMap<u64, Chain>,
    calls: u64,
    last_call: CallId,
}

/// First sequence of MDT 0.
const FIRST_SEQUENCE: u64 = 0x2_0000_0400;
/// Sequences of one MDT.
pub(super) const SEQUENCES_PER_MDT: u64 = 0x4000_0000;

/// First sequence of an MDT.
pub(super) fn first_sequence(mdt: u32) -> u64 {
    FIRST_SEQUENCE + u64::from(mdt) * SEQUENCES_PER_MDT
}

/// Index of the MDT that a FID's sequence belongs to, whether or not that exists; `None` for FIDs that are not files.
pub fn mdt_index_of(fid: Fid) -> Option<u32> {
    let offset = fid.seq.checked_sub(FIRST_SEQUENCE)?;
    u32::try_from(offset / SEQUENCES_PER_MDT).ok()
}

impl FileSystem {
    /// A file system whose MDTs have just been started for the first time, all in the same second.
    pub fn new(config: FsConfig, now: Time) -> Self {
        let mdt = |index| {
            let FsConfig { fsname, params, behaviour, .. } = config.clone();
            Mdt::new(MdtConfig { fsname, index, params, behaviour }, now)
        };
        FileSystem {
            mdts: (0..config.mdts.max(1)).map(mdt).collect(),
            clients: BTreeMap::new(),
            copytools: BTreeMap::new(),
            chains: BTreeMap::new(),
            calls: OWN_CALLS,
            last_call: CallId(OWN_CALLS),
        }
    }

    /// Takes one event and appends what is to be done. `now` never goes back (its monotonic part).
    pub fn handle(&mut self, now: Time, event: FsEvent, effects: &mut Vec<Effect>) {
        let mut run = Run { now, effects };
        match event {
            FsEvent::Mount { client, uuid } => {
                self.clients.insert(client, uuid.clone());
                for index in 0..self.mdts.len() {
                    self.feed(&mut run, index, Event::Connect { client, uuid: uuid.clone() });
                }
            }
            FsEvent::Unmount { client } => self.unmount(&mut run, client),
            FsEvent::Evict { client, mdt } => self.evict(&mut run, client, mdt),
            FsEvent::Call { id, client, cred, call } => self.incoming(&mut run, id, client, cred, call),
            FsEvent::Delivered { delivery, outcome } => {
                if let Some(index) = self.index(delivery.mdt) {
                    self.feed(&mut run, index, Event::Delivered { delivery, outcome });
                }
            }
            FsEvent::StopMdt(mdt) => {
                if let Some(index) = self.index(mdt) {
                    self.feed(&mut run, index, Event::Stop);
                }
            }
            FsEvent::StartMdt(mdt) => {
                if let Some(index) = self.index(mdt).filter(|index| !self.mdts[*index].is_up()) {
                    self.feed(&mut run, index, Event::Start);
                    for client in self.copytools.keys().copied().collect::<Vec<_>>() {
                        self.register_again(&mut run, index, client);
                    }
                }
            }
            FsEvent::Tick => {}
        }
        // An event for one MDT is a moment for all.
        for index in 0..self.mdts.len() {
            self.feed(&mut run, index, Event::Tick);
        }
    }

    fn index(&self, mdt: u32) -> Option<usize> {
        usize::try_from(mdt).ok().filter(|index| *index < self.mdts.len())
    }

    /// The MDT of a FID: ENOENT for FIDs of none.
    fn route(&self, fid: Fid) -> Result<usize, Errno> {
        mdt_index_of(fid).and_then(|mdt| self.index(mdt)).ok_or(Errno::NOENT)
    }

    /// Gives an event to an MDT, and carries chains on that it answers.
    fn feed(&mut self, run: &mut Run<'_>, index: usize, event: Event) {
        let mut fresh = Vec::new();
        if let Some(mdt) = self.mdts.get_mut(index) {
            mdt.handle(run.now, event, &mut fresh);
        }
        for effect in fresh {
            match effect {
                Effect::Reply { id, result, .. } if self.chains.contains_key(&id.0) => {
                    if let Some(chain) = self.chains.remove(&id.0) {
                        self.answered(run, chain, result);
                    }
                }
                other => run.effects.push(other),
            }
        }
    }

    fn unmount(&mut self, run: &mut Run<'_>, client: ClientId) {
        self.clients.remove(&client);
        let registered = self.copytools.remove(&client);
        if let Some(frame) = registered.and_then(|_| kuc::frame(KUC_TRANSPORT_GENERIC, KUC_MSG_SHUTDOWN, &[]))
        {
            run.effects.push(Effect::Shutdown { client, frame: Arc::from(frame) });
        }
        for index in 0..self.mdts.len() {
            self.feed(run, index, Event::Disconnect { client });
        }
    }

    fn evict(&mut self, run: &mut Run<'_>, client: ClientId, mdt: Option<u32>) {
        let Some(uuid) = self.clients.get(&client).cloned() else { return };
        let chosen = mdt.and_then(|mdt| self.index(mdt));
        for index in 0..self.mdts.len() {
            if mdt.is_none() || chosen == Some(index) {
                self.feed(run, index, Event::Disconnect { client });
                self.feed(run, index, Event::Connect { client, uuid: uuid.clone() });
                self.register_again(run, index, client);
            }
        }
    }

    /// What a client's kernel does when a connection comes back (`mdc_kuc_reregister`).
    fn register_again(&mut self, run: &mut Run<'_>, index: usize, client: ClientId) {
        let Some(archives) = self.copytools.get(&client).cloned() else { return };
        let steps = [(index, Call::Register { archives })].into();
        let id = CallId(OWN_CALLS);
        self.start(run, Chain::new(id, client, Cred::root(), steps, Finish::Nobody));
    }

    fn incoming(&mut self, run: &mut Run<'_>, id: CallId, client: ClientId, cred: Cred, call: Call) {
        let chain = |steps, finish| Chain::new(id, client, cred.clone(), steps, finish);
        let up: Vec<usize> = (0..self.mdts.len()).filter(|index| self.mdts[*index].is_up()).collect();
        let all = |call: Call| up.iter().map(|index| (*index, call.clone())).collect();
        let to = match call {
            Call::Request(ref request) => match self.split(request) {
                Ok(steps) => return self.start(run, chain(steps, Finish::Request)),
                Err(errno) => Err(errno),
            },
            Call::Register { .. } if up.is_empty() || !self.clients.contains_key(&client) => {
                Err(Errno::NOTCONN)
            }
            Call::Register { ref archives } => {
                let finish = Finish::Register(archives.clone());
                return self.start(run, chain(all(call), finish));
            }
            Call::Unregister => {
                self.copytools.remove(&client);
                return self.start(run, chain(all(call), Finish::Unregister));
            }
            Call::CopyStart(copy) => {
                let (progress, own, version) = self.copy_start(copy);
                match self.route(progress.fid) {
                    Ok(index) => {
                        let steps = [(index, Call::Progress(progress))].into();
                        return self.start(run, chain(steps, Finish::CopyStart(own, version)));
                    }
                    Err(errno) => Err(own.unwrap_or(errno)),
                }
            }
            Call::CopyEnd(copy) => {
                let (progress, own) = self.copy_end(copy);
                match self.route(progress.fid) {
                    Ok(index) => {
                        let steps = [(index, Call::Progress(progress))].into();
                        return self.start(run, chain(steps, Finish::CopyEnd(own)));
                    }
                    Err(errno) => Err(own.unwrap_or(errno)),
                }
            }
            Call::Create { mdt, .. } | Call::ParamGet { mdt, .. } | Call::ParamSet { mdt, .. } => {
                self.index(mdt).ok_or(Errno::NOENT)
            }
            Call::Unlink { fid }
            | Call::Open { fid }
            | Call::Close { fid }
            | Call::Access { fid }
            | Call::Write { fid, .. }
            | Call::DataVersion { fid }
            | Call::Release { fid }
            | Call::StateGet { fid }
            | Call::StateSet { fid, .. }
            | Call::Import { fid, .. }
            | Call::SetArchivedVersion { fid, .. }
            | Call::CurrentAction { fid } => self.route(fid),
            Call::Progress(ref progress) => self.route(progress.fid),
        };
        match to {
            Ok(index) => self.feed(run, index, Event::Call { id, client, cred, call }),
            Err(errno) => run.effects.push(Effect::Reply { id, client, result: Err(errno) }),
        }
    }

    /// What each MDT is asked (llite/dir.c, lmv_obd.c).
    fn split(&self, request: &UserRequest) -> Result<VecDeque<(usize, Call)>, Errno> {
        let size = 24 + request.items.len() * 32 + request.data.len();
        if size >= MAX_REQUEST {
            return Err(Errno::TOO_BIG);
        }
        // The first item decides when there is only one, or only one MDT.
        if let ([(fid, _)], _) | ([(fid, _), ..], [_]) = (request.items.as_slice(), self.mdts.as_slice()) {
            return Ok([(self.route(*fid)?, Call::Request(request.clone()))].into());
        }
        let mut parts: BTreeMap<usize, UserRequest> = BTreeMap::new();
        for (fid, extent) in &request.items {
            let part = parts
                .entry(self.route(*fid)?)
                .or_insert_with(|| UserRequest { items: Vec::new(), ..request.clone() });
            part.items.push((*fid, *extent));
        }
        Ok(parts.into_iter().map(|(index, part)| (index, Call::Request(part))).collect())
    }

    /// `ll_ioc_copy_start`: what is reported, the client's own error, and the data version.
    fn copy_start(&self, copy: CopyStart) -> (Progress, Option<Errno>, u64) {
        let CopyStart { action, fid, cookie, extent } = copy;
        let mut progress = Progress::keepalive(fid, cookie);
        progress.extent.offset = extent.offset;
        if action != Action::Archive {
            return (progress, None, 0);
        }
        match self.file(fid) {
            Some(file) => (progress, None, file.data_version),
            None => {
                progress.errval = Errno::NOENT.0;
                progress.flags = HP_FLAG_RETRY | HP_FLAG_COMPLETED;
                (progress, Some(Errno::NOENT), 0)
            }
        }
    }

    /// `ll_ioc_copy_end`: what is reported, and the client's own error. EBUSY if the file changed while it was archived.
    fn copy_end(&self, copy: CopyEnd) -> (Progress, Option<Errno>) {
        let CopyEnd { action, fid, cookie, extent, flags, errval, data_version } = copy;
        let flags = flags | HP_FLAG_COMPLETED;
        let mut progress = Progress { fid, cookie, extent, flags, errval, data_version: 0 };
        if errval != 0 || !matches!(action, Action::Archive | Action::Restore) {
            return (progress, None);
        }
        let Some(file) = self.file(fid) else {
            progress.flags |= HP_FLAG_RETRY;
            progress.errval = Errno::NOENT.0;
            return (progress, Some(Errno::NOENT));
        };
        progress.data_version = file.data_version;
        if action == Action::Archive && file.data_version != data_version {
            progress.flags &= !HP_FLAG_RETRY;
            progress.errval = Errno::BUSY.0;
            return (progress, Some(Errno::BUSY));
        }
        (progress, None)
    }

    fn start(&mut self, run: &mut Run<'_>, mut chain: Chain) {
        match chain.steps.pop_front() {
            Some((index, call)) => {
                chain.asked.push(index);
                self.calls += 1;
                let id = CallId(self.calls);
                let (client, cred) = (chain.client, chain.cred.clone());
                self.chains.insert(id.0, chain);
                self.feed(run, index, Event::Call { id, client, cred, call });
            }
            None => self.finish(run, chain),
        }
    }

    fn answered(&mut self, run: &mut Run<'_>, mut chain: Chain, result: Result<Answer, Errno>) {
        if let Err(errno) = result {
            chain.error.get_or_insert(errno);
            if matches!(chain.finish, Finish::Register(_)) {
                chain.steps.clear();
            }
        }
        self.start(run, chain);
    }

    fn finish(&mut self, run: &mut Run<'_>, chain: Chain) {
        let Chain { id, client, cred, asked, error, finish, .. } = chain;
        let result = match (finish, error) {
            (Finish::Nobody, _) => return,
            (Finish::Unregister, _) => Ok(Answer::Done),
            (Finish::Register(_), Some(errno)) => {
                // All or nothing: the last that was asked has refused, the others have not.
                let steps = asked.iter().rev().skip(1).map(|index| (*index, Call::Unregister)).collect();
                self.start(run, Chain::new(CallId(OWN_CALLS), client, cred, steps, Finish::Nobody));
                Err(errno)
            }
            (Finish::Register(archives), None) => {
                self.copytools.insert(client, archives);
                Ok(Answer::Done)
            }
            (Finish::CopyStart(Some(own), _) | Finish::CopyEnd(Some(own)), _) => Err(own),
            (Finish::CopyStart(None, version), None) => Ok(Answer::DataVersion(version)),
            (Finish::CopyEnd(None) | Finish::Request, None) => Ok(Answer::Done),
            (_, Some(errno)) => Err(errno),
        };
        run.effects.push(Effect::Reply { id, client, result });
    }

    /// Calls and picks the answer out of the effects, if it comes at once. `None`: it comes later as a reply with the id
    /// that [`FileSystem::last_call_id`] returns.
    pub fn call(
        &mut self,
        now: Time,
        client: ClientId,
        cred: &Cred,
        call: Call,
        effects: &mut Vec<Effect>,
    ) -> Option<Result<Answer, Errno>> {
        self.calls += 1;
        let id = CallId(self.calls);
        self.last_call = id;
        let from = effects.len();
        self.handle(now, FsEvent::Call { id, client, cred: cred.clone(), call }, effects);
        let is_answer = |effect: &Effect| matches!(effect, Effect::Reply { id: of, .. } if *of == id);
        let at = effects.iter().skip(from).position(is_answer)? + from;
        match effects.remove(at) {
            Effect::Reply { result, .. } => Some(result),
            _ => None,
        }
    }

    /// The id of the last [`FileSystem::call`].
    pub fn last_call_id(&self) -> CallId {
        self.last_call
    }

    /// When [`FsEvent::Tick`] should be given at the latest (monotonic nanoseconds).
    pub fn next_deadline(&self) -> Option<u64> {
        self.mdts.iter().filter_map(Mdt::next_deadline).min()
    }

    /// The MDTs.
    pub fn mdts(&self) -> &[Mdt] {
        &self.mdts
    }

    /// The MDT of a FID.
    pub fn mdt_of(&self, fid: Fid) -> Option<&Mdt> {
        self.mdts.get(self.route(fid).ok()?)
    }

    /// A file.
    pub fn file(&self, fid: Fid) -> Option<&File> {
        self.mdt_of(fid)?.file(fid)
    }

    /// All requests that ever were, MDT by MDT.
    pub fn ledger(&self) -> impl Iterator<Item = &LedgerEntry> {
        self.mdts.iter().flat_map(|mdt| &mdt.ledger().entries)
    }

    /// The parameters of all MDTs in the order of `lctl get_param`: MDT, name below the MDT, name for
    /// [`Mdt::param`].
    fn param_names(&self) -> Vec<(usize, String, &'static str)> {
        let below = |index: usize, names: &[&'static str]| {
            let mdt = self.mdts[index].name();
            names.iter().map(|name| (index, format!("mdt.{mdt}.hsm.{name}"), *name)).collect::<Vec<_>>()
        };
        let indexes = || 0..self.mdts.len();
        let mut all: Vec<_> = indexes().flat_map(|index| below(index, &SYSFS)).collect();
        all.extend(indexes().flat_map(|index| below(index, &DEBUGFS)));
        all.extend(
            indexes()
                .map(|index| (index, format!("mdt.{}.hsm_control", self.mdts[index].name()), "hsm_control")),
        );
        all
    }

    /// Makes the present parameters of all MDTs those that they start with, as `lctl set_param -P` does.
    pub fn keep_params(&mut self) {
        self.mdts.iter_mut().for_each(Mdt::keep_params);
    }

    /// What `lctl get_param PATTERN` prints, in its order. `*` stands for anything but a dot. ENOENT if nothing matches.
    pub fn get_param(&self, pattern: &str) -> Result<String, Errno> {
        let mut text = String::new();
        for (index, path, name) in
            self.param_names().into_iter().filter(|(_, path, _)| matches(pattern, path))
        {
            if let Some(value) = self.mdts[index].param(name) {
                text.push_str(&lctl_get_param(&path, &value));
            }
        }
        if text.is_empty() { Err(Errno::NOENT) } else { Ok(text) }
    }

    /// What `lctl set_param PATTERN=VALUE` does. ENOENT if nothing matches; the first error of several. A `purge` or
    /// `shutdown` that has to wait for a list under way is carried out later.
    pub fn set_param(
        &mut self,
        now: Time,
        pattern: &str,
        value: &str,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Errno> {
        let matching = self.param_names().into_iter().filter(|(_, path, _)| matches(pattern, path));
        let mut result = Err(Errno::NOENT);
        for (index, _, name) in matching.collect::<Vec<_>>() {
            let mdt = self.mdts[index].config().index;
            let call = Call::ParamSet { mdt, name: name.to_owned(), value: value.to_owned() };
            let answer = self.call(now, ClientId(0), &Cred::root(), call, effects);
            let answer = answer.unwrap_or(Ok(Answer::Done)).map(|_| ());
            if result == Err(Errno::NOENT) {
                result = answer;
            } else {
                result = result.and(answer);
            }
        }
        result
    }
}

impl Chain {
    fn new(id: CallId, client: ClientId, cred: Cred, steps: VecDeque<(usize, Call)>, finish: Finish) -> Self {
        Chain { id, client, cred, steps, asked: Vec::new(), error: None, finish }
    }
}

/// One event's time and effects.
struct Run<'a> {
    now: Time,
    effects: &'a mut Vec<Effect>,
}

/// Whether a name matches a pattern, component by component.
fn matches(pattern: &str, name: &str) -> bool {
    let (mut patterns, mut names) = (pattern.split('.'), name.split('.'));
    loop {
        match (patterns.next(), names.next()) {
            (None, None) => return true,
            (Some(pattern), Some(name)) if matches_component(pattern, name) => {}
            _ => return false,
        }
    }
}

fn matches_component(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len())
                .filter(|at| rest.is_char_boundary(*at))
                .any(|at| matches_component(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_component_by_component() {
        let cases = [
            ("mdt.*.hsm.*", "mdt.testfs0-MDT0000.hsm.actions", true),
            ("mdt.*.hsm_control", "mdt.testfs0-MDT0000.hsm_control", true),
            ("mdt.*", "mdt.testfs0-MDT0000.hsm.actions", false),
            ("mdt.*MDT0000*.hsm.a*s", "mdt.testfs0-MDT0000.hsm.agents", true),
            ("mdt.*MDT0001.hsm.agents", "mdt.testfs0-MDT0000.hsm.agents", false),
            ("mdt.*.hsm.active", "mdt.testfs0-MDT0000.hsm.active_requests", false),
            ("*.*.*.*", "mdt.testfs0-MDT0000.hsm.agents", true),
            ("", "mdt", false),
        ];
        for (pattern, name, want) in cases {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn sequences_tell_the_mdt() {
        let cases = [
            (0x2_0000_0402, Some(0)),
            (0x2_3fff_ffff, Some(0)),
            (0x2_4000_03ff, Some(0)),
            (0x2_4000_0400, Some(1)),
            (0x2_4000_0402, Some(1)),
            (0x2_8000_0402, Some(2)),
            (0x2_0000_0007, None),
            (0, None),
        ];
        for (seq, want) in cases {
            assert_eq!(mdt_index_of(Fid::new(seq, 1, 0)), want, "{seq:#x}");
        }
    }
}
