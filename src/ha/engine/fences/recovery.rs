//! What an earlier run of the manager had begun.

use super::*;

impl Engine {
    /// Attempts of an earlier run without a known end: they are waited out, then looked at. What an operator had confirmed
    /// holds on, and so does distrust.
    pub(in crate::ha::engine) fn recover_intents(&mut self, now: Now) {
        let mut open: std::collections::BTreeMap<HostId, i64> = std::collections::BTreeMap::new();
        for (host, attempts) in &self.state.fences {
            for attempt in attempts {
                if attempt.action == "confirm" {
                    if let Some(entry) = self.hosts.get_mut(host) {
                        entry.off =
                            Some(OffProof { read: now.mono, stands: true, how: "an operator confirmed it" });
                    }
                } else if attempt.result.is_none() {
                    let until = open.entry(host.clone()).or_insert(attempt.until);
                    *until = attempt.until.max(*until);
                }
            }
        }
        for (host, why) in &self.state.distrusted {
            if let Some(entry) = self.hosts.get_mut(host) {
                entry.distrust = Some(why.clone());
            }
        }
        for (host, until) in open {
            // A clock that was set meanwhile must not make it wait for ever.
            let longest = PowerChange::new(self.levels(&host), Goal::Off).budget() + REPEAT[REPEAT.len() - 1];
            let rest = Duration::from_nanos(u64::try_from(until.saturating_sub(now.wall.0)).unwrap_or(0))
                .min(longest);
            self.next_power += 1;
            let run = PowerRun {
                kind: PowerKind::WaitOut,
                number: self.next_power,
                course: self.change(&host, Goal::Status),
                id: None,
                waits_for_answer: false,
                pause_until: Some(now.mono + rest),
                repeated: 0,
                failed: String::new(),
                command: None,
                why: "an earlier run of the manager began it".to_owned(),
                witnesses: witnesses::Witnesses::default(),
            };
            self.timers.set(Timer::Power(host.clone()), now.mono + rest);
            self.power.insert(host, run);
        }
        self.recover_power_on();
    }

    /// No call of an earlier run can be alive any more, and its devices were asked.
    pub(super) fn waited_out(&mut self, now: Now, host: &HostId, verdict: &Verdict, said: &str) {
        let off = matches!(verdict, Verdict::Off { .. });
        let on = *verdict == Verdict::On;
        let open: Vec<(FenceId, String)> = self
            .state
            .fences
            .get(host)
            .into_iter()
            .flatten()
            .filter(|attempt| attempt.result.is_none())
            .map(|attempt| (attempt.id, attempt.action.clone()))
            .collect();
        let result = format!("the manager was restarted meanwhile; then its power was {said}");
        for (id, action) in open {
            let success = if action == "off" { off } else { on };
            let (host, result) = (host.clone(), result.clone());
            if action == "off"
                && !off
                && let Some(entry) = self.hosts.get_mut(&host).filter(|entry| !entry.is_up())
            {
                // It was lost for that run, and nothing says that it is not. That attempt has not been made use of.
                entry.resumed = true;
            }
            self.record(Record::FenceResult { id, host, success, result, at: now.wall.0 });
        }
        let text = format!("an attempt of an earlier run ended: its power is {said}");
        let event = if off { "fence" } else { "fence_failed" };
        self.note(now, event, host.as_str(), None, "manager", Some(text));
        if off {
            self.take_off_proof(now, host, "its fence device says so", None);
        }
    }
}
