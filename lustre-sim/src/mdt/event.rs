//! What goes into the model and what comes out of it.

use std::sync::Arc;

use lustreapi_sys::Fid;
use lustreapi_sys::abi;
use serde::Serialize;

use super::Errno;

/// A client mount. One mount is one agent at most, on all MDTs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ClientId(pub u32);

/// Chosen by who calls, to find the reply again. Should not be reused while a reply is outstanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct CallId(pub u64);

/// One list sent to one agent. Unique for as long as the MDT exists, restarts included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DeliveryId {
    /// Which MDT sent it.
    pub mdt: u32,
    /// Its number.
    pub number: u64,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cred {
    /// User id.
    pub uid: u32,
    /// Group ids.
    pub gids: Vec<u32>,
    /// Whether `CAP_SYS_ADMIN` is raised.
    pub admin: bool,
}

impl Cred {
    /// The superuser.
    pub fn root() -> Self {
        Cred { uid: 0, gids: vec![0], admin: true }
    }

    /// A user without privileges.
    pub fn user(uid: u32, gid: u32) -> Self {
        Cred { uid, gids: vec![gid], admin: false }
    }
}

/// What a copytool is asked to do (`HSMA_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// Copy the file's data to the archive.
    Archive,
    /// Copy the data back into a volatile file, whose layout the MDT then swaps with the file's.
    Restore,
    /// Remove the copy in the archive.
    Remove,
    /// Stop an earlier request of the same cookie.
    Cancel,
}

impl Action {
    /// `HSMA_*`, the number in an action list.
    pub const fn hsma(self) -> u32 {
        match self {
            Action::Archive => abi::HSMA_ARCHIVE,
            Action::Restore => abi::HSMA_RESTORE,
            Action::Remove => abi::HSMA_REMOVE,
            Action::Cancel => abi::HSMA_CANCEL,
        }
    }

    /// `HUA_*`, the number in a user's request.
    pub const fn hua(self) -> u32 {
        match self {
            Action::Archive => abi::HUA_ARCHIVE,
            Action::Restore => abi::HUA_RESTORE,
            Action::Remove => abi::HUA_REMOVE,
            Action::Cancel => abi::HUA_CANCEL,
        }
    }

    /// The action of a user's request. `HUA_RELEASE` is not one: see [`Call::Release`].
    pub const fn from_hua(hua: u32) -> Option<Self> {
        Some(match hua {
            abi::HUA_ARCHIVE => Action::Archive,
            abi::HUA_RESTORE => Action::Restore,
            abi::HUA_REMOVE => Action::Remove,
            abi::HUA_CANCEL => Action::Cancel,
            _ => return None,
        })
    }

    /// The name that Lustre prints.
    pub const fn name(self) -> &'static str {
        match self {
            Action::Archive => "ARCHIVE",
            Action::Restore => "RESTORE",
            Action::Remove => "REMOVE",
            Action::Cancel => "CANCEL",
        }
    }
}

/// A byte range: offset and *length*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Bytes, `u64::MAX` for all.
    pub length: u64,
}

impl Extent {
    /// The whole file.
    pub const WHOLE: Extent = Extent { offset: 0, length: u64::MAX };
    /// Nothing: what a keepalive reports.
    pub const NONE: Extent = Extent { offset: 0, length: 0 };
}

/// What goes into one [`super::Mdt`].
#[derive(Debug, Clone)]
pub enum Event {
    /// A client has mounted.
    Connect {
        /// Which.
        client: ClientId,
        /// What `agents` and `active_requests` print for it.
        uuid: String,
    },
    /// A client has unmounted, died or was evicted: its agent is unregistered, its blocked calls are forgotten, its open
    /// files are closed. What it was running stays STARTED until it times out or another client ends it.
    Disconnect {
        /// Which.
        client: ClientId,
    },
    /// A client calls. Answered by [`Effect::Reply`], at once or later. While the MDT is down, calls wait for it.
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
    /// What became of an [`Effect::Deliver`]. The coordinator does nothing else until it knows, as in Lustre. Unknown and
    /// outdated deliveries are ignored.
    Delivered {
        /// Which.
        delivery: DeliveryId,
        /// How it went.
        outcome: Outcome,
    },
    /// The MDT goes down: memory is lost, the log and the files stay.
    Stop,
    /// The MDT is up again. Starts the coordinator, replays the calls that waited. Nothing if it is up.
    Start,
    /// Time has passed. Any other event does the same first.
    Tick,
}

/// How the delivery of a list went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The client has it in its pipe.
    Accepted,
    /// The client's answer was lost: the MDT sends the same list again, with the same delivery id. Whether the first one
    /// was read is up to who carries out the effect.
    AnswerLost,
    /// The client has no reader for it or is gone: `EPIPE` unregisters the agent, anything else is a passing failure. The
    /// requests stay WAITING.
    Failed(Errno),
}

/// What a client asks for. In a [`super::FileSystem`] each goes to the MDT of its FID, unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Makes a file, opened once when volatile. Answered by [`Answer::Fid`].
    Create {
        /// On which MDT.
        mdt: u32,
        /// Its properties.
        file: NewFile,
    },
    /// Removes the name. The file goes with its last close; with `remove_archive_on_last_unlink` a REMOVE is logged then.
    Unlink {
        /// The file.
        fid: Fid,
    },
    /// Opens a file (no data is read yet). An open file cannot be released.
    Open {
        /// The file.
        fid: Fid,
    },
    /// Closes a file once. A volatile file disappears with it.
    Close {
        /// The file.
        fid: Fid,
    },
    /// Reads or writes data, which a released file has to be restored for: answered when that has ended, with ENODATA if
    /// it failed or if the policy is NonBlockingRestore. Files with data are answered at once.
    Access {
        /// The file.
        fid: Fid,
    },
    /// Data was changed: the data version grows (or becomes the one given), and the file is DIRTY if a copy exists.
    /// ENODATA when released: [`Call::Access`] first. Answered by [`Answer::DataVersion`].
    Write {
        /// The file.
        fid: Fid,
        /// The new data version, or the next one.
        version: Option<u64>,
    },
    /// Reads the data version. Answered by [`Answer::DataVersion`]; 0 when released.
    DataVersion {
        /// The file.
        fid: Fid,
    },
    /// `lfs hsm_release`: EBUSY while open, EPERM unless archived, clean, and without NORELEASE and LOST.
    Release {
        /// The file.
        fid: Fid,
    },
    /// `HSM_STATE_GET`. Answered by [`Answer::State`].
    StateGet {
        /// The file.
        fid: Fid,
    },
    /// `HSM_STATE_SET`.
    StateSet {
        /// The file.
        fid: Fid,
        /// What to change.
        set: StateSet,
    },
    /// `HSM_IMPORT`: an empty file becomes a released one whose data is in that archive.
    Import {
        /// The file.
        fid: Fid,
        /// Where its data is; 0 keeps the file's.
        archive_id: u32,
        /// Its new owner.
        uid: u32,
        /// Its new group.
        gid: u32,
    },
    /// `HSM_DATA_VERSION`: sets the data version that the archived copy is taken to have. EINVAL for 0.
    SetArchivedVersion {
        /// The file.
        fid: Fid,
        /// The version.
        version: u64,
    },
    /// `HSM_ACTION`. Answered by [`Answer::Action`].
    CurrentAction {
        /// The file.
        fid: Fid,
    },
    /// `HSM_REQUEST` (not for release). A file system splits it by FID and asks all MDTs even when one refuses; the first
    /// error is the answer. E2BIG when it needs 1706 bytes or more.
    Request(UserRequest),
    /// `HSM_PROGRESS`, and what `HSM_COPY_START` and `HSM_COPY_END` send to the MDT. Routed by its FID.
    Progress(Progress),
    /// `HSM_COPY_START`: samples the data version of an archive's file and reports empty progress. Answered by
    /// [`Answer::DataVersion`] (0 unless archiving). Only in a file system: the client does this, not the MDT.
    CopyStart(CopyStart),
    /// `HSM_COPY_END`: compares data versions and reports the end. Only in a file system.
    CopyEnd(CopyEnd),
    /// Registers the client as an agent for these archives, all when empty or when any id is 0. A file system registers
    /// on all MDTs that are up, all or nothing; ENOTCONN when none is.
    Register {
        /// Archive ids.
        archives: Vec<u32>,
    },
    /// Takes the registration back, on all MDTs in a file system. Never fails there.
    Unregister,
    /// Reads `hsm/NAME` or `hsm_control`, with the newlines that the file has. Answered by [`Answer::Text`].
    ParamGet {
        /// On which MDT.
        mdt: u32,
        /// `max_requests`, `actions`, `hsm_control`...
        name: String,
    },
    /// Writes `hsm/NAME` or `hsm_control`.
    ParamSet {
        /// On which MDT.
        mdt: u32,
        /// Which.
        name: String,
        /// What `lctl set_param` would write.
        value: String,
    },
}

/// What an answered call returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done,
    /// A new file.
    Fid(Fid),
    /// A data version.
    DataVersion(u64),
    /// `HSM_STATE_GET`.
    State(HsmState),
    /// `HSM_ACTION`.
    Action(CurrentAction),
    /// A parameter.
    Text(String),
}

/// What comes out. To be carried out in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The answer of a call.
    Reply {
        /// Of which.
        id: CallId,
        /// Whose.
        client: ClientId,
        /// The answer.
        result: Result<Answer, Errno>,
    },
    /// Put this into the client's pipe, whole, then tell with [`Event::Delivered`]. The MDT waits for it.
    Deliver {
        /// To tell.
        delivery: DeliveryId,
        /// The agent.
        client: ClientId,
        /// A KUC frame: header and action list.
        frame: Arc<[u8]>,
    },
    /// Put this into the client's pipe and close it: the client is unmounted. Needs no answer. Only from a file system.
    Shutdown {
        /// The agent.
        client: ClientId,
        /// A KUC frame without a message.
        frame: Arc<[u8]>,
    },
    /// A restore ended: `fid` now has the data (and size) of `volatile`, and `volatile` has none.
    SwapLayouts {
        /// The file.
        fid: Fid,
        /// The copytool's volatile file.
        volatile: Fid,
    },
    /// The file was released: its data is gone from Lustre, its size stays.
    DropData {
        /// The file.
        fid: Fid,
    },
    /// The file is gone.
    Destroyed {
        /// The file.
        fid: Fid,
    },
}

/// Properties of a new file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewFile {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Without a name: disappears when it is closed. A copytool restores into one.
    pub volatile: bool,
    /// The FID it shall have; otherwise the next of the client's sequence on that MDT.
    pub fid: Option<Fid>,
}

/// HSM state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct HsmState {
    /// `HS_*`.
    pub flags: u32,
    /// Where the copy is, 0 if there never was one. Stays after a REMOVE.
    pub archive_id: u32,
}

/// `struct hsm_state_set`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateSet {
    /// Flags to set.
    pub set: u64,
    /// Flags to clear.
    pub clear: u64,
    /// The new archive id; ignored if the file then has no EXISTS flag.
    pub archive_id: Option<u32>,
}

/// `struct hsm_current_action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentAction {
    /// What waits or runs, if anything does. Cancels do not count.
    pub action: Option<Action>,
    /// Whether it was handed to an agent.
    pub running: bool,
    /// What it is about; the length becomes the bytes moved so far once it runs.
    pub location: Extent,
}

/// `struct hsm_user_request`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRequest {
    /// What to do with all of the items.
    pub action: Action,
    /// Archive, 0 for the file's or the default one.
    pub archive_id: u32,
    /// `HSM_FORCE_ACTION` and the like.
    pub flags: u64,
    /// The files.
    pub items: Vec<(Fid, Extent)>,
    /// Given to the copytool with every item.
    pub data: Vec<u8>,
}

impl UserRequest {
    /// A request for whole files.
    pub fn new(action: Action, files: impl IntoIterator<Item = Fid>, data: &[u8]) -> Self {
        let items = files.into_iter().map(|fid| (fid, Extent::WHOLE)).collect();
        UserRequest { action, archive_id: 0, flags: 0, items, data: data.to_vec() }
    }
}

/// `struct hsm_progress_kernel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The file, or the volatile file of a restore.
    pub fid: Fid,
    /// The request.
    pub cookie: u64,
    /// What was copied since the last report; nothing for a keepalive.
    pub extent: Extent,
    /// `HP_FLAG_COMPLETED`, `HP_FLAG_RETRY`.
    pub flags: u16,
    /// A positive errno, 0 for none.
    pub errval: u16,
    /// Data version of the copy, at the end of an archive or restore.
    pub data_version: u64,
}

impl Progress {
    /// A report of nothing: refreshes the request's timeout, and tells whether the MDT knows it.
    pub fn keepalive(fid: Fid, cookie: u64) -> Self {
        Progress { fid, cookie, extent: Extent::NONE, flags: 0, errval: 0, data_version: 0 }
    }
}

/// `struct hsm_copy` as `llapi_hsm_action_begin` fills it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyStart {
    /// `hai_action`.
    pub action: Action,
    /// `hai_fid`. liblustreapi puts the volatile file's FID only into `hai_dfid`.
    pub fid: Fid,
    /// `hai_cookie`.
    pub cookie: u64,
    /// `hai_extent`.
    pub extent: Extent,
}

/// `struct hsm_copy` as `llapi_hsm_action_end` fills it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyEnd {
    /// `hai_action`.
    pub action: Action,
    /// `hai_fid`: the volatile file for a restore.
    pub fid: Fid,
    /// `hai_cookie`.
    pub cookie: u64,
    /// `hai_extent`: what was copied.
    pub extent: Extent,
    /// `hc_flags`.
    pub flags: u16,
    /// `hc_errval`.
    pub errval: u16,
    /// `hc_data_version`: what [`CopyStart`] answered.
    pub data_version: u64,
}
