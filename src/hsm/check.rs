//! Invariants, checked over everything: for tests and simulations.

use std::collections::{BTreeMap, BTreeSet};

use super::Coordinator;
use super::index::NIL;
use super::queues::{ClassKey, Place, Pool, Shelf};
use super::requests::{CLAIMED, Handle, KINDS, Kind, List, RELEASED, State};
use super::tapes::PENDING;

impl Coordinator {
    /// Checks every invariant; looks at everything, so it is slow.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn check(&self) {
        self.check_counts();
        self.check_classes();
        self.check_movers();
        self.check_files();
        self.check_slots();
        self.check_shelves();
        self.vetting.check(|handle| self.requests.at(handle).state);
        self.bound.check();
        self.removed.check();
        self.endings.check();
        self.check_shares();
        self.check_tapes();
    }

    fn check_shares(&self) {
        let mut queued: BTreeMap<(u32, usize), u32> = BTreeMap::new();
        let mut restores: BTreeMap<u32, u32> = BTreeMap::new();
        let mut groups: BTreeMap<ClassKey, u32> = BTreeMap::new();
        for handle in self.handles() {
            let request = self.requests.at(handle);
            let key = self.classes.at(request.class).key;
            if key.is_plain() {
                continue;
            }
            let waits = matches!(request.state, State::Queued | State::Parked);
            if key.share != NIL {
                *restores.entry(key.share).or_insert(0) += u32::from(request.kind == Kind::Restore);
                *queued.entry((key.share, key.lane.at())).or_insert(0) += u32::from(waits);
            }
            if key.tape != NIL {
                continue;
            }
            *groups.entry(key.plain()).or_insert(0) += u32::from(waits);
        }
        groups.retain(|_, waiting| *waiting > 0);
        for (key, waiting) in &groups {
            assert_eq!(self.groups.get(key).map(|group| group.queued), Some(*waiting), "work of a group");
        }
        let filled = self.groups.values().filter(|group| group.queued > 0).count();
        assert_eq!(groups.len(), filled, "a group has work");
        assert!(self.groups.values().all(|group| !group.is_empty()), "empty groups are gone");
        self.shares.check(&queued, &restores);
    }

    /// A tape has what is queued for it, is with one mover at most, and never with one that is away and idle.
    fn check_tapes(&self) {
        let mut queued: BTreeMap<u32, usize> = BTreeMap::new();
        let mut running: BTreeMap<u32, u32> = BTreeMap::new();
        for handle in self.handles() {
            let request = self.requests.at(handle);
            let tape = self.classes.at(request.class).key.tape;
            if tape != NIL && tape != PENDING {
                *queued.entry(tape).or_insert(0) += usize::from(request.state == State::Queued);
                *running.entry(tape).or_insert(0) += u32::from(request.state == State::Running);
            }
        }
        let mut mounted: BTreeMap<u32, u32> = BTreeMap::new();
        for mover in self.movers.everyone() {
            for &tape in &self.movers.at(mover).tapes {
                assert_eq!(mounted.insert(tape, mover), None, "a tape is with one mover");
            }
        }
        self.tapes.check(&queued, &running, &mounted);
    }

    fn handles(&self) -> impl Iterator<Item = Handle> + '_ {
        (0..self.requests.slab.capacity()).filter(|&handle| self.requests.at(handle).state != State::Free)
    }

    fn walk(&self, list: List, mut see: impl FnMut(Handle)) {
        let (mut at, mut before, mut len) = (list.head, NIL, 0);
        while at != NIL {
            assert_eq!(self.requests.at(at).prev, before, "list is linked both ways");
            see(at);
            len += 1;
            before = at;
            at = self.requests.at(at).next;
        }
        assert_eq!((before, len), (list.tail, list.len), "list knows its end and length");
    }

    fn check_counts(&self) {
        let mut pending = [0; 3];
        let mut running = [0; 3];
        let mut total = 0;
        for handle in self.handles() {
            let request = self.requests.at(handle);
            total += 1;
            self.check_limits(handle);
            match request.state {
                State::Running => running[request.kind.at()] += 1,
                State::Loose | State::Free => unreachable!("{} is nowhere", request.key()),
                _ => pending[request.kind.at()] += 1,
            }
            assert_eq!(self.requests.find(request.key()), Some(handle), "{} is found", request.key());
            assert_eq!(request.kind, self.classes.at(request.class).key.kind);
        }
        assert_eq!(total, self.requests.slab.len());
        assert_eq!(pending, self.counts.pending, "pending counts");
        assert_eq!((pending, running), self.flow_totals(), "counts by archive");
        assert_eq!(running, self.counts.running, "running counts");
        let ended = self.counts.admitted - self.counts.ended;
        assert_eq!(total, ended, "admitted = waiting + running + ended");
        assert_eq!(total, self.waiting_requests() + running.iter().sum::<u64>());
    }

    fn check_classes(&self) {
        let mut queued = BTreeSet::new();
        let mut counted: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
        for handle in self.handles() {
            let request = self.requests.at(handle);
            let (refs, running) = counted.entry(request.class).or_default();
            *refs += 1;
            *running += u32::from(request.state == State::Running);
        }
        for id in self.classes.ids() {
            let class = self.classes.at(id);
            assert_eq!(self.classes.find(&class.key), Some(id));
            let references = counted.get(&id).copied().unwrap_or_default();
            assert_eq!((class.refs, class.running), references, "references to a class");
            let due = class.standing.map(|standing| standing.due);
            let head = (class.list.head != NIL).then(|| self.due(class.list.head));
            if class.key.tape == NIL {
                assert_eq!(due, head, "a class lies where its first request is due");
            } else {
                assert!(due.is_none() || due >= head, "nothing on a tape is due too early");
                let offered = head.is_some() && self.tapes.is_offered(class.key.tape);
                assert_eq!(due.is_some(), offered, "a class is offered while its tape may be had");
            }
            assert_eq!(class.listed, head.is_some(), "a class with requests is listed");
            let turn = self.shares.turn(class.key.share, class.key.lane);
            assert!(class.standing.is_none_or(|standing| standing.turn <= turn), "turns go on only");
            self.walk(class.list, |handle| {
                let request = self.requests.at(handle);
                assert_eq!((request.state, request.class), (State::Queued, id));
                queued.insert(handle);
            });
        }
        let mut settling = BTreeSet::new();
        self.walk(self.settling, |handle| {
            settling.insert(handle);
        });
        self.doubts.check();
        for handle in self.handles() {
            let request = self.requests.at(handle);
            assert_eq!(request.state == State::Queued, queued.contains(&handle));
            assert_eq!(request.state == State::Settling, settling.contains(&handle));
            assert_eq!(request.state == State::Doubtful, self.doubts.contains(handle));
            let held = (request.fid, request.class, request.timestamp, handle);
            assert_eq!(request.state == State::Held, self.held.contains(&held));
            assert_eq!(request.state == State::Vetting, self.vetting.aside.contains(&handle));
            assert_eq!(request.state == State::Bound, self.bound.contains(handle));
        }
    }

    fn check_movers(&self) {
        let mut active = BTreeSet::new();
        for mover in self.movers.everyone() {
            let entry = self.movers.at(mover);
            let mut running = [0; 3];
            let mut tags: BTreeMap<u32, u32> = BTreeMap::new();
            self.walk(entry.active, |handle| {
                let request = self.requests.at(handle);
                assert_eq!((request.state, request.owner), (State::Running, mover));
                active.insert(handle);
                running[request.kind.at()] += 1;
                let tag = self.classes.at(request.class).key.tag;
                if tag != NIL {
                    *tags.entry(tag).or_insert(0) += 1;
                }
            });
            assert_eq!(running, entry.running, "running counts of {}", entry.id);
            assert_eq!(tags, entry.tag_running, "tags running on {}", entry.id);
            match entry.conn {
                Some(conn) => assert_eq!(self.conns.get(&conn), Some(&mover)),
                None => assert!(entry.waiting.is_none(), "who is away does not wait"),
            }
            if entry.host != NIL {
                assert_eq!(self.hosts.at(entry.host).mover, mover);
            }
            for handle in &entry.cancels {
                assert!(self.cancels.contains_key(handle), "a cancel to be sent is known");
            }
        }
        assert_eq!(self.conns.len(), self.movers.connected.len());
        let unsent: u64 =
            self.movers.everyone().iter().map(|&mover| self.movers.at(mover).cancels.len() as u64).sum();
        assert_eq!(self.counts.pending_cancel, unsent, "cancels to be sent");
        for handle in self.handles() {
            assert_eq!(self.requests.at(handle).state == State::Running, active.contains(&handle));
        }
    }

    fn check_files(&self) {
        let mut busy: BTreeMap<_, Vec<Handle>> = BTreeMap::new();
        for handle in self.handles() {
            let request = self.requests.at(handle);
            if request.state == State::Running {
                busy.entry(request.fid).or_default().push(handle);
            }
            if request.has(RELEASED) {
                assert_eq!(self.released.get(&(request.fid, request.class)), Some(&handle));
            }
        }
        assert_eq!(busy.len(), self.busy.len());
        for (fid, running) in busy {
            let mut known = self.busy.get(&fid).map(|known| known.to_vec()).unwrap_or_default();
            known.sort_unstable();
            assert_eq!(known, running, "what runs for {fid}");
            // What a mover brought was not dispatched by us.
            let chosen: Vec<Kind> = running
                .iter()
                .map(|&handle| self.requests.at(handle))
                .filter(|request| !request.has(CLAIMED))
                .map(|request| request.kind)
                .collect();
            let others = chosen.iter().filter(|&&kind| kind != Kind::Archive).count();
            let archives = chosen.len() - others;
            assert!(others <= 1 && archives <= 1, "one running request for {fid}: {chosen:?}");
            assert!(!(archives == 1 && chosen.contains(&Kind::Remove)), "no remove beside an archive: {fid}");
        }
        for &(fid, class, _, handle) in &self.held {
            let kind = self.requests.at(handle).kind;
            let waits = self.is_kept_by_file(fid, kind) || self.released.contains_key(&(fid, class));
            assert!(waits, "{} is held for nothing", self.requests.at(handle).key());
        }
    }

    fn check_slots(&self) {
        let mut counted: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for handle in self.handles() {
            let request = self.requests.at(handle);
            let (queued, running) = counted.entry(self.classes.at(request.class).key.tag).or_default();
            match request.state {
                State::Queued | State::Parked => *queued += 1,
                State::Running => *running += 1,
                _ => {}
            }
        }
        for tag in self.tags.ids() {
            let entry = self.tags.at(tag);
            let work = counted.get(&tag).copied().unwrap_or_default();
            assert_eq!(work, (entry.queued, entry.running), "work of a tag");
            assert_eq!(entry.waiting.is_some(), entry.wants_slot(), "a tag waits when it wants a slot");
            assert!(entry.spread || entry.slots.len() <= 1, "a tag has one slot");
            for (&mover, &slot) in &entry.slots {
                assert_eq!(self.movers.at(mover).slots[slot as usize].tag, tag);
            }
        }
        for mover in self.movers.everyone() {
            let entry = self.movers.at(mover);
            for (number, slot) in entry.slots.iter().enumerate() {
                if slot.tag != NIL {
                    assert_eq!(self.tags.at(slot.tag).slots.get(&mover), Some(&(number as u32)));
                }
                let active = entry.conn.is_some() && entry.is_mover && !self.is_barred(mover);
                let free = slot.is_free() && active;
                if free && self.crews.everyone.connected < 32 {
                    let idle = self.tags.ids().find(|&tag| {
                        let tag = self.tags.at(tag);
                        let serves =
                            entry.archive_ids.is_empty() || entry.archive_ids.contains(&tag.key.archive_id);
                        let fits = match tag.key.place {
                            Place::Any => true,
                            Place::Host(host) => entry.host == host,
                            Place::Set(set) => {
                                entry.host != NIL && self.hosts.sets[set as usize].hosts.contains(&entry.host)
                            }
                        };
                        tag.waiting.is_some() && serves && fits && !tag.slots.contains_key(&mover)
                    });
                    assert_eq!(idle, None, "a slot of {} is free while a tag waits for it", entry.id);
                }
            }
        }
    }

    fn check_shelves(&self) {
        let shelf = |shelf: &Shelf| {
            for lane in shelf.lanes.iter().chain(&shelf.tapes) {
                for &(standing, class) in &lane.by_turn {
                    assert_eq!(self.classes.at(class).standing, Some(standing), "a class lies on its shelf");
                }
            }
            for kind in KINDS {
                let parked = &shelf.parked[kind.at()];
                assert_eq!(parked.by_cost.len(), parked.by_time.len());
                for &(_, _, handle) in &parked.by_cost {
                    assert_eq!(self.requests.at(handle).state, State::Parked);
                }
            }
        };
        let pool = |pool: &Pool| {
            shelf(&pool.all);
            for other in pool.by_id.values() {
                assert!(!other.is_empty(), "empty shelves are taken down");
                shelf(other);
            }
            let lanes =
                |shelf: &Shelf, at: usize| shelf.lanes[at].by_turn.len() + shelf.tapes[at].by_turn.len();
            for at in 0..pool.all.lanes.len() {
                let some: usize = pool.by_id.values().map(|other| lanes(other, at)).sum();
                assert_eq!(some, lanes(&pool.all, at), "every class lies on both of its shelves");
            }
        };
        pool(&self.global);
        for set in &self.hosts.sets {
            pool(&set.pool);
        }
        for mover in self.movers.everyone() {
            let host = self.movers.at(mover).host;
            if host != NIL {
                pool(&self.hosts.at(host).pool);
            }
        }
    }
}
