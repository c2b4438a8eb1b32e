//! Which request each action handle of liblustreapi belongs to.
//!
//! The handles are liblustreapi's and opaque, so what we know of them is kept beside them, by address. The table takes no
//! lock: a child forked at any moment can use its copy.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use coordinatool::hsm::RequestKey;
use lustreapi_sys::Fid;

use crate::handle::Handle;

/// One attempt at a request, from begin to end.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Which request.
    pub key: RequestKey,
    /// The data FID that the copytool was given.
    pub dfid: Fid,
    /// `HSMA_*`.
    pub action: u32,
    /// Refusals after this stop the attempt.
    pub generation: u64,
    /// Which copytool it belongs to.
    pub handle: &'static Handle,
}

const BUCKETS: usize = 256;

static TABLE: [AtomicPtr<Node>; BUCKETS] = [const { AtomicPtr::new(ptr::null_mut()) }; BUCKETS];

/// Nobody's.
const FREE: usize = 0;
/// Being filled by whoever put this in.
const TAKEN: usize = 1;

/// A place for one attempt. Nodes are used again and never freed, so that readers need no protection.
struct Node {
    hcp: AtomicUsize,
    cookie: AtomicU64,
    fid: [AtomicU64; 2],
    dfid: [AtomicU64; 2],
    action: AtomicU32,
    generation: AtomicU64,
    handle: AtomicPtr<Handle>,
    next: *mut Node,
}

fn pack(fid: Fid) -> [u64; 2] {
    [fid.seq, (u64::from(fid.oid) << 32) | u64::from(fid.ver)]
}

fn store(place: &[AtomicU64; 2], fid: Fid) {
    for (place, word) in place.iter().zip(pack(fid)) {
        place.store(word, Ordering::Relaxed);
    }
}

fn load(place: &[AtomicU64; 2]) -> Fid {
    let low = place[1].load(Ordering::Relaxed);
    Fid::new(place[0].load(Ordering::Relaxed), (low >> 32) as u32, low as u32)
}

impl Node {
    fn fill(&self, attempt: &Attempt) {
        self.cookie.store(attempt.key.cookie, Ordering::Relaxed);
        store(&self.fid, attempt.key.fid);
        store(&self.dfid, attempt.dfid);
        self.action.store(attempt.action, Ordering::Relaxed);
        self.generation.store(attempt.generation, Ordering::Relaxed);
        self.handle.store(ptr::from_ref(attempt.handle).cast_mut(), Ordering::Relaxed);
    }

    fn attempt(&self) -> Option<Attempt> {
        let handle = self.handle.load(Ordering::Relaxed);
        // SAFETY: only addresses of handles, which are never freed, are stored here; null before the first one.
        let handle = unsafe { handle.as_ref() }?;
        Some(Attempt {
            key: RequestKey { cookie: self.cookie.load(Ordering::Relaxed), fid: load(&self.fid) },
            dfid: load(&self.dfid),
            action: self.action.load(Ordering::Relaxed),
            generation: self.generation.load(Ordering::Relaxed),
            handle,
        })
    }
}

fn bucket(hcp: usize) -> &'static AtomicPtr<Node> {
    // Allocations are aligned to 16 and come in a few sizes: mix the bits that differ.
    &TABLE[(hcp >> 4 ^ hcp >> 12) % BUCKETS]
}

/// The nodes of one bucket.
fn nodes(bucket: &'static AtomicPtr<Node>) -> impl Iterator<Item = &'static Node> {
    let mut next = bucket.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: nodes are leaked boxes, published with release order after they were filled, and never freed.
        let node: &'static Node = unsafe { next.as_ref() }?;
        next = node.next;
        Some(node)
    })
}

/// Remembers an attempt. Whatever was known for this address is replaced: its owner freed it behind our back.
pub fn insert(hcp: usize, attempt: &Attempt) {
    take(hcp);
    let bucket = bucket(hcp);
    for node in nodes(bucket) {
        let free = node.hcp.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed);
        if free.is_ok() {
            node.fill(attempt);
            node.hcp.store(hcp, Ordering::Release);
            return;
        }
    }
    let node = Box::into_raw(Box::new(Node {
        hcp: AtomicUsize::new(TAKEN),
        cookie: AtomicU64::new(0),
        fid: Default::default(),
        dfid: Default::default(),
        action: AtomicU32::new(0),
        generation: AtomicU64::new(0),
        handle: AtomicPtr::new(ptr::null_mut()),
        next: ptr::null_mut(),
    }));
    let mut head = bucket.load(Ordering::Acquire);
    loop {
        // SAFETY: the node is not published yet, so nobody else reaches it.
        unsafe { (*node).next = head };
        match bucket.compare_exchange_weak(head, node, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => break,
            Err(seen) => head = seen,
        }
    }
    // SAFETY: nodes are never freed.
    let node = unsafe { &*node };
    node.fill(attempt);
    node.hcp.store(hcp, Ordering::Release);
}

/// What is known about a handle.
pub fn get(hcp: usize) -> Option<Attempt> {
    nodes(bucket(hcp)).find(|node| node.hcp.load(Ordering::Acquire) == hcp)?.attempt()
}

/// What is known about a handle, forgetting it: to be called before the handle is freed.
pub fn take(hcp: usize) -> Option<Attempt> {
    if hcp <= TAKEN {
        return None;
    }
    let node = nodes(bucket(hcp)).find(|node| node.hcp.load(Ordering::Acquire) == hcp)?;
    let attempt = node.attempt();
    node.hcp.compare_exchange(hcp, FREE, Ordering::AcqRel, Ordering::Relaxed).ok()?;
    attempt
}

fn all() -> impl Iterator<Item = (&'static Node, Attempt)> {
    TABLE
        .iter()
        .flat_map(nodes)
        .filter(|node| node.hcp.load(Ordering::Acquire) > TAKEN)
        .filter_map(|node| node.attempt().map(|attempt| (node, attempt)))
}

/// The attempt that is under way for a request; acknowledgements of its cancel do not count.
pub fn under_way(handle: &Handle, key: &RequestKey) -> Option<Attempt> {
    all().map(|(_, attempt)| attempt).find(|attempt| {
        attempt.key == *key
            && attempt.action != lustreapi_sys::abi::HSMA_CANCEL
            && ptr::eq(attempt.handle, handle)
    })
}

/// Forgets an attempt that a forked child ended: its copy of the handle was freed, ours never is.
pub fn ended_elsewhere(handle: &Handle, key: &RequestKey, cancel: bool) {
    for (node, attempt) in all() {
        let acknowledges = attempt.action == lustreapi_sys::abi::HSMA_CANCEL;
        if attempt.key == *key && acknowledges == cancel && ptr::eq(attempt.handle, handle) {
            node.hcp.store(FREE, Ordering::Release);
        }
    }
}

/// Whether any attempt of this copytool is under way in this process.
pub fn any(handle: &Handle) -> bool {
    all().any(|(_, attempt)| ptr::eq(attempt.handle, handle))
}
