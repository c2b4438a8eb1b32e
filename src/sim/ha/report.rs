//! What a run did: proof that the faults hit something.

use std::fmt;

/// What script faults are called, in the order of [`Report::script_faults`].
const SCRIPTS: [&str; 14] = [
    "starts that are slow",
    "starts that fail",
    "starts that lie",
    "starts stuck in the kernel",
    "starts that fail and act later",
    "starts that say yes and act later",
    "stops that are slow",
    "stops that fail",
    "stops that lie",
    "stops stuck in the kernel",
    "stops that say yes and act later",
    "monitors that are slow",
    "monitors that err",
    "monitors stuck in the kernel",
];

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident: $text:literal, $must:literal;)*) => {
        /// Counts of one run, or of many.
        #[derive(Debug, Clone, Default)]
        pub struct Report {
            /// Hash of everything that happened, in order.
            pub fingerprint: u64,
            /// How often scripts misbehaved, by kind.
            pub script_faults: [u64; 14],
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Report {
            /// Name, count, and whether a zero over many seeds means that the simulator does not do its job.
            fn rows(&self) -> Vec<(&'static str, u64, bool)> {
                let scripts = SCRIPTS.iter().zip(self.script_faults).map(|(name, count)| (*name, count, true));
                [$(($text, self.$name, $must)),*].into_iter().chain(scripts).collect()
            }

            /// Adds the counts of another run.
            pub fn add(&mut self, other: &Report) {
                self.fingerprint = self.fingerprint.rotate_left(1) ^ other.fingerprint;
                for (sum, count) in self.script_faults.iter_mut().zip(other.script_faults) {
                    *sum += count;
                }
                $(self.$name += other.$name;)*
            }
        }
    };
}

counts! {
    /// Events handled by all machines.
    events: "events", true;
    /// Virtual seconds.
    seconds: "virtual seconds", true;
    /// Start scripts that were run.
    starts: "starts", true;
    /// Stop scripts that were run.
    stops: "stops", true;
    /// Commands accepted.
    commands: "commands accepted", true;
    /// Commands refused.
    denied: "commands refused", true;
    /// Hosts fenced automatically.
    automatic_fences: "automatic fences", true;
    /// Calls that change power.
    power_calls: "calls of fence devices that change power", true;
    /// Hosts that lost power while they ran.
    powered_off: "hosts powered off", true;
    /// Calls of devices that misbehave.
    moody_calls: "calls of fence devices that misbehave", true;
    /// Hosts that crashed while a script ran.
    kernel_with_script: "host crashes with running scripts", true;
    /// Hosts that hung while something was active.
    hangs: "host hangs with active resources", true;
    /// Agents that died while a script ran.
    agent_with_script: "agent crashes with running scripts", true;
    /// Agents and hosts that died with unsynced intents.
    agent_unsynced: "agent crashes with unsynced intents", true;
    /// Intents that could not be stored.
    disk_full: "intents that found no space", true;
    /// Scripts that ended unseen, since their agent had died, and left processes.
    lost_ends: "scripts that ended unseen and left processes", false;
    /// Agents stopped by a signal while something was active.
    agent_stops: "agents paused with active resources", true;
    /// Operations past their time.
    timeouts: "operations that timed out", true;
    /// Scripts that acted after they had been killed.
    acted_after_kill: "scripts that acted after SIGKILL", true;
    /// Managers that died while orders or records were open.
    manager_busy: "manager crashes with work", true;
    /// Managers that died with unsynced records.
    manager_unsynced: "manager crashes with unsynced records", true;
    /// Managers stopped by a signal.
    manager_stops: "managers paused", true;
    /// Effects that waited for the journal while the manager was paused.
    paused_with_effects: "managers paused with orders to send", true;
    /// States lost, old or damaged.
    states_lost: "states lost", true;
    /// Old states that came back.
    states_old: "old states that came back", true;
    /// States damaged.
    states_damaged: "states damaged", true;
    /// Second managers with the same state.
    rivals_same: "rivals with a copy of the state", true;
    /// Second managers with another state.
    rivals_other: "rivals with a state of their own", true;
    /// Pieces stuck in a socket behind a path that does not work.
    stuck: "messages stuck in sockets", true;
    /// Paths cut in both directions.
    partitions: "paths cut", true;
    /// Paths cut in one direction.
    one_way: "paths cut in one direction", true;
    /// Connections reset.
    resets: "connections reset", true;
    /// Resources that died.
    deaths: "resources that died", true;
    /// Things done by hand.
    hands: "things done by hand", true;
    /// Configurations changed.
    reloads: "configurations changed", true;
    /// Clocks set.
    clocks: "clocks set", true;
    /// Hosts confirmed to be off.
    confirmed: "hosts confirmed to be off", true;
    /// Watchdogs that fired.
    watchdogs: "watchdogs that fired", true;
    /// Hosts that only a reboot by hand could mend.
    rebooted_by_hand: "hosts rebooted by hand in the end", false;
    /// Groups seen frozen.
    frozen: "groups seen frozen", true;
}

impl Report {
    /// Adds to the fingerprint.
    pub fn mix(&mut self, value: u64) {
        self.fingerprint = (self.fingerprint ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    }

    /// Rows that stayed at zero although many runs should have moved them.
    pub fn faults_without_effect(&self) -> Vec<&'static str> {
        self.rows()
            .into_iter()
            .filter(|(_, count, must)| *must && *count == 0)
            .map(|(name, ..)| name)
            .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count, _) in self.rows() {
            writeln!(f, "{name:<44}{count:>14}")?;
        }
        writeln!(f, "{:<44}{:>#14x}", "fingerprint", self.fingerprint)
    }
}
