//! Powering a host off so that it can be believed: levels of devices, retries, and `status` after `off`.

mod machine;
mod metadata;
mod power_change;
#[cfg(test)]
mod tests;

use crate::time::Mono;

pub use machine::{guid_of_ipmitool, same_machine};
pub use metadata::{KnownAction, KnownParameter, Metadata, Unfencing};
pub use power_change::PowerChange;

/// What a fence agent can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceAction {
    /// Is it on?
    Status,
    /// Power it off.
    Off,
    /// Power it on.
    On,
    /// Does the device itself work?
    Monitor,
    /// Which machine is behind it (its system UUID)?
    Identify,
    /// Undo what fencing does to a host that joins again, if the fence agent's meta-data asks for that (`automatic` on its
    /// action `on`). To be called once for each device of a host when it joins, before it may run anything:
    /// [`DeviceAnswer::Done`] and [`DeviceAnswer::Unsupported`] (nothing to undo, nothing was called) both mean that it may.
    Unfence,
}

/// What came back from one call of a fence agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceAnswer {
    /// `off`, `on`, `monitor` or `unfence` exited with 0.
    Done,
    /// `status`: on (0).
    On,
    /// `status`: off (2).
    Off,
    /// `identify`: the machine's UUID, in lower case. To be compared by [`same_machine`], since byte orders differ.
    Uuid(String),
    /// `identify`: the device cannot tell. `unfence`: it has nothing to undo.
    Unsupported,
    /// It failed, or its answer proves nothing: in words, without secrets.
    Failed(String),
    /// No answer in time; it was killed.
    TimedOut,
}

/// What shall become of a host's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Off, and seen to be off.
    Off,
    /// On, and seen to be on.
    On,
    /// Only look.
    Status,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Call a device.
    Call {
        /// Index of the level.
        level: usize,
        /// Index of the device in it.
        device: usize,
        /// What.
        action: DeviceAction,
    },
    /// Nothing before this time.
    Wait(Mono),
    /// It is over.
    Over(Verdict),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All devices of a level say that it is off.
    Off {
        /// Whether anything was done for that: false when it was off at the first look.
        acted: bool,
    },
    /// A device says that it is on (and that was the goal, or all that was asked).
    On,
    /// Nothing is proven: what happened at each device, in words.
    Failed(String),
}
