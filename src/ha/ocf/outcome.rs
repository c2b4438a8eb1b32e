//! How an operation of a resource agent ended, and what that means.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How the process of an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It exited with this code.
    Exited(i32),
    /// A signal killed it that was not ours.
    Signaled(i32),
    /// It did not end in time and was killed.
    TimedOut,
    /// It could not be run: why.
    NotRun(String),
    /// The agent was restarted while it ran, so nobody knows its code.
    Lost,
}

/// What must be done about a failure (OCF RA API 1.1, Pacemaker's recovery types).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// Try again, here first.
    Soft,
    /// This host cannot do it: try another one.
    Hard,
    /// No host can: the configuration is wrong.
    Fatal,
}

/// What a monitor or probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Monitored {
    /// Active (0), promoted (8), degraded (190) or both (191).
    Running {
        /// It works, but failure is more likely than usual.
        degraded: bool,
        /// It is in the promoted role.
        promoted: bool,
    },
    /// Cleanly stopped (7).
    Stopped,
    /// Cannot be active here, because what it needs is not installed (5). As good as stopped for a proof.
    NotInstalled,
    /// Neither running well nor cleanly stopped: it may be active.
    Failed(Recovery),
}

impl Outcome {
    /// Whether a start or stop says that it succeeded. No proof of anything: only a probe is one.
    pub fn succeeded(&self) -> bool {
        *self == Outcome::Exited(0)
    }

    /// What this means as the result of a monitor or probe.
    pub fn monitored(&self) -> Monitored {
        match self {
            Outcome::Exited(0) => Monitored::Running { degraded: false, promoted: false },
            Outcome::Exited(8) => Monitored::Running { degraded: false, promoted: true },
            Outcome::Exited(190) => Monitored::Running { degraded: true, promoted: false },
            Outcome::Exited(191) => Monitored::Running { degraded: true, promoted: true },
            Outcome::Exited(7) => Monitored::Stopped,
            Outcome::Exited(5) => Monitored::NotInstalled,
            _ => Monitored::Failed(self.recovery()),
        }
    }

    /// What this means as a failure.
    pub fn recovery(&self) -> Recovery {
        match self {
            Outcome::Exited(2..=5) => Recovery::Hard,
            Outcome::Exited(6) => Recovery::Fatal,
            Outcome::NotRun(_) => Recovery::Hard,
            _ => Recovery::Soft,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Outcome::Exited(code) => match code {
                0 => "success",
                1 => "failed",
                2 => "wrong parameters on this host",
                3 => "action not supported",
                4 => "insufficient privileges",
                5 => "not installed",
                6 => "wrong configuration",
                7 => "not running",
                8 => "running (promoted)",
                9 => "failed (promoted)",
                190 => "degraded",
                191 => "degraded (promoted)",
                _ => return write!(f, "exit code {code}"),
            },
            Outcome::Signaled(signal) => return write!(f, "killed by signal {signal}"),
            Outcome::TimedOut => "timed out",
            Outcome::NotRun(why) => return write!(f, "could not be run: {why}"),
            Outcome::Lost => "result unknown (the agent was restarted meanwhile)",
        };
        if let Outcome::Exited(code) = self { write!(f, "{name} ({code})") } else { f.write_str(name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_a_monitor() {
        let running = |degraded, promoted| Monitored::Running { degraded, promoted };
        for (code, meaning) in [
            (0, running(false, false)),
            (1, Monitored::Failed(Recovery::Soft)),
            (2, Monitored::Failed(Recovery::Hard)),
            (3, Monitored::Failed(Recovery::Hard)),
            (4, Monitored::Failed(Recovery::Hard)),
            (5, Monitored::NotInstalled),
            (6, Monitored::Failed(Recovery::Fatal)),
            (7, Monitored::Stopped),
            (8, running(false, true)),
            (9, Monitored::Failed(Recovery::Soft)),
            (124, Monitored::Failed(Recovery::Soft)),
            (137, Monitored::Failed(Recovery::Soft)),
            (190, running(true, false)),
            (191, running(true, true)),
        ] {
            assert_eq!(Outcome::Exited(code).monitored(), meaning, "{code}");
        }
        for lost in [Outcome::Signaled(9), Outcome::TimedOut, Outcome::Lost] {
            assert_eq!(lost.monitored(), Monitored::Failed(Recovery::Soft), "{lost}");
        }
        assert_eq!(Outcome::NotRun("gone".into()).monitored(), Monitored::Failed(Recovery::Hard));
    }

    #[test]
    fn only_zero_is_success() {
        assert!(Outcome::Exited(0).succeeded());
        assert!(
            ![Outcome::Exited(7), Outcome::Exited(190), Outcome::TimedOut].iter().any(Outcome::succeeded)
        );
    }
}
