//! Commands to the server of an embedded Lustre that no Lustre has: what `lustre-sim` sends, as JSON.

use serde::{Deserialize, Serialize};

/// A command. Descriptors that go with it are named in its description.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// Agents, their pipes, MDTs and clocks: [`Status`].
    Status,
    /// What happened to every request, from all MDTs: `{"entries": [...], "strays": [...]}`.
    Ledger,
    /// The calls that were made, oldest first: a list of [`CallRecord`].
    Calls,
    /// What `lctl get_param PATTERN` prints.
    GetParam {
        /// With `*` for anything but a dot.
        pattern: String,
    },
    /// What `lctl set_param PATTERN=VALUE` does.
    SetParam {
        /// With `*` for anything but a dot.
        pattern: String,
        /// The value.
        value: String,
    },
    /// Stops an MDT: calls to it block.
    StopMdt {
        /// Which.
        index: u32,
    },
    /// Starts an MDT.
    StartMdt {
        /// Which.
        index: u32,
    },
    /// New files below the directory (first descriptor) are on this MDT.
    DirectoryMdt {
        /// Which.
        index: u32,
    },
    /// Gives a file (first descriptor) that has no FID yet this one. Answers the FID.
    Adopt {
        /// `[0x200000402:0x1d:0x0]`, or the next one.
        fid: Option<String>,
    },
    /// Reads the file (first descriptor), as a process on a Lustre would: a released one is restored first. Answered when
    /// its content is there.
    Access,
    /// Waits until a condition holds. Fails with ETIMEDOUT.
    Wait {
        /// What to wait for.
        until: Until,
        /// For how long at most, in milliseconds.
        timeout_ms: u64,
    },
    /// Writes the last list of each agent into its pipe once more.
    Redeliver,
    /// Evicts a client.
    Evict {
        /// The uuid as `hsm.agents` shows it.
        uuid: String,
        /// By which MDT, or all.
        mdt: Option<u32>,
    },
    /// Unmounts a client: its copytool's pipe gets a shutdown message and is closed.
    Unmount {
        /// The uuid as `hsm.agents` shows it.
        uuid: String,
    },
    /// Sets the clock forward.
    Advance {
        /// By so many seconds.
        seconds: u64,
    },
    /// Replaces the fault settings.
    Faults(Faults),
    /// Looks at all files and registrations at once, as the server otherwise does many times a second.
    Sync,
    /// Ends the server.
    Shutdown,
}

/// Faults on the way to copytools.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Faults {
    /// So many of the next lists are delivered twice: the MDT does not get the answer and sends again.
    pub deliver_twice: u32,
    /// So many of the next lists are lost: the MDT is told EIO, and they stay WAITING.
    pub fail_deliveries: u32,
    /// Every list waits so many milliseconds before it is written.
    pub delay_ms: u64,
}

/// Conditions of [`Command::Wait`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Until {
    /// All these files have (`set`) and lack (`clear`) these `HS_*` flags.
    State {
        /// FIDs.
        fids: Vec<String>,
        /// Flags that must be set.
        set: u32,
        /// Flags that must not be set.
        clear: u32,
    },
    /// Every request ever made has ended, and there were at least this many.
    Ended {
        /// How many requests, cancels included.
        at_least: usize,
    },
    /// At least so many requests are STARTED.
    Started {
        /// How many.
        at_least: usize,
    },
    /// At least so many agents are registered on MDT 0.
    Agents {
        /// How many.
        at_least: usize,
    },
    /// No agent is registered.
    NoAgents,
    /// At least so many calls of this name were made.
    Calls {
        /// As in [`CallRecord::name`].
        name: String,
        /// How many.
        at_least: usize,
    },
}

/// One ioctl (or own operation) that a process made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    /// Process.
    pub pid: u32,
    /// `CT_START`, `CT_STOP`, `COPY_START`, `PROGRESS`, ...
    pub name: String,
    /// The FID it was about, where there is one.
    pub fid: Option<String>,
    /// The cookie it was about, where there is one.
    pub cookie: Option<u64>,
    /// The result, 0 or more, or a negative errno.
    pub result: i32,
}

/// Answer of [`Command::Status`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Name of the file system.
    pub fsname: String,
    /// Each MDT's name, whether it is up, and its coordinator's state.
    pub mdts: Vec<MdtStatus>,
    /// Clients that have been seen, with their copytools.
    pub clients: Vec<ClientStatus>,
    /// Files with a FID.
    pub files: usize,
    /// Calls that wait for an answer: blocked readers, calls to an MDT that is down.
    pub blocked_calls: usize,
    /// Seconds of the wall clock.
    pub wall: i64,
    /// Fault settings.
    pub faults: Faults,
}

/// One MDT.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MdtStatus {
    /// `testfs0-MDT0000`.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
    /// `enabled`, `disabled` or `stopped`.
    pub coordinator: String,
}

/// One client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClientStatus {
    /// Its number.
    pub client: u32,
    /// Its uuid.
    pub uuid: String,
    /// Its mount point, where known.
    pub mount: Option<String>,
    /// Whether a copytool is registered.
    pub registered: bool,
    /// Lists that wait to be written into its pipe; the first of them may be blocked by a full pipe.
    pub queued_lists: usize,
    /// Whether the thread that writes is waiting for room in the pipe.
    pub pipe_full: bool,
}
