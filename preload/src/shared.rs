//! What forked children see of the process that talks to the daemon, in memory shared with them: the lease, and the
//! requests that were taken away.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use coordinatool::hsm::{Mono, RequestKey};
use lustreapi_sys::Fid;

/// How many refused requests are remembered. The oldest is forgotten first; by then its attempt is long over.
const SLOTS: usize = 4096;

const EMPTY: u32 = 0;
/// No attempt may go on or begin.
const REFUSED: u32 = 1;
/// Handed out again: attempts from before the refusal stay dead.
const REVIVED: u32 = 2;

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

    /// What an attempt that begins now is to remember, so that only later refusals stop it.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Stops all attempts at a request and lets none begin.
    pub fn refuse(&self, key: &RequestKey) {
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        let slot = self.find(key, |_, _| true).unwrap_or(&self.slots[generation as usize % SLOTS]);
        slot.state.store(EMPTY, Ordering::Release);
        slot.cookie.store(key.cookie, Ordering::Release);
        slot.seq.store(key.fid.seq, Ordering::Release);
        slot.oid.store(key.fid.oid, Ordering::Release);
        slot.ver.store(key.fid.ver, Ordering::Release);
        slot.generation.store(generation, Ordering::Release);
        slot.state.store(REFUSED, Ordering::Release);
    }

    /// Lets new attempts begin.
    pub fn revive(&self, key: &RequestKey) {
        if let Some(slot) = self.find(key, |_, _| true) {
            slot.state.store(REVIVED, Ordering::Release);
        }
    }

    /// Whether an attempt may begin.
    pub fn may_begin(&self, key: &RequestKey) -> bool {
        self.find(key, |state, _| state == REFUSED).is_none()
    }

    /// Whether an attempt that began in this generation must stop.
    pub fn is_stopped(&self, key: &RequestKey, began: u64) -> bool {
        self.find(key, |_, generation| generation > began).is_some()
    }

    fn find(&self, key: &RequestKey, wanted: impl Fn(u32, u64) -> bool) -> Option<&Slot> {
        let refusals = self.generation();
        if refusals == 0 {
            return None;
        }
        self.slots.iter().find(|slot| {
            let state = slot.state.load(Ordering::Acquire);
            state != EMPTY
                && slot.cookie.load(Ordering::Acquire) == key.cookie
                && key.fid
                    == Fid::new(
                        slot.seq.load(Ordering::Acquire),
                        slot.oid.load(Ordering::Acquire),
                        slot.ver.load(Ordering::Acquire),
                    )
                && wanted(state, slot.generation.load(Ordering::Acquire))
        })
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

    #[test]
    fn the_oldest_refusals_are_forgotten() {
        let shared = Shared::new().unwrap();
        for cookie in 0..=SLOTS as u64 {
            shared.refuse(&key(cookie));
        }
        assert!(shared.may_begin(&key(0)));
        assert!(!shared.may_begin(&key(1)) && !shared.may_begin(&key(SLOTS as u64)));
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
