//! The MDT's HSM coordinator, and the HSM part of its files, as a pure state machine.
//!
//! [`Mdt`] is one metadata target: its files' HSM states, the request log (what `hsm/actions` shows), the requests in
//! memory (`hsm/active_requests`), the registered copytools (`hsm/agents`), the coordinator's passes over the log, and
//! what happens to each of them on progress, ends, cancels, timeouts and restarts. [`FileSystem`] puts several of them
//! together the way a client sees them: routed by FID, requests split, copytools registered everywhere or nowhere.
//!
//! Events go in with the time, effects come out:
//!
//! ```
//! use lustre_sim::mdt::{Answer, Call, CallId, ClientId, Cred, FileSystem, FsConfig, FsEvent, NewFile, Time};
//!
//! let now = Time { mono: 0, wall: 1_795_216_572 };
//! let mut fs = FileSystem::new(FsConfig::default(), now);
//! let mut effects = Vec::new();
//! let client = ClientId(1);
//! fs.handle(now, FsEvent::Mount { client, uuid: "2acc20bf".into() }, &mut effects);
//! let create = Call::Create { mdt: 0, file: NewFile::default() };
//! let reply = fs.call(now, client, &Cred::root(), create, &mut effects);
//! assert!(matches!(reply, Some(Ok(Answer::Fid(_)))));
//! ```
//!
//! Rules come from Lustre's sources (named where they are applied) and from what a real Lustre 2.17.57 printed.
//! Where the model simplifies, it says so:
//! - the layout lock of a restore is only what blocks readers; other lock conflicts do not exist here;
//! - a request's owner and group are those given at creation; there are no directories, modes or quotas;
//! - the request log never fails, and a new catalogue entry begins after 64767 records, as in Lustre.

mod agent;
mod config;
mod control;
mod coordinator;
mod errno;
mod event;
mod file;
mod file_calls;
mod fs;
mod ledger;
mod log;
mod machine;
mod param;
mod pass;
mod print;
mod progress;
mod request;
mod running;
mod time;

pub use agent::Agent;
pub use config::{Behaviour, FsConfig, MdtConfig};
pub use control::CdtState;
pub use errno::Errno;
pub use event::{
    Action, Answer, Call, CallId, ClientId, CopyEnd, CopyStart, Cred, CurrentAction, DeliveryId, Effect,
    Event, Extent, HsmState, NewFile, Outcome, Progress, StateSet, UserRequest,
};
pub use file::File;
pub use fs::{FileSystem, FsEvent, mdt_index_of};
pub use ledger::{End, Ledger, LedgerEntry, Stray};
pub use log::{LogIndex, Record, RecordStatus};
pub use machine::Mdt;
pub use param::{Params, Policy};
pub use print::{lctl_get_param, lfs_hsm_action, lfs_hsm_state};
pub use running::Running;
pub use time::Time;
