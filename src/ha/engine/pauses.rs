//! The manager was stopped for a while (a paused machine, SIGSTOP, a stuck disk): what it did not hear in that time is no
//! evidence, and what it had been told before is no proof any more.

use std::time::Duration;

use super::machine::Engine;
use crate::time::{Mono, Now};

impl Engine {
    /// To be called before anything else is done with an event. Whether there was a pause.
    pub(super) fn notice_pause(&mut self, now: Now) -> bool {
        let late = now.mono.since(self.timers.next());
        let heartbeat = self.config.settings.heartbeat_interval;
        if self.timers.next() == Mono::MAX || late <= heartbeat * 2 {
            return false;
        }
        let text = format!("this manager stood still for {:.1} s", late.as_secs_f64());
        self.note(now, "paused", "cluster", None, "manager", Some(text));
        self.pause_hosts(now, late, heartbeat);
        for subject in self.subjects.values_mut() {
            if subject.wanted_since.is_some() {
                // Answers that came meanwhile are older than they look.
                subject.wanted_since = Some(now.mono);
            }
            for deadline in subject.on.values_mut().flat_map(|known| known.unfinished.values_mut()) {
                *deadline += late;
            }
        }
        for given in self.orders.values_mut() {
            given.at += late;
        }
        self.power.values_mut().for_each(|run| run.paused(now.mono));
        if let Some(at) = &mut self.cut_off_at {
            *at += late;
        }
        self.begun += late;
        true
    }

    fn pause_hosts(&mut self, now: Now, late: Duration, heartbeat: Duration) {
        let half = self.config.settings.detection_time / 2;
        for host in self.hosts.values_mut() {
            for time in [&mut host.refused_since, &mut host.lost_at, &mut host.booting].into_iter().flatten()
            {
                *time += late;
            }
            // Heartbeats may be waiting to be read.
            if let Some(sign) = &mut host.last_sign {
                *sign = (*sign).max(now.mono - half);
            }
            if let Some(silence) = &mut host.silence {
                silence.tolerate_until = now.mono + heartbeat;
                silence.until = now.mono + heartbeat * 3;
            }
        }
    }
}
