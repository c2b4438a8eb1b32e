//! Starting, stopping, disabling and purging the coordinator (`hsm_control`), and restarts of the MDT.

use lustreapi_sys::Fid;
use serde::Serialize;

use super::coordinator::Deferred;
use super::ledger::Ending;
use super::machine::Incoming;
use super::request::first_cookie;
use super::{
    Action, Answer, Call, CallId, ClientId, Cred, Effect, Errno, LogIndex, Mdt, Params, RecordStatus, Time,
};

/// State of the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CdtState {
    /// Does nothing and refuses everything, after `shutdown`.
    Stopped,
    /// Works.
    Enabled,
    /// Takes requests and progress but sends nothing.
    Disabled,
}

impl CdtState {
    /// The name that `hsm_control` shows.
    pub const fn name(self) -> &'static str {
        match self {
            CdtState::Stopped => "stopped",
            CdtState::Enabled => "enabled",
            CdtState::Disabled => "disabled",
        }
    }
}

impl Mdt {
    /// Starts the coordinator (`mdt_hsm_cdt_start`): takes up the restores that the log still asks for, those that were
    /// started included, and goes on from the log's largest cookie.
    pub(super) fn start_coordinator(&mut self, now: Time) {
        self.state = CdtState::Enabled;
        self.thread.restart(now);
        for record in self.log.iter_mut() {
            self.last_cookie = self.last_cookie.max(record.cookie);
            if record.action != Action::Restore || record.status.is_final() {
                continue;
            }
            if record.status == RecordStatus::Started {
                record.status = RecordStatus::Waiting;
                record.changed = now.wall;
                self.ledger.status(record.entry, now, RecordStatus::Waiting, Ending::SILENT);
            }
            self.restores.insert(record.fid);
        }
        if self.last_cookie == 0 {
            self.last_cookie = first_cookie(now);
        }
    }

    /// Loses what is only in memory (`mdt_hsm_cdt_cleanup`).
    fn forget_all(&mut self) {
        self.running.clear();
        self.agents.clear();
        self.restores.clear();
        self.thread.sending = None;
        self.thread.purge_deliveries.clear();
    }

    /// The MDT goes down.
    pub(super) fn stop(&mut self) {
        if !self.up {
            return;
        }
        self.up = false;
        self.state = CdtState::Stopped;
        self.forget_all();
        self.last_cookie = 0;
        for Deferred { id, client, shutdown, .. } in std::mem::take(&mut self.thread.deferred) {
            let value = if shutdown { "shutdown" } else { "purge" }.to_owned();
            let call = Call::ParamSet { mdt: self.config.index, name: "hsm_control".to_owned(), value };
            self.held.push_back(Incoming { id, client, cred: Cred::root(), call });
        }
    }

    /// The MDT is up again, with the parameters that it was made with.
    pub(super) fn start(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.up {
            return;
        }
        self.up = true;
        self.params = self.config.params.clone();
        self.start_coordinator(now);
        self.replay(now, effects);
    }

    /// Writes `hsm_control`. `None`: answered when the list under way has arrived.
    pub(super) fn control(
        &mut self,
        now: Time,
        (id, client): (CallId, ClientId),
        value: &str,
        effects: &mut Vec<Effect>,
    ) -> Option<Result<(), Errno>> {
        // `CDT_MAX_CMD_LEN`, the newline included.
        if value.is_empty() || value.len() >= 10 {
            return Some(Err(Errno::INVAL));
        }
        let starts = |command: &str| value.starts_with(command);
        if starts("enabled") {
            match self.state {
                CdtState::Enabled => {}
                CdtState::Disabled => {
                    self.state = CdtState::Enabled;
                    self.thread.event = true;
                }
                CdtState::Stopped => {
                    let defaults = Params::default();
                    self.params.policy = defaults.policy;
                    self.params.user_request_mask = defaults.user_request_mask;
                    self.params.group_request_mask = defaults.group_request_mask;
                    self.params.other_request_mask = defaults.other_request_mask;
                    self.start_coordinator(now);
                }
            }
            return Some(Ok(()));
        }
        if starts("disabled") {
            if self.state == CdtState::Enabled {
                self.state = CdtState::Disabled;
            }
            return Some(Ok(()));
        }
        let shutdown = starts("shutdown");
        if !shutdown && !starts("purge") {
            return Some(if starts("help") { Ok(()) } else { Err(Errno::INVAL) });
        }
        match (self.state, shutdown) {
            (CdtState::Stopped, true) => return Some(Ok(())),
            (CdtState::Stopped, false) => return Some(Err(Errno::INVAL)),
            _ => {}
        }
        let deferred = Deferred { id, client, shutdown, before: self.state };
        if self.thread.sending.is_some() {
            self.state = CdtState::Disabled;
            self.thread.deferred.push(deferred);
            return None;
        }
        self.carry_out(now, &deferred, effects);
        Some(Ok(()))
    }

    /// The list under way has arrived or failed: what waited for that.
    pub(super) fn deferred_controls(&mut self, now: Time, effects: &mut Vec<Effect>) {
        for deferred in std::mem::take(&mut self.thread.deferred) {
            self.carry_out(now, &deferred, effects);
            let Deferred { id, client, .. } = deferred;
            effects.push(Effect::Reply { id, client, result: Ok(Answer::Done) });
        }
    }

    fn carry_out(&mut self, now: Time, deferred: &Deferred, effects: &mut Vec<Effect>) {
        if deferred.shutdown {
            let locked = self.restores.clone();
            for fid in locked {
                self.end_restore(fid, effects);
            }
            self.forget_all();
            self.state = CdtState::Stopped;
        } else if self.state != CdtState::Stopped {
            self.purge(now, effects);
            self.state = deferred.before;
        }
    }

    /// Cancels everything (`hsm_cancel_all_actions`): CANCELs go out for what is in memory, which stays there until the
    /// copytool ends it; every record that waits or runs becomes CANCELED.
    fn purge(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let running: Vec<(u64, Fid)> = self.running.iter().map(|r| (r.record.cookie, r.record.fid)).collect();
        for (cookie, fid) in running {
            self.send_purge_cancel(cookie, effects);
            if self.running.get(cookie).is_some_and(|running| running.record.action == Action::Restore) {
                self.end_restore(fid, effects);
            }
        }
        let open: Vec<(LogIndex, Fid, Action)> = self
            .log
            .iter()
            .filter(|record| !record.status.is_final())
            .map(|record| (record.index, record.fid, record.action))
            .collect();
        for (index, fid, action) in open {
            if action == Action::Restore {
                self.end_restore(fid, effects);
            }
            let ending = Ending { errno: Some(Errno::CANCELED), by: None, bytes: 0 };
            self.set_status(now, index, RecordStatus::Canceled, ending);
        }
    }
}
