//! Powering a host off so that it can be believed: levels of devices, retries, and `status` after `off`.

use std::time::Duration;

use super::config::FenceLevel;
use crate::time::Mono;

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
}

/// What came back from one call of a fence agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceAnswer {
    /// `off`, `on` or `monitor` exited with 0.
    Done,
    /// `status`: on (0).
    On,
    /// `status`: off (2).
    Off,
    /// `identify`: the machine's UUID, in lower case.
    Uuid(String),
    /// `identify`: the device cannot tell.
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

/// One attempt to reach a goal, over all levels. The caller carries out each step and comes back with the answer, one at a
/// time.
#[derive(Debug, Clone)]
pub struct PowerChange {
    #[allow(dead_code)]
    levels: Vec<FenceLevel>,
    #[allow(dead_code)]
    goal: Goal,
}

impl PowerChange {
    /// How long a device that said `off` is asked again before it counts as failed.
    pub const VERIFY: Duration = Duration::from_secs(20);

    /// Begins.
    pub fn new(levels: Vec<FenceLevel>, goal: Goal) -> Self {
        Self { levels, goal }
    }

    /// The next step. `answer` is that of the last [`Step::Call`], `None` at the beginning and after a [`Step::Wait`].
    pub fn step(&mut self, now: Mono, answer: Option<DeviceAnswer>) -> Step {
        let _ = (now, answer);
        Step::Over(Verdict::Failed("no fence device".to_owned()))
    }
}
