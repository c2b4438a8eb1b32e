//! Looks up whose files requests are for.
//!
//! A look at a file waits while its MDT is away, so threads of their own do it, and what takes too long is answered as
//! unknown.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use lustreapi_sys::Fid;
use rustix::fs::AtFlags;

use super::pool::{Oracle, Patience, Pool, Sizes};
use crate::hsm::{Attributes, RequestKey, Wanted};
use crate::lustre::link::CurrentMount;
use crate::lustre::mount::by_fid;
use crate::lustre::sys;

const THREADS: usize = 4;
/// Files that one thread takes at a time.
const TOGETHER: usize = 32;
/// After this long a file's owner is given up on.
const DEADLINE: Duration = Duration::from_secs(10);
/// Answers that are remembered, and for how long: a file that is archived is often released and restored soon.
const REMEMBERED: usize = 65_536;
const REMEMBER: Duration = Duration::from_secs(60);
/// The longest name of a job that is taken (`LUSTRE_JOBID_SIZE` is 32, NUL included).
const MAX_JOB: usize = 256;

/// What came of lookups.
pub type Found = Vec<(RequestKey, Option<Attributes>)>;

/// The threads that look at files.
pub struct Lookups(Pool<Owners>);

impl Lookups {
    /// Starts the threads.
    pub fn start(mount: CurrentMount, tell: impl Fn(Found) + Send + Sync + 'static) -> io::Result<Self> {
        let sizes = Sizes {
            name: "attributes",
            threads: THREADS,
            batch: TOGETHER,
            patience: Patience::SinceAsked(DEADLINE),
            remembered: (REMEMBERED, REMEMBER),
        };
        Pool::start(Owners { mount, tell: Box::new(tell) }, sizes).map(Self)
    }

    /// Begins to look; every key is answered within a bounded time. Never blocks for a file.
    pub fn look_up(&self, keys: Vec<RequestKey>, wanted: Wanted) {
        self.0.ask(keys.into_iter().map(|key| (key, wanted)).collect());
    }
}

struct Owners {
    mount: CurrentMount,
    tell: Box<dyn Fn(Found) + Send + Sync>,
}

impl Oracle for Owners {
    type Question = (RequestKey, Wanted);
    type Answer = Attributes;
    const SILENT: &'static str = "nothing is heard of whose files these are: they count as unknown";

    fn key(&(key, _): &Self::Question) -> RequestKey {
        key
    }

    fn ask(&self, batch: &[Self::Question]) -> BTreeMap<Fid, Attributes> {
        let mut found = BTreeMap::new();
        for &(key, wanted) in batch {
            match attributes_of(&self.mount, key, wanted) {
                Ok(attributes) => drop(found.insert(key.fid, attributes)),
                Err(error) => tracing::debug!(%key, "cannot see whose file it is: {error}"),
            }
        }
        found
    }

    fn tell(&self, found: Found) {
        (self.tell)(found);
    }
}

fn attributes_of(mount: &CurrentMount, key: RequestKey, wanted: Wanted) -> io::Result<Attributes> {
    let mount = mount.get();
    let path = by_fid(key.fid);
    let stat = rustix::fs::statat(mount.root(), path.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
    let mut attributes = Attributes {
        uid: stat.st_uid,
        gid: stat.st_gid,
        project: 0,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        job: None,
    };
    if wanted.job {
        attributes.job = job_of(&mount.path().join(&path));
    }
    if wanted.project {
        attributes.project = sys::project_of(mount.open_file(key.fid)?.as_fd())?;
    }
    Ok(attributes)
}

fn job_of(path: &std::path::Path) -> Option<Box<str>> {
    let mut buffer = [0u8; MAX_JOB];
    let len = rustix::fs::lgetxattr(path, "user.job", &mut buffer).ok()?;
    let name = buffer.get(..len)?;
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(len);
    let name = std::str::from_utf8(&name[..end]).ok()?;
    (!name.is_empty()).then(|| name.into())
}
