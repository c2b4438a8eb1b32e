//! The right plug? Whoever was alive when a host was powered off must be heard after that, before it is believed.

use super::*;

/// Other hosts, listened to while one is powered off.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    /// Connected when it began.
    up: BTreeSet<HostId>,
    /// When something was switched first.
    switched: Option<Mono>,
    /// Alive when it was switched, and not heard since it was done.
    silent: BTreeSet<HostId>,
    /// When it was done. What arrives right then may have been sent before.
    done: Mono,
}

impl Witnesses {
    /// Something is being switched.
    pub(super) fn switched(&mut self, now: Mono) {
        self.switched.get_or_insert(now);
    }

    /// The manager stood still: what it reads now may be old.
    pub(super) fn paused(&mut self, now: Mono) {
        self.done = self.done.max(now);
    }
}

impl Engine {
    pub(super) fn witnesses(&self, host: &HostId) -> Witnesses {
        let up = self.hosts.iter().filter(|(other, entry)| *other != host && entry.is_up());
        Witnesses { up: up.map(|(other, _)| other.clone()).collect(), ..Witnesses::default() }
    }

    /// Its devices say that it is off now. Whether there is somebody to listen to before that is believed.
    pub(super) fn has_witnesses(&self, now: Now, run: &mut PowerRun) -> bool {
        let Some(switched) = run.witnesses.switched else { return false };
        if matches!(run.course, Course::Listen) {
            return false;
        }
        let alive = switched - self.config.settings.heartbeat_interval * 2;
        let alive = |host: &&HostId| {
            self.hosts.get(*host).is_some_and(|entry| entry.last_sign.is_some_and(|sign| sign >= alive))
        };
        run.witnesses.silent = run.witnesses.up.iter().filter(alive).cloned().collect();
        run.witnesses.done = now.mono;
        !run.witnesses.silent.is_empty()
    }

    /// Waits until every witness was heard; who is not heard in time was hit in its place.
    pub(super) fn listen(&mut self, now: Now, host: &HostId) {
        let patience = self.config.settings.detection_time;
        let Some(run) = self.power.get(host) else { return };
        let end = run.witnesses.done + patience;
        let missing = run.witnesses.silent.first().cloned();
        if missing.is_some() && now.mono < end {
            self.timers.set(Timer::Power(host.clone()), end);
            return;
        }
        let Some(witness) = missing else {
            return self.power_over(now, host, Verdict::Off { acted: true });
        };
        let text = format!("{witness} fell silent while {host} was powered off: is it the right plug?");
        self.distrust(now, host, text.clone());
        self.power_over(now, host, Verdict::Failed(text));
    }

    /// A host was heard: it was not hit by what is done to others.
    pub(in crate::ha::engine) fn witness(&mut self, now: Now, heard: &HostId) {
        let tolerance = self.config.settings.heartbeat_interval / 4;
        let mut complete = Vec::new();
        for (host, run) in &mut self.power {
            if matches!(run.course, Course::Listen)
                && now.mono >= run.witnesses.done + tolerance
                && run.witnesses.silent.remove(heard)
                && run.witnesses.silent.is_empty()
            {
                complete.push(host.clone());
            }
        }
        for host in complete {
            self.listen(now, &host);
        }
    }
}
