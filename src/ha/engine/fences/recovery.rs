//! What an earlier run of the manager had begun.

use super::*;

impl Engine {
    /// Attempts of an earlier run without a known end: they are waited out, then looked at.
    pub(in crate::ha::engine) fn recover_intents(&mut self, now: Now) {
        let mut confirmed = Vec::new();
        let mut open = Vec::new();
        for (host, attempts) in &self.state.fences {
            for attempt in attempts {
                if attempt.action == "confirm" {
                    confirmed.push(host.clone());
                } else if attempt.result.is_none() {
                    open.push((host.clone(), attempt.until));
                }
            }
        }
        for host in confirmed {
            if let Some(entry) = self.hosts.get_mut(&host) {
                entry.off = Some(OffProof { read: now.mono, stands: true, how: "an operator confirmed it" });
            }
        }
        for (host, until) in open {
            let change = PowerChange::new(self.levels(&host), Goal::Status);
            // A clock that was set meanwhile must not make it wait for ever.
            let longest = PowerChange::new(self.levels(&host), Goal::Off).budget() + REPEAT[REPEAT.len() - 1];
            let rest = Duration::from_nanos(u64::try_from(until.saturating_sub(now.wall.0)).unwrap_or(0))
                .min(longest);
            let run = PowerRun {
                kind: PowerKind::WaitOut,
                change,
                id: None,
                waits_for_answer: false,
                pause_until: Some(now.mono + rest),
                repeated: 0,
                command: None,
                why: "an earlier run of the manager began it".to_owned(),
                witnesses: BTreeSet::new(),
            };
            self.timers.set(Timer::Power(host.clone()), now.mono + rest);
            self.power.insert(host, run);
        }
    }

    pub(super) fn settle_intents(&mut self, now: Now, host: &HostId, off: bool, said: &str) {
        let open: Vec<FenceId> = self
            .state
            .fences
            .get(host)
            .into_iter()
            .flatten()
            .filter(|attempt| attempt.result.is_none())
            .map(|attempt| attempt.id)
            .collect();
        for id in open {
            let result = format!("the manager was restarted meanwhile; then its power was {said}");
            self.record(Record::FenceResult { id, host: host.clone(), success: off, result, at: now.wall.0 });
        }
        let text = format!("an attempt of an earlier run ended: its power is {said}");
        self.note(
            now,
            if off { "fence" } else { "fence_failed" },
            host.as_str(),
            None,
            "manager",
            Some(text),
        );
    }
}
