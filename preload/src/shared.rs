//! What forked children see of the process that talks to the daemon, in memory shared with them: the lease, and the
//! requests that were taken away.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use coordinatool::hsm::{Mono, RequestKey};
use lustreapi_sys::Fid;

/// Places for requests that were refused, several times what a mover can hold. Memory is used only for those that were.
const SLOTS: usize = 1 << 17;
/// Places where one request may be. When all are taken the oldest refusal is forgotten; by then its attempt is long over.
const WINDOW: usize = 32;

/// Never used.
const EMPTY: u32 = 0;
/// No attempt may go on or begin.
const REFUSED: u32 = 1;
/// Handed out again: attempts from before the refusal stay dead.
const REVIVED: u32 = 2;
/// Being filled. A process that dies meanwhile leaves it so.
const BUSY: u32 = 3;

#[derive(Debug)]
#[repr(C)]
struct Slot {
    state: AtomicU32,
    oid: AtomicU32,
    ver: AtomicU32,
    cookie: AtomicU64,
    seq: AtomicU64,
    generation: AtomicU64,
}

impl Slot {
    /// State and generation, if it is this request's.
    fn of(&self, key: &RequestKey) -> Option<(u32, u64)> {
        let state = self.state.load(Ordering::Acquire);
        let generation = self.generation.load(Ordering::Acquire);
        let fid = Fid::new(
            self.seq.load(Ordering::Acquire),
            self.oid.load(Ordering::Acquire),
            self.ver.load(Ordering::Acquire),
        );
        let is_it = matches!(state, REFUSED | REVIVED)
            && self.cookie.load(Ordering::Acquire) == key.cookie
            && fid == key.fid
            // Another may have taken the place meanwhile.
            && self.generation.load(Ordering::Acquire) == generation;
        is_it.then_some((state, generation))
    }

    /// Takes the place, if nobody else does.
    fn claim(&self) -> bool {
        let state = self.state.load(Ordering::Acquire);
        state != BUSY && self.state.compare_exchange(state, BUSY, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// Where to look for a request first.
fn place(key: &RequestKey) -> usize {
    let low = u64::from(key.fid.oid) << 32 | u64::from(key.fid.ver);
    let mixed = [key.fid.seq, low].into_iter().fold(key.cookie, |hash, word| {
        // The multiplier of the golden ratio: what differs in low bits differs in high ones.
        (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    (mixed >> 40) as usize % SLOTS
}

/// The shared memory. All zero is a good start.
#[derive(Debug)]
#[repr(C)]
pub struct Shared {
    /// The process that talks to the daemon.
    owner: AtomicI32,
    /// It has unregistered.
    closed: AtomicU32,
    /// When it last did, in nanoseconds.
    pumped_at: AtomicU64,
    /// Until when the lease holds, in nanoseconds; 0 when there is none to keep.
    lease_until: AtomicU64,
    /// Counts refusals.
    generation: AtomicU64,
    slots: [Slot; SLOTS],
}

impl Shared {
    /// Fresh shared memory. It is never unmapped.
    pub fn new() -> io::Result<&'static Self> {
        // SAFETY: an anonymous mapping of a size that is not zero; the kernel chooses the address.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Self>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let shared =
            NonNull::new(address.cast::<Self>()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        // SAFETY: the mapping is page-aligned, large enough, zeroed (a valid state of all these atomics), never unmapped,
        // and only ever reached through atomics.
        Ok(unsafe { shared.as_ref() })
    }

    /// The process that talks to the daemon.
    pub fn owner(&self) -> i32 {
        self.owner.load(Ordering::Acquire)
    }

    /// This process talks to the daemon from now on.
    pub fn set_owner(&self, pid: i32) {
        self.owner.store(pid, Ordering::Release);
    }

    /// The owner has unregistered: it reads nothing any more.
    pub fn close(&self) {
        self.closed.store(1, Ordering::Release);
    }

    /// Whether the owner has unregistered.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) != 0
    }

    /// When the owner last looked at its connection.
    pub fn pumped_at(&self) -> Mono {
        Mono(self.pumped_at.load(Ordering::Acquire))
    }

    /// The owner has looked at its connection; what it knows of the lease.
    pub fn pumped(&self, now: Mono, lease: Option<Mono>) {
        self.lease_until.store(lease.map_or(0, |until| until.0.max(1)), Ordering::Release);
        self.pumped_at.store(now.0, Ordering::Release);
    }

    /// Whether the lease has lapsed, as far as the owner knows.
    pub fn lapsed(&self, now: Mono) -> bool {
        let until = self.lease_until.load(Ordering::Acquire);
        until != 0 && until <= now.0
    }

    /// Whether the daemon grants leases, as far as the owner knows.
    pub fn has_lease(&self) -> bool {
        self.lease_until.load(Ordering::Acquire) != 0
    }

    /// What an attempt that begins now is to remember, so that only later refusals stop it.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Stops all attempts at a request and lets none begin.
    pub fn refuse(&self, key: &RequestKey) {
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        if let Some((slot, ..)) = self.known(key).next() {
            // In place, so that it is never unknown in between.
            slot.generation.store(generation, Ordering::Release);
            return slot.state.store(REFUSED, Ordering::Release);
        }
        let slot = loop {
            let Some(slot) = self.room(key) else { return };
            // Somebody else was quicker: look again.
            if slot.claim() {
                break slot;
            }
        };
        slot.generation.store(generation, Ordering::Release);
        slot.cookie.store(key.cookie, Ordering::Release);
        slot.seq.store(key.fid.seq, Ordering::Release);
        slot.oid.store(key.fid.oid, Ordering::Release);
        slot.ver.store(key.fid.ver, Ordering::Release);
        slot.state.store(REFUSED, Ordering::Release);
    }

    /// A place for a request's refusal: one never used, or that of the oldest.
    fn room(&self, key: &RequestKey) -> Option<&Slot> {
        let mut oldest: Option<(&Slot, u64)> = None;
        for slot in self.window(key) {
            let state = slot.state.load(Ordering::Acquire);
            if state == EMPTY {
                return Some(slot);
            }
            let generation = slot.generation.load(Ordering::Acquire);
            if state != BUSY && oldest.is_none_or(|(_, oldest)| generation < oldest) {
                oldest = Some((slot, generation));
            }
        }
        oldest.map(|(slot, _)| slot)
    }

    /// Lets new attempts begin.
    pub fn revive(&self, key: &RequestKey) {
        for slot in self.known(key).map(|(slot, ..)| slot) {
            slot.state.store(REVIVED, Ordering::Release);
        }
    }

    /// Whether an attempt may begin.
    pub fn may_begin(&self, key: &RequestKey) -> bool {
        self.known(key).all(|(_, state, _)| state != REFUSED)
    }

    /// Whether an attempt that began in this generation must stop.
    pub fn is_stopped(&self, key: &RequestKey, began: u64) -> bool {
        self.known(key).any(|(_, _, generation)| generation > began)
    }

    fn window(&self, key: &RequestKey) -> impl Iterator<Item = &Slot> {
        let first = place(key);
        (first..first + WINDOW).map(|at| &self.slots[at % SLOTS])
    }

    /// What is known of a request. Two processes may have noted it at the same time.
    fn known(&self, key: &RequestKey) -> impl Iterator<Item = (&Slot, u32, u64)> {
        let used = self.window(key).take_while(|slot| slot.state.load(Ordering::Acquire) != EMPTY);
        used.filter_map(|slot| slot.of(key).map(|(state, generation)| (slot, state, generation)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(cookie: u64) -> RequestKey {
        RequestKey { cookie, fid: Fid::new(0x2_0000_0402, 1, 0) }
    }

    #[test]
    fn a_refusal_stops_what_began_before_it_and_a_revival_lets_others_begin() {
        let shared = Shared::new().unwrap();
        let before = shared.generation();
        assert!(shared.may_begin(&key(1)) && !shared.is_stopped(&key(1), before));
        shared.refuse(&key(1));
        assert!(!shared.may_begin(&key(1)) && shared.is_stopped(&key(1), before));
        assert!(shared.may_begin(&key(2)) && !shared.is_stopped(&key(2), before));
        shared.revive(&key(1));
        let after = shared.generation();
        assert!(shared.may_begin(&key(1)));
        assert!(shared.is_stopped(&key(1), before) && !shared.is_stopped(&key(1), after));
    }

    /// The C library has no refusals. 4,096 of them was too few: a mover with more than that in flight forgot some of what
    /// it was to stop.
    #[test]
    fn recent_refusals_are_remembered() {
        let shared = Shared::new().unwrap();
        let recent = SLOTS as u64 / 4;
        // Consecutive cookies, as an MDT hands them out, until all places have been used.
        for cookie in 0..2 * SLOTS as u64 {
            shared.refuse(&key(cookie));
            let earlier = cookie.saturating_sub(recent);
            assert!(!shared.may_begin(&key(earlier)), "{earlier} was forgotten at {cookie}");
        }
        assert!(shared.may_begin(&key(3 * SLOTS as u64)));
    }

    #[test]
    fn a_place_that_a_dead_process_holds_is_passed_over() {
        let shared = Shared::new().unwrap();
        for slot in shared.window(&key(1)).take(WINDOW - 1) {
            assert!(slot.claim() && !slot.claim());
        }
        shared.refuse(&key(1));
        assert!(!shared.may_begin(&key(1)));
        shared.revive(&key(1));
        assert!(shared.may_begin(&key(1)) && shared.is_stopped(&key(1), 0));
    }

    /// A request that is refused again takes no second place, and what began in between stops as well.
    #[test]
    fn a_request_may_be_refused_many_times() {
        let shared = Shared::new().unwrap();
        for _ in 0..10 {
            let before = shared.generation();
            shared.refuse(&key(1));
            assert!(shared.is_stopped(&key(1), before));
            shared.revive(&key(1));
        }
        assert_eq!(shared.known(&key(1)).count(), 1);
    }

    #[test]
    fn a_lease_lapses_unless_there_is_none() {
        let shared = Shared::new().unwrap();
        assert!(!shared.lapsed(Mono(5)));
        shared.pumped(Mono(5), Some(Mono(7)));
        assert!(!shared.lapsed(Mono(6)) && shared.lapsed(Mono(7)));
        shared.pumped(Mono(8), None);
        assert!(!shared.lapsed(Mono(9)));
    }
}
