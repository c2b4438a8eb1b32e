//! Several MDTs as one client sees them.

use lustreapi_sys::Fid;

use super::{
    Answer, Call, CallId, ClientId, Cred, DeliveryId, Effect, Errno, File, FsConfig, LedgerEntry, Mdt,
    Outcome, Time,
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
    /// One MDT evicts a client (or all do): its agent there, its open files and blocked calls are gone; its pipe stays. It
    /// connects again at once, but is an agent only after it registers again.
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

/// A file system of one or more MDTs.
#[derive(Debug, Clone)]
pub struct FileSystem {
    mdts: Vec<Mdt>,
}

/// First sequence of MDT 0.
const FIRST_SEQUENCE: u64 = 0x2_0000_0400;
/// Sequences of one MDT.
const SEQUENCES_PER_MDT: u64 = 0x4000_0000;

/// Index of the MDT that a FID's sequence belongs to, whether or not that exists; `None` for FIDs that are not files.
pub fn mdt_index_of(fid: Fid) -> Option<u32> {
    let offset = fid.seq.checked_sub(FIRST_SEQUENCE)?;
    u32::try_from(offset / SEQUENCES_PER_MDT).ok()
}

impl FileSystem {
    /// A file system whose MDTs have just been started for the first time, all in the same second.
    pub fn new(config: FsConfig, now: Time) -> Self {
        let _ = (config, now);
        todo!()
    }

    /// Takes one event and appends what is to be done. `now` never goes back (its monotonic part).
    pub fn handle(&mut self, now: Time, event: FsEvent, effects: &mut Vec<Effect>) {
        let _ = (now, event, effects);
        todo!()
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
        let _ = (now, client, cred, call, effects);
        todo!()
    }

    /// The id of the last [`FileSystem::call`].
    pub fn last_call_id(&self) -> CallId {
        todo!()
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
        self.mdts.get(usize::try_from(mdt_index_of(fid)?).ok()?)
    }

    /// A file.
    pub fn file(&self, fid: Fid) -> Option<&File> {
        self.mdt_of(fid)?.file(fid)
    }

    /// All requests that ever were, MDT by MDT.
    pub fn ledger(&self) -> impl Iterator<Item = &LedgerEntry> {
        self.mdts.iter().flat_map(|mdt| &mdt.ledger().entries)
    }

    /// What `lctl get_param PATTERN` prints, in its order. `*` stands for anything but a dot. ENOENT if nothing matches.
    pub fn get_param(&self, pattern: &str) -> Result<String, Errno> {
        let _ = pattern;
        todo!()
    }

    /// What `lctl set_param PATTERN=VALUE` does. ENOENT if nothing matches; the first error of several.
    pub fn set_param(
        &mut self,
        now: Time,
        pattern: &str,
        value: &str,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Errno> {
        let _ = (now, pattern, value, effects);
        todo!()
    }
}
