//! Names and numbers that identify things, each of a type of its own so that they cannot be mixed up.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as written in the configuration.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name.into())
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name! {
    /// A server that an agent runs on: its `hostname` in the configuration without the port.
    HostId
}
name! {
    /// A resource: its `name` in the configuration.
    ResourceId
}
name! {
    /// A resource group, named after its root resource (as HALO does).
    GroupId
}
name! {
    /// What a resource *is*, whatever it is called: its kind and the parameters that make it unique (see
    /// [`crate::ha::config::Resource::identity`]). Two names with one identity are the same device.
    Identity
}
name! {
    /// One boot of a host's kernel (`/proc/sys/kernel/random/boot_id`).
    BootId
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A reign of a manager. An agent sealed with an epoch refuses orders of lower ones.
    Epoch
}
number! {
    /// A manager's identity: drawn once, kept in its state. An agent obeys one until a takeover is confirmed.
    ManagerId
}
number! {
    /// One run of a manager process, drawn at its start.
    ManagerRun
}
number! {
    /// One run of an agent process, drawn at its start.
    AgentRun
}
number! {
    /// One connection from a manager to an agent, numbered by the manager, never used again.
    LinkId
}
number! {
    /// A command of an operator, numbered by the manager across restarts.
    CommandId
}
number! {
    /// One attempt to change a host's power, numbered by the manager across restarts.
    FenceId
}
number! {
    /// Which call of a fence agent a result belongs to.
    CallId
}
number! {
    /// Who asked: the shell's name for a pending reply.
    ReplyToken
}

/// An order: unique across managers, runs and time, and usable as the name of a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OrderId {
    /// The epoch under which it was given.
    pub epoch: Epoch,
    /// The process that gave it.
    pub run: ManagerRun,
    /// Its number there.
    pub number: u64,
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}-{}", self.epoch, self.run.0, self.number)
    }
}

impl std::str::FromStr for OrderId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an order's name (EPOCH-RUN-NUMBER)");
        let mut parts = text.splitn(3, '-');
        let (Some(epoch), Some(run), Some(number)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong());
        };
        Ok(Self {
            epoch: Epoch(epoch.parse().map_err(|_| wrong())?),
            run: ManagerRun(u64::from_str_radix(run, 16).map_err(|_| wrong())?),
            number: number.parse().map_err(|_| wrong())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orders_name_can_be_read_back() {
        let order = OrderId { epoch: Epoch(7), run: ManagerRun(0xfeed), number: 12 };
        assert_eq!(order.to_string(), "7-000000000000feed-12");
        assert_eq!(order.to_string().parse(), Ok(order));
        for wrong in ["", "7", "7-x-1", "a-0-1", "7-0-", "7-0-1-2"] {
            assert!(wrong.parse::<OrderId>().is_err(), "{wrong}");
        }
    }
}
