//! One MDT.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lustreapi_sys::Fid;

use super::coordinator::Thread;
use super::file::FidAllocator;
use super::log::Log;
use super::running::RunningSet;
use super::{
    Agent, Answer, Call, CallId, CdtState, ClientId, Cred, Effect, Errno, Event, File, Ledger, MdtConfig,
    Params, Record, Running, Time, agent::Agents,
};

/// A call together with who made it.
#[derive(Debug, Clone)]
pub(super) struct Incoming {
    pub id: CallId,
    pub client: ClientId,
    pub cred: Cred,
    pub call: Call,
}

/// A call that waits for a restore to end.
#[derive(Debug, Clone)]
pub(super) struct Blocked {
    pub id: CallId,
    pub client: ClientId,
    pub cred: Cred,
    pub fid: Fid,
}

/// One metadata target: files, log, agents and coordinator.
///
/// Feed it events with the time; carry out the effects; call again at [`Mdt::next_deadline`] at the latest.
#[derive(Debug, Clone)]
pub struct Mdt {
    pub(super) config: MdtConfig,
    pub(super) params: Params,
    pub(super) up: bool,
    pub(super) state: CdtState,
    pub(super) files: BTreeMap<Fid, File>,
    pub(super) fids: FidAllocator,
    /// The last data version given out.
    pub(super) version: u64,
    pub(super) log: Log,
    pub(super) running: RunningSet,
    pub(super) agents: Agents,
    /// Files of which a restore is registered: each holds an exclusive layout lock, which readers wait for.
    pub(super) restores: BTreeSet<Fid>,
    pub(super) blocked: Vec<Blocked>,
    pub(super) clients: BTreeMap<ClientId, String>,
    /// Calls that wait for the MDT to come up.
    pub(super) held: VecDeque<Incoming>,
    /// `cdt_last_cookie`, 0 until it is known.
    pub(super) last_cookie: u64,
    pub(super) thread: Thread,
    pub(super) ledger: Ledger,
}

impl Mdt {
    /// An MDT that has just been started for the first time: its first cookie is the wall clock's seconds and one.
    pub fn new(config: MdtConfig, now: Time) -> Self {
        let params = config.params.clone();
        let mut mdt = Mdt {
            config,
            params,
            up: true,
            state: CdtState::Stopped,
            files: BTreeMap::new(),
            fids: FidAllocator::default(),
            version: 0,
            log: Log::default(),
            running: RunningSet::default(),
            agents: Agents::default(),
            restores: BTreeSet::new(),
            blocked: Vec::new(),
            clients: BTreeMap::new(),
            held: VecDeque::new(),
            last_cookie: 0,
            thread: Thread::default(),
            ledger: Ledger::default(),
        };
        mdt.start_coordinator(now);
        mdt
    }

    /// Takes one event and appends what is to be done. `now` never goes back (its monotonic part).
    pub fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        self.tick(now, effects);
        match event {
            Event::Connect { client, uuid } => {
                self.clients.insert(client, uuid);
            }
            Event::Disconnect { client } => self.disconnect(now, client, effects),
            Event::Call { id, client, cred, call } => {
                self.incoming(now, Incoming { id, client, cred, call }, effects);
            }
            Event::Delivered { delivery, outcome } => {
                if delivery.mdt == self.config.index {
                    self.delivered(now, delivery, outcome, effects);
                }
            }
            Event::Stop => self.stop(),
            Event::Start => self.start(now, effects),
            Event::Tick => {}
        }
        self.run_if_woken(now, effects);
    }

    fn incoming(&mut self, now: Time, incoming: Incoming, effects: &mut Vec<Effect>) {
        if !self.up {
            self.held.push_back(incoming);
            return;
        }
        let Incoming { id, client, .. } = incoming;
        if let Some(result) = self.answer(now, incoming, effects) {
            effects.push(Effect::Reply { id, client, result });
        }
    }

    /// Carries out a call. `None`: it is answered later.
    fn answer(
        &mut self,
        now: Time,
        incoming: Incoming,
        effects: &mut Vec<Effect>,
    ) -> Option<Result<Answer, Errno>> {
        let Incoming { id, client, cred, call } = incoming;
        let on_server = matches!(call, Call::ParamGet { .. } | Call::ParamSet { .. });
        if !on_server && !self.clients.contains_key(&client) {
            return Some(Err(Errno::NOTCONN));
        }
        let done = |result: Result<(), Errno>| Some(result.map(|()| Answer::Done));
        match call {
            Call::Create { file, .. } => Some(self.create(client, &file).map(Answer::Fid)),
            Call::Unlink { fid } => done(self.unlink(now, fid, effects)),
            Call::Open { fid } => done(self.open(client, fid)),
            Call::Close { fid } => done(self.close(now, client, fid, effects)),
            Call::Access { fid } => self.access(now, id, client, cred, fid),
            Call::Write { fid, version } => Some(self.write(fid, version).map(Answer::DataVersion)),
            Call::DataVersion { fid } => {
                Some(self.find(fid).map(|file| Answer::DataVersion(file.data_version)))
            }
            Call::Release { fid } => done(self.release(&cred, fid, effects)),
            Call::StateGet { fid } => Some(self.find(fid).map(|file| Answer::State(file.hsm))),
            Call::StateSet { fid, set } => done(self.state_set(&cred, fid, set)),
            Call::Import { fid, archive_id, uid, gid } => {
                done(self.import(&cred, fid, archive_id, (uid, gid), effects))
            }
            Call::SetArchivedVersion { fid, version } => done(self.set_archived_version(fid, version)),
            Call::CurrentAction { fid } => Some(Ok(Answer::Action(self.current_action(fid)))),
            Call::Request(request) => done(self.request(now, &cred, request)),
            Call::Progress(progress) => done(self.progress(now, client, &cred, progress, effects)),
            Call::CopyStart(_) | Call::CopyEnd(_) => Some(Err(Errno::NOSYS)),
            Call::Register { archives } => done(self.register(client, &cred, archives)),
            Call::Unregister => done(self.unregister(client, &cred)),
            Call::ParamGet { name, .. } => Some(self.param(&name).map(Answer::Text).ok_or(Errno::NOENT)),
            Call::ParamSet { name, value, .. } => {
                let set = self.param_set(now, (id, client), &name, &value, effects)?;
                done(set)
            }
        }
    }

    /// `MDS_HSM_CT_REGISTER` (mdt_hsm_cdt_agent.c).
    fn register(&mut self, client: ClientId, cred: &Cred, mut archives: Vec<u32>) -> Result<(), Errno> {
        if !cred.admin {
            return Err(Errno::PERM);
        }
        if self.state == CdtState::Stopped {
            return Err(Errno::NXIO);
        }
        if archives.len() > lustreapi_sys::abi::LL_HSM_MAX_ARCHIVES_PER_AGENT {
            return Err(Errno::INVAL);
        }
        if archives.contains(&0) {
            archives.clear();
        }
        let uuid = self.clients.get(&client).cloned().unwrap_or_default();
        self.thread.event = true;
        if self.agents.add(client, uuid, archives) { Ok(()) } else { Err(Errno::EXIST) }
    }

    /// `MDS_HSM_CT_UNREGISTER`.
    fn unregister(&mut self, client: ClientId, cred: &Cred) -> Result<(), Errno> {
        if !cred.admin {
            return Err(Errno::PERM);
        }
        if self.state == CdtState::Stopped {
            return Err(Errno::NXIO);
        }
        if self.agents.remove(client) { Ok(()) } else { Err(Errno::NOENT) }
    }

    /// The client's export is gone (`mdt_export_cleanup`): its agent, its open files, its calls.
    fn disconnect(&mut self, now: Time, client: ClientId, effects: &mut Vec<Effect>) {
        self.clients.remove(&client);
        self.agents.remove(client);
        let mut lost: Vec<CallId> =
            self.blocked.iter().filter(|b| b.client == client).map(|b| b.id).collect();
        lost.extend(self.held.iter().filter(|held| held.client == client).map(|held| held.id));
        self.blocked.retain(|blocked| blocked.client != client);
        self.held.retain(|held| held.client != client);
        for id in lost {
            effects.push(Effect::Reply { id, client, result: Err(Errno::IO) });
        }
        self.close_all(now, client, effects);
        self.agent_lost(now, client, effects);
    }

    /// The calls that waited for the MDT, in their order.
    pub(super) fn replay(&mut self, now: Time, effects: &mut Vec<Effect>) {
        for blocked in std::mem::take(&mut self.blocked) {
            if self.restores.contains(&blocked.fid) {
                self.blocked.push(blocked);
            } else {
                let Blocked { id, client, cred, fid } = blocked;
                self.incoming(now, Incoming { id, client, cred, call: Call::Access { fid } }, effects);
            }
        }
        for held in std::mem::take(&mut self.held) {
            self.incoming(now, held, effects);
        }
    }

    /// Its name: `testfs0-MDT0000`.
    pub fn name(&self) -> String {
        format!("{}-MDT{:04x}", self.config.fsname, self.config.index)
    }

    /// What it was made with.
    pub fn config(&self) -> &MdtConfig {
        &self.config
    }

    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// State of the coordinator.
    pub fn cdt_state(&self) -> CdtState {
        self.state
    }

    /// Parameters.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Makes the present parameters those that the MDT starts with, as `lctl set_param -P` does.
    pub fn keep_params(&mut self) {
        self.config.params = self.params.clone();
    }

    /// A file.
    pub fn file(&self, fid: Fid) -> Option<&File> {
        self.files.get(&fid)
    }

    /// All files in order of their FIDs.
    pub fn files(&self) -> impl Iterator<Item = (Fid, &File)> {
        self.files.iter().map(|(fid, file)| (*fid, file))
    }

    /// The log in order.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.log.iter()
    }

    /// The requests in memory, in the order in which they were sent.
    pub fn running(&self) -> impl Iterator<Item = &Running> {
        self.running.iter()
    }

    /// The agents in the order in which they registered.
    pub fn agents(&self) -> &[Agent] {
        self.agents.list()
    }

    /// What really happened.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether a restore of this file is registered: readers of it block.
    pub fn restoring(&self, fid: Fid) -> bool {
        self.restores.contains(&fid)
    }

    /// Whether the coordinator waits for the outcome of a delivery.
    pub fn sending(&self) -> bool {
        self.thread.sending.is_some()
    }

    pub(super) fn find(&self, fid: Fid) -> Result<&File, Errno> {
        self.files.get(&fid).ok_or(Errno::NOENT)
    }

    pub(super) fn find_mut(&mut self, fid: Fid) -> Result<&mut File, Errno> {
        self.files.get_mut(&fid).ok_or(Errno::NOENT)
    }
}
