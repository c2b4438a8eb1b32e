//! The answer to `status`, written in slices while everything goes on changing.
//!
//! A request is shown at most once, and one that stays where it is is shown: an answer leaves out what entered its present
//! list after the answer began.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use lustreapi_sys::Fid;

use super::action::ActionItem;
use super::effect::{Effect, Effects};
use super::event::{ConnId, Lock};
use super::index::NIL;
use super::queues::{Parked, Place};
use super::requests::{BOOKMARKED, Handle, KINDS, Kind, State};
use super::time::Now;
use super::{Coordinator, StatusCursor};

/// From this level on every request is shown (C 0.4: `LLAPI_MSG_DEBUG`).
const EVERY_REQUEST: i64 = 6;

/// The most requests looked at in one slice, shown or not.
const LOOK: usize = 8192;

/// What is still to be written.
#[derive(Debug)]
enum Step {
    Text(&'static str),
    Header,
    /// A client: mover and serial.
    Client(u32, u64),
    /// The batch slots and what follows them.
    ClientEnd(u32, u64),
    Slot(u32, u64, usize),
    Cancels(u32, u64),
    Array(&'static str),
    EndArray,
    /// The requests of a list, from this one on.
    List(Handle),
    Class(u32),
    /// The classes of a place after this one.
    Classes(Place, Kind, Option<u32>),
    ParkedAt(Place, Kind, Option<(u64, u64, Handle)>),
    ParkedOf(u32, Option<(u64, u64, Handle)>),
    /// What is queued for a tag.
    Tag(u32),
    /// Tags of a place without a slot, after this one.
    Tags(Place, Option<(u64, u32)>),
    /// What waits for its file, after this one.
    Held(Kind, Option<(Fid, u32, i64, Handle)>),
    Settling(Kind, Option<Handle>),
    Vetting(Kind, Option<Handle>),
    Bound(Kind),
}

/// An answer in the making.
#[derive(Debug)]
struct Run {
    verbose: bool,
    /// What came into its list later is not shown.
    up_to: u64,
    steps: VecDeque<Step>,
    /// Whether the next entry of the present array is its first.
    first: bool,
    /// The request at which the list on top goes on, if the answer rests inside a list.
    bookmark: Handle,
    resting: bool,
}

/// All answers in the making.
#[derive(Debug, Default)]
pub(super) struct StatusRuns {
    runs: BTreeMap<u64, Run>,
    next: u64,
}

impl StatusRuns {
    /// A request leaves its list. Returns whether a cursor went on to `next`.
    pub(super) fn move_bookmarks(&mut self, handle: Handle, next: Handle) -> bool {
        let mut moved = false;
        for run in self.runs.values_mut().filter(|run| run.bookmark == handle) {
            run.bookmark = next;
            moved = true;
        }
        moved
    }
}

impl Coordinator {
    pub(super) fn start_status(&mut self, conn: ConnId, verbose: i64, effects: &mut Effects) {
        self.status.next += 1;
        let number = self.status.next;
        let run = Run {
            verbose: verbose >= EVERY_REQUEST,
            up_to: self.sequence(),
            steps: VecDeque::from([Step::Header]),
            first: true,
            bookmark: NIL,
            resting: false,
        };
        self.status.runs.insert(number, run);
        effects.visible.push(Effect::Status { conn, cursor: StatusCursor(number) });
    }

    /// Forgets a running answer whose reader is gone.
    pub fn status_drop(&mut self, cursor: StatusCursor) {
        self.status.runs.remove(&cursor.0);
    }

    /// Appends the next part of a running answer to `status`, about `limit` bytes of it. Returns whether the answer is
    /// complete; the cursor is gone then.
    pub fn status_chunk(&mut self, now: Now, cursor: StatusCursor, limit: usize, out: &mut Vec<u8>) -> bool {
        let Some(mut run) = self.status.runs.remove(&cursor.0) else {
            return true;
        };
        let end = out.len().saturating_add(limit.max(1));
        let mut look = LOOK;
        while let Some(step) = run.steps.pop_front() {
            self.status_step(now, &mut run, step, end, &mut look, out);
            if out.len() >= end || look == 0 {
                break;
            }
        }
        if run.steps.is_empty() {
            return true;
        }
        if let Some(&Step::List(at)) = run.steps.front() {
            run.bookmark = at;
            run.resting = true;
            self.requests.at_mut(at).set(BOOKMARKED, true);
        }
        self.status.runs.insert(cursor.0, run);
        false
    }

    fn status_step(
        &self,
        now: Now,
        run: &mut Run,
        step: Step,
        end: usize,
        look: &mut usize,
        out: &mut Vec<u8>,
    ) {
        // Whatever comes next comes before the rest.
        let mut then: Vec<Step> = Vec::new();
        match step {
            Step::Text(text) => out.extend_from_slice(text.as_bytes()),
            Step::Header => self.status_header(run, &mut then, out),
            Step::Client(mover, serial) => self.status_client(run, mover, serial, &mut then, out),
            Step::ClientEnd(mover, serial) => self.status_client_end(mover, serial, out),
            Step::Slot(mover, serial, slot) => {
                self.status_slot(now, run, (mover, serial, slot), &mut then, out)
            }
            Step::Cancels(mover, serial) => {
                if self.movers.at(mover).serial == serial {
                    for handle in &self.movers.at(mover).cancels {
                        if let Some(cancel) = self.cancels.get(handle) {
                            write_entry(run, &cancel.item, out);
                        }
                    }
                }
            }
            Step::Array(key) => {
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(b": [");
                run.first = true;
            }
            Step::EndArray => {
                out.push(b']');
                run.first = false;
            }
            Step::List(at) => {
                // While the answer rested the request may have left; the bookmark knows.
                let mut at = if run.resting { run.bookmark } else { at };
                run.resting = false;
                run.bookmark = NIL;
                while at != NIL {
                    if out.len() >= end || *look == 0 {
                        then.push(Step::List(at));
                        break;
                    }
                    *look -= 1;
                    self.status_entry(run, at, out);
                    at = self.requests.at(at).next;
                }
            }
            Step::Class(class) => {
                if self.classes.in_use(class) && !self.classes.at(class).list.is_empty() {
                    then.push(Step::List(self.classes.at(class).list.head));
                }
            }
            Step::Classes(place, kind, after) => {
                let from = after.map_or(Bound::Included((place, kind as u8, 0)), |after| {
                    Bound::Excluded((place, kind as u8, after))
                });
                let to = Bound::Included((place, kind as u8, u32::MAX));
                if let Some(&(_, _, class)) = self.shown.range((from, to)).next() {
                    *look -= 1;
                    then.push(Step::Class(class));
                    then.push(Step::Classes(place, kind, Some(class)));
                }
            }
            Step::ParkedAt(place, kind, after) => {
                let pool = match place {
                    Place::Any => &self.global,
                    Place::Host(host) => &self.hosts.at(host).pool,
                    Place::Set(set) => &self.hosts.sets[set as usize].pool,
                };
                if let Some(after) =
                    self.status_parked(run, &pool.all.parked[kind.at()], after, end, look, out)
                {
                    then.push(Step::ParkedAt(place, kind, Some(after)));
                }
            }
            Step::ParkedOf(tag, after) => {
                let parked = &self.tags.at(tag).shelf.parked[Kind::Archive.at()];
                if let Some(after) = self.status_parked(run, parked, after, end, look, out) {
                    then.push(Step::ParkedOf(tag, Some(after)));
                }
            }
            Step::Tag(tag) => {
                if self.tags.at(tag).moved <= run.up_to {
                    then.extend(self.tags.at(tag).classes.iter().map(|&class| Step::Class(class)));
                    then.push(Step::ParkedOf(tag, None));
                }
            }
            Step::Tags(place, after) => {
                let pool = match place {
                    Place::Any => &self.global,
                    Place::Host(host) => &self.hosts.at(host).pool,
                    Place::Set(set) => &self.hosts.sets[set as usize].pool,
                };
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                if let Some(&(since, tag)) = pool.all.tags.range((from, Bound::Unbounded)).next() {
                    *look -= 1;
                    if self.tags.at(tag).slots.is_empty() {
                        then.push(Step::Tag(tag));
                    }
                    then.push(Step::Tags(place, Some((since, tag))));
                }
            }
            Step::Held(kind, after) => {
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                for &entry in self.held.range((from, Bound::Unbounded)) {
                    *look -= 1;
                    if self.requests.at(entry.3).kind == kind {
                        self.status_entry(run, entry.3, out);
                    }
                    if out.len() >= end || *look == 0 {
                        then.push(Step::Held(kind, Some(entry)));
                        break;
                    }
                }
            }
            // Few and short-lived: shown in one go.
            Step::Bound(kind) => {
                for handle in self.bound.handles().filter(|&handle| self.requests.at(handle).kind == kind) {
                    self.status_entry(run, handle, out);
                }
            }
            Step::Vetting(kind, after) => {
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                for &handle in self.vetting.aside.range((from, Bound::Unbounded)) {
                    *look -= 1;
                    if self.requests.at(handle).kind == kind {
                        self.status_entry(run, handle, out);
                    }
                    if out.len() >= end || *look == 0 {
                        then.push(Step::Vetting(kind, Some(handle)));
                        break;
                    }
                }
            }
            Step::Settling(kind, at) => {
                let mut at = at.unwrap_or(self.settling.head);
                // Short-lived: shown in one go.
                while at != NIL {
                    if self.requests.at(at).kind == kind {
                        self.status_entry(run, at, out);
                    }
                    at = self.requests.at(at).next;
                }
            }
        }
        for step in then.into_iter().rev() {
            run.steps.push_front(step);
        }
    }

    fn status_parked(
        &self,
        run: &mut Run,
        parked: &Parked,
        after: Option<(u64, u64, Handle)>,
        end: usize,
        look: &mut usize,
        out: &mut Vec<u8>,
    ) -> Option<(u64, u64, Handle)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for &entry in parked.by_time.range((from, Bound::Unbounded)) {
            *look -= 1;
            self.status_entry(run, entry.2, out);
            if out.len() >= end || *look == 0 {
                return Some(entry);
            }
        }
        None
    }

    fn status_header(&self, run: &Run, then: &mut Vec<Step>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"command\": \"status\"");
        let order = [Kind::Restore, Kind::Archive, Kind::Remove];
        let mut count = |name: &str, value: u64| {
            if value > 0 {
                out.extend_from_slice(format!(", \"{name}\": {value}").as_bytes());
            }
        };
        let names = ["restore", "archive", "remove"];
        for (kind, name) in order.iter().zip(names) {
            count(&format!("running_{name}"), self.counts.running[kind.at()]);
        }
        for (kind, name) in order.iter().zip(names) {
            count(&format!("pending_{name}"), self.counts.pending[kind.at()]);
        }
        count("pending_cancel", self.counts.pending_cancel);
        for (kind, name) in order.iter().zip(names) {
            count(&format!("done_{name}"), self.counts.done[kind.at()]);
        }
        count("done_cancel", self.counts.done_cancel);
        count("clients_connected", self.conns.len() as u64);
        let locked = match self.lock {
            Lock::Unlocked => 0,
            Lock::Locked => 1,
            Lock::LockedQuit => 2,
        };
        count("locked", locked);
        // Not known to C, and only until the store was read.
        if let Some(requests) = self.read_so_far() {
            out.extend_from_slice(format!(", \"recovering\": {requests}").as_bytes());
        }
        then.push(Step::Array(", \"clients\""));
        let connected = self.movers.connected.values().rev();
        let clients = connected.chain(self.movers.disconnected.values().rev());
        then.extend(clients.map(|&mover| Step::Client(mover, self.movers.at(mover).serial)));
        then.push(Step::EndArray);
        if run.verbose {
            for (kind, key) in waiting_keys() {
                then.push(Step::Array(key));
                self.status_place(Place::Any, kind, then);
                for (set, entry) in self.hosts.sets.iter().enumerate() {
                    if entry.shown_at == NIL && entry.moved <= run.up_to {
                        self.status_place(Place::Set(set as u32), kind, then);
                    }
                }
                then.push(Step::Held(kind, None));
                then.push(Step::Settling(kind, None));
                then.push(Step::Vetting(kind, None));
                then.push(Step::Bound(kind));
                then.push(Step::EndArray);
            }
        }
        then.push(Step::Text("}"));
    }

    /// Everything that waits at a place without a slot.
    fn status_place(&self, place: Place, kind: Kind, then: &mut Vec<Step>) {
        then.push(Step::Classes(place, kind, None));
        then.push(Step::ParkedAt(place, kind, None));
        if kind == Kind::Archive {
            then.push(Step::Tags(place, None));
        }
    }

    fn status_client(&self, run: &mut Run, mover: u32, serial: u64, then: &mut Vec<Step>, out: &mut Vec<u8>) {
        let entry = self.movers.at(mover);
        if entry.serial != serial {
            return;
        }
        out.extend_from_slice(if run.first { b"{\"client_id\": " } else { b", {\"client_id\": " });
        run.first = false;
        write_string(entry.id.as_bytes(), out);
        let order = [Kind::Restore, Kind::Archive, Kind::Remove];
        let names = ["restore", "archive", "remove"];
        let mut count = |name: String, value: u64| {
            if value > 0 {
                out.extend_from_slice(format!(", \"{name}\": {value}").as_bytes());
            }
        };
        for (kind, name) in order.iter().zip(names) {
            count(format!("current_{name}"), u64::from(entry.running[kind.at()]));
        }
        for (kind, name) in order.iter().zip(names) {
            count(format!("done_{name}"), entry.done[kind.at()]);
        }
        let status = match (entry.conn, entry.waiting) {
            (None, _) => "disconnected",
            (Some(_), Some(_)) => "waiting",
            (Some(_), None) if entry.said_ehlo && (entry.host != NIL || !self.is_claiming_mover(mover)) => {
                "ready"
            }
            (Some(_), None) => "init",
        };
        out.extend_from_slice(b", \"status\": ");
        write_string(status.as_bytes(), out);
        if run.verbose {
            then.push(Step::Array(", \"active_requests\""));
            if entry.active.head != NIL {
                then.push(Step::List(entry.active.head));
            }
            then.push(Step::EndArray);
            for (kind, key) in waiting_keys() {
                then.push(Step::Array(key));
                if entry.host != NIL {
                    self.status_place(Place::Host(entry.host), kind, then);
                    for &set in &self.hosts.at(entry.host).sets {
                        let of = &self.hosts.sets[set as usize];
                        if of.shown_at == entry.host && of.moved <= run.up_to {
                            self.status_place(Place::Set(set), kind, then);
                        }
                    }
                }
                then.push(Step::EndArray);
            }
            then.push(Step::Array(", \"cancels\""));
            then.push(Step::Cancels(mover, serial));
            then.push(Step::EndArray);
        }
        then.push(Step::Text(", \"batches\": ["));
        then.extend((0..entry.slots.len()).map(|slot| Step::Slot(mover, serial, slot)));
        then.push(Step::ClientEnd(mover, serial));
    }

    fn status_client_end(&self, mover: u32, serial: u64, out: &mut Vec<u8>) {
        out.push(b']');
        let entry = self.movers.at(mover);
        if entry.serial == serial && entry.conn.is_none() && entry.disconnected_at.0 != 0 {
            out.extend_from_slice(
                format!(", \"disconnected_timestamp\": {}", entry.disconnected_at.0).as_bytes(),
            );
        }
        out.push(b'}');
    }

    fn status_slot(
        &self,
        now: Now,
        run: &Run,
        which: (u32, u64, usize),
        then: &mut Vec<Step>,
        out: &mut Vec<u8>,
    ) {
        let (mover, serial, slot) = which;
        if slot > 0 {
            out.extend_from_slice(b", ");
        }
        out.push(b'{');
        let entry = self.movers.at(mover);
        let slot = entry.slots.get(slot).filter(|slot| entry.serial == serial && slot.tag != NIL);
        let mut separator = "";
        let mut tag = NIL;
        if let Some(slot) = slot {
            tag = slot.tag;
            let label = &self.data.at(self.tags.at(tag).key.label).bytes;
            if !label.is_empty() {
                out.extend_from_slice(b"\"hint\": ");
                write_string(until_nul(label), out);
                separator = ", ";
            }
            let mut count = |name: &str, value: i64| {
                if value != 0 {
                    out.extend_from_slice(format!("{separator}\"{name}\": {value}").as_bytes());
                    separator = ", ";
                }
            };
            count("current_count", i64::from(entry.tag_running.get(&tag).copied().unwrap_or(0)));
            count("expire_idle_s", now.wall_at(slot.idle_at).seconds());
            count("expire_max_s", slot.max_at.map_or(0, |max| now.wall_at(max).seconds()));
        }
        if run.verbose {
            then.push(Step::Array(if separator.is_empty() {
                "\"waiting_archive\""
            } else {
                ", \"waiting_archive\""
            }));
            // A tag with several slots is shown in the first.
            if tag != NIL && self.tags.at(tag).slots.keys().next() == Some(&mover) {
                then.push(Step::Tag(tag));
            }
            then.push(Step::EndArray);
        }
        then.push(Step::Text("}"));
    }

    fn status_entry(&self, run: &mut Run, handle: Handle, out: &mut Vec<u8>) {
        let request = self.requests.at(handle);
        if request.linked > run.up_to || request.state == State::Free {
            return;
        }
        let sent = self.data.sent(request.data);
        write_fields(run, self.requests.dfid(handle), request.cookie, sent, out);
    }
}

fn waiting_keys() -> impl Iterator<Item = (Kind, &'static str)> {
    KINDS.into_iter().zip([", \"waiting_restore\"", ", \"waiting_remove\"", ", \"waiting_archive\""])
}

fn write_entry(run: &mut Run, item: &ActionItem, out: &mut Vec<u8>) {
    write_fields(run, item.dfid, item.cookie, &item.data, out);
}

fn write_fields(run: &mut Run, dfid: Fid, cookie: u64, data: &[u8], out: &mut Vec<u8>) {
    if !run.first {
        out.extend_from_slice(b", ");
    }
    run.first = false;
    // C packs them as signed numbers, the two small ones as `int`.
    let text = format!(
        "{{\"hai_fid\": {{\"f_seq\": {}, \"f_oid\": {}, \"f_ver\": {}}}, \"hai_cookie\": {}, \"hai_data\": ",
        dfid.seq as i64, dfid.oid as i32, dfid.ver as i32, cookie as i64
    );
    out.extend_from_slice(text.as_bytes());
    write_string(until_nul(data), out);
    out.push(b'}');
}

fn until_nul(data: &[u8]) -> &[u8] {
    &data[..memchr::memchr(0, data).unwrap_or(data.len())]
}

/// A JSON string as jansson writes it; what is not UTF-8 is replaced.
fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for character in String::from_utf8_lossy(text).chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            other if (other as u32) < 0x20 => {
                out.extend_from_slice(format!("\\u{:04X}", other as u32).as_bytes())
            }
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_jansson_does() {
        let cases: [(&[u8], &str); 4] = [
            (b"tag=a", "\"tag=a\""),
            (b"a\"b\\c\n\x01/\x7f", "\"a\\\"b\\\\c\\n\\u0001/\x7f\""),
            ("é".as_bytes(), "\"é\""),
            (b"\xff\xfe", "\"\u{fffd}\u{fffd}\""),
        ];
        for (text, want) in cases {
            let mut out = Vec::new();
            write_string(text, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
