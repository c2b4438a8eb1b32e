//! One pass of the coordinator over its log, and the sending of what it found (mdt_coordinator.c, mdt_hsm_cdt_agent.c).

use std::collections::VecDeque;
use std::sync::Arc;

use lustreapi_sys::abi::{HMT_ACTION_LIST, HS_EXISTS, HSMA_CANCEL, KUC_TRANSPORT_HSM, LUSTRE_MAXFSNAME};
use lustreapi_sys::hal::{Item, ItemLength, LIST_HEADER, ListBuilder};
use lustreapi_sys::kuc;

use super::ledger::Ending;
use super::running::Coverage;
use super::{
    Action, CdtState, ClientId, DeliveryId, Effect, Errno, LogIndex, Mdt, Outcome, Record, RecordStatus,
    Running, Time,
};

/// The largest list (`LDLM_MAXREQSIZE`), bytes without the KUC header. One item may exceed it.
const MAX_LIST: usize = 5 * 1024;

/// Requests of one archive that are sent together.
#[derive(Debug, Clone)]
struct List {
    archive_id: u32,
    /// Copies of the records; FAILED and SUCCEED are noted here before the log is written.
    records: Vec<Record>,
    used: usize,
}

/// A list that is on its way, and what the pass will send after it.
#[derive(Debug, Clone)]
pub(super) struct Sending {
    number: u64,
    client: ClientId,
    frame: Arc<[u8]>,
    list: List,
    rest: VecDeque<List>,
    started_at: LogIndex,
}

impl Sending {
    /// To whom.
    pub fn client(&self) -> ClientId {
        self.client
    }
}

fn item_size(record: &Record) -> usize {
    ListBuilder::item_size(record.data.len(), ItemLength::Exact)
}

/// What the scan of a record decides about the rest of the scan.
enum Scan {
    GoOn,
    Stop,
}

/// The lists of one pass while it scans.
struct Scanned {
    housekeeping: bool,
    lists: Vec<List>,
    actions: usize,
    one_restore: bool,
}

impl Mdt {
    /// Scans the log and begins to send.
    pub(super) fn pass(&mut self, now: Time, housekeeping: bool, effects: &mut Vec<Effect>) {
        let start = if housekeeping { LogIndex::default() } else { self.thread.scanned };
        let mut scanned = Scanned { housekeeping, lists: Vec::new(), actions: 0, one_restore: false };
        let mut at = start;
        while let Some(record) = self.log.after(at) {
            at = record.index;
            match record.status {
                RecordStatus::Waiting => {
                    if matches!(self.scan_waiting(at, &mut scanned), Scan::Stop) {
                        break;
                    }
                }
                RecordStatus::Started if housekeeping => self.scan_started(now, at, effects),
                status if housekeeping && status.is_final() => {
                    let grace = i64::from(self.params.grace_delay);
                    if record.changed.saturating_add(grace) < now.wall {
                        let entry = record.entry;
                        self.log.remove(at);
                        self.ledger.purged(entry, now);
                    }
                }
                _ => {}
            }
        }
        if self.agents.list().is_empty() {
            self.thread.scanned = start;
            self.pass_ended(now);
            return;
        }
        self.send_lists(now, scanned.lists.into(), start, effects);
    }

    /// Takes a waiting record into a list if there is room (`mdt_cdt_waiting_cb`).
    fn scan_waiting(&mut self, at: LogIndex, scanned: &mut Scanned) -> Scan {
        let skip = if scanned.housekeeping { Scan::GoOn } else { Scan::Stop };
        let max = usize::try_from(self.params.max_requests).unwrap_or(usize::MAX);
        let running = self.running.len();
        let Some(record) = self.log.get(at) else { return Scan::GoOn };
        if running >= max {
            return skip;
        }
        let full = scanned.actions + running >= max;
        // One restore of a pass may take the place of others (LU-8324).
        if full && (record.action != Action::Restore || scanned.one_restore) {
            return skip;
        }
        let size = item_size(record);
        let archive_id = record.archive_id;
        let lists = &mut scanned.lists;
        let mut chosen = lists.iter().position(|l| l.archive_id == archive_id && l.used + size <= MAX_LIST);
        if full {
            chosen = chosen.or_else(|| lists.iter().rposition(|list| list.archive_id == archive_id));
            if let Some(list) = chosen.and_then(|index| lists.get_mut(index)) {
                while let Some(displaced) = list.records.pop() {
                    list.used -= item_size(&displaced);
                    scanned.actions -= 1;
                    if list.used + size <= MAX_LIST {
                        break;
                    }
                }
            } else if scanned.housekeeping {
                scanned.actions -= lists.pop().map_or(0, |list| list.records.len());
            } else {
                return Scan::Stop;
            }
        }
        let index = chosen.unwrap_or_else(|| {
            lists.push(List { archive_id, records: Vec::new(), used: self.empty_list_size() });
            lists.len() - 1
        });
        let record = record.clone();
        scanned.one_restore |= record.action == Action::Restore;
        lists[index].records.push(record);
        lists[index].used += size;
        scanned.actions += 1;
        self.thread.scanned = self.thread.scanned.max(at);
        Scan::GoOn
    }

    /// Bytes of a list without items.
    fn empty_list_size(&self) -> usize {
        LIST_HEADER + (self.config.fsname.len().min(LUSTRE_MAXFSNAME) + 1).next_multiple_of(8)
    }

    /// Cancels a started record that has shown no progress for too long (`mdt_cdt_started_cb`).
    fn scan_started(&mut self, now: Time, at: LogIndex, effects: &mut Vec<Effect>) {
        let timeout = i64::from(self.params.active_request_timeout);
        let Some(record) = self.log.get(at) else { return };
        let (action, fid, cookie) = (record.action, record.fid, record.cookie);
        // A cancel has its victim's cookie, and lives as long as that shows progress.
        let last = self.running.get(cookie).map_or(record.changed, |running| running.record.changed);
        if now.wall <= last.saturating_add(timeout) {
            return;
        }
        let mut bytes = 0;
        if let Some(running) = self.forget_running(cookie) {
            bytes = running.progress.total();
            if let Some(agent) = self.agents.get_mut(running.client) {
                agent.errors += 1;
                agent.current -= 1;
            }
        }
        self.set_status(
            now,
            at,
            RecordStatus::Canceled,
            Ending { errno: Some(Errno::CANCELED), by: None, bytes },
        );
        if action == Action::Restore {
            self.end_restore(fid, effects);
        }
        self.thread.event = true;
    }

    /// Sends lists until one is under way or none is left.
    fn send_lists(
        &mut self,
        now: Time,
        mut lists: VecDeque<List>,
        started_at: LogIndex,
        effects: &mut Vec<Effect>,
    ) {
        while let Some(list) = lists.pop_front() {
            let max = usize::try_from(self.params.max_requests).unwrap_or(usize::MAX);
            if self.running.len() >= max || self.state != CdtState::Enabled {
                break;
            }
            match self.prepare(now, list, effects) {
                Prepared::Ended(Ok(())) => {}
                Prepared::Ended(Err(_)) => self.thread.scanned = started_at,
                Prepared::Send { client, frame, list } => {
                    self.thread.deliveries += 1;
                    let number = self.thread.deliveries;
                    let delivery = DeliveryId { mdt: self.config.index, number };
                    effects.push(Effect::Deliver { delivery, client, frame: Arc::clone(&frame) });
                    self.thread.sending =
                        Some(Sending { number, client, frame, list, rest: lists, started_at });
                    return;
                }
            }
        }
        self.pass_ended(now);
    }

    /// Checks a list, chooses the agent, registers the requests and builds the message (`mdt_hsm_agent_send`).
    fn prepare(&mut self, now: Time, mut list: List, effects: &mut Vec<Effect>) -> Prepared {
        let Some(agent) = self.agents.best(list.archive_id) else {
            let result = self.broadcast_removes(now, &mut list);
            self.finish(now, list, result);
            return Prepared::Ended(result);
        };
        for record in &mut list.records {
            if record.action == Action::Cancel {
                continue;
            }
            let possible = match self.files.get(&record.fid) {
                Some(file) => file.allows(record.action, list.archive_id),
                None => record.action == Action::Remove,
            };
            if !possible {
                record.status = RecordStatus::Failed;
                if record.action == Action::Restore && self.files.contains_key(&record.fid) {
                    self.end_restore(record.fid, effects);
                }
            }
        }
        if list.records.iter().all(|record| record.status == RecordStatus::Failed) {
            self.finish(now, list, Ok(()));
            return Prepared::Ended(Ok(()));
        }
        let flags =
            if self.config.behaviour.list_flags_of_last { list.records.last() } else { list.records.first() };
        let flags = flags.map_or(0, |record| record.flags);
        let Some(frame) = self.frame(list.archive_id, flags, &list.records, None) else {
            self.finish(now, list, Err(Errno::INVAL));
            return Prepared::Ended(Err(Errno::INVAL));
        };
        let client = match self.register_list(now, &list, agent) {
            Ok(client) => client,
            Err(errno) => {
                self.finish(now, list, Err(errno));
                return Prepared::Ended(Err(errno));
            }
        };
        if !self.clients.contains_key(&client) {
            self.agents.remove(client);
            self.finish(now, list, Err(Errno::NOENT));
            return Prepared::Ended(Err(Errno::NOENT));
        }
        for record in list.records.iter().filter(|record| record.status != RecordStatus::Failed) {
            self.ledger.sent(record.entry, now, client);
        }
        Prepared::Send { client, frame, list }
    }

    /// No agent serves all archives, but removes whose archive is unknown may go to each archive that is served
    /// (`mdt_hsm_send_action_to_each_archive`).
    fn broadcast_removes(&mut self, now: Time, list: &mut List) -> Result<(), Errno> {
        if list.archive_id != 0 {
            return Err(Errno::AGAIN);
        }
        let mut archives: Vec<u32> = Vec::new();
        for id in self.agents.list().iter().flat_map(|agent| &agent.archives) {
            if !archives.contains(id) {
                archives.push(*id);
            }
        }
        let mut only_removes = true;
        for record in &mut list.records {
            if record.action != Action::Remove {
                only_removes = false;
                continue;
            }
            if archives.is_empty() {
                return Err(Errno::AGAIN);
            }
            for archive_id in &archives {
                self.record_add(now, Record { archive_id: *archive_id, flags: 0, ..record.clone() });
            }
            record.status = RecordStatus::Succeed;
        }
        if only_removes { Ok(()) } else { Err(Errno::AGAIN) }
    }

    /// The message, with the records that are not FAILED, or with one as a cancel.
    fn frame(
        &self,
        archive_id: u32,
        flags: u64,
        records: &[Record],
        as_action: Option<u32>,
    ) -> Option<Arc<[u8]>> {
        let name = self.config.fsname.as_bytes();
        let name = name.get(..LUSTRE_MAXFSNAME).unwrap_or(name);
        let mut list = ListBuilder::new(name, archive_id, flags, ItemLength::Exact);
        for record in records.iter().filter(|record| record.status != RecordStatus::Failed) {
            list.push(&Item {
                action: as_action.unwrap_or_else(|| record.action.hsma()),
                fid: record.fid,
                dfid: record.dfid,
                extent_offset: record.extent.offset,
                extent_length: record.extent.length,
                cookie: record.cookie,
                gid: 0,
                data: &record.data,
            });
        }
        kuc::frame(KUC_TRANSPORT_HSM, HMT_ACTION_LIST, &list.finish()).map(Arc::from)
    }

    /// Puts the requests of a list into memory, and their victims' state right (`mdt_hsm_add_hsr`). Returns to whom the
    /// list goes: to the victim's agent if there is a cancel in it.
    fn register_list(&mut self, now: Time, list: &List, agent: ClientId) -> Result<ClientId, Errno> {
        let mut client = agent;
        for record in list.records.iter().filter(|record| record.status != RecordStatus::Failed) {
            if record.action == Action::Cancel {
                let Some(victim) = self.running.get_mut(record.cookie) else {
                    if self.config.behaviour.cancel_marks_waiting {
                        self.cancel_on_disk(now, record.cookie);
                    }
                    continue;
                };
                if victim.cancel.is_some() {
                    continue;
                }
                victim.cancel = Some(record.clone());
                victim.record.status = RecordStatus::Canceled;
                client = victim.client;
                let bytes = victim.progress.total();
                let written = victim.record.clone();
                self.write_record(now, &written, Ending { errno: Some(Errno::CANCELED), by: None, bytes });
                continue;
            }
            match self.files.get_mut(&record.fid) {
                Some(file) if record.action == Action::Archive => {
                    file.hsm.flags |= HS_EXISTS;
                    file.hsm.archive_id = list.archive_id;
                }
                _ => {}
            }
            let uuid = self.clients.get(&client).cloned().unwrap_or_default();
            let running =
                Running { record: record.clone(), client, uuid, cancel: None, progress: Coverage::default() };
            if !self.running.add(running) {
                return Err(Errno::EXIST);
            }
            if let Some(agent) = self.agents.get_mut(client) {
                agent.current += 1;
            }
        }
        Ok(client)
    }

    /// Up to 2.16 a victim that is not in memory is marked in the log.
    fn cancel_on_disk(&mut self, now: Time, cookie: u64) {
        let victim = |record: &&Record| {
            record.cookie == cookie && record.action != Action::Cancel && !record.status.is_final()
        };
        let found = self.log.iter().find(victim).map(|record| record.index);
        if let Some(index) = found {
            let ending = Ending { errno: Some(Errno::CANCELED), by: None, bytes: 0 };
            self.set_status(now, index, RecordStatus::Canceled, ending);
        }
    }

    /// Writes the records of a list that was sent, or could not be.
    fn finish(&mut self, now: Time, list: List, result: Result<(), Errno>) {
        for record in &list.records {
            if result.is_err() && record.action != Action::Cancel {
                self.forget_running(record.cookie);
            }
            let Some(logged) = self.log.get(record.index) else { continue };
            // Whoever was quicker than the agent's answer has written the record already.
            let untouched = logged.status == RecordStatus::Waiting;
            let status = match record.status {
                RecordStatus::Waiting if result.is_ok() => RecordStatus::Started,
                status => status,
            };
            if !untouched {
                continue;
            }
            let errno = match status {
                RecordStatus::Failed => Some(Errno::PERM),
                _ => None,
            };
            self.set_status(now, record.index, status, Ending { errno, by: None, bytes: 0 });
            if let Some(running) = self.running.get_mut(record.cookie) {
                let copy = match &mut running.cancel {
                    Some(cancel) if cancel.index == record.index => cancel,
                    _ => &mut running.record,
                };
                if copy.index == record.index && copy.status == RecordStatus::Waiting {
                    copy.status = status;
                    copy.changed = copy.changed.max(now.wall);
                }
            }
        }
    }

    /// The client has answered, or not.
    pub(super) fn delivered(
        &mut self,
        now: Time,
        delivery: DeliveryId,
        outcome: Outcome,
        effects: &mut Vec<Effect>,
    ) {
        let purges = &mut self.thread.purge_deliveries;
        if let Some(at) = purges.iter().position(|(number, _)| *number == delivery.number) {
            let (_, client) = purges.swap_remove(at);
            if outcome == Outcome::Failed(Errno::PIPE) {
                self.agents.remove(client);
            }
            return;
        }
        let Some(sending) = self.thread.sending.take_if(|sending| sending.number == delivery.number) else {
            return;
        };
        let result = match outcome {
            Outcome::AnswerLost => {
                let (client, frame) = (sending.client, Arc::clone(&sending.frame));
                for record in &sending.list.records {
                    if record.status != RecordStatus::Failed {
                        self.ledger.sent(record.entry, now, client);
                    }
                }
                effects.push(Effect::Deliver { delivery, client, frame });
                self.thread.sending = Some(sending);
                return;
            }
            Outcome::Accepted => Ok(()),
            Outcome::Failed(errno) => Err(errno),
        };
        self.sent(now, sending, result, effects);
    }

    fn sent(&mut self, now: Time, sending: Sending, result: Result<(), Errno>, effects: &mut Vec<Effect>) {
        if result == Err(Errno::PIPE) {
            self.agents.remove(sending.client);
        }
        if result.is_err() {
            self.thread.scanned = sending.started_at;
        }
        self.finish(now, sending.list, result);
        self.deferred_controls(now, effects);
        self.send_lists(now, sending.rest, sending.started_at, effects);
    }

    /// The client of the list under way is gone.
    pub(super) fn agent_lost(&mut self, now: Time, client: ClientId, effects: &mut Vec<Effect>) {
        if let Some(sending) = self.thread.sending.take_if(|sending| sending.client() == client) {
            self.sent(now, sending, Err(Errno::NOTCONN), effects);
        }
    }

    /// Sends a CANCEL for a request in memory, which nobody waits for (`hsm_cancel_all_actions`).
    pub(super) fn send_purge_cancel(&mut self, cookie: u64, effects: &mut Vec<Effect>) {
        let Some(running) = self.running.get(cookie) else { return };
        let record = &running.record;
        let entry = record.entry;
        let Some(client) = self.agents.best(record.archive_id) else { return };
        let records = std::slice::from_ref(record);
        let Some(frame) = self.frame(record.archive_id, record.flags, records, Some(HSMA_CANCEL)) else {
            return;
        };
        if !self.clients.contains_key(&client) {
            self.agents.remove(client);
            return;
        }
        self.ledger.purge_sent(entry);
        self.thread.deliveries += 1;
        let number = self.thread.deliveries;
        self.thread.purge_deliveries.push((number, client));
        effects.push(Effect::Deliver {
            delivery: DeliveryId { mdt: self.config.index, number },
            client,
            frame,
        });
    }

    /// Takes a request out of memory; the last one wakes the coordinator (`mdt_cdt_remove_request`).
    pub(super) fn forget_running(&mut self, cookie: u64) -> Option<Running> {
        let running = self.running.remove(cookie)?;
        if self.running.len() == 0 {
            self.thread.wake = true;
        }
        Some(running)
    }
}

/// What became of a list before it was sent.
enum Prepared {
    /// It needs no sending, or cannot be sent.
    Ended(Result<(), Errno>),
    /// To be sent.
    Send { client: ClientId, frame: Arc<[u8]>, list: List },
}
