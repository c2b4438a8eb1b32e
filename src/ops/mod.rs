//! What the HSM role's API says, as it stands in JSON: written by the daemon, read by the command line.
//!
//! Members are added, never changed; readers ignore what they do not know and take what is missing for nothing.

mod alerts;
mod event;
mod flow;
mod request;
mod select;
mod status;
mod text;

pub use crate::hsm::reconcile::Reconciled;
pub use alerts::{Alert, Facts, Severity, alerts, store_alerts};
pub use event::{Event, Kind as EventKind};
pub use flow::{
    ByteCount, CancelReport, ClassLoad, DeadLetter, ErrorCount, Load, Mover, NamedLoad, OwnerLoad, Stranded,
    TagLoad, Top,
};
pub use request::{Attempt, Ended, Explanation, FileReport, Position, Reason, Request};
pub use select::{Select, action};
pub use status::{Counters, Counts, History, Lock, Status, Store};
pub use text::{Cookie, Data, FidText};
