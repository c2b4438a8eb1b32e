//! Why a request is where it is: asked of the same state and by the same rules by which work is handed out.

use super::Coordinator;
use super::event::Lock;
use super::index::NIL;
use super::quarantine::Quarantine;
use super::queues::{ClassKey, Place};
use super::reason::Reason;
use super::requests::{CANCELLING, Handle, Kind, REDELIVERED, STORED, State};
use super::tapes::{PENDING, TapeState};
use super::time::Wall;
use super::timers::Timer;
use super::views::{Attempt, Explanation, Find, Position};

/// How many requests of a file, and movers or slots in a reason, are shown at most.
const MOST: usize = 64;

/// How far a queue is counted from the request to its ends.
const COUNTED: u64 = 4096;

impl Coordinator {
    /// Why these requests are where they are; empty when there are none. Costs the number of movers, not of requests.
    pub fn explain(&self, find: &Find) -> Vec<Explanation> {
        let handles = match *find {
            Find::File(fid) => self.requests.of_file(fid, MOST),
            Find::Request(key) => self.requests.find_any(key.cookie, key.fid).into_iter().collect(),
        };
        handles.into_iter().map(|handle| self.explain_one(handle)).collect()
    }

    fn explain_one(&self, handle: Handle) -> Explanation {
        let request = self.requests.at(handle);
        let tag = self.classes.at(request.class).key.tag;
        let position = (request.state == State::Queued).then(|| self.position(handle));
        let mut reasons = Vec::new();
        self.reasons(handle, &mut reasons);
        if let Some(position) = position.filter(|position| position.ahead > 0) {
            reasons.push(Reason::Behind { ahead: position.ahead });
        }
        if reasons.is_empty() {
            reasons.push(Reason::NextStep);
        }
        Explanation {
            request: self.request_view(handle),
            position,
            tag: (tag != NIL).then(|| self.data.at(self.tags.at(tag).key.label).bytes[..].into()),
            reasons,
            cancel: request
                .has(CANCELLING)
                .then(|| self.cancels.get(&handle).is_some_and(|cancel| cancel.sent)),
            durable: request.has(STORED),
            redelivered: request.has(REDELIVERED),
            attempts: self.attempts(handle),
        }
    }

    /// Attempts at what this request does that failed.
    fn attempts(&self, handle: Handle) -> Vec<Attempt> {
        let letter = self.letters.all.get(&self.target(handle));
        letter.map_or_else(Vec::new, |letter| letter.attempts.iter().cloned().collect())
    }

    /// The place of a queued request in its queue.
    fn position(&self, handle: Handle) -> Position {
        let list = self.classes.at(self.requests.at(handle).class).list;
        let of = u64::from(list.len);
        let steps = |next: &dyn Fn(Handle) -> Handle| {
            let (mut at, mut steps) = (next(handle), 0);
            while at != NIL && steps < COUNTED {
                at = next(at);
                steps += 1;
            }
            (at == NIL).then_some(steps)
        };
        if let Some(ahead) = steps(&|at| self.requests.at(at).prev) {
            return Position { ahead, of, exact: true };
        }
        if let Some(behind) = steps(&|at| self.requests.at(at).next) {
            return Position { ahead: of - behind - 1, of, exact: true };
        }
        // What is queued later has a larger number, but for the few that were put at the front.
        let number = |at: Handle| self.requests.at(at).linked;
        let (first, last, own) = (number(list.head), number(list.tail), number(handle));
        let span = last.saturating_sub(first).max(1);
        let ahead = u128::from(of) * u128::from(own.saturating_sub(first).min(span)) / u128::from(span);
        let most = of.saturating_sub(COUNTED + 1);
        Position { ahead: (ahead as u64).clamp(COUNTED.min(most), most), of, exact: false }
    }

    fn name(&self, mover: u32) -> String {
        self.movers.at(mover).id.to_string()
    }

    fn reasons(&self, handle: Handle, reasons: &mut Vec<Reason>) {
        let request = self.requests.at(handle);
        let (state, fid, kind, class) = (request.state, request.fid, request.kind, request.class);
        if state == State::Running {
            return reasons.push(self.why_running(handle));
        }
        if self.lock != Lock::Unlocked {
            reasons.push(Reason::Locked { quitting: self.lock == Lock::LockedQuit });
        }
        if state == State::Settling {
            let until = self.timers.at(Timer::Settle).map_or(self.now.wall, |at| self.wall(at));
            return reasons.push(Reason::Settling { until });
        }
        if state == State::Doubtful {
            return reasons.push(Reason::Doubtful);
        }
        if state == State::Bound {
            return reasons.push(Reason::Bound);
        }
        if state == State::Vetting {
            reasons.push(Reason::Asking);
        }
        self.why_file(handle, reasons);
        match state {
            State::Held => {
                if let Some(&other) = self.released.get(&(fid, class)) {
                    reasons.push(Reason::FileTurn { key: self.requests.at(other).key() });
                }
                return;
            }
            State::Limited => {
                if let Some(reached) = self.limited_by(handle) {
                    let until = reached.until.map(|at| self.wall(at));
                    reasons.push(Reason::Limit {
                        name: reached.group.name(),
                        running: reached.running,
                        until,
                    });
                }
                return;
            }
            _ => {}
        }
        if let Some(reached) = self.limit_reached(handle) {
            let until = reached.until.map(|at| self.wall(at));
            reasons.push(Reason::Limit { name: reached.group.name(), running: reached.running, until });
        }
        self.why_no_mover(handle, self.classes.at(class).key, kind, reasons);
    }

    fn why_running(&self, handle: Handle) -> Reason {
        let request = self.requests.at(handle);
        let entry = self.movers.at(request.owner);
        if entry.conn.is_none() {
            return self.away(request.owner);
        }
        let waited = i64::from(request.waited_ms).saturating_mul(1_000_000);
        Reason::Running { mover: entry.id.to_string(), since: Wall(request.timestamp.saturating_add(waited)) }
    }

    fn away(&self, mover: u32) -> Reason {
        let entry = self.movers.at(mover);
        let until = self.timers.at(Timer::Grace(mover)).map_or(self.now.wall, |at| self.wall(at));
        Reason::MoverAway { mover: entry.id.to_string(), since: entry.disconnected_at, until }
    }

    /// What runs for the file and keeps the request.
    fn why_file(&self, handle: Handle, reasons: &mut Vec<Reason>) {
        let request = self.requests.at(handle);
        if !self.is_kept_by_file(request.fid, request.kind) {
            return;
        }
        for &other in self.busy.get(&request.fid).into_iter().flatten().take(MOST) {
            let other = self.requests.at(other);
            if request.kind == Kind::Restore && other.kind == Kind::Archive {
                continue;
            }
            let (key, action, mover) = (other.key(), other.kind.action(), self.name(other.owner));
            reasons.push(Reason::FileBusy { key, action, mover });
        }
    }

    /// Whether a mover may be given work of this archive.
    fn may_serve(&self, mover: u32, archive_id: u32) -> bool {
        let ids = &self.movers.at(mover).archive_ids;
        let unknown = archive_id == 0 && self.crews.all.connected == 0;
        ids.is_empty() || ids.contains(&archive_id) || unknown
    }

    /// Why each mover that could take the request does not.
    fn why_no_mover(&self, handle: Handle, key: ClassKey, kind: Kind, reasons: &mut Vec<Reason>) {
        let present = |mover: &u32| {
            *mover != NIL && self.movers.at(*mover).conn.is_some() && self.movers.at(*mover).is_mover
        };
        let by_place: Vec<u32> = match key.place {
            Place::Any => self.movers.connected.values().copied().filter(present).collect(),
            Place::Host(host) => Some(self.hosts.at(host).mover).into_iter().filter(present).collect(),
            Place::Set(set) => {
                let hosts = &self.hosts.sets[set as usize].hosts;
                hosts.iter().map(|&host| self.hosts.at(host).mover).filter(present).collect()
            }
        };
        if by_place.is_empty() {
            return reasons.push(self.nobody(key));
        }
        let serving: Vec<u32> =
            by_place.iter().copied().filter(|&mover| self.may_serve(mover, key.archive_id)).collect();
        if serving.is_empty() {
            match key.place {
                Place::Any => reasons.push(Reason::NoMover { archive_id: key.archive_id }),
                _ => {
                    reasons.extend(by_place.into_iter().take(MOST).map(|mover| Reason::NotServed {
                        mover: self.name(mover),
                        archive_id: key.archive_id,
                    }))
                }
            }
            return;
        }
        let serving = match self.why_tape(key, serving, reasons) {
            Some(movers) => movers,
            None => return,
        };
        let candidates = match key.tag {
            NIL => serving,
            tag if self.tags.at(tag).slots.is_empty() => return self.why_no_slot(&serving, reasons),
            tag => self.tags.at(tag).slots.keys().copied().filter(present).collect(),
        };
        if candidates.is_empty() && key.tag == NIL {
            return;
        }
        if candidates.is_empty() {
            // Whoever has the batch's slot is away, and keeps it for a while.
            let away = self.tags.at(key.tag).slots.keys().take(MOST);
            return reasons.extend(away.map(|&mover| self.away(mover)));
        }
        let cost = self.cost(handle);
        let buffers = candidates.iter().filter_map(|&mover| self.movers.at(mover).recv);
        let largest = buffers.map(|recv| recv.max_bytes).max();
        if let Some(largest) = largest.filter(|&largest| largest < cost) {
            reasons.push(Reason::TooLarge { bytes: cost, largest });
        }
        // Said once is enough.
        let cost = largest.map_or(cost, |largest| cost.min(largest));
        let obstacles: Option<Vec<Reason>> =
            candidates.iter().take(MOST).map(|&mover| self.obstacle(mover, key, kind, cost)).collect();
        // A mover without an obstacle is about to take it, or what is before it.
        reasons.extend(obstacles.into_iter().flatten());
    }

    /// What keeps the request's tape. Returns the movers that could take the request all the same; `None` for nobody.
    fn why_tape(&self, key: ClassKey, serving: Vec<u32>, reasons: &mut Vec<Reason>) -> Option<Vec<u32>> {
        if key.tape == NIL {
            return Some(serving);
        }
        if key.tape == PENDING {
            reasons.push(Reason::Locating);
            return None;
        }
        let entry = self.tapes.at(key.tape);
        let tape = entry.name.to_string();
        match entry.state {
            TapeState::Idle | TapeState::Gathering => {
                let until = self.timers.at(Timer::Tape(key.tape)).map(|at| self.wall(at));
                reasons.push(Reason::TapeGathers { tape, until });
                None
            }
            TapeState::Mounted { mover, .. } => {
                reasons.push(Reason::TapeMounted { tape, mover: self.name(mover), leaving: false });
                Some(serving.into_iter().filter(|&other| other == mover).collect())
            }
            TapeState::Draining { mover } => {
                reasons.push(Reason::TapeMounted { tape, mover: self.name(mover), leaving: true });
                None
            }
            TapeState::Ready => {
                let (free, busy): (Vec<u32>, Vec<u32>) =
                    serving.into_iter().partition(|&mover| self.has_room_for_tape(mover));
                let busy = busy.into_iter().take(MOST);
                reasons.extend(busy.map(|mover| Reason::TapesBusy { mover: self.name(mover) }));
                (!free.is_empty()).then_some(free)
            }
        }
    }

    fn nobody(&self, key: ClassKey) -> Reason {
        match key.place {
            Place::Any => Reason::NoMover { archive_id: key.archive_id },
            Place::Host(host) => {
                let entry = self.hosts.at(host);
                let since = (entry.mover != NIL).then(|| self.movers.at(entry.mover).disconnected_at);
                Reason::HostAbsent { mover: entry.name.to_string(), since: since.filter(|at| at.0 > 0) }
            }
            Place::Set(set) => {
                let hosts = self.hosts.sets[set as usize].hosts.iter().take(MOST);
                let movers = hosts.map(|&host| self.hosts.at(host).name.to_string()).collect();
                Reason::HostsAbsent { movers }
            }
        }
    }

    /// Why this mover does not take a request, in the order in which that is decided; `None` if nothing keeps it.
    fn obstacle(&self, mover: u32, key: ClassKey, kind: Kind, cost: u64) -> Option<Reason> {
        let entry = self.movers.at(mover);
        let name = || entry.id.to_string();
        if let Some(duty) = self.duty(mover) {
            match duty.quarantine {
                _ if duty.drained => return Some(Reason::Draining { mover: name() }),
                Some(Quarantine::Until(at)) => {
                    return Some(Reason::Quarantined { mover: name(), until: self.wall(at) });
                }
                Some(Quarantine::Trial(given)) if given != NIL => {
                    return Some(Reason::OnTrial { mover: name() });
                }
                _ => {}
            }
        }
        let Some(recv) = entry.recv else {
            return Some(Reason::MoverNotAsking { mover: name() });
        };
        if entry.room(kind.at()) == 0 {
            let running = entry.running[kind.at()];
            let most = [recv.max_restore, recv.max_remove, recv.max_archive][kind.at()];
            return Some(match most.filter(|&most| running >= most) {
                Some(most) => Reason::MoverFull { mover: name(), running, most },
                None => Reason::MoverLimit {
                    mover: name(),
                    running: u32::try_from(entry.load()).unwrap_or(u32::MAX),
                    until: self.mover_opens(mover).map(|at| self.wall(at)),
                },
            });
        }
        let of_tag = entry.tag_running.get(&key.tag).copied().unwrap_or(0);
        if key.tag != NIL && of_tag >= self.slot_limit(mover) {
            return Some(Reason::BatchFull { mover: name(), running: of_tag, most: self.slot_limit(mover) });
        }
        if recv.max_bytes < cost {
            return Some(Reason::TooLarge { bytes: cost, largest: recv.max_bytes });
        }
        entry.waiting.is_none().then(|| Reason::MoverNotAsking { mover: name() })
    }

    /// Who has the slots that a batch waits for.
    fn why_no_slot(&self, serving: &[u32], reasons: &mut Vec<Reason>) {
        let before = reasons.len();
        for &mover in serving {
            if let Some(duty) = self.duty(mover).filter(|_| self.is_barred(mover)) {
                let until = match duty.quarantine {
                    Some(Quarantine::Until(at)) if !duty.drained => Some(self.wall(at)),
                    _ => None,
                };
                let name = self.name(mover);
                reasons.push(match until {
                    Some(until) => Reason::Quarantined { mover: name, until },
                    None => Reason::Draining { mover: name },
                });
            }
            for slot in self.movers.at(mover).slots.iter().filter(|slot| slot.tag != NIL && !slot.lapsed) {
                let tag = self.tags.at(slot.tag);
                let idle = tag.queued == 0 && tag.running == 0;
                let until = if idle { Some(slot.idle_at) } else { slot.max_at };
                reasons.push(Reason::SlotHeld {
                    mover: self.name(mover),
                    tag: self.data.at(tag.key.label).bytes[..].into(),
                    until: until.map(|at| self.wall(at)),
                });
            }
            if reasons.len() - before >= MOST {
                return;
            }
        }
        if reasons.len() == before {
            reasons.push(Reason::NoSlot);
        }
    }
}
