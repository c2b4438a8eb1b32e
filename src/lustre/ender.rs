//! Ends requests at the MDT: `HSM_COPY_END` without a copytool's begin.
//!
//! Each ioctl waits while its MDT is away, so every MDT has threads of its own, two of them; and finding out which MDT a
//! file is on may wait as well, so that has one, too.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lustreapi_sys::abi::{HP_FLAG_COMPLETED, hsm_action_item, hsm_copy, hsm_extent};

use super::link::{CurrentMount, FromLustre, Tell};
use super::sys;
use crate::hsm::{ActionItem, LustreCall};

const THREADS_PER_MDT: usize = 2;
/// How often an end is tried while the coordinator of the MDT is stopped (EAGAIN), a second apart.
const TRIES: u32 = 60;
/// Sequences remembered with their MDT.
const MAX_CACHED: usize = 100_000;

type Job = (ActionItem, i32);

/// Ends requests at the MDT.
pub struct Ender {
    jobs: Sender<Job>,
    tell: Tell,
}

impl Ender {
    /// Starts the first thread; the others start when they are needed.
    pub fn start(mount: CurrentMount, tell: Tell) -> io::Result<Self> {
        let (jobs, queue) = channel();
        let told = Arc::clone(&tell);
        let router = Router { mount, tell, mdts: BTreeMap::new(), known: BTreeMap::new() };
        std::thread::Builder::new().name("end".into()).spawn(move || router.run(&queue))?;
        Ok(Self { jobs, tell: told })
    }

    /// Ends a request with a positive errno. [`FromLustre::Ended`] follows.
    pub fn end(&self, item: ActionItem, errno: i32) {
        // The thread ends with the process only.
        let _ = self.jobs.send((item, errno));
    }
}

impl Ender {
    /// Begins a call; [`FromLustre::Answered`] follows.
    pub fn ask(&self, call: LustreCall) {
        (self.tell)(FromLustre::Answered(call.answer(libc::ENOSYS)));
    }
}

struct Router {
    mount: CurrentMount,
    tell: Tell,
    mdts: BTreeMap<u32, Sender<Job>>,
    /// MDT of each sequence.
    known: BTreeMap<u64, u32>,
}

impl Router {
    fn run(mut self, queue: &Receiver<Job>) {
        while let Ok((item, errno)) = queue.recv() {
            let mdt = self.mdt_of(&item);
            let key = item.key();
            let sent = match self.workers(mdt) {
                Ok(workers) => workers.send((item, errno)).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = sent {
                tracing::error!("cannot end {key} at lustre: {error}");
                (self.tell)(FromLustre::Ended { key, errno: libc::EIO });
            }
        }
    }

    fn mdt_of(&mut self, item: &ActionItem) -> u32 {
        if let Some(mdt) = self.known.get(&item.fid.seq) {
            return *mdt;
        }
        match sys::mdt_index(self.mount.get().root(), item.fid) {
            Ok(mdt) => {
                if self.known.len() >= MAX_CACHED {
                    self.known.clear();
                }
                self.known.insert(item.fid.seq, mdt);
                mdt
            }
            Err(error) => {
                tracing::debug!("no MDT index for {}: {error}", item.fid);
                // The kernel finds the way without it; these share threads.
                u32::MAX
            }
        }
    }

    fn workers(&mut self, mdt: u32) -> io::Result<&Sender<Job>> {
        if !self.mdts.contains_key(&mdt) {
            let (jobs, queue) = channel();
            let queue = Arc::new(Mutex::new(queue));
            for _ in 0..THREADS_PER_MDT {
                let (queue, mount, tell) = (Arc::clone(&queue), self.mount.clone(), Arc::clone(&self.tell));
                let run = move || work(&queue, &mount, &tell);
                std::thread::Builder::new().name("end".into()).spawn(run)?;
            }
            self.mdts.insert(mdt, jobs);
        }
        self.mdts.get(&mdt).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
    }
}

fn work(queue: &Mutex<Receiver<Job>>, mount: &CurrentMount, tell: &Tell) {
    loop {
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok((item, errno)) = job else { return };
        let key = item.key();
        tracing::debug!("ending {key} at lustre with {errno}");
        let result = end(&item, errno, mount);
        if result != 0 {
            let error = io::Error::from_raw_os_error(result);
            tracing::info!("hsm_action_end failed for {key}: {error}");
        }
        tell(FromLustre::Ended { key, errno: result });
    }
}

/// Returns 0 or a positive errno.
fn end(item: &ActionItem, errno: i32, mount: &CurrentMount) -> i32 {
    for attempt in 1.. {
        let mut copy = copy_of(item, errno);
        match sys::copy_end(mount.get().root(), &mut copy) {
            Ok(()) => return 0,
            Err(error) => {
                let code = error.raw_os_error().unwrap_or(libc::EIO);
                if !matches!(code, libc::EAGAIN | libc::EINTR) || attempt >= TRIES {
                    return code;
                }
            }
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    libc::EAGAIN
}

fn copy_of(item: &ActionItem, errno: i32) -> hsm_copy {
    hsm_copy {
        hc_data_version: 0,
        hc_flags: HP_FLAG_COMPLETED,
        hc_errval: u16::try_from(errno).unwrap_or(libc::EIO as u16),
        padding: 0,
        hc_hai: hsm_action_item {
            hai_len: size_of::<hsm_action_item>() as u32,
            hai_action: item.action.hsma(),
            hai_fid: item.fid.into(),
            hai_dfid: item.dfid.into(),
            hai_extent: hsm_extent { offset: item.extent_offset, length: item.extent_length },
            hai_cookie: item.cookie,
            hai_gid: item.gid,
        },
    }
}
