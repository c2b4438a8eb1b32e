//! What happens to the engine, and what it wants done.

use std::sync::Arc;
use std::time::Duration;

use crate::ha::command::{Accepted, Denied, Request};
use crate::ha::config::{Config, FenceDevice};
use crate::ha::fencing::{DeviceAction, DeviceAnswer};
use crate::ha::ids::{CallId, HostId, LinkId, ManagerId, ManagerRun, ReplyToken};
use crate::ha::protocol::{FromAgent, ToAgent};
use crate::ha::state::{Record, State};

/// What a run of the manager starts with.
#[derive(Debug, Clone)]
pub struct Start {
    /// The configuration.
    pub config: Config,
    /// Act (true) or only observe (false).
    pub manage: bool,
    /// What was stored.
    pub state: State,
    /// Whether something of the state is missing.
    pub lost: LostState,
    /// A new identity, drawn at random, in case the state has none.
    pub new_manager: ManagerId,
    /// This process, drawn at random.
    pub run: ManagerRun,
}

/// How the stored state was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LostState {
    /// Complete.
    #[default]
    No,
    /// There was none: a first start, or the file is gone.
    Absent,
    /// A part was damaged: where and how. What could be read is used.
    Damaged(String),
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A connection to an agent stands (TCP and TLS).
    Connected {
        /// As numbered in [`Effect::Connect`].
        link: LinkId,
    },
    /// It could not be made.
    ConnectFailed {
        /// As numbered in [`Effect::Connect`].
        link: LinkId,
        /// How.
        error: ConnectError,
    },
    /// A connection that stood is gone.
    Disconnected {
        /// Which.
        link: LinkId,
        /// How.
        error: ConnectError,
    },
    /// An agent said something.
    Received {
        /// On which connection.
        link: LinkId,
        /// What.
        message: FromAgent,
    },
    /// A fence agent came to its end.
    Fenced {
        /// As numbered in [`Effect::CallDevice`].
        call: CallId,
        /// With which answer.
        answer: DeviceAnswer,
    },
    /// An operator wants something.
    Request(Request),
    /// Time has passed.
    Tick,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectError {
    /// The host's kernel answered that nobody listens, or the agent hung up: the kernel is alive.
    Refused(String),
    /// No answer in time.
    TimedOut,
    /// No way there (no route, host unreachable).
    Unreachable(String),
    /// Somebody answered, but not an agent that can be trusted: TLS, a broken message.
    Untrusted(String),
    /// The name is not known, no socket is left, and so on: our own trouble.
    Local(String),
}

/// What shall be done with the world. The shell carries effects out only after the records of the same and all earlier
/// [`Effects`] are durable, in order; only [`ToAgent::Acknowledge`] may overtake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Connect to an agent. Answered by [`Event::Connected`] or [`Event::ConnectFailed`] within `timeout`.
    Connect {
        /// How it will be called.
        link: LinkId,
        /// Whom to expect (the name in its certificate).
        host: HostId,
        /// Name or address.
        address: String,
        /// Port.
        port: u16,
        /// How long it may take.
        timeout: Duration,
    },
    /// Send a message.
    Send {
        /// Where to.
        link: LinkId,
        /// What.
        message: ToAgent,
    },
    /// Close a connection. No [`Event::Disconnected`] follows.
    Close {
        /// Which.
        link: LinkId,
    },
    /// Call a fence agent. Answered by [`Event::Fenced`] within the timeout, at the latest.
    CallDevice {
        /// How it will be called.
        call: CallId,
        /// For which host (`nodename`).
        host: HostId,
        /// Which device.
        device: Arc<FenceDevice>,
        /// What.
        action: DeviceAction,
        /// How long it may take. It is killed then.
        timeout: Duration,
    },
    /// Answer an operator.
    Reply {
        /// To whom.
        token: ReplyToken,
        /// What.
        answer: Result<Accepted, Denied>,
    },
}

/// Records and effects of one or more calls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    /// To be made durable first.
    pub records: Vec<Record>,
    /// To be carried out then, in order.
    pub effects: Vec<Effect>,
}
