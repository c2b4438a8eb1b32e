//! The requests themselves: a slab, the lists that run through it and the index by identity.

use lustreapi_sys::Fid;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::action::{Action, ActionItem, RequestKey};
use super::by_file::ByFile;
use super::index::NIL;
use super::time::Mono;

/// A request's place in the slab.
pub(super) type Handle = u32;

/// Requests of which there is one as a rule.
pub(super) type Few = SmallVec<[Handle; 4]>;

const CHUNK_BITS: u32 = 12;
const CHUNK: usize = 1 << CHUNK_BITS;

/// The kinds of requests that movers run, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(super) enum Kind {
    Restore,
    Remove,
    Archive,
}

/// All kinds, the most urgent first.
pub(super) const KINDS: [Kind; 3] = [Kind::Restore, Kind::Remove, Kind::Archive];

impl Kind {
    pub(super) fn of(action: Action) -> Option<Self> {
        match action {
            Action::Restore => Some(Self::Restore),
            Action::Remove => Some(Self::Remove),
            Action::Archive => Some(Self::Archive),
            Action::Cancel => None,
        }
    }

    pub(super) fn action(self) -> Action {
        match self {
            Self::Restore => Action::Restore,
            Self::Remove => Action::Remove,
            Self::Archive => Action::Archive,
        }
    }

    pub(super) fn at(self) -> usize {
        self as usize
    }
}

/// Where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// This entry of the slab is unused.
    Free,
    /// Between two places, inside one step.
    Loose,
    /// In its class's queue.
    Queued,
    /// Too large for a mover that met it: set aside for one with a larger buffer.
    Parked,
    /// Waits until another request for the same file has ended.
    Held,
    /// Recovered without a mover, waits for one to claim it.
    Settling,
    /// Set aside until the MDT has said whether it may be sent.
    Vetting,
    /// Bound to a mover that is gone: ended at its MDT, and requested again.
    Bound,
    /// The MDT may have forgotten it: handed out only once that is known.
    Doubtful,
    /// Waits until a limit has room.
    Limited,
    /// With a mover.
    Running,
}

/// The MDT delivered it again while it was running.
pub(super) const REDELIVERED: u16 = 1;
/// Some cursor stands on it.
pub(super) const BOOKMARKED: u16 = 2;
/// It has an entry in the side table.
pub(super) const RARE: u16 = 4;
/// The store has it.
pub(super) const STORED: u16 = 8;
/// The store has its mover.
pub(super) const ASSIGNED: u16 = 16;
/// A cancel for it exists.
pub(super) const CANCELLING: u16 = 32;
/// Let go by its file; it is the next of its kind for that file.
pub(super) const RELEASED: u16 = 64;
/// A mover brought it, so that rules of dispatch did not apply.
pub(super) const CLAIMED: u16 = 128;
/// Its mover came back while it ran: the `done` that it sends next may be one that we have had already, of an earlier attempt.
pub(super) const REJOINED: u16 = 0x400;
/// Its reporting file counts it.
pub(super) const REPORTED: u16 = 256;
/// It has ended here before and was delivered again, or an archive whose file's copy was removed since.
pub(super) const ENDED_BEFORE: u16 = 0x4000;
/// It waited already when we started, or may have: what happened to its file before that is not known here.
pub(super) const RECOVERED: u16 = 0x2000;
/// It was with another mover before.
pub(super) const MOVED: u16 = 0x1000;
/// A restore that a mover has failed, and that was run again since its MDT still had it.
pub(super) const UNHEARD: u16 = 0x800;
/// It runs, and the MDT has said that it knows nothing of it.
pub(super) const FORGOTTEN: u16 = 512;

/// What is known of every request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) cookie: u64,
    pub(super) fid: Fid,
    /// Wall-clock nanoseconds of admission.
    pub(super) timestamp: i64,
    /// When it was admitted, for ageing.
    pub(super) queued: Mono,
    /// Sequence number of its entry into the list it is in.
    pub(super) linked: u64,
    pub(super) class: u32,
    pub(super) next: Handle,
    pub(super) prev: Handle,
    /// From admission until it was sent to its mover, in milliseconds; for what runs.
    pub(super) waited_ms: u32,
    /// Interned data.
    pub(super) data: u32,
    /// The mover that runs it.
    pub(super) owner: u32,
    /// Counts the uses of this entry.
    pub(super) generation: u32,
    pub(super) state: State,
    pub(super) kind: Kind,
    pub(super) bits: u16,
}

impl Request {
    pub(super) fn key(&self) -> RequestKey {
        RequestKey { cookie: self.cookie, fid: self.fid }
    }

    pub(super) fn has(&self, bit: u16) -> bool {
        self.bits & bit != 0
    }

    pub(super) fn set(&mut self, bit: u16, on: bool) {
        if on {
            self.bits |= bit;
        } else {
            self.bits &= !bit;
        }
    }
}

/// What few requests have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rare {
    pub(super) dfid: Fid,
    pub(super) extent_offset: u64,
    pub(super) extent_length: u64,
    pub(super) gid: u64,
    pub(super) extra: Box<str>,
    /// Data FIDs other than `dfid` under which it was delivered again.
    pub(super) aliases: Vec<Fid>,
}

/// A list through [`Request::next`] and [`Request::prev`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct List {
    pub(super) head: Handle,
    pub(super) tail: Handle,
    pub(super) len: u32,
}

impl Default for List {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl List {
    pub(super) const EMPTY: List = List { head: NIL, tail: NIL, len: 0 };

    pub(super) fn is_empty(&self) -> bool {
        self.head == NIL
    }
}

/// The slab.
#[derive(Debug, Default)]
pub(super) struct Slab {
    /// Of a length that the compiler knows: requests are looked at some seventy times in their life.
    chunks: Vec<Box<[Request; CHUNK]>>,
    free: Handle,
    live: u64,
}

impl Slab {
    pub(super) fn at(&self, handle: Handle) -> &Request {
        &self.chunks[(handle >> CHUNK_BITS) as usize][handle as usize & (CHUNK - 1)]
    }

    pub(super) fn at_mut(&mut self, handle: Handle) -> &mut Request {
        &mut self.chunks[(handle >> CHUNK_BITS) as usize][handle as usize & (CHUNK - 1)]
    }

    pub(super) fn len(&self) -> u64 {
        self.live
    }

    /// Handles below this were given out at some time.
    pub(super) fn capacity(&self) -> u32 {
        u32::try_from(self.chunks.len() << CHUNK_BITS).unwrap_or(u32::MAX)
    }

    fn allocate(&mut self) -> Handle {
        if self.live == 0 && self.chunks.is_empty() {
            self.free = NIL;
        }
        if self.free == NIL {
            let base = self.capacity();
            let last = base + CHUNK as u32;
            assert!(last < NIL, "more than 4 billion requests");
            let chunk: Vec<Request> = (base..last)
                .map(|handle| Request {
                    cookie: 0,
                    fid: Fid::default(),
                    timestamp: 0,
                    queued: Mono(0),
                    linked: 0,
                    class: NIL,
                    next: if handle + 1 == last { NIL } else { handle + 1 },
                    prev: NIL,
                    waited_ms: 0,
                    data: NIL,
                    owner: NIL,
                    generation: 0,
                    state: State::Free,
                    kind: Kind::Archive,
                    bits: 0,
                })
                .collect();
            let Ok(chunk) = chunk.try_into() else { unreachable!("it has as many as were put into it") };
            self.chunks.push(chunk);
            self.free = base;
        }
        let handle = self.free;
        self.free = self.at(handle).next;
        self.live += 1;
        handle
    }

    fn release(&mut self, handle: Handle) {
        let next = self.free;
        let request = self.at_mut(handle);
        request.generation = request.generation.wrapping_add(1);
        request.state = State::Free;
        request.bits = 0;
        request.next = next;
        self.free = handle;
        self.live -= 1;
    }

    pub(super) fn push_back(&mut self, list: &mut List, handle: Handle) {
        let tail = list.tail;
        let request = self.at_mut(handle);
        request.prev = tail;
        request.next = NIL;
        match tail {
            NIL => list.head = handle,
            tail => self.at_mut(tail).next = handle,
        }
        list.tail = handle;
        list.len += 1;
    }

    pub(super) fn push_front(&mut self, list: &mut List, handle: Handle) {
        let head = list.head;
        let request = self.at_mut(handle);
        request.next = head;
        request.prev = NIL;
        match head {
            NIL => list.tail = handle,
            head => self.at_mut(head).prev = handle,
        }
        list.head = handle;
        list.len += 1;
    }

    /// Puts an entry before another one of the list, `NIL` for the end.
    pub(super) fn insert_before(&mut self, list: &mut List, at: Handle, handle: Handle) {
        if at == NIL {
            return self.push_back(list, handle);
        }
        let prev = self.at(at).prev;
        if prev == NIL {
            return self.push_front(list, handle);
        }
        let request = self.at_mut(handle);
        request.prev = prev;
        request.next = at;
        self.at_mut(prev).next = handle;
        self.at_mut(at).prev = handle;
        list.len += 1;
    }

    pub(super) fn unlink(&mut self, list: &mut List, handle: Handle) {
        let (prev, next) = {
            let request = self.at(handle);
            (request.prev, request.next)
        };
        match prev {
            NIL => list.head = next,
            prev => self.at_mut(prev).next = next,
        }
        match next {
            NIL => list.tail = prev,
            next => self.at_mut(next).prev = prev,
        }
        list.len -= 1;
    }
}

/// All requests.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) slab: Slab,
    pub(super) by_file: ByFile,
    /// (cookie, data FID) of requests whose data FID is not the file's own.
    aliases: FxHashMap<(u64, Fid), Handle>,
    /// What runs and has data FIDs other than the file's own, by these.
    running: FxHashMap<Fid, Few>,
    rare: FxHashMap<Handle, Box<Rare>>,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self {
            slab: Slab::default(),
            by_file: ByFile::new(),
            aliases: FxHashMap::default(),
            running: FxHashMap::default(),
            rare: FxHashMap::default(),
        }
    }

    pub(super) fn at(&self, handle: Handle) -> &Request {
        self.slab.at(handle)
    }

    pub(super) fn at_mut(&mut self, handle: Handle) -> &mut Request {
        self.slab.at_mut(handle)
    }

    /// The request with this identity.
    pub(super) fn find(&self, key: RequestKey) -> Option<Handle> {
        self.by_file.find(&self.slab, key.fid, key.cookie)
    }

    /// The request known to have had this data FID.
    pub(super) fn find_alias(&self, cookie: u64, dfid: Fid) -> Option<Handle> {
        self.aliases.get(&(cookie, dfid)).copied()
    }

    /// The request by either of its FIDs, the file's own first.
    pub(super) fn find_any(&self, cookie: u64, fid: Fid) -> Option<Handle> {
        self.find(RequestKey { cookie, fid }).or_else(|| self.find_alias(cookie, fid))
    }

    /// All requests for a file, by its own FID; at most so many.
    pub(super) fn of_file(&self, fid: Fid, most: usize) -> Vec<Handle> {
        self.by_file.all(&self.slab, fid, most)
    }

    /// What runs on `owner` under this data FID, or is one of these, with a cookie of the same low half: C movers truncate
    /// cookies.
    pub(super) fn find_truncated(
        &self,
        cookie: u64,
        dfid: Fid,
        owner: u32,
        of_file: Option<&Few>,
    ) -> Option<Handle> {
        let same = |handle: &Handle| {
            let request = self.at(*handle);
            request.owner == owner && request.cookie as u32 == cookie as u32
        };
        of_file.into_iter().chain(self.running.get(&dfid)).flatten().copied().find(same)
    }

    /// Adds a request that is not there; it is loose.
    pub(super) fn add(
        &mut self,
        item: &ActionItem,
        kind: Kind,
        queued: Mono,
        class: u32,
        data: u32,
    ) -> Handle {
        let handle = self.slab.allocate();
        {
            let request = self.slab.at_mut(handle);
            request.cookie = item.cookie;
            request.fid = item.fid;
            request.timestamp = item.timestamp;
            request.queued = queued;
            request.linked = 0;
            request.class = class;
            request.data = data;
            request.owner = NIL;
            request.next = NIL;
            request.prev = NIL;
            request.state = State::Loose;
            request.kind = kind;
            request.bits = 0;
        }
        self.by_file.insert(&self.slab, handle);
        let usual = item.dfid == item.fid
            && item.extent_offset == 0
            && item.extent_length == u64::MAX
            && item.gid == 0
            && item.extra.is_empty();
        if !usual {
            let rare = Rare {
                dfid: item.dfid,
                extent_offset: item.extent_offset,
                extent_length: item.extent_length,
                gid: item.gid,
                extra: item.extra.clone(),
                aliases: Vec::new(),
            };
            self.rare.insert(handle, Box::new(rare));
            self.at_mut(handle).set(RARE, true);
            if item.dfid != item.fid {
                self.aliases.entry((item.cookie, item.dfid)).or_insert(handle);
            }
        }
        handle
    }

    /// Notes another data FID of a request.
    pub(super) fn add_alias(&mut self, handle: Handle, dfid: Fid) {
        const MOST: usize = 8;
        let request = self.slab.at_mut(handle);
        let (cookie, fid, running) = (request.cookie, request.fid, request.state == State::Running);
        if dfid == fid {
            return;
        }
        request.set(RARE, true);
        let rare = self.rare.entry(handle).or_insert_with(|| {
            Box::new(Rare {
                dfid: fid,
                extent_offset: 0,
                extent_length: u64::MAX,
                gid: 0,
                extra: Box::default(),
                aliases: Vec::new(),
            })
        });
        if rare.dfid == dfid || rare.aliases.contains(&dfid) || rare.aliases.len() >= MOST {
            return;
        }
        rare.aliases.push(dfid);
        self.aliases.entry((cookie, dfid)).or_insert(handle);
        if running {
            self.running.entry(dfid).or_default().push(handle);
        }
    }

    pub(super) fn rare(&self, handle: Handle) -> Option<&Rare> {
        if !self.at(handle).has(RARE) {
            return None;
        }
        self.rare.get(&handle).map(|rare| &**rare)
    }

    pub(super) fn dfid(&self, handle: Handle) -> Fid {
        self.rare(handle).map_or(self.at(handle).fid, |rare| rare.dfid)
    }

    /// Data FIDs other than the file's own.
    fn other_fids(&self, handle: Handle) -> SmallVec<[Fid; 2]> {
        let Some(rare) = self.rare(handle) else {
            return SmallVec::new();
        };
        let first = (rare.dfid != self.at(handle).fid).then_some(rare.dfid);
        first.into_iter().chain(rare.aliases.iter().copied()).collect()
    }

    /// A mover has it from now on.
    pub(super) fn start(&mut self, handle: Handle, owner: u32) {
        for fid in self.other_fids(handle) {
            self.running.entry(fid).or_default().push(handle);
        }
        let request = self.at_mut(handle);
        request.owner = owner;
        request.state = State::Running;
    }

    /// No mover has it any more; it is loose.
    pub(super) fn stop(&mut self, handle: Handle) {
        for fid in self.other_fids(handle) {
            if let Some(running) = self.running.get_mut(&fid) {
                running.retain(|other| *other != handle);
                if running.is_empty() {
                    self.running.remove(&fid);
                }
            }
        }
        let request = self.at_mut(handle);
        request.owner = NIL;
        request.state = State::Loose;
    }

    /// Forgets a loose request.
    pub(super) fn remove(&mut self, handle: Handle) {
        assert_eq!(self.at(handle).state, State::Loose, "only a loose request can be forgotten");
        let cookie = self.at(handle).cookie;
        if self.at(handle).has(RARE) {
            for dfid in self.other_fids(handle) {
                if self.aliases.get(&(cookie, dfid)) == Some(&handle) {
                    self.aliases.remove(&(cookie, dfid));
                }
            }
            self.rare.remove(&handle);
        }
        self.by_file.remove(&self.slab, handle);
        self.slab.release(handle);
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    fn item(cookie: u64, oid: u32, dfid: u32) -> ActionItem {
        let fid = |oid| Fid::new(0x2_0000_0401, oid, 0);
        ActionItem { dfid: fid(dfid), timestamp: 1, ..ActionItem::new(Action::Restore, fid(oid), cookie, 1) }
    }

    #[test]
    fn requests_are_found_by_key_alias_and_truncated_cookie() {
        let fid = |oid| Fid::new(0x2_0000_0401, oid, 0);
        let mut requests = Requests::new();
        let add =
            |requests: &mut Requests, item: &ActionItem| requests.add(item, Kind::Restore, Mono(0), 0, 0);
        let plain = add(&mut requests, &item(0xf_692f_08f6, 1, 1));
        let moved = add(&mut requests, &item(7, 2, 20));
        assert_eq!(requests.find(RequestKey { cookie: 7, fid: fid(2) }), Some(moved));
        assert_eq!(requests.find(RequestKey { cookie: 7, fid: fid(20) }), None);
        assert_eq!(requests.find_any(7, fid(20)), Some(moved));
        requests.start(plain, 3);
        let running: Few = smallvec![moved, plain];
        let of_file = Some(&running);
        assert_eq!(requests.find_truncated(0x692f_08f6, fid(1), 3, of_file), Some(plain));
        assert_eq!(requests.find_truncated(0x692f_08f6, fid(1), 4, of_file), None);
        assert_eq!(requests.find_truncated(0x692f_08f7, fid(1), 3, of_file), None);
        assert_eq!(requests.find_truncated(0x692f_08f6, fid(10), 3, None), None);
        requests.add_alias(plain, fid(10));
        assert_eq!(requests.find_truncated(0xffff_ffff_692f_08f6, fid(10), 3, None), Some(plain));
        requests.stop(plain);
        assert_eq!(requests.find_truncated(0x692f_08f6, fid(10), 3, None), None);
        requests.start(moved, 3);
        assert_eq!(requests.find_truncated(7, fid(20), 3, None), Some(moved));
        requests.stop(moved);
        requests.remove(plain);
        requests.remove(moved);
        assert_eq!(requests.find_any(7, fid(20)), None);
        assert_eq!(requests.find_any(0xf_692f_08f6, fid(10)), None);
        assert_eq!(requests.slab.len(), 0);
        assert!(requests.aliases.is_empty() && requests.running.is_empty() && requests.rare.is_empty());
    }

    #[test]
    fn lists_keep_order_and_length() {
        let mut requests = Requests::new();
        let handles: Vec<_> = (1..=4)
            .map(|n| requests.add(&item(n, n as u32, n as u32), Kind::Restore, Mono(0), 0, 0))
            .collect();
        let mut list = List::EMPTY;
        requests.slab.push_back(&mut list, handles[1]);
        requests.slab.push_back(&mut list, handles[2]);
        requests.slab.push_front(&mut list, handles[0]);
        requests.slab.push_back(&mut list, handles[3]);
        requests.slab.unlink(&mut list, handles[2]);
        requests.slab.insert_before(&mut list, handles[3], handles[2]);
        requests.slab.unlink(&mut list, handles[0]);
        requests.slab.insert_before(&mut list, handles[1], handles[0]);
        requests.slab.unlink(&mut list, handles[3]);
        requests.slab.insert_before(&mut list, NIL, handles[3]);
        let mut seen = Vec::new();
        let mut at = list.head;
        while at != NIL {
            seen.push(at);
            at = requests.at(at).next;
        }
        assert_eq!(seen, handles);
        assert_eq!((list.head, list.tail, list.len), (handles[0], handles[3], 4));
        for handle in seen {
            requests.slab.unlink(&mut list, handle);
        }
        assert_eq!(list, List::EMPTY);
    }
}
